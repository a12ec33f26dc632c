"""The trail of inferences: what was signed for cannot be altered unseen, and what a crash leaves is taken up."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from seal_parts import make_home

from toolkit.errors import EnvironmentUnfit, IntegrityError
from toolkit.site import inferences
from toolkit.site.inference_chain import FOLDER, Checked, find, latest, segments, verify
from toolkit.site.inferences import InferenceLog
from toolkit.site.layout import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_home(tmp_path / "home").site()


def log_of(site: Site, **kept: int) -> InferenceLog:
    kept = {"keep_bytes": 10**9, "keep_days": 400} | kept
    log = InferenceLog(site.path / FOLDER, lambda: site.audit, **kept)
    log.begin()
    return log


def ask(log: InferenceLog, *names: str) -> None:
    for name in names:
        log.append({"request_id": name, "key": "line-1", "verdicts": ["böse"]})


def checked(site: Site) -> Checked:
    return verify(site.path / FOLDER, site.audit.read())


def only_file(site: Site) -> Path:
    ((part,),) = segments(site.path / FOLDER).values()
    return part.path


def test_lines_are_chained_signed_for_and_found(site: Site) -> None:
    log = log_of(site)
    ask(log, "a", "b", "c")
    assert checked(site) == Checked(streams=1, lines=3, unsealed=3, removed=0)
    log.seal()
    log.seal()  # nothing new: nothing is signed
    ask(log, "d")
    log.close()
    assert checked(site) == Checked(streams=1, lines=4, unsealed=0, removed=0)
    assert [e.event for e in site.audit.entries()][-3:] == [
        "inferences.begun", "inferences.sealed", "inferences.sealed"
    ]  # fmt: skip
    assert [one["request_id"] for one in latest(log.folder)] == ["d", "c", "b", "a"]
    assert find(log.folder, "b", within=10)["sequence"] == 2
    assert find(log.folder, "z", within=10) is None
    assert only_file(site).stat().st_mode & 0o777 == 0o600


def edited(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b"line-1", b"line-2"), *lines[2:]]


@pytest.mark.parametrize(
    ("tamper", "where"),
    [
        (edited, "line 3 does not follow"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 does not follow"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 does not follow"),
        (lambda lines: lines[:-1], "ends after line 3: 4 were signed for"),
        (lambda lines: [*lines[:-1], lines[-1][:-20]], "ends after line 3"),
        (lambda lines: [], "ends after line 0"),
        (lambda lines: [lines[0], *lines], "line 2 does not follow"),
        (lambda lines: [lines[0], b"[]\n", *lines[2:]], "line 2 cannot be read"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"line-1", b"line-2")], "line 4 is not the one"),
    ],
)
def test_whatever_is_altered_is_found(site: Site, tamper: Callable[[list[bytes]], list[bytes]], where: str) -> None:
    log = log_of(site)
    ask(log, "a", "b", "c", "d")
    log.close()
    path = only_file(site)
    path.write_bytes(b"".join(tamper(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(IntegrityError, match=where):
        checked(site)


def test_a_rewritten_chain_a_missing_stream_and_a_foreign_one_are_found(site: Site, tmp_path: Path) -> None:
    log = log_of(site)
    ask(log, "a", "b")
    log.close()
    path = only_file(site)
    whole = path.read_bytes()
    other = InferenceLog(tmp_path / "other", lambda: site.audit, keep_bytes=1, keep_days=1)
    other._open(1)
    ask(other, "x", "y")  # as good a chain as ours, but not the one that was signed for
    forged = next((tmp_path / "other").iterdir())
    path.write_bytes(forged.read_bytes())
    with pytest.raises(IntegrityError, match="line 2 is not the one"):
        checked(site)
    path.unlink()
    with pytest.raises(IntegrityError, match="ends after line 0"):
        checked(site)
    path.write_bytes(whole)
    checked(site)
    (path.parent / forged.name).write_bytes(forged.read_bytes())
    with pytest.raises(IntegrityError, match="the trail does not know it"):
        checked(site)


def test_segments_turn_over_and_the_oldest_go_and_that_is_signed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inferences, "SEGMENT_BYTES", 1000)
    log = log_of(site, keep_bytes=2500)
    ask(log, *(f"r{number}" for number in range(40)))
    log.seal()
    before = len(segments(log.folder)[log.stream])
    log.clear()
    found = checked(site)
    assert len(segments(log.folder)[log.stream]) < before
    assert (found.lines + found.removed, found.unsealed) == (40, 0)
    assert found.removed > 20
    parts = segments(log.folder)[log.stream]
    assert sum(part.path.stat().st_size for part in parts) <= 2500
    assert next(iter(latest(log.folder)))["request_id"] == "r39"
    log.close()
    parts[0].path.unlink()  # nobody signed for this one's going
    with pytest.raises(IntegrityError, match="are missing"):
        checked(site)


def test_what_is_too_old_goes_but_never_what_is_being_written(site: Site) -> None:
    old, now = log_of(site), log_of(site, keep_days=3)
    ask(old, "a")
    ask(now, "b")
    for parts in segments(old.folder).values():
        os.utime(parts[0].path, (time.time() - 4 * 86400,) * 2)
    now.clear()
    assert checked(site).removed == 0
    old.close()
    now.clear()
    assert [one["request_id"] for one in latest(old.folder)] == ["b"]
    assert checked(site) == Checked(streams=2, lines=1, unsealed=1, removed=1)


WRITER = """
import os, sys
from pathlib import Path
from toolkit.site.inferences import InferenceLog
from toolkit.site.layout import open_site
site = open_site(Path(sys.argv[1]))
log = InferenceLog(site.path / "inferences", lambda: site.audit, keep_bytes=10**9, keep_days=9)
log.begin()
for number in range(50):
    log.append({"request_id": f"r{number}", "key": "k"})
    if number == 20:
        log.seal()
print("ready", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_writer_left_is_signed_for_by_the_next(site: Site) -> None:
    command = [sys.executable, "-c", WRITER, str(site.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        log = log_of(site)
        log.adopt()  # it is alive: its stream is its own
        assert checked(site).unsealed == 29
        writer.kill()
    with only_of(site, log).open("ab") as file:
        file.write(b'{"sequence": 51, "previ')  # killed in the middle of a line
    log.adopt()
    assert checked(site) == Checked(streams=2, lines=50, unsealed=0, removed=0)


def only_of(site: Site, other: InferenceLog) -> Path:
    return next(p[0].path for s, p in segments(site.path / FOLDER).items() if s != other.stream)


def test_where_the_disk_is_full_the_line_waits_and_the_next_answer_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(site)
    ask(log, "a")
    real, full = os.write, True

    def write(file: int, data: bytes) -> int:
        if full and data.startswith(b'{"sequence"'):
            real(file, data[:10])
            return 10
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    ask(log, "b")
    with pytest.raises(EnvironmentUnfit, match=os.strerror(errno.ENOSPC)):
        log.check()
    full = False
    log.check()
    ask(log, "c")
    log.close()
    assert checked(site).lines == 3
    assert [json.loads(line)["request_id"] for line in only_file(site).read_text().splitlines()] == ["a", "b", "c"]
