"""kill -9 at 40 random points of an install, and at some of everything else. Case 24 of the bundle design."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("scenario", "points"), [("install", 40), ("rollback", 10), ("seal", 12), ("grant", 10), ("make", 12)]
)
def test_case_24_killed_anywhere_it_is_as_before_or_as_after(scenario: str, points: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("site_crash.py")), scenario, str(tmp_path), str(points), "7"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{scenario}: killed at" in done.stdout


@pytest.mark.parametrize("points", [20, pytest.param(200, marks=pytest.mark.crash)])
def test_case_24_killed_while_a_server_serves_one_whole_version_answers(points: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("site_serving_crash.py")), str(tmp_path), str(points), "7"],
        capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f" of {points}, " in done.stdout
