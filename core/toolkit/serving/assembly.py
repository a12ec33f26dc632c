"""From an opened bundle to an app that may be served: load it, and put the server around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from toolkit.protocols import PredictorFacts
from toolkit.seal.validity import Standing
from toolkit.serving.access import Access
from toolkit.serving.app import Beside, build_app
from toolkit.serving.batching import Observer
from toolkit.serving.gateway import Limits
from toolkit.serving.metrics import Metrics
from toolkit.serving.models import AskDomain, BundleFacts, OneModel, load, unlimited
from toolkit.serving.runtime import Runtime, SealedFiles


@dataclass(frozen=True)
class Tuning:
    """How much one server does at once, and how: `grpc` is the HOST:PORT at which it speaks gRPC as well."""

    max_batch: int = 16
    max_delay_ms: float = 1.0
    threads: int = 1
    log_requests: bool = False
    grpc: str = ""
    limits: Limits = field(default_factory=Limits)


def assemble(
    files: SealedFiles, facts: BundleFacts, *, runtime: Runtime, site: Path, ask: AskDomain, tuning: Tuning,
    standing: Callable[[], Standing] = unlimited,
) -> FastAPI:  # fmt: skip
    """The server of an opened bundle, warmed up; `files` may be closed when this returns.

    Raises:
        EnvironmentUnfit: the model does not run here, or not as it should.
        IntegrityError: a file of the bundle, or the site's file of keys, is damaged.
        PluginError: the domain offers no service.
    """
    figures: list[Metrics] = []

    def observer(opened: PredictorFacts) -> Observer:
        figures.append(Metrics(facts.id, facts.version, opened))
        return figures[0].batch_ran

    model = load(
        files, facts, runtime=runtime, ask=ask, threads=tuning.threads, together=tuning.max_batch,
        delay_ms=tuning.max_delay_ms, waiting=tuning.limits.requests, observer=observer, standing=standing,
    )  # fmt: skip
    access = Access(site)
    access.authenticate(None)  # a damaged file of keys is told now, not at the first request
    return build_app(
        models=OneModel(model), access=access, metrics=figures[0], limits=tuning.limits,
        log_requests=tuning.log_requests, beside=_beside(tuning),
    )  # fmt: skip


def _beside(tuning: Tuning) -> Sequence[Beside]:
    if not tuning.grpc:
        return ()
    from toolkit.serving.kserve_grpc import grpc_server  # brings grpcio, an extra

    return (partial(grpc_server, address=tuning.grpc),)
