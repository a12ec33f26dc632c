"""What a teacher writes is judged, kept and asked once; what it says of tokens is labelled once, and from then on a
student of any size learns from files alone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting_parts import after, record, records, save_config, save_tokenizer, write_rows
from scipy.special import log_softmax
from text_parts import Oracle

from toolkit.artifacts import Dataset, StudentSpec, TeacherLabels
from toolkit.distil.cache import shelf
from toolkit.distil.cache.store import TokenCache
from toolkit.distil.recipes import SequenceLevel
from toolkit.errors import DataError, PlanError
from toolkit.executors import LocalExecutor
from toolkit.plan import ComputePlan, Plan, RecipePlan, StudentPlan, TeacherPlan, TextPlan
from toolkit.stages.label import stands
from toolkit.tasks.text_generation import completions, pair, task
from toolkit.tasks.text_generation.labelling import label
from toolkit.tasks.text_generation.predictors import LocalWriter
from toolkit.tasks.text_generation.teacher import LanguageTeacher, read_teacher
from toolkit.tasks.text_generation.tokens import encode
from toolkit.text import Completion, Message, Prompt
from toolkit_teacher_transformers import TransformersTeacher

Said = Mapping[str, Any]


@dataclass
class Scribe(Oracle):
    """Answers by the question and the sample; what is not in its book it answers rightly."""

    book: Mapping[tuple[str, int], Said] = field(default_factory=dict)

    def say(self, held: list[Prompt]) -> Iterator[Completion]:
        while held:
            prompt = held.pop()
            self.asked.append(prompt.id)
            question = prompt.messages[-1].content
            right = Completion(prompt.id, f"hm {question} #### {after(question.split()[-1])}", cost=0.5)
            yield replace(right, **self.book.get((question, prompt.sample), {}))


def plan_of(checkpoint: Path | None = None, student: Path | None = None, **text: Any) -> Plan:
    return Plan(
        domain="none", task="text_generation", teacher=TeacherPlan(name="transformers", checkpoint=checkpoint),
        student=StudentPlan(checkpoint=student), text=TextPlan(max_tokens=48, answer_tokens=4, **text),
        recipe=RecipePlan(name="sequence", epochs=2, batch_size=8, learning_rate=1e-3),
        compute=ComputePlan(device="cpu", threads=1),
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """50 rows with a completion to train on, 6 without, 6 to validate and 6 to test with."""
    found = records(68)
    write_rows(tmp_path / "data" / "train.jsonl", found[:50])
    write_rows(tmp_path / "data" / "validation.jsonl", found[50:56])
    write_rows(tmp_path / "data" / "test.jsonl", found[56:62])
    asked = [{name: value for name, value in row.items() if name != "completion"} for row in found[62:]]
    write_rows(tmp_path / "data" / "unlabelled.jsonl", asked)
    return task.prepare(plan_of(), tmp_path / "data", "train", tmp_path / "dataset", (), quiet)


def quiet(what: str, done: int, total: int) -> None:
    pass


def run(plan: Plan, data: Dataset, teacher: Any, tmp_path: Path, name: str = "labels") -> TeacherLabels:
    labels = label(plan, data, teacher, tmp_path / name, tmp_path / "journal", quiet, LocalExecutor())
    for _ in labels.filling or ():
        pass  # whoever labels alone waits for all
    return labels


def open_questions(data: Dataset) -> list[str]:
    return [row.inputs["messages"][-1].content for row in data.split("unlabelled")]


def learnt(labels: TeacherLabels) -> dict[str, completions.Learnt]:
    return {one.row.id: one for unit in completions.read(labels.path) for one in unit.learnt}


def splits(labels: TeacherLabels, *, given: bool | None = None) -> dict[str, str]:
    """By row, the split that it is learnt in; of those that came with their completion, or of those that did not."""
    units = completions.read(labels.path)
    found = {one.row.id: (unit.split, one.by == completions.GIVEN) for unit in units for one in unit.learnt}
    return {name: split for name, (split, came) in found.items() if given is None or came == given}


def test_what_is_missing_is_written_and_what_is_wrong_or_cut_off_is_left_out(data: Dataset, tmp_path: Path) -> None:
    questions = open_questions(data)
    teacher = Scribe(book={
        (questions[0], 0): {"text": "hm #### ninety"}, (questions[1], 0): {"finish": "length"},
        (questions[2], 0): {"finish": "content_filter", "text": ""}, (questions[3], 0): {"text": " \n"},
        (questions[4], 0): {"reasoning": " one, two "},
    })  # fmt: skip
    labels = run(plan_of(), data, teacher, tmp_path)
    found = learnt(labels)
    assert labels.facts["completions"] == {"given": 56, "kept": 2, "asked": 6, "cut_off": 3, "wrong": 1, "cost": 3.0}
    written = {one.row.completion: one.by for one in found.values() if one.by != completions.GIVEN}
    texts = [f"hm {question} #### {after(question.split()[-1])}" for question in questions]
    assert written == {f"<think>\none, two\n</think>\n\n{texts[4]}": "oracle", texts[5]: "oracle"}
    assert Counter(splits(labels, given=False).values()) == {"train": 2}
    assert Counter(splits(labels, given=True).values()) == {"train": 50, "validation": 6}
    assert sorted(teacher.asked) == sorted(data.split("unlabelled").ids)
    assert "tokens" not in labels.facts
    headline = task.headline("label", labels.facts)
    assert headline == "oracle: 56 completions given; 2 of 6 answers kept"


def test_of_several_samples_the_distinct_right_ones_are_kept(data: Dataset, tmp_path: Path) -> None:
    question = open_questions(data)[0]
    answer = after(question.split()[-1])
    teacher = Scribe(book={
        (question, 1): {"text": "hm #### ninety"}, (question, 2): {"text": f"another way\n#### {answer}"},
        (question, 3): {"text": f" another way\n#### {answer}\n"},
    })  # fmt: skip
    labels = run(plan_of(samples=4), data, teacher, tmp_path)
    identity = data.split("unlabelled").ids[0]
    mine = [one for one in learnt(labels).values() if one.row.id.partition("#")[0] == identity]
    assert [one.row.id for one in mine] == [identity, f"{identity}#2"]
    assert labels.facts["completions"]["asked"] == 24
    assert labels.facts["completions"]["wrong"] == 1
    assert labels.facts["completions"]["kept"] == 7


def test_the_teacher_may_answer_all_anew_and_never_test_rows(data: Dataset, tmp_path: Path) -> None:
    teacher = Scribe()
    labels = run(plan_of(completions="teacher"), data, teacher, tmp_path)
    assert labels.facts["completions"] == {"given": 0, "kept": 62, "asked": 62, "cut_off": 0, "wrong": 0, "cost": 31.0}
    assert not set(teacher.asked) & set(data.split("test").ids)
    assert set(splits(labels).values()) == {"train", "validation"}
    assert all("####" in one.row.completion for one in learnt(labels).values())


def test_what_was_answered_is_never_asked_again(data: Dataset, tmp_path: Path) -> None:
    first = Scribe()
    run(plan_of(), data, first, tmp_path)
    assert len(first.asked) == 6
    again = Scribe()
    labels = run(plan_of(), data, again, tmp_path, "other")
    assert again.asked == []
    assert (tmp_path / "other" / completions.FILE).read_bytes() == (tmp_path / "labels" / completions.FILE).read_bytes()
    assert labels.facts["completions"]["kept"] == 6
    more = Scribe()
    run(plan_of(samples=2), data, more, tmp_path, "more")
    assert sorted(more.asked) == sorted(f"{identity}#1" for identity in data.split("unlabelled").ids)


@pytest.mark.parametrize("wrong", [{"text": "hm"}, {"finish": "length"}])
def test_where_nothing_of_an_answer_can_be_learnt_it_says_why(wrong: Said, data: Dataset, tmp_path: Path) -> None:
    everything = {(question, 0): wrong for question in open_questions(data)}
    with pytest.raises(DataError, match="of 6 answers of the teacher none can be learnt") as refused:
        run(plan_of(), data, Scribe(book=everything), tmp_path)
    assert "text.samples" in refused.value.hint


def test_without_a_completion_to_validate_with_nothing_is_learnt(data: Dataset, tmp_path: Path) -> None:
    validated = {(row.inputs["messages"][-1].content, 0): {"finish": "length"} for row in data.split("validation")}
    with pytest.raises(DataError, match="no completion of a validation row"):
        run(plan_of(completions="teacher"), data, Scribe(book=validated), tmp_path)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The samples that a teacher is asked of, one by one."""
    asked: list[str] = []
    whole = LanguageTeacher.states

    def counted(self: LanguageTeacher, batch: Any) -> Any:
        asked.extend(sample.digest for sample in batch)
        return whole(self, batch)

    monkeypatch.setattr(LanguageTeacher, "states", counted)
    return asked


