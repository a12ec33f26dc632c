"""A calculator in the decoding loop: the result of `<<48/2=` is computed and put in, whatever the model would have
guessed.

GSM8K's own notation (Cobbe et al., arXiv 2110.14168). It removes slips of arithmetic, and no wrong plan. Expressions
are read as a tree of + - * / over exact fractions; there is no power, so a result is never large, and nothing is run as
code.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

MOST_CHARACTERS, MOST_DIGITS = 200, 20

_OPEN = re.compile(r"<<([^<>=]+)=([^<>=]*)$")
_PERCENT = re.compile(r"(\d(?:\.\d+)?)%")
_OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def owed_after(text: str) -> str:
    """The rest of the mark that a text ends in: `48/2=` wants `24>>`; empty where none is open, or it cannot be
    computed."""
    opened = _OPEN.search(text)
    result = opened and result_of(opened[1])
    if not opened or result is None or not result.startswith(opened[2].strip()):
        return ""
    return f"{result.removeprefix(opened[2].strip())}>>"


def result_of(expression: str) -> str | None:
    """The value of an expression as GSM8K writes it, at most six decimals; None where it has none."""
    plain = _PERCENT.sub(r"\1/100", expression.replace("$", "").replace(",", "").strip())
    if len(plain) > MOST_CHARACTERS:
        return None
    try:
        value = _value(ast.parse(plain, mode="eval").body)
        result = str(value) if value.denominator == 1 else f"{float(value):.6f}".rstrip("0").rstrip(".")
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None
    return result if len(result) <= MOST_DIGITS else None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(ast.dump(node))
