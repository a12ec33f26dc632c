"""OpenAI's routes, driven by its own client: names, streams, stops, several answers, and errors in OpenAI's form.

What writes is a real queue before an author that says its last message letter by letter; models that learnt something
are in test_text_generation_chat.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import APIRouter
from kserve_parts import served, serving
from serving_parts import Files, Running, bundle_files, facts_of, mean_model

from toolkit.errors import DataError
from toolkit.protocols import PredictorFacts
from toolkit.services import Service
from toolkit.serving.limits import Limits
from toolkit.serving.models import ServedModel
from toolkit.serving.stopping import together, until_stop
from toolkit.serving.writing import Company, Writer
from toolkit.tasks.text_generation.service import Manner
from toolkit.text import Conversation, GenerationRequest, TextDelta, Usage


@dataclass
class Echo:
    """Says the last message, or the prompt, letter by letter; `seconds` a letter."""

    seconds: float = 0.0
    letters: list[str] = field(default_factory=list)
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("installed", "test", ""))

    def check(self, request: GenerationRequest) -> None:
        if text_of(request) == "no":
            raise DataError("this is not answered", hint="Ask another.")

    def generate(self, requests: Sequence[GenerationRequest], company: Company) -> Iterator[TextDelta]:
        while asked := [*requests, *company.more(1)]:
            requests = ()
            for request in asked:
                yield from self._said(request, company)

    def _said(self, request: GenerationRequest, company: Company) -> Iterator[TextDelta]:
        text = f"{text_of(request) or '?'}{request.seed if request.temperature else ''}"[: request.max_tokens]
        for place, letter in enumerate(text):
            if company.gone(request.id):
                break
            time.sleep(self.seconds)
            self.letters.append(letter)
            yield TextDelta(request.id, letter, "stop" if place == len(text) - 1 else None, Usage(3, place + 1))


def text_of(request: GenerationRequest) -> str:
    return request.messages[-1].content if request.prompt is None else request.prompt


def writing(author: Echo, **settings: Any) -> ServedModel:
    queue = Writer(author, **settings)
    facts = facts_of(Files(bundle_files()))
    conversation = Conversation(queue, Manner(facts.id, facts.product, "", 100).request)
    return ServedModel(facts, queue, Service(APIRouter(), conversation))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(writing(Echo()), tmp_path_factory.mktemp("site")) as it:
        yield it


@contextlib.contextmanager
def asking(server: Running, key: str | None = None) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key or server.keys["infer"], max_retries=0) as found:
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with asking(server) as found:
        yield found


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_models_are_listed_and_found_by_every_name_they_have(client: openai.OpenAI) -> None:
    (listed,) = client.models.list().data
    assert (listed.id, listed.object, listed.owned_by) == ("tiny", "model", "distil-toolkit")
    for name in ("tiny", "tiny@1.7", "b-123"):
        assert client.models.retrieve(name).id == name
        assert client.chat.completions.create(model=name, messages=said("hi")).model == "tiny"
    for name in ("gpt-4o", "tiny@9", "x" * 400):
        with pytest.raises(openai.NotFoundError) as error:
            client.chat.completions.create(model=name, messages=said("hi"))
        assert (error.value.code, error.value.type) == ("model_not_found", "invalid_request_error")
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.models.retrieve(name)


@pytest.mark.parametrize("stop", ["na", ["na"], ["zzz", "na", "anas"], ["ban", "na b"]])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_before_its_stop_and_nothing_of_that_is_told(
    client: openai.OpenAI, stop: Any, stream: bool
) -> None:
    told = "a banana" if stop != ["ban", "na b"] else "a "
    told = told.partition("na")[0]
    asked: dict[str, Any] = {"model": "tiny", "messages": said("a banana boat"), "stop": stop}
    if stream:
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        finish = next(c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason)
        usage = chunks[-1].usage
    else:
        found = client.chat.completions.create(**asked)
        text, finish, usage = found.choices[0].message.content or "", found.choices[0].finish_reason, found.usage
    assert (text, finish) == (told, "stop")
    assert usage is not None
    assert usage.prompt_tokens == 3
    assert usage.completion_tokens < len("a banana boat")


def test_what_only_looked_like_a_stop_is_told_in_the_end(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model="tiny", messages=said("abcab"), stop=["abd", "abcabc"])
    assert found.choices[0].message.content == "abcab"


def test_more_than_four_stops_and_stream_options_without_a_stream_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="tiny", messages=said("x"), stop=list("abcde"))
    assert error.value.param == "stop"
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="tiny", messages=said("x"), stream_options={"include_usage": True})
    assert error.value.param == "stream_options"


def test_several_answers_are_drawn_each_by_a_seed_of_its_own(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": said("s"), "n": 3, "temperature": 1.0, "seed": 7}
    found = client.chat.completions.create(**asked)
    assert [(one.index, one.message.content) for one in found.choices] == [(0, "s7"), (1, "s8"), (2, "s9")]
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (3, 6, 9)
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(**asked, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == ["s7", "s8", "s9"]


def test_a_streams_usage_is_null_until_its_last_chunk(server: Running) -> None:
    body = {"model": "tiny", "messages": said("hey"), "stream": True, "stream_options": {"include_usage": True}}
    answer = post(server, "/v1/chat/completions", body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.removesuffix("\n\n").split("\n\n")
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert all(chunk["usage"] is None and len(chunk["choices"]) == 1 for chunk in chunks[:-1])
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 6)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    body.pop("stream_options")
    assert '"usage"' not in post(server, "/v1/chat/completions", body).text


def test_texts_are_gone_on_from_one_or_many(client: openai.OpenAI) -> None:
    found = client.completions.create(model="tiny", prompt=["ab", "cde"], max_tokens=2)
    assert [(one.index, one.text, one.finish_reason) for one in found.choices] == [(0, "ab", "stop"), (1, "cd", "stop")]
    assert (found.object, found.id[:5]) == ("text_completion", "cmpl-")
    assert found.usage is not None
    assert found.usage.prompt_tokens == 6
    text = "".join(chunk.choices[0].text for chunk in client.completions.create(model="", prompt="xyz", stream=True))
    assert text == "xyz"


def post(server: Running, path: str, body: Any, key: str | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key or server.keys['infer']}", "Content-Type": "application/json"}
    return httpx.post(server.url + path, content=content, headers=headers, timeout=20)


OPENAI = {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None), (b"[]", None), ({"messages": []}, "messages"), ({"model": 5, "messages": said("x")}, "model"),
        ({"messages": said("x"), "temperature": 3}, "temperature"), ({"messages": said("x"), "n": 9}, "n"),
        ({"messages": said("x"), "tools": [{}]}, "tools"), ({"messages": said("x"), "logprobs": True}, "logprobs"),
        ({"messages": said("\ud800")}, None), ({"messages": said("no")}, None),
        (b'{"messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", None),
    ],
)  # fmt: skip
def test_what_is_no_request_is_told_in_openais_form(server: Running, body: Any, param: str | None) -> None:
    answer = post(server, "/v1/chat/completions", body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == OPENAI
    assert (error["type"], error["code"]) == ("invalid_request_error", None)
    assert param is None or error["param"].startswith(param)


CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("path", "asked", "param", "near"),
    [
        (CHAT, {"guided_json": {"type": "object"}}, "guided_json", ""),
        (CHAT, {"structured_outputs": {"json": {}}}, "structured_outputs", ""),
        (CHAT, {"grammar": "root ::= x"}, "grammar", ""), (CHAT, {"json_schema": {}}, "json_schema", ""),
        (CHAT, {"stop_token_ids": [1]}, "stop_token_ids", ""), (CHAT, {"repeat_penalty": 1.5}, "repeat_penalty", ""),
        (CHAT, {"bad_words": ["x"]}, "bad_words", ""), (CHAT, {"reasoning_effort": "high"}, "reasoning_effort", ""),
        (CHAT, {"verbosity": "low"}, "verbosity", ""), (CHAT, {"moderation": {"model": "m"}}, "moderation", ""),
        (CHAT, {"temperatur": 2}, "temperatur", "temperature"), (CHAT, {"usr": "me"}, "usr", "user"),
        (CHAT, {"logprobs": 0}, "logprobs", ""), (CHAT, {"top_logprobs": False}, "top_logprobs", ""),
        (CHAT, {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages.0.tool_calls", ""),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "txt": "y"}]}]},
         "messages.0.content.0.txt", "text"),
        (CHAT, {"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema", "json_schema"),
        (CHAT, {"response_format": SCHEMA | {"type": "json_object"}}, "response_format.json_schema", ""),
        (CHAT, {"stream": True, "stream_options": {"include_use": True}}, "stream_options.include_use",
         "include_usage"),
        (TEXT, {"response_format": SCHEMA}, "response_format", ""), (TEXT, {"wanted": ["x"]}, "wanted", ""),
        (TEXT, {"calculator": True}, "calculator", ""), (TEXT, {"logprobs": 0}, "logprobs", ""),
        (TEXT, {"max_completion_tokens": 3}, "max_completion_tokens", "max_tokens"),
    ],
)  # fmt: skip
def test_a_field_that_is_not_understood_is_refused_by_its_name(
    client: openai.OpenAI, path: str, asked: dict[str, Any], param: str, near: str
) -> None:
    ways = {
        CHAT: partial(client.chat.completions.create, messages=said("x")),
        TEXT: partial(client.completions.create, prompt="x"),
    }
    with pytest.raises(openai.BadRequestError) as error:
        ways[path](model="tiny", extra_body=asked)
    assert isinstance(error.value.body, dict)
    assert set(error.value.body) == OPENAI
    assert (error.value.param, error.value.type) == (param, "invalid_request_error")
    assert error.value.body["message"].startswith(f"{param} is not ")
    assert ("Did you mean" in error.value.body["message"]) == bool(near)
    assert near in error.value.body["message"]


def test_what_changes_nothing_of_an_answer_is_taken(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": [
            {"type": "text", "text": "hi", "prompt_cache_breakpoint": {"mode": "explicit"}}
        ]}],
        user="me", metadata={"a": "b"}, store=True, service_tier="flex", safety_identifier="s", prompt_cache_key="k",
        prompt_cache_retention="24h", prompt_cache_options={"mode": "explicit"}, parallel_tool_calls=False,
        prediction={"type": "content", "content": "hi"}, frequency_penalty=0.0, presence_penalty=0, logprobs=False,
        top_logprobs=0, logit_bias={}, modalities=["text"], tool_choice="none", tools=[], verbosity="medium",
        reasoning_effort=None, response_format={"type": "text"}, extra_body={"min_p": 0.0, "guided_json": None},
    )  # fmt: skip
    answer = found.choices[0].message
    assert answer.content == "hi"
    again = client.chat.completions.create(model="tiny", messages=[*said("hi"), answer, *said("ho")])  # type: ignore[list-item]
    assert again.choices[0].message.content == "ho"
    with client.chat.completions.stream(
        model="tiny", messages=said("hi"), stream_options={"include_usage": True, "include_obfuscation": False}
    ) as stream:
        assert stream.get_final_completion().choices[0].message.content == "hi"
    text = client.completions.create(model="tiny", prompt="hi", user="me", best_of=1, echo=False, suffix="")
    assert text.choices[0].text == "hi"


def test_keys_and_a_full_queue_are_told_in_openais_form(server: Running, tmp_path: Path) -> None:
    with asking(server, "tk_wrong") as client, pytest.raises(openai.AuthenticationError) as error:
        client.models.list()
    assert error.value.code == "invalid_api_key"
    assert error.value.body is not None
    with serving(writing(Echo(0.05)), tmp_path, Limits(requests=1)) as busy, asking(busy) as client:
        running = client.chat.completions.create(model="tiny", messages=said("x" * 90), stream=True)
        next(iter(running))
        with pytest.raises(openai.InternalServerError) as full:
            client.chat.completions.create(model="tiny", messages=said("x"))
        running.close()
        assert (full.value.status_code, full.value.type) == (503, "server_error")
        assert full.value.response.headers["retry-after"] == "1"


def test_a_product_is_named_by_model_path_or_header(tmp_path: Path) -> None:
    other = writing(Echo())
    other = replace(other, facts=replace(other.facts, product="other", id="b-456", version="2.1"))
    with serving(writing(Echo()), tmp_path, beside=[other]) as server:
        with openai.OpenAI(base_url=f"{server.url}/products/other/v1", api_key=server.keys["infer"]) as client:
            assert client.chat.completions.create(model="other", messages=said("hi")).system_fingerprint == "b-456"
            assert client.completions.create(model="other", prompt="hi").system_fingerprint == "b-456"
            assert client.models.retrieve("other").id == "other"
            with pytest.raises(openai.NotFoundError, match="does not exist"):
                client.chat.completions.create(model="third", messages=said("hi"))

        def answers(path: str, **more: str) -> httpx.Response:
            headers = {"X-API-Key": server.keys["infer"], **more}
            return httpx.post(server.url + path, json={"messages": said("hi")}, headers=headers)

        chat = "/v1/chat/completions"
        for found in (answers("/products/other" + chat), answers(chat, **{"X-Toolkit-Product": "other"})):
            assert (found.json()["model"], found.headers["x-toolkit-bundle"]) == ("other", "b-456")
        of_path = answers("/products/other" + chat, **{"X-Toolkit-Product": "tiny", "X-Toolkit-Version": "2.1"})
        assert of_path.json()["model"] == "other"
        assert answers(chat).json()["model"] == "tiny"
        for missing in (answers("/products/third" + chat), answers(chat, **{"X-Toolkit-Version": "9"})):
            assert (missing.status_code, set(missing.json()["error"])) == (404, OPENAI)


def test_a_model_of_pictures_writes_nothing(tmp_path: Path) -> None:
    with serving(served(mean_model()[0]), tmp_path) as pictures, asking(pictures) as client:
        assert client.models.list().data == []
        with pytest.raises(openai.BadRequestError, match="does not write"):
            client.chat.completions.create(model="tiny", messages=said("x"))


def test_who_goes_or_has_its_stop_is_written_for_no_more(tmp_path: Path) -> None:
    author = Echo(0.005)
    with serving(writing(author), tmp_path) as server, asking(server) as client:
        stream = client.chat.completions.create(model="tiny", messages=said("a" * 90), stream=True)
        next(iter(stream))
        stream.close()
        assert client.chat.completions.create(model="tiny", messages=said("b")).choices[0].message.content == "b"
        assert author.letters.count("a") < 60
        assert client.chat.completions.create(model="tiny", messages=said("c" * 90), stop="cc").usage is not None
        client.chat.completions.create(model="tiny", messages=said("b"))
        assert author.letters.count("c") < 60


async def scripted(parts: Sequence[str], said: list[str]) -> AsyncGenerator[TextDelta]:
    for place, text in enumerate(parts):
        said.append(text)
        await asyncio.sleep(0)
        yield TextDelta("x", text, "length" if place == len(parts) - 1 else None)


@pytest.mark.parametrize(
    ("parts", "stops", "told", "finish"),
    [
        (["one", " two"], [], "one two", "length"),
        (["on", "e t", "wo thr", "ee"], ["two"], "one ", "stop"),
        (["ab", "ab", "ac"], ["abac"], "ab", "stop"),
        (["x", "", "y"], ["z"], "xy", "length"),
        (["stop here"], ["here", "stop"], "", "stop"),
        (["end st", "o"], ["stop"], "end sto", "length"),
        (["a🙂", "b"], ["🙂b"], "a", "stop"),
    ],
)
def test_stops_whatever_the_pieces(parts: list[str], stops: list[str], told: str, finish: str) -> None:
    async def main() -> list[TextDelta]:
        return [piece async for piece in until_stop(scripted(parts, []), stops)]

    pieces = asyncio.run(main())
    assert ("".join(piece.text for piece in pieces), pieces[-1].finish) == (told, finish)
    assert all(piece.finish is None for piece in pieces[:-1])


def test_an_error_of_one_answer_ends_the_others() -> None:
    ended: list[int] = []

    async def one(place: int) -> AsyncGenerator[TextDelta]:
        try:
            yield TextDelta(str(place), "a")
            if place == 1:
                raise DataError("broken")
            await asyncio.sleep(5)
            yield replace(TextDelta(str(place), "b"), finish="stop")
        finally:
            ended.append(place)

    async def main() -> None:
        with pytest.raises(DataError):
            async for _ in together([one(0), one(1), one(2)]):
                pass

    asyncio.run(main())
    assert sorted(ended) == [0, 1, 2]
