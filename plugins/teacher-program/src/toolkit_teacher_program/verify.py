"""Checking an answer by the checker of its own generator, without ever running the answer.

Some checkers of reasoning-gym hand the answer to Python's `eval`, themselves or through sympy's `parse_expr`. An answer
comes from a model, and may be anything; so those checkers see it only where it is a plain formula or a plain list.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

from toolkit_teacher_program.exam import Task

OF_LISTS = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
OF_FORMULAS = frozenset(
    {"countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"}
)
"""Tasks whose checker evaluates an answer, by what an answer is."""

LONGEST, LARGEST_NUMBER, LARGEST_POWER, DEEPEST_POWER = 2000, 10**18, 99, 2
FUNCTIONS = frozenset({"sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "sqrt"})
CONSTANTS = frozenset({"pi"})
_LISTS = (ast.Expression, ast.List, ast.Tuple, ast.Load)
_FORMULAS = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Load, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.USub, ast.UAdd,
)  # fmt: skip


def verify(task: Task, item: Mapping[str, Any], answer: str) -> float:
    """The score of an answer, from 0 to 1; `item` is the question with its answer and metadata."""
    return judge(task, item, answer)[0]


def judge(task: Task, item: Mapping[str, Any], answer: str) -> tuple[float, str]:
    """The score, and why it is not 1."""
    if answer == item["answer"]:
        return 1.0, ""
    if task.name in OF_LISTS and not is_list(answer):
        return 0.0, "neither the answer nor a plain list, so it was not evaluated"
    if task.name in OF_FORMULAS and not is_formula(answer):
        return 0.0, "neither the answer nor a plain formula, so it was not evaluated"
    try:
        score = float(task.dataset.score_answer(answer, item))
    except Exception as error:  # noqa: BLE001 - an answer may be anything, and what a checker cannot read is wrong
        return 0.0, f"the checker cannot read it: {type(error).__name__}"
    score = min(max(score, 0.0), 1.0) if math.isfinite(score) else 0.0
    return score, "" if score == 1 else "not the answer"


def is_list(answer: str) -> bool:
    """Whether evaluating a text makes a list of texts and numbers, and nothing else."""
    tree = _parsed(answer)
    if tree is None or not isinstance(tree.body, ast.List | ast.Tuple):
        return False
    return all(isinstance(node, _LISTS) or _is_literal(node) for node in ast.walk(tree))


def is_formula(answer: str) -> bool:
    """Whether evaluating a text does arithmetic of a bounded size, and nothing else. Texts within it are none of it:
    sympy evaluates them in turn."""
    tree = _parsed(answer)
    return tree is not None and all(map(_in_formula, ast.walk(tree))) and _deepest_power(tree) <= DEEPEST_POWER


def _parsed(answer: str) -> ast.Expression | None:
    if len(answer) > LONGEST:
        return None
    try:
        return ast.parse(answer.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_literal(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | int | float)


def _in_formula(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(op=ast.Pow(), right=exponent):
            return _is_small(exponent)
        case ast.Constant(value=int() | float() as value):
            return abs(value) <= LARGEST_NUMBER
        case ast.Name(id=name):
            return name in FUNCTIONS | CONSTANTS or len(name) == 1
        case ast.Call(func=ast.Name(id=name), args=[_], keywords=[]):
            return name in FUNCTIONS
    return isinstance(node, _FORMULAS)


def _is_small(exponent: ast.AST) -> bool:
    """A number, or a fraction of two, that is not large."""
    match exponent:
        case ast.Constant(value=int() | float() as value):
            return abs(value) <= LARGEST_POWER
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_small(operand)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _is_small(left) and _is_small(right)
    return False


def _deepest_power(node: ast.AST) -> int:
    inside = max((_deepest_power(child) for child in ast.iter_child_nodes(node)), default=0)
    return inside + (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow))
