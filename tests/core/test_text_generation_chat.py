"""A language model behind the server, asked by OpenAI's own client and by hand: whole, streamed, refused, given up."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from counting_parts import records, write_rows
from serving_parts import Files

from toolkit.errors import EnvironmentUnfit, IntegrityError
from toolkit.plan import Plan
from toolkit.protocols import HardwareProfile, PredictorFacts
from toolkit.serving.access import add_key
from toolkit.serving.assembly import Tuning, assemble
from toolkit.serving.models import read_facts
from toolkit.serving.openai_bodies import ChatRequest
from toolkit.serving.runner import in_background, listen
from toolkit.tasks.text_generation import task
from toolkit.tasks.text_generation.compiling import compile_student
from toolkit.tasks.text_generation.installed import CompiledFiles, open_installed, prove
from toolkit.tasks.text_generation.predictors import LanguagePredictor
from toolkit.tasks.text_generation.service import Manner
from toolkit.tasks.text_generation.teacher import read_teacher
from toolkit_target_cpu import CpuTarget

PROFILE = HardwareProfile("cpu", "cpu", "", ("x86_64", "aarch64"))
FACTS = PredictorFacts("installed", "", "b-1")


def quiet(what: str, done: int, total: int) -> None:
    """Nothing is told."""


def sealed(folder: Path, **more: bytes) -> Files:
    """The bundle's files of a compiled student."""
    compiled = CompiledFiles(folder)
    plan = Plan(domain="counting", task="text_generation", text={"answer_tokens": 4}).model_dump(mode="json")
    labels = {"classes": [], "good_class": "", "channels": None, "sample": False}
    plain = {"plan": json.dumps(plan).encode(), "classes": json.dumps(labels).encode()}
    return Files({role: compiled.read(role) for role in compiled.roles} | plain | more)


@pytest.fixture(scope="module")
def compiled(counter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_counter(counter, tmp_path_factory.mktemp("compiled"))


def compiled_counter(student: Path, root: Path) -> Path:
    """A student that counts, as compiling leaves it."""
    write_rows(root / "rows" / "train.jsonl", records(80))
    plan = Plan(domain="counting", task="text_generation", target={"precision": "fp32"}, text={"answer_tokens": 6})
    data = task.prepare(plan, root / "rows", "train", root / "dataset", (), quiet)
    predictor = LanguagePredictor(read_teacher(student), PredictorFacts("student", "torch", ""))
    (root / "compiled").mkdir()
    compile_student(plan, data, student, predictor, CpuTarget(), PROFILE, root / "compiled", quiet)
    return root / "compiled"


@contextlib.contextmanager
def running(files: Files, site: Path) -> Iterator[tuple[str, str]]:
    """A real server on a free port: its URL and a key."""
    facts = read_facts(files, bundle="b-1", version="1.1", product="counter", domain="counting", development_keys=True)
    key, tuning = add_key(site, "tester", "infer"), Tuning()
    app = assemble(files, facts, runtime=task, site=site, tuning=tuning, ask=task.serve)
    with in_background(app, listen("127.0.0.1", 0), tuning.limits) as url:
        yield url, key


@pytest.fixture(scope="module")
def server(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with running(sealed(compiled), tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture
def client(server: tuple[str, str]) -> Iterator[openai.OpenAI]:
    url, key = server
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as found:
        yield found


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_the_real_client_is_answered_whole(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model="counter", messages=said("one two"))
    assert (found.choices[0].message.content, found.choices[0].finish_reason) == ("three", "stop")
    assert (found.object, found.model, found.system_fingerprint) == ("chat.completion", "counter", "b-1")
    assert found.usage is not None
    assert (found.usage.completion_tokens, found.usage.total_tokens) == (1, found.usage.prompt_tokens + 1)
    assert [model.id for model in client.models.list()] == ["counter"]


def test_the_real_client_hears_the_answer_as_it_comes(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="counter", messages=said("nine ten"), stream=True, stream_options={"include_usage": True}
        )
    )
    told = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert told[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in told) == "eleven"
    assert [choice.finish_reason for choice in told if choice.finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 1
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_text_is_gone_on_from_without_a_template(client: openai.OpenAI) -> None:
    found = client.completions.create(model="counter", prompt=["one two", "nine ten"], max_tokens=1, n=2)
    assert [(choice.index, choice.finish_reason) for choice in found.choices] == [(n, "length") for n in range(4)]
    assert found.choices[0].text == found.choices[1].text
    assert found.usage is not None
    assert found.usage.completion_tokens == 4
    alone = client.completions.create(model="counter", prompt="one two", max_tokens=1)
    assert alone.choices[0].text == found.choices[0].text
    chat = client.chat.completions.create(model="counter", messages=said("one two"), max_tokens=1)
    assert alone.usage is not None
    assert chat.usage is not None
    assert alone.usage.prompt_tokens < chat.usage.prompt_tokens


def test_content_in_parts_and_a_developer_are_understood(client: openai.OpenAI) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}]
    found = client.chat.completions.create(model="", messages=parts)  # type: ignore[arg-type]
    assert found.choices[0].message.content == "three"
    found = client.chat.completions.create(
        model="", messages=[{"role": "developer", "content": "Think"}, *said("one two")], max_tokens=1
    )
    assert found.choices[0].finish_reason == "length" or found.choices[0].message.content


def test_what_a_calculator_owes_is_put_in_where_it_is_asked_for(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seven(self: Any, ids: Any) -> Any:
        return self.tokenizer("seven", add_special_tokens=False)["input_ids"] if len(ids) == 1 else ()

    monkeypatch.setattr("toolkit.tasks.text_generation.constraints._Asked.forced", seven)
    answers = [
        client.chat.completions.create(model="", messages=said("one two"), max_tokens=2, extra_body=body)
        for body in ({"calculator": True}, {})
    ]
    assert [one.choices[0].message.content for one in answers] == ["three seven", "three"]


def test_a_seed_gives_the_same_answer_again(client: openai.OpenAI) -> None:
    def drawn(seed: int) -> str:
        found = client.chat.completions.create(
            model="", messages=said("one two"), temperature=2.0, seed=seed, max_tokens=4
        )
        return found.choices[0].message.content or ""

    assert drawn(7) == drawn(7)
    assert len({drawn(seed) for seed in range(12)}) > 1


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"echo": True}, "echo"), ({"top_k": 5}, "top_k"), ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_and_named(
    server: tuple[str, str], more: Mapping[str, Any], named: str
) -> None:
    answer = ask(server, {"messages": said("one two"), **more})
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        400,
        f"{named} is not understood here. Leave it out.",
    )


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"type": "json_object"}, "this model's tokens follow no grammar"),
        ({"type": "json_schema"}, "response_format has no json_schema"),
        ({"type": "yaml"}, "'text', 'json_object' or 'json_schema'"),
    ],
)
def test_a_format_that_cannot_be_kept_to_is_refused(server: tuple[str, str], stated: Any, says: str) -> None:
    answer = ask(server, {"messages": said("one two"), "response_format": stated})
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_a_format_as_the_real_client_sends_it_is_a_grammar() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    manner = Manner("b-1", "counter", "", 8)
    for stated, wanted in (
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}, schema),
    ):
        body = ChatRequest.model_validate({"messages": said("one"), "response_format": stated})
        grammar = body.asked(manner.request)[0].grammar
        assert (grammar and json.loads(grammar.rules)) == wanted


