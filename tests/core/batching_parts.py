"""A model whose answers are known, and what is asked of it, for tests of the queue before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from toolkit.errors import UsageError
from toolkit.protocols import PredictorFacts


class Doubler:
    """A model that doubles, records its batches, and runs only while its gate is open. 255 makes it fail."""

    facts = PredictorFacts(form="compiled", provider="test", digest="")

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.seconds_a_row = 0.0
        self.ran_by: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        self.ran_by.append(threading.current_thread().name.partition("_")[0])
        self.gate.wait(5)
        self.batches.append(inputs["x"].shape)
        time.sleep(self.seconds_a_row * len(inputs["x"]))
        if (inputs["x"] == 255).any():
            raise ValueError("cannot double 255")
        return {"y": inputs["x"].astype(np.int64) * 2}


def row(value: int, width: int = 3) -> dict[str, np.ndarray]:
    return {"x": np.full((1, width), value, np.uint8)}


@dataclass(frozen=True)
class Made:
    """What makes a row; of 3 it fails where it says by whom it was made."""

    value: int
    brief: bool = False
    made_by: set[str] | None = None
    needs: int = 0

    def __call__(self) -> dict[str, np.ndarray]:
        if self.made_by is not None:
            self.made_by.add(threading.current_thread().name.partition("_")[0])
            if self.value == 3:
                raise UsageError("no picture")
        return row(self.value)
