"""The executor `ray` on a cluster of two nodes on this machine: real processes, really killed."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

# Ray reads these as it is imported: talk over the loopback alone, and only to who knows the token.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
pytest.importorskip("ray", reason='Ray is not installed: pip install "distil-toolkit-executor-ray[ray]"')

from ray.cluster_utils import Cluster

from toolkit_executor_ray import RayExecutor
from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.plan import Plan
from toolkit.resolve import parse_assignments, resolve
from toolkit.testing.executors import PIECES, Work, check_executor
from toolkit_executor_ray.settings import SECTION, RaySettings

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
    work = Work(tmp_path, sleep_s=0.1)
    with RayExecutor().open(plan_with(f"ray.address={cluster.address}")) as workers:
        with closing(workers.map(work, range(PIECES))) as found:
            made = [int(next(found)[0]) for _ in range(6)]
            assert len({path.name.partition(".")[0] for path in (tmp_path / "prepared").iterdir()}) == 3
            cluster.remove_node(third, allow_graceful=False)
            made += [int(one[0]) for one in found]
    assert made == [number**2 for number in range(PIECES)]
