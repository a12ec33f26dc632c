"""A product's attributes, as a catalogue states them: JSON, JSON lines, CSV, XLSX, or E2E meaning representations.

It refuses to know what an attribute means; `slots` does. A row that cannot be used is told, and the others are read.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path

from toolkit.errors import DataError, EnvironmentUnfit

SEVERAL = ";"
"""What stands between several values of an attribute in a cell."""

TEXT = ("text", "ref")
"""Columns that hold a text about the product, which is one value whatever stands in it, line by line."""

MOST_ATTRIBUTES, LONGEST, LONGEST_TEXT = 64, 500, 4000
"""Of a product; of a value, and of a text about it, in characters."""

DELIMITERS = (",", ";", "\t", "|")

ID, KIND, MEANING = "id", "kind", "mr"
"""Columns that are no attributes: a product's id, the pack that describes it, and a whole E2E meaning
representation."""

FORMATS = (".json", ".jsonl", ".csv", ".xlsx")

_SLOT = re.compile(r"\s*([^\[\],]+)\[([^\[\]]*)\]\s*(?:,|$)")


@dataclass(frozen=True)
class Product:
    """What is to be said of one product: each attribute's values, in the catalogue's order."""

    id: str
    attributes: Mapping[str, tuple[str, ...]]
    kind: str = ""


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used: where it stands, and why."""

    where: str
    because: str


def read_products(path: Path) -> tuple[Sequence[Product], Sequence[Problem]]:
    """The products of a catalogue file, and the rows that are none.

    Raises:
        DataError: the file is no catalogue. EnvironmentUnfit: it is a workbook, and openpyxl is not installed.
    """
    readers = {".json": _json, ".jsonl": _json_lines, ".csv": _csv, ".xlsx": _xlsx}
    try:
        reader = readers[path.suffix.lower()]
    except KeyError as error:
        raise DataError(f"{path.name} is no catalogue", hint=f"Give one of {', '.join(FORMATS)}.") from error
    products: list[Product] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for where, record in reader(path):
        found = product_of(record, f"{path.stem}-{where}") if isinstance(record, Mapping) else "it is no product"
        if isinstance(found, Product) and found.id in seen:
            found = f"the id {found.id} was given before"
        if isinstance(found, Product):
            seen.add(found.id)
            products.append(found)
        else:
            problems.append(Problem(f"{path.name}: {where}", found))
    return products, problems


def product_of(record: Mapping[str, object], identity: str) -> Product | str:
    """A product of a record of attributes; or why it is none.

    Args:
        record: attributes with a text, a number, a truth value, or a list of them; beside them, or around them as
            `attributes`, `id` and `kind`.
        identity: the id where the record has none.
    """
    inner = record.get("attributes")
    stated = inner if isinstance(inner, Mapping) else {n: v for n, v in record.items() if n not in (ID, KIND)}
    attributes: dict[str, tuple[str, ...]] = {}
    if isinstance(meaning := stated.get(MEANING), str):
        if isinstance(parsed := attributes_of(meaning), str):
            return parsed
        attributes = dict(parsed)
        stated = {}
    for name, value in stated.items():
        values = _text(value) if name in TEXT else _values(value)
        if isinstance(values, str):
            return f"{name}: {values}"
        if values:
            attributes[str(name).strip()] = values
    if not attributes:
        return "it has no attribute"
    if len(attributes) > MOST_ATTRIBUTES:
        return f"it has {len(attributes)} attributes, more than {MOST_ATTRIBUTES}"
    return Product(str(record.get(ID) or identity), attributes, str(record.get(KIND) or ""))


def attributes_of(meaning: str) -> Mapping[str, tuple[str, ...]] | str:
    """The attributes of an E2E meaning representation, `name[The Mill], area[riverside]` (Novikova et al., SIGDIAL
    2017); or why it is none."""
    found: dict[str, tuple[str, ...]] = {}
    place = 0
    while place < len(meaning):
        slot = _SLOT.match(meaning, place)
        if slot is None:
            return f"it is no meaning representation from {meaning[place : place + 30]!r} on"
        name, value = slot[1].strip(), slot[2].strip()
        if value and value not in found.get(name, ()):
            found[name] = (*found.get(name, ()), value)
        place = slot.end()
    return found


