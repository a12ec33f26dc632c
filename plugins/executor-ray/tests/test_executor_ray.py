"""The executor `ray` on a cluster of two nodes on this machine: real processes, really killed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Ray reads these as it is imported: talk over the loopback alone, and only to who knows the token.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "distil-toolkit-executor-ray[ray]"')

from executor_parts import done_by, found_in
from line_parts import attempt, small_lot, tiny_context
from ray.cluster_utils import Cluster

from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.plan import Plan
from toolkit.protocols import Workers
from toolkit.resolve import parse_assignments, resolve
from toolkit.tasks.image_classification import labelling
from toolkit.testing.executors import PIECES, Work, check_executor
from toolkit.workspace import Workspace
from toolkit_executor_ray import RayExecutor, work
from toolkit_executor_ray.crew import RayWorkers
from toolkit_executor_ray.settings import SECTION, RaySettings

pytestmark = pytest.mark.alone  # its workers are to find what this process imports, as a process of pytest's own has it

NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False, "object_store_memory": 100 * 1024**2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        made.add_node(**NODE)
        yield made
    finally:
        made.shutdown()


def plan_with(*assignments: str) -> Plan:
    return resolve([parse_assignments(["domain=mine", *assignments])], {SECTION: RaySettings}).plan


def test_ray_keeps_the_contract(cluster: Cluster, tmp_path: Path) -> None:
    check_executor(RayExecutor(), plan_with(f"ray.address={cluster.address}", "ray.retries=1"), tmp_path, apart=True)


def test_a_node_that_dies_loses_no_piece(cluster: Cluster, tmp_path: Path) -> None:
    third = cluster.add_node(**NODE)
    with (
        RayExecutor().open(plan_with(f"ray.address={cluster.address}")) as workers,
        closing(workers.map(Work(tmp_path, sleep_s=0.1), range(PIECES))) as found,
    ):
        made = [int(next(found)[0]) for _ in range(6)]
        assert len(list((tmp_path / "prepared").iterdir())) == 3, "all three nodes work"
        cluster.remove_node(third, allow_graceful=False)
        made += [int(one[0]) for one in found]
    assert made == [number**2 for number in range(PIECES)]


def test_results_that_nobody_took_end_with_the_block(cluster: Cluster, tmp_path: Path) -> None:
    """Else they would start a Ray of their own, at whatever moment they are forgotten."""
    with RayExecutor().open(plan_with(f"ray.address={cluster.address}")) as workers:
        left = workers.map(Work(tmp_path, sleep_s=0.05), range(PIECES))
        next(left)
    assert list(left) == []
    assert not ray.is_initialized()


# --- labels and scores -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mortal:
    """Work whose worker is killed, without a word, before the third piece that it gets; once in all."""

    prepare: Callable[[], Callable[[Any], Any]]
    died: Path

    def __call__(self) -> Callable[[Any], Any]:
        inner, seen = self.prepare(), list[Any]()

        def do(piece: Any) -> Any:
            seen.append(piece)
            if len(seen) == 3 and not self.died.exists():
                self.died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(piece)

        return do


@dataclass(frozen=True)
class MortalWorkers:
    """Ray's, as above."""

    inner: Workers
    died: Path

    @property
    def threads(self) -> int:
        return self.inner.threads

    def map(self, prepare: Callable[[], Callable[[Any], Any]], pieces: Iterable[Any]) -> Any:
        return self.inner.map(Mortal(prepare, self.died), pieces)


@dataclass(frozen=True)
class MortalExecutor:
    """Ray with two workers, one of which is killed in between."""

    died: Path
    name: str = "mortal"

    def check(self, plan: Plan) -> None:
        RayExecutor().check(plan)

    @contextmanager
    def open(self, plan: Plan) -> Iterator[MortalWorkers]:
        with RayExecutor().open(plan) as workers:
            assert isinstance(workers, RayWorkers)
            yield MortalWorkers(workers, self.died)


