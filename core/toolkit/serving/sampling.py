"""A sample of the answers that are given to bare tensors, for drift and the review set: what all of them were given to
is too much to look at beside answering, and a sample tells as much."""

from __future__ import annotations

import time
from collections.abc import Sequence

from toolkit.errors import ToolkitError
from toolkit.protocols import Tensors
from toolkit.services import Seen, Watch

SECONDS = 1.0
"""Between two samples of one process."""


class Sampled:
    """Asks a service what an answer was given to, where it can say and the last time is long enough ago."""

    def __init__(self, watch: Watch | None) -> None:
        self._watch, self._next = watch, 0.0

    def __call__(self, inputs: Tensors, outputs: Tensors) -> Sequence[Seen]:
        """What is to be noted of this answer; mostly nothing."""
        if self._watch is None or (now := time.monotonic()) < self._next:
            return ()
        self._next = now + SECONDS
        try:
            return self._watch(inputs, outputs)
        except ToolkitError:  # outputs that mean nothing to the domain are the client's, who asked for bare tensors
            return ()