def _values(value: object) -> tuple[str, ...] | str:
    """The values of an attribute, each once; or why they are none."""
    if value is None:
        return ()
    if isinstance(value, bool):
        return ("yes" if value else "no",)
    if isinstance(value, int | float):
        return (_number(value),) if math.isfinite(value) else "it is no finite number"
    if isinstance(value, date | time):
        return (_moment(value),)
    if isinstance(value, str):
        parts = [" ".join(part.split()) for part in value.split(SEVERAL)]
    elif isinstance(value, list):
        parts = []
        for one in value:
            if isinstance(inner := _values(one), str):
                return inner
            parts += inner
    else:
        return "it is neither a text nor a number"
    if any(len(part) > LONGEST for part in parts):
        return f"it has more than {LONGEST} characters"
    if any(not part.isprintable() for part in parts):
        return "it has characters that cannot be printed"
    return tuple(dict.fromkeys(part for part in parts if part))


def _text(value: object) -> tuple[str, ...] | str:
    """A text about the product, or several; or why they are none. A number in such a column is a value as any other."""
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        return _values(value)
    lines = [[" ".join(line.split()) for line in text.splitlines() if line.strip()] for text in texts]
    if not all(line.isprintable() for text in lines for line in text):
        return "it has characters that cannot be printed"
    found = tuple(dict.fromkeys("\n".join(text) for text in lines if text))
    return f"it has more than {LONGEST_TEXT} characters" if any(len(text) > LONGEST_TEXT for text in found) else found


def _number(value: float) -> str:
    """With every digit it has, and no exponent."""
    return str(value) if isinstance(value, int) else format(Decimal(repr(value)), "f").removesuffix(".0")


def _moment(value: date | time) -> str:
    """As ISO 8601 writes it; a workbook's date is one at midnight."""
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return value.isoformat()


def _json(path: Path) -> Iterator[tuple[str, object]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} is no JSON: {error}", hint="Give a list of products.") from error
    if isinstance(found, Mapping):
        found = found.get("products", [found])
    if not isinstance(found, list):
        raise DataError(f"{path.name} holds no list of products", hint='Give [{"id": ..., "name": ...}, ...].')
    yield from ((str(number), record) for number, record in enumerate(found, 1))


def _json_lines(path: Path) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record: object = json.loads(line)
        except ValueError:
            record = None
        yield str(number), record


def _csv(path: Path) -> Iterator[tuple[str, object]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} is no CSV in UTF-8: {error}", hint="Save it as CSV UTF-8.") from error
    stated = re.match(r"sep=(.)\s*?(?:\r\n|\r|\n)", text)  # as spreadsheets write it above the names
    text = text[stated.end() :] if stated else text
    head = (text.splitlines() or [""])[0]
    delimiter = (
        stated[1] if stated else max(DELIMITERS, key=lambda one: len(next(csv.reader([head], delimiter=one), ())))
    )
    try:
        yield from _table(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), path)
    except csv.Error as error:
        raise DataError(f"{path.name} is no CSV: {error}", hint="Save it as CSV UTF-8.") from error


def _xlsx(path: Path) -> Iterator[tuple[str, object]]:
    try:
        import openpyxl
    except ImportError as error:
        raise EnvironmentUnfit(
            "what reads workbooks is not installed: openpyxl", hint="pip install 'distil-toolkit-content[xlsx]'"
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # zipfile's, KeyError, ...: openpyxl has no class of its own
        raise DataError(f"{path.name} is no workbook: {error}", hint="Save it as .xlsx.") from error
    try:
        yield from _table(book.worksheets[0].iter_rows(values_only=True), path)
    finally:
        book.close()


def _table(lines: Iterable[Sequence[object]], path: Path) -> Iterator[tuple[str, object]]:
    """Records of a table: its first line names the attributes."""
    rows = iter(lines)
    head = [str(cell).strip() if cell is not None else "" for cell in next(rows, ())]
    if not any(head) or len({name for name in head if name}) < sum(map(bool, head)):
        raise DataError(f"{path.name} has no line of distinct names at its top", hint="Name each column once.")
    for number, cells in enumerate(rows, 2):
        if not any(cell not in (None, "") for cell in cells):
            continue
        if len(cells) > len(head) and any(cell not in (None, "") for cell in cells[len(head) :]):
            yield str(number), None
            continue
        yield str(number), {name: cell for name, cell in zip(head, cells, strict=False) if name}
