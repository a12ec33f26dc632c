"""The default service of image classification: what an answer means, and the routes that give it.

The decision is here, apart from HTTP. Loads no web framework until a service is asked for, so a domain may import this
module anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from toolkit.errors import PlanError
from toolkit.protocols import ServedPredictor
from toolkit.services import Panel, Service
from toolkit.serving.refusals import ModelFault

if TYPE_CHECKING:
    from toolkit.tasks.image_classification.inspection import Detail, InspectionAnswer


@dataclass(frozen=True)
class Verdict:
    """What the model says of one picture. `passed` is None where no class means "good"."""

    name: str
    passed: bool | None
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Decision:
    """How probabilities become a verdict.

    Args:
        classes: in the order of the model's outputs.
        good_class: the class of good parts, or None.
        threshold: least probability of `good_class` with which a part passes.
    """

    classes: tuple[str, ...]
    good_class: str | None = None
    threshold: float = 0.0

    def of(self, probabilities: np.ndarray) -> Verdict:
        """The verdict on one picture; `probabilities` is float32 `[classes]`.

        A part passes only where `good_class` is likelier than every defect and reaches the threshold: a tie or a doubt
        is a defect.

        Raises:
            ModelFault: not one finite number a class.
        """
        values = probabilities.tolist()  # a few floats: numpy would take longer for each step
        if probabilities.shape != (len(self.classes),) or not all(map(math.isfinite, values)):
            raise ModelFault("the model gave no usable probabilities", hint="Run `toolkit verify` on this site.")
        shown = {name: round(value, 6) for name, value in zip(self.classes, values, strict=True)}
        if self.good_class is None:
            return Verdict(self.classes[values.index(max(values))], None, shown)
        good = self.classes.index(self.good_class)
        worst = max((place for place in range(len(values)) if place != good), key=values.__getitem__, default=good)
        passed = values[good] > values[worst] and bool(probabilities[good] >= self.threshold)
        return Verdict(self.good_class if passed else self.classes[worst], passed, shown)


def decision_for(classes: Sequence[str], thresholds: Mapping[str, float], good_class: str | None) -> Decision:
    """The decision of a bundle's `classes`, `thresholds` (only the good class has one) and good class.

    Raises:
        PlanError: the good class is not among the classes, or a threshold is not for it or not within 0..1.
    """
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise PlanError(f"{len(classes)} classes cannot be told apart", hint="Two or more distinct names are needed.")
    if good_class is not None and good_class not in classes:
        raise PlanError(f"the good class {good_class} is none of the model's", hint=f"Classes: {', '.join(classes)}.")
    for name, threshold in thresholds.items():
        if name != good_class or not 0 <= threshold <= 1:
            raise PlanError(
                f"the threshold {name} = {threshold} fits nothing",
                hint="A threshold is a probability of the good class.",
            )
    return Decision(tuple(classes), good_class, thresholds.get(good_class, 0.0) if good_class else 0.0)


def inspection_service(
    classes: Sequence[str],
    thresholds: Mapping[str, float],
    bundle_id: str,
    good_class: str | None,
    channels: int,
    predictor: ServedPredictor,
    detail: Detail | None = None,
    answer: type[InspectionAnswer] | None = None,
) -> Service:
    """`POST /v1/inspect`: one picture or a batch in, verdicts out; and a panel of the console. The model sees
    `channels` planes: 1 grey, 3 RGB; `detail` and `answer` are those of `inspection_routes`.

    Raises:
        PlanError: classes, thresholds and good class do not fit together.
    """
    from toolkit.tasks.image_classification.inspection import inspection_routes, tensor_watch  # brings fastapi

    decision = decision_for(classes, thresholds, good_class)
    more = {} if answer is None else {"answer": answer}
    routes = inspection_routes(
        decision, bundle_id=bundle_id, channels=channels, predictor=predictor, detail=detail, **more
    )
    panel = Panel(
        "inspect", files("toolkit.tasks.image_classification").joinpath("panel"),
        {"classes": decision.classes, "good_class": good_class},
    )  # fmt: skip
    return Service(routes=routes, panels=(panel,), watch=tensor_watch(decision, detail))
