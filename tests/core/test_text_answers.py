"""Asking a teacher beside training: in order, only for what is missing; no answer is paid twice, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_parts import Chat, OtherProcess, chat_server, free_port, wait_until
from text_parts import Oracle

from toolkit.distil.answers import answered
from toolkit.distil.journal import JOURNAL
from toolkit.errors import DataError, EnvironmentUnfit, PlanError, PluginError, Refused
from toolkit.plan import Plan
from toolkit.resolve import Layer, resolve
from toolkit.text import Prompt
from toolkit_teacher_http import HttpSettings, HttpTeacher

CONCURRENCY = 4


PLAN = Plan(domain="mine")


def prompts(count: int) -> list[Prompt]:
    return [Prompt.of(f"p{number}", f"question {number}") for number in range(count)]


def test_answers_come_in_the_order_of_the_prompts_and_again_from_the_journal(tmp_path: Path) -> None:
    oracle, expected = Oracle(batch=5), [f"to question {number}" for number in range(12)]
    with answered(tmp_path, oracle, PLAN, prompts(12), ahead=10) as answers:
        assert [answer.text for answer in answers] == expected
        assert [answer.text for answer in answers] == expected, "a second epoch"
        assert (len(answers), answers.kept, answers.progress().done) == (12, 0, 12)
    with answered(tmp_path, oracle, PLAN, prompts(12)) as answers:
        assert [answer.text for answer in answers] == expected
        assert (answers.kept, answers.progress().total) == (12, 0)
    assert sorted(oracle.asked) == sorted(f"p{number}" for number in range(12))


def test_only_what_is_missing_is_asked_for_and_the_order_stays(tmp_path: Path) -> None:
    oracle = Oracle()
    with answered(tmp_path, oracle, PLAN, prompts(12)[2:9:3]) as answers:
        list(answers)
    with answered(tmp_path, oracle, PLAN, prompts(12)) as answers:
        assert [answer.prompt_id for answer in answers] == [f"p{number}" for number in range(12)]
        assert answers.kept == 3
    assert sorted(Counter(oracle.asked).values()) == [1] * 12
    assert oracle.spent == [0.0, 4.5], "what earlier runs spent on these prompts counts"


def test_half_an_epoch_then_a_whole_one(tmp_path: Path) -> None:
    oracle = Oracle()
    with answered(tmp_path, oracle, PLAN, prompts(10), ahead=4) as answers:
        first = iter(answers)
        assert [next(first).prompt_id for _ in range(3)] == ["p0", "p1", "p2"]
        assert [answer.prompt_id for answer in answers] == [f"p{number}" for number in range(10)]
    assert len(oracle.asked) == 10


def test_the_same_question_under_another_id_is_asked_once(tmp_path: Path) -> None:
    oracle, question = Oracle(), prompts(1)[0]
    with answered(tmp_path, oracle, PLAN, [question, replace(question, id="again")]) as answers:
        assert [answer.prompt_id for answer in answers] == ["p0", "again"]
        assert [answer.text for answer in answers] == ["to question 0"] * 2
    third, other = replace(question, id="third"), replace(question, id="x", sample=1)
    with answered(tmp_path, oracle, PLAN, [third, other]) as answers:
        assert [answer.prompt_id for answer in answers] == ["third", "x"]
    assert oracle.asked == ["p0", "x"], "another sample is another answer"


def test_another_teacher_answers_anew(tmp_path: Path) -> None:
    for oracle in (Oracle(), Oracle(fingerprinted="1" * 64)):
        with answered(tmp_path, oracle, PLAN, prompts(2)) as answers:
            list(answers)
        assert len(oracle.asked) == 2


def test_two_prompts_of_one_id_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="two prompts have the id p0"),
        answered(tmp_path, Oracle(), PLAN, prompts(1) * 2),
    ):
        pass


def test_what_can_be_known_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    oracle = Oracle()
    asked = [*prompts(3), Prompt.of("unanswerable", "?")]
    with pytest.raises(DataError, match="cannot be answered"), answered(tmp_path, oracle, PLAN, asked):
        pass
    assert oracle.asked == []


def test_a_teacher_that_answers_what_it_was_not_asked_is_found_out(tmp_path: Path) -> None:
    with (
        answered(tmp_path, Oracle(answer_as="other"), PLAN, prompts(2)) as answers,
        pytest.raises(PluginError, match="'other' unasked or twice"),
    ):
        list(answers)


def test_the_journal_says_who_was_asked_what_and_how(tmp_path: Path) -> None:
    with answered(tmp_path, Oracle(), PLAN, [Prompt.of("p", "问", system="答")]) as answers:
        list(answers)
    text = (tmp_path / JOURNAL).read_text(encoding="utf-8")
    for said in ('"name":"oracle"', '"licence":"MIT"', '"content":"问"', '"content":"答"', '"temperature":null'):
        assert said in text


# --- over HTTP ---------------------------------------------------------------------------------------------------


def plan_of(url: str, **settings: Any) -> Plan:
    table = {"url": url, "model": "m", "concurrency": CONCURRENCY, "backoff_s": 0.1, "max_retries": 8, **settings}
    layer = Layer("test", {"domain": "mine", "teacher_http": table})
    return resolve([layer], {"teacher_http": HttpSettings}).plan


def texts(folder: Path, plan: Plan, count: int) -> list[str]:
    with answered(folder, HttpTeacher(), plan, prompts(count)) as answers:
        return [answer.text for answer in answers]


def expected(count: int) -> list[str]:
    return [f"answer to question {number}" for number in range(count)]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[OtherProcess]:
    server = OtherProcess(free_port(), tmp_path / "paid.txt", delay=0.05)
    server.start()
    yield server
    server.kill()


def outage(other: OtherProcess, folder: Path, seconds: float, count: int, **settings: Any) -> None:
    """The server is killed once it has answered a third, and comes back after a while."""

    def interrupt() -> None:
        wait_until(lambda: len(other.paid) >= count // 3)
        other.kill()
        time.sleep(seconds)
        other.start()

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        found = texts(folder, plan_of(other.url, **settings), count)
    finally:
        interrupter.join()
    assert found == expected(count)
    paid = Counter(other.paid)
    assert len(paid) == count
    assert paid.total() <= count + CONCURRENCY, "only what was under way when the server died is asked for again"


def test_a_server_that_is_gone_for_a_while_costs_no_sample(other: OtherProcess, tmp_path: Path) -> None:
    outage(other, tmp_path / "journal", 2.0, 40)


@pytest.mark.slow
def test_a_server_that_is_gone_for_twenty_seconds_costs_no_sample(other: OtherProcess, tmp_path: Path) -> None:
    """With the retries and waits that the settings have by default."""
    outage(other, tmp_path / "journal", 20.0, 100, backoff_s=1.0)


RUN = """
import sys, pathlib
sys.path[:] = {path!r}
from test_text_answers import HttpTeacher, answered, plan_of, prompts
with answered(pathlib.Path(sys.argv[1]), HttpTeacher(), plan_of(sys.argv[2]), prompts(int(sys.argv[3]))) as answers:
    for answer in answers:
        print(answer.prompt_id, flush=True)
