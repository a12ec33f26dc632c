"""Programs that a model wrote: honest ones run to their end, hostile ones reach nothing and cost little."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from toolkit.benchmarks import sandbox
from toolkit.benchmarks.forms import program_of
from toolkit.benchmarks.reading import read_benchmark
from toolkit.benchmarks.sandbox import Sandbox
from toolkit.errors import EnvironmentUnfit

HUMANEVAL = Path(__file__).parents[3] / "shared" / "data" / "bench" / "humaneval"


@pytest.fixture
def box() -> Sandbox:
    found = Sandbox(seconds=3)
    try:
        found.check()
    except EnvironmentUnfit as error:
        pytest.skip(f"{error.message}: {error.hint}")
    return found


def test_what_runs_to_its_end_has_passed(box: Sandbox) -> None:
    assert box.run(["assert 1 + 1 == 2", "assert 1 + 1 == 3", "import math, re, collections; print('x')"]) == [
        sandbox.Ran(True), sandbox.Ran(False, "AssertionError"), sandbox.Ran(True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "def f(:",
        "raise SystemExit",
        "open('/usr/x', 'w')",
        "open('/etc/passwd').read()",
        "import os; os.listdir(os.environ['HOME'])",
        "import os; os.setuid(0)",
        "bytearray(3 << 30)",
        "open('/tmp/x', 'w').write('1' * (2 << 20))",
        "print('y' * 100_000_000)",
        "import os\nwhile True: os.fork()",
        "import socket; socket.create_connection(('1.1.1.1', 53), 2)",
        "import ctypes; ctypes.string_at(0)",
    ],
)
def test_a_hostile_program_fails(program: str, box: Sandbox) -> None:
    (ran,) = box.run([program])
    assert not ran.passed
    assert ran.because


def test_it_sees_neither_this_machines_network_nor_its_files(box: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    secret.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        programs = [
            f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
            f"open({str(secret)!r}).read()",
            f"open({str(Path(__file__))!r}).read()",
        ]
        assert [ran.passed for ran in box.run(programs)] == [False] * 3
    alone = "import os; assert os.getuid() == 65534 and len([p for p in os.listdir('/proc') if p.isdigit()]) < 4"
    assert box.run([alone])[0].passed


@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(60)"])
def test_one_that_never_ends_is_ended(program: str, box: Sandbox) -> None:
    started = time.monotonic()
    assert not box.run([program])[0].passed
    assert time.monotonic() - started < 20


def test_where_they_cannot_be_shut_in_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "BWRAP", "no-such-program")
    with pytest.raises(EnvironmentUnfit, match="cannot be shut in"):
        Sandbox().run([f"open({str(tmp_path / 'ran')!r}, 'w')"])
    assert not (tmp_path / "ran").exists()


def test_humanevals_own_solutions_all_pass_and_none_does_without_its_body(box: Sandbox) -> None:
    if not HUMANEVAL.is_dir():
        pytest.skip(f"{HUMANEVAL} is not here")
    import gzip
    import json

    questions = read_benchmark("humaneval", HUMANEVAL, Path()).questions
    rows = map(json.loads, gzip.decompress((HUMANEVAL / "HumanEval.jsonl.gz").read_bytes()).decode().splitlines())
    solutions = [row["canonical_solution"] for row in rows]
    box = Sandbox()
    right = box.run([program_of(one, text) for one, text in zip(questions, solutions, strict=True)])
    assert [one.id for one, ran in zip(questions, right, strict=True) if not ran.passed] == []
    assert not any(ran.passed for ran in box.run([program_of(one, "    pass\n") for one in questions]))
