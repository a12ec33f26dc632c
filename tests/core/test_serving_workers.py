"""A server of several processes: one that is killed, all that drain, and figures that add up."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as Counted
from prometheus_client import Gauge as Level
from prometheus_client import Histogram as Spread
from seal_parts import Home, make_home
from serving_parts import picture
from test_serving_cli import finished, install_domain, serving
from test_serving_following import lying, put, seal, told_of

from toolkit.serving.access import add_key
from toolkit.serving.board import PLACE_BYTES, Board
from toolkit.serving.gathering import gathered
from toolkit.site.verify import verify_site

RED = picture((230, 20, 20))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    return install_domain(tmp_path / "packages", seconds=0)


def ready_of(url: str, key: str) -> dict[str, object]:
    found = httpx.get(url + "/readyz", headers={"X-API-Key": key}).json()
    assert isinstance(found, dict)
    return found


def wait_for_workers(url: str, key: str, count: int, restarts: int = 0) -> dict[str, object]:
    deadline = time.monotonic() + 30
    while True:
        told = ready_of(url, key)
        if (told["workers"]["running"], told["workers"]["restarts"]) == (count, restarts):  # type: ignore[index]
            return told
        assert time.monotonic() < deadline, told
        time.sleep(0.05)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


@dataclass(frozen=True)
class Pair:
    """A server with two workers."""

    process: subprocess.Popen[str]
    url: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.key, "Content-Type": "image/png"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = make_home(tmp_path_factory.mktemp("pair") / "home")
    put(home, seal(home))
    key = add_key(home.site().path, "line", "operate")
    packages = install_domain(tmp_path_factory.mktemp("packages") / "packages", seconds=0)
    with serving(home.site().path, packages, "--workers", "2") as (process, told):
        wait_for_workers(told["url"], key, 2)
        yield Pair(process, told["url"], key)


def test_no_process_leaves_a_core_dump_and_the_parent_has_no_threads(pair: Pair) -> None:
    # numpy's BLAS starts its own when it is imported, and knows of forks
    assert psutil.Process(pair.process.pid).num_threads() <= len(os.sched_getaffinity(0))
    for worker in (psutil.Process(pair.process.pid), *workers_of(pair.process)):
        limits = Path(f"/proc/{worker.pid}/limits").read_text()
        assert "Max core file size        0" in limits
        # what is not dumpable belongs to root in /proc, whoever runs it
        assert os.stat(f"/proc/{worker.pid}/mem").st_uid == 0


def test_figures_of_all_workers_add_up_and_outlive_them(pair: Pair) -> None:
    def counted() -> float:
        text = httpx.get(pair.url + "/metrics", headers=pair.headers).text
        wanted = 'route="/v1/inspect",status="200"'
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if "_total" in line and wanted in line)

    for _ in range(40):
        assert httpx.post(pair.url + "/v1/inspect", content=RED, headers=pair.headers).status_code == 200
    deadline = time.monotonic() + 10
    while counted() != 40:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers_of(pair.process)[0].send_signal(signal.SIGKILL)
    wait_for_workers(pair.url, pair.key, 2, restarts=1)
    assert counted() == 40


def test_workers_end_with_the_process_that_started_them(pair: Pair) -> None:
    workers = workers_of(pair.process)
    assert len(workers) == 2
    pair.process.kill()  # nobody can use the pair any more: this is the last of its tests
    pair.process.wait()
    assert not psutil.wait_procs(workers, timeout=15)[1]


@pytest.mark.parametrize("count", [1, 2])
def test_a_killed_worker_is_replaced_and_it_is_told(home: Home, packages: Path, count: int) -> None:
    put(home, seal(home))
    key = add_key(home.site().path, "line", "operate")
    headers = {"X-API-Key": key, "Content-Type": "image/png"}
    with serving(home.site().path, packages, "--workers", str(count)) as (process, told):
        url = told["url"]
        wait_for_workers(url, key, count)
        end, answered, lost = threading.Event(), [], Counter[str]()

        def ask() -> None:
            while not end.is_set():
                try:
                    answer = httpx.post(url + "/v1/inspect", content=RED, headers=headers, timeout=20)
                    assert answer.status_code == 200
                    answered.append(time.monotonic())
                except httpx.TransportError as error:
                    lost[type(error).__name__] += 1

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        time.sleep(1)
        victim, killed = workers_of(process)[0], time.monotonic()
        victim.send_signal(signal.SIGKILL)
        after = wait_for_workers(url, key, count, restarts=1)
        time.sleep(0.3)
        end.set()
        for thread in asking:
            thread.join()
        # What it had in hand is lost, one request a client; each of them is answered again within 2 seconds.
        assert sum(lost.values()) <= len(asking), lost
        gaps = [later - earlier for earlier, later in itertools.pairwise(sorted(answered))]
        print(f"{count} workers: longest silence {max(gaps):.2f} s, lost {dict(lost)}")
        # Another worker answers meanwhile. Where there is none, the new one needs a sixth of a second of one core; on a
        # machine that is busy it waits for that.
        waited = max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0))) if count == 1 else 0.5
        assert min(at for at in answered if at > killed) - killed < 2 * waited
        assert "was killed by SIGKILL" in after["workers"]["last"]["why"]  # type: ignore[index]
        figures = httpx.get(url + "/metrics", headers=headers).text
        assert "toolkit_worker_restarts_total 1.0" in figures
        assert f"toolkit_workers {count}.0" in figures
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert f"(process {victim.pid}) was killed by SIGKILL" in process.stderr.read()  # type: ignore[union-attr]
    assert [told["pid"] for told in told_of(verify_site(home.site().path).site, "serve.restarted")] == [str(victim.pid)]


def test_sigterm_loses_no_request_of_clients_that_keep_their_connection(home: Home, packages: Path) -> None:
    put(home, seal(home))
    headers = {"X-API-Key": add_key(home.site().path, "line", "operate"), "Content-Type": "image/png"}
    with serving(home.site().path, packages, "--workers", "2") as (process, told):
        wait_for_workers(told["url"], headers["X-API-Key"], 2)
        statuses, closed, wrong = Counter[int](), [], []

        def ask() -> None:
            with httpx.Client(base_url=told["url"], headers=headers, timeout=20) as client:
                while True:
                    try:
                        answer = client.post("/v1/inspect", content=RED)
                    except httpx.ConnectError:
                        return
                    except httpx.TransportError as error:
                        wrong.append(error)
                        return
                    statuses[answer.status_code] += 1
                    if answer.headers.get("connection") == "close":
                        closed.append(answer)  # told to go elsewhere, it does
                        return

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        for thread in asking:
            thread.join()
    assert not wrong
    assert set(statuses) == {200}
    assert closed


def test_a_first_worker_that_does_not_come_to_life_is_the_end_and_the_reason_is_told(
    home: Home, packages: Path
) -> None:
    put(home, seal(home, golden=lying()))
    code, out, err = finished("serve", "--site", str(home.site().path), "--port", "0", packages=packages)
    assert (code, out, err.count("\n")) == (5, "", 2)
    assert "does not answer here as it did" in err
    entries = verify_site(home.site().path).site.audit.read()
    assert [entry.event for entry in entries][-1] == "serve.refused"


def test_clients_that_came_before_the_other_worker_are_shared_with_it(home: Home, packages: Path) -> None:
    site = home.site().path
    put(home, seal(home))
    headers = {"X-API-Key": add_key(site, "line", "infer"), "Content-Type": "image/png"}
    with serving(site, packages, "--workers", "2") as (process, told):
        clients = [httpx.Client(base_url=told["url"], headers=headers, timeout=20) for _ in range(8)]
        statuses = Counter(client.get("/healthz").status_code for client in clients)  # all by the first worker

        def held() -> list[int]:
            connections = [worker.net_connections("tcp") for worker in workers_of(process)]
            return sorted(sum(one.status == "ESTABLISHED" for one in each) for each in connections)

        deadline = time.monotonic() + 20
        while held() != [4, 4]:
            assert time.monotonic() < deadline, held()
            statuses.update(client.post("/v1/inspect", content=RED).status_code for client in clients)
        assert set(statuses) == {200}
        for client in clients:
            client.close()


def test_a_first_worker_whose_app_does_not_begin_is_the_end_too(home: Home, packages: Path) -> None:
    put(home, seal(home))
    site = home.site().path
    add_key(site, "line", "infer")
    (site / "inferences").write_bytes(b"a file where a folder is to be")
    code, out, err = finished("serve", "--site", str(site), "--port", "0", packages=packages)
    assert (code, out) == (5, "")
    assert "inferences" in err


ENDED_AT_ONCE = """
import os, signal, socket, time
from toolkit.serving.supervisor import Supervisor

