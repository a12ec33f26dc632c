"""Students from nothing: their tokenizer and shape follow from the rows and the plan alone, and the line trains
them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from counting_parts import records, write_rows

from toolkit.compile.language import check_student
from toolkit.errors import PlanError
from toolkit.plan import Plan, RecipePlan, StudentPlan, TextPlan
from toolkit.protocols import Objective
from toolkit.tasks.text_generation import beginning, task
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.scratch import config_for, tokenizer_for
from toolkit.tasks.text_generation.spelling import SiteTokenizer, check_alike, record_of
from toolkit.tasks.text_generation.students import from_config, save
from toolkit.tasks.text_generation.tokens import encode
from toolkit.text import Message

ROWS = [
    Row(f"{number}", (Message("user", f"{number} times 12, in 价格 ¥{number}"),), f"it is {12 * number}, 最终")
    for number in range(40)
]
HARD = [Objective("hard-label", 1.0)]


def test_any_text_can_be_written_and_digits_stand_alone() -> None:
    tokenizer = tokenizer_for(ROWS, 400)
    assert len(tokenizer) <= 400
    for text in ("naïve 👩‍🏫 \n\t 9817", "it is 12", "\x00\x7f", "价格"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
    assert [tokenizer.decode([token]) for token in tokenizer("4812")["input_ids"]] == ["4", "8", "1", "2"]
    assert tokenizer_for(ROWS, 400).get_vocab() == tokenizer.get_vocab()


def test_a_turn_begins_and_ends_with_a_token_and_a_site_reads_it_alike() -> None:
    tokenizer = tokenizer_for(ROWS, 400)
    sample = encode(ROWS[3], tokenizer)
    assert tokenizer.decode(sample.ids) == ("<|user|>3 times 12, in 价格 ¥3<|end|><|assistant|>it is 36, 最终<|end|>")
    ours = SiteTokenizer(record_of(tokenizer))
    check_alike(ours, tokenizer, [row.messages for row in ROWS])
    assert encode(ROWS[3], ours) == sample


@pytest.mark.parametrize("parameters", [300_000, 1_000_000, 3_000_000, 12_000_000])
def test_the_shape_is_the_largest_that_fits_and_the_runtime_takes_it(parameters: int, tmp_path: Path) -> None:
    config = config_for(parameters, 1024, 256)
    model = from_config(config, seed=0).model
    found = sum(parameter.numel() for parameter in model.parameters())
    assert 0.5 * parameters < found <= parameters
    config.save_pretrained(tmp_path)
    pytest.importorskip("onnxruntime_genai", reason="what runs language models is not installed: the extra language")
    check_student(tmp_path)


def test_no_width_is_taken_for_the_vocabulary() -> None:
    assert config_for(10, 192, 64).intermediate_size != 192
    assert config_for(10, 1024, 64).hidden_size == 64


def plan_of(**student: Any) -> Plan:
    return Plan(
        domain="counting", task="text_generation", student=StudentPlan(vocabulary=300, parameters=200_000, **student),
        recipe=RecipePlan(name="sequence", teacher_weight=0.0), text=TextPlan(max_tokens=48, answer_tokens=8),
    )  # fmt: skip


def test_a_plan_that_wants_two_beginnings_or_foreign_tokens_is_refused(tmp_path: Path) -> None:
    class Teacher:
        name = "asked"

    teacher: Any = Teacher()
    task.check(plan_of(), teacher, HARD)
    with pytest.raises(PlanError, match="from a checkpoint or from nothing"):
        task.check(plan_of(checkpoint=tmp_path), teacher, HARD)
    with pytest.raises(PlanError, match="counts in other tokens"):
        task._check_scratch(plan_of(), [*HARD, Objective("response", 1.0)])


def test_the_student_and_its_tokenizer_fit_one_another(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows" / "train.jsonl", records(60))
    plan = plan_of()
    dataset = task.prepare(plan, tmp_path / "rows", "train", tmp_path / "dataset", (), lambda *_: None)
    model = beginning.build(plan, dataset)
    labels: Any = None
    tokenizer = beginning.tokenizer_of(plan, dataset, labels)
    assert model.config.vocab_size == len(tokenizer) <= 300
    assert model.config.max_position_embeddings == 56
    assert model.config.eos_token_id == tokenizer.eos_token_id
    from toolkit.tasks.text_generation.students import Student

    save(Student(model, {}), tmp_path / "student", tokenizer)
    assert (tmp_path / "student" / "tokenizer.json").is_file()
