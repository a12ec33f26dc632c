"""`toolkit serve` and `toolkit access` on a real site: a sealed bundle, a process of its own, a stranger's domain."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from seal_parts import HEADER, LICENCE, make_home
from serving_parts import bundle_files, picture

from toolkit.artifacts import BundleFile
from toolkit.cli.main import main
from toolkit.seal.bundle import seal_bundle
from toolkit.seal.manifest import DomainRef
from toolkit.seal.revocation import Revocation
from toolkit.seal.rotation import revoke
from toolkit.seal.validity import Validity
from toolkit.serving.access import Access, Identity, add_key
from toolkit.serving.runner import listen
from toolkit.site.fit import InstalledDomain
from toolkit.site.inference_chain import FOLDER
from toolkit.site.inference_chain import verify as verify_inferences
from toolkit.site.install import install
from toolkit.site.layout import open_site
from toolkit.site.trust import accept_list
from toolkit.site.watch import LOOK_SECONDS

DOMAIN = """
import asyncio
import sys
from dataclasses import replace
from toolkit.hookspecs import hookimpl
from toolkit.tasks.image_classification.service import inspection_service

class Slow:
    def __init__(self, predictor):
        self.predictor, self.facts = predictor, predictor.facts
    async def predict(self, inputs):
        await asyncio.sleep(SECONDS)
        return await self.predictor.predict(inputs)

@hookimpl
def serve(site, bundle, predictor):
    assert not {"torch", "transformers", "onnx"} & set(sys.modules), "a server loads no torch"
    return inspection_service(bundle["classes"], bundle["thresholds"], bundle["id"], bundle["good_class"],
                              bundle["channels"], Slow(predictor) if SECONDS else predictor)