def work(duty):
    duty.ready({})
    time.sleep(60)

def first(said):
    os.kill(os.getpid(), signal.SIGNAL)  # the others are told to end as soon as they are forked
    os.register_at_fork(after_in_child=lambda: time.sleep(0.5))  # as on a machine that is busy
    return 2

Supervisor(work, drain_seconds=20).run(socket.socket(), first)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_workers_that_are_told_to_end_while_they_are_started_end(name: str) -> None:
    began, script = time.monotonic(), ENDED_AT_ONCE.replace("SIGNAL", name)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert time.monotonic() - began < 20


def test_a_board_shows_the_last_record_and_no_part_of_one() -> None:
    board = Board(3)
    assert board.read(1) == {}
    board.write(1, {"a": "ä" * 1000})
    board.write(2, {"b": 1})
    assert (board.read(1), board.read(2)) == ({"a": "ä" * 1000}, {"b": 1})
    board.write(1, {"noise": os.urandom(PLACE_BYTES).hex()})  # does not fit
    assert board.read(1) == {"a": "ä" * 1000}
    child = os.fork()
    if child == 0:
        for number in range(3000):
            board.write(2, {"numbers": [number] * 50})
        os._exit(0)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        seen = board.read(2)
        assert "b" in seen or len(set(seen["numbers"])) == 1
    assert board.read(2)["numbers"][0] == 2999
    board.clear(2)
    assert board.read(2) == {}


