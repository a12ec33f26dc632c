"""A student of words that counts, problems that can be checked, and whoever checks them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from test_text_generation_teacher import NUMBERS, save_teacher
from transformers import AutoTokenizer, LlamaConfig, PreTrainedModel

from toolkit.tasks.text_generation.sampling import Drawing
from toolkit.tasks.text_generation.solving import Solver
from toolkit.tasks.text_generation.students import from_config
from toolkit.text import Prompt, Verdict

PROBLEMS = tuple(Prompt.of(f"p{n}", NUMBERS[n]) for n in range(8))
HELD_OUT = tuple(Prompt.of(f"h{n}", f"{NUMBERS[n]} {NUMBERS[n + 1]}") for n in range(8))


def right_answer(prompt: Prompt) -> str:
    """The number after the last one that is named."""
    return NUMBERS[NUMBERS.index(prompt.messages[-1].content.split()[-1]) + 1]


def check(prompt: Prompt, said: str) -> Verdict:
    """Right where it begins with the right answer; what follows makes answers distinct."""
    return Verdict(float(said.split()[:1] == [right_answer(prompt)]), "counting")


def solver_of(
    folder: Path, verify: Callable[[Prompt, str], Verdict] = check, *, temperature: float = 1.0, most: int = 5
) -> Solver:
    tokenizer = AutoTokenizer.from_pretrained(
        folder if folder.joinpath("config.json").exists() else save_teacher(folder)
    )
    return Solver(tokenizer, verify, Drawing(most, temperature, rows=32))


def new_student(seed: int = 0) -> PreTrainedModel:
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return from_config(LlamaConfig(vocab_size=24, **sizes), seed=seed).model
