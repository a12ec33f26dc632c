"""Requests that are generated from our own OpenAPI page, fitting and misfitting: none ends in a server error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kserve_parts import serving
from seal_parts import make_home
from serving_parts import Running, running
from test_serving_openai import Echo, writing

from toolkit.serving.ledger import open_ledger

pytest.importorskip("schemathesis", reason="schemathesis is not installed")
pytestmark = pytest.mark.slow  # `make fuzz`


def generated(server: Running, folder: Path, role: str, examples: int) -> None:
    """schemathesis on every operation that the page lists; the console's pages are not among them."""
    command = [
        sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run",
        f"{server.url}/openapi.json", "--header", f"X-API-Key: {server.keys[role]}", "--checks", "not_a_server_error",
        "--max-examples", str(examples), "--phases", "coverage,fuzzing", "--seed", "7", "--no-shrink", "--no-color",
        "--request-timeout", "20", "--suppress-health-check", "all", "--warnings", "off",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("role", ["infer", "admin"])
def test_no_generated_request_to_a_site_of_pictures_ends_in_a_server_error(role: str, tmp_path: Path) -> None:
    site = make_home(tmp_path / "home").site()
    with running(site.path, ledger=open_ledger(site)) as server:
        generated(server, tmp_path, role, 10)


def test_no_generated_request_to_a_site_of_texts_ends_in_a_server_error(tmp_path: Path) -> None:
    with serving(writing(Echo()), tmp_path) as server:
        generated(server, tmp_path, "admin", 10)
