"""The journal of answers: nothing that was added is lost, nothing damaged is used, and one process writes at a time."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.distil import journal as module
from toolkit.distil.journal import JOURNAL, answer_key, open_journal
from toolkit.errors import DataError, EnvironmentUnfit, IntegrityError
from toolkit.text import Completion, Message, Prompt, TokenChoice, Usage

FULL = Completion(
    "p", "答案是 42 👋\n\u2028\0", "length", Usage(7, 9), 0.001234, "想一想",
    (TokenChoice("四", -0.5, (("四", -0.5), ("4", -1.25))),),
)  # fmt: skip
PLAIN = Completion("q", "yes")


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def lines(folder: Path) -> list[bytes]:
    return (folder / JOURNAL).read_bytes().splitlines(keepends=True)


def fill(folder: Path, count: int) -> None:
    with open_journal(folder) as journal:
        for number in range(count):
            journal.add(key(number), replace(PLAIN, text=f"answer {number}", cost=number), {"messages": []})


def test_an_answer_comes_back_as_it_was_added(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.add(key(0), FULL, {"teacher": {"name": "http"}, "messages": [{"role": "user", "content": "问"}]})
        journal.add(key(1), PLAIN, {})
        assert journal.get(key(0)) == FULL
    with open_journal(tmp_path) as journal:
        assert (journal.get(key(0)), journal.get(key(1)), len(journal)) == (FULL, PLAIN, 2)
        assert key(1) in journal
        assert key(2) not in journal
        assert journal.cost([key(0), key(1), key(2)]) == pytest.approx(0.001234)
        with pytest.raises(KeyError):
            journal.get(key(2))


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), st.floats(0, 1e9))
@settings(max_examples=20, deadline=None)
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str, reasoning: str, cost: float) -> None:
    answer = Completion("p", text, reasoning=reasoning, cost=cost)
    folder = tmp_path_factory.mktemp("journal")
    with open_journal(folder) as journal:
        journal.add(key(0), answer, {})
    with open_journal(folder) as journal:
        assert journal.get(key(0)) == answer


def test_the_file_is_json_lines_that_others_can_read_and_nobody_else_may(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.add(key(0), FULL, {"teacher": {"name": "http"}, "sample": 0})
    [line] = lines(tmp_path)
    record = json.loads(line)
    assert (record["answer"]["text"], record["teacher"]["name"]) == (FULL.text, "http")
    assert record["sum"] == hashlib.sha256(line[: line.rindex(b',"sum"')]).hexdigest()[:16]
    assert (tmp_path / JOURNAL).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("torn", [1, 10, 100])
def test_a_last_line_that_a_crash_tore_is_cut_off_and_written_anew(torn: int, tmp_path: Path) -> None:
    fill(tmp_path, 3)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole[:-torn])
    with open_journal(tmp_path) as journal:
        assert len(journal) == 2
        journal.add(key(2), replace(PLAIN, text="answer 2", cost=2), {"messages": []})
    assert (tmp_path / JOURNAL).read_bytes() == whole


def test_zeros_after_a_power_cut_are_cut_off(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + bytes(5000))
    with open_journal(tmp_path) as journal:
        assert len(journal) == 2
    assert (tmp_path / JOURNAL).read_bytes() == whole


@pytest.mark.parametrize("change", [lambda line: line.replace(b"answer 1", b"answer 7"), lambda _: b"\n"])
def test_a_line_that_was_changed_is_named(change: object, tmp_path: Path) -> None:
    fill(tmp_path, 3)
    parts = lines(tmp_path)
    parts[1] = change(parts[1])  # type: ignore[operator]
    (tmp_path / JOURNAL).write_bytes(b"".join(parts))
    with pytest.raises(IntegrityError, match="line 2 of"), open_journal(tmp_path):
        pass


def test_without_the_damaged_line_the_others_are_still_there(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    first, _, third = lines(tmp_path)
    (tmp_path / JOURNAL).write_bytes(first + third)
    with open_journal(tmp_path) as journal:
        assert [key(number) in journal for number in range(3)] == [True, False, True]
        assert journal.get(key(2)).text == "answer 2"


def test_two_processes_do_not_write_at_once(tmp_path: Path) -> None:
    with open_journal(tmp_path), pytest.raises(EnvironmentUnfit, match="in use"), open_journal(tmp_path):
        pass


def test_who_adds_to_a_closed_journal_writes_nowhere(tmp_path: Path) -> None:
    """A thread that outlives the journal must not write to whatever file has its number now."""
    with open_journal(tmp_path) as journal:
        journal.add(key(0), PLAIN, {})
    with (tmp_path / "other").open("w+b") as other:
        with pytest.raises(EnvironmentUnfit, match="cannot write"):
            journal.add(key(1), PLAIN, {})
        assert other.read() == b""
    with pytest.raises(OSError, match="descriptor"):
        journal.get(key(0))


def test_a_killed_process_loses_no_answer_it_had_added(tmp_path: Path) -> None:
    """kill -9 while it adds as fast as it can: every answer it had told of is there."""
    code = (
        "import hashlib, sys, pathlib\n"
        "from toolkit.distil.journal import open_journal\n"
        "from toolkit.text import Completion\n"
        "with open_journal(pathlib.Path(sys.argv[1])) as journal:\n"
        "    for number in range(10**9):\n"
        "        key = hashlib.sha256(str(number).encode()).hexdigest()\n"
        "        journal.add(key, Completion('p', 'x' * 1000), {})\n"
        "        print(number, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while int(child.stdout.readline()) < 200:
        pass
    child.send_signal(signal.SIGKILL)
    told = [200, *map(int, child.stdout.read().split())][-1]
    child.wait()
    child.stdout.close()
    with open_journal(tmp_path) as journal:
        assert all(key(number) in journal for number in range(told + 1))
        assert len(journal) <= told + 2


def test_a_disk_that_is_full_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    whole = (tmp_path / JOURNAL).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limit[1]))
    try:
        with pytest.raises(EnvironmentUnfit, match="cannot write") as failed, open_journal(tmp_path) as journal:
            journal.add(key(1), PLAIN, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert "what was answered is kept" in failed.value.hint
    assert (tmp_path / JOURNAL).read_bytes() == whole


def test_lines_are_forced_to_the_disk_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there when the disk was last asked, seen from outside: 64 lines at a time, or those a second old."""
    forced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(JOURNAL):
            forced.append(len(lines(tmp_path)))

    monkeypatch.setattr(module.os, "fsync", fsync)
    monkeypatch.setattr(module, "FLUSH_S", 0.2)
    with open_journal(tmp_path) as journal:
        for number in range(70):
            journal.add(key(number), PLAIN, {})
        time.sleep(0.25)
        journal.add(key(70), PLAIN, {})
        journal.add(key(71), PLAIN, {})
    assert forced[0] == 64
    assert forced[-2:] == [71, 72]


def test_a_key_depends_on_teacher_sampling_messages_and_sample_and_not_on_the_id() -> None:
    prompt = Prompt("p", (Message("user", "问"),))
    keys = {
        answer_key("a" * 64, {"temperature": 0.5}, prompt),
        answer_key("b" * 64, {"temperature": 0.5}, prompt),
        answer_key("a" * 64, {"temperature": 0.6}, prompt),
        answer_key("a" * 64, {"temperature": 0.5}, replace(prompt, sample=1)),
        answer_key("a" * 64, {"temperature": 0.5}, replace(prompt, messages=(Message("system", "问"),))),
    }
    assert len(keys) == 5
    assert answer_key("a" * 64, {"temperature": 0.5}, replace(prompt, id="q")) in keys


def test_a_prompt_that_is_no_unicode_is_named() -> None:
    with pytest.raises(DataError, match="the prompt p holds half a character"):
        answer_key("a" * 64, {}, Prompt.of("p", "\ud83d"))
