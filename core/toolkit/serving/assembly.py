"""From an opened bundle to a version that answers, and from one such version to an app that may be served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

from toolkit.errors import EnvironmentUnfit
from toolkit.seal.validity import Standing
from toolkit.serving.access import Access
from toolkit.serving.app import Beside, build_app
from toolkit.serving.batching import PREPARERS
from toolkit.serving.fleet import Fleet, Line
from toolkit.serving.ledger import Ledger
from toolkit.serving.limits import GrpcAddress, Limits
from toolkit.serving.metrics import Metrics
from toolkit.serving.models import AskDomain, BundleFacts, ServedModel, load, unlimited
from toolkit.serving.runtime import Runtime, SealedFiles

if TYPE_CHECKING:
    from toolkit.serving.tracing import Tracing


@dataclass(frozen=True)
class Tuning:
    """How much one server does at once, and how: `threads` are those of one inference, 0 for what suits the task,
    `preparers` make inputs beside it, `grpc` is where it speaks gRPC as well, and `tracing` is there where requests
    are traced."""

    max_batch: int = 16
    max_delay_ms: float = 1.0
    threads: int = 0
    preparers: int = PREPARERS
    log_requests: bool = False
    grpc: GrpcAddress | None = None
    tracing: Tracing | None = None
    limits: Limits = field(default_factory=Limits)


def loaded(
    files: SealedFiles, facts: BundleFacts, *, runtime: Runtime, ask: AskDomain, tuning: Tuning, metrics: Metrics,
    standing: Callable[[], Standing] = unlimited,
) -> ServedModel:  # fmt: skip
    """A version of an opened bundle, warmed up, that shows in `metrics`; `files` may be closed when this returns.

    Raises:
        EnvironmentUnfit: the model does not run here, or not as it should.
        IntegrityError: a file of the bundle is damaged.
        PluginError: the domain offers no service.
    """
    model = load(
        files, facts, runtime=runtime, ask=ask, threads=tuning.threads, together=tuning.max_batch,
        delay_ms=tuning.max_delay_ms, waiting=tuning.limits.requests, preparers=tuning.preparers,
        observer=metrics.batches(facts), texts=metrics.texts(facts), standing=standing,
    )  # fmt: skip
    metrics.serve(model)
    return model


def assemble(
    files: SealedFiles, facts: BundleFacts, *, runtime: Runtime, site: Path, ask: AskDomain, tuning: Tuning,
    standing: Callable[[], Standing] = unlimited, ledger: Ledger | None = None,
) -> FastAPI:  # fmt: skip
    """The server of one opened bundle and nothing else; errors as in `loaded`, and of the site's file of keys."""
    metrics = Metrics()
    model = loaded(files, facts, runtime=runtime, ask=ask, tuning=tuning, metrics=metrics, standing=standing)
    return build_app(
        models=Fleet([Line(model)]), access=checked_access(site), metrics=metrics, limits=tuning.limits,
        log_requests=tuning.log_requests, ledger=ledger, servers=servers_of(tuning),
        tracing=tuning.tracing,
    )  # fmt: skip


def servers_of(tuning: Tuning) -> Sequence[Beside]:
    """The servers of other protocols that are wanted. Raises EnvironmentUnfit where what one needs is not installed."""
    if tuning.grpc is None:
        return ()
    try:
        from toolkit.serving.kserve_grpc import grpc_server
    except ModuleNotFoundError as error:
        raise EnvironmentUnfit(
            f"gRPC needs {error.name}", hint="Install it: pip install 'distil-toolkit[grpc]'"
        ) from error
    return (partial(grpc_server, at=tuning.grpc),)


def tracing_to(collector: str) -> Tracing:
    """Traces for the collector at that URL. Raises UsageError where it may not be sent to, EnvironmentUnfit where what
    traces need is not installed."""
    try:
        from toolkit.serving.tracing import Tracing
    except ModuleNotFoundError as error:
        raise EnvironmentUnfit(
            f"traces need {error.name}", hint="Install it: pip install 'distil-toolkit[otel]'"
        ) from error
    return Tracing(collector)


def checked_access(site: Path) -> Access:
    """The site's API keys. A damaged file of them is told now (IntegrityError), not at the first request."""
    access = Access(site)
    access.authenticate(None)
    return access
