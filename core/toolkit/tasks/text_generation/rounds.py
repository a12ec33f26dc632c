"""Self-training on verified answers (recipe `self`), round after round: the student writes several answers to every
problem, a verifier keeps the right ones, and the student is trained on them (STaR, Zelikman et al. 2022, arXiv
2203.14465; rejection sampling as in 2308.01825 and 2312.06585).

Every round is trained from the student that training began with, on what all rounds so far have kept, as STaR does: a
student trained on from its own last weights overfits what it wrote first, and a round's gain could not be told from
longer training. Of a problem at most so many answers are kept, the newest first, so that easy ones, which are answered
right over and over, do not drown hard ones.

All lies in one folder, each file written whole: what was written, chunk by chunk, the weights, and last the record of
the round. A run that was killed anywhere and is run again ends with the same weights, bit for bit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from toolkit.distil.checkpoints import Checkpoints, serialise
from toolkit.distil.chunks import Mix
from toolkit.distil.learner import Learner
from toolkit.distil.loop import Schedule, Score, fit
from toolkit.distil.precision import Precision, Wanted
from toolkit.errors import DataError, PlanError
from toolkit.protocols import Report
from toolkit.score.intervals import share
from toolkit.tasks.text_generation.packing import PackedBatches
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.sampling import seed_of
from toolkit.tasks.text_generation.solving import Solver
from toolkit.tasks.text_generation.tokens import Tokenised, tokenise
from toolkit.tasks.text_generation.training import SequenceLesson
from toolkit.text import Prompt
from toolkit.workspace import write_file

Weights = Mapping[str, Tensor]

WEIGHTS, RECORD = "weights.pt", "round.json"
"""Of a round: what it trained, and, written last, what it did."""


@dataclass(frozen=True)
class Tuning:
    """How a student is trained on completions: rows of `capacity` tokens, so many at once, and the loop's settings.
    `groups` gives AdamW's parameter groups of a student, and `validate` scores it."""

    schedule: Schedule
    capacity: int
    rows: int
    groups: Callable[[PreTrainedModel], Iterable[dict[str, Any]]]
    validate: Callable[[nn.Module], Score]
    accumulation: int = 1
    precision: Wanted | Precision = "fp32"

    def train(self, model: PreTrainedModel, samples: Sequence[Tokenised], folder: Path, report: Report) -> Weights:
        """The weights that validation picked, trained from those of `model`; a state in `folder` is taken up."""
        batches = PackedBatches(
            samples, capacity=self.capacity, rows=self.rows, accumulation=self.accumulation, seed=self.schedule.seed
        )
        return fit(
            Learner(model), SequenceLesson(batches, Mix(1.0, 0.0)), self.schedule, groups=self.groups(model),
            validate=self.validate, folder=folder, report=lambda done, total: report("train", done, total),
            precision=self.precision,
        ).weights  # fmt: skip


@dataclass(frozen=True)
class Rounds:
    """How many rounds, answers a problem in each, and answers of a problem that are learnt at most; `chunk`: problems
    whose answers are written to disk together.

    Raises:
        PlanError: a number is below 1.
    """

    rounds: int = 3
    answers: int = 8
    most: int = 4
    seed: int = 0
    chunk: int = 128

    def __post_init__(self) -> None:
        if min(self.rounds, self.answers, self.most, self.chunk) < 1:
            raise PlanError("rounds, answers and answers learnt of a problem are at least 1 each")


@dataclass(frozen=True)
class Round:
    """What a round did. Of `written` answers to `problems` problems `right` were right, `distinct` of them unlike one
    another; `solved` problems had one; `learnt` completions were trained on, those of earlier rounds among them.
    `before` and `after`: whether each held-out problem was solved by the student that wrote and by the one trained."""

    number: int
    problems: int
    written: int
    right: int
    distinct: int
    solved: int
    learnt: int
    before: tuple[bool, ...]
    after: tuple[bool, ...]

    def facts(self) -> dict[str, Any]:
        """JSON-ready, accuracies with their Wilson intervals."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("before", "after")}
        accuracy = {name: asdict(share(sum(found), len(found))) for name, found in self._held_out().items()}
        return (
            plain | {"right_share": self.right / self.written, "solved_share": self.solved / self.problems} | accuracy
        )

    def record(self) -> dict[str, Any]:
        """As it is kept, each held-out problem by itself."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Round:
        """What `record` gave, read from JSON."""
        return cls(**{**record, "before": tuple(record["before"]), "after": tuple(record["after"])})

    def _held_out(self) -> Mapping[str, tuple[bool, ...]]:
        return {"before": self.before, "after": self.after}


@dataclass(frozen=True)
class Improved:
    """The weights of the last round, and what each round did."""

    weights: Weights
    rounds: tuple[Round, ...]


Kept = Mapping[str, Sequence[str]]
"""By a problem's id, its distinct right answers of a round, in the order in which they were written."""


@dataclass(frozen=True)
class _Written:
    """A round's answers, by problem: each one's text and whether it is right."""

    answers: Mapping[str, Sequence[tuple[str, bool]]]

    @property
    def kept(self) -> Kept:
        found = {name: [text for text, right in answers if right and text] for name, answers in self.answers.items()}
        return {name: list(dict.fromkeys(texts)) for name, texts in found.items() if texts}

    def counts(self) -> dict[str, int]:
        flags = [right for answers in self.answers.values() for _, right in answers]
        kept = self.kept
        distinct = sum(len(texts) for texts in kept.values())
        return {
            "problems": len(self.answers), "written": len(flags), "right": sum(flags), "distinct": distinct,
            "solved": len(kept),
        }  # fmt: skip


