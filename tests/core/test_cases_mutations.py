"""Case 41 of the bundle design, in short; `make fuzz` tries 100,000."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc to see how memory grows")
def test_case_41_an_altered_bundle_is_never_accepted() -> None:
    script = Path(__file__).parents[1] / "fuzz" / "bundles.py"
    words = [sys.executable, str(script), "--mutations", "600", "--seed", "41"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["mutations"], found["wrong"], found["ok"]) == (600, [], True)
    assert len(found["kinds"]) == 8
