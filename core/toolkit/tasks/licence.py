"""The licence of a data set: as the user states it, or as a LICENSE file in its folder does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.workspace import file_digest

NAMES = ("LICENSE", "LICENCE")
"""How the name of such a file begins, in any case."""


@dataclass(frozen=True)
class Licence:
    """`text` as the caller states it, or the first line of the LICENSE file (`sha256`)."""

    text: str
    stated: bool
    sha256: str = ""


def licence_of(file: Path | None, stated: str) -> Licence:
    """The licence the caller states, else the LICENSE file's, else none."""
    if stated:
        return Licence(stated, True)
    if file is None:
        return Licence("", False)
    with file.open("rb") as stream:
        text = stream.read(65_536).decode("utf-8", errors="replace")
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return Licence(first[:200], bool(first), file_digest(file))
