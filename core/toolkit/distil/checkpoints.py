"""Training state on disk: atomic, rotating, exact. A run that is killed and resumed ends with the same weights."""

from __future__ import annotations

import io
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch

from toolkit.errors import IntegrityError
from toolkit.workspace import write_into

EVERY_SECONDS = 8.0

CHEAP_SECONDS = 0.4
"""A write that takes longer comes as much less often: writing takes a twentieth of a training at most."""


def serialise(state: dict[str, Any]) -> bytes:
    """Tensors and plain values as torch writes them; read back with `torch.load(..., weights_only=True)`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _save(state: dict[str, Any], stream: BinaryIO) -> None:
    """Tensor by tensor: as bytes, a state would be in memory twice."""
    try:
        torch.save(state, stream)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # of a full disk torch says where in the file it is
            raise error.__context__ from error
        raise


class Checkpoints:
    """The last whole training state of one student, in one file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "checkpoint.pt"
        self._last, self._took = time.monotonic(), 0.0

    def load(self, *, mapped: bool = False) -> dict[str, Any] | None:
        """The last state, or None at the start. Tensors only: nothing in the file can run code.

        Args:
            mapped: read of the file what is looked at, when it is: for whoever keeps a part of it.

        Raises:
            IntegrityError: the file is not what was written.
        """
        if not self._path.exists():
            return None
        self._check()
        state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True, mmap=mapped)
        return state

    def _check(self) -> None:
        """torch writes a zip archive, with a checksum of every part, and looks at none when it reads."""
        try:
            with zipfile.ZipFile(self._path) as parts:
                damaged = parts.testzip()
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            damaged = str(error)
        if damaged is not None:
            raise IntegrityError(
                f"the state of a training that was broken off is damaged: {self._path}", part=self._path.name,
                hint="Remove that file: the training then begins anew.",
            )  # fmt: skip

    @property
    def due(self) -> bool:
        """Whether enough time has passed to pay for another write."""
        return time.monotonic() - self._last >= EVERY_SECONDS * max(1.0, self._took / CHEAP_SECONDS)

    def save(self, state: dict[str, Any]) -> None:
        begun = time.monotonic()
        write_into(self._path, lambda stream: _save(state, stream))
        self._last = time.monotonic()
        self._took = self._last - begun

    def clear(self) -> None:
        """Drop the state once its result is stored."""
        self._path.unlink(missing_ok=True)
