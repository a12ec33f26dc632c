"""Arithmetic on text is exact and bounded, and a number is read and written as learners do."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import DataError
from toolkit_education.expressions import DivisionByZero, ExpressionError, evaluate, literals_of, names_of
from toolkit_education.numerals import Reading, fixed, parse_number, show


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("48/2", 24),
        ("100-50-30-15", 5),
        ("2+3*4", 14),
        ("(2+3)*4", 20),
        ("-(3+4)*2", -14),
        ("8/4/2", 1),
        ("80/100*10", 8),
        ("20%*50", 10),
        (".2*50", 10),
        ("+30+46", 76),
        ("1/3+1/6", Fraction(1, 2)),
        ("0.1+0.2", Fraction(3, 10)),
        ("９＋３×2÷3", 11),
        ("20 − 13", 7),
        ("gcd(12, 18) + lcm(4, 6)", 18),
        ("17 - 5*floor(17/5) + ceil(17/5)", 6),
        ("max(3, 9, 4) - min(3, 9, 4)", 6),
    ],
)
def test_an_expression_has_its_exact_value(text: str, value: Fraction | int) -> None:
    assert evaluate(text) == value


def test_names_stand_for_numbers() -> None:
    assert evaluate("a*b - a", {"a": Fraction(3), "b": Fraction(5, 2)}) == Fraction(9, 2)
    assert list(names_of("a*(b - 2)/a")) == ["a", "b", "a"]
    assert list(literals_of("a*(b - 2)/0.5")) == [2, Fraction(1, 2)]


@pytest.mark.parametrize(
    "text",
    [
        *("", "3 4", "2(3)", "9**9**9", "9^9", "(3", "3)", "3+", "a", "__import__('os')", "1,200", "10%3", "gcd(4)"),
        *("sin(1, 2)", "gcd(1/2, 3)", "floor(1, 2)", "9" * 61 + "*" + "9" * 61, "1" * 500, "(" * 40 + "1" + ")" * 40),
    ],
)
def test_what_is_no_expression_or_beyond_the_bounds_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text)


def test_division_by_zero_is_an_error_of_its_own() -> None:
    with pytest.raises(DivisionByZero):
        evaluate("5/(3-3)")


LEAVES = st.one_of(
    st.integers(0, 999).map(str), st.decimals(0, 99, places=2, allow_nan=False, allow_infinity=False).map(str)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_values_agree_with_sympy(text: str) -> None:
    other = sympy.Rational(sympy.sympify(text, rational=True))
    assert evaluate(text) == Fraction(int(other.p), int(other.q))


@pytest.mark.parametrize(
    ("value", "english", "chinese"),
    [
        (Fraction(7), "7", "7"),
        (Fraction(1234), "1234", "1234"),
        (Fraction(12345), "12,345", "12345"),
        (Fraction(1, 4), "0.25", "0.25"),
        (Fraction(-5, 2), "-2.5", "-2.5"),
        (Fraction(1, 3), "1/3", "1/3"),
        (Fraction(22, 7), "22/7", "22/7"),
        (Fraction(1, 2**10), "1/1024", "1/1024"),
    ],
)
def test_a_number_is_written_for_a_learner(value: Fraction, english: str, chinese: str) -> None:
    assert (show(value, "en"), show(value, "zh")) == (english, chinese)


def test_nothing_is_rounded() -> None:
    assert fixed(Fraction(9, 2), 2) == "4.50"
    with pytest.raises(DataError):
        fixed(Fraction(1, 3), 2)
    with pytest.raises(DataError):
        show(Fraction(1), "fr")


@pytest.mark.parametrize(
    ("text", "value", "unit", "shape"),
    [
        ("1,200", 1200, "", "whole"),
        ("$12.50", Fraction(25, 2), "$", "decimal"),
        ("3/4", Fraction(3, 4), "", "fraction"),
        ("1 / 2", Fraction(1, 2), "", "fraction"),
        ("1 1/2", Fraction(3, 2), "", "mixed"),
        ("1½", Fraction(3, 2), "", "mixed"),
        ("⅓", Fraction(1, 3), "", "fraction"),
        ("50%", 50, "%", "whole"),
        (".5", Fraction(1, 2), "", "decimal"),
        ("１２００", 1200, "", "whole"),
        ("１，２００ 元", 1200, "元", "whole"),
        ("1200 元", 1200, "元", "whole"),
        ("3小时", 3, "小时", "whole"),
        ("-$3", -3, "$", "whole"),
        ("¥-3", -3, "¥", "whole"),
        ("12 apples.", 12, "apples", "whole"),
    ],
)
def test_a_number_is_read_as_people_write_it(text: str, value: Fraction | int, unit: str, shape: str) -> None:
    assert parse_number(text) == Reading(Fraction(value), unit, shape)


@pytest.mark.parametrize("text", ["", "abc", "1,5", "12,00", "1.5.2", "3/0", "2 3", "--3", "-$-3", "1/2/3", "9" * 401])
def test_what_can_be_read_in_two_ways_or_none_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        parse_number(text)


@settings(max_examples=100, deadline=None)
@given(st.fractions(max_denominator=500), st.sampled_from(["en", "zh"]))
def test_what_is_written_is_read_back(value: Fraction, language: str) -> None:
    assert parse_number(show(value, language)).value == value
