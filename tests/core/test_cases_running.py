"""Cases 28 to 31, 39 and 40 of the bundle design: what a process with plaintext leaves behind, and what it opens."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from case_parts import CANARY, MODEL, content_keys, installed, plaintext, refusal, run
from onnx import helper, numpy_helper
from seal_parts import HEADER, Home, flipped
from serving_parts import bundle_files, mean_model, picture
from test_serving_cli import install_domain, make_site, serving

from toolkit.errors import EnvironmentUnfit, IntegrityError
from toolkit.seal.bundle import SealedBundle
from toolkit.seal.cipher import decrypt_into, encrypt_file, new_content_key
from toolkit.seal.memory import SecretBuffer
from toolkit.serving.access import add_key
from toolkit.serving.sessions import session_of
from toolkit.site.layout import open_site

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at Linux's /proc")


def canary_model() -> bytes:
    """A real graph that carries the canary among its weights' names and in its description."""
    model = onnx.ModelProto.FromString(mean_model()[0])
    model.doc_string = CANARY.decode() * 50
    return model.SerializeToString()


@pytest.mark.parametrize("bit", [8 * 60 + 1, 8 * 40_000, -1])
def test_case_28_the_buffer_is_zero_when_a_tag_fails(bit: int) -> None:
    key, pieces = new_content_key(), []
    encrypt_file(MODEL, key, b"here", lambda piece: pieces.append(bytes(piece)))
    sealed = b"".join(pieces)
    buffer = SecretBuffer(len(sealed))
    seen = buffer.view  # whoever held a view must see zeros, not what nobody verified
    with pytest.raises(IntegrityError):
        decrypt_into([flipped(sealed, bit % (8 * len(sealed)))], buffer, key, b"here", part="it")
    assert bytes(seen) == bytes(len(sealed))


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed here")
CALLS = "write,pwrite64,writev,pwritev,sendto,sendmsg,connect,creat,open,openat,rename,renameat2,memfd_create"
SERVE = "import os, sys; from toolkit.cli.main import main; os.environ['TMPDIR'] = sys.argv.pop(1); main(sys.argv[1:])"


@contextlib.contextmanager
def traced(site: Path, packages: Path, folder: Path) -> Iterator[str]:
    """A server of the site under strace: its URL. Its temporary files go to `folder`/temporary, its calls to
    `folder`/trace."""
    (folder / "temporary").mkdir(exist_ok=True)
    strace = ["strace", "-f", "-qq", "-s", "1000000", "-e", f"trace={CALLS}", "-o", str(folder / "trace")]
    words = ["serve", "--site", str(site), "--port", "0", "--json"]
    path = os.pathsep.join([str(packages), *filter(None, sys.path)])
    with subprocess.Popen(
        [*strace, sys.executable, "-c", SERVE, str(folder / "temporary"), *words],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:  # fmt: skip
        try:
            url = ""
            while not url:
                line = process.stdout.readline()
                assert line
                url = "".join(re.findall(r'"url": "([^"]+)"', line))
            yield url
        finally:
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGTERM)
            process.wait(timeout=30)


def written(trace: Path, site: Path) -> set[str]:
    """What a traced server opened for writing outside its site; no call shows the canary or leaves the machine."""
    seen = trace.read_text(errors="replace")
    assert "openat(" in seen
    assert CANARY.decode() not in seen
    assert "memfd_create(" not in seen
    for address in re.findall(r"connect\(.*?sa_family=AF_INET6?.*?\)", seen):
        assert "127.0.0.1" in address or '"::1"' in address, address
    found = set(re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)", [^)\n]*O_(?:WRONLY|RDWR|CREAT)', seen))
    return {name for name in found if not name.startswith(("/dev/null", "/dev/tty", str(site)))}


@needs_strace
def test_case_29_a_canary_is_on_no_disk_and_in_no_write_while_serving(tmp_path: Path) -> None:
    site = make_site(tmp_path, model=canary_model(), reference=b'{"note":"%s"}' % CANARY)
    key = add_key(site, "line-1", "infer")
    with traced(site, install_domain(tmp_path / "packages", seconds=0), tmp_path) as url:
        headers = {"X-API-Key": key, "Content-Type": "image/png"}
        answer = httpx.post(url + "/v1/inspect", content=picture((230, 20, 20)), headers=headers)
        assert answer.json()["verdict"] == "good"
        assert not plaintext(tmp_path)
    assert not written(tmp_path / "trace", site)
    assert not plaintext(tmp_path)


@LINUX
def test_case_30_a_server_leaves_no_core_dump_and_no_buffer(tmp_path: Path) -> None:
    site, packages = make_site(tmp_path), install_domain(tmp_path / "packages", seconds=0)
    with serving(site, packages) as (process, _told):
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
        # What is not dumpable belongs to root, whoever runs it.
        assert os.stat(f"/proc/{process.pid}/mem").st_uid == 0
        process.send_signal(signal.SIGABRT)
        process.wait(timeout=15)
    assert not [path for path in tmp_path.rglob("core*") if path.is_file()]


