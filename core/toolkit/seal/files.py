"""Reading files that a user named, or that somebody may have put something else in the place of."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from toolkit.errors import EnvironmentUnfit, UsageError


def open_regular(path: Path) -> BinaryIO:
    """A file to read; never a pipe or a device, which might never answer.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
    os.close(handle)
    raise IsADirectoryError(21, "is a folder") if is_folder else OSError(22, "is no regular file")


def read_small(path: Path, limit: int, *, what: str, hint: str = "Check the path.") -> bytes:
    """At most `limit` + 1 bytes of a file that a user named, with errors that say what it was for."""
    try:
        with open_regular(path) as stream:
            return stream.read(limit + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(f"there is no {what} {path}", hint=hint) from error
    except OSError as error:
        raise EnvironmentUnfit(f"cannot read {path}: {error.strerror}", hint="Check who may read it.") from error
