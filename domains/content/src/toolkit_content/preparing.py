"""From products with texts to rows that a student learns: a catalogue's, E2E's, or the sample's.

A text that gets its product wrong is not learnt, and told: cleaning the labels is half of faithfulness (Dušek, Howcroft
and Rieser, INLG 2019). The products of test rows are kept beside the rows, for `scoring`.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit.errors import DataError
from toolkit.workspace import write_file
from toolkit_content.drafting import Brief, draft_of, marks_of, prompt_of, text_of
from toolkit_content.products import MEANING, TEXT, Problem, Product, product_of, read_products
from toolkit_content.sample import Sampled
from toolkit_content.slots import Pack, faults_of

REFERENCES = "references"
FORM, TONE, LANGUAGE = "form", "tone", "language"
ROWS, PRODUCTS = "rows", "products.jsonl"
SPLITS = ("train", "validation", "test", "unlabelled")


@dataclass(frozen=True)
class Told:
    """A product, what was asked for, and the texts that were written about it; none where somebody is to write one."""

    product: Product
    brief: Brief
    texts: tuple[str, ...]
    split: str


@dataclass
class Prepared:
    """Rows by split, and what was left out, and why."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {split: [] for split in ("", *SPLITS)})
    products: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unfaithful: Counter[str] = field(default_factory=Counter)
    kept: int = 0

    def add(self, other: Prepared) -> None:
        """Further rows."""
        for split, rows in other.rows.items():
            self.rows[split] += rows
        self.products += other.products
        self.kept += other.kept


def told_in(folder: Path) -> tuple[Sequence[Told], Sequence[Problem]]:
    """The products of a folder's catalogues, each file named after its split, or none.

    A catalogue's row is a product with its attributes, `text` (or E2E's `mr` and `ref`), and `form`, `tone` and
    `language` where they are not a plain English description.

    Raises:
        DataError: there is no catalogue.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".json", ".jsonl", ".csv", ".xlsx"))
    if not files:
        raise DataError(f"{folder} has no catalogue", hint="Give products in .csv, .json, .jsonl or .xlsx.")
    found: list[Told] = []
    problems: list[Problem] = []
    for path in files:
        split = path.stem if path.stem in SPLITS else ""
        told, odd = _told(path, split)
        found += told
        problems += odd
    return found, problems


def _told(path: Path, split: str) -> tuple[list[Told], Sequence[Problem]]:
    if path.suffix.lower() == ".csv" and _is_e2e(path):
        return list(_e2e(path, split)), ()
    products, problems = read_products(path)
    found = []
    for product in products:
        attributes = dict(product.attributes)
        texts = tuple(text for name in TEXT for text in attributes.pop(name, ()))
        form, tone, language = (
            attributes.pop(name, (default,))[0]
            for name, default in ((FORM, "description"), (TONE, "plain"), (LANGUAGE, "en"))
        )
        brief = Brief(form=form, tone=tone, language=language)
        found.append(Told(replace(product, attributes=attributes), brief, texts, split))
    return found, problems


def _is_e2e(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return {MEANING, "ref"} <= set(next(csv.reader(stream), ()))


def _e2e(path: Path, split: str) -> Iterator[Told]:
    """E2E's rows, those of one meaning together."""
    texts: dict[str, list[str]] = {}
    for row in csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")):
        texts.setdefault(row[MEANING], []).append(" ".join(row["ref"].split()))
    for number, (meaning, refs) in enumerate(texts.items()):
        product = product_of({MEANING: meaning}, f"{path.stem}-{number}")
        if isinstance(product, Product):
            yield Told(product, Brief(), tuple(dict.fromkeys(refs)), split)


