"""The conformance suite of teachers of text passes ours, and finds each broken promise by its own message."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_parts import Chat, chat_server
from text_parts import Eager, Fickle, Forgetful, Lingering, Oracle, Swallowing, Torch

from toolkit.plan import Plan
from toolkit.resolve import Layer, resolve
from toolkit.testing import text_teachers
from toolkit.testing.text_teachers import check_text_teacher
from toolkit.text import Prompt, TokenChoice
from toolkit_teacher_http import HttpSettings, HttpTeacher
from toolkit_teacher_recorded import RecordedSettings, RecordedTeacher

PROMPTS = [Prompt.of(f"p{number}", f"问题 {number}") for number in range(8)]
PLAN = Plan(domain="mine")


def plan_of(table: str, section: type, **values: Any) -> Plan:
    return resolve([Layer("test", {"domain": "mine", table: values})], {table: section}).plan


def test_the_teacher_http_keeps_the_contract(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret-of-the-suite")
    with chat_server(Chat(delay=0.01)) as url:
        plan = plan_of("teacher_http", HttpSettings, url=url, model="m", api_key_file=tmp_path / "key", licence="MIT")
        check_text_teacher(HttpTeacher(), plan, PROMPTS, secret="sk-secret-of-the-suite")


def test_the_teacher_http_with_log_probabilities_keeps_the_contract() -> None:
    token = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -0.5}]}
    with chat_server(Chat(extra={"choice": {"logprobs": {"content": [token]}}})) as url:
        plan = plan_of("teacher_http", HttpSettings, url=url, model="m", top_logprobs=1)
        check_text_teacher(HttpTeacher("http-logprobs", gives=frozenset({"text", "response"})), plan, PROMPTS)


def test_the_teacher_recorded_keeps_the_contract(tmp_path: Path) -> None:
    lines = [json.dumps({"id": prompt.id, "completion": "好"}) for prompt in PROMPTS]
    (tmp_path / "answers.jsonl").write_text("\n".join(lines))
    plan = plan_of("teacher_recorded", RecordedSettings, path=tmp_path / "answers.jsonl")
    check_text_teacher(RecordedTeacher(), plan, PROMPTS)


def test_the_teacher_program_keeps_the_contract() -> None:
    pytest.importorskip("reasoning_gym", reason="it needs a C compiler to install")
    program = pytest.importorskip("toolkit_teacher_program")
    plan = plan_of("teacher_program", program.ProgramSettings, tasks=["chain_sum", "leg_counting"], size=4)
    check_text_teacher(program.ProgramTeacher(), plan, program.ProgramTeacher().prompts(plan))


def test_a_teacher_that_keeps_the_contract_passes() -> None:
    check_text_teacher(Oracle(), PLAN, PROMPTS)


BROKEN: dict[str, Callable[[], Oracle]] = {
    "no name to type": lambda: Oracle(name="My Teacher"),
    "does not teach text_generation": lambda: Oracle(tasks=frozenset({"image_classification"})),
    "gives no text": lambda: Oracle(gives=frozenset({"response"})),
    "gives what no recipe knows": lambda: Oracle(gives=frozenset({"text", "advice"})),
    "without a licence": lambda: Oracle(licence=""),
    "SHA-256 in hexadecimal": lambda: Oracle(fingerprinted="abc"),
    "both are stable": Fickle,
    "in another process": Torch,
    "each prompt is answered once": Forgetful,
    "answers what it has read while it waits": lambda: Oracle(batch=8),
    "answers what it has read": Eager,
    "reaches who asked": Swallowing,
    "leaves threads behind: lingering": Lingering,
    "finish is one of stop": lambda: Oracle(changes={"finish": "tool_calls"}),
    "is not empty": lambda: Oracle(changes={"text": ""}),
    "a cost of": lambda: Oracle(changes={"cost": math.nan}),
    "likeliest tokens": lambda: Oracle(gives=frozenset({"text", "response"})),
    "no log-probabilities": lambda: Oracle(changes={"top_logprobs": (TokenChoice("a", 0.5),)}),
}


@pytest.mark.parametrize("says", BROKEN)
def test_a_broken_teacher_is_found_out(says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_teachers, "SETTLE_S", 0.1)
    with pytest.raises(AssertionError, match=says):
        check_text_teacher(BROKEN[says](), PLAN, PROMPTS)


def test_a_key_that_shows_is_found_out() -> None:
    with pytest.raises(AssertionError, match="the key shows"):
        check_text_teacher(Oracle(changes={"text": "your key is sk-1"}), PLAN, PROMPTS, secret="sk-1")
