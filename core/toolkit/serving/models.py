"""What a server serves: versions of products, each opened, proven right and asked of its domain.

The bundle's own facts, what a loaded version is, and how one is found by name. Loading one knows nothing of HTTP; how
a bundle was opened, and from where, is the caller's business, and what kind of model it holds is its task's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, cast

from toolkit.errors import PluginError
from toolkit.protocols import PredictorFacts, ServedPredictor, Tensors, TensorSpec
from toolkit.seal.manifest import PAPERS
from toolkit.seal.validity import UNLIMITED, Standing
from toolkit.services import Seen, Service
from toolkit.serving.batching import Observer
from toolkit.serving.refusals import NotLicensed, NotServed
from toolkit.serving.runtime import Queue, Runtime, SealedFiles, misfit
from toolkit.serving.sampling import Sampled
from toolkit.serving.written import TextObserver, Written
from toolkit.text import ServedText

OWN = frozenset({
    "model", "weights", "golden", "generation", "tokenizer", "plan", "classes", "thresholds", "reference", "report",
    "gate",
    *PAPERS,
})  # fmt: skip
"""Roles of a bundle that are core's and its tasks'."""

AskDomain = Callable[[Mapping[str, Any], ServedPredictor | ServedText], Service | None]
"""The hook `serve`, bound to a site: `ask(bundle, predictor)`."""


@dataclass(frozen=True)
class BundleFacts:
    """What a domain's `serve` learns of the bundle, as a mapping of these names.

    `channels` is None where the model sees no pictures; `sample` tells that it learned from a domain's sample only;
    `metrics` is what its compiled student was measured at, a record a metric; `reference` has the measures of its test
    rows, to tell drift by, and is empty in bundles from before there were any; `files` are those that the domain packed
    itself, by role; `gate` is how its release was decided, with its teacher's figures, and empty in older bundles.
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
    reference: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)


def unlimited() -> Standing:
    """How a bundle without conditions stands."""
    return UNLIMITED.standing(0)


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version that answers. `queue` stands before its model, and is what its domain's `service` asks.

    `inputs` and `outputs` are the graph's own, empty where it writes texts; `standing` is asked before each answer:
    nothing is answered once the grant no longer holds. `sampled` says of some answers in tensors what they were given
    to.
    """

    facts: BundleFacts
    queue: Queue
    service: Service
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    standing: Callable[[], Standing] = unlimited
    sampled: Callable[[Tensors, Tensors], Sequence[Seen]] = lambda inputs, outputs: ()


class Models(Protocol):
    """What a server serves at this moment."""

    def all(self) -> Sequence[ServedModel]:
        """Every version that answers."""
        ...

    def find(self, product: str | None = None, version: str | None = None, key: str = "") -> ServedModel:
        """Who answers a request for this product and version: of the first product where none is named, and where no
        version is, the current one, or for its share of keys the one that is on trial beside it.

        Args:
            key: what belongs together has the same, and is answered by the same version; without one the current.

        Raises:
            NotServed: there is no such product or version.
            NotLicensed: its grant no longer holds.
        """
        ...


def holding(model: ServedModel) -> ServedModel:
    """The model, where its grant holds. Raises NotLicensed where it does not."""
    standing = model.standing()
    if not standing.holds:
        raise NotLicensed.because(standing)
    return model


def named(models: Models, name: str, version: str | None = None, key: str = "") -> ServedModel:
    """The model of a name as clients' protocols have them, one string: a product, a bundle's id, or product@version;
    `key` as in `Models.find`.

    Raises:
        NotServed: there is none.
        NotLicensed: its grant no longer holds.
    """
    if (found := next((one for one in models.all() if one.facts.id == name), None)) is not None:
        if version in (None, found.facts.version):
            return holding(found)
        raise NotServed(f"the bundle {name} is version {found.facts.version}", hint="Name its product, or no version.")
    product, _, stated = name.rpartition("@") if version is None and "@" in name else (name, "", "")
    return models.find(product, version or stated or None, key)


def read_facts(
    files: SealedFiles, *, bundle: str, version: str, product: str, domain: str, development_keys: bool
) -> BundleFacts:
    """The facts of a bundle from its manifest (the arguments) and its files `plan`, `classes`, `thresholds`,
    `reference` and `gate`.

    Raises:
        IntegrityError: a file is missing or not what its role says.
    """
    labels, reference = _json(files, "classes"), _json(files, "reference", optional=True)
    try:
        return BundleFacts(
            id=bundle, version=version, product=product, domain=domain, development_keys=development_keys,
            plan=_json(files, "plan"),
            classes=tuple(map(str, labels["classes"])),
            good_class=labels["good_class"] or None,
            channels=labels["channels"],
            sample=bool(labels.get("sample", False)),
            thresholds={name: float(value) for name, value in _json(files, "thresholds", optional=True).items()},
            metrics=reference.get("metrics", {}),
            gate=_json(files, "gate", optional=True),
            files={role: files.read(role) for role in files.roles if _is_domains(role)},
            reference=_measures(reference.get("per_row", ())),
        )  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise misfit("classes, thresholds or reference") from error


def load(
    files: SealedFiles, facts: BundleFacts, *, runtime: Runtime, ask: AskDomain, threads: int, together: int,
    delay_ms: float, waiting: int, preparers: int, observer: Observer, texts: TextObserver,
    standing: Callable[[], Standing] = unlimited,
) -> ServedModel:  # fmt: skip
    """A version that is ready to answer, warmed up on inputs whose answers are known; `files` may be closed when this
    returns.

    Args:
        threads: of one inference; 0: what suits the task.
        together: requests that the model answers at once; `delay_ms` is how long one may be held back for that.
        waiting: requests that may wait.
        preparers: threads that make inputs beside the model's own.
        observer: told after each batch, or text; `texts`, of a model that writes, as it does.

    Raises:
        EnvironmentUnfit: the model does not run here, or not as it should.
        IntegrityError: a file of the bundle is damaged.
        PluginError: the domain offers no service.
    """
    identity = PredictorFacts(form="installed", provider="", digest=facts.id)
    predictor = runtime.open_installed(files, identity, threads)
    runtime.prove(predictor, files.read("golden"))
    queue = runtime.queue(
        predictor, together=together, delay_ms=delay_ms, limit=waiting, preparers=preparers, observer=observer
    )
    inputs, outputs = getattr(predictor, "inputs", ()), getattr(predictor, "outputs", ())
    asked = cast(ServedPredictor, queue) if inputs else Written(cast(ServedText, queue), texts)
    service = ask(asdict(facts), asked)
    if service is None:
        raise PluginError(f"the domain {facts.domain} offers no service", hint="Implement its hook `serve`.")
    return ServedModel(facts, queue, service, inputs, outputs, standing, Sampled(service.watch))


def _measures(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, ...]]:
    """The values of each measure that test rows have: their `measures`, and of a classifier's rows its confidence and
    score. A row that could not be read has none."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.get("predicted", "") is None and "confidence" in row:
            continue
        scores = {name: row[name] for name in ("confidence", "score") if name in row}
        for name, value in {**row.get("measures", {}), **scores}.items():
            found.setdefault(name, []).append(float(value))
    return {name: tuple(values) for name, values in found.items()}


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
