"""SVAMP's rows: equations taken apart into marked lines, wrong rows named, and the file as it is published a bank."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from toolkit.errors import DataError
from toolkit_education.banks import read_bank
from toolkit_education.items import draw
from toolkit_education.svamp import as_gsm8k
from toolkit_education.verify import verify

SVAMP = Path(__file__).parents[4] / "shared" / "data" / "education" / "svamp" / "SVAMP.json"


def row(equation: str, answer: float) -> dict[str, object]:
    return {"ID": "x", "Body": "A has 8 pens", "Question": "How many?", "Equation": equation, "Answer": answer}


def test_an_equation_becomes_a_line_an_operation_from_the_innermost_outwards() -> None:
    question, answer = as_gsm8k(row("( ( 8.0 - 2.0 ) / 4.0 )", 1.5))
    assert question == "A has 8 pens. How many?"
    assert answer == "8 - 2 = <<8-2=6>>6\n6 / 4 = <<6/4=1.5>>1.5\n#### 1.5"


@pytest.mark.parametrize(
    ("equation", "answer", "says"),
    [
        ("( 8.0 - 2.0 )", 5.0, "does not give its answer"),
        ("8.0", 8.0, "does not give its answer"),
        ("( 8.0 - ", 8.0, "cannot be computed"),
        ("( 8.0 / 0.0 )", 8.0, "cannot be computed"),
        ("( 8.0 - x )", 8.0, "cannot be computed"),
        ("( ( 1.0 / 3.0 ) * 3.0 )", 1.0, "leaves the decimals"),
    ],
)
def test_a_row_that_does_not_compute_is_refused(equation: str, answer: float, says: str) -> None:
    with pytest.raises(DataError, match=says):
        as_gsm8k(row(equation, answer))


def test_the_published_file_becomes_a_bank_that_draws_verified_items() -> None:
    if not SVAMP.is_file():
        pytest.skip(f"{SVAMP} is not here")
    models, left = read_bank(SVAMP.parent)
    assert len(models) >= 350
    assert len(models) + len(left) == 700
    assert Counter(left)["its equation does not give its answer"] >= 1  # chal-680
    for model in models[::20]:
        assert verify(draw(model, 7), model) == ()
    assert {model.source for model in models} == {"svamp"}


@pytest.mark.parametrize("content", ["{", "3", "[3, null]", "[]"])
def test_a_json_file_that_is_no_list_of_problems_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match="no problem that can be used"):
        read_bank(tmp_path)
