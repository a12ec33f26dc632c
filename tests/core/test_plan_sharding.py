"""What cannot be sharded is refused before anything runs."""

from __future__ import annotations

import pytest

from toolkit.errors import PlanError
from toolkit.plan import Plan
from toolkit.tasks.base import check_processes, check_sharding


def plan(sharding: str = "full", **sections: object) -> Plan:
    compute = {"sharding": sharding, **dict(sections.pop("compute", {}))}  # type: ignore[call-overload]
    return Plan.model_validate({"domain": "any", "compute": compute, **sections})


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"recipe": {"name": "on-policy"}}, "recipe on-policy"),
        ({"recipe": {"name": "self"}}, "recipe self"),
        ({"recipe": {"name": "grpo"}}, "recipe grpo"),
        ({"student": {"lora_rank": 4, "frozen_bits": 4}}, "student.frozen_bits"),
        ({"compute": {"precision": "auto"}}, "compute.precision auto"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_what_to_change(sections: dict[str, object], says: str) -> None:
    with pytest.raises(PlanError, match=says) as caught:
        check_sharding(plan(**sections))
    assert caught.value.exit_code == 2
    assert "compute.sharding=none" in caught.value.hint
    check_sharding(plan("none", **sections))


@pytest.mark.parametrize("sections", [{}, {"student": {"lora_rank": 4}}, {"compute": {"precision": "bf16"}}])
def test_what_can_be_cut_is_not(sections: dict[str, object]) -> None:
    check_sharding(plan(**sections))
    check_processes(plan(**sections), 2)


def test_one_process_has_nobody_to_share_with() -> None:
    check_processes(plan("none"), 1)
    with pytest.raises(PlanError, match="this is one") as caught:
        check_processes(plan(), 1)
    assert "torchrun" in caught.value.hint