def exposition(count: int, level: float) -> str:
    registry = CollectorRegistry()
    counter = Counted("toolkit_requests", "Requests.", ("route",), registry=registry)
    counter.labels("/a").inc(count)
    counter.labels('odd "\\ label').inc()
    Spread("seconds", "Time.", buckets=(1, 2), registry=registry).observe(count)
    Level("toolkit_queue_depth", "Waiting.", registry=registry).set(level)
    Level("toolkit_model", "Served.", registry=registry).set(1)
    return generate_latest(registry).decode()


def test_figures_of_several_are_those_of_one() -> None:
    both = gathered([exposition(1, 3), exposition(2, 4), ""]).decode()
    for line in (
        'toolkit_requests_total{route="/a"} 3.0', 'toolkit_requests_total{route="odd \\"\\\\ label"} 2.0',
        'seconds_bucket{le="1.0"} 1.0', 'seconds_bucket{le="2.0"} 2.0', 'seconds_bucket{le="+Inf"} 2.0',
        "seconds_count 2.0", "seconds_sum 3.0", "toolkit_queue_depth 7.0", "toolkit_model 1.0",
    ):  # fmt: skip
        assert line in both.splitlines(), line
    gone = gathered([exposition(1, 3)], counted_only=True).decode()
    assert "toolkit_queue_depth" not in gone
    assert 'toolkit_requests_total{route="/a"} 1.0' in gone
    assert gathered([gone, gone]).decode().count("# TYPE seconds histogram") == 1