def test_a_teacher_on_this_machine_writes_and_is_looked_into(data: Dataset, counter: Path, tmp_path: Path) -> None:
    labels = run(plan_of(counter), data, TransformersTeacher(), tmp_path)
    found = learnt(labels)
    assert labels.facts["completions"] == {"given": 56, "kept": 6, "asked": 6, "cut_off": 0, "wrong": 0, "cost": 0.0}
    for row in data.split("unlabelled"):
        assert found[row.id].row.completion == row.inputs["answer"]
    cache = TokenCache.at(labels.path / "cache" / labels.facts["tokens"]["cache"])
    teacher = read_teacher(counter)
    for one in found.values():
        sample = encode(one.row, teacher.tokenizer)
        with torch.no_grad():
            logits = teacher.model(input_ids=torch.tensor([sample.ids])).logits[0].double().numpy()
        exact = log_softmax(logits, axis=-1)[sample.prompt - 1 : -1]
        said = cache.read(sample.digest)
        assert len(exact) == len(said["indices"]) == 2  # the word, and the end
        told = np.take_along_axis(exact, said["indices"].astype(int), 1)
        np.testing.assert_allclose(said["log_probs"], told, rtol=3e-3, atol=3e-3)
    assert (len(cache), labels.facts["tokens"]["tokens"]) == (62, 124)
    assert labels.facts["tokens"]["mass"] > 0.999
    assert labels.facts["parameters"] == sum(one.numel() for one in teacher.model.parameters())
    assert task.headline("label", labels.facts).endswith("6 of 6 answers kept; 124 tokens by topk")


