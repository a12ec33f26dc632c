"""From an opened bundle to an app that may be served: read its files, start the model, prove it right, ask the domain.

Takes anything that reads files by role; how a bundle was opened, and from where, is the caller's business.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from fastapi import FastAPI

from toolkit.errors import EnvironmentUnfit, IntegrityError, PluginError
from toolkit.protocols import PredictorFacts, ServedPredictor, Service, TensorPredictor
from toolkit.serving.access import Access
from toolkit.serving.app import Served, build_app
from toolkit.serving.batching import Batcher
from toolkit.serving.gateway import Limits
from toolkit.serving.metrics import Metrics
from toolkit.serving.sessions import OnnxPredictor

GOLDEN_TOLERANCE = 1e-3
WEIGHTS = "weights"

AskDomain = Callable[[Mapping[str, Any], ServedPredictor], Service | None]
"""The hook `serve`, bound to a site: `ask(bundle, predictor)`."""


class SealedFiles(Protocol):
    """An opened bundle, as far as serving it needs."""

    @property
    def roles(self) -> Sequence[str]: ...

    def read(self, role: str) -> bytes: ...

    def forget(self, role: str) -> None: ...


@dataclass(frozen=True)
class BundleFacts:
    """What a domain's `serve` learns of the bundle, as a mapping of these names.

    `channels` is None where the model sees no pictures; `sample` tells that it learned from a domain's sample only.
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
    """The facts of a bundle from its manifest (the arguments) and its files `plan`, `classes`, `thresholds`.

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
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise _misfit("classes or thresholds") from error


def load_model(files: SealedFiles, facts: BundleFacts, *, threads: int) -> OnnxPredictor:
    """The bundle's model, from RAM into a session; the decrypted copies are wiped once it stands."""
    weights = {WEIGHTS: files.read(WEIGHTS)} if WEIGHTS in files.roles else None
    identity = PredictorFacts(form="installed", provider="", digest=facts.id)
    predictor = OnnxPredictor(files.read("model"), facts=identity, threads=threads, weights=weights)
    files.forget("model")
    files.forget(WEIGHTS)
    return predictor


def prove(predictor: TensorPredictor, golden: bytes) -> None:
    """Warm the model up on inputs whose answers are known.

    Args:
        golden: .npz with `image`, uint8 [n, height, width, channels], and `probabilities`, float32 [n, classes].

    Raises:
        EnvironmentUnfit: this machine's answers differ by more than 0.001 from those the model was released with.
        IntegrityError: the file is no such thing.
    """
    try:
        with np.load(io.BytesIO(golden), allow_pickle=False) as arrays:
            images, expected = arrays["image"], arrays["probabilities"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _misfit("golden") from error
    given = predictor.predict({"image": images})["probabilities"]
    one_by_one = [predictor.predict({"image": image[np.newaxis]})["probabilities"] for image in images]
    for answers in (given, np.concatenate(one_by_one)):
        difference = float(np.abs(answers - expected).max()) if answers.shape == expected.shape else float("inf")
        if not difference <= GOLDEN_TOLERANCE:  # NaN is refused too
            raise EnvironmentUnfit(
                f"the model does not answer here as it did when it was released: probabilities differ by "
                f"{difference:.2g}, {GOLDEN_TOLERANCE:g} is allowed",
                hint="Compare this machine and its onnxruntime with the bundle's profile, or compile for this one.",
            )


def assemble(files: SealedFiles, facts: BundleFacts, *, site: Path, ask: AskDomain, tuning: Tuning) -> FastAPI:
    """The server of an opened bundle, warmed up; `files` may be closed when this returns.

    Raises:
        EnvironmentUnfit: the model does not run here, or not as it should.
        IntegrityError: a file of the bundle, or the site's file of keys, is damaged.
        PluginError: the domain offers no service.
    """
    predictor = load_model(files, facts, threads=tuning.threads)
    prove(predictor, files.read("golden"))
    metrics = Metrics(facts.id, facts.version, predictor.facts)
    batcher = Batcher(
        predictor,
        max_batch=tuning.max_batch,
        max_delay_ms=tuning.max_delay_ms,
        queue_limit=tuning.limits.requests,
        observer=metrics.batch_ran,
    )
    service = ask(asdict(facts), batcher)
    if service is None:
        raise PluginError(f"the domain {facts.domain} offers no service", hint="Implement its hook `serve`.")
    access = Access(site)
    access.authenticate(None)  # a damaged file of keys is told now, not at the first request
    served = Served(facts.id, facts.version, facts.product, facts.development_keys, facts.sample)
    return build_app(
        served=served, predictor=batcher, service=service, access=access, metrics=metrics,
        limits=tuning.limits, log_requests=tuning.log_requests,
    )  # fmt: skip


def _json(files: SealedFiles, role: str, *, optional: bool = False) -> dict[str, Any]:
    if role not in files.roles:
        if optional:
            return {}
        raise _misfit(role)
    try:
        value = json.loads(files.read(role))
    except ValueError as error:
        raise _misfit(role) from error
    if not isinstance(value, dict):
        raise _misfit(role)
    return value


def _misfit(role: str) -> IntegrityError:
    hint = "Build the bundle again with this version of the toolkit."
    return IntegrityError(f"the bundle's {role} cannot be used", part=role, hint=hint)
