"""A running server follows its site: versions come, go and fail while clients ask."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
import pytest
from kserve_parts import served
from onnx import helper, numpy_helper
from seal_parts import HEADER, LICENCE, Home, make_home
from serving_parts import bundle_files, golden, mean_model, picture
from test_serving_cli import install_domain, serving

from toolkit.artifacts import BundleFile
from toolkit.seal.bundle import seal_bundle
from toolkit.seal.manifest import DomainRef
from toolkit.seal.open import OpenedBundle
from toolkit.serving import following
from toolkit.serving.access import add_key
from toolkit.serving.fleet import InHand
from toolkit.serving.following import Follower, Loaded
from toolkit.serving.metrics import Metrics
from toolkit.site.fit import InstalledDomain
from toolkit.site.install import install
from toolkit.site.layout import Site, open_site
from toolkit.site.rollback import promote, rollback
from toolkit.site.state import read_state
from toolkit.site.verify import verify_site

DOMAIN = {"tiny": InstalledDomain("0.1.0")}
RED = picture((230, 20, 20))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    return install_domain(tmp_path / "packages", seconds=0)


def seal(home: Home, product: str = "tiny", **more: bytes) -> Path:
    header = dataclasses.replace(HEADER, product=product, domain=DomainRef("tiny", ">=0.1,<0.2"))
    files = [LICENCE, *(BundleFile(role, data) for role, data in bundle_files(**more).items())]
    sealed = seal_bundle(home.bundles, header=header, files=files, keys=home.keys, escrow=home.escrow)
    home.grant(sealed.path, home.site())
    return sealed.path


def put(home: Home, bundle: Path, permille: int = 1000) -> str:
    done = install(bundle, home.site(), check=lambda manifest: (), domains=DOMAIN, permille=permille)
    return done.bundle_id


def told_of(site: Site, event: str) -> list[Mapping[str, Any]]:
    """What the trail tells of an event."""
    return [entry.details for entry in site.audit.read() if entry.event == event]


def lying() -> bytes:
    """Known answers that the model does not give."""
    with np.load(io.BytesIO(golden())) as arrays:
        buffer = io.BytesIO()
        np.savez(buffer, image=arrays["image"], probabilities=arrays["probabilities"][:, ::-1])
        return buffer.getvalue()


@dataclasses.dataclass
class Asking:
    """Clients that ask all the time; every answer is noted by status, and by the version in its headers and body."""

    url: str
    key: str
    seen: Counter[tuple[int, str, str]] = dataclasses.field(default_factory=Counter)

    def once(self, client: httpx.Client, path: str = "/v1/inspect", **headers: str) -> httpx.Response:
        answer = client.post(path, content=RED, headers={"Content-Type": "image/png", **headers})
        told = answer.headers.get("x-toolkit-bundle", "")
        self.seen[answer.status_code, told, answer.json().get("bundle", "")] += 1
        return answer

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"X-API-Key": self.key}, timeout=20)

    @contextmanager
    def all_the_time(self, threads: int = 3) -> Iterator[None]:
        end = threading.Event()

        def ask() -> None:
            with self.client() as client:
                while not end.is_set():
                    self.once(client)

        asking = [threading.Thread(target=ask) for _ in range(threads)]
        for thread in asking:
            thread.start()
        try:
            yield
        finally:
            end.set()
            for thread in asking:
                thread.join()

    def wait_for(self, bundle_id: str, seconds: float = 10.0) -> float:
        """Until that version answers; the seconds it took."""
        started = time.monotonic()
        with self.client() as client:
            while self.once(client).json()["bundle"] != bundle_id:
                assert time.monotonic() - started < seconds, f"{bundle_id} does not answer"
                time.sleep(0.02)
        return time.monotonic() - started

    def all_right(self, *versions: str) -> None:
        assert {status for status, _, _ in self.seen} == {200}, self.seen
        assert all(told == said for _, told, said in self.seen), self.seen
        assert {said for _, _, said in self.seen} == set(versions)


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_installed_promoted_and_rolled_back_under_load(home: Home, packages: Path) -> None:
    one, key = put(home, seal(home)), add_key(home.site().path, "line", "infer")
    with serving(home.site().path, packages) as (process, told):
        asking = Asking(told["url"], key)
        with asking.all_the_time():
            two = put(home, seal(home))
            assert asking.wait_for(two) < 5
            rollback(home.site())
            assert asking.wait_for(one) < 5
            promote(home.site(), two)
            asking.wait_for(two)
            three = put(home, seal(home), permille=500)
            until(lambda: asking.seen[200, three, three] > 20)
            promote(home.site())
            asking.wait_for(three)
        asking.all_right(one, two, three)
        assert process.poll() is None
    assert verify_site(home.site().path).state.current == three


def test_a_version_that_answers_otherwise_here_is_taken_back(home: Home, packages: Path) -> None:
    one, key = put(home, seal(home)), add_key(home.site().path, "line", "infer")
    with serving(home.site().path, packages) as (process, told):
        asking = Asking(told["url"], key)
        with asking.all_the_time():
            bad = put(home, seal(home, golden=lying()))
            until(lambda: verify_site(home.site().path).state.current == one)
        asking.all_right(one)
        process.terminate()
        assert "does not answer here as it did" in process.communicate(timeout=20)[1]
    site = home.site()
    state = read_state(site.current, site.key_id)
    assert [failed.bundle_id for failed in state.failed] == [bad]
    assert [(told["by"], told["from"]) for told in told_of(site, "rollback.done")] == [("server", bad)]


def test_a_bad_version_that_was_installed_before_the_start_is_taken_back_at_the_start(
    home: Home, packages: Path
) -> None:
    one = put(home, seal(home))
    put(home, seal(home, golden=lying()))
    with serving(home.site().path, packages) as (_process, told):
        assert told["bundle"] == one


def test_several_products_answer_by_path_and_header(home: Home, packages: Path) -> None:
    first, key = put(home, seal(home)), add_key(home.site().path, "line", "infer")
    with serving(home.site().path, packages) as (_process, told):
        asking = Asking(told["url"], key)
        second = put(home, seal(home, "other"))
        with asking.client() as client:
            until(lambda: client.get("/products/other/openapi.json").status_code == 200)
            ask = asking.once
            assert ask(client).json()["bundle"] == first
            assert ask(client, "/products/tiny/v1/inspect").json()["bundle"] == first
            assert ask(client, "/products/other/v1/inspect").json()["bundle"] == second
            assert ask(client, **{"X-Toolkit-Product": "other"}).json()["bundle"] == second
            assert ask(client, **{"X-Toolkit-Version": "1.1"}).json()["bundle"] == first
            wrong = ask(client, "/products/others/v1/inspect")
            assert (wrong.status_code, wrong.json()["error"]["hint"].startswith("Did you mean other?")) == (404, True)
            assert ask(client, **{"X-Toolkit-Version": "7.7"}).status_code == 404
            ready = client.get("/readyz").json()
            assert (ready["product"], [one["product"] for one in ready["versions"]]) == ("tiny", ["tiny", "other"])
    state = verify_site(home.site().path).state
    assert [served.product for served in state.served] == ["tiny", "other"]
    assert open_site(home.site().path).path.is_dir()


def test_a_site_that_could_not_be_read_for_a_moment_is_read_again_though_nobody_changes_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warm(_site: Site, bundle: OpenedBundle) -> Loaded:
        model = served(mean_model()[0])
        return Loaded(dataclasses.replace(model, facts=dataclasses.replace(model.facts, id=bundle.manifest.bundle_id)))

    one, two, failures = put(home, seal(home)), "", 0
    follower = Follower(home.site(), warm, Metrics(), InHand(), 1.0)
    follower.begin()
    real = following.open_site

    def shaky(*args: Any) -> Site:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise OSError("too many open files")
        return real(*args)

    async def main() -> None:
        task = asyncio.create_task(follower.follow())
        deadline = time.monotonic() + 20
        while [model.facts.id for model in follower.fleet.all()] != [two]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        task.cancel()

    assert [model.facts.id for model in follower.fleet.all()] == [one]
    two = put(home, seal(home))
    monkeypatch.setattr(following, "open_site", shaky)
    asyncio.run(main())
    assert failures == 2
    assert capsys.readouterr().err.count("the site cannot be followed: too many open files") == 1


def heavy(seed: int, numbers: int = 8_000_000) -> bytes:
    """The tiny model, with 32 MB of weights that no optimisation can take away and that change no answer."""
    model = onnx.load_from_string(mean_model()[0])
    weights = np.random.default_rng(seed).random(numbers, np.float32)
    model.graph.initializer.extend([
        numpy_helper.from_array(weights, "heavy"),
        numpy_helper.from_array(np.zeros((), np.int64), "first"),
        numpy_helper.from_array(np.zeros((), np.float32), "nothing"),
    ])  # fmt: skip
    model.graph.node[3].input[0] = "sum"
    for number, node in enumerate([
        helper.make_node("Shape", ["image"], ["shape"]), helper.make_node("Gather", ["shape", "first"], ["count"]),
        helper.make_node("Gather", ["heavy", "count"], ["weight"]),
        helper.make_node("Mul", ["weight", "nothing"], ["none"]), helper.make_node("Add", ["logits", "none"], ["sum"]),
    ]):  # fmt: skip
        model.graph.node.insert(3 + number, node)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_a_version_that_is_let_go_gives_its_memory_back(home: Home, packages: Path) -> None:
    versions = [put(home, seal(home, model=heavy(seed))) for seed in (1, 2)]
    key = add_key(home.site().path, "line", "infer")
    with serving(home.site().path, packages, "--workers", "1") as (process, told):
        asking, worker = Asking(told["url"], key), psutil.Process(process.pid).children()[0]
        held, threads = [], []
        for turn in range(4):
            promote(home.site(), versions[turn % 2])
            asking.wait_for(versions[turn % 2], 30)
            deadline = time.monotonic() + (5 if held else 1.5)  # what answered before goes once its requests are done
            while time.monotonic() < deadline and not (held and worker.memory_info().rss / 1e6 < held[0] + 8):
                time.sleep(0.1)
            held.append(worker.memory_info().rss / 1e6)
            threads.append(worker.num_threads())
        print("MB held after each switch:", [round(one) for one in held])
        assert max(held) - held[0] < 8
        assert threads[-1] <= threads[0] + 1, threads  # asyncio keeps some of its own
