"""What every teacher of text promises, as one check: `check_text_teacher(teacher, plan, prompts)`.

A teacher behind an endpoint is checked against a server of the test's own; the suite never knows which it has.
"""

from __future__ import annotations

import itertools
import json
import math
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import get_args

from toolkit.plan import Plan, Section
from toolkit.protocols import TeacherRecord
from toolkit.testing.teachers import CARRIERS, DISTILLATION, no_network
from toolkit.text import Completion, Finish, Prompt, Sampling
from toolkit.text_teachers import Answers, TextTeacher

SETTLE_S = 5.0
"""How long threads and requests may take to end once they were told to."""

APART = """
import pickle, sys
sys.path[:] = {path!r}
from toolkit.resolve import thaw
teacher, values, sections = pickle.loads(sys.stdin.buffer.read())
plan = thaw(values, sections)
told = [teacher.record(plan).id, teacher.fingerprint(plan)]
print(*told, *sorted({{"torch", "transformers"}} & set(sys.modules)), sep="|")
"""


class SourceFailed(Exception):
    """What the suite's own source of prompts raises."""


def check_text_teacher(teacher: TextTeacher, plan: Plan, prompts: Sequence[Prompt], *, secret: str = "") -> None:
    """Run the conformance suite of teachers of text.

    Args:
        plan: one in which the teacher can work.
        prompts: eight or more of different ids, which it can answer.
        secret: a key that the teacher uses, to be looked for where it must not be.

    Raises:
        AssertionError: naming the promise that is not kept.
    """
    assert len({prompt.id for prompt in prompts}) == len(prompts) >= 8, "the suite needs eight prompts or more"
    _check_names(teacher)
    with no_network():
        record, fingerprint = teacher.record(plan), teacher.fingerprint(plan)
        _check_record(record)
        assert re.fullmatch(r"[0-9a-f]{64}", fingerprint), "fingerprint() is a SHA-256 in hexadecimal"
        assert (teacher.record(plan), teacher.fingerprint(plan)) == (record, fingerprint), "both are stable"
        assert isinstance(teacher.sampling(plan), Sampling), "sampling() gives a Sampling"
        json.dumps(asdict(teacher.sampling(plan)), allow_nan=False)
        _check_apart(teacher, plan, record.id, fingerprint)
    before = set(threading.enumerate())
    teacher.check(plan, prompts)
    found = _check_answers(teacher, plan, prompts)
    _check_reading(teacher, plan, prompts)
    _check_leaving(teacher, plan, prompts, before)
    shown = [plan.model_dump_json(), repr(plan), repr(teacher), repr(record), fingerprint, repr(found)]
    assert not secret or not any(secret in text for text in shown), "the key shows in the plan, a record or an answer"


def _check_names(teacher: TextTeacher) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", teacher.name), f"{teacher.name!r} is no name to type"
    assert "text_generation" in teacher.tasks, f"{teacher.name} does not teach text_generation"
    assert "text" in teacher.gives, f"{teacher.name} gives no text"
    assert teacher.gives <= CARRIERS, f"{teacher.name} gives what no recipe knows: {teacher.gives - CARRIERS}"


def _check_record(record: TeacherRecord) -> None:
    assert record.id, "the record has an id"
    assert record.distillation in DISTILLATION, f"distillation is one of {sorted(DISTILLATION)}"
    assert record.licence or record.distillation == "unknown", "without a licence, distillation is unknown"


def _check_apart(teacher: TextTeacher, plan: Plan, name: str, fingerprint: str) -> None:
    """Licence and fingerprint are asked for at plan time: in a process of its own, torch must stay away."""
    tables = {key: type(getattr(plan, key)) for key in type(plan).model_fields if key not in Plan.model_fields}
    sections: dict[str, type[Section]] = {key: kind for key, kind in tables.items() if issubclass(kind, Section)}
    sent = pickle.dumps((teacher, plan.model_dump(mode="json"), sections))
    asked = subprocess.run(
        [sys.executable, "-c", APART.format(path=sys.path)], input=sent, capture_output=True, timeout=120
    )
    assert asked.returncode == 0, f"record() or fingerprint() failed in another process: {asked.stderr.decode()}"
    told = asked.stdout.decode().strip()
    assert told == f"{name}|{fingerprint}", f"record() and fingerprint() in another process: {told!r}"


