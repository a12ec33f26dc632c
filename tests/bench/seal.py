"""`make bench-seal`: sealing and opening a file, beside AES-256-GCM of OpenSSL and beside age.

    python tests/bench/seal.py [--mib 256] [--rounds 7] [--folder FOLDER]

In one run, turn by turn, so that a busy machine slows all alike: what is reported is the median. OpenSSL is its EVP
interface as `cryptography` calls it, one message and one tag, in pieces of 1 MiB into buffers that are used again: what
`openssl enc` would do if it had GCM. age is pyrage with one X25519 recipient. Ours is as in the product: chunks, key
commitment, keyed hash of the plaintext; sealing also takes the digest of the ciphertext. "to RAM" opens a bundle, with
all that is checked. `toolkit` puts no plaintext on a disk, so "open, to a file" is this script's: the same cipher and
hash over one file, whose pieces are written as soon as their tags are checked, as age does. Writes
tests/bench/results/seal.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyrage
from cryptography import __version__ as cryptography_version
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from seal_parts import HEADER, LICENCE, Home, make_home, put

from toolkit.artifacts import BundleFile
from toolkit.seal.bundle import seal_bundle
from toolkit.seal.cipher import CHUNK, COB256, encrypt_file, new_content_key
from toolkit.seal.memory import SecretBuffer
from toolkit.seal.open import open_bundle
from toolkit.seal.verify import verify_bundle
from toolkit.serving.sessions import session_of
from toolkit.site.current import open_current
from toolkit.workspace import mapped

RESULTS = Path(__file__).parent / "results" / "seal.json"
PIECE = 1 << 20
KEY, NONCE = bytes(range(32)), bytes(12)
Action = Callable[[], object]


class Took(NamedTuple):
    """Seconds that an action measured itself, elsewhere."""

    wall: float
    cpu: float


def timed(actions: dict[str, Action], rounds: int, out: Path, memory: int) -> dict[str, dict[str, float]]:
    """Medians of seconds by the clock and of processor time, all actions in turn; the first round only warms up.

    Before each of them `out`, where it writes, is gone, and `memory` bytes are taken and given back: a virtual machine
    returns free memory to its host after a second or two, and who needs it next waits for it, but not who comes then.
    """
    wall: dict[str, list[float]] = {name: [] for name in actions}
    cpu: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            out.unlink(missing_ok=True)
            SecretBuffer(memory).wipe()
            began, worked = time.perf_counter(), time.process_time()
            took = action()
            if not isinstance(took, Took):
                took = Took(time.perf_counter() - began, time.process_time() - worked)
            if number:
                wall[name].append(took.wall)
                cpu[name].append(took.cpu)
    return {
        name: {
            "seconds": statistics.median(wall[name]), "best_seconds": min(wall[name]),
            "cpu_seconds": statistics.median(cpu[name]),
        }
        for name in actions
    }  # fmt: skip


def openssl(source: Path, target: Path | None, *, opening: bool) -> Action:
    """AES-256-GCM over a file, into a file or into memory."""
    tag = bytes(16)
    if opening:
        tag = source.with_suffix(".tag").read_bytes()

    def run() -> object:
        cipher = Cipher(algorithms.AES(KEY), modes.GCM(NONCE, tag if opening else None))
        step = cipher.decryptor() if opening else cipher.encryptor()
        piece, room = bytearray(PIECE), bytearray(PIECE + 16)
        whole = memoryview(bytearray(source.stat().st_size)) if target is None else None
        at = 0
        with source.open("rb", buffering=0) as read, (target or Path(os.devnull)).open("wb", buffering=0) as write:
            while count := read.readinto(piece):
                if whole is not None:
                    at += step.update_into(memoryview(piece)[:count], whole[at:])
                else:
                    write.write(memoryview(room)[: step.update_into(memoryview(piece)[:count], room)])
        step.finalize()
        if not opening and target is not None:
            target.with_suffix(".tag").write_bytes(step.tag)
        return whole

    return run


def sealed_file(source: Path, target: Path, key: bytes) -> str:
    """What sealing does to one file, without the flush to the disk, which age does not do either; the keyed hash."""
    digest = hashlib.sha256()
    with target.open("xb") as stream:
        return encrypt_file(mapped(source), key, b"context", digest.update, stream.write)


def opened_file(source: Path, target: Path, key: bytes, sealed_mac: str) -> None:
    """What opening does to one file, but with each piece written as it comes."""
    decryptor, mac = COB256.decryptor(key, b"context"), COB256.keyed_hash(key)
    piece, rooms = memoryview(bytearray(PIECE)), [memoryview(bytearray(PIECE + CHUNK)) for _ in range(2)]
    hashing: Future[None] | None = None
    with (
        source.open("rb", buffering=0) as read,
        target.open("xb", buffering=0) as write,
        ThreadPoolExecutor(1) as helper,
    ):
        while count := read.readinto(piece):
            opened = rooms[0][: decryptor.update_into(piece[:count], rooms[0])]
            if hashing is not None:
                hashing.result()
            hashing = helper.submit(mac.update, opened)
            write.write(opened)
            rooms.reverse()
        last = decryptor.finalize()
        write.write(last)
    mac.update(last)
    assert mac.hexdigest() == sealed_mac


def bulk(folder: Path, mib: int, rounds: int) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    plain, gcm, age, ours, out = (folder / name for name in ("plain", "gcm", "age", "ours", "out"))
    plain.write_bytes(os.urandom(mib << 20))
    home = make_home(folder / "home")
    site = home.site()
    bundle = home.granted(site, plain.read_bytes())
    key = site.recipient_key()
    person = pyrage.x25519.Identity.generate()
    content_key = new_content_key()
    mac = sealed_file(plain, ours, content_key)
    openssl(plain, gcm, opening=False)()
    pyrage.encrypt_file(str(plain), str(age), [person.to_public()])

    def opened() -> None:
        with open_bundle(bundle.path, site.trust, key) as files:
            files.view("model").release()

    def whole_bundle() -> None:
        files = [BundleFile("model", plain.read_bytes()), LICENCE]
        seal_bundle(folder / "bundles", header=HEADER, files=files, keys=home.keys, escrow=home.escrow)
        for path in sorted((folder / "bundles").rglob("blobs/sha256/*")):
            path.unlink()

    found = timed(
        {
            "open, to RAM": opened,
            "openssl, decrypt to RAM": openssl(gcm, None, opening=True),
            "open, to a file": lambda: opened_file(ours, out, content_key, mac),
            "openssl, decrypt to a file": openssl(gcm, out, opening=True),
            "age, decrypt to a file": lambda: pyrage.decrypt_file(str(age), str(out), [person]),
            "seal a file": lambda: sealed_file(plain, out, new_content_key()),
            "openssl, encrypt a file": openssl(plain, out, opening=False),
            "age, encrypt a file": lambda: pyrage.encrypt_file(str(plain), str(out), [person.to_public()]),
            "seal a whole bundle, checked and flushed": whole_bundle,
            "verify a bundle": lambda: verify_bundle(bundle.path, site.trust),
        },
        rounds,
        out,
        memory=3 * mib << 20,
    )
    for row in found.values():
        row["mib_per_second"] = mib / row["seconds"]
        row["mib_per_cpu_second"] = mib / row["cpu_seconds"]
    size = sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file()) - len(LICENCE.data)
    return found, {"overhead": size / (mib << 20) - 1}


ANSWER = """
import sys, time, numpy
from pathlib import Path
from toolkit.seal.memory import SecretBuffer
from toolkit.serving.sessions import session_of
from toolkit.site.current import open_current
SecretBuffer(1 << 30).wipe()
question = {"x0": numpy.ones((1, 2048), numpy.float32)}
began, worked = time.perf_counter(), time.process_time()
if sys.argv[1] == "plain":
    session = session_of(Path(sys.argv[2]).read_bytes())
