"""What an operator copies onto a site, judged by the tools of its trade; a test is skipped where its tool is not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOYMENTS = Path(__file__).resolve().parents[2] / "deployments"
UNIT = DEPLOYMENTS / "systemd" / "toolkit-serve.service"
MOST_EXPOSED = 1.3  # 0 is shut in wholly, 10 is unguarded; systemd calls up to 2 good
SCRIPTS = sorted([*DEPLOYMENTS.rglob("*.sh"), DEPLOYMENTS / "systemd" / "toolkit-admin"])


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(tool), reason=f"{tool} is not installed")


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@needs("systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    # It looks whether the program is there, which it is on a site only.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/toolkit/bin/toolkit", "/bin/true"))
    verified = run("systemd-analyze", "verify", unit)
    if "sysinit.target not found" in verified.stdout:
        pytest.skip("this machine has no units of systemd's own")
    assert (verified.returncode, verified.stdout) == (0, "")


@needs("systemd-analyze")
def test_the_unit_is_shut_in() -> None:
    rated = run("systemd-analyze", "security", "--offline=yes", "--no-pager", UNIT).stdout
    found = re.search(r"Overall exposure level for toolkit-serve.service: ([\d.]+)", rated)
    assert found, rated
    assert float(found[1]) <= MOST_EXPOSED, rated


@needs("shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_shell(script: Path) -> None:
    checked = run("shellcheck", "--severity=warning", script)
    assert checked.returncode == 0, checked.stdout