def test_samples_of_a_prompt_are_drawn_apart_whatever_batch_they_come_in(counter: Path) -> None:
    flat = read_teacher(counter)
    flat.model.lm_head.weight.data.mul_(0.05)
    writer, plan = LocalWriter(TransformersTeacher(), flat), plan_of(counter, temperature=1.0, samples=64)
    row = data_row("one", "two")
    texts = [one.text for one in writer.answers(plan, completions.prompts_of([row], 64))]
    assert texts[:32] != texts[32:]
    assert texts == [one.text for one in writer.answers(plan, completions.prompts_of([row], 64))]


def data_row(first: str, second: str) -> completions.Row:
    return completions.Row(f"{first}-{second}", (Message("user", record(first, second)["prompt"]),))


def distil(plan: Plan, data: Dataset, labels: TeacherLabels, folder: Path) -> Mapping[str, Any]:
    objectives = SequenceLevel().objectives(plan)
    spec: StudentSpec = task.build_student(plan, data)
    return pair.train_pair(plan, data, labels, spec, objectives, folder, quiet)


@pytest.mark.parametrize("knowledge", ["auto", "hidden"])
def test_students_of_any_size_learn_of_one_labelling_and_never_see_the_teacher(
    knowledge: str, data: Dataset, counter: Path, passes: list[str], tmp_path: Path
) -> None:
    checkpoint = Path(shutil.copytree(counter, tmp_path / "teacher"))
    labels = run(plan_of(checkpoint, knowledge=knowledge), data, TransformersTeacher(), tmp_path)
    assert len(passes) == len(set(passes)) == 62
    shutil.rmtree(checkpoint)
    passes.clear()
    parameters = []
    for name, width in (("small", 16), ("large", 24)):
        student = save_config(tmp_path / name, hidden_size=width)
        facts = distil(plan_of(checkpoint, student, knowledge=knowledge), data, labels, tmp_path / f"{name}-student")
        parameters.append(facts["student"]["parameters"])
        assert facts["student"]["parameters"] == facts["baseline"]["parameters"]
        assert read_teacher(tmp_path / f"{name}-student" / "student").model.config.hidden_size == width
    assert parameters[0] < parameters[1]
    assert passes == []


