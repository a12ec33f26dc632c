"""SVAMP's rows as GSM8K writes them: the equation taken apart into marked lines, one an operation.

Source: Patel, Bhattamishra and Goyal, Are NLP Models really able to Solve Simple Math Word Problems?, 2021 (arXiv
2103.07191); licence MIT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from toolkit.benchmarks.reading import problem_of
from toolkit.errors import DataError
from toolkit_education.expressions import ExpressionError, Operation, evaluate, parse
from toolkit_education.numerals import decimal_places, exact, fixed

SOURCE = "svamp"
KEYS = frozenset({"Body", "Question", "Equation", "Answer"})


def as_gsm8k(record: Mapping[str, Any]) -> tuple[str, str]:
    """A row's question and worked answer.

    Raises:
        DataError: its equation is none, or does not give its answer.
    """
    try:
        node = parse(str(record["Equation"]))
        result, answer = evaluate(node), exact(str(record["Answer"]))
    except (ExpressionError, ValueError) as error:
        raise DataError("its equation cannot be computed", hint="Mend the equation.") from error
    if result != answer or not isinstance(node, Operation):
        raise DataError("its equation does not give its answer", hint="Mend the one or the other.")
    problem = problem_of(str(record["Body"]), str(record["Question"]))
    return problem, "\n".join([*_lines(node), f"#### {_plain(answer)}"])


def _lines(node: Operation) -> Iterator[str]:
    """From the innermost operation outwards."""
    for operand in node.operands:
        if isinstance(operand, Operation):
            yield from _lines(operand)
    sides = [_plain(evaluate(operand)) for operand in node.operands]
    if len(sides) != 2:
        raise DataError("its equation cannot be computed", hint="Use + - * / alone.")
    result = _plain(evaluate(node))
    yield f"{f' {node.operator} '.join(sides)} = <<{node.operator.join(sides)}={result}>>{result}"


def _plain(value: Fraction) -> str:
    places = decimal_places(value)
    if places is None:
        raise DataError("its equation leaves the decimals", hint="Use numbers that divide.")
    return fixed(value, places)