def prepared(told: Iterable[Told], packs: Mapping[str, Pack], *, clean: bool) -> Prepared:
    """Rows of what was told: every faithful text is one to learn, of a test product the first to be scored with.

    Args:
        packs: by language.
        clean: leave out what gets its product wrong; of test rows nothing is.
    """
    found = Prepared()
    for one in told:
        pack = packs.get(one.brief.language) or next(iter(packs.values()))
        prompt = prompt_of(one.product, one.brief, pack)
        wanted = list(marks_of(one.product, pack))
        base = {"prompt": prompt, "task": one.brief.language, "group": one.product.id, "wanted": wanted}
        if not one.texts or one.split == "unlabelled":
            found.rows["unlabelled"].append({"id": _id(one, 0), **base})
            found.products.append(_record(one, _id(one, 0)))
        elif one.split == "test":
            found.rows["test"].append(
                {"id": _id(one, 0), **base, "completion": draft_of(one.product, one.texts[0], pack)}
            )
            found.products.append(_record(one, _id(one, 0)))
        else:
            for number, text in enumerate(one.texts):
                wrong = faults_of(one.product, text, pack) if clean else ()
                found.unfaithful.update({f"{fault.fault} {fault.slot}" for fault in wrong})
                if wrong:
                    continue
                found.kept += 1
                completion = draft_of(one.product, text, pack)
                found.rows[one.split].append({"id": _id(one, number), **base, "completion": completion})
                found.products.append(_record(one, _id(one, number)))
    return found


def placed(told: Iterable[Told], seed: int, *, validation: float, test: float) -> Iterator[Told]:
    """What lies in no split, in one: by chance, each product whole, the same for the same seed."""
    for one in told:
        if one.split:
            yield one
            continue
        chance = random.Random(f"{seed}/{one.product.id}").random()
        split = "test" if chance < test else "validation" if chance < test + validation else "train"
        yield replace(one, split=split if one.texts else "unlabelled")


def thinned(told: Sequence[Told], seed: int, most: int) -> list[Told]:
    """Of the test rows of a language at most so many, by chance; all others."""
    lots = sorted(
        (one.brief.language, random.Random(f"{seed}/{one.product.id}/{one.brief.form}").random(), place)
        for place, one in enumerate(told)
        if one.split == "test"
    )
    kept: Counter[str] = Counter()
    out = set()
    for language, _, place in lots:
        kept[language] += 1
        if kept[language] > most:
            out.add(place)
    return [one for place, one in enumerate(told) if place not in out]


def of_drafts(rows: Iterable[Sampled], packs: Mapping[str, Pack]) -> Prepared:
    """Rows whose drafts are there already, with marks: the sample's."""
    found, numbers = Prepared(), Counter[str]()
    for row in rows:
        pack = packs[row.brief.language]
        text = text_of(row.product, row.draft, pack)[0] if row.draft else ""
        one = Told(row.product, row.brief, (text,) if text else (), row.split)
        identity = _id(one, numbers[_id(one, 0)])
        numbers[_id(one, 0)] += 1
        record = {
            "id": identity, "prompt": row.prompt(pack), "task": row.brief.language, "group": row.product.id,
            "wanted": list(marks_of(row.product, pack)),
        }  # fmt: skip
        found.rows[row.split].append(record | ({"completion": row.draft} if row.draft else {}))
        found.products.append(_record(one, identity))
        found.kept += bool(row.draft)
    return found


def _id(one: Told, number: int) -> str:
    return f"{one.product.id}:{one.brief.form}:{number}"


def _record(one: Told, identity: str) -> dict[str, Any]:
    return {
        "id": identity, "product": one.product.id,
        "attributes": {name: list(values) for name, values in one.product.attributes.items()},
        FORM: one.brief.form, TONE: one.brief.tone, LANGUAGE: one.brief.language, REFERENCES: list(one.texts),
    }  # fmt: skip


def write(found: Prepared, folder: Path) -> Path:
    """The rows as the task reads them, and the products beside; the folder of rows."""
    rows = folder / ROWS
    rows.mkdir(parents=True, exist_ok=True)
    for split, records in found.rows.items():
        if records:
            name = f"{split or 'all'}.jsonl"
            write_file(rows / name, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records).encode())
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found.products)
    write_file(folder / PRODUCTS, lines.encode())
    return rows


def products_in(folder: Path) -> Mapping[str, Told]:
    """The products by the ids of their rows.

    Raises:
        DataError: the folder holds no prepared catalogue.
    """
    try:
        lines = (folder / PRODUCTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no prepared catalogue", hint="Run the command again.") from error
    found = {}
    for line in lines:
        record = json.loads(line)
        product = Product(record["product"], {name: tuple(values) for name, values in record["attributes"].items()})
        brief = Brief(form=record[FORM], tone=record[TONE], language=record[LANGUAGE])
        found[record["id"]] = Told(product, brief, tuple(record[REFERENCES]), "")
    return found
