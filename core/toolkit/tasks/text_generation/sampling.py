"""A student writes: completions drawn token by token, the same ones for the same weights, prompts and seed, whatever
was done before.

transformers' `generate` draws them. What a checkpoint says of how it likes to be asked (a repetition penalty, a top-k,
which transformers sets to 50 where nobody does) is set aside: a loss over the student's distribution needs tokens drawn
from that distribution. Nothing here knows whether what was written is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel

from toolkit.errors import PlanError
from toolkit.text import Constraint


@dataclass(frozen=True)
class Drawing:
    """How a student draws its tokens: at most `max_tokens` of them, at a temperature (0: the likeliest, no drawing),
    out of the likeliest that together have the probability `top_p`; `rows` prompts at once.

    Raises:
        PlanError: a number is out of range.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    rows: int = 64

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.rows < 1:
            raise PlanError("a student writes at least one token to at least one prompt at once")
        if not 0 <= self.temperature <= 100 or not 0 < self.top_p <= 1:
            raise PlanError(
                f"nothing is drawn at temperature {self.temperature} and top_p {self.top_p}",
                hint="Choose a temperature of 0 to 100, and a top_p above 0 and up to 1.",
            )


def seed_of(seed: int, *what: int | str) -> int:
    """A seed for what has this name: as good as independent of that of any other name, the same everywhere."""
    named = "\0".join(map(str, (seed, *what)))
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8], "big") >> 1


def write(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    drawing: Drawing,
    *,
    stops: Collection[int],
    seed: int,
    constraints: Sequence[Constraint | None] = (),
) -> list[tuple[int, ...]]:
    """A completion to each prompt, up to and with the first stop; without one where `max_tokens` cut it off.

    Prompts of like length are answered together, padded on the left, with a seed for each batch. The student is put
    back in the mode it was in, every layer of it, and so is torch's random state.

    Args:
        prompts: token ids, at least one each.
        stops: at least one.
        constraints: of each answer, where any has one.

    Raises:
        PlanError: the student has no room for a prompt and its answer.
    """
    check_room(model, max(map(len, prompts), default=0), drawing)
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    written: list[tuple[int, ...]] = [()] * len(prompts)
    with asked(model):
        for number, start in enumerate(range(0, len(order), drawing.rows)):
            places = order[start : start + drawing.rows]
            asked_for = [prompts[place] for place in places]
            guides = [constraints[place] for place in places] if any(constraints) else []
            drawn = _drawn(model, asked_for, drawing, stops, seed_of(seed, number), guides)
            for place, tokens in zip(places, drawn.tolist(), strict=True):
                written[place] = _ended(tokens, stops)
    return written


def check_room(model: PreTrainedModel, longest: int, drawing: Drawing) -> None:
    """Refuse prompts of up to `longest` tokens that leave no room for an answer.

    Raises:
        PlanError: they do.
    """
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and longest + drawing.max_tokens > context:
        raise PlanError(
            f"a prompt of {longest:,} tokens and an answer of {drawing.max_tokens:,} are more than the student's "
            f"{context:,}",
            hint="Let it write fewer tokens (text.answer_tokens), leave longer prompts out, or choose a student with a "
            "longer context.",
        )


@contextmanager
def asked(model: PreTrainedModel) -> Iterator[None]:
    """The student in evaluation mode, with nothing of its own to say about how it is asked."""
    modes = [(module, module.training) for module in model.modules()]
    config = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    model.train(False)
    try:
        yield
    finally:
        model.generation_config = config
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def _drawn(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    drawing: Drawing,
    stops: Collection[int],
    seed: int,
    constraints: Sequence[Constraint | None],
) -> Tensor:
    """What follows the prompts, int64 [prompts, n]; behind a stop stands padding."""
    width, pad = max(map(len, prompts)), min(stops)
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    device = model.device
    chosen = {"temperature": drawing.temperature, "top_p": drawing.top_p, "top_k": 0} if drawing.temperature else {}
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=drawing.max_tokens, eos_token_id=sorted(stops), pad_token_id=pad, use_cache=True,
        do_sample=drawing.temperature > 0, **chosen,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        whole: Tensor = cast(Any, model).generate(
            ids.to(device), attention_mask=seen.to(device), generation_config=config,
            logits_processor=[_Guiding(constraints, width, stops)] if constraints else None,
        )  # fmt: skip
    return whole[:, width:]


class _Guiding(LogitsProcessor):
    """Leaves nothing but the token that is due, or those that are allowed, in each row by itself."""

    def __init__(self, constraints: Sequence[Constraint | None], width: int, stops: Collection[int]) -> None:
        self._constraints, self._width, self._stops = constraints, width, stops
        self._due: list[list[int]] = [[] for _ in constraints]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for row, said in enumerate(input_ids[:, self._width :].tolist()):
            constraint = self._constraints[row]
            if constraint is None or any(stop in said for stop in self._stops):
                continue
            due = self._due[row] = self._due[row] or list(constraint.forced(said))
            if due:
                scores[row] = -torch.inf
                scores[row, due.pop(0)] = 0.0
            elif (allowed := constraint.allowed(said, scores.shape[-1])) is not None:
                scores[row, torch.from_numpy(~allowed).to(scores.device)] = -torch.inf
        return scores


def _ended(tokens: Sequence[int], stops: Collection[int]) -> tuple[int, ...]:
    end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
    return tuple(tokens[: end + 1])
