"""The domain `industry` keeps what every domain promises, and knows what a defect that passes costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.artifacts import Evaluation, Metric
from toolkit.plan import Options, Plan
from toolkit.resolve import resolve
from toolkit.testing.domains import alone, check_domain
from toolkit_industry import domain


def test_the_domain_keeps_the_contract(tmp_path: Path) -> None:
    check_domain("industry", domain, tmp_path)


def test_only_the_rendered_sample_may_warn_about_too_few_rows() -> None:
    hook = alone("industry", domain).hook
    assert hook.draft_plan(options=Options("industry")).gate.small_sample == "warn"
    assert hook.draft_plan(options=Options("industry", data=Path("parts"))).gate.small_sample == "refuse"


def evaluation(escapes: float, overkill: float) -> Evaluation:
    return Evaluation.found(
        {
            "escapes": Metric(escapes, 0.0, 1.0, 200, higher_is_better=False),
            "overkill": Metric(overkill, 0.0, 1.0, 50, higher_is_better=False),
        }
    )


def plan_with(**limits: float) -> Plan:
    plugins = alone("industry", domain)
    from toolkit.resolve import Layer

    return resolve([Layer("--set", {"domain": "industry", "industry": limits})], plugins.settings()).plan


@pytest.mark.parametrize(
    ("limits", "found", "refused"),
    [
        ({}, (1.0, 1.0), []),
        ({"most_escapes": 0.01}, (0.01, 1.0), []),
        ({"most_escapes": 0.01}, (0.02, 0.0), ["too many escapes"]),
        ({"most_overkill": 0.05}, (0.0, 0.06), ["too many overkill"]),
        ({"most_escapes": 0.0, "most_overkill": 0.0}, (0.1, 0.1), ["too many escapes", "too many overkill"]),
    ],
)
def test_escapes_and_overkill_are_held_to_the_plants_limits(limits, found, refused) -> None:
    violations = list(domain.check_release(plan_with(**limits), evaluation(*found)))
    assert [violation.because for violation in violations] == refused


def test_data_without_a_good_class_have_no_escapes_to_refuse() -> None:
    plan = plan_with(most_escapes=0.0)
    assert list(domain.check_release(plan, Evaluation.found({"accuracy": Metric(0.5, 0.4, 0.6, 100)}))) == []
