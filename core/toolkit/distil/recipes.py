"""The recipes core offers, and what each objective needs of a teacher. torch-free: a plan is checked against them
before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkit.errors import PlanError, unknown_name
from toolkit.plan import Plan
from toolkit.protocols import Objective, Recipe

CARRIERS: Mapping[str, str] = {
    "hard-label": "",
    "response": "response",
    "feature": "features",
    "feature-distance": "features",
    "similarity": "features",
    "relation-distance": "features",
    "relation-angle": "features",
    "feature-map": "maps",
}
"""Every objective there is, and the carrier of knowledge that it takes from the teacher."""

OF_TEXTS = ("sequence", "on-policy", "self", "grpo")
"""Recipes that learn from what somebody writes, be it the teacher or the student itself."""

LABELS_ALONE: tuple[Objective, ...] = (Objective("hard-label", 1.0),)
"""What the baseline student is trained on, and a teacher is adapted with."""


@dataclass(frozen=True)
class SoftLabels:
    """Hard label + response (Hinton 2015)."""

    name: str = "soft-labels"

    def objectives(self, plan: Plan) -> Sequence[Objective]:
        weight = plan.recipe.teacher_weight
        return (
            Objective("hard-label", 1.0 - weight),
            Objective("response", weight, plan.recipe.temperature),
        )


@dataclass(frozen=True)
class WhiteBox:
    """Hard label + response + feature + relation: all that a teacher on this machine shows. The default.

    A teacher that was adapted to the training rows answers them like their labels, so its answers say little more;
    its features still hold what it learnt before (docs/adr/0014)."""

    name: str = "white-box"

    def objectives(self, plan: Plan) -> Sequence[Objective]:
        recipe = plan.recipe
        shown = (Objective("feature", recipe.feature_weight), Objective("similarity", recipe.relation_weight))
        return (*SoftLabels().objectives(plan), *(objective for objective in shown if objective.weight))


@dataclass(frozen=True)
class FeatureMaps:
    """Normalised feature maps, place by place, of good parts alone (STFPM, Wang et al. 2021, arXiv 2103.04257). The
    default for anomaly maps."""

    name: str = "feature-maps"

    def objectives(self, plan: Plan) -> Sequence[Objective]:
        return (Objective("feature-map", 1.0),)


@dataclass(frozen=True)
class SequenceLevel:
    """Fine-tuning on completions, given, written by the teacher or verified chains of thought (DeepSeek-R1, arXiv
    2501.12948), and response token by token (GKD, arXiv 2306.13649). The default for text."""

    name: str = "sequence"

    def objectives(self, plan: Plan) -> Sequence[Objective]:
        recipe, weight = plan.recipe, plan.recipe.teacher_weight
        terms = (
            Objective("hard-label", 1.0 - weight),
            Objective("response", weight, recipe.temperature, beta=recipe.beta),
        )
        return tuple(term for term in terms if term.weight)


@dataclass(frozen=True)
class OnPolicy(SequenceLevel):
    """As `sequence`, ever more on what the student writes itself, scored by its teacher (GKD, arXiv 2306.13649)."""

    name: str = "on-policy"


@dataclass(frozen=True)
class Verified:
    """Fine-tuning on completions, and then on what the student writes itself and a verifier passes: as completions,
    round after round (`self`: STaR, arXiv 2203.14465), or by its rewards (`grpo`: DeepSeekMath, arXiv 2402.03300)."""

    name: str

    def objectives(self, plan: Plan) -> Sequence[Objective]:
        return LABELS_ALONE


def objectives_of(plan: Plan, recipe: Recipe) -> Sequence[Objective]:
    """The plan's own [[recipe.objective]], or the recipe's.

    Raises:
        PlanError: an objective that nobody knows, or a sum in which nothing is left to learn from.
    """
    own = [Objective(**objective.model_dump()) for objective in plan.recipe.objective]
    objectives = own or recipe.objectives(plan)
    for objective in objectives:
        if objective.name not in CARRIERS:
            raise unknown_name("objective", objective.name, CARRIERS, listed="Objectives")
    if len({objective.name for objective in objectives}) < len(objectives):
        raise PlanError("an objective stands twice in [[recipe.objective]]", hint="Give each one weight.")
    if not any(objective.weight for objective in objectives):
        raise PlanError("every objective has the weight 0", hint="Give [[recipe.objective]] weights above 0.")
    return objectives


def carriers(objectives: Sequence[Objective]) -> frozenset[str]:
    """What the teacher must give for these objectives."""
    return frozenset(CARRIERS[objective.name] for objective in objectives) - {""}
