"""From an opened bundle to an app that may be served: read its files, start the model, prove it right, ask the domain.

Takes anything that reads files by role; how a bundle was opened, and from where, is the caller's business, and what
kind of model it holds is its task's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI

from toolkit.errors import PluginError
from toolkit.protocols import PredictorFacts, ServedPredictor, Service
from toolkit.seal.validity import Standing
from toolkit.serving.access import Access
from toolkit.serving.app import Served, build_app, unlimited
from toolkit.serving.gateway import Limits
from toolkit.serving.metrics import Metrics
from toolkit.serving.runtime import Runtime, SealedFiles, misfit
from toolkit.text import ServedText

OWN = frozenset({
    "model", "weights", "golden", "generation", "tokenizer", "plan", "classes", "thresholds", "reference", "report",
})  # fmt: skip
"""Roles of a bundle that are core's and its tasks'."""

AskDomain = Callable[[Mapping[str, Any], ServedPredictor | ServedText], Service | None]
"""The hook `serve`, bound to a site: `ask(bundle, predictor)`."""


@dataclass(frozen=True)
class BundleFacts:
    """What a domain's `serve` learns of the bundle, as a mapping of these names.

    `channels` is None where the model sees no pictures; `sample` tells that it learned from a domain's sample only;
    `metrics` is what its compiled student was measured at, a record a metric; `files` are those that the domain packed
    itself, by role.
    """

    id: str
    version: str
    product: str
    domain: str
    development_keys: bool
    plan: Mapping[str, Any]
    classes: tuple[str, ...]
    good_class: str | None
    channels: int | None
    sample: bool
    thresholds: Mapping[str, float]
    metrics: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Tuning:
    """How much one server does at once."""

    max_batch: int = 16
    max_delay_ms: float = 1.0
    threads: int = 1
    log_requests: bool = False
    limits: Limits = field(default_factory=Limits)


def read_facts(
    files: SealedFiles, *, bundle: str, version: str, product: str, domain: str, development_keys: bool
) -> BundleFacts:
    """The facts of a bundle from its manifest (the arguments) and its files `plan`, `classes`, `thresholds` and
    `reference`.

    Raises:
        IntegrityError: a file is missing or not what its role says.
    """
    labels = _json(files, "classes")
    try:
        return BundleFacts(
            id=bundle, version=version, product=product, domain=domain, development_keys=development_keys,
            plan=_json(files, "plan"),
            classes=tuple(map(str, labels["classes"])),
            good_class=labels["good_class"] or None,
            channels=labels["channels"],
            sample=bool(labels.get("sample", False)),
            thresholds={name: float(value) for name, value in _json(files, "thresholds", optional=True).items()},
            metrics=_json(files, "reference", optional=True).get("metrics", {}),
            files={role: files.read(role) for role in files.roles if _is_domains(role)},
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise misfit("classes or thresholds") from error


def assemble(
    files: SealedFiles, facts: BundleFacts, *, runtime: Runtime, site: Path, ask: AskDomain, tuning: Tuning,
    standing: Callable[[], Standing] = unlimited,
) -> FastAPI:  # fmt: skip
    """The server of an opened bundle, warmed up; `files` may be closed when this returns.

    `standing` is asked before each answer: nothing is answered once the grant no longer holds.

    Raises:
        EnvironmentUnfit: the model does not run here, or not as it should.
        IntegrityError: a file of the bundle, or the site's file of keys, is damaged.
        PluginError: the domain offers no service.
    """
    identity = PredictorFacts(form="installed", provider="", digest=facts.id)
    predictor = runtime.open_installed(files, identity, tuning.threads, scores=False)
    runtime.prove(predictor, files.read("golden"))
    metrics = Metrics(facts.id, facts.version, predictor.facts)
    queue = runtime.queue(
        predictor, together=tuning.max_batch, delay_ms=tuning.max_delay_ms, limit=tuning.limits.requests,
        observer=metrics.batch_ran,
    )  # fmt: skip
    service = ask(asdict(facts), cast(ServedPredictor | ServedText, queue))
    if service is None:
        raise PluginError(f"the domain {facts.domain} offers no service", hint="Implement its hook `serve`.")
    access = Access(site)
    access.authenticate(None)  # a damaged file of keys is told now, not at the first request
    served = Served(facts.id, facts.version, facts.product, facts.development_keys, facts.sample)
    return build_app(
        served=served, queue=queue, service=service, access=access, metrics=metrics,
        limits=tuning.limits, standing=standing, log_requests=tuning.log_requests,
    )  # fmt: skip


def _is_domains(role: str) -> bool:
    return role not in OWN and not role.startswith("LICENSES/")


def _json(files: SealedFiles, role: str, *, optional: bool = False) -> dict[str, Any]:
    if role not in files.roles:
        if optional:
            return {}
        raise misfit(role)
    try:
        value = json.loads(files.read(role))
    except ValueError as error:
        raise misfit(role) from error
    if not isinstance(value, dict):
        raise misfit(role)
    return value
