"""A student's answers to problems that can be checked: written, read and verified.

Nothing here trains. What an answer is worth a verifier says (`toolkit.text.Verdict`), such as that of an exact teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from toolkit.distil.loop import Score
from toolkit.tasks.text_generation.sampling import Drawing, write
from toolkit.tasks.text_generation.tokens import Tokenised, Tokenizer, prompt_ids, stops_of
from toolkit.text import Prompt, Verdict

Verify = Callable[[Prompt, str], Verdict]


@dataclass(frozen=True)
class Attempt:
    """One answer to a problem: its tokens, with the prompt's; its text; whether it ended by itself; and its score, 0 to
    1, which is 0 for one that was cut off: it may have been on its way to anything."""

    sample: Tokenised
    text: str
    ended: bool
    score: float

    @property
    def right(self) -> bool:
        return self.score == 1


@dataclass(frozen=True)
class Solver:
    """How problems are put to a student, and its answers read and checked."""

    tokenizer: Tokenizer
    verify: Verify
    drawing: Drawing

    def attempts(
        self, model: PreTrainedModel, problems: Sequence[Prompt], *, each: int, seed: int
    ) -> list[tuple[Attempt, ...]]:
        """`each` answers to every problem; the same for the same weights, problems and seed."""
        if not problems:
            return []
        # A problem may have turns of its own, but its template ends an answer as it does for any other
        stops = stops_of(problems[0].messages, self.tokenizer)
        prompts = [prompt_ids(problem.messages, self.tokenizer) for problem in problems for _ in range(each)]
        texts = write(model, prompts, self.drawing, stops=stops, seed=seed)
        found = [
            self._read(problems[number // each], prompt, text, stops)
            for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
        ]
        return [tuple(found[start : start + each]) for start in range(0, len(found), each)]

    def right(self, model: PreTrainedModel, problems: Sequence[Prompt]) -> np.ndarray:
        """Whether its likeliest answer to each problem is right: bool [problems]."""
        likeliest = replace(self, drawing=replace(self.drawing, temperature=0.0, top_p=1.0))
        return np.array([one.right for (one,) in likeliest.attempts(model, problems, each=1, seed=0)], dtype=bool)

    def validator(self, problems: Sequence[Prompt]) -> Callable[[nn.Module], Score]:
        """Scores a student by its likeliest answers; as its loss counts the share that is not right."""

        def validate(module: nn.Module) -> Score:
            accuracy = float(self.right(cast(PreTrainedModel, module), problems).mean())
            return Score(accuracy, 1 - accuracy, len(problems))

        return validate

    def _read(self, problem: Prompt, prompt: tuple[int, ...], text: tuple[int, ...], stops: frozenset[int]) -> Attempt:
        ended = text[-1] in stops
        said = str(self.tokenizer.decode(list(text), skip_special_tokens=True)).strip()
        score = self.verify(problem, said).score if ended else 0.0
        return Attempt(Tokenised(problem.id, (*prompt, *text), len(prompt)), said, ended, score)
