"""The registry listens to a run as any plugin could."""

from __future__ import annotations

import time

from toolkit.artifacts import Artifact
from toolkit.errors import ToolkitError
from toolkit.hookspecs import hookimpl
from toolkit.protocols import RunRecord
from toolkit.registry.store import Registry


class RegistryRecorder:
    """Writes down what happens, as it happens."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._last = time.monotonic()

    @hookimpl
    def run_started(self, run: RunRecord) -> None:
        """A run begins."""
        self._registry.start(run.id, run.plan.domain, run.plan.model_dump(mode="json"))

    @hookimpl
    def stage_finished(self, run: RunRecord, stage: str, artifact: Artifact, kept: bool) -> None:
        """A stage has its artifact."""
        now = time.monotonic()
        self._registry.finish_stage(
            run.id, stage, type(artifact).__name__, artifact, kept=kept, seconds=now - self._last
        )
        self._last = now

    @hookimpl
    def run_finished(self, run: RunRecord) -> None:
        """A run reached its end."""
        self._registry.end(run.id)

    @hookimpl
    def run_failed(self, run: RunRecord, stage: str, error: BaseException) -> None:
        """A stage raised."""
        record = error.as_record() if isinstance(error, ToolkitError) else {"code": type(error).__name__}
        self._registry.end(run.id, error=dict(record) | {"stage": stage})
