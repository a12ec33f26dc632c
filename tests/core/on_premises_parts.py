"""A site's own environment: nothing of the training side, and no way off the machine."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ON_PREMISES = '''
"""A site: nothing of the training side can be imported, and no socket leads off the machine."""
import sys

MISSING = {"torch", "transformers", "onnx", "onnxscript", "efficientnet_lite_pytorch"}
HERE = {"127.0.0.1", "::1", "localhost", None, b"127.0.0.1"}


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def watch(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        address = arguments[1]
    elif event == "socket.getaddrinfo":
        address = arguments[:1]
    else:
        return
    if isinstance(address, tuple) and address[0] not in HERE:
        raise PermissionError(f"{event} {address}")


sys.meta_path.insert(0, Absent())
sys.addaudithook(watch)
'''


@contextmanager
def served(shell: Any, site: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """`toolkit serve` where nothing of the training side is and no socket leads off the machine: host and port."""
    (folder / "sitecustomize.py").write_text(ON_PREMISES)
    command = shell.command("serve", "--site", site, "--port", "0", "--json")
    process = subprocess.Popen(
        command, env=shell.environment(PYTHONPATH=str(folder)), cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    limit = threading.Timer(300, process.kill)
    limit.start()
    try:
        assert process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            text += line
        host, _, port = json.loads(text)["url"].removeprefix("http://").rpartition(":")
        yield host, int(port)
        assert process.poll() is None
    finally:
        process.terminate()
        process.communicate(timeout=60)
        limit.cancel()