@LINUX
def test_case_30_the_decrypt_buffer_is_private_undumped_and_wiped() -> None:
    buffer = SecretBuffer(4 * resource.getpagesize())
    view = buffer.view
    view[:] = b"x" * buffer.size
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        first, last = (int(part, 16) for part in block.split(" ", 1)[0].split("-"))
        if first <= address < last:
            assert " rw-p " in block.splitlines()[0]  # private: no file system in RAM holds it
            assert "dd" in block.rsplit("VmFlags:", 1)[1].split()
    buffer.wipe()
    assert bytes(view) == bytes(len(view))


def test_case_31_no_key_and_no_plaintext_in_what_is_said_or_kept(home: Home, sealed: SealedBundle) -> None:
    site = home.site()
    installed(sealed.path, home)
    secrets = [content_keys(home, sealed.manifest.bundle_id)["cpu"]]
    for name in ("publisher", "issuer"):
        secrets.append(getattr(home.keys, name).private.private_bytes_raw())
    said = [run(*words, "--json") for words in (
        ("verify", sealed.path), ("verify", site.path), ("status",), ("bundle", "list"), ("keys", "show"),
        ("bundle", "show", sealed.path), ("audit", "list"), ("runs",), ("doctor",), ("install", sealed.path),
    )]  # fmt: skip
    told = "".join(one.out + one.err for one in said) + repr((home.keys, sealed, site, site.recipient_key()))
    kept = b"".join(
        path.read_bytes() for path in home.path.parent.rglob("*") if path.is_file() and "key.json" not in path.name
    )
    for secret in secrets:
        for form in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
            assert form not in told
            assert form.encode() not in kept
        assert secret not in kept
    assert CANARY not in kept


@pytest.mark.skipif(
    subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode != 0 if shutil.which("unshare") else True,
    reason="a namespace without network cannot be made here",
)
def test_case_39_no_network_and_no_torch_are_needed(home: Home, sealed: SealedBundle) -> None:
    code = (
        "import sys; [sys.modules.__setitem__(name, None) for name in ('torch', 'transformers', 'onnx', 'onnxscript')];"
        "from toolkit.cli.main import main; main(sys.argv[1:])"
    )
    for words in (["verify", str(sealed.path)], ["install", str(sealed.path)], ["verify", str(home.site().path)]):
        done = subprocess.run(
            ["unshare", "-n", sys.executable, "-c", code, *words, "--json"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert open_site(home.site().path).audit.verify().sequence == 3


def adding(location: str) -> bytes:
    """x + w, with w in a file of this name: the plainest graph, which ONNX Runtime would load from where it may."""
    weights = numpy_helper.from_array(np.full((4, 4), 3, np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "64")):
        weights.external_data.add(key=key, value=value)
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "sum", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "location", ["weights", "./weights", "../up", "{tmp}/up", "sub/in", "sub/../../up", "link", "/etc/passwd", ""]
)
def test_case_40_a_graph_that_names_a_file(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "working"
    (folder / "sub").mkdir(parents=True)
    for name in ("weights", "../up", "sub/in"):
        (folder / name).write_bytes(bytes(64))
    (folder / "link").symlink_to("../up")
    monkeypatch.chdir(folder)
    graph = adding(location.format(tmp=tmp_path))
    with pytest.raises(EnvironmentUnfit):
        session_of(graph)
    if Path(location) != Path("weights"):  # what the bundle brings is taken under its own name only
        with pytest.raises(EnvironmentUnfit):
            session_of(graph, weights={"weights": bytes(64)})
    capfd.readouterr()


def test_case_40_weights_that_the_bundle_brings_are_taken_from_ram(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_bytes(np.full(16, 9, np.float32).tobytes())  # not these
    session = session_of(adding("weights"), weights={"weights": np.full(16, 3, np.float32).tobytes()})
    assert session.run(None, {"x": np.ones((4, 4), np.float32)})[0].tolist() == [[4.0] * 4] * 4


PICKLE = b"cos\nsystem\n(S'touch owned'\ntR."


@pytest.mark.parametrize("role", ["model", "golden", "plan", "classes"])
def test_case_40_a_pickle_is_refused(role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(install_domain(tmp_path / "packages", seconds=0)))
    site = make_site(tmp_path, **bundle_files() | {role: PICKLE})
    code = 5 if role == "model" else 4
    refusal(run("serve", "--site", site, "--port", "0", "--json"), code)
    assert not (tmp_path / "owned").exists()
    assert list(open_site(site).audit.entries())[-1].event == "serve.refused"
    assert HEADER.product not in role
