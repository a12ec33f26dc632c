"""Start the server on the site, ask it about one test row, stop it: a deployment ends with an answer that was seen."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.artifacts import Artifact, CompiledModel, Dataset, Evaluation, Facts, Installation
from toolkit.errors import EnvironmentUnfit, IntegrityError
from toolkit.serving.access import add_key, remove_key
from toolkit.serving.dispatch import BUNDLE, PRODUCT, VERSION
from toolkit.stages.context import Context, Stage, Upstream, take
from toolkit.tasks.base import Request, task_of
from toolkit.workspace import Stored

START_SECONDS = 60.0
HERE = "http://127.0.0.1:8080"
"""Where `toolkit serve` listens unless told otherwise."""

DIE_WITH_PARENT = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM: kept across exec
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Starts Python anew with the arguments after it: a deployment that is killed must not leave a server behind."""


def run(context: Context, upstream: Upstream, folder: Path) -> Facts:
    """The served answer must be the one that was scored at the gate."""
    context.report("start the server", 0, 2)
    task = task_of(context.plan)
    request = task.request(context.plan, take(upstream, "prepare", Dataset))
    scored = next(row for row in take(upstream, "gate", Evaluation).per_row if row["id"] == request.row_id)
    installed = take(upstream, "install", Installation).facts
    with _server(context.site) as url, _key(context.site) as key:
        context.report("ask the server", 1, 2)
        started = time.perf_counter()
        answer = _ask(url + request.route, request, key, installed)
        took = time.perf_counter() - started
        product = f"/products/{installed['product']}"
        curl = _curl_of(_told(f"{url}{product}/openapi.json", key)) or task.CURL
        if _serves_others(_told(f"{url}/readyz", key)):
            curl = curl.replace(HERE, HERE + product)
    context.report("ask the server", 2, 2)
    verdict = task.check_answer(request, answer, scored, take(upstream, "compile", CompiledModel))
    return {
        "row": request.row_id,
        "verdict": verdict,
        "truth": scored["truth"],
        "latency_ms": round(1e3 * took, 3),
        "bundle": installed["bundle_id"],
        "product": installed["product"],
        "content_type": request.content_type,
        "route": request.route,
        "curl": curl,
    }


def _curl_of(schema: dict[str, Any]) -> str:
    """How a person asks the domain: the first route whose body has an example, as arguments of curl; empty where there
    is none."""
    for path, methods in schema["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        name = str(body.get("schema", {}).get("$ref", "")).rpartition("/")[2]
        examples = schema.get("components", {}).get("schemas", {}).get(name, {}).get("examples")
        if examples:
            said = json.dumps(examples[0], ensure_ascii=False)
            return f"-H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' -d '{said}' {HERE}{path}"
    return ""


def _serves_others(ready: dict[str, Any]) -> bool:
    """Whether a request has to name the product that it is for."""
    return len({one["product"] for one in ready.get("versions", [ready])}) > 1


@contextmanager
def _server(site: Path) -> Iterator[str]:
    """`toolkit serve` on a free port of the loopback, in a process of its own, ready to answer."""
    serve = ["-m", "toolkit.cli.main", "serve", "--site", str(site), "--port", "0", "--json"]
    command = [sys.executable, "-c", DIE_WITH_PARENT, *serve]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        text = ""
        while text.splitlines()[-1:] != ["}"]:  # the end of the record; those inside it are indented
            line = process.stdout.readline()
            if not line:
                problem = (process.stderr.read() if process.stderr else "").strip()
                raise EnvironmentUnfit(
                    f"the server did not start: {problem or 'it said nothing'}",
                    hint=f"Try it by hand: toolkit serve --site {site}",
                )
            text += line
        record = json.loads(text)
        if refused := record.get("error"):
            raise EnvironmentUnfit(f"the server did not start: {refused['message']}", hint=refused["hint"])
        url = str(record["url"])
        _wait_until_ready(url)
        yield url
    finally:
        process.terminate()
        try:
            process.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise EnvironmentUnfit("the server does not answer", hint="Look at the machine's load.") from error
            time.sleep(0.05)


@contextmanager
def _key(site: Path) -> Iterator[str]:
    """An API key for this check alone."""
    name = f"check-{secrets.token_hex(4)}"
    secret = add_key(site, name, "infer")
    try:
        yield secret
    finally:
        remove_key(site, name)


def _ask(url: str, request: Request, key: str, installed: Facts) -> dict[str, Any]:
    """What that bundle says, of all that the site may serve.

    Raises:
        IntegrityError: another one answered.
    """
    headers = {
        "Content-Type": request.content_type, "Authorization": f"Bearer {key}",
        PRODUCT: installed["product"], VERSION: installed["version"],
    }  # fmt: skip
    asked = urllib.request.Request(url, data=request.body, headers=headers, method="POST")
    answer, by = _answered(asked)
    if by != installed["bundle_id"]:
        raise IntegrityError(
            f"the bundle {by} answered, and {installed['bundle_id']} was installed", part="served answer",
            hint="Run `toolkit verify` on the site, then deploy again.",
        )  # fmt: skip
    return answer


def _told(url: str, key: str) -> dict[str, Any]:
    return _answered(urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"}))[0]


def _answered(asked: urllib.request.Request) -> tuple[dict[str, Any], str]:
    """An answer, and the bundle that gave it."""
    try:
        with urllib.request.urlopen(asked, timeout=START_SECONDS) as response:
            answer: dict[str, Any] = json.loads(response.read())
            return answer, response.headers.get(BUNDLE, "")
    except urllib.error.HTTPError as error:
        raise EnvironmentUnfit(
            f"the server answers {error.code}: {error.read().decode(errors='replace')[:300]}",
            hint="Run `toolkit status` on the site.",
        ) from error


def load(context: Context, stored: Stored) -> Artifact:
    return Artifact(stored.path, stored.digest, stored.parents, stored.facts)


STAGE = Stage(
    name="check",
    kind="check",
    keys=(),
    needs=("prepare", "compile", "gate", "install"),
    code=("toolkit.serving", "toolkit.stages.check"),
    run=run,
    load=load,
)
