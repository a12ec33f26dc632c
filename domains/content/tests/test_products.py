"""Catalogues in every form that is read, and every row of them that is no product."""

from __future__ import annotations

import json
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
        {"id": "e", "text": "x" * 501},
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
        ("odd.jsonl: 6", "text: it has more than 500 characters"),
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