"""


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    return install_domain(tmp_path / "packages", seconds=0)


def install_domain(folder: Path, *, seconds: float) -> Path:
    """A distribution as pip leaves it: a module and its entry point."""
    facts = folder / "tiny_domain-0.1.0.dist-info"
    facts.mkdir(parents=True)
    (folder / "tiny_domain.py").write_text(DOMAIN.replace("SECONDS", str(seconds)))
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-domain\nVersion: 0.1.0\n")
    (facts / "entry_points.txt").write_text("[toolkit.domains]\ntiny = tiny_domain\n")
    return folder


def make_site(path: Path, **more: bytes) -> Path:
    """A site with a sealed bundle of the tiny model installed."""
    home = make_home(path / "home")
    header = dataclasses.replace(HEADER, product="tiny", domain=DomainRef("tiny", ">=0.1,<0.2"))
    files = [LICENCE, *(BundleFile(role, data) for role, data in bundle_files(**more).items())]
    sealed = seal_bundle(home.bundles, header=header, files=files, keys=home.keys, escrow=home.escrow)
    site = home.site()
    home.grant(sealed.path, site)
    install(sealed.path, site, check=lambda manifest: (), domains={"tiny": InstalledDomain("0.1.0")})
    return site.path


def toolkit(*words: str, packages: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(packages), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-m", "toolkit.cli.main", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip


def finished(*words: str, packages: Path) -> tuple[int, str, str]:
    process = toolkit(*words, packages=packages)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@contextlib.contextmanager
def serving(site: Path, packages: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = toolkit("serve", "--site", str(site), "--port", "0", "--json", *more, packages=packages)
    try:
        text = ""
        while not text.rstrip().endswith("}"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            text += line
        yield process, json.loads(text)
    finally:
        process.kill()
        process.communicate()


def test_an_installed_bundle_is_served_and_sigterm_drains(tmp_path: Path) -> None:
    site, packages = make_site(tmp_path), install_domain(tmp_path / "packages", seconds=0.8)
    before = written(site)
    with serving(site, packages) as (process, told):
        key = add_key(site, "line-1", "infer")  # the running server learns of it
        answers: list[httpx.Response] = []

        def ask() -> None:
            headers = {"X-API-Key": key, "Content-Type": "image/png"}
            answers.append(client.post(told["url"] + "/v1/inspect", content=picture((230, 20, 20)), headers=headers))

        client = httpx.Client(timeout=20)
        assert client.get(told["url"] + "/healthz").status_code == 200  # it serves, and the client is warm
        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
        asking.join()
        client.close()
        assert answers[0].json()["verdict"] == "good"
        assert answers[0].json()["bundle"] == told["bundle"]
        assert told["keys"] == "development keys"
        with pytest.raises(httpx.ConnectError):
            httpx.get(told["url"] + "/healthz")
    assert written(site) == before
    opened = open_site(site)
    found = verify_inferences(site / FOLDER, opened.audit.read())  # a stream a worker
    assert (found.lines, found.unsealed, found.removed) == (1, 0, 0)


def written(site: Path) -> dict[Path, int]:
    """Every file of a site with its time, but for the API keys, the lock and the trails."""
    files = (path for path in site.rglob("*") if path.is_file() and path.name not in (".lock", "access.json", "rates"))
    trails = (site / "audit", site / "inferences")
    return {path: path.stat().st_mtime_ns for path in files if path.parent not in trails}


def run_here(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(words)
    captured = capsys.readouterr()
    return int(left.value.code or 0), captured.out, captured.err


def test_keys_are_added_listed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--site", str(make_site(tmp_path)))
    code, secret, err = run_here(capsys, "access", "add", "line-1", "--role", "operate", *at)
    assert (code, secret.startswith("tk_"), "only this once" in err) == (0, True, True)
    assert Access(Path(at[1])).authenticate(secret.strip()) == Identity("line-1", "operate")
    code, out, _err = run_here(capsys, "access", "list", *at, "--json")
    assert (code, [(key["name"], key["role"]) for key in json.loads(out)["keys"]]) == (0, [("line-1", "operate")])
    assert secret.strip() not in out
    assert "line-1" in run_here(capsys, "access", "list", *at)[1]
    assert run_here(capsys, "access", "add", "line-1", "--role", "infer", *at)[0] == 2
    assert run_here(capsys, "access", "add", "line-2", "--role", "root", *at)[0] == 2
    assert run_here(capsys, "access", "remove", "line-1", *at)[0] == 0
    assert run_here(capsys, "access", "remove", "line-1", *at)[0] == 2
    code, _out, err = run_here(capsys, "access", "add", "x", "--role", "infer", "--site", str(tmp_path / "no"))
    assert (code, err.count("\n")) == (2, 2)


def test_a_busy_port_ends_with_exit_5(tmp_path: Path, domain: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        code, _out, err = finished("serve", "--site", str(make_site(tmp_path)), "--port", port, packages=domain)
    assert (code, port in err, err.count("\n")) == (5, True, 2)


def test_a_flipped_bit_is_told(tmp_path: Path, domain: Path) -> None:
    site = make_site(tmp_path)
    blob = max((site / "versions").rglob("blobs/sha256/*"), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(data)
    code, _out, err = finished("serve", "--site", str(site), "--port", "0", packages=domain)
    assert (code, blob.name[:12] in err) == (4, True)


def test_case_17_a_server_stops_answering_when_its_grant_ends(tmp_path: Path, domain: Path) -> None:
    site = make_site(tmp_path)
    home = make_home(tmp_path / "home")
    bundle = next(path for path in home.bundles.iterdir() if (path / "bundle.dsse").exists())
    opened = open_site(site)

    def granted(seconds: int) -> int:
        ends = int(time.time()) + seconds
        home.grant(bundle, opened, renew=True, validity=Validity(not_after=ends, max_instances=1))
        install(bundle, opened, check=lambda manifest: (), domains={"tiny": InstalledDomain("0.1.0")})
        return ends

    granted(3600)
    key = add_key(site, "line-1", "operate")
    headers = {"X-API-Key": key, "Content-Type": "image/png"}

    def ask(url: str) -> httpx.Response:
        return httpx.post(url + "/v1/inspect", content=picture((230, 20, 20)), headers=headers)

    with serving(site, domain) as (_process, told):
        assert ask(told["url"]).status_code == 200
        ready = httpx.get(told["url"] + "/readyz", headers=headers).json()
        assert (ready["status"], ready["grant"]["state"]) == ("ready", "ending")
        code, _out, err = finished("serve", "--site", str(site), "--port", "0", packages=domain)
        assert (code, "1 server at once" in err) == (3, True)
        ends = granted(3)  # the running server takes it up
        time.sleep(max(0.0, ends + 1.1 - time.time()))
        refused = ask(told["url"])
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "licence")
        assert "ended at" in refused.json()["error"]["message"]
        assert httpx.get(told["url"] + "/readyz", headers=headers).json()["status"] == "refused"
        figures = httpx.get(told["url"] + "/metrics", headers=headers).text
        assert 'state="ended",version="1.1"} 1.0' in figures
        assert httpx.get(told["url"] + "/healthz").status_code == 200
    code, _out, err = finished("serve", "--site", str(site), "--port", "0", packages=domain)
    assert (code, "ended at" in err, err.count("\n")) == (3, True, 2)


def test_case_19_a_server_stops_answering_with_what_was_revoked(tmp_path: Path, domain: Path) -> None:
    site = make_site(tmp_path)
    headers = {"X-API-Key": add_key(site, "line-1", "infer"), "Content-Type": "image/png"}

    def ask(url: str) -> httpx.Response:
        return httpx.post(url + "/v1/inspect", content=picture((230, 20, 20)), headers=headers)

    with serving(site, domain) as (_process, told):
        assert ask(told["url"]).status_code == 200
        revoked = revoke(tmp_path / "home" / "keys", [Revocation(told["bundle"], "miscounts cracks")], None)
        accept_list(open_site(site), revoked.data)
        deadline = time.monotonic() + 3 * LOOK_SECONDS
        while (answer := ask(told["url"])).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "licence")
        assert "revoked: miscounts cracks" in answer.json()["error"]["message"]
    code, _out, err = finished("serve", "--site", str(site), "--port", "0", packages=domain)
    assert (code, "miscounts cracks" in err, err.count("\n")) == (4, True, 2)
