"""Benchmarks out of files: the published ones as they are, files of one's own, and what is none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from toolkit.benchmarks.forms import CHOICE, NUMBER, PROGRAM
from toolkit.benchmarks.reading import read_benchmark
from toolkit.errors import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def published(*parts: str) -> Path:
    folder = SHARED.joinpath(*parts)
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


def test_gsm8k_is_read_as_published() -> None:
    found = read_benchmark("gsm8k", published("education", "gsm8k"), Path())
    assert (found.name, found.form, len(found.questions), len(found.examples)) == ("gsm8k", NUMBER, 900, 7473)
    assert found.questions[0].asked.startswith("Janet’s ducks lay 16 eggs per day.")
    assert found.questions[0].key.endswith("#### 18")


def test_svamp_is_read_as_published() -> None:
    found = read_benchmark("svamp", published("education", "svamp"), Path())
    assert (found.form, len(found.questions), found.examples) == (NUMBER, 700, [])
    assert found.questions[0].id == "chal-1"
    assert "on each pack. How much" in found.questions[0].asked
    assert found.questions[0].key.endswith("\n#### 51")


def test_humaneval_is_read_as_published() -> None:
    found = read_benchmark("humaneval", published("bench", "humaneval"), Path())
    assert (found.form, len(found.questions), found.examples) == (PROGRAM, 164, [])
    assert (found.questions[0].id, found.questions[0].entry) == ("HumanEval/0", "has_close_elements")


def test_mmlu_is_read_from_the_folders_of_its_authors(tmp_path: Path) -> None:
    for split, rows in (("dev", 2), ("test", 3)):
        folder = tmp_path / "benchmarks" / "mmlu" / split
        folder.mkdir(parents=True)
        for subject in ("abstract_algebra", "anatomy"):
            lines = [f'"Which, {n}?",one,"two, or",three,four,{"ABCD"[n]}\n' for n in range(rows)]
            (folder / f"{subject}_{split}.csv").write_text("".join(lines))
    found = read_benchmark("mmlu", None, tmp_path)
    assert (found.form, len(found.questions), len(found.examples)) == (CHOICE, 6, 4)
    assert {one.part for one in found.questions} == {"abstract algebra", "anatomy"}
    assert (found.questions[2].key, found.questions[2].choices[1]) == ("C", "two, or")


def test_a_folder_with_a_dot_in_its_name_hides_no_split(tmp_path: Path) -> None:
    folder = tmp_path / "v1.0"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    found = read_benchmark(str(tmp_path), None, tmp_path)
    assert (len(found.questions), len(found.examples)) == (1, 1)


@pytest.mark.parametrize("answer", [1, "B", "a circle"])
def test_a_file_of_ones_own_is_a_benchmark_by_its_keys(answer: object, tmp_path: Path) -> None:
    row = {"question": "Which is round?", "choices": ["a square", "a circle"], "answer": answer, "subject": "shapes"}
    (tmp_path / "mine.jsonl.gz").write_bytes(gzip.compress((json.dumps(row) + "\n\n").encode()))
    found = read_benchmark(str(tmp_path / "mine.jsonl.gz"), None, tmp_path)
    assert (found.name, found.form, found.questions[0].key, found.questions[0].part) == (
        "mine.jsonl.gz", CHOICE, "B", "shapes",
    )  # fmt: skip
    again = read_benchmark(str(tmp_path), None, tmp_path)
    assert again.digest == found.digest


@pytest.mark.parametrize(
    ("which", "says"), [("gsm8k", "grade-school-math"), ("mmlu", "hendrycks"), ("other", "Known:")]
)
def test_an_absent_one_is_said_to_be_absent_and_where_it_can_be_had(which: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not here") as caught:
        read_benchmark(which, None, tmp_path)
    assert says in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"{", "cannot be read"),
        ("a.jsonl", b"\xff\xfe", "cannot be read"),
        ("a.jsonl.gz", b"not packed", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0)[:-4], "cannot be read"),
        ("a.json", b"3", "cannot be read"),
        ("a.jsonl", b'{"question": "q"}', "row 1"),
        ("a.jsonl", b"[]", "row 1"),
        ("a.jsonl", b"3", "row 1"),
        ("a.jsonl", b'{"question": "q", "choices": ["x"], "answer": 0}', "row 1"),
        ("a.jsonl", b'{"question": "q", "choices": ["x", "y"], "answer": 2}', "row 1"),
        ("a.jsonl", b'{"question": "q", "choices": ["x", "y"], "answer": "E"}', "row 1"),
        ("a.csv", b"q,a\n", "row 1"),
        ("a.txt", b"q", "no question"),
        ("a.jsonl", b'{"question": "q", "answer": "1"}\n{"prompt": "p", "test": "", "entry_point": "f"}', "mixes"),
    ],
)
def test_what_is_no_benchmark_is_refused(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_benchmark(str(tmp_path), None, tmp_path)
