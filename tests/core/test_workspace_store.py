"""The store and its files: whole or not at all, for readers, for a crash, and for several processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from crash_parts import killed_at

from toolkit.errors import EnvironmentUnfit, IntegrityError
from toolkit.workspace import (
    MANIFEST,
    Workspace,
    canonical_json,
    digest_of,
    file_digest,
    folder_lock,
    write_file,
)

DIGEST = "ab" * 32
FACTS = {"rows": 3, "name": "größe"}


def fill(workspace: Workspace, text: str) -> None:
    scratch = workspace.scratch("thing", DIGEST)
    write_file(scratch / "part" / "data.bin", text.encode() * 1000)
    write_file(scratch / "more.bin", text.encode())


def commit(workspace: Workspace, text: str = "new") -> None:
    fill(workspace, text)
    workspace.commit("thing", DIGEST, parents=("p",), facts=FACTS | {"text": text})


def whole(workspace: Workspace) -> str | None:
    """What the artifact says it is, after a look at every part of it; None where there is none."""
    stored = workspace.find("thing", DIGEST)
    if stored is None:
        return None
    text: str = stored.facts["text"]
    assert (stored.path / "part" / "data.bin").read_bytes() == text.encode() * 1000
    assert (stored.path / "more.bin").read_bytes() == text.encode()
    assert (stored.kind, stored.digest, stored.parents) == ("thing", DIGEST, ("p",))
    return text


def test_an_artifact_is_found_again_by_a_later_process(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.find("thing", DIGEST) is None
    fill(workspace, "new")
    assert workspace.find("thing", DIGEST) is None
    stored = workspace.commit("thing", DIGEST, parents=("p",), facts=FACTS)
    assert Workspace(tmp_path).find("thing", DIGEST) == stored
    assert stored.facts == FACTS
    assert workspace.find("thing", "cd" * 32) is None
    assert workspace.find("other", DIGEST) is None


def test_a_commit_killed_anywhere_leaves_the_artifact_whole_or_not_there(tmp_path: Path) -> None:
    seen, point = set(), 0
    while True:
        point += 1
        workspace = Workspace(tmp_path / str(point))
        if not killed_at(point, lambda home=tmp_path / str(point): commit(Workspace(home))):  # type: ignore[misc]
            break
        seen.add(whole(workspace))
        commit(workspace)
        assert whole(workspace) == "new"
    assert seen == {None, "new"}
    assert point > 10


def test_replacing_an_artifact_killed_anywhere_leaves_one_of_both_or_none(tmp_path: Path) -> None:
    seen, point = set(), 0
    while True:
        point += 1
        workspace = Workspace(tmp_path / str(point))
        commit(workspace, "old")
        if not killed_at(point, lambda home=tmp_path / str(point): commit(Workspace(home))):  # type: ignore[misc]
            break
        seen.add(whole(workspace))
        commit(workspace)
        assert whole(workspace) == "new"
    assert {"old", "new"} <= seen <= {"old", "new", None}
    assert whole(workspace) == "new"


def test_scratch_is_taken_up_where_a_crash_left_it(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from toolkit.workspace import Workspace, write_file;"
        f"write_file(Workspace(Path(sys.argv[1])).scratch('thing', {DIGEST!r}) / 'shard-0', b'done'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == 9
    scratch = Workspace(tmp_path).scratch("thing", DIGEST)
    assert (scratch / "shard-0").read_bytes() == b"done"
    assert list(Workspace(tmp_path).scratch("thing", "cd" * 32).iterdir()) == []
    stored = Workspace(tmp_path).commit("thing", DIGEST, parents=(), facts={})
    assert (stored.path / "shard-0").read_bytes() == b"done"
    assert list(Workspace(tmp_path).scratch("thing", DIGEST).iterdir()) == []


def test_what_a_killed_write_left_is_not_in_the_artifact(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    scratch = workspace.scratch("thing", DIGEST)
    points = iter(range(1, 50))
    while not [path for path in scratch.rglob("*") if path.suffix == ".tmp"]:
        assert killed_at(next(points), lambda: write_file(scratch / "part" / "data.bin", b"old"))
    commit(workspace)
    assert whole(workspace) == "new"
    stored = workspace.find("thing", DIGEST)
    assert stored is not None
    assert sorted(path.name for path in stored.path.rglob("*") if path.is_file()) == [MANIFEST, "data.bin", "more.bin"]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"kind": "thing"}', b"[]", b"\xff\xfe", b'"text"'])
def test_a_damaged_manifest_is_named(tmp_path: Path, damage: bytes) -> None:
    workspace = Workspace(tmp_path)
    commit(workspace)
    manifest = next(tmp_path.rglob(MANIFEST))
    manifest.write_bytes(damage)
    with pytest.raises(IntegrityError, match="damaged") as caught:
        workspace.find("thing", DIGEST)
    assert caught.value.exit_code == 4
    assert str(manifest) in caught.value.message
    assert "Remove" in caught.value.hint


def test_facts_that_json_cannot_hold_are_refused_and_nothing_is_committed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fill(workspace, "new")
    with pytest.raises(ValueError, match="JSON"):
        workspace.commit("thing", DIGEST, parents=(), facts={"loss": float("nan")})
    assert workspace.find("thing", DIGEST) is None


def test_a_home_that_cannot_be_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnfit, match="toolkit home") as caught:
        Workspace(tmp_path / "file" / "home")
    assert "TOOLKIT_HOME" in caught.value.hint


def test_readers_see_the_old_file_or_the_new_one_never_a_part(tmp_path: Path) -> None:
    path, size, stop = tmp_path / "state", 200_000, threading.Event()
    write_file(path, b"0" * size)
    wrong: list[bytes] = []

    def read() -> None:
        while not stop.is_set():
            data = path.read_bytes()
            if len(data) != size or len(set(data)) != 1:
                wrong.append(data[:20])

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for value in range(60):
            write_file(path, str(value % 10).encode() * size)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_writers_at_once_leave_one_of_their_files(tmp_path: Path) -> None:
    path = tmp_path / "state"
    writers = [
        threading.Thread(target=lambda v=v: [write_file(path, v * 50_000) for _ in range(20)])  # type: ignore[misc]
        for v in (b"a", b"b")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_bytes() in (b"a" * 50_000, b"b" * 50_000)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_write_file_killed_anywhere_keeps_the_old_file_or_has_the_new_one(tmp_path: Path) -> None:
    path, seen, point = tmp_path / "state", set(), 0
    while True:
        point += 1
        write_file(path, b"old" * 1000)
        if not killed_at(point, lambda: write_file(path, b"new" * 1000)):
            break
        seen.add(path.read_bytes())
    assert seen <= {b"old" * 1000, b"new" * 1000}
    assert path.read_bytes() == b"new" * 1000


def test_a_file_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").write_text("")
    with pytest.raises(EnvironmentUnfit, match="cannot write"):
        write_file(tmp_path / "taken", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_written_file_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    write_file(tmp_path / "secret", b"x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


HOLDER = """
import sys, time
from pathlib import Path
from toolkit.workspace import folder_lock
with folder_lock(Path(sys.argv[1]), purpose="hold it"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with hold(tmp_path / "store") as holder:
        with (
            pytest.raises(EnvironmentUnfit, match="in use by another process") as caught,
            folder_lock(tmp_path / "store", purpose="run the line"),
        ):
            pass
        assert caught.value.exit_code == 5
        assert "run the line" in caught.value.message
        holder.communicate("\n", timeout=30)
        with folder_lock(tmp_path / "store", purpose="run the line"):
            pass


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        holder.kill()
        holder.wait(timeout=30)
        with folder_lock(tmp_path, purpose="go on"):
            pass


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        ending = threading.Timer(0.3, holder.terminate)
        ending.start()
        started = time.monotonic()
        with folder_lock(tmp_path, purpose="wait", wait=30):
            waited = time.monotonic() - started
        ending.join()
    assert 0.1 < waited < 30


def test_a_lock_is_given_back_when_its_work_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), folder_lock(tmp_path, purpose="fail"):
        raise KeyError
    with folder_lock(tmp_path, purpose="again"):
        pass


def test_canonical_json_is_one_string_for_one_value() -> None:
    one = {"b": [1, 2.5, None, True], "a": {"ü": "→", "x": ""}}
    other = {"a": {"x": "", "ü": "→"}, "b": [1, 2.5, None, True]}
    assert canonical_json(one) == canonical_json(other) == '{"a":{"x":"","ü":"→"},"b":[1,2.5,null,true]}'.encode()
    assert json.loads(canonical_json(one)) == one
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            canonical_json({"x": bad})


def test_digests_are_sha_256_as_the_standard_gives_them(tmp_path: Path) -> None:
    """FIPS 180-2's vector for "abc", and the well-known digest of the two bytes {}."""
    (tmp_path / "f").write_bytes(b"abc")
    assert file_digest(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
