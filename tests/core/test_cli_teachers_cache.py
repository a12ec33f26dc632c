"""`toolkit teachers cache`: what lies in a home is listed, verified, and removed only where nobody wants it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from cli_parts import Run, Said

from toolkit.artifacts import TeacherLabels
from toolkit.cli.main import main
from toolkit.distil import labels
from toolkit.distil.cache.codecs import HiddenCodec
from toolkit.distil.cache.store import Origin, Sample, TokenCache
from toolkit.registry.store import Registry
from toolkit.workspace import Workspace, folder_lock

DAY = 86_400
VIEWS, TOKENS, OPEN_VIEWS, OPEN_TOKENS = ("1" * 64, "2" * 64, "3" * 64, "4" * 64)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TOOLKIT_DATABASE_URL", raising=False)
    return tmp_path / "home"


@pytest.fixture
def cache(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Said:
        with pytest.raises(SystemExit) as left:
            main(["teachers", "cache", *map(str, arguments)])
        out, err = capsys.readouterr()
        return Said(int(left.value.code or 0), out, err)

    return run


def views(folder: Path) -> None:
    """A store of 3 views of 7 rows."""
    labels.fill(
        folder / "labels", views=3, rows=7, carriers=("logits",), report=lambda *_: None,
        label_views=lambda views: ({"logits": np.full((7, 2), view, np.float32)} for view in views),
    )  # fmt: skip


def tokens(folder: Path, samples: int = 4, *, finish: bool = True) -> TokenCache:
    """A store of samples of 5 tokens, two a shard."""
    made = TokenCache.open(folder / "cache", Origin("smol", "a" * 64, "b" * 64), HiddenCodec(8, 100))
    ids = [f"row-{row}" for row in range(samples)]
    made.write((Sample(one, {"hidden": np.ones((5, 8), np.float32)}) for one in ids), shard_samples=2)
    if finish:
        made.finish(ids)
    return made


def stored(home: Path, digest: str, make: Callable[[Path], object], name: str = "big") -> Path:
    """A finished label artifact."""
    workspace = Workspace(home)
    make(workspace.scratch("labels", digest))
    return workspace.commit("labels", digest, parents=(), facts={"name": name}).path


def unfinished(home: Path, digest: str, make: Callable[[Path], object]) -> Path:
    folder = Workspace(home).scratch("labels", digest)
    make(folder)
    return folder


def aged(folder: Path, days: float) -> Path:
    """As if nothing in it had been written for so long."""
    then = time.time() - days * DAY
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (then, then))
    return folder


@pytest.fixture
def full(home: Path) -> dict[str, Path]:
    """A home with labels of views and of tokens, finished and not, the newest last."""
    return {
        VIEWS: aged(stored(home, VIEWS, views), 9),
        TOKENS: aged(stored(home, TOKENS, tokens), 8),
        OPEN_VIEWS: aged(
            unfinished(home, OPEN_VIEWS, lambda folder: (folder / "teacher.pt").write_bytes(b"x" * 99)), 7
        ),
        OPEN_TOKENS: aged(unfinished(home, OPEN_TOKENS, lambda folder: tokens(folder, 3, finish=False)), 6),
    }


def used(home: Path, digest: str, days: float) -> None:
    """A run made or used an artifact so long ago."""
    registry = Registry(home)
    run = f"run-{digest[0]}-{days}"
    registry.start(run, "tiny", {})
    registry.finish_stage(run, "label", "TeacherLabels", TeacherLabels(home, digest), kept=False, seconds=1.0)
    registry.end(run)
    then = datetime.now(UTC) - timedelta(days=days)
    with sqlite3.connect(home / "registry.db") as connection:
        connection.execute("update stage set finished = ? where run_id = ?", (then.isoformat(sep=" ")[:26], run))
    connection.close()


def test_an_empty_home_says_so(cache: Run, home: Path) -> None:
    assert "nothing" not in cache("ls").out
    assert "no teacher has said anything" in cache("ls").out
    assert cache("ls", "--json").record == {"caches": []}
    assert cache("verify", "--json").record == {"ok": True, "verified": []}
    assert cache("gc", "--json").record == {"removed": False, "older_than_days": 30, "bytes": 0, "caches": []}
    assert "nothing is older than 30 days" in cache("gc").out


def test_the_group_says_what_it_can_do_and_teachers_are_listed_as_before(
    cache: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {"ls", "verify", "gc"} <= set(cache("--help").out.split())
    for arguments in (["teachers", "--json"], ["teachers"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert not left.value.code
        out = capsys.readouterr().out
        assert "efficientnet-lite0" in out
    assert "teacher" in out


@pytest.mark.usefixtures("full")
def test_every_store_is_listed_the_newest_first(cache: Run, full: dict[str, Path]) -> None:
    found = cache("ls", "--json").record["caches"]
    assert [(one["cache"], one["holds"], one["teacher"], one["rows"], one["tokens"], one["complete"])
            for one in found] == [
        (OPEN_TOKENS[:32], "tokens", "smol", 3, 15, False),
        (OPEN_VIEWS[:32], "nothing yet", None, None, None, False),
        (TOKENS[:32], "tokens", "smol", 4, 20, True),
        (VIEWS[:32], "views", "big", 21, None, True),
    ]  # fmt: skip
    assert [one["age_days"] for one in found] == pytest.approx([6, 7, 8, 9], abs=0.01)
    assert found[2]["codec"] == "hidden"
    assert found[2]["mass_at_k"] == 1
    for one in found:
        files = [path for path in Path(one["path"]).rglob("*") if path.is_file()]
        assert one["bytes"] == sum(path.stat().st_size for path in files)
    text = cache("ls").out.splitlines()
    assert len(text) == 5
    assert text[3].split() == ["2" * 12, "tokens", "smol", "4", "20", "0.0", "MB", "8.0", "days", "complete"]
    assert text[2].endswith("not complete")


def test_a_store_that_is_damaged_is_listed_and_not_called_complete(cache: Run, full: dict[str, Path]) -> None:
    (full[VIEWS] / "labels" / labels.INDEX).write_bytes(b"{")
    next((full[TOKENS] / "cache").glob("*/cache.json")).write_bytes(b"")
    found = {one["cache"][0]: one for one in cache("ls", "--json").record["caches"]}
    assert (found["1"]["complete"], found["1"]["rows"]) == (False, None)
    assert (found["2"]["complete"], found["2"]["teacher"]) == (False, None)


def test_what_is_whole_is_verified(cache: Run, full: dict[str, Path]) -> None:
    said = cache("verify", "--json")
    assert said.code == 0
    assert sorted(said.record["verified"]) == [digest[:32] for digest in (VIEWS, TOKENS, OPEN_VIEWS, OPEN_TOKENS)]
    assert "4 verified" in cache("verify").out
    assert cache("verify", "22", "--json").record["verified"] == [TOKENS[:32]]


def flip(path: Path) -> str:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path.name


def test_every_damaged_shard_is_named_and_4(cache: Run, full: dict[str, Path]) -> None:
    names = [
        f"{VIEWS[:32]}/labels/{flip(sorted((full[VIEWS] / 'labels').glob('*.npy'))[1])}",
        f"{VIEWS[:32]}/labels/{flip(sorted((full[VIEWS] / 'labels').glob('*.npy'))[2])}",
    ]
    for digest in (TOKENS, OPEN_TOKENS):
        (folder,) = (full[digest] / "cache").iterdir()
        names.append(f"{digest[:32]}/cache/{folder.name}/{flip(folder / 'shard-00001.safetensors')}")
    said = cache("verify")
    assert (said.code, said.out) == (4, "")
    what, hint = said.err.splitlines()
    assert set(what.removeprefix("error: damaged: ").split(", ")) == set(names)
    assert hint.startswith("hint: ")
    in_json = cache("verify", "--json")
    assert in_json.code == 4
    assert in_json.record["error"]["code"] == "integrity"
    assert all(name in in_json.record["error"]["part"] for name in names)
    assert cache("verify", "33").code == 0
    assert cache("verify", "22").code == 4


def test_a_lost_shard_and_a_damaged_description_are_damage_too(cache: Run, full: dict[str, Path]) -> None:
    (folder,) = (full[TOKENS] / "cache").iterdir()
    (folder / "shard-00000.safetensors").unlink()
    assert "shard-00000.safetensors" in cache("verify").err
    (folder / "cache.json").write_bytes(b"{}")
    said = cache("verify")
    assert said.code == 4
    assert "cache.json" in said.err


def test_a_cache_that_is_not_there_is_bad_usage(cache: Run, full: dict[str, Path]) -> None:
    said = cache("verify", "9")
    assert said.code == 2
    assert "error: no cache is named 9" in said.err
    assert cache("gc", "--older-than", "-1").code == 2


def there(full: dict[str, Path]) -> set[str]:
    return {digest for digest, path in full.items() if path.is_dir()}


def test_collecting_is_rehearsed_unless_told_otherwise(cache: Run, full: dict[str, Path]) -> None:
    said = cache("gc", "--older-than", 7, "--json").record
    assert (said["removed"], said["older_than_days"]) == (False, 7)
    assert [(one["cache"][0], one["why"]) for one in said["caches"]] == [
        ("3", "unfinished"), ("1", "unused"), ("2", "unused"),
    ]  # fmt: skip
    assert said["bytes"] == sum(one["bytes"] for one in said["caches"]) > 0
    text = cache("gc", "--older-than", 7).out
    assert "nothing was: add --yes" in text
    assert there(full) == set(full)


def test_what_is_collected_is_gone_and_would_be_labelled_again(cache: Run, home: Path, full: dict[str, Path]) -> None:
    said = cache("gc", "--older-than", 8, "--yes", "--json")
    assert said.code == 0
    assert said.record["removed"] is True
    assert {one["cache"][0] for one in said.record["caches"]} == {"1", "2"}
    assert there(full) == {OPEN_VIEWS, OPEN_TOKENS}
    assert Workspace(home).find("labels", VIEWS) is None
    assert len(list((home / "store" / "labels").iterdir())) == 2
    again = cache("gc", "--older-than", 0, "--yes")
    assert "removed" in again.out
    assert list((home / "store" / "labels").iterdir()) == []
    assert cache("ls", "--json").record == {"caches": []}


def test_what_a_run_used_lately_stays(cache: Run, home: Path, full: dict[str, Path]) -> None:
    used(home, VIEWS, 3)
    used(home, TOKENS, 8.5)
    used(home, TOKENS, 7.5)
    aged(full[TOKENS], 100)
    aged(full[VIEWS], 100)
    found = cache("gc", "--older-than", 7, "--json").record["caches"]
    assert {one["cache"][0] for one in found} == {"2", "3"}
    (old,) = [one for one in found if one["cache"][0] == "2"]
    assert datetime.now(UTC) - datetime.fromisoformat(old["last_used"]) == pytest.approx(
        timedelta(days=7.5), abs=timedelta(minutes=1)
    )
    cache("gc", "--older-than", 7, "--yes")
    assert there(full) == {VIEWS, OPEN_TOKENS}


@pytest.fixture
def running(home: Path) -> Iterator[None]:
    (home / "store").mkdir(parents=True, exist_ok=True)
    with folder_lock(home / "store", purpose="run the line"):
        yield


@pytest.mark.usefixtures("running")
def test_nothing_is_removed_while_a_run_is_under_way(cache: Run, full: dict[str, Path]) -> None:
    said = cache("gc", "--older-than", 0, "--yes")
    assert said.code == 5
    assert "in use" in said.err
    assert there(full) == set(full)
    rehearsed = cache("gc", "--older-than", 0, "--json").record["caches"]
    assert {one["why"] for one in rehearsed} == {"unused"}  # what is not finished may be what the run works on


def test_a_token_cache_that_somebody_writes_into_stays(cache: Run, full: dict[str, Path]) -> None:
    (folder,) = (full[OPEN_TOKENS] / "cache").iterdir()
    with folder_lock(folder, purpose="write into the teacher cache"):
        assert len(cache("gc", "--older-than", 0, "--json").record["caches"]) == 3
        assert len(cache("gc", "--older-than", 0, "--yes", "--json").record["caches"]) == 3
        assert there(full) == {OPEN_TOKENS}
    assert len(cache("gc", "--older-than", 0, "--yes", "--json").record["caches"]) == 1


def test_a_removal_that_was_killed_is_carried_on(cache: Run, home: Path, full: dict[str, Path]) -> None:
    torn = full[VIEWS].rename(full[VIEWS].with_name(f".{VIEWS[:32]}.removed"))
    assert VIEWS[:32] not in {one["cache"] for one in cache("ls", "--json").record["caches"]}
    (found,) = cache("gc", "--json").record["caches"]
    assert (found["cache"], found["why"]) == (VIEWS[:32], "half removed")
    cache("gc", "--yes")
    assert not torn.exists()
    assert there(full) == {TOKENS, OPEN_VIEWS, OPEN_TOKENS}


def test_looking_and_collecting_load_no_training_library(full: dict[str, Path]) -> None:
    script = (
        "import sys\nfrom toolkit.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert not left.code, left.code\n"
        "sys.stderr.write(f\"HEAVY {sorted({'torch', 'transformers', 'onnx', 'scipy'} & set(sys.modules))}\")\n"
    )
    for verb in ("ls", "verify", "gc"):
        said = subprocess.run(
            [sys.executable, "-c", script, "teachers", "cache", verb], capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stderr
        assert said.stderr.endswith("HEAVY []")
