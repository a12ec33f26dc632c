"""What a language model remembers of texts, the keys and values of its attention, and its graph run over them in place.

Knows rows and lengths, nothing of what a token is nor of who waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from toolkit.errors import EnvironmentUnfit
from toolkit.serving.refusals import ModelFault
from toolkit.serving.sessions import RUNTIME_ERRORS


@dataclass(frozen=True)
class Graph:
    """A causal model's session as onnxruntime-genai's builder names and shapes what goes in and out.

    `kept` are, for keys and values of each layer, the names of what goes in and of what comes out; `heads` and `width`
    their shape, and `vocabulary` the head's size.
    """

    session: ort.InferenceSession
    kept: Sequence[tuple[str, str]]
    heads: int
    width: int
    vocabulary: int
    positions: bool

    @classmethod
    def of(cls, session: ort.InferenceSession, config: Mapping[str, Any]) -> Graph:
        """Raises EnvironmentUnfit where its attention cannot go on in the memory that it is given."""
        decoder = config["model"]["decoder"]
        inputs = {one.name: one for one in session.get_inputs()}
        outputs = {one.name: one for one in session.get_outputs()}
        kept = [
            (decoder["inputs"][f"past_{what}_names"] % layer, decoder["outputs"][f"present_{what}_names"] % layer)
            for layer in range(decoder["num_hidden_layers"])
            for what in ("key", "value")
        ]
        known = all(past in inputs and present in outputs for past, present in kept)
        in_place = config["search"].get("past_present_share_buffer", False)
        if not known or not in_place or any(inputs[past].type != "tensor(float)" for past, _ in kept):
            raise EnvironmentUnfit(
                "the model's attention does not keep its keys and values in one place, in float32",
                hint="Compile it anew for the CPU, by the target cpu.",
            )
        return cls(
            session, kept, decoder["num_key_value_heads"], decoder["head_size"], int(outputs["logits"].shape[-1]),
            "position_ids" in inputs,
        )  # fmt: skip

    @property
    def bytes_a_token(self) -> int:
        """What it remembers of one token."""
        return len(self.kept) * self.heads * self.width * np.dtype(np.float32).itemsize


class Cache:
    """Room for `rows` texts of at most `room` tokens. The system gives memory as tokens come, not before."""

    def __init__(self, graph: Graph, rows: int, room: int) -> None:
        self._graph, self.rows, self.room = graph, rows, room
        shape = (rows, graph.heads, room, graph.width)
        self._held = [np.zeros(shape, np.float32) for _ in graph.kept]
        self._bound: dict[int, Any] = {}

    def take(self, row: int, other: Cache, theirs: int, length: int) -> None:
        """Put a text of another cache, or of another row of this one, into a row."""
        for mine, given in zip(self._held, other._held, strict=True):
            mine[row, :, :length] = given[theirs, :, :length]

    def run(self, ids: Sequence[Sequence[int]], lengths: Sequence[int]) -> np.ndarray:
        """Read as many tokens of each of the first rows as of any other; several of one row alone.

        Args:
            ids: the tokens [rows, n].
            lengths: of each row, how many it has read before.

        Returns:
            What the model says after the last of them: float32 [rows, vocabulary].

        Raises:
            ModelFault: it failed.
        """
        read, before = np.asarray(ids, np.int64), np.asarray(lengths, np.int64)[:, None]
        ends = before + read.shape[1]
        given = {"input_ids": read, "attention_mask": (np.arange(ends.max()) < ends).astype(np.int64)}
        if self._graph.positions:
            given["position_ids"] = before + np.arange(read.shape[1])
        logits = np.empty((*read.shape, self._graph.vocabulary), np.float32)
        binding = self._binding(len(read))
        for name, array in given.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        binding.bind_output("logits", "cpu", 0, logits.dtype, logits.shape, logits.ctypes.data)
        try:
            self._graph.session.run_with_iobinding(binding)
        except RUNTIME_ERRORS as error:
            raise ModelFault(f"the model failed on a text: {error}", hint="Compare it with the model's.") from error
        return logits[:, -1]

    def _binding(self, rows: int) -> Any:
        """The first rows bound to what the graph reads and, in the same place, writes."""
        if rows not in self._bound:
            self._bound[rows] = binding = self._graph.session.io_binding()
            for (past, present), held in zip(self._graph.kept, self._held, strict=True):
                first = held[:rows]
                binding.bind_input(past, "cpu", 0, first.dtype, first.shape, first.ctypes.data)
                binding.bind_output(present, "cpu", 0, first.dtype, first.shape, first.ctypes.data)
        return self._bound[rows]
