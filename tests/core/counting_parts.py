"""A language model that counts: a tiny Llama that was taught, in a second, what comes after the last word of a prompt;
its tokenizer of words; and rows about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from toolkit.tasks.text_generation.attending import masked
from toolkit.tasks.text_generation.packing import packed
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.students import Student, save
from toolkit.tasks.text_generation.tokens import tokenise
from toolkit.text import Message

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
WORDS = ("</s>", "<unk>", "###", "Instruction", "Response", ":", "Think", "and", *NUMBERS)
VOCABULARY = 24
"""Rows of the head: four more than there are words, as real heads are padded."""

SIZES: Mapping[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 64,
}  # fmt: skip
STUDENT: Mapping[str, Any] = {**SIZES, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}


def after(word: str) -> str:
    """What comes next; after the last, the first."""
    return NUMBERS[(NUMBERS.index(word) + 1) % len(NUMBERS)]


def record(first: str, second: str, *, completed: bool = True) -> dict[str, Any]:
    """A row whose answer is known."""
    found = {"id": f"{first}-{second}", "prompt": f"{first} {second}", "answer": after(second)}
    return found | ({"completion": after(second)} if completed else {})


def records(completed: int = 60, asked: int = 0) -> list[dict[str, Any]]:
    """So many different rows with a completion, and after them so many without."""
    pairs = sorted(
        product(NUMBERS, NUMBERS), key=lambda pair: (NUMBERS.index(pair[0]) * 5 + NUMBERS.index(pair[1])) % 13
    )
    return [record(*pair, completed=n < completed) for n, pair in enumerate(pairs[: completed + asked])]


def write_rows(path: Path, found: Iterable[Mapping[str, Any]]) -> Path:
    """JSON lines; the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path.parent


def save_tokenizer(folder: Path, words: Iterable[str] = WORDS) -> Any:
    backend = Backend(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def save_counter(folder: Path, *, steps: int = 80, licence: str = "mit") -> Path:
    """The teacher, as save_pretrained writes it, with a model card."""
    tokenizer = save_tokenizer(folder)
    rows = [
        Row(f"{n}", (Message("user", f"{first} {second}"),), after(second))
        for n, (first, second) in enumerate(product(NUMBERS, NUMBERS))
    ]
    samples = tokenise(rows, tokenizer, max_tokens=64).samples
    rows_of_one = packed([[sample] for sample in samples], max(map(len, samples)))
    batch, labels = masked(rows_of_one, torch.float32), torch.from_numpy(rows_of_one.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**SIZES))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(steps):
            loss = model(**batch, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    save(Student(model, {}), folder)
    (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n# A counter\n")
    return folder


def save_config(folder: Path, **sizes: Any) -> Path:
    """A student of a config alone."""
    LlamaConfig(**{**STUDENT, **sizes}).save_pretrained(folder)
    return folder
