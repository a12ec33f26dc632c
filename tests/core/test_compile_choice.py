"""Which form is shipped: the first that is as good within the margin and faster here, or what the plan asks for."""

from __future__ import annotations

import pytest

from toolkit.compile.choice import Tried, choose
from toolkit.errors import PlanError
from toolkit.protocols import CompiledForm


def tried(form: str, accuracy: float, latency_ms: float) -> Tried:
    return Tried(CompiledForm(form, b""), accuracy, latency_ms)


FP32 = tried("fp32", 0.95, 1.0)


@pytest.mark.parametrize(
    ("int8", "precision", "wanted", "says"),
    [
        (tried("int8", 0.95, 0.5), "auto", "int8", ""),
        (tried("int8", 0.97, 0.5), "auto", "int8", ""),
        (tried("int8", 0.946, 0.5), "auto", "int8", ""),
        (tried("int8", 0.93, 0.5), "auto", "fp32", "loses 2.0%"),
        (tried("int8", 0.95, 1.5), "auto", "fp32", "not faster"),
        (tried("int8", 0.95, 1.0), "auto", "fp32", "not faster"),
        (tried("int8", 0.50, 9.0), "int8", "int8", ""),
        (tried("int8", 0.99, 0.1), "fp32", "fp32", "the plan asks for fp32"),
    ],
)
def test_one_form_is_chosen_and_the_reason_is_told(int8: Tried, precision: str, wanted: str, says: str) -> None:
    chosen, because = choose([int8, FP32], precision, 0.005)
    assert chosen.form.form == wanted
    assert set(because) == {"int8", "fp32"}
    assert all(because.values())
    assert says in because["int8"]


def test_of_several_the_most_wanted_that_fits() -> None:
    forms = [tried("int4", 0.80, 0.1), tried("int8", 0.95, 0.5), tried("bf16", 0.95, 0.2), FP32]
    chosen, because = choose(forms, "auto", 0.005)
    assert chosen.form.form == "int8"
    assert set(because) == {"int4", "int8", "bf16", "fp32"}


def test_a_margin_of_nothing_lets_nothing_be_lost() -> None:
    assert choose([tried("int8", 0.949, 0.5), FP32], "auto", 0.0)[0] is FP32
    assert choose([tried("int8", 0.95, 0.5), FP32], "auto", 0.0)[0].form.form == "int8"


def test_a_form_that_the_target_does_not_offer_is_refused() -> None:
    with pytest.raises(PlanError, match="int8") as caught:
        choose([FP32], "int8", 0.005)
    assert "fp32" in caught.value.hint
