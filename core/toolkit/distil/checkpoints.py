"""Training state on disk: atomic, rotating, exact. A run that is killed and resumed ends with the same weights."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import torch

from toolkit.workspace import write_file

EVERY_SECONDS = 8.0


def serialise(state: dict[str, Any]) -> bytes:
    """Tensors and plain values as torch writes them; read back with `torch.load(..., weights_only=True)`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


class Checkpoints:
    """The last whole training state of one student, in one file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "checkpoint.pt"
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last state, or None at the start. Tensors only: nothing in the file can run code."""
        if not self._path.exists():
            return None
        state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        return state

    @property
    def due(self) -> bool:
        """Whether enough time has passed to pay for another write."""
        return time.monotonic() - self._last >= EVERY_SECONDS

    def save(self, state: dict[str, Any]) -> None:
        write_file(self._path, serialise(state))
        self._last = time.monotonic()

    def clear(self) -> None:
        """Drop the state once its result is stored."""
        self._path.unlink(missing_ok=True)