def ask(server: tuple[str, str], body: Mapping[str, Any] | bytes) -> httpx.Response:
    url, key = server
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return httpx.post(f"{url}/v1/chat/completions", content=content, headers=headers, timeout=20)


def test_fields_that_ask_for_nothing_are_no_matter(server: tuple[str, str]) -> None:
    body = {"messages": said("one two"), "n": 1, "stop": None, "tools": [], "user": "somebody", "presence_penalty": 0.0}
    assert ask(server, body).json()["choices"][0]["message"]["content"] == "three"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []}, {"messages": [{"role": "robot", "content": "x"}]}, {"messages": said("one"), "max_tokens": 0},
        {"messages": said("one"), "temperature": -1}, {"messages": said("one"), "seed": "x"}, {}, b"{", b"[]",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]}]},
    ],
)  # fmt: skip
def test_a_request_that_is_none_is_named(server: tuple[str, str], body: Any) -> None:
    answer = ask(server, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (said("one </s> two"), "spells </s>"),
        (said("one " * 100), "are more than the model's 64"),
        ([*said("one"), {"role": "assistant", "content": "two"}], "nothing to answer"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_cannot_answer_is_refused_before_anything_is_written(
    server: tuple[str, str], messages: list[Any], told: str, stream: bool
) -> None:
    answer = ask(server, {"messages": messages, "stream": stream})
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]


def test_many_clients_are_answered_each_with_its_own(server: tuple[str, str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from counting_parts import NUMBERS, after

    def one(word: str) -> str:
        return str(ask(server, {"messages": said(f"one {word}")}).json()["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, NUMBERS * 3)) == [after(word) for word in NUMBERS * 3]


def test_decrypted_copies_are_wiped_and_the_model_no_longer_needs_them(compiled: Path) -> None:
    files = sealed(compiled)
    predictor = open_installed(files, FACTS, 1)
    assert set(files.forgotten) == {"model", "generation", "tokenizer"}
    files.data["model"] = b""
    prove(predictor, files.read("golden"))


def test_nothing_of_a_model_is_written_to_disk(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    predictor = open_installed(sealed(compiled), FACTS, 1)
    prove(predictor, (compiled / "golden.json").read_bytes())
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_answers_otherwise_than_when_it_was_released_is_refused(compiled: Path) -> None:
    predictor = open_installed(sealed(compiled), FACTS, 1)
    golden = json.loads((compiled / "golden.json").read_bytes())
    golden[0]["answer"][0] = (golden[0]["answer"][0] + 1) % 20
    with pytest.raises(EnvironmentUnfit, match="does not answer here as it did"):
        prove(predictor, json.dumps(golden).encode())


@pytest.mark.parametrize("golden", [b"", b"{}", b"[3]", b'[{"prompt": ["x"], "answer": []}]', b'[{"prompt": [1]}]'])
def test_a_golden_file_that_is_none_is_refused(compiled: Path, golden: bytes) -> None:
    predictor = open_installed(sealed(compiled), FACTS, 1)
    with pytest.raises(IntegrityError):
        prove(predictor, golden)


@pytest.mark.parametrize("role", ["generation", "tokenizer"])
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"rules": {}, "chat_template": null}'])
def test_files_that_are_not_what_their_role_says_are_refused(compiled: Path, role: str, data: bytes) -> None:
    with pytest.raises(IntegrityError):
        open_installed(sealed(compiled, **{role: data}), FACTS, 1)


def test_a_client_that_leaves_frees_the_model(server: tuple[str, str]) -> None:
    url, key = server
    body = {"messages": said("one two"), "temperature": 2.0, "max_tokens": 40, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers={"X-API-Key": key}) as answer:
        next(answer.iter_raw())
    started = time.monotonic()
    assert ask(server, {"messages": said("one two")}).status_code == 200
    assert time.monotonic() - started < 5
