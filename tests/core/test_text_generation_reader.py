"""A folder of JSON lines as a data set: what is trained on and tested on, what is left out and why, and whose it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from toolkit.artifacts import Dataset
from toolkit.errors import DataError
from toolkit.plan import DataPlan, Plan, TextPlan
from toolkit.tasks.text_generation.reader import LEAST, load_corpus, load_rows, prepare_rows, source_digest
from toolkit.tasks.text_generation.task import open_dataset, prepare
from toolkit.text import Message
from toolkit.workspace import file_digest

GSM8K = Path(__file__).parents[3] / "shared/data/education/gsm8k"
SPLITS = ("train", "validation", "test", "unlabelled")


def put(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return folder


def rows(count: int, what: str = "row", **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"{what}{n}", "prompt": f"{what} {n}?", "completion": f"it is {n}", **more} for n in range(count)]


def read(source: Path, folder: Path, *, purpose: str = "train", seed: int = 0, system: str = "", **data: Any) -> Any:
    """The facts, and the ids by split."""
    facts = prepare_rows(source, purpose=purpose, settings=DataPlan(**data), seed=seed, folder=folder, system=system)
    return facts, {split: list(load_rows(folder, split).ids) for split in SPLITS}


def told(facts: Mapping[str, Any]) -> dict[str, str]:
    return {finding["kind"]: finding["message"] for finding in facts["findings"]}


def test_files_say_their_split(tmp_path: Path) -> None:
    for split, count in (("train", 9), ("validation", 3), ("test", 4), ("unlabelled", 2)):
        put(tmp_path / "data", f"{split}.jsonl", rows(count, split))
    facts, ids = read(tmp_path / "data", tmp_path / "out", calibration_rows=8)
    assert ids == {
        split: [f"{split}{n}" for n in range(count)]
        for split, count in (("train", 9), ("validation", 3), ("test", 4), ("unlabelled", 2))
    }
    assert facts["counts"] == {"train": {"": 9}, "validation": {"": 3}, "test": {"": 4}}
    assert (facts["unlabelled"], facts["answers"], facts["tasks"]) == (2, 0, [])
    assert set(load_rows(tmp_path / "out", "calibration").ids) < set(ids["train"])
    with pytest.raises(KeyError, match="no split 'dev'"):
        load_rows(tmp_path / "out", "dev")


def test_by_chance_whole_groups_of_one_prompt_are_placed_and_the_seed_says_which(tmp_path: Path) -> None:
    several = [
        {"prompt": f"Count  from {n} ", "completion": f"{n} and {m}", "task": "odd" if n % 2 else "even"}
        for n in range(40) for m in range(3)
    ]  # fmt: skip
    put(tmp_path / "data", "lines.jsonl", several)
    facts, ids = read(tmp_path / "data", tmp_path / "one")
    assert {split: len(found) for split, found in ids.items()} == {
        "train": 84, "validation": 12, "test": 24, "unlabelled": 0,
    }  # fmt: skip
    groups = {split: {row.group for row in load_rows(tmp_path / "one", split)} for split in SPLITS[:3]}
    assert [len(found) for found in groups.values()] == [28, 4, 8]
    assert len(set.union(*groups.values())) == 40
    assert facts["counts"]["test"] == {"even": 12, "odd": 12}
    assert facts["tasks"] == ["even", "odd"]
    put(tmp_path / "data", "lines.jsonl", several[::-1])
    assert {k: sorted(v) for k, v in read(tmp_path / "data", tmp_path / "two")[1].items()} == {
        k: sorted(v) for k, v in ids.items()
    }
    assert read(tmp_path / "data", tmp_path / "three", seed=1)[1] != ids


def test_copies_and_leaks_are_left_out_and_named(tmp_path: Path) -> None:
    leaked = {"id": "leaked", "prompt": "TEST  0?", "completion": "something else"}
    asked = {"id": "asked", "prompt": "test 1?"}
    put(
        tmp_path / "data",
        "train.jsonl",
        [*rows(12), {"id": "copy", "prompt": "Row 3?", "completion": "It is 3"}, leaked],
    )
    put(tmp_path / "data", "test.jsonl", rows(4, "test"))
    put(tmp_path / "data", "unlabelled.jsonl", [asked, {"id": "free", "prompt": "free?"}])
    facts, ids = read(tmp_path / "data", tmp_path / "out")
    assert ids["unlabelled"] == ["free"]
    assert not {"copy", "leaked"} & {identity for found in ids.values() for identity in found}
    found = told(facts)
    assert found["copies"] == "1 row are there already: train.jsonl:13 = train.jsonl:4"
    assert "train.jsonl:14 = test.jsonl:1" in found["leak"]
    assert "unlabelled.jsonl:1 = test.jsonl:2" in found["leak"]
    stored = json.loads((tmp_path / "out" / "findings.json").read_bytes())
    assert stored["findings"] == facts["findings"]


def test_a_row_that_nobody_can_score_is_for_the_teacher(tmp_path: Path) -> None:
    asked = [{"id": f"a{n}", "prompt": f"a {n}?", "answer": n} for n in range(10)]
    put(tmp_path / "data", "mixed.jsonl", [*rows(10), *asked, {"id": "open", "prompt": "who knows?"}])
    facts, ids = read(tmp_path / "data", tmp_path / "out")
    assert ids["unlabelled"] == ["open"]
    tested = {row.id: row for row in load_corpus(tmp_path / "out", "test")}
    assert facts["answers"] == sum(identity.startswith("a") for identity in tested) > 0
    assert {row.answer for row in tested.values() if row.id == "a7"} <= {"7"}


def test_the_system_message_begins_every_row_that_has_none_and_is_part_of_its_group(tmp_path: Path) -> None:
    own = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "own?"}]
    put(tmp_path / "data", "train.jsonl", [*rows(12), {"id": "own", "messages": own, "completion": "yes"}])
    put(tmp_path / "data", "test.jsonl", rows(2, "test"))
    read(tmp_path / "data", tmp_path / "plain")
    read(tmp_path / "data", tmp_path / "begun", system="Be brief.")
    begun = {row.id: row for split in SPLITS for row in load_rows(tmp_path / "begun", split)}
    assert begun["own"].inputs["messages"] == (Message("system", "Mine."), Message("user", "own?"))
    assert begun["row3"].inputs["messages"] == (Message("system", "Be brief."), Message("user", "row 3?"))
    plain = {row.id: row for split in SPLITS for row in load_rows(tmp_path / "plain", split)}
    assert plain["own"].group == begun["own"].group
    assert plain["row3"].group != begun["row3"].group


def test_to_evaluate_every_row_is_a_test_row_however_few_and_whatever_its_file_says(tmp_path: Path) -> None:
    put(tmp_path / "data", "train.jsonl", [*rows(2), {"id": "twin", "prompt": "row 0?", "completion": "it is 0"}])
    put(tmp_path / "data", "unlabelled.jsonl", [{"id": "open", "prompt": "open?", "answer": "1,200"}])
    facts, ids = read(tmp_path / "data", tmp_path / "out", purpose="evaluate", system="Be brief.")
    assert ids == {"train": [], "validation": [], "test": ["row0", "row1", "twin", "open"], "unlabelled": []}
    assert (facts["counts"]["test"], facts["answers"]) == ({"": 4}, 1)
    assert len(load_rows(tmp_path / "out", "test")[0].inputs["messages"]) == 2


def test_the_licence_is_what_the_user_or_the_folder_states(tmp_path: Path) -> None:
    put(tmp_path / "data", "train.jsonl", rows(40))
    facts, _ = read(tmp_path / "data", tmp_path / "out")
    assert not facts["licence"]["stated"]
    assert told(facts)["licence"] == "no licence is stated for these data"
    (tmp_path / "data" / "License.txt").write_text("\n  MIT License \nCopyright\n")
    facts, _ = read(tmp_path / "data", tmp_path / "out")
    digest = file_digest(tmp_path / "data" / "License.txt")
    assert facts["licence"] == {"text": "MIT License", "stated": True, "sha256": digest}
    assert "licence" not in told(facts)
    facts, _ = read(tmp_path / "data", tmp_path / "out", licence="CC0-1.0")
    assert facts["licence"] == {"text": "CC0-1.0", "stated": True, "sha256": ""}


def test_the_digest_of_the_source_is_its_contents_and_not_its_place(tmp_path: Path) -> None:
    first = put(tmp_path / "data", "train.jsonl", rows(40))
    before = source_digest(first)
    moved = Path(shutil.copytree(first, tmp_path / "elsewhere" / "other"))
    assert source_digest(moved) == before
    (moved / "notes.txt").write_text("not read")
    put(moved, "notes.jsonl", rows(1))
    assert source_digest(moved) == before
    changes = (
        lambda: (moved / "LICENSE").write_text("MIT"),
        lambda: put(moved, "test.jsonl", rows(3, "test")),
        lambda: (moved / "train.jsonl").write_bytes(
            (moved / "train.jsonl").read_bytes().replace(b"it is 7", b"it is 8")
        ),
        lambda: (moved / "train.jsonl").rename(moved / "unlabelled.jsonl"),
    )
    seen = {before}
    for number, change in enumerate(changes, start=2):
        change()
        seen.add(source_digest(moved))
        assert len(seen) == number


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "data", "test.jsonl", rows(3, "test"))
    put(tmp_path / "data", "validation.jsonl", rows(3, "validation"))
    put(tmp_path / "data", "train.jsonl", rows(LEAST - 1))
    with pytest.raises(DataError, match="7 rows to train on, of which 8 are needed") as refused:
        read(tmp_path / "data", tmp_path / "out")
    assert "train.jsonl" in refused.value.hint
    put(tmp_path / "data", "unlabelled.jsonl", rows(1, "more"))
    read(tmp_path / "data", tmp_path / "out")


def test_data_that_nobody_could_score_are_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    for name in ("train", "unlabelled", "lines"):
        put(tmp_path / name, f"{name}.jsonl", [{"prompt": f"open {n}?"} for n in range(20)])
        with pytest.raises(DataError, match="no row to test with") as refused:
            read(tmp_path / name, tmp_path / "out")
        assert "test.jsonl" in refused.value.hint
    put(tmp_path / "train", "test.jsonl", [{"prompt": "how many?", "answer": 3}])
    assert read(tmp_path / "train", tmp_path / "out")[0]["answers"] == 1


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("train.jsonl", bytes(range(256)) * 64, "no row that can be used: train.jsonl:1"),
        ("train.jsonl", b"\x1f\x8b\x08\x00" + b"\xff" * 999, "not UTF-8"),
        ("train.jsonl", b"[" * 100_000, "nested too deep"),
        ("train.jsonl", b'{"prompt":' * 50_000, "nested too deep"),
        ("train.jsonl", '{"prompt": "x"}'.encode("utf-16"), "UTF-16"),
        ("train.jsonl", b'{"prompt": NaN, "completion": Infinity}\n', "prompt is no text"),
        ("train.json", b"{}", "needs a prompt or messages"),
        ("train.csv", b"prompt,completion\n", "no .jsonl file"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else value,
)
def test_a_folder_of_nonsense_is_refused_with_what_to_do(name: str, data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(data)
    with pytest.raises(DataError, match=says) as refused:
        read(tmp_path / "data", tmp_path / "out")
    assert refused.value.hint


def test_broken_lines_among_good_ones_are_findings(tmp_path: Path) -> None:
    folder = put(tmp_path / "data", "train.jsonl", rows(20))
    with (folder / "train.jsonl").open("ab") as stream:
        stream.write(b'\x00\xff\xfe\n{"prompt": "half\n{"id": "deep", "prompt": ' + b'{"a":' * 9999 + b"\n")
    facts, ids = read(folder, tmp_path / "out")
    assert sum(map(len, ids.values())) == 20
    assert [(one["kind"], one["rows"]) for one in facts["findings"][:3]] == [
        ("not-utf-8", ["train.jsonl:21"]), ("broken-json", ["train.jsonl:22"]), ("broken-json", ["train.jsonl:23"]),
    ]  # fmt: skip


def test_text_of_every_script_comes_out_as_it_went_in(tmp_path: Path) -> None:
    strange = [
        "你好，世界",
        "שלום \u200f",
        "e\u0301 is not é",
        "line\u2028separator\x85and\x0b\x1cmore",
        "😀\u200d🔥",
        "a\ttab\r\nline",
    ]
    given = [{"id": f"é{n}", "prompt": f"{n} {text}", "completion": text + "."} for n, text in enumerate(strange * 4)]
    put(tmp_path / "data", "train.jsonl", given)
    put(tmp_path / "data", "test.jsonl", rows(2, "test"))
    read(tmp_path / "data", tmp_path / "out")
    back = {row.id: row for split in SPLITS for row in load_corpus(tmp_path / "out", split)}
    for one in given:
        assert back[one["id"]].messages[0].content == one["prompt"]
        assert back[one["id"]].completion == one["completion"]


def test_a_folder_without_a_data_set_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared data set"):
        load_corpus(tmp_path, "train")


@pytest.mark.skipif(not GSM8K.is_dir(), reason="the data are not here")
def test_gsm8k_is_read_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "gsm8k"
    source.mkdir()
    for name in ("train.jsonl", "test.jsonl", "LICENSE"):
        shutil.copy(GSM8K / name, source / name)
    plan = Plan(domain="none", task="text_generation", text=TextPlan(system="Think step by step."))
    dataset: Dataset = prepare(plan, source, "train", tmp_path / "out", (), lambda *_: None)
    found = {split: len(dataset.split(split)) for split in SPLITS}
    assert found["test"] == 900
    assert (
        found["train"]
        + found["validation"]
        + sum(len(one["rows"]) for one in dataset.facts["findings"] if one["kind"] in ("copies", "leak"))
        == 7473
    )
    assert found["validation"] == pytest.approx(0.15 * 7473, rel=0.01)
    assert dataset.facts["answers"] == 900
    assert dataset.facts["licence"]["text"] == "MIT License"
    again = open_dataset(tmp_path / "out", "d", dataset.facts).split("test")
    first = again[0]
    assert first.label.endswith("#### " + first.inputs["answer"]) is True
    assert first.inputs["messages"][0] == Message("system", "Think step by step.")
    assert [row.id for row in again[1:3]] == list(again.ids)[1:3]
    assert again.labels[0] == first.label


def test_rows_that_name_a_group_stay_with_it_and_not_with_their_prompt(tmp_path: Path) -> None:
    rows = [
        {"id": f"{product}-{number}", "prompt": "write", "completion": f"{product} {number}", "group": product}
        for product in ("a", "b", "c", "d", "e", "f", "g", "h")
        for number in range(4)
    ]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = Plan(domain="d", task="text_generation")
    facts = prepare_rows(tmp_path / "rows", purpose="train", settings=plan.data, seed=0, folder=tmp_path / "out")
    assert sum(sum(tasks.values()) for tasks in facts["counts"].values()) == 32, "one prompt in all splits is no leak"
    splits = {
        split: {row.id[0] for row in load_corpus(tmp_path / "out", split)} for split in ("train", "validation", "test")
    }
    assert all(splits.values())
    assert not splits["train"] & splits["test"]
    assert not splits["train"] & splits["validation"]
