"""The teacher `recorded`: answers found by id or text, and files that are not as they should be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from toolkit.distil.answers import answered
from toolkit.errors import DataError, PlanError, Refused
from toolkit.plan import Plan
from toolkit.resolve import Layer, resolve
from toolkit.stages.label import check_licence
from toolkit.text import Completion, Message, Prompt
from toolkit_teacher_recorded import RecordedSettings, RecordedTeacher

ADD = {"id": "add", "prompt": "2 + 2 等于几?", "completion": "4", "reasoning": "二加二"}


def plan_of(path: Path | None, **settings: str) -> Plan:
    table = settings if path is None else {"path": path, **settings}
    return resolve(
        [Layer("test", {"domain": "mine", "teacher_recorded": table})], {"teacher_recorded": RecordedSettings}
    ).plan


def write(folder: Path, *lines: dict[str, Any] | bytes, end: bytes = b"\n") -> Path:
    path = folder / "answers.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines]
    path.write_bytes(end.join(encoded))
    return path


def ask(path: Path, *prompts: Prompt) -> Sequence[Completion]:
    return list(RecordedTeacher().answers(plan_of(path), prompts))


def test_an_answer_is_found_by_id(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "other", "completion": "5"}, ADD)
    [answer] = ask(path, Prompt.of("add", "2 + 2 等于几?", system="Be brief."))
    assert answer == Completion("add", "4", reasoning="二加二")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n  \n"])
def test_an_answer_is_found_by_the_text_of_the_prompt(end: bytes, tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    by_prompt = {"prompt": "3 + 3?\n", "completion": "6", "source": "elsewhere"}
    with_mark = b"\xef\xbb\xbf" + json.dumps(by_prompt).encode()
    path = write(tmp_path, with_mark, {"messages": messages, "completion": "4"}, end=end)
    found = ask(path, Prompt.of("a", "2 + 2?", system="Be brief."), Prompt.of("b", "3 + 3?"))
    assert [(answer.prompt_id, answer.text) for answer in found] == [("a", "4"), ("b", "6")]


def test_a_number_is_an_id_too(tmp_path: Path) -> None:
    assert ask(write(tmp_path, {"id": 7, "completion": "x"}), Prompt.of("7", "?"))[0].text == "x"


def test_several_answers_to_one_prompt_are_its_samples_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, ADD, {**ADD, "completion": "four"})
    messages = (Message("user", ADD["prompt"]),)
    second, first = ask(path, Prompt("add", messages, 1), Prompt("add", messages, 0))
    assert (second.text, first.text) == ("four", "4")
    with pytest.raises(DataError, match=r"add \(answer 3\)"):
        ask(path, Prompt("add", messages, 2))


def test_prompts_without_an_answer_are_counted_and_named_before_anything_else(tmp_path: Path) -> None:
    prompts = [Prompt.of(f"p{number}", f"question {number}") for number in range(9)]
    path = write(tmp_path, {"id": "p4", "completion": "x"})
    with pytest.raises(DataError, match="8 of 9 prompts have no answer") as refused:
        RecordedTeacher().check(plan_of(path), prompts)
    assert "p0, p1, p2, p3, p5 and 3 more" in refused.value.message
    with pytest.raises(DataError, match="8 of 9"), answered(tmp_path / "j", RecordedTeacher(), plan_of(path), prompts):
        pass


def test_another_question_under_the_same_id_is_found_out(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "x", "completion": "y"}, ADD)
    with pytest.raises(DataError, match=r"line 2 of .* states another question"):
        ask(path, Prompt.of("add", "What is the capital of France?"))


BROKEN: dict[str, bytes] = {
    "line 2: Invalid JSON": b'{"id": "a", "completion": "x"',
    "line 2: Input should be an object": b"[1]",
    "line 2: completion: Field required": b'{"id": "a"}',
    "line 2: completion: String should have at least 1": b'{"id": "a", "completion": ""}',
    "line 2: completion: Input should be a valid string": b'{"id": "a", "completion": 7}',
    "line 2: messages.0.role: Field required": b'{"messages": [{"content": "?"}], "completion": "x"}',
    "line 2: it has neither id nor prompt nor messages": b'{"completion": "x"}',
    "line 2: Invalid JSON: invalid unicode": b'{"id": "\xff", "completion": "x"}',
}


@pytest.mark.parametrize("says", BROKEN)
def test_a_broken_line_is_named_by_its_number(says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        ask(write(tmp_path, ADD, BROKEN[says], ADD), Prompt.of("add", "2 + 2 等于几?"))


def test_many_broken_lines_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"7 broken lines: line 1: .*line 5: .*; and 2 more"):
        ask(write(tmp_path, *[b"{"] * 7), Prompt.of("add", "?"))


def test_the_fingerprint_is_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, ADD)
    assert RecordedTeacher().fingerprint(plan_of(path)) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_is_not_there_is_a_wrong_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="needs a file of answers"):
        RecordedTeacher().fingerprint(plan_of(None))
    with pytest.raises(PlanError, match="no file of answers at"):
        RecordedTeacher().fingerprint(plan_of(tmp_path / "nowhere"))


def test_the_licence_is_what_the_user_states(tmp_path: Path) -> None:
    path, teacher = write(tmp_path, ADD), RecordedTeacher()
    stated = teacher.record(plan_of(path, licence="CC-BY-4.0", author="DeepSeek-R1"))
    assert (stated.id, stated.licence, stated.distillation) == ("recorded:DeepSeek-R1", "CC-BY-4.0", "allowed")
    with pytest.raises(Refused):
        check_licence(plan_of(path), teacher)
