"""Executor `ray`: work in pieces, spread over the nodes of a Ray cluster, or over processes of this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from toolkit.errors import EnvironmentUnfit
from toolkit.hookspecs import hookimpl
from toolkit.plan import Plan
from toolkit.protocols import Executor, Settings, Workers
from toolkit_executor_ray.settings import SECTION, RaySettings, settings_of


@dataclass(frozen=True)
class RayExecutor:
    """Ray brings work to machines and again to others where one dies (Moritz et al. 2018, arXiv 1712.05889)."""

    name: str = "ray"

    def check(self, plan: Plan) -> None:
        if importlib.util.find_spec("ray") is None:
            raise EnvironmentUnfit(
                "the executor ray needs Ray, which is not installed",
                hint='pip install "distil-toolkit-executor-ray[ray]", on every node of the cluster.',
                plugin="distil-toolkit-executor-ray",
            )

    def open(self, plan: Plan) -> AbstractContextManager[Workers]:
        from toolkit_executor_ray.cluster import connected

        self.check(plan)
        return connected(settings_of(plan))


@hookimpl
def register_executors() -> Iterable[Executor]:
    """Offer the executor `ray`."""
    return [RayExecutor()]


@hookimpl
def register_settings() -> Iterable[Settings]:
    """The table [ray]. No stage reads it: where work is done changes nothing of what it comes to."""
    return [Settings(SECTION, RaySettings, {})]