def forget(home: Path, kind: str, pattern: str) -> None:
    """Have that stage work again, from nothing but its teacher."""
    (made,) = home.glob(f"store/{kind}/*")
    Workspace(home).reopen(kind, made.name)
    for path in home.glob(f"store/{kind}/.*.partial/{pattern}"):
        path.unlink()


def test_labels_and_scores_have_the_digests_of_this_process_also_where_a_worker_dies(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "PIECE", 10)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    data, here, there = small_lot(tmp_path / "lot"), tmp_path / "here", tmp_path / "there"
    _, refused = attempt(tiny_context(here, data), "evaluate")
    assert refused is None
    shutil.copytree(here, there)
    forget(there, "labels", "labels/*")
    forget(there, "evaluation", "*.json")
    assert not found_in(there)
    context = done_by(MortalExecutor(tmp_path / "died"), there, data, f"ray.address={cluster.address}")
    kept, refused = attempt(context, "evaluate")
    assert (kept, refused) == ({"prepare": True, "label": False, "distil": True, "evaluate": False}, None)
    assert (tmp_path / "died").exists(), "a worker was killed"
    assert found_in(there) == found_in(here)
    shards = json.loads(next(value for name, value in found_in(there).items() if name.endswith("labels.json")))[
        "shards"
    ]
    assert len(shards) == 6


def test_no_key_of_the_table_is_in_a_stages_digest(tmp_path: Path) -> None:
    plain = tiny_context(tmp_path, small_lot(tmp_path / "lot"))
    assert all(
        key.partition(".")[0] != SECTION
        for stage in ("prepare", "label", "distil", "evaluate", "compile", "gate", "seal")
        for key in plain.plugins.section_values(plain.plan, stage)
    )


# --- a Ray of one's own ------------------------------------------------------------------------------------------


def test_without_an_address_a_ray_is_started_on_the_loopback_and_stopped(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with RayExecutor().open(plan_with("ray.workers=2", "ray.cpus=3")) as workers:
        assert workers.threads == 3
        assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}
        assert ray.cluster_resources()["CPU"] == 6
        assert [int(one[0]) for one in workers.map(Work(tmp_path), range(4))] == [0, 1, 4, 9]
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is before


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with (
        pytest.raises(EnvironmentUnfit, match=r"Ray 127\.0\.0\.1:1 does not answer") as caught,
        RayExecutor().open(plan_with("ray.address=127.0.0.1:1")),
    ):
        pass
    assert "ray.address" in caught.value.hint


def test_a_piece_that_no_node_has_room_for_is_refused_at_once(cluster: Cluster) -> None:
    plan = plan_with(f"ray.address={cluster.address}", "ray.cpus=2")
    with (
        pytest.raises(EnvironmentUnfit, match="has the 2 cores and 0 accelerators") as caught,
        RayExecutor().open(plan),
    ):
        pass
    assert "ray.cpus" in caught.value.hint
    assert not ray.is_initialized()


def test_a_worker_with_another_library_does_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks says it has another numpy than the workers: their answers might differ in the last bit."""
    true = work.environment
    monkeypatch.setattr("toolkit_executor_ray.crew.environment", lambda names: true(names) | {"numpy": "1.0.0"})
    with (
        RayExecutor().open(plan_with(f"ray.address={cluster.address}")) as workers,
        pytest.raises(EnvironmentUnfit, match=r"has numpy \d+.*who asks has 1\.0\.0"),
    ):
        list(workers.map(Work(tmp_path), range(3)))
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("assignment", "says"),
    [("ray.address=ray://head:10001", "HOST:PORT"), ("ray.cpus=0", "ray.cpus"), ("ray.retries=-1", "ray.retries")],
)
def test_settings_that_cannot_be_are_refused(assignment: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        plan_with(assignment)


def test_where_ray_is_missing_the_plan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentUnfit, match="needs Ray") as caught:
        RayExecutor().check(plan_with())
    assert "pip install" in caught.value.hint
