"""A student learns while its teacher, a server, still answers: it takes as long as the longer of the two, it ends as if
all answers had been there, and no answer is lost or paid twice."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from chat_parts import OtherProcess, free_port, wait_until
from text_line_parts import student_config, text_domain, write_rows

from toolkit.workspace import file_digest

from .conftest import Shell, assignments

PROMPTS = 48
OUTAGE_S = 20.0


@dataclass(frozen=True)
class Class:
    """Prompts that nobody has answered yet, a student to train on the answers, and the server that gives them."""

    folder: Path
    server: OtherProcess

    def shell(self, name: str) -> Shell:
        home = self.folder / name
        home.mkdir()
        path = [str(self.folder / "domain"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return Shell(home, {"PYTHONPATH": os.pathsep.join(path)})

    def arguments(self, until: str, *more: str) -> Sequence[object]:
        settings = (
            f"teacher_http.url={self.server.url}", "teacher_http.model=m", "teacher_http.licence=MIT",
            "teacher_http.concurrency=1", f"student.checkpoint={self.folder / 'student'}", "recipe.teacher_weight=0",
            "recipe.epochs=1", "recipe.batch_size=4", "recipe.baseline=false", "compute.threads=1", *more,
        )  # fmt: skip
        lot = self.folder / "lot"
        return (
            "deploy", "--domain", "letters", "--data", lot, "--teacher", "http", "--until", until,
            *assignments(settings),
        )  # fmt: skip

    def weights(self, shell: Shell) -> str:
        (weights,) = (shell.home / "store" / "student").glob("*/student/model.safetensors")
        return file_digest(weights)


def class_of(folder: Path, prompts: int, delay: float, **sizes: int) -> Class:
    text_domain(folder / "domain")
    student_config(folder / "student", **sizes)
    asked = [{"prompt": f"What comes after {number}?"} for number in range(prompts)]
    known = [{"prompt": f"And after {number}?", "completion": f"answer to {number}"} for number in range(8)]
    write_rows(folder / "lot" / "train.jsonl", asked)
    write_rows(folder / "lot" / "validation.jsonl", known[:4])
    write_rows(folder / "lot" / "test.jsonl", known[4:])
    return Class(folder, OtherProcess(free_port(), folder / "paid", delay))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Class]:
    found = class_of(tmp_path, PROMPTS, 0.02)
    found.server.start()
    yield found
    found.server.kill()


def test_a_student_beside_its_teacher_ends_as_after_it(small: Class) -> None:
    beside, after = small.shell("beside"), small.shell("after")
    together = beside.ask(*small.arguments("distil"))
    assert len(small.server.paid) == PROMPTS
    after.run(*small.arguments("label"))
    assert not (after.home / "store" / "student").exists()
    assert len(small.server.paid) == 2 * PROMPTS
    apart = after.ask(*small.arguments("distil"))
    assert small.weights(beside) == small.weights(after)
    stages = [[(stage["name"], stage["digest"]) for stage in record["stages"]] for record in (together, apart)]
    assert stages[0] == stages[1]
    assert [stage["state"] for stage in apart["stages"]] == ["kept", "kept", "done"]
    assert len(small.server.paid) == 2 * PROMPTS, "what was answered once is not asked again"


@pytest.mark.crash
def test_a_run_that_is_killed_beside_its_teacher_goes_on(small: Class) -> None:
    shell, alone = small.shell("killed"), small.shell("alone")
    running = subprocess.Popen(
        shell.command(*small.arguments("distil")), env=shell.environment(), cwd=shell.home,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: len(small.server.paid) >= PROMPTS // 3, 60)
    running.kill()
    running.wait()
    shell.run(*small.arguments("distil"))
    # The one answer under way when the run was killed was paid for and never received
    assert PROMPTS <= len(small.server.paid) <= PROMPTS + 1
    alone.run(*small.arguments("distil"))
    assert small.weights(shell) == small.weights(alone)


@pytest.mark.slow
def test_labelling_and_training_take_as_long_as_the_longer_of_the_two(tmp_path: Path) -> None:
    found = class_of(tmp_path, 240, 0.15, hidden_size=128, intermediate_size=256)
    found.server.start()
    seconds: dict[str, float] = {}
    after = found.shell("after")
    runs = (("beside", found.shell("beside"), "distil"), ("label", after, "label"), ("distil", after, "distil"))
    for name, shell, until in runs:
        started = time.monotonic()
        shell.run(*found.arguments(until))
        seconds[name] = time.monotonic() - started
    found.server.kill()
    print({name: round(value, 1) for name, value in seconds.items()})
    assert seconds["beside"] <= 1.15 * max(seconds["label"], seconds["distil"])


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while_costs_no_answer(tmp_path: Path) -> None:
    found = class_of(tmp_path, 120, 0.15)
    found.server.start()
    shell, alone = found.shell("disturbed"), found.shell("alone")
    with subprocess.Popen(
        shell.command(*found.arguments("distil")), env=shell.environment(), cwd=shell.home,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        wait_until(lambda: len(found.server.paid) >= 40, 120)
        found.server.kill()
        time.sleep(OUTAGE_S)
        found.server.start()
        assert running.wait(300) == 0
    # The one answer that the server was at work on when it died was paid for, and nobody received it
    assert len(set(found.server.paid)) == 120
    assert len(found.server.paid) <= 121
    alone.run(*found.arguments("distil"))
    assert found.weights(shell) == found.weights(alone)
    found.server.kill()