"""


def test_a_run_that_was_killed_asks_only_for_what_it_had_not_received(other: OtherProcess, tmp_path: Path) -> None:
    """kill -9 three times on the way, then to the end; what was under way at a kill may be paid again, nothing else."""
    folder, count, kills = tmp_path / "journal", 60, 3
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    for kill in range(1, kills + 1):
        command = [sys.executable, "-c", RUN.format(path=sys.path), str(folder), other.url, str(count)]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        wait_until(lambda kill=kill: len(other.paid) >= kill * count // 4)
        run.send_signal(signal.SIGKILL)
        run.wait()
    kept = (folder / JOURNAL).read_bytes().count(b"\n")
    assert kept >= count // 2
    before = len(other.paid)
    assert texts(folder, plan_of(other.url), count) == expected(count)
    assert len(other.paid) - before == count - kept
    assert len(other.paid) <= count + kills * CONCURRENCY
    assert texts(folder, plan_of(other.url), count) == expected(count)
    assert len(other.paid) - before == count - kept, "now nothing is asked at all"


def test_leaving_early_keeps_every_answer_that_was_paid_for(tmp_path: Path) -> None:
    chat = Chat(delay=0.1)
    with chat_server(chat) as url:
        with answered(tmp_path, HttpTeacher(), plan_of(url), prompts(50), ahead=12) as answers:
            for answer in answers:
                if answer.prompt_id == "p5":
                    break
        paid = len(chat.paid)
        assert paid <= 6 + 12
        assert texts(tmp_path, plan_of(url), 50) == expected(50)
    assert sorted(chat.paid) == sorted(f"question {number}" for number in range(50)), "each of them once"


def test_leaving_does_not_wait_for_an_answer_that_does_not_come(tmp_path: Path) -> None:
    chat = Chat(silent=("question 1", "question 2", "question 3"))
    with chat_server(chat) as url:
        with answered(tmp_path, HttpTeacher(), plan_of(url), prompts(4), grace_s=0.3) as answers:
            next(iter(answers))
            wait_until(lambda: len(chat.asked) == 4)
            began = time.monotonic()
        assert time.monotonic() - began < 3


def test_after_an_error_what_was_paid_for_is_kept(tmp_path: Path) -> None:
    chat = Chat(delay=0.05, faults=["", "", "", "", "", "status:401:no", "status:401:no"])
    with chat_server(chat) as url:
        with pytest.raises(PlanError, match="answers 401"):
            texts(tmp_path, plan_of(url), 30)
        chat.faults.clear()
        assert texts(tmp_path, plan_of(url), 30) == expected(30)
    assert sorted(Counter(chat.paid).values()) == [1] * 30


def test_a_budget_holds_over_all_runs_and_says_how_many_are_left(tmp_path: Path) -> None:
    """An answer costs 2 and may cost 3; with 10, four are bought, in however many runs."""
    chat = Chat()
    money = {"price_out": 1e5, "max_tokens": 30, "budget": 10.0}
    with chat_server(chat) as url:
        with answered(tmp_path, HttpTeacher(), plan_of(url, **money), prompts(12)[:2]) as answers:
            assert len(list(answers)) == 2
        for _ in range(2):
            with pytest.raises(Refused, match="8 of 10 USD are spent") as refused:
                texts(tmp_path, plan_of(url, **money), 12)
        assert "0 prompts were answered now, 8 are left" in refused.value.message
        assert len(chat.paid) == 4
        assert texts(tmp_path, plan_of(url, **money | {"budget": 100.0}), 12) == expected(12)
    assert len(chat.paid) == 12


def test_a_broken_server_is_reported_in_the_consumers_thread(tmp_path: Path) -> None:
    with chat_server(Chat(faults=["status:500:on fire"] * 99)) as url, pytest.raises(EnvironmentUnfit, match="on fire"):
        texts(tmp_path, plan_of(url, max_retries=1, backoff_s=0.01), 4)
