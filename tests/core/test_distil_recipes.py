"""Recipes and what a plan may put in their place; torch-free, so that a plan is checked in no time."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from toolkit.distil.recipes import CARRIERS, LABELS_ALONE, SoftLabels, WhiteBox, carriers, objectives_of
from toolkit.errors import PlanError
from toolkit.plan import ObjectivePlan, Plan, RecipePlan
from toolkit.protocols import Objective


def plan(*own: dict[str, Any], **recipe: Any) -> Plan:
    return Plan(domain="x", recipe=RecipePlan(objective=tuple(ObjectivePlan(**one) for one in own), **recipe))


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_soft_labels_shares_the_loss_between_label_and_teacher(weight: float) -> None:
    made = SoftLabels().objectives(plan(teacher_weight=weight, temperature=5.0))
    objectives = {objective.name: objective for objective in made}
    assert objectives["response"].weight == pytest.approx(weight)
    assert objectives["response"].temperature == 5.0
    assert sum(objective.weight for objective in objectives.values()) == pytest.approx(1)
    assert carriers(made) == {"response"}


def test_white_box_adds_features_and_relations_as_the_plan_weighs_them() -> None:
    made = WhiteBox().objectives(plan(feature_weight=3.0, relation_weight=2.0, teacher_weight=0.25))
    assert {objective.name: objective.weight for objective in made} == {
        "hard-label": 0.75, "response": 0.25, "feature": 3.0, "similarity": 2.0
    }  # fmt: skip
    assert carriers(made) == {"response", "features"}


def test_white_box_asks_for_no_features_that_nobody_weighs() -> None:
    made = WhiteBox().objectives(plan(feature_weight=0.0, relation_weight=0.0))
    assert {objective.name for objective in made} == {"hard-label", "response"}
    assert carriers(made) == {"response"}


def test_the_recipe_decides_where_the_plan_has_no_objectives_of_its_own() -> None:
    assert objectives_of(plan(), SoftLabels()) == SoftLabels().objectives(plan())


def test_the_plans_own_objectives_stand_in_place_of_the_recipes() -> None:
    own = plan({"name": "feature", "weight": 2.0, "schedule": "rise"}, {"name": "response", "temperature": 4.0})
    assert objectives_of(own, SoftLabels()) == [
        Objective("feature", 2.0, 1.0, "rise"), Objective("response", 1.0, 4.0, "constant")
    ]  # fmt: skip
    assert carriers(objectives_of(own, SoftLabels())) == {"features", "response"}


@pytest.mark.parametrize(("typed", "near"), [("respons", "response"), ("relation_angle", "relation-angle")])
def test_an_objective_that_nobody_knows_names_the_nearest(typed: str, near: str) -> None:
    with pytest.raises(PlanError, match=typed) as caught:
        objectives_of(plan({"name": "hard-label"}, {"name": typed}), SoftLabels())
    assert f"Did you mean {near}?" in caught.value.hint
    assert caught.value.exit_code == 2


def test_an_objective_like_no_other_lists_what_there_is() -> None:
    with pytest.raises(PlanError, match="qqq") as caught:
        objectives_of(plan({"name": "qqq"}), SoftLabels())
    assert "Did you mean" not in caught.value.hint
    assert all(name in caught.value.hint for name in CARRIERS)


def test_a_plugins_recipe_is_held_to_the_same_names() -> None:
    class Strange:
        name = "strange"

        def objectives(self, plan: Plan) -> list[Objective]:
            return [Objective("telepathy", 1.0)]

    with pytest.raises(PlanError, match="telepathy"):
        objectives_of(plan(), Strange())


def test_an_objective_that_stands_twice_is_refused() -> None:
    with pytest.raises(PlanError, match="twice") as caught:
        objectives_of(plan({"name": "response", "weight": 1.0}, {"name": "response", "weight": 2.0}), SoftLabels())
    assert caught.value.hint


def test_a_sum_in_which_nothing_weighs_anything_is_refused() -> None:
    with pytest.raises(PlanError, match="weight 0") as caught:
        objectives_of(plan({"name": "response", "weight": 0.0}, {"name": "feature", "weight": 0.0}), SoftLabels())
    assert caught.value.hint
    assert objectives_of(plan({"name": "response", "weight": 0.0}, {"name": "feature"}), SoftLabels())


def test_labels_alone_need_nothing_of_a_teacher() -> None:
    assert carriers(LABELS_ALONE) == frozenset()


@pytest.mark.parametrize(
    ("schedule", "wanted"), [("constant", (1, 1, 1)), ("rise", (0, 0.3, 1)), ("fall", (1, 0.7, 0))]
)
def test_a_schedule_is_a_share_of_the_weight(schedule: str, wanted: tuple[float, ...]) -> None:
    objective = Objective("response", 5.0, schedule=schedule)  # type: ignore[arg-type]
    assert [objective.factor(progress) for progress in (0.0, 0.3, 1.0)] == pytest.approx(wanted)


def test_recipes_and_the_label_store_are_imported_without_torch() -> None:
    script = "import sys, toolkit.distil.recipes, toolkit.distil.labels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
