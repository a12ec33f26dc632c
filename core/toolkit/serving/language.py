"""A language model out of memory: token ids in, token ids or logits out. It knows neither texts nor servers.

Generation is onnxruntime-genai's, whose engine answers requests of unlike length side by side. What the model says of
given tokens is asked of an ONNX Runtime session over the same bytes: genai shows the last position alone.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from toolkit.errors import EnvironmentUnfit
from toolkit.serving.refusals import ModelFault
from toolkit.serving.sessions import RUNTIME_ERRORS, session_of
from toolkit.text import Finish

MODEL, CONFIG = "model.onnx", "genai_config.json"

EVENTS = 64
"""Tokens that are taken from the engine at once."""


@dataclass(frozen=True)
class Drawn:
    """How tokens are drawn: the likeliest where `temperature` is 0, else of the `top_p` likeliest, by `seed`."""

    most: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class LanguageSession:
    """A causal language model.

    Args:
        model: the graph with its weights, one ONNX protobuf.
        config: its genai_config.json.
        threads: of one step.
        stops: the tokens that end an answer.
        together: requests that are answered side by side.

    Raises:
        EnvironmentUnfit: onnxruntime-genai is not installed, or cannot load it.
    """

    def __init__(
        self, model: bytes, config: bytes, *, stops: Collection[int], threads: int = 1, together: int = 16
    ) -> None:
        try:
            import onnxruntime_genai as genai
        except ImportError as error:
            raise EnvironmentUnfit(
                "what runs language models is not installed: onnxruntime-genai",
                hint="pip install 'distil-toolkit[language]'",
            ) from error
        self._genai, self._bytes, self._threads, self._stops = genai, model, threads, frozenset(stops)
        self._config = json.loads(config)
        decoder = self._config["model"]["decoder"]
        self._config["model"]["eos_token_id"] = sorted(stops)
        self._config["engine"] = {"static_batching": {"max_batch_size": together}}
        decoder["session_options"] = {**decoder.get("session_options", {}), "intra_op_num_threads": threads}
        with tempfile.TemporaryDirectory(prefix="toolkit-") as folder:
            Path(folder, CONFIG).write_text(json.dumps(self._config))  # no weight is in it
            settings = genai.Config(folder)
        settings.add_model_data(MODEL, model)
        try:
            self._model = genai.Model(settings)
        except RuntimeError as error:
            raise EnvironmentUnfit(
                f"onnxruntime-genai cannot load the model: {error}", hint="Install the version that it was built with."
            ) from error
        finally:
            settings.remove_model_data(MODEL)
        self._engine = genai.Engine(self._model)

    @property
    def context(self) -> int:
        """The longest sequence it takes."""
        return int(self._config["model"]["context_length"])

    def write(
        self, prompts: Sequence[Sequence[int]], drawn: Sequence[Drawn]
    ) -> Iterator[tuple[int, int | None, Finish | None]]:
        """What follows each prompt, as it comes: its place with a token, and in the end with why there is no other. The
        stop itself is not given.

        The likeliest answers are written side by side, drawn ones one after the other: on a CPU the engine has no seed
        of its own for each.

        Raises:
            ModelFault: a prompt and its answer are longer than the model's context, or the model failed on one.
        """
        for prompt, how in zip(prompts, drawn, strict=True):
            self._check_room(len(prompt), how.most)
        likeliest = [place for place, how in enumerate(drawn) if not how.temperature]
        try:
            yield from self._together(likeliest, prompts, drawn)
            for place, how in enumerate(drawn):
                if how.temperature:
                    yield from self._alone(place, prompts[place], how)
        except RuntimeError as error:
            raise ModelFault(f"the model failed on a prompt: {error}", hint="Compare it with the model's.") from error

    def _check_room(self, given: int, most: int) -> None:
        if given + most > self.context:
            raise ModelFault(
                f"a text of {given:,} tokens and an answer of {most:,} are more than the model's {self.context:,}",
                hint="Ask for fewer tokens, or shorten the prompt.",
            )

    def _together(
        self, places: Sequence[int], prompts: Sequence[Sequence[int]], drawn: Sequence[Drawn]
    ) -> Iterator[tuple[int, int | None, Finish | None]]:
        asked = [self._begun(prompts[place], drawn[place].most) for place in places]
        flags, events = self._genai.EngineEventFlags, self._engine.create_event_buffer(EVENTS)
        try:
            while self._engine.has_pending_requests():
                for event in self._engine.run(events):
                    place = places[asked.index(event.request)]
                    if event.flags & flags.FAILED:
                        raise RuntimeError(event.error_code)
                    if event.flags & flags.TOKEN:
                        yield place, int(event.token), None
                    if event.flags & flags.TURN_FINISHED:
                        ended = event.finish_reason == self._genai.FinishReason.EOS
                        yield place, None, "stop" if ended else "length"
        finally:
            for request in asked:
                request.close()

    def _begun(self, prompt: Sequence[int], most: int) -> Any:
        options = self._genai.RequestOptions()
        options.set_max_session_tokens(len(prompt) + most)
        request = self._engine.create_request(options=options)
        turn = self._genai.TurnOptions(request)
        turn.set_max_generated_tokens(most)
        turn.set_do_sample(False)
        request.begin_turn(np.asarray(prompt, np.int32), turn)
        return request

    def _alone(self, place: int, prompt: Sequence[int], how: Drawn) -> Iterator[tuple[int, int | None, Finish | None]]:
        settings = self._genai.GeneratorParams(self._model)
        settings.set_search_options(
            do_sample=True, temperature=how.temperature, top_p=how.top_p, top_k=0, random_seed=how.seed % 2**31,
            max_length=len(prompt) + how.most,
        )  # fmt: skip
        writing = self._genai.Generator(self._model, settings)
        writing.append_tokens(np.asarray(prompt, np.int32))
        for _ in range(how.most):
            writing.generate_next_token()
            token = int(writing.get_next_tokens()[0])
            if token in self._stops:
                yield place, None, "stop"
                return
            yield place, token, None
        yield place, None, "length"

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """What it says after each of the tokens: float32 [n, vocabulary].

        Raises:
            ModelFault: it has no room for so many, or failed.
        """
        self._check_room(len(ids), 0)
        decoder = self._config["model"]["decoder"]
        given = {
            "input_ids": np.asarray([ids], np.int64),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(len(ids), dtype=np.int64)[None],
        }
        before = np.zeros((1, decoder["num_key_value_heads"], 0, decoder["head_size"]), np.float32)
        fed = {wanted.name: given.get(wanted.name, before) for wanted in self._session.get_inputs()}
        try:
            return np.asarray(self._session.run(["logits"], fed)[0][0], np.float32)
        except RUNTIME_ERRORS as error:
            raise ModelFault(f"the model failed on a text: {error}", hint="Compare it with the model's.") from error

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return session_of(self._bytes, threads=self._threads)