def _check_answers(teacher: TextTeacher, plan: Plan, prompts: Sequence[Prompt]) -> Sequence[Completion]:
    found = list(teacher.answers(plan, iter(prompts)))
    assert sorted(answer.prompt_id for answer in found) == sorted(prompt.id for prompt in prompts), (
        "each prompt is answered once, under its id"
    )
    for answer in found:
        _check_completion(answer, with_choices="response" in teacher.gives)
    assert list(teacher.answers(plan, ())) == [], "no prompts, no answers"
    return found


def _check_completion(answer: Completion, *, with_choices: bool) -> None:
    assert isinstance(answer.text, str), f"an answer's text is a string, not a {type(answer.text).__name__}"
    assert answer.finish in get_args(Finish), f"finish is one of {', '.join(get_args(Finish))}, not {answer.finish!r}"
    assert answer.text or answer.finish != "stop", "an answer that ended by itself is not empty"
    assert math.isfinite(answer.cost) and answer.cost >= 0, f"a cost of {answer.cost}"  # noqa: PT018
    assert answer.usage is None or min(answer.usage.prompt_tokens, answer.usage.completion_tokens) >= 0, "tokens < 0"
    assert answer.top_logprobs or not with_choices, "who gives response gives the likeliest tokens of each"
    for choice in answer.top_logprobs:
        values = [choice.logprob, *(value for _, value in choice.top)]
        assert all(math.isfinite(value) and value <= 1e-6 for value in values), f"no log-probabilities: {values}"
    line = json.dumps(answer.as_record(), ensure_ascii=False, allow_nan=False).encode("utf-8")
    assert Completion.from_record(json.loads(line)) == answer, "an answer survives being written down"


def _check_reading(teacher: TextTeacher, plan: Plan, prompts: Sequence[Prompt]) -> None:
    """Prompts are read one by one and not ahead of who takes answers; what their source raises is raised again."""
    waiting = threading.Event()

    def held_back() -> Iterator[Prompt]:
        """The second prompt comes only once the first was answered."""
        yield prompts[0]
        assert waiting.wait(SETTLE_S * 4), "a teacher answers what it has read while it waits for more"
        yield prompts[1]

    answers = teacher.answers(plan, held_back())
    assert next(answers).prompt_id == prompts[0].id, "a teacher answers what it has read while it waits for more"
    waiting.set()
    assert next(answers).prompt_id == prompts[1].id, "a prompt that came late is answered too"
    assert _rest(answers, 1) == 0, "no more answers than prompts"

    def failing() -> Iterator[Prompt]:
        yield prompts[0]
        raise SourceFailed

    try:
        list(teacher.answers(plan, failing()))
    except SourceFailed:
        return
    raise AssertionError("what the source of prompts raises reaches who asked")


def _check_leaving(teacher: TextTeacher, plan: Plan, prompts: Sequence[Prompt], before: set[threading.Thread]) -> None:
    """Whoever has seen enough closes; then nothing more is read, and no thread stays behind."""
    read: list[Prompt] = []

    def counted() -> Iterator[Prompt]:
        for prompt in prompts:
            read.append(prompt)
            yield prompt

    answers = teacher.answers(plan, counted())
    next(answers)
    answers.close()
    seen = len(read)
    assert _rest(answers, seen) < seen, "after close() the answers end"
    answers.close()
    never_begun = teacher.answers(plan, counted())
    never_begun.close()
    deadline = time.monotonic() + SETTLE_S
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"close() leaves threads behind: {', '.join(thread.name for thread in left)}"
    assert len(read) == seen, "after close() no prompt is read"


def _rest(answers: Answers, most: int) -> int:
    """How many answers are left, counted no further than `most`."""
    return sum(1 for _ in itertools.islice(answers, most))
