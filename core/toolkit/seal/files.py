"""Reading a small file that a user named."""

from __future__ import annotations

from pathlib import Path

from toolkit.errors import EnvironmentUnfit, UsageError


def read_small(path: Path, limit: int, *, what: str, hint: str = "Check the path.") -> bytes:
    """At most `limit` + 1 bytes of a file that a user named, with errors that say what it was for."""
    try:
        with path.open("rb") as stream:
            return stream.read(limit + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(f"there is no {what} {path}", hint=hint) from error
    except OSError as error:
        raise EnvironmentUnfit(f"cannot read {path}: {error.strerror}", hint="Check who may read it.") from error
