"""Cases 27, 29 to 31, 39 and 40 of the bundle design once more, for models that write: they have a loader and a config
of their own."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import onnx
import pytest
from case_parts import CANARY, plaintext, refusal, run
from seal_parts import HEADER, LICENCE, make_home, overwrite
from test_cases_running import LINUX, PICKLE, adding, needs_strace, traced, written
from test_serving_cli import serving
from test_text_generation_chat import compiled_counter
from test_text_generation_chat import sealed as bundle_files

pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")

from toolkit.artifacts import BundleFile
from toolkit.protocols import PredictorFacts
from toolkit.seal.bundle import seal_bundle
from toolkit.seal.manifest import DomainRef
from toolkit.serving.access import add_key
from toolkit.serving.language import CONFIG
from toolkit.site.fit import InstalledDomain
from toolkit.site.install import install
from toolkit.site.layout import open_site
from toolkit.tasks.text_generation.installed import open_installed, prove

DOMAIN = """
from toolkit.hookspecs import hookimpl
from toolkit.plan import Options, Plan


@hookimpl
def draft_plan(options: Options) -> Plan:
    return Plan(domain=options.domain, task="text_generation")
"""


@pytest.fixture(scope="module")
def compiled(counter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that counts, with the canary in its graph's description."""
    made = compiled_counter(counter, tmp_path_factory.mktemp("compiled"))
    path = next(made.rglob("model.onnx"))
    model = onnx.load(path)
    model.doc_string = CANARY.decode() * 50
    onnx.save(model, path)
    return made


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The domain `counting`, as pip leaves it."""
    folder = tmp_path_factory.mktemp("packages")
    facts = folder / "counting_domain-0.1.0.dist-info"
    facts.mkdir()
    (folder / "counting_domain.py").write_text(DOMAIN)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: counting-domain\nVersion: 0.1.0\n")
    (facts / "entry_points.txt").write_text("[toolkit.domains]\ncounting = counting_domain\n")
    return folder


def make_site(path: Path, compiled: Path, **more: bytes) -> Path:
    """A site with the student installed."""
    home = make_home(path / "home")
    header = dataclasses.replace(HEADER, product="counter", domain=DomainRef("counting", ">=0.1,<0.2"))
    files = [LICENCE, *(BundleFile(role, data) for role, data in bundle_files(compiled, **more).data.items())]
    sealed = seal_bundle(home.bundles, header=header, files=files, keys=home.keys, escrow=home.escrow)
    site = home.site()
    home.grant(sealed.path, site)
    install(sealed.path, site, check=lambda manifest: (), domains={"counting": InstalledDomain("0.1.0")})
    return site.path


def asked(url: str, key: str, text: str = "one two") -> httpx.Response:
    body = {"model": "counter", "messages": [{"role": "user", "content": text}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers={"X-API-Key": key}, timeout=60)


def test_case_27_a_file_of_a_model_that_writes_was_changed(
    compiled: Path, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(packages))
    site = make_site(tmp_path, compiled)
    blobs = sorted((site / "versions").rglob("blobs/sha256/*"), key=lambda path: path.stat().st_size, reverse=True)
    for blob in blobs[:3]:  # the weights, the tokenizer and the next
        data = blob.read_bytes()
        overwrite(blob, bytes([data[0] ^ 1]) + data[1:])
        assert blob.name[:12] in refusal(run("serve", "--site", site, "--port", "0", "--json"), 4).part
        overwrite(blob, data)
    assert not plaintext(tmp_path)


@needs_strace
def test_case_29_a_canary_is_on_no_disk_while_a_model_writes(compiled: Path, packages: Path, tmp_path: Path) -> None:
    site = make_site(tmp_path, compiled, reference=b'{"note":"%s"}' % CANARY)
    key = add_key(site, "line-1", "infer")
    with traced(site, packages, tmp_path) as url:
        assert asked(url, key).json()["choices"][0]["message"]["content"] == "three"
        assert not plaintext(tmp_path)
    assert not list(written(tmp_path / "trace", site))
    assert not list((tmp_path / "temporary").iterdir())
    assert not plaintext(tmp_path)


@LINUX
def test_case_30_a_server_that_writes_leaves_no_core_dump(compiled: Path, packages: Path, tmp_path: Path) -> None:
    site = make_site(tmp_path, compiled)
    with serving(site, packages) as (process, _told):
        assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{process.pid}/limits").read_text())
        assert os.stat(f"/proc/{process.pid}/mem").st_uid == 0
        process.send_signal(signal.SIGABRT)
        process.wait(timeout=15)
    assert not [path for path in tmp_path.rglob("core*") if path.is_file()]


def test_case_31_what_is_asked_and_answered_is_in_no_log(compiled: Path, packages: Path, tmp_path: Path) -> None:
    site = make_site(tmp_path, compiled)
    key = add_key(site, "line-1", "infer")
    with serving(site, packages) as (process, told):
        assert asked(told["url"], key, f"one two {CANARY.decode()}").status_code in (200, 400, 413, 422)
        assert asked(told["url"], key).status_code == 200
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    for secret in (CANARY.decode(), key, base64.b64encode(CANARY).decode()):
        assert secret not in out + err
    assert not plaintext(tmp_path)


OPEN = """
import sys
for name in ("torch", "transformers", "onnx", "onnxscript"):
    sys.modules[name] = None
from pathlib import Path
from toolkit.protocols import PredictorFacts
from toolkit.site.current import open_current
from toolkit.tasks.text_generation.installed import open_installed, prove
with open_current(Path(sys.argv[1])) as files:
    golden = files.read("golden")
    prove(open_installed(files, PredictorFacts("installed", "", ""), 1), golden)
print("proved")
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode != 0 if shutil.which("unshare") else True,
    reason="a namespace without network cannot be made here",
)
def test_case_39_a_model_writes_without_network_and_torch(compiled: Path, tmp_path: Path) -> None:
    site = make_site(tmp_path, compiled)
    words = ["unshare", "-n", sys.executable, "-c", OPEN, str(site)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout == "proved\n", done.stderr


def test_case_40_a_pickle_and_a_path_in_a_model_that_writes(
    compiled: Path, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(packages))
    working = tmp_path / "working"
    working.mkdir()
    (working / "weights").write_bytes(bytes(64))
    monkeypatch.chdir(working)
    generation = json.loads(bundle_files(compiled).data["generation"])
    elsewhere = json.loads(bundle_files(compiled).data["generation"])
    elsewhere[CONFIG]["model"]["decoder"]["filename"] = "../../etc/passwd"  # a name that nobody follows
    named = bundle_files(compiled, generation=json.dumps(elsewhere).encode())
    prove(open_installed(named, PredictorFacts("installed", "", ""), 1), named.read("golden"))
    hostile = {
        "model": (PICKLE, adding("weights"), adding("/etc/passwd")), "tokenizer": (PICKLE,), "golden": (PICKLE,),
        "generation": (PICKLE, json.dumps(generation | {CONFIG: {}}).encode()), "plan": (PICKLE,),
    }  # fmt: skip
    for role, bodies in hostile.items():
        for number, body in enumerate(bodies):
            site = make_site(tmp_path / f"{role}-{number}", compiled, **{role: body})
            said = run("serve", "--site", site, "--port", "0", "--json")
            assert said.code in (4, 5), (role, said)
            assert list(open_site(site).audit.entries())[-1].event == "serve.refused"
    assert sorted(path.name for path in working.iterdir()) == ["weights"]
    capfd.readouterr()
