"""Exact arithmetic on text: what an expression means.

Everything is a Fraction; nothing is ever handed to `eval`. There is no power operator, and length, depth and the size
of every number are bounded, so a hostile expression costs no more than an honest one. It knows nothing of problems,
units or learners.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType

from toolkit.errors import DataError
from toolkit_education.numerals import MOST_BITS, SIGNS, parse_number, show

__all__ = [
    "DivisionByZero",
    "ExpressionError",
    "Name",
    "Node",
    "Number",
    "Operation",
    "Token",
    "evaluate",
    "literals_of",
    "names_of",
    "parse",
    "parse_number",
    "show",
    "tokens",
]

MOST_CHARACTERS = 400
MOST_DEPTH = 30

_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d*)?|\.\d+)|(?P<name>[A-Za-z_]\w*)|(?P<sign>[-+*/(),%])|(?P<space>\s+)", re.ASCII
)


class ExpressionError(DataError):
    """Text that is no expression, or one beyond the bounds."""

    code = "expression"


class DivisionByZero(ExpressionError):
    """An expression that divides by nothing."""

    code = "division_by_zero"


@dataclass(frozen=True)
class Token:
    """A piece of an expression: `kind` is number, name or sign; [start, end) is where it stands in the text."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Number:
    """A literal."""

    value: Fraction


@dataclass(frozen=True)
class Name:
    """A named quantity or result."""

    name: str


@dataclass(frozen=True)
class Operation:
    """`operator` (+ - * / or `neg`, `percent`, or a function of FUNCTIONS) applied to `operands`."""

    operator: str
    operands: tuple[Node, ...]


Node = Number | Name | Operation


def _whole(value: Fraction) -> int:
    if value.denominator != 1:
        raise ExpressionError(f"{value} is not whole", hint="gcd and lcm take whole numbers.")
    return value.numerator


FUNCTIONS: Mapping[str, Callable[..., Fraction]] = MappingProxyType(
    {
        "gcd": lambda *values: Fraction(math.gcd(*map(_whole, values))),
        "lcm": lambda *values: Fraction(math.lcm(*map(_whole, values))),
        "min": lambda *values: min(values),
        "max": lambda *values: max(values),
        "floor": lambda value: Fraction(math.floor(value)),
        "ceil": lambda value: Fraction(math.ceil(value)),
    }
)


def tokens(text: str) -> tuple[Token, ...]:
    """The pieces of an expression, with × ÷ − and full-width signs read as * / -.

    Raises:
        ExpressionError: a character that has no place in an expression, or a text too long.
    """
    if len(text) > MOST_CHARACTERS:
        raise ExpressionError(f"an expression of {len(text)} characters", hint=f"At most {MOST_CHARACTERS}.")
    plain, found, place = _digits(text).translate(SIGNS), [], 0
    while place < len(plain):
        match = _TOKEN.match(plain, place)
        if match is None:
            raise ExpressionError(
                f"{text!r}: {plain[place]!r} has no place in an expression", hint="Use + - * / ( ) %."
            )
        if match.lastgroup != "space":
            found.append(Token(match.lastgroup or "", match.group(), match.start(), match.end()))
        place = match.end()
    return tuple(found)