class Improvement:
    """Rounds of one student in one folder, which is theirs alone: what lies there is taken up as it is.

    Args:
        model: the student, with the weights that every round begins from; it is trained in place.
        problems: what it is trained on its own answers to.
        held_out: problems that it never is; what a round gained is measured on them.
        given: completions that every round learns too, such as those that the student began with.

    Raises:
        DataError: there is no problem, or one is held out and trained on.
    """

    def __init__(
        self, model: PreTrainedModel, problems: Sequence[Prompt], held_out: Sequence[Prompt], solver: Solver,
        tuning: Tuning, how: Rounds, folder: Path, *, given: Sequence[Tokenised] = (),
    ) -> None:  # fmt: skip
        _check(problems, held_out)
        self._model, self._problems, self._held_out = model, problems, held_out
        self._solver, self._tuning, self._how, self._folder, self._given = solver, tuning, how, folder, given
        self._start = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def run(self, report: Report) -> Improved:
        """Do what is not done yet. The student ends with the weights of the last round.

        Args:
            report: told ("write" or "train", problems or steps done, of how many).

        Raises:
            DataError: no answer of the first round was right.
        """
        kept: list[Kept] = []
        done: list[Round] = []
        weights: Weights = self._start
        for number in range(1, self._how.rounds + 1):
            folder = self._folder / f"round-{number:02}"
            self._model.load_state_dict(weights)
            written = self._written(number, folder, report)
            kept.insert(0, written.kept)
            learnt = self._learnt(kept)
            if (folder / RECORD).exists():
                done.append(Round.of(json.loads((folder / RECORD).read_bytes())))
                weights = self._trained(learnt, folder, report)
                continue
            before = done[-1].after if done else self._solved()
            weights = self._trained(learnt, folder, report)
            self._model.load_state_dict(weights)
            done.append(Round(number, **written.counts(), learnt=len(learnt), before=before, after=self._solved()))
            write_file(folder / RECORD, json.dumps(done[-1].record()).encode())
        self._model.load_state_dict(weights)
        return Improved(weights, tuple(done))

    def _solved(self) -> tuple[bool, ...]:
        return tuple(bool(right) for right in self._solver.right(self._model, self._held_out))

    def _written(self, number: int, folder: Path, report: Report) -> _Written:
        """The round's answers, those that are not there yet written by the student as it is."""
        answers: dict[str, Sequence[tuple[str, bool]]] = {}
        size = self._how.chunk
        for chunk, start in enumerate(range(0, len(self._problems), size)):
            path = folder / f"written-{chunk:05}.json"
            if not path.exists():
                report("write", start, len(self._problems))
                write_file(path, json.dumps(self._write(number, chunk)).encode())
            answers |= {name: [(text, right) for text, right in found] for name, found in json.loads(path.read_bytes())}
        report("write", len(self._problems), len(self._problems))
        return _Written(answers)

    def _write(self, number: int, chunk: int) -> list[tuple[str, list[tuple[str, bool]]]]:
        size = self._how.chunk
        problems, seed = self._problems[chunk * size : (chunk + 1) * size], seed_of(self._how.seed, number, chunk)
        found = self._solver.attempts(self._model, problems, each=self._how.answers, seed=seed)
        return [
            (problem.id, [(one.text, one.right) for one in attempts])
            for problem, attempts in zip(problems, found, strict=True)
        ]

    def _learnt(self, kept: Sequence[Kept]) -> Sequence[Tokenised]:
        """What was given, and of each problem the newest right answers, the newest round first."""
        rows = []
        for problem in self._problems:
            texts = dict.fromkeys(text for found in kept for text in found.get(problem.id, ()))
            rows += [Row(f"{problem.id}#{n}", problem.messages, text) for n, text in enumerate(texts)][: self._how.most]
        if not rows:
            raise DataError(
                f"not one answer to {len(self._problems)} problems was right, so that there is nothing to learn",
                hint="Begin with a student that solves some of them, or give easier problems.",
            )
        own = tokenise(rows, self._solver.tokenizer, max_tokens=self._tuning.capacity).samples
        return [*self._given, *own]

    def _trained(self, samples: Sequence[Tokenised], folder: Path, report: Report) -> Weights:
        """From the start; read where they were kept already."""
        path, training = folder / WEIGHTS, folder / "training"
        if not path.exists():
            self._model.load_state_dict(self._start)
            weights = self._tuning.train(self._model, samples, training, report)
            write_file(path, serialise(dict(weights)))
        Checkpoints(training).clear()
        found: Weights = torch.load(path, map_location=self._model.device, weights_only=True)
        return found


def _check(problems: Sequence[Prompt], held_out: Sequence[Prompt]) -> None:
    if not problems or not held_out:
        raise DataError("self-training needs problems, and others that are held out", hint="Give some of each.")
    if twice := [name for name, count in Counter(problem.id for problem in problems).items() if count > 1]:
        raise DataError(f"the problem {twice[0]} stands twice", hint="Give each an id of its own.")
    asked = {problem.messages for problem in problems}
    if shared := [problem.id for problem in held_out if problem.messages in asked]:
        raise DataError(
            f"the held-out problem {shared[0]} is trained on too ({len(shared)} in all)",
            hint="Leave out of one what stands in the other.",
        )
