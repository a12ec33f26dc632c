"""A language student compiled: what its forms say of every token, and write, is what torch says and writes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counting_parts import STUDENT, VOCABULARY, records, save_counter, write_rows
from transformers import LlamaConfig

from toolkit.artifacts import Dataset
from toolkit.compile.parity import compare_texts
from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.plan import Plan, TargetPlan, TextPlan
from toolkit.protocols import PredictorFacts
from toolkit.tasks.text_generation import task
from toolkit.tasks.text_generation.compiled import CompiledPredictor, Spelling
from toolkit.tasks.text_generation.compiling import compile_student
from toolkit.tasks.text_generation.constraints import _Asked
from toolkit.tasks.text_generation.installed import FILES, CompiledFiles, open_installed, prove
from toolkit.tasks.text_generation.predictors import LanguagePredictor
from toolkit.tasks.text_generation.reader import load_corpus
from toolkit.tasks.text_generation.teacher import read_teacher
from toolkit.tasks.text_generation.tokens import stops_of
from toolkit.text import GenerationRequest, Message
from toolkit_target_cpu import CpuTarget

pytest.importorskip("onnxruntime_genai", reason="what runs language models is not installed: the extra language")

from toolkit.serving.language import Drawn, LanguageSession
from toolkit.serving.refusals import ModelFault

TARGET = CpuTarget()
PROFILE = next(iter(TARGET.profiles()))


def quiet(what: str, done: int, total: int) -> None:
    pass


def plan_of(**target: Any) -> Plan:
    return Plan(
        domain="none", task="text_generation", text=TextPlan(max_tokens=48, answer_tokens=6),
        target=TargetPlan(**target),
    )  # fmt: skip


@pytest.fixture(scope="module")
def student(counter: Path) -> Path:
    return counter


@pytest.fixture(scope="module")
def torch_student(student: Path) -> LanguagePredictor:
    return LanguagePredictor(read_teacher(student), PredictorFacts("student", "torch", ""))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "rows" / "train.jsonl", records(80))
    return task.prepare(plan_of(), folder / "rows", "train", folder / "dataset", (), quiet)


@pytest.fixture(scope="module")
def forms(counter_forms: dict[str, Any]) -> dict[str, Any]:
    return counter_forms


def opened(form: Any, torch_student: LanguagePredictor, *, stops: frozenset[int] | None = None) -> CompiledPredictor:
    tokenizer = torch_student.model.tokenizer
    stops = stops_of((Message("user", "one"),), tokenizer) if stops is None else stops
    session = LanguageSession(form.model, form.beside["genai_config.json"], stops=stops)
    return CompiledPredictor(session, tokenizer, PredictorFacts("compiled", "", ""))


def asked(*questions: str, **how: Any) -> list[GenerationRequest]:
    return [
        GenerationRequest(f"{number}", (Message("user", question),), 6, **how)
        for number, question in enumerate(questions)
    ]


def texts(predictor: Any, requests: list[GenerationRequest]) -> dict[str, tuple[str, str | None]]:
    found: dict[str, tuple[str, str | None]] = {}
    for delta in predictor.generate(requests):
        before, ended = found.get(delta.id, ("", None))
        assert ended is None
        found[delta.id] = (before + delta.text, delta.finish)
    return found


QUESTIONS = ("one two", "two three four five six seven", "nine", "one one", "four two ten")


def test_tokens_that_are_forced_stand_in_the_answer_of_either_runtime(
    forms: dict[str, Any], torch_student: LanguagePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a calculator's are: behind the first word of an answer two others must come, and then it is free again."""
    due = torch_student.model.tokenizer("five seven", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(_Asked, "forced", lambda self, said: due if len(said) == 1 and self.calculator else ())
    compiled = opened(forms["fp32"], torch_student)
    asked_for = asked(*QUESTIONS, calculator=True)
    found = texts(compiled, asked_for)
    assert found == texts(torch_student, asked_for)
    free = texts(compiled, asked(*QUESTIONS))
    assert all(text.split()[1:3] == ["five", "seven"] for text, _ in found.values())
    assert all(text.split()[0] == free[name][0].split()[0] for name, (text, _) in found.items())
    assert found != free
    cut = [GenerationRequest("0", (Message("user", "one two"),), 2, calculator=True)]
    assert texts(compiled, cut) == texts(torch_student, cut) == {"0": ("three five", "length")}


def test_an_answer_does_not_end_before_it_says_what_is_wanted(
    forms: dict[str, Any], torch_student: LanguagePredictor
) -> None:
    compiled, free = opened(forms["fp32"], torch_student), asked(*QUESTIONS)
    alone = {name: text for name, (text, _) in texts(compiled, free).items()}
    said = [replace(one, wanted=(alone[one.id],)) for one in free]
    assert {name: text for name, (text, _) in texts(compiled, said).items()} == alone
    more = [replace(one, max_tokens=20, wanted=("five", "twelve") if int(one.id) % 2 else ()) for one in free]
    found = texts(compiled, more)
    assert found == texts(torch_student, more)
    for name, (text, finish) in found.items():
        assert (text == alone[name]) == (int(name) % 2 == 0)
        assert finish == "length" or {"five", "twelve"} <= set(text.split()) or text == alone[name]


@pytest.mark.parametrize(("name", "near"), [("fp32", 2e-5), ("int8", 0.2), ("int4", 1.5)])
def test_a_form_says_of_every_token_what_torch_says(
    name: str, near: float, forms: dict[str, Any], torch_student: LanguagePredictor
) -> None:
    said = [((Message("user", question),), "three") for question in QUESTIONS]
    mine, theirs = opened(forms[name], torch_student).logprobs(said), torch_student.logprobs(said)
    for one, other in zip(mine, theirs, strict=True):
        assert len(one.values) == 2  # the word, and the end
        np.testing.assert_allclose(one.values, other.values, atol=near)
        assert one.likeliest.tolist() == other.likeliest.tolist()


@pytest.mark.parametrize("name", ["fp32", "int8", "int4"])
def test_a_form_writes_what_torch_writes_to_prompts_of_unlike_length(
    name: str, forms: dict[str, Any], torch_student: LanguagePredictor
) -> None:
    """Side by side, and one by one, with their ends."""
    predictor, requests = opened(forms[name], torch_student), asked(*QUESTIONS)
    together = texts(predictor, requests)
    assert together == texts(torch_student, requests)
    assert {finish for _, finish in together.values()} == {"stop"}
    for request in requests:
        assert texts(predictor, [request]) == {request.id: together[request.id]}


def test_an_answer_that_does_not_end_is_cut_where_it_was_asked_to_be(
    forms: dict[str, Any], torch_student: LanguagePredictor
) -> None:
    endless = opened(forms["fp32"], torch_student, stops=frozenset({23}))
    found = list(endless.session.write([[3, 4], [5]], [Drawn(4), Drawn(2)]))
    tokens = {place: [token for at, token, _ in found if at == place and token is not None] for place in (0, 1)}
    assert {place: len(ids) for place, ids in tokens.items()} == {0: 4, 1: 2}
    assert [finish for _, _, finish in found if finish] == ["length", "length"]


def test_what_is_drawn_follows_the_seed_and_the_distribution(
    forms: dict[str, Any], torch_student: LanguagePredictor
) -> None:
    session = opened(forms["fp32"], torch_student, stops=frozenset({23})).session
    prompt = [3, 4, 5]

    def drawn(seed: int, many: int, temperature: float = 3.0) -> list[int]:
        how = [Drawn(1, temperature, seed=seed + number) for number in range(many)]
        found = [(place, token) for place, token, _ in session.write([prompt] * many, how) if token is not None]
        return [token for _, token in sorted(found)]

    assert drawn(7, 24) == drawn(7, 24)
    assert drawn(7, 24) != drawn(700, 24)
    logits = session.logits(prompt)[-1].astype(np.float64) / 3.0
    wanted = np.exp(logits - logits.max())
    wanted /= wanted.sum()
    counts = np.bincount(drawn(0, 600), minlength=len(wanted)) / 600
    assert np.abs(counts - wanted).max() < 4 * np.sqrt(0.25 / 600)


def test_weights_are_read_out_of_memory_alone(
    forms: dict[str, Any], torch_student: LanguagePredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = {Path(folder, name) for folder, _, names in os.walk(tmp_path) for name in names}
    predictor = opened(forms["int8"], torch_student)
    assert texts(predictor, asked("one two"))["0"][0] == "three"
    assert {Path(folder, name) for folder, _, names in os.walk(tmp_path) for name in names} == before


@pytest.mark.parametrize("precision", ["auto", "int4", "fp32"])
def test_one_form_is_kept_with_all_that_a_site_needs(
    precision: str, data: Dataset, student: Path, torch_student: LanguagePredictor, tmp_path: Path
) -> None:
    plan = plan_of(precision=precision)
    facts = compile_student(plan, data, student, torch_student, TARGET, PROFILE, tmp_path, quiet)
    assert facts["form"] == precision or (precision == "auto" and facts["form"] in ("int4", "int8", "fp32"))
    assert [one["form"] for one in facts["forms"]] == ["int4", "int8", "fp32"]
    assert facts["parity"]["same_decision"] == facts["same_texts"] == 1.0
    assert {path.name for path in tmp_path.iterdir()} == set(FILES.values())
    installed = open_installed(CompiledFiles(tmp_path), PredictorFacts("installed", "", ""), 1)
    golden = (tmp_path / FILES["golden"]).read_bytes()
    prove(installed, golden)
    rows = load_corpus(data.path, "validation")
    for row, known in zip(rows, json.loads(golden), strict=False):
        (delta, *rest) = installed.generate([GenerationRequest("", row.messages, plan.text.answer_tokens)])
        assert delta.text + "".join(one.text for one in rest) == installed.tokenizer.decode(
            known["answer"], skip_special_tokens=True
        )


def test_parity_is_the_one_by_hand() -> None:
    first, second = np.array([[0.9, 0.1], [0.4, 0.6]], np.float32), np.array([[0.2, 0.8]], np.float32)
    found = compare_texts([(first, np.array([[0.7, 0.3], [0.5, 0.5]], np.float32)), (second, second)])
    assert (found.rows, found.same_decision, found.worst_class) == (3, pytest.approx(2 / 3), 0.5)
    assert (found.largest_difference, found.mean_difference) == (pytest.approx(0.2), pytest.approx(0.1))


def test_characters_of_several_tokens_come_whole() -> None:
    class Bytes:
        """Each token a byte."""

        def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
            return bytes(token_ids).decode(errors="replace")

    text = "8 ÷ 2 = 4 · 二 🙂!"
    spelling = Spelling(Bytes())  # type: ignore[arg-type]
    pieces = [spelling.add(byte) for byte in text.encode()]
    assert "".join(pieces) + spelling.rest() == text
    assert all("\ufffd" not in piece for piece in pieces)
    cut = Spelling(Bytes())  # type: ignore[arg-type]
    assert [cut.add(byte) for byte in "é".encode()[:1]] == [""]
    assert cut.rest() == "\ufffd"


def test_a_prompt_without_room_for_its_answer_is_refused_before_anything_is_written(
    forms: dict[str, Any], torch_student: LanguagePredictor
) -> None:
    session = opened(forms["fp32"], torch_student).session
    with pytest.raises(ModelFault, match="a text of 62 tokens and an answer of 3 are more than the model's 64"):
        list(session.write([[3], [4] * 62], [Drawn(2), Drawn(3)]))
    assert list(session.write([[3, 4]], [Drawn(1)]))  # and it goes on


def test_a_text_that_is_too_long_is_refused(forms: dict[str, Any], torch_student: LanguagePredictor) -> None:
    with pytest.raises(ModelFault, match="a text of 65 tokens"):
        opened(forms["fp32"], torch_student).session.logits([4] * 65)


def test_heads_that_the_runtime_does_not_take_are_refused_before_anything_is_built(
    student: Path, tmp_path: Path
) -> None:
    narrow = shutil.copytree(student, tmp_path / "narrow")
    LlamaConfig(**{**STUDENT, "head_dim": 8}).save_pretrained(narrow)
    with pytest.raises(PlanError, match="heads are 8 wide, and ONNX Runtime runs multiples of 16"):
        list(TARGET.compile_language(narrow, PROFILE, tmp_path))
    LlamaConfig(**{**STUDENT, "head_dim": 16, "intermediate_size": VOCABULARY}).save_pretrained(narrow)
    with pytest.raises(PlanError, match="intermediate_size is the size of its vocabulary"):
        list(TARGET.compile_language(narrow, PROFILE, tmp_path))


def test_a_form_that_is_not_the_student_is_never_kept(
    data: Dataset, torch_student: LanguagePredictor, tmp_path: Path
) -> None:
    other = save_counter(tmp_path / "other", steps=2)
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(EnvironmentUnfit, match="the compiled student is another one"):
        compile_student(plan_of(), data, other, torch_student, TARGET, PROFILE, work, quiet)
    assert not list(work.iterdir())


class Pictures:
    """A target that takes no language models."""

    name = "pictures"


def test_a_target_that_takes_no_text_is_named(
    data: Dataset, student: Path, torch_student: LanguagePredictor, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match="the target pictures takes no language models"):
        compile_student(plan_of(), data, student, torch_student, Pictures(), PROFILE, tmp_path, quiet)  # type: ignore[arg-type]


def test_a_broken_model_is_the_environments_fault(forms: dict[str, Any], torch_student: LanguagePredictor) -> None:
    form = forms["fp32"]
    broken = type(form)("fp32", form.model[: len(form.model) // 2], beside=form.beside)
    with pytest.raises(EnvironmentUnfit, match="cannot load the model"):
        opened(broken, torch_student)