@lru_cache(maxsize=65536)
def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        ExpressionError: not an expression, too long or too deep.
    """
    return _Parser(text).whole()


def evaluate(expression: str | Node, names: Mapping[str, Fraction] = MappingProxyType({})) -> Fraction:
    """The exact value of an expression.

    Raises:
        DivisionByZero: somewhere a divisor is 0.
        ExpressionError: not an expression, an unknown name, or a number of more than MOST_BITS bits.
    """
    return _value(parse(expression) if isinstance(expression, str) else expression, names)


def names_of(expression: str | Node) -> Iterator[str]:
    """The names in an expression from left to right, each as often as it stands there."""
    node = parse(expression) if isinstance(expression, str) else expression
    if isinstance(node, Name):
        yield node.name
    elif isinstance(node, Operation):
        for operand in node.operands:
            yield from names_of(operand)


def literals_of(expression: str | Node) -> Iterator[Fraction]:
    """The literal numbers in an expression from left to right."""
    node = parse(expression) if isinstance(expression, str) else expression
    if isinstance(node, Number):
        yield node.value
    elif isinstance(node, Operation):
        for operand in node.operands:
            yield from literals_of(operand)


def _digits(text: str) -> str:
    """Full-width digits as plain ones; the length stays, so places in the text do too."""
    return text if text.isascii() else text.translate({0xFF10 + digit: ord("0") + digit for digit in range(10)})


def _value(node: Node, names: Mapping[str, Fraction]) -> Fraction:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Name):
        if node.name not in names:
            raise ExpressionError(f"nothing is named {node.name!r}", hint=f"Known: {', '.join(names) or 'none'}.")
        return names[node.name]
    values = [_value(operand, names) for operand in node.operands]
    result = _apply(node.operator, values)
    if result.numerator.bit_length() > MOST_BITS or result.denominator.bit_length() > MOST_BITS:
        raise ExpressionError("a result too large", hint=f"At most {MOST_BITS} bits above and below the line.")
    return result


def _apply(operator: str, values: list[Fraction]) -> Fraction:
    match operator:
        case "+":
            return values[0] + values[1]
        case "-":
            return values[0] - values[1]
        case "*":
            return values[0] * values[1]
        case "/":
            if values[1] == 0:
                raise DivisionByZero(f"{values[0]} divided by zero", hint="Choose other numbers.")
            return values[0] / values[1]
        case "neg":
            return -values[0]
        case "percent":
            return values[0] / 100
        case _:
            return FUNCTIONS[operator](*values)


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.place, self.depth = text, tokens(text), 0, 0

    def whole(self) -> Node:
        node = self.sum()
        if self.place < len(self.tokens):
            raise self.wrong(f"{self.tokens[self.place].text!r} is not expected")
        return node

    def wrong(self, what: str) -> ExpressionError:
        return ExpressionError(f"{self.text!r}: {what}", hint="Write an expression such as (3 + 5) * 2.")

    def peek(self) -> str:
        return self.tokens[self.place].text if self.place < len(self.tokens) else ""

    def take(self, text: str) -> None:
        if self.peek() != text:
            raise self.wrong(f"{text!r} is missing")
        self.place += 1

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise self.wrong(f"nested more than {MOST_DEPTH} deep")
        node = self.product()
        while self.peek() in ("+", "-"):
            operator = self.peek()
            self.place += 1
            node = Operation(operator, (node, self.product()))
        self.depth -= 1
        return node

    def product(self) -> Node:
        node = self.factor()
        while self.peek() in ("*", "/"):
            operator = self.peek()
            self.place += 1
            node = Operation(operator, (node, self.factor()))
        return node

    def factor(self) -> Node:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.peek() == "-"
            self.place += 1
        node = self.atom()
        while self.peek() == "%":
            self.place += 1
            node = Operation("percent", (node,))
        return Operation("neg", (node,)) if negative else node

    def atom(self) -> Node:
        if self.place >= len(self.tokens):
            raise self.wrong("it ends too early")
        token = self.tokens[self.place]
        self.place += 1
        if token.kind == "number":
            return self.number(token.text)
        if token.kind == "name":
            return self.call(token.text) if self.peek() == "(" else Name(token.text)
        if token.text != "(":
            raise self.wrong(f"{token.text!r} is not expected")
        node = self.sum()
        self.take(")")
        return node

    def number(self, text: str) -> Number:
        value = Fraction(text if not text.endswith(".") else text[:-1])
        if value.numerator.bit_length() > MOST_BITS or value.denominator.bit_length() > MOST_BITS:
            raise self.wrong("a number too large")
        return Number(value)

    def call(self, name: str) -> Operation:
        if name not in FUNCTIONS:
            raise self.wrong(f"no function is named {name!r}")
        self.take("(")
        operands = [self.sum()]
        while self.peek() == ",":
            self.take(",")
            operands.append(self.sum())
        self.take(")")
        if len(operands) != 1 if name in ("floor", "ceil") else len(operands) < 2:
            raise self.wrong(f"{name} with {len(operands)} arguments")
        return Operation(name, tuple(operands))
