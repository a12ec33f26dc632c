"""Rows of prompts and completions: read line by line, faults named by file and line, split without leaks."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import DataError
from toolkit.tasks.text_generation.checks import group_of, normalised, place, without_copies
from toolkit.tasks.text_generation.rows import MOST_BYTES, MOST_CHARACTERS, MOST_TOLD, Corpus, Row, read_rows
from toolkit.text import Message

EDUCATION = Path(__file__).parents[3] / "shared/data/education"


def written(path: Path, *lines: Any) -> Path:
    """A file of lines: bytes as they are, anything else as JSON."""
    path.write_bytes(b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines))
    return path


def kinds(corpus: Corpus) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in corpus.findings:
        found.setdefault(finding.kind, []).extend(finding.rows)
    return found


def row(identity: str, prompt: str, completion: str = "c", *, given: str = "", task: str = "", answer: str = "") -> Row:
    return Row(identity, (Message("user", prompt),), completion, task, answer, given, f"x:{identity}")


def test_prompt_and_whole_conversation_are_read_alike(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    source = written(
        tmp_path / "a.jsonl",
        {"id": 7, "prompt": " Q ", "completion": " A ", "task": "maths", "answer": 51.0},
        {"messages": [*turns, {"role": "assistant", "content": "A"}]},
        {"messages": turns, "completion": "A"},
        {"prompt": "only asked"},
    )
    first, whole, *_ = corpus = read_rows(source).rows
    assert first == Row("7", (Message("user", "Q"),), "A", "maths", "51")
    assert whole.messages == (Message("system", "S"), Message("user", "Q"))
    assert whole.completion == "A"
    assert len(corpus) == 3  # the third is the second again
    assert not corpus[2].labelled
    assert read_rows(source).findings[0].kind == "same-id"


def test_each_broken_line_is_named_by_file_and_number_and_the_others_are_read(tmp_path: Path) -> None:
    deep = b"[" * 100_000
    source = written(
        tmp_path / "train.jsonl",
        b'\xef\xbb\xbf{"prompt": "marked", "completion": "c"}',
        b'{"prompt": "open',
        b"",
        b'{"prompt": "caf\xe9", "completion": "c"}',
        b'{"prompt": ' + deep,
        [1],
        {"completion": "no prompt"},
        {"prompt": "p", "messages": []},
        {"prompt": 3},
        {"prompt": "  ", "completion": "c"},
        {"prompt": "p", "completion": ""},
        {"prompt": "x" * (MOST_CHARACTERS + 1)},
        {"prompt": "half \ud83d"},
        {"id": "a\nb", "prompt": "p"},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]},
        {"messages": [{"role": "system", "content": "x"}]},
        b'{"prompt": 1' + b"0" * 5000 + b"}",
        {"id": True, "prompt": "p"},
        {"prompt": "last", "completion": "c"},
    )
    corpus = read_rows(source)
    assert [one.messages[0].content for one in corpus.rows] == ["marked", "last"]
    assert [one.where for one in corpus.rows] == ["train.jsonl:1", "train.jsonl:20"]
    assert all(one.given == "train" for one in corpus.rows)
    assert kinds(corpus) == {
        "broken-json": [f"train.jsonl:{n}" for n in (2, 5, 6, 18)],
        "not-utf-8": ["train.jsonl:4", "train.jsonl:13"],
        "missing-field": [f"train.jsonl:{n}" for n in (7, 8, 9, 17)],
        "empty-text": [f"train.jsonl:{n}" for n in (10, 11, 16)],
        "too-long": ["train.jsonl:12"],
        "bad-id": ["train.jsonl:14", "train.jsonl:19"],
        "unknown-role": ["train.jsonl:15"],
    }
    assert all(finding.message.startswith(finding.rows[0]) for finding in corpus.findings)


def test_what_is_wanted_of_an_answer_is_a_list_of_texts(tmp_path: Path) -> None:
    stated = [["[name]", "[size]"], [], "name", [3], [" "], None]
    lines = [json.dumps({"prompt": f"p{n}", "wanted": wanted}) for n, wanted in enumerate(stated)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, json.dumps({"prompt": "p"})]))
    corpus = read_rows(tmp_path)
    assert [row.wanted for row in corpus.rows] == [("[name]", "[size]"), (), ()]
    assert kinds(corpus) == {"missing-field": [f"a.jsonl:{n}" for n in (3, 4, 5, 6)]}


def test_of_many_lines_that_are_alike_the_first_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    good = json.dumps({"prompt": "one", "completion": "two"})
    (tmp_path / "train.jsonl").write_text("\n".join([good, *["{"] * (MOST_TOLD + 7), *["[]"] * MOST_TOLD]))
    corpus = read_rows(tmp_path)
    assert len(corpus.rows) == 1
    assert len(corpus.findings) == MOST_TOLD + 1
    assert corpus.findings[-1].message == f"{MOST_TOLD + 7:,} more lines are broken-json"


def test_a_line_without_end_is_passed_over_and_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "' + b"x" * (2 * MOST_BYTES) + b'"}\n{"prompt": "p"}\n')
    corpus = read_rows(path)
    assert kinds(corpus) == {"too-long": ["a.jsonl:1"]}
    assert corpus.rows[0].where == "a.jsonl:2"


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.jsonl", b"", "no row that can be used"),
        ("a.jsonl", "\ufeff{}".encode("utf-16-le"), "UTF-16"),
        ("a.json", b"[1, 2", "no list in JSON"),
        ("a.json", b"[[1], 2]", "no row that can be used: a.json:1: no JSON object"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_refused_with_what_to_do(
    tmp_path: Path, name: str, data: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=told) as error:
        read_rows(tmp_path / name)
    assert error.value.hint


def test_a_folder_without_rows_or_with_a_split_twice_is_refused(tmp_path: Path) -> None:
    for source in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError):
            read_rows(source)
    written(tmp_path / "train.jsonl", {"prompt": "p"})
    written(tmp_path / "train.json", [{"prompt": "p"}])
    with pytest.raises(DataError, match="twice"):
        read_rows(tmp_path)


def test_files_say_their_split_and_others_are_not_read(tmp_path: Path) -> None:
    for split in ("train", "test", "validation", "unlabelled"):
        written(tmp_path / f"{split}.jsonl", {"prompt": split})
    written(tmp_path / "notes.jsonl", {"prompt": "x"})
    corpus = read_rows(tmp_path)
    assert [(one.given, one.messages[0].content) for one in corpus.rows] == [
        (split, split) for split in ("train", "validation", "test", "unlabelled")
    ]
    assert "notes.jsonl" in corpus.findings[0].message


def test_copies_and_leaks_are_found_whatever_case_and_spaces(tmp_path: Path) -> None:
    written(
        tmp_path / "train.jsonl",
        {"id": "a", "prompt": "How  MANY?", "completion": "3"},
        {"id": "b", "prompt": "how many?", "completion": "3"},
        {"id": "c", "prompt": "how many?", "completion": "three"},
        {"id": "d", "prompt": "\uff28\uff4f\uff57 far?", "completion": "9"},
        {"id": "e", "prompt": "other", "completion": "1"},
    )
    written(tmp_path / "test.jsonl", {"id": "t", "prompt": "HOW FAR?", "completion": "10"})
    corpus = without_copies(read_rows(tmp_path))
    assert [one.id for one in corpus.rows] == ["a", "c", "e", "t"]
    assert kinds(corpus) == {"copies": ["b"], "leak": ["d"]}
    assert [one.severity for one in corpus.findings] == ["warning", "error"]
    assert "train.jsonl:2 = train.jsonl:1" in corpus.findings[0].message
    assert normalised("\uff21 \n b") == "a b"


def test_splits_are_the_same_in_any_order_and_keep_a_prompts_answers_together() -> None:
    rows = [row(f"{n}-{m}", f"question {n}", f"answer {m}", task="ab"[n % 2]) for n in range(40) for m in range(3)]
    placed = place(rows, seed=5, test_share=0.2, validation_share=0.25, calibration_rows=10)
    shuffled = random.Random(1).sample(rows, len(rows))
    again = place(shuffled, seed=5, test_share=0.2, validation_share=0.25, calibration_rows=10)
    assert dict(placed.of) == dict(again.of)
    assert placed.calibration == again.calibration
    assert dict(place(rows, seed=6, test_share=0.2, validation_share=0.25).of) != dict(placed.of)
    groups: dict[str, set[str]] = {}
    for one in rows:
        groups.setdefault(group_of(one), set()).add(placed.of[one.id])
    assert all(len(splits) == 1 for splits in groups.values())
    assert {split: len(placed.ids(split)) for split in ("train", "validation", "test")} == {
        "train": 72, "validation": 24, "test": 24,
    }  # fmt: skip
    assert placed.calibration <= set(placed.ids("train"))


def test_given_splits_stay_and_rows_nobody_can_score_are_for_the_teacher() -> None:
    rows = [
        *(row(f"r{n}", f"q{n}", given="train") for n in range(6)),
        row("t", "tested", given="test"),
        row("u", "asked", "", given="unlabelled"),
        row("v", "asked too", ""),
        row("leak", "TESTED", ""),
        row("w", "with an answer", "", given="train", answer="3"),
    ]
    placed = place(rows, seed=0, test_share=0.2, validation_share=0.2)
    assert placed.ids("test") == ["t"]
    assert placed.ids("unlabelled") == ["u", "v"]
    assert "leak" not in placed.of
    assert placed.of["w"] in ("train", "validation")
    assert [finding.kind for finding in placed.findings] == ["leak"]


@pytest.mark.parametrize("tested", [False, True])
def test_rows_nobody_can_score_are_not_drawn_to_test_with(tested: bool) -> None:
    bare = [Row(f"bare{n}", (Message("user", f"what is {n}"),), given="train") for n in range(40)]
    known = [Row(f"known{n}", (Message("user", f"and {n}"),), "it", given="train") for n in range(20)]
    given = [Row("test", (Message("user", "a test"),), "it", given="test")] if tested else []
    placed = place([*bare, *known, *given], seed=0, test_share=0.3, validation_share=0.2)
    where = {split: {row.id for row in bare} & set(placed.ids(split)) for split in ("test", "unlabelled")}
    assert not where["test"]
    assert len(where["unlabelled"]) == (0 if tested else 40)  # of those given to train, the teacher labels them there


def test_a_task_of_one_prompt_is_told_to_have_no_test_row() -> None:
    rows = [row(f"{n}", f"q{n}", task="big") for n in range(10)] + [row("s", "alone", task="small")]
    told = [finding.message for finding in place(rows, seed=0, test_share=0.2, validation_share=0.2).findings]
    assert any("no test row of the task small" in message for message in told)


@pytest.mark.skipif(not EDUCATION.is_dir(), reason="needs shared/data/education")
def test_gsm8k_and_svamp_are_read_as_they_are() -> None:
    corpus = without_copies(read_rows(EDUCATION / "gsm8k"))
    tests = [one for one in corpus.rows if one.given == "test"]
    assert len(tests) == 900
    assert tests[0].answer == "18"
    assert tests[0].completion.endswith("#### 18")
    assert (
        sum(one.given == "train" for one in corpus.rows)
        + sum(len(finding.rows) for finding in corpus.findings if finding.severity != "note")
        == 7473
    )
    assert all("," not in one.answer and float(one.answer) < 1e9 for one in corpus.rows)
    problems = read_rows(EDUCATION / "svamp").rows
    assert len(problems) == 700
    assert problems[0].id == "chal-1"
    assert problems[0].messages[0].content.endswith("on each pack. How much do you have to pay to buy each pack?")
    assert problems[0].answer == "51"
    assert not problems[0].labelled


def test_a_files_name_says_its_split_however_it_is_written(tmp_path: Path) -> None:
    line = '{{"prompt": "What is {0}+{0}?", "completion": "{0}"}}'
    for number, name in enumerate(("Train.JSONL", "Valid.jsonl", "TEST.json", "UNLABELLED.jsonl", "notes.jsonl")):
        (tmp_path / name).write_text(line.format(number))
    found = read_rows(tmp_path)
    assert [row.given for row in found.rows] == ["train", "validation", "test", "unlabelled"]
    assert [(one.kind, "notes.jsonl" in one.message) for one in found.findings] == [("ignored-file", True)]
    (tmp_path / "val.jsonl").write_text(line.format(7))
    with pytest.raises(DataError, match=r"has a split twice: .*val\.jsonl"):
        read_rows(tmp_path)
