"""A language model out of memory: token ids in, token ids or logits out. It knows neither texts nor servers.

Nothing of the model is written to disk. It is what onnxruntime-genai's builder makes, one graph with its weights, and
is run by ONNX Runtime alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from toolkit.serving.attention_cache import Graph
from toolkit.serving.drawing import Drawn
from toolkit.serving.refusals import ModelFault
from toolkit.serving.sessions import RUNTIME_ERRORS, session_of
from toolkit.serving.side_by_side import SideBySide, Text, Told

MODEL, CONFIG = "model.onnx", "genai_config.json"

TOGETHER = 16
"""Texts that are written side by side where nobody says another number."""

Gone = Callable[[int], bool]
"""Whether nobody waits any longer for the answer of a place."""

SPINNING_US = 1000
"""A step is hundreds of operators, and between two steps is less than this (ADR 51)."""

More = Callable[[int], Sequence[tuple[Sequence[int], Drawn]]]
"""`more(free)`: prompts that have come meanwhile, `free` at most."""


class LanguageSession:
    """A causal language model.

    Args:
        model: the graph with its weights, one ONNX protobuf.
        config: its genai_config.json.
        threads: of one step.
        stops: the tokens that end an answer.

    Raises:
        EnvironmentUnfit: ONNX Runtime cannot load it, or it is none that can write here. KeyError, TypeError: the
        config is none.
    """

    def __init__(self, model: bytes, config: bytes, *, stops: Collection[int], threads: int = 1) -> None:
        self._config, self._stops = json.loads(config), frozenset(stops)
        self._session = session_of(model, threads=threads, spinning_us=SPINNING_US)
        self._graph = Graph.of(self._session, self._config)

    @property
    def context(self) -> int:
        """The longest sequence it takes."""
        return int(self._config["model"]["context_length"])

    def write(
        self, prompts: Sequence[Sequence[int]], drawn: Sequence[Drawn], gone: Gone = lambda place: False,
        more: More = lambda free: (), together: int = TOGETHER,
    ) -> Iterator[Told]:  # fmt: skip
        """What follows each prompt, as it comes: its place with a token, and in the end with why there is no other, be
        it an error of its constraint. The stop itself is not given. Of a place that is `gone` nothing more is written.

        Between two steps `more` is asked for prompts that have come meanwhile, which take the places behind; `together`
        are written side by side at most.

        Raises:
            ModelFault: a prompt and its answer are longer than the model's context, or the model failed.
        """
        texts, places = SideBySide(self._graph, self._stops, together, gone), 0
        for prompt, how in zip(prompts, drawn, strict=True):
            self.check_room(len(prompt), how.most)
            texts.add(Text(places, prompt, how))
            places += 1
        while True:
            for prompt, how in more(texts.free) if texts.free > 0 else ():
                self.check_room(len(prompt), how.most)
                texts.add(Text(places, prompt, how))
                places += 1
            if texts.idle:
                return
            yield from texts.step()

    def check_room(self, given: int, most: int) -> None:
        """Raises ModelFault where so many tokens and an answer of so many do not fit into the model's context."""
        if given + most > self.context:
            raise ModelFault(
                f"a text of {given:,} tokens and an answer of {most:,} are more than the model's {self.context:,}",
                hint="Ask for fewer tokens, or shorten the prompt.",
            )

    def after(self, ids: Sequence[int]) -> np.ndarray:
        """What it says after the last of the tokens: float32 [vocabulary].

        Raises:
            ModelFault: it has no room for so many, or failed.
        """
        last: np.ndarray = self.logits(ids)[-1]
        return last

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """What it says after each of the tokens: float32 [n, vocabulary].

        Raises:
            ModelFault: it has no room for so many, or failed.
        """
        self.check_room(len(ids), 0)
        fed = fed_with(self._session, self._config, ids)
        try:
            return np.asarray(self._session.run(["logits"], fed)[0][0], np.float32)
        except RUNTIME_ERRORS as error:
            raise ModelFault(f"the model failed on a text: {error}", hint="Compare it with the model's.") from error


def fed_with(
    session: ort.InferenceSession, config: Mapping[str, Any], ids: Sequence[int], *, past: int = 0
) -> dict[str, np.ndarray]:
    """What a model's graph is fed with for these tokens, after `past` others of which nothing is known."""
    decoder, size = config["model"]["decoder"], len(ids)
    given = {
        "input_ids": np.asarray([ids], np.int64),
        "attention_mask": np.ones((1, past + size), np.int64),
        "position_ids": np.arange(past, past + size, dtype=np.int64)[None],
    }
    before = np.zeros((1, decoder["num_key_value_heads"], past, decoder["head_size"]), np.float32)
    return {wanted.name: given.get(wanted.name, before) for wanted in session.get_inputs()}
