"""Near copies: how much of a draft stands word for word in texts that were learnt from.

An index of hashed runs of words; no text can be read back out of it, so it may travel in a bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from toolkit.errors import IntegrityError
from toolkit_content.reading import is_han, read

RUN = 8
"""Words, or Chinese characters, that make a run: shorter ones many people say by themselves."""


@dataclass(frozen=True)
class Copies:
    """The runs of all texts that were learnt, as sorted 64-bit hashes."""

    runs: np.ndarray

    @classmethod
    def of(cls, texts: Iterable[str]) -> Copies:
        return cls(np.unique(np.array([run for text in texts for run in _runs(text)], np.uint64)))

    @classmethod
    def from_bytes(cls, data: bytes) -> Copies:
        """Raises IntegrityError where it is no index."""
        if len(data) % 8:
            raise IntegrityError("the index of copies is cut", part="copies", hint="Build the bundle again.")
        return cls(np.frombuffer(data, "<u8").astype(np.uint64))

    def to_bytes(self) -> bytes:
        return self.runs.astype("<u8").tobytes()

    def share(self, text: str) -> float:
        """The share of a text's runs that were learnt; 0 of a text shorter than one."""
        runs = np.array(list(_runs(text)), np.uint64)
        return float(np.isin(runs, self.runs).mean()) if len(runs) else 0.0


def _runs(text: str) -> Iterable[int]:
    words = _words(text)
    for start in range(len(words) - RUN + 1):
        run = " ".join(words[start : start + RUN])
        yield int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "little")


def _words(text: str) -> list[str]:
    """Words as they are read, each Chinese character by itself, without what stands between them."""
    spaced = "".join(f" {one} " if is_han(one) else one if one.isalnum() else " " for one in read(text).characters)
    return spaced.split()
