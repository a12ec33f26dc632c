"""How many servers may run from one site: a slot each, held by a lock that ends with the process.

Counts the servers of one site's folder. A copy of the folder with its keys counts anew; the threat model says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from toolkit.errors import EnvironmentUnfit, Refused

FOLDER = "instances"


@contextlib.contextmanager
def instance(site: Path, most: int | None) -> Iterator[None]:
    """Hold one of `most` slots of the site in `site`; None asks for none.

    Raises:
        Refused: all of them are taken.
        EnvironmentUnfit: no slot can be written.
    """
    if most is None:
        yield
        return
    try:
        (site / FOLDER).mkdir(mode=0o700, exist_ok=True)
        handle = _take(site / FOLDER, most)
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot write {site / FOLDER}: {error.strerror}", hint="A grant for so many instances counts them there."
        ) from error
    try:
        yield
    finally:
        os.close(handle)


def _take(folder: Path, most: int) -> int:
    for number in range(most):
        handle = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        else:
            return handle
    raise Refused(
        f"the grant is for {most} server{'s' if most > 1 else ''} at once, and so many run from {folder.parent}",
        hint="Stop one, or ask the issuer for a grant with more --instances.",
    )