def test_a_damaged_shard_is_named_and_nothing_else_is_labelled_again(
    data: Dataset, counter: Path, passes: list[str], tmp_path: Path
) -> None:
    plan = plan_of(counter, completions="given")
    write_rows(tmp_path / "more" / "train.jsonl", records(120))
    many = task.prepare(plan, tmp_path / "more", "train", tmp_path / "many", (), quiet)
    labels = run(plan, many, TransformersTeacher(), tmp_path)
    assert not shelf.damaged(labels.path)
    folder = labels.path / "cache" / labels.facts["tokens"]["cache"]
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) == 2
    before = contents(folder, passes)
    whole, first = len(passes), passes[:64]
    passes.clear()
    flip_a_bit(shards[0])
    assert shelf.damaged(labels.path) == [f"cache/{folder.name}/{shards[0].name}"]
    again = run(plan, many, TransformersTeacher(), tmp_path)
    assert again.facts["mended"] == [f"cache/{folder.name}/{shards[0].name}"]
    assert sorted(passes) == sorted(first)
    assert whole > 64
    assert not shelf.damaged(labels.path)
    for identity, arrays in contents(folder, list(before)).items():
        for name, array in arrays.items():
            assert np.array_equal(array, before[identity][name])


@pytest.mark.parametrize("file", [completions.FILE, "head.safetensors", "tokenizer/tokenizer.json"])
def test_a_flipped_bit_in_whatever_a_student_learns_from_is_found(
    file: str, data: Dataset, counter: Path, tmp_path: Path
) -> None:
    labels = run(plan_of(counter, knowledge="hidden"), data, TransformersTeacher(), tmp_path)
    assert stands(Any, labels)
    flip_a_bit(labels.path / file)
    assert not stands(Any, labels)
    (labels.path / file).unlink()
    assert not stands(Any, labels)
    assert stands(Any, run(plan_of(counter, knowledge="hidden"), data, TransformersTeacher(), tmp_path))


def test_student_and_baseline_count_in_the_same_tokens_and_what_is_too_long_is_told(
    counter: Path, tmp_path: Path, data: Dataset
) -> None:
    long = {"prompt": "one two " * 25, "completion": "three", "id": "long"}
    write_rows(tmp_path / "data" / "train.jsonl", [*records(50), long])
    more = task.prepare(plan_of(), tmp_path / "data", "train", tmp_path / "prepared", (), quiet)
    labels = run(plan_of(counter), more, TransformersTeacher(), tmp_path)
    student = save_config(tmp_path / "padded", vocab_size=40)
    facts = distil(plan_of(counter, student, vocabulary=24), more, labels, tmp_path / "student")
    heads = [read_teacher(tmp_path / "student" / name).model.config.vocab_size for name in ("student", "baseline")]
    assert heads == [24, 24]
    assert facts["student"]["parameters"] == facts["baseline"]["parameters"]
    assert facts["student"]["left_out"] == 1
    assert task.headline("distil", facts).endswith("; 1 too long and left out")


def test_the_curves_of_a_student_show_how_far_the_teacher_beside_it_is(data: Dataset, tmp_path: Path) -> None:
    student = save_config(tmp_path / "student")
    save_tokenizer(student)
    plan = plan_of(student=student)
    plan = plan.model_copy(update={"recipe": plan.recipe.model_copy(update={"teacher_weight": 0.0})})
    labels = label(plan, data, Scribe(), tmp_path / "labels", tmp_path / "journal", quiet, LocalExecutor())
    assert labels.filling is not None
    assert labels.filling.figures() == {}
    facts = distil(plan, data, labels, tmp_path / "distilled")
    first, last = facts["student"]["pace"]
    assert (first["queue/total"], last["queue/done"]) == (6, 6)
    assert not any(name.startswith("queue/") for name in facts["baseline"]["pace"][0])


def contents(folder: Path, ids: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    cache = TokenCache.at(folder)
    return {one: {name: np.array(array) for name, array in cache.read(one).items()} for one in ids}


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)


def test_the_k_best_tokens_that_say_too_little_are_refused_with_what_to_do(
    data: Dataset, counter: Path, tmp_path: Path
) -> None:
    flat = read_teacher(counter)
    flat.model.lm_head.weight.data.mul_(0.001)
    flat.model.save_pretrained(Path(shutil.copytree(counter, tmp_path / "flat")))
    with pytest.raises(PlanError) as refused:
        run(plan_of(tmp_path / "flat", knowledge="topk", top_k=2), data, TransformersTeacher(), tmp_path)
    assert "text.knowledge=auto" in refused.value.hint
