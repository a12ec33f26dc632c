"""kill -9 at random moments, and the same command again: it ends with the student of a run that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import line_parts
import pytest
from line_parts import packages, small_lot

from toolkit.workspace import file_digest

IMPATIENT = (
    "import toolkit.distil.checkpoints as checkpoints; checkpoints.EVERY_SECONDS = 0.1;"
    "from toolkit.cli.main import main; main()"
)
"""The command line with a checkpoint ten times a second: the runs here are too short for one every few seconds."""


class Runner:
    """One home, and the same deploy again and again."""

    def __init__(self, home: Path, arguments: Sequence[str], path: Sequence[Path]) -> None:
        self.home = home
        home.mkdir()
        self._command = [sys.executable, "-c", IMPATIENT, "deploy", "--domain", "industry", *arguments]
        self._environment = {
            **os.environ, "TOOLKIT_HOME": str(home), "PYTHONPATH": os.pathsep.join(map(str, path))
        }  # fmt: skip

    def run(self, seconds: float | None = None) -> str:
        """Run to the end, or for `seconds` and then kill -9 all of it; what it said on standard error."""
        process = subprocess.Popen(
            self._command, env=self._environment, cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        try:
            said = process.communicate(timeout=seconds)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return str(process.communicate()[1])
        assert process.returncode == 0, said
        return said

    def trained(self) -> dict[str, str]:
        """Digests of all that was labelled and trained; there is one artifact of each kind."""
        found: dict[str, str] = {}
        for kind in ("labels", "student"):
            (folder,) = (self.home / "store" / kind).glob("[!.]*")
            for path in folder.rglob("*"):
                if path.suffix in (".pt", ".npy", ".onnx") or path.name in ("student.json", "baseline.json"):
                    found[f"{kind}/{path.relative_to(folder)}"] = file_digest(path)
        return found


def kill_again_and_again(whole: Runner, broken: Runner, kills: int, seed: int) -> None:
    started = time.monotonic()
    whole.run()
    took = time.monotonic() - started
    draw, stages = random.Random(seed), set()
    for _ in range(kills):
        said = broken.run(draw.uniform(0.1, 0.9) * took)
        stages |= {line.split()[1] for line in said.splitlines() if line[:1].isdigit()}
    last = broken.run()
    assert "compile" in last
    found = broken.trained()
    assert found == whole.trained()
    assert set(found) >= {"student/student.pt", "student/baseline.pt", "student/student.json", "labels/teacher.onnx"}
    leftovers = [path for path in (broken.home / "store").rglob(".*") if path.name.endswith((".tmp", ".partial"))]
    assert [path for path in leftovers if path.is_file() or any(path.iterdir())] == []


@pytest.mark.crash
def test_killed_three_times_it_ends_with_the_same_student(tmp_path: Path) -> None:
    path = [packages(tmp_path / "packages"), Path(line_parts.__file__).parent]
    data = small_lot(tmp_path / "lot")
    settings = (*line_parts.TINY, "recipe.epochs=30", "recipe.views=12", "teacher.epochs=10")
    arguments = ["--data", str(data), "--until", "compile", *(w for s in settings for w in ("--set", s))]
    whole, broken = (Runner(tmp_path / name, arguments, path) for name in ("whole", "broken"))
    kill_again_and_again(whole, broken, kills=3, seed=int(os.environ.get("TOOLKIT_TEST_SEED", "1")))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("sample_teacher")
def test_the_sample_killed_ten_times_ends_with_the_same_student(tmp_path: Path) -> None:
    settings = (
        "industry.sample_per_class=40", "industry.sample_test_per_class=20", "teacher.epochs=2", "recipe.epochs=12",
        "recipe.views=12", "compute.threads=1",
    )  # fmt: skip
    arguments = ["--until", "compile", *(w for s in settings for w in ("--set", s))]
    whole, broken = (Runner(tmp_path / name, arguments, []) for name in ("whole", "broken"))
    kill_again_and_again(whole, broken, kills=10, seed=int(os.environ.get("TOOLKIT_TEST_SEED", "1")))
