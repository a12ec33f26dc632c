"""A language model out of memory: token ids in, token ids or logits out. It knows neither texts nor servers.

Nothing of the model is written to disk, its config no more than its weights. Generation is onnxruntime-genai's, whose
engine answers requests of unlike length side by side. What the model says of given tokens is asked of an ONNX Runtime
session over the same bytes: genai shows the last position alone.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from toolkit.errors import EnvironmentUnfit
from toolkit.serving.refusals import ModelFault
from toolkit.serving.sessions import RUNTIME_ERRORS, session_of
from toolkit.text import Constraint, Finish

MODEL, CONFIG = "model.onnx", "genai_config.json"

EVENTS = 64
"""Tokens that are taken from the engine at once."""

SHELL = {"type": "llama", "context_length": 1, "vocab_size": 1, "decoder": {"filename": MODEL}}
"""A model of nothing: genai reads a config from a folder before it takes the real one out of memory, to lay over it.
The stops stand there already, since they would be added to."""

Gone = Callable[[int], bool]
"""Whether nobody waits any longer for the answer of a place."""


@dataclass(frozen=True)
class Drawn:
    """How tokens are drawn: the likeliest where `temperature` is 0, else of the `top_p` likeliest, by `seed`; of those
    that the `constraint` leaves."""

    most: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    constraint: Constraint | None = None

    @property
    def alone(self) -> bool:
        """Whether it must be written by itself."""
        return self.temperature > 0 or self.constraint is not None


class LanguageSession:
    """A causal language model.

    Args:
        model: the graph with its weights, one ONNX protobuf.
        config: its genai_config.json.
        threads: of one step.
        stops: the tokens that end an answer.
        together: requests that are answered side by side.
        keep: hold on to the model's bytes, which `logits` needs; where it only writes they are better let go.

    Raises:
        EnvironmentUnfit: onnxruntime-genai is not installed, or cannot load it.
    """

    def __init__(
        self, model: bytes, config: bytes, *, stops: Collection[int], threads: int = 1, together: int = 16,
        keep: bool = True,
    ) -> None:  # fmt: skip
        try:
            import onnxruntime_genai as genai
        except ImportError as error:
            raise EnvironmentUnfit(
                "what runs language models is not installed: onnxruntime-genai",
                hint="pip install 'distil-toolkit[language]'",
            ) from error
        self._genai, self._threads, self._stops = genai, threads, frozenset(stops)
        self._bytes = model if keep else b""
        self._config = json.loads(config)
        decoder = self._config["model"]["decoder"]
        self._config["model"]["eos_token_id"] = sorted(stops)
        self._config["engine"] = {"static_batching": {"max_batch_size": together}}
        decoder["session_options"] = {**decoder.get("session_options", {}), "intra_op_num_threads": threads}
        with tempfile.TemporaryDirectory(prefix="toolkit-") as folder:
            Path(folder, CONFIG).write_text(json.dumps({"model": SHELL | {"eos_token_id": sorted(stops)}}))
            settings = genai.Config(folder)
        settings.overlay(json.dumps(self._config))
        settings.add_model_data(MODEL, model)
        try:
            self._model = genai.Model(settings)
        except RuntimeError as error:
            raise EnvironmentUnfit(
                f"onnxruntime-genai cannot load the model: {error}", hint="Install the version that it was built with."
            ) from error
        finally:
            settings.remove_model_data(MODEL)
        self._own = threading.local()

    @property
    def _engine(self) -> Any:
        """The engine of the thread at hand: it takes no orders from another."""
        if not hasattr(self._own, "engine"):
            self._own.engine = self._genai.Engine(self._model)
        return self._own.engine

    @property
    def context(self) -> int:
        """The longest sequence it takes."""
        return int(self._config["model"]["context_length"])

    def write(
        self, prompts: Sequence[Sequence[int]], drawn: Sequence[Drawn], gone: Gone = lambda place: False
    ) -> Iterator[tuple[int, int | None, Finish | None]]:
        """What follows each prompt, as it comes: its place with a token, and in the end with why there is no other. The
        stop itself is not given. Of a place that is `gone` nothing more is written.

        The likeliest answers are written side by side; drawn ones, and those under a constraint, one after the other:
        on a CPU the engine has no seed of its own for each, and takes neither tokens nor logits from outside.

        Raises:
            ModelFault: a prompt and its answer are longer than the model's context, or the model failed on one.
        """
        for prompt, how in zip(prompts, drawn, strict=True):
            self.check_room(len(prompt), how.most)
        likeliest = [place for place, how in enumerate(drawn) if not how.alone]
        try:
            yield from self._together(likeliest, prompts, drawn, gone)
            for place, how in enumerate(drawn):
                if how.alone:
                    yield from self._alone(place, prompts[place], how, gone)
        except RuntimeError as error:
            raise ModelFault(f"the model failed on a prompt: {error}", hint="Compare it with the model's.") from error

    def check_room(self, given: int, most: int) -> None:
        """Raises ModelFault where so many tokens and an answer of so many do not fit into the model's context."""
        if given + most > self.context:
            raise ModelFault(
                f"a text of {given:,} tokens and an answer of {most:,} are more than the model's {self.context:,}",
                hint="Ask for fewer tokens, or shorten the prompt.",
            )

    def _together(
        self, places: Sequence[int], prompts: Sequence[Sequence[int]], drawn: Sequence[Drawn], gone: Gone
    ) -> Iterator[tuple[int, int | None, Finish | None]]:
        asked = [self._begun(prompts[place], drawn[place].most) for place in places]
        left: set[int] = set()
        flags, engine = self._genai.EngineEventFlags, self._engine
        events = engine.create_event_buffer(EVENTS)
        try:
            while engine.has_pending_requests():
                for place, request in zip(places, asked, strict=True):
                    if place not in left and gone(place):
                        left.add(place)
                        request.close()
                for event in engine.run(events):
                    place = places[asked.index(event.request)]
                    if event.flags & flags.FAILED:
                        raise RuntimeError(event.error_code)
                    if event.flags & flags.TOKEN:
                        yield place, int(event.token), None
                    if event.flags & flags.TURN_FINISHED:
                        ended = event.finish_reason == self._genai.FinishReason.EOS
                        yield place, None, "stop" if ended else "length"
        finally:
            for place, request in zip(places, asked, strict=True):
                if place not in left:
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

    def _alone(
        self, place: int, prompt: Sequence[int], how: Drawn, gone: Gone
    ) -> Iterator[tuple[int, int | None, Finish | None]]:
        settings = self._genai.GeneratorParams(self._model)
        drawing: dict[str, Any] = {}
        if how.temperature:
            drawing = {"do_sample": True, "temperature": how.temperature, "top_p": how.top_p, "top_k": 0}
        settings.set_search_options(max_length=len(prompt) + how.most, random_seed=how.seed % 2**31, **drawing)
        writing = self._genai.Generator(self._model, settings)
        writing.append_tokens(np.asarray(prompt, np.int32))
        said: list[int] = []
        while len(said) < how.most:
            if gone(place):
                return
            due: list[int] = []
            if how.constraint:
                logits = np.asarray(writing.get_logits())  # the last token is read; append_tokens would pass it over
                due = list(how.constraint.forced(said))[: how.most - len(said)]
                if not due and (allowed := how.constraint.allowed(said, logits.shape[-1])) is not None:
                    logits[..., ~allowed] = -np.inf
                    writing.set_logits(logits)
            if due:
                writing.append_tokens(np.asarray(due, np.int32))
            else:
                writing.generate_next_token()
                due = [int(writing.get_next_tokens()[0])]
            if due[0] in self._stops:
                yield place, None, "stop"
                return
            said += due
            yield from ((place, token, None) for token in due)
        yield place, None, "length"

    def after(self, ids: Sequence[int]) -> np.ndarray:
        """What it says after the last of the tokens: float32 [vocabulary].

        Raises:
            ModelFault: it has no room for so many, or failed.
        """
        self.check_room(len(ids), 1)
        settings = self._genai.GeneratorParams(self._model)
        settings.set_search_options(max_length=len(ids) + 1)
        try:
            reading = self._genai.Generator(self._model, settings)
            reading.append_tokens(np.asarray(ids, np.int32))
            return np.asarray(reading.get_logits(), np.float32).reshape(-1)
        except RuntimeError as error:
            raise ModelFault(f"the model failed on a text: {error}", hint="Compare it with the model's.") from error

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

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return session_of(self._bytes, threads=self._threads)


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
