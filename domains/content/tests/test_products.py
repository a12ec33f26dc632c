"""Catalogues in every form that is read, and every row of them that is no product."""

from __future__ import annotations

import json
from datetime import datetime, time
from pathlib import Path

import pytest

from toolkit.errors import DataError
from toolkit_content.products import Product, attributes_of, product_of, read_products


def test_a_product_is_the_same_out_of_json_lines_csv_and_a_workbook(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed: the extra xlsx")
    record = {"id": "k1", "brand": "Nordal", "capacity": "1.7 L", "colour": "red;blue", "weight": 900}
    (tmp_path / "a.json").write_text(json.dumps([record]))
    (tmp_path / "b.jsonl").write_text(json.dumps(record) + "\n\n")
    (tmp_path / "c.csv").write_text("\ufeffid,brand,capacity,colour,weight\nk1,Nordal,1.7 L,red;blue,900\n", "utf-8")
    (tmp_path / "d.csv").write_text('id\tbrand\tcapacity\tcolour\tweight\nk1\tNordal\t"1.7 L"\t"red;blue"\t900\n')
    book = openpyxl.Workbook()
    for line in (list(record), list(record.values())):
        book.active.append(line)
    book.save(tmp_path / "e.xlsx")
    wanted = Product(
        "k1", {"brand": ("Nordal",), "capacity": ("1.7 L",), "colour": ("red", "blue"), "weight": ("900",)}
    )
    for path in sorted(tmp_path.iterdir()):
        assert read_products(path) == ([wanted], []), path.name


def test_a_row_that_is_no_product_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "brand": "A"},
        {"id": "a", "brand": "B"},
        {"id": "b"},
        {"id": "c", "size": {"x": 1}},
        {"id": "d", "text": "\u0007"},
        {"id": "e", "size": "x" * 501},
        {"id": "f", "foldable": True, "price": 12.5},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "not json\n[1]\n"
    (tmp_path / "odd.jsonl").write_text(text)
    products, problems = read_products(tmp_path / "odd.jsonl")
    assert [product.id for product in products] == ["a", "f"]
    assert products[1].attributes == {"foldable": ("yes",), "price": ("12.5",)}
    assert [(one.where, one.because) for one in problems] == [
        ("odd.jsonl: 2", "the id a was given before"),
        ("odd.jsonl: 3", "it has no attribute"),
        ("odd.jsonl: 4", "size: it is neither a text nor a number"),
        ("odd.jsonl: 5", "text: it has characters that cannot be printed"),
        ("odd.jsonl: 6", "size: it has more than 500 characters"),
        ("odd.jsonl: 8", "it is no product"),
        ("odd.jsonl: 9", "it is no product"),
    ]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", b"{"),
        ("a.json", b"3"),
        ("a.csv", b"a,a\n1,2\n"),
        ("a.csv", b"\xff\xfe"),
        ("a.csv", b""),
        ("a.xlsx", b"PK nonsense"),
        ("a.txt", b"x"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    if name.endswith(".xlsx"):
        pytest.importorskip("openpyxl", reason="openpyxl is not installed: the extra xlsx")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError):
        read_products(tmp_path / name)


def test_a_line_with_more_cells_than_names_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("brand,size\nA,1,2\nB,2\n,\n")
    products, problems = read_products(tmp_path / "a.csv")
    assert [product.attributes["brand"] for product in products] == [("B",)]
    assert [one.where for one in problems] == ["a.csv: 2"]


def test_meaning_representations_are_read() -> None:
    meaning = "name[The Mill], customer rating[3 out of 5], priceRange[£20-25], eatType[pub], eatType[restaurant]"
    assert attributes_of(meaning) == {
        "name": ("The Mill",),
        "customer rating": ("3 out of 5",),
        "priceRange": ("£20-25",),
        "eatType": ("pub", "restaurant"),
    }
    assert "no meaning representation" in str(attributes_of("name[The Mill, area[riverside]"))
    assert isinstance(product_of({"mr": meaning}, "x"), Product)
    assert product_of({"attributes": {}}, "x") == "it has no attribute"
    assert "more than 64" in str(product_of({f"a{n}": n for n in range(65)}, "x"))


@pytest.mark.parametrize(
    ("price", "said"),
    [
        (12999.99, "12999.99"),
        (1234567.0, "1234567"),
        (1234567.8912, "1234567.8912"),
        (1e-7, "0.0000001"),
        (1e21, "1000000000000000000000"),
        (12.50, "12.5"),
        (100.0, "100"),
        (0.1, "0.1"),
        (-3.0, "-3"),
        (12999999, "12999999"),
    ],
)
def test_a_number_keeps_every_digit(price: float, said: str, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed: the extra xlsx")
    (tmp_path / "a.json").write_text(json.dumps([{"id": "p", "price": price}]))
    book = openpyxl.Workbook()
    book.active.append(["id", "price"])
    book.active.append(["p", price])
    book.save(tmp_path / "b.xlsx")
    for name in ("a.json", "b.xlsx"):
        assert read_products(tmp_path / name)[0][0].attributes == {"price": (said,)}, name


@pytest.mark.parametrize("price", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_finite_number_is_told(price: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f'[{{"id": "p", "price": {price}}}, {{"id": "q", "price": 1}}]')
    products, problems = read_products(tmp_path / "a.json")
    assert [product.id for product in products] == ["q"]
    assert [one.because for one in problems] == ["price: it is no finite number"]


def test_a_text_is_one_value_whatever_stands_in_it(tmp_path: Path) -> None:
    text = "A kettle; a red one.\nIt boils;  fast. " + "x" * 2000
    (tmp_path / "a.json").write_text(
        json.dumps([{"id": "p", "brand": "A;B", "text": text}, {"id": "q", "text": {"x": 1}}])
    )
    (product,), (problem,) = read_products(tmp_path / "a.json")
    assert product.attributes == {"brand": ("A", "B"), "text": (text.replace("  ", " ").strip(),)}
    assert problem.because == "text: it is neither a text nor a number"
    assert product_of({"ref": 4711}, "x") == Product("x", {"ref": ("4711",)})
    assert product_of({"text": "x" * 4001}, "x") == "text: it has more than 4000 characters"


def test_a_workbooks_dates_are_read(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed: the extra xlsx")
    book = openpyxl.Workbook()
    book.active.append(["id", "since", "at", "opens"])
    book.active.append(["p", datetime(2026, 3, 1), datetime(2026, 3, 1, 9, 30), time(8, 15)])
    book.save(tmp_path / "a.xlsx")
    ((product,), problems) = read_products(tmp_path / "a.xlsx")
    assert not problems
    assert product.attributes == {"since": ("2026-03-01",), "at": ("2026-03-01T09:30:00",), "opens": ("08:15:00",)}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("head", "mark"), [("", ","), ("", ";"), ("", "\t"), ("", "|"), ("sep=;", ";"), ("sep=|", "|")]
)
def test_tables_of_every_make_are_the_same(head: str, mark: str, end: str, tmp_path: Path) -> None:
    lines = [
        *([head] if head else []),
        mark.join(("id", "brand", "size")),
        mark.join(("p", "A, B and C" if mark != "," else '"A, B and C"', "5")),
    ]
    (tmp_path / "a.csv").write_bytes("".join(line + end for line in lines).encode())
    ((product,), problems) = read_products(tmp_path / "a.csv")
    assert not problems
    assert (product.id, product.attributes) == ("p", {"brand": ("A, B and C",), "size": ("5",)})


def test_a_table_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,brand\np," + "x" * 200_000 + "\n")
    with pytest.raises(DataError, match="no CSV"):
        read_products(tmp_path / "a.csv")
