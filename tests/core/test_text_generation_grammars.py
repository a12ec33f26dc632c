"""Answers that keep to a grammar: in torch and compiled alike, whatever the model would have said; and what is none."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import LlamaForCausalLM

from toolkit.errors import DataError, Unsupported
from toolkit.protocols import PredictorFacts
from toolkit.tasks.text_generation.compiled import CompiledPredictor
from toolkit.tasks.text_generation.constraints import _Asked, constraint_of
from toolkit.tasks.text_generation.grammars import Following
from toolkit.tasks.text_generation.predictors import LanguagePredictor
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.scratch import config_for, tokenizer_for
from toolkit.tasks.text_generation.teacher import read_teacher
from toolkit.tasks.text_generation.tokens import stops_of
from toolkit.text import GenerationRequest, Grammar, Message

pytest.importorskip("llguidance", reason="what follows grammars is not installed: the extra language")

SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["name", "n", "ok"],
    "properties": {
        "name": {"type": "string", "maxLength": 8}, "n": {"type": "integer", "minimum": 0, "maximum": 99},
        "ok": {"enum": [True, False]},
    },
}  # fmt: skip
JSON = Grammar("json_schema", json.dumps(SCHEMA))


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> LanguagePredictor:
    """A random model with tokens of bytes, to which all that it has read matters: it keeps to nothing by itself."""
    folder = tmp_path_factory.mktemp("babbler")
    rows = [Row(f"{n}", (Message("user", f"what is {n}?"),), json.dumps({"name": "it", "n": n})) for n in range(200)]
    tokenizer = tokenizer_for(rows, 400)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config_for(100_000, len(tokenizer), 256))
    with torch.no_grad():
        for weights in model.model.layers.parameters():
            if weights.ndim > 1:
                weights.mul_(6)
        model.lm_head.weight.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return LanguagePredictor(read_teacher(folder), PredictorFacts("student", "torch", str(folder)))


@pytest.fixture(scope="module")
def compiled(babbler: LanguagePredictor, tmp_path_factory: pytest.TempPathFactory) -> CompiledPredictor:
    pytest.importorskip("onnxruntime_genai", reason="what runs language models is not installed: the extra language")
    from toolkit.serving.language import LanguageSession
    from toolkit_target_cpu import CpuTarget

    target = CpuTarget()
    forms = target.compile_language(
        Path(babbler.facts.digest), next(iter(target.profiles())), tmp_path_factory.mktemp("work")
    )
    form = {one.form: one for one in forms}["fp32"]
    tokenizer = babbler.model.tokenizer
    stops = stops_of((Message("user", "?"),), tokenizer)
    session = LanguageSession(form.model, form.beside["genai_config.json"], stops=stops)
    return CompiledPredictor(session, tokenizer, PredictorFacts("compiled", "", ""))


def asked(grammar: Grammar | None, *, many: int = 3, most: int = 80, **how: Any) -> list[GenerationRequest]:
    return [
        GenerationRequest(f"{n}", (Message("user", f"what is {n}?"),), most, grammar=grammar, **how)
        for n in range(many)
    ]  # fmt: skip


def said(predictor: Any, requests: Sequence[GenerationRequest]) -> list[tuple[str, str | None]]:
    found: dict[str, tuple[str, str | None]] = {}
    for delta in predictor.generate(requests):
        found[delta.id] = (found.get(delta.id, ("", None))[0] + delta.text, delta.finish)
    return [found[request.id] for request in requests]


def check_json(text: str) -> None:
    record = json.loads(text)
    assert set(record) == {"name", "n", "ok"}
    assert len(record["name"]) <= 8
    assert 0 <= record["n"] <= 99
    assert record["ok"] in (True, False)


def test_both_runtimes_write_what_keeps_to_a_schema_and_the_same(
    babbler: LanguagePredictor, compiled: CompiledPredictor
) -> None:
    found = said(babbler, asked(JSON))
    assert found == said(compiled, asked(JSON))
    assert {finish for _, finish in found} == {"stop"}
    for text, _ in found:
        check_json(text)
    free = said(compiled, asked(None, most=20))
    assert all(not text.startswith("{") for text, _ in free)


def test_what_follows_tokens_that_were_forced_has_read_all_before_them(
    babbler: LanguagePredictor, compiled: CompiledPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token by token: genai passes over the token that it chose last, where others are appended before it is read."""
    due = babbler.model.tokenizer("501>>", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(_Asked, "forced", lambda self, said: due if len(said) % 9 == 3 else ())
    requests = asked(None, many=4, most=60, calculator=True)
    found = said(compiled, requests)
    assert found == said(babbler, requests)
    assert len({text for text, _ in found}) == 4


def test_drawn_answers_keep_to_it_too_and_differ(compiled: CompiledPredictor) -> None:
    drawn = {said(compiled, asked(JSON, many=1, temperature=1.5, seed=seed))[0] for seed in range(4)}
    assert len(drawn) > 1
    for text, finish in drawn:
        assert finish == "stop"
        check_json(text)


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        (Grammar("regex", r"[A-C]{3}-\d{2}"), r"[A-C]{3}-\d{2}"),
        (Grammar("lark", 'start: "yes" | "no, " /[0-9]{2}/'), r"yes|no, \d{2}"),
        (Grammar("regex", "(?:好|不好)。"), "(?:好|不好)。"),
    ],
)
def test_other_grammars_are_kept_to(grammar: Grammar, pattern: str, babbler: LanguagePredictor) -> None:
    for text, finish in said(babbler, asked(grammar)):
        assert finish == "stop"
        assert re.fullmatch(pattern, text)


def test_what_is_wanted_comes_as_far_as_the_grammar_lets_it(babbler: LanguagePredictor) -> None:
    words = Grammar("regex", "(?:red|blue)(?: red| blue){0,3}")
    for text, finish in said(babbler, asked(words, wanted=("red", "blue"))):
        assert finish == "stop"
        assert {"red", "blue"} <= set(text.split()) or len(text.split()) == 4
    never = Grammar("regex", "red")
    assert said(babbler, asked(never, many=1, wanted=("blue",))) == [("red", "stop")]


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("json_schema", "{"), Grammar("json_schema", '{"type": "banana"}'), Grammar("json_schema", "[1]"),
        Grammar("json_schema", '{"$ref": "http://127.0.0.1:1/x.json"}'), Grammar("regex", "("),
        Grammar("lark", "start: nothing"), Grammar("lark", "\0"), Grammar("regex", "a" * 70_000),
        Grammar("json_schema", "[" * 50_000),
    ],
)  # fmt: skip
def test_what_is_no_grammar_is_refused_before_anything_is_written(grammar: Grammar, babbler: LanguagePredictor) -> None:
    with pytest.raises(DataError) as caught:
        constraint_of(asked(grammar)[0], babbler.model.tokenizer)
    assert caught.value.hint
    assert len(caught.value.message) < 300


def test_one_too_large_to_be_followed_is_refused(babbler: LanguagePredictor) -> None:
    with pytest.raises(DataError, match=r"cannot be followed|is none"):
        said(babbler, asked(Grammar("regex", "(a{1000}){1000}{1000}"), many=1))


def test_tokens_that_spell_no_bytes_follow_no_grammar(babbler: LanguagePredictor) -> None:
    class Strange:
        eos_token_id = 0
        chat_template = None

        def __len__(self) -> int:
            return 3

    with pytest.raises(Unsupported, match="follow no grammar"):
        Following(JSON, cast(Any, Strange()), frozenset({0}))
