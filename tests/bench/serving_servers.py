"""The servers that `bench-serving` asks, each started as its users start it, and the bytes of a request to each."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving_models import Served

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PEERS = {
    "mlserver": ("mlserver==1.7.*", "uvloop<0.22"),  # with a newer one its worker finds no event loop and dies
    "bentoml": ("bentoml==1.4.*",),
    "llama-cpp-python": ("llama-cpp-python[server]==0.3.*",),  # built from source, some minutes
}
RUNTIME = ("onnxruntime==1.32.0", "pillow==13.0.0")
"""What runs the classifiers in the peers' environments."""

START_SECONDS = 120


@dataclass(frozen=True)
class Up:
    """A server that answers: its port, and a whole request for each kind of body that it takes."""

    port: int
    requests: Mapping[str, bytes]


def environment(name: str) -> Path:
    """The Python of a peer's own environment, made once and kept below .venv/.

    Raises:
        OSError: it cannot be made here.
    """
    folder = ROOT / ".venv" / "peers" / name
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS[name]]
        pip += () if name == "llama-cpp-python" else RUNTIME
        if subprocess.run(pip).returncode:
            raise OSError(f"pip cannot install {PEERS[name][0]} here")
        (folder / ".installed").touch()
    return python


@contextlib.contextmanager
def ours(served: Served, folder: Path, *options: str) -> Iterator[Up]:
    """`toolkit serve` on the model's site."""
    key = {"Authorization": f"Bearer {served.key}"}
    infer, headers = kserve_binary(served)
    requests = {
        "jpeg": request("/v1/inspect", served.jpeg, {"Content-Type": "image/jpeg"} | key),
        "tensor": request(f"/v2/models/{served.name}/infer", infer, headers | key),
        "empty": request("/v1/empty", served.jpeg, {"Content-Type": "image/jpeg"} | key),
    }
    with serving(served.site, folder, *options) as port:
        yield Up(port, requests)


@contextlib.contextmanager
def serving(site: Path, folder: Path, *options: str) -> Iterator[int]:
    """The port of `toolkit serve` on a site, with the domain of serving_domain.py."""
    facts = folder / "bench_domain-0.1.0.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-domain\nVersion: 0.1.0\n")
    (facts / "entry_points.txt").write_text("[toolkit.domains]\nbench = serving_domain\n")
    port = free_port()
    command = [sys.executable, "-m", "toolkit.cli.main", "serve", "--site", str(site), "--port", str(port)]
    paths = os.pathsep.join([str(folder), str(HERE)])
    with started([*command, *options], {"PYTHONPATH": paths}, folder, port):
        yield port


@contextlib.contextmanager
def mlserver(served: Served, folder: Path, threads: int) -> Iterator[Up]:
    python, port = environment("mlserver"), free_port()
    folder.mkdir(parents=True)
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps(ports | {"host": "127.0.0.1", "debug": False}))
    model = {"name": served.name, "implementation": "mlserver_model.Classifier"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    shape, values = list(served.array.shape), served.array.ravel().tolist()
    path, kind = f"/v2/models/{served.name}/infer", {"Content-Type": "application/json"}
    tensor = {"inputs": [{"name": "image", "shape": shape, "datatype": "UINT8", "data": values}]}
    encoded = base64.b64encode(served.jpeg).decode()
    told = {"content_type": "base64"}
    jpeg = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [encoded], "parameters": told}]}
    requests = {
        "jpeg": request(path, json.dumps(jpeg).encode(), kind),
        "tensor": request(path, json.dumps(tensor).encode(), kind),
    }
    command = [str(python.parent / "mlserver"), "start", str(folder)]
    with started(command, peer_settings(served, threads), folder, port, ready=f"/v2/models/{served.name}/ready"):
        yield Up(port, requests)


@contextlib.contextmanager
def bentoml(served: Served, folder: Path, threads: int) -> Iterator[Up]:
    python, port = environment("bentoml"), free_port()
    folder.mkdir(parents=True)
    requests = {
        "jpeg": request("/jpeg", served.jpeg, {"Content-Type": "image/jpeg"}),
        "tensor": request("/tensor", served.array.tobytes(), {"Content-Type": "application/octet-stream"}),
    }
    settings = peer_settings(served, threads) | {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "home")}
    command = [str(python.parent / "bentoml"), "serve", "bentoml_service:Classifier", "--working-dir",
               str(HERE / "peers"), "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    with started(command, settings, folder, port, ready="/readyz"):
        yield Up(port, requests)


@contextlib.contextmanager
def trivial() -> Iterator[int]:
    """The server that looks at nothing, of serving_load.py."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "serving_load.py"), "serve"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def peer_settings(served: Served, threads: int) -> dict[str, str]:
    shape = ",".join(map(str, served.array.shape))
    return {
        "BENCH_MODEL": str(served.model), "BENCH_THREADS": str(threads), "BENCH_SHAPE": shape,
        "PYTHONPATH": str(HERE / "peers"),
    }  # fmt: skip


def kserve_binary(served: Served) -> tuple[bytes, dict[str, str]]:
    """A request of KServe v2 with its tensor behind the JSON, both ways."""
    data = served.array.tobytes()
    named = {"name": "image", "shape": list(served.array.shape), "datatype": "UINT8"}
    head = {"inputs": [named | {"parameters": {"binary_data_size": len(data)}}],
            "parameters": {"binary_data_output": True}}  # fmt: skip
    text = json.dumps(head).encode()
    kind = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return text + data, kind


def request(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def refused(port: int, whole: bytes) -> str:
    """What a server says to a request that it does not answer with 200; nothing where it does."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(whole)
        head = connection.recv(65536)
    return "" if head.startswith(b"HTTP/1.1 200") else head.partition(b"\r\n")[0].decode("latin-1")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def started(
    command: list[str], settings: Mapping[str, str], folder: Path, port: int, ready: str = "/healthz"
) -> Iterator[None]:
    """A server in a process group of its own, once it answers; its log lies in `folder`."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | settings, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
        try:
            await_answer(process, port, ready, folder / "log")
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def await_answer(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise OSError(f"the server does not come up: {log.read_text(errors='replace')[-2000:]}")