else:
    with open_current(Path(sys.argv[2])) as files:
        session = session_of(files.read("model"))
        files.forget("model")
session.run(None, question)
print(time.perf_counter() - began, time.process_time() - worked)
"""
"""A process of its own, from the moment when everything is imported; before it, as in `timed`, memory is taken."""


def first_answers(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """From a file, or a sealed bundle on a site, to the first answer of ONNX Runtime: in a process of its own, as a
    server starts, and once more in this one, whose memory is warm."""
    width = 2048
    weights = np.random.default_rng(1).standard_normal((4, width, width), np.float32)
    nodes = [helper.make_node("MatMul", [f"x{n}", f"w{n}"], [f"x{n + 1}"]) for n in range(4)]
    graph = helper.make_graph(
        nodes, "wide", [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info("x4", TensorProto.FLOAT, [1, width])],
        [numpy_helper.from_array(weight, f"w{n}") for n, weight in enumerate(weights)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    home: Home = make_home(folder / "served")
    site = home.site()
    put(home.granted(site, (folder / "model.onnx").read_bytes()).path, site)
    question = {"x0": np.ones((1, width), np.float32)}

    def plain() -> None:
        session_of((folder / "model.onnx").read_bytes()).run(None, question)

    def sealed() -> None:
        with open_current(site.path) as files:
            session = session_of(files.read("model"))
            files.forget("model")
        session.run(None, question)

    def fresh(kind: str, path: Path) -> Action:
        environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}
        words = [sys.executable, "-c", ANSWER, kind, str(path)]

        def run() -> Took:
            done = subprocess.run(words, check=True, env=environment, capture_output=True, text=True)
            wall, cpu = map(float, done.stdout.split())
            return Took(wall, cpu)

        return run

    return timed(
        {
            "first answer, ONNX file": fresh("plain", folder / "model.onnx"),
            "first answer, sealed bundle": fresh("sealed", site.path),
            "opened again, ONNX file": plain,
            "opened again, sealed bundle": sealed,
        },
        rounds,
        folder / "out",
        memory=1 << 30,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256, help="size of the file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder else")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows, facts = bulk(Path(folder), arguments.mib, arguments.rounds)
        answers = first_answers(Path(folder), arguments.rounds)

    def faster(one: str, other: str) -> float:
        return rows[other]["seconds"] / rows[one]["seconds"]

    ratios = {
        "open_to_openssl": faster("open, to RAM", "openssl, decrypt to RAM"),
        "open_file_to_age": faster("open, to a file", "age, decrypt to a file"),
        "seal_file_to_age": faster("seal a file", "age, encrypt a file"),
        "overhead": facts["overhead"],
        "first_answer_to_plain": answers["first answer, sealed bundle"]["seconds"]
        / answers["first answer, ONNX file"]["seconds"],
        "reopened_to_plain": answers["opened again, sealed bundle"]["seconds"]
        / answers["opened again, ONNX file"]["seconds"],
    }
    for name, row in (rows | answers).items():
        rate = f"{row['mib_per_second']:>8,.0f} MiB/s" if "mib_per_second" in row else f"{row['seconds']:>8.3f} s"
        print(f"{name:<44} {rate}  ({row['cpu_seconds']:.3f} s of processor time)")
    print(json.dumps(ratios, indent=1))
    record = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), "cryptography": cryptography_version},
        "mib": arguments.mib, "rounds": arguments.rounds, "rows": rows | answers, "ratios": ratios,
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
