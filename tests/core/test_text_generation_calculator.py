"""The calculator in the decoding loop: what it computes, what it leaves alone, and when."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from toolkit.tasks.text_generation.calculator import owed_after, result_of
from toolkit.tasks.text_generation.constraints import constraint_of
from toolkit.text import GenerationRequest, Message

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "education" / "gsm8k" / "train.jsonl"


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("48/2", "24"), ("48+24", "72"), ("5*0.2", "1"), ("1/3", "0.333333"), (".5*3", "1.5"), ("100*50%", "50"),
        ("(1+2)*-3", "-9"), ("1,200*2", "2400"), ("$5*3", "15"), ("+7-2", "5"), ("2.50*2", "5"),
        ("9**9**9", None), ("1/0", None), ("", None), ("x+1", None), ("1 if 1 else 2", None), ("exit()", None),
        ("1//2", None), ("1e999", None), ("1j", None), ("True+1", None), ("(" * 90 + "1" + ")" * 90, "1"),
        ("-" * 150 + "1", "1"), ("1*" * 120 + "1", None), ("1\n+1", None), ("1e300/1e-300*1.5", None),
    ],
)  # fmt: skip
def test_what_it_computes_and_what_it_leaves(expression: str, result: str | None) -> None:
    assert result_of(expression) == result


@pytest.mark.parametrize(
    ("text", "owed"),
    [
        ("half is <<48/2=", "24>>"),
        ("half is <<48/2=2", "4>>"),
        ("half is <<48/2=24", ">>"),
        ("half is <<48/2=7", ""),
        ("half is <<48/2", ""),
        ("half is <<48/2=24>>", ""),
        ("x = ", ""),
        ("<<a=", ""),
        ("<<1+1=2>> and <<2+2=", "4>>"),
    ],
)
def test_what_an_open_mark_wants(text: str, owed: str) -> None:
    assert owed_after(text) == owed


def test_it_computes_what_gsm8k_says() -> None:
    if not GSM8K.is_file():
        pytest.skip(f"{GSM8K} is not here")
    marks = re.findall(r"<<([^<>=]+)=([^<>=]+)>>", GSM8K.read_text(encoding="utf-8").replace("\\n", "\n"))
    wrong = [
        (expression, said) for expression, said in marks
        if (found := result_of(expression)) is None or abs(float(found) - float(Fraction(said.replace(",", "")))) > 5e-3
        if re.fullmatch(r"-?[\d.,]+", said)
    ]  # fmt: skip
    assert len(marks) > 20_000
    assert len(wrong) / len(marks) < 0.002, wrong[:20]


def test_tokens_are_owed_behind_an_equals_sign_alone() -> None:
    characters = {one: number for number, one in enumerate("a0123456789+-*/=<> ")}
    backend = Backend(models.WordLevel(characters, unk_token="a"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="a", eos_token="a")
    request = GenerationRequest("r", (Message("user", "?"),), calculator=True)
    constraint = constraint_of(request, tokenizer)
    assert constraint is not None

    def after(text: str) -> str:
        return "".join(list(characters)[token] for token in constraint.forced([characters[one] for one in text]))

    assert after("<<48/2=") == "24>>"
    assert [after(text) for text in ("", "<<48/2", "<<48/2=2", "48/2=", "<<a/2=")] == [""] * 5
