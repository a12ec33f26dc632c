"""The training loop: exact on resume, its schedule, its moving average, and which epoch it picks."""

from __future__ import annotations

import copy
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import distil_parts as parts
import numpy as np
import pytest
import torch
from distil_parts import (
    EPOCHS,
    STEPS,
    Interrupted,
    TinyBatches,
    assert_same,
    interrupt_at,
    one_thread,
    tiny_module,
    train,
)
from torch import nn

from toolkit.distil import checkpoints
from toolkit.distil.checkpoints import Checkpoints
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import BatchLesson, Taught
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.losses import hard_label, response
from toolkit.distil.objectives import Batch, Outputs
from toolkit.distil.precision import Precision
from toolkit.distil.recipes import LABELS_ALONE
from toolkit.distil.weighting import TaskWeights, Weighting, by_difficulty
from toolkit.errors import PlanError
from toolkit.protocols import Objective


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_interrupted_anywhere_and_again_it_ends_the_same(tmp_path: Path, seed: int, everything: bool) -> None:
    """With `everything`, weights of samples and tasks that follow from the epochs before, and a projection, too."""
    whole = train(tmp_path / "whole", everything=everything)
    at = sorted(random.Random(seed).sample(range(EPOCHS * STEPS), 3))
    for step in at:
        with pytest.raises(Interrupted):
            train(tmp_path / "broken", interrupt_at(step), everything=everything)
    assert_same(train(tmp_path / "broken", everything=everything), whole)


def test_checkpoints_that_lag_behind_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint every now and then: steps done since are done again, with the same result."""
    whole = train(tmp_path / "whole")
    for step in (7, 13, 18):

        def before(reached: int, step: int = step) -> None:
            monkeypatch.setattr(checkpoints, "EVERY_SECONDS", 0.0 if reached % 4 == 0 else math.inf)
            interrupt_at(step)(reached)

        with pytest.raises(Interrupted):
            train(tmp_path / "broken", before)
    seen: list[int] = []
    assert_same(train(tmp_path / "broken", seen.append), whole)
    assert seen[0] in range(13, 18)


@pytest.mark.usefixtures("every_step")
def test_a_process_that_dies_is_taken_up_by_the_next(tmp_path: Path) -> None:
    whole, step = train(tmp_path / "whole", everything=True), 11
    died = subprocess.run([sys.executable, parts.__file__, str(tmp_path / "broken"), str(step)], capture_output=True)
    assert died.returncode == 9, died.stderr.decode()
    seen: list[int] = []
    assert_same(train(tmp_path / "broken", seen.append, everything=True), whole)
    assert seen == list(range(step, EPOCHS * STEPS))


@pytest.mark.usefixtures("every_step")
def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    whole = train(tmp_path)
    seen: list[int] = []
    assert_same(train(tmp_path, seen.append), whole)
    assert seen == []


def test_a_cleared_checkpoint_is_gone(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    assert kept.load() is None
    kept.save({"position": [1, 2], "weights": {"a": torch.ones(3)}})
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert found["position"] == [1, 2]
    kept.clear()
    kept.clear()
    assert Checkpoints(tmp_path).load() is None


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"module": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(Exception, match=r"(?i)weights.?only"):
        Checkpoints(tmp_path).load()
    assert not (tmp_path / "ran").exists()


def test_training_learns(tmp_path: Path) -> None:
    fitted = train(tmp_path, epochs=25)
    assert fitted.score.accuracy > 0.85
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"] / 2
    assert len(fitted.history) == 25


def simple_fit(
    folder: Path, schedule: Schedule, *, steps: int = STEPS, module: nn.Module | None = None,
    validate: Callable[[nn.Module], Score] = parts.validate, before: Callable[[int], None] = lambda _: None,
    report: Callable[[int, int], None] = lambda *_: None, scale: float = 1.0, lesson: type[BatchLesson] = BatchLesson,
) -> Fitted:  # fmt: skip
    module = module or tiny_module()
    return fit(
        Learner(module), lesson(TinyBatches(steps, before), parts.OBJECTIVES), schedule,
        groups=[{"params": list(module.parameters()), "scale": scale}],
        validate=validate, folder=folder, report=report,
    )  # fmt: skip


def test_the_moving_average_is_the_recurrence_by_hand(tmp_path: Path) -> None:
    """average <- d average + (1 - d) weights after every step, with d = min(decay, (1 + step) / (10 + step))."""
    module, seen = tiny_module(), []
    schedule = Schedule(2, 0.05, 0.0, average_decay=0.6, seed=1)
    fitted = simple_fit(
        tmp_path, schedule, module=module, before=lambda _: seen.append(copy.deepcopy(module.state_dict())),
        validate=lambda _: Score(0.5, 1.0),
    )  # fmt: skip
    seen.append(copy.deepcopy(module.state_dict()))
    assert len(seen) == 2 * STEPS + 1
    for name, first in seen[0].items():
        mean = first.double().numpy()
        for step, weights in enumerate(seen[1:]):
            decay = min(0.6, (1 + step) / (10 + step))
            mean = decay * mean + (1 - decay) * weights[name].double().numpy()
        if first.is_floating_point():
            np.testing.assert_allclose(fitted.weights[name].numpy(), mean, rtol=2e-5, atol=1e-6)
        else:
            assert fitted.weights[name] == seen[-1][name], "a counter is not averaged"


def test_a_weight_that_two_layers_share_is_averaged_once(tmp_path: Path) -> None:
    """average <- d average + (1 - d) weights, one step from the first weights: with d = 1/10, 9/10 of the way."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow = nn.Linear(parts.FEATURES, parts.CLASSES, bias=False)
            self.again = nn.Linear(parts.FEATURES, parts.CLASSES, bias=False)
            self.again.weight = self.narrow.weight

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.narrow(inputs) + self.again(inputs))

    module = Tied()
    before = module.narrow.weight.detach().clone()
    fitted = simple_fit(tmp_path, Schedule(1, 0.05, 0.0), steps=1, module=module, validate=lambda _: Score(0.5, 1.0))
    wanted = 0.1 * before + 0.9 * module.narrow.weight.detach()
    torch.testing.assert_close(fitted.weights["narrow.weight"], wanted)
    assert not torch.equal(before, module.narrow.weight)


def test_adams_first_step_is_the_learning_rate_by_hand(tmp_path: Path) -> None:
    """Kingma and Ba 2015: after bias correction the first update of every weight is the rate times its gradient's
    sign. One epoch of one step is all warm-up: the full rate, times the group's scale."""
    module = nn.Linear(parts.FEATURES, parts.CLASSES)
    before = copy.deepcopy(module.state_dict())
    simple_fit(tmp_path, Schedule(1, 0.01, 0.0), steps=1, module=module, scale=3.0)
    moved = (module.weight - before["weight"]).detach().abs()
    np.testing.assert_allclose(moved.numpy(), 0.03, rtol=1e-3)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (2, 1), (1, 10), (3, 7), (100, 9)])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_the_rate_rises_to_its_peak_and_falls_and_never_stops(epochs: int, steps: int, warmup: float) -> None:
    schedule, total = Schedule(epochs, 1.0, 0.0, warmup_share=warmup), epochs * steps
    factors = [schedule.factor(step, total) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == pytest.approx(1.0)
    peak = max(range(total), key=lambda step: factors[step])
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_the_cosine_by_hand() -> None:
    """20 steps, 4 of warm-up: 1/4 at first; half way down the cosine, at step 4 + 8, a half."""
    schedule = Schedule(1, 1.0, 0.0, warmup_share=0.2)
    assert [schedule.factor(step, 20) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert schedule.factor(12, 20) == pytest.approx(0.5)
    assert schedule.factor(16, 20) == pytest.approx((1 - math.sqrt(0.5)) / 2)


def test_one_epoch_of_one_step_trains(tmp_path: Path) -> None:
    module = tiny_module()
    before = copy.deepcopy(module.state_dict())
    fitted = simple_fit(tmp_path, Schedule(1, 0.02, 0.0), steps=1, module=module)
    assert (fitted.epoch, len(fitted.history)) == (0, 1)
    assert not torch.equal(fitted.weights["0.weight"], before["0.weight"])


@pytest.mark.parametrize(
    ("accuracies", "picked"),
    [([0.5, 0.9, 0.9, 0.7], 2), ([0.9, 0.1, 0.1], 0), ([0.5, 0.5], 1), ([0.0], 0), ([0.0, 0.0, 0.0], 2)],
)
def test_of_equals_the_later_epoch_is_picked_with_its_own_weights(
    tmp_path: Path, accuracies: list[float], picked: int
) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def scripted(module: nn.Module) -> Score:
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())
        seen.append(copy.deepcopy(module.state_dict()))
        return Score(accuracies[len(seen) - 1], loss=float(len(seen)))

    fitted = simple_fit(tmp_path, Schedule(len(accuracies), 0.05, 0.0), validate=scripted)
    assert (fitted.epoch, fitted.score.accuracy) == (picked, accuracies[picked])
    assert [record["validation_accuracy"] for record in fitted.history] == accuracies
    for name, weight in fitted.weights.items():
        assert torch.equal(weight, seen[picked][name])
    if len(seen) > 1:
        assert not torch.equal(seen[0]["0.weight"], seen[1]["0.weight"])


@pytest.mark.parametrize(
    ("accuracies", "rows", "picked"),
    [
        ([0.98, 0.9632, 0.9630], 100, 1),
        ([0.98, 0.9632, 0.9630, 0.97], 100, 3),
        ([0.5, 0.98, 0.9632], 100, 2),
        ([1.0, 0.92, 0.91], 10, 1),
        ([1.0, 0.92, 0.91], 0, 0),
    ],
)
def test_within_validations_noise_the_longest_trained_is_picked(
    tmp_path: Path, accuracies: list[float], rows: int, picked: int
) -> None:
    """The one-standard-error rule by hand: 98 of 100 are (98 + 1) / (100 + 2) = 0.9706, give or take 0.0169; 10 of 10
    are 11/12, give or take 0.0874."""
    seen: list[int] = []

    def scripted(_: nn.Module) -> Score:
        seen.append(0)
        return Score(accuracies[len(seen) - 1], 1.0, rows)

    fitted = simple_fit(tmp_path, Schedule(len(accuracies), 0.05, 0.0), validate=scripted)
    assert (fitted.epoch, fitted.score.accuracy) == (picked, accuracies[picked])


@pytest.mark.usefixtures("every_step")
def test_what_was_picked_so_far_survives_an_interruption(tmp_path: Path) -> None:
    accuracies = [0.98, 0.97, 0.5, 0.964, 0.5, 0.5]

    def scripted(module: nn.Module) -> Score:
        return Score(accuracies[epochs_seen()], 1.0, 100)

    def epochs_seen() -> int:
        return next(iter(reached[::-1]), 0) // STEPS

    reached: list[int] = []
    whole = simple_fit(tmp_path / "whole", Schedule(6, 0.05, 0.0), validate=scripted, before=reached.append)
    for stop in (2 * STEPS, 3 * STEPS + 1, 5 * STEPS):

        def before(step: int, stop: int = stop) -> None:
            interrupt_at(stop)(step)
            reached.append(step)

        with pytest.raises(Interrupted):
            simple_fit(tmp_path / "broken", Schedule(6, 0.05, 0.0), validate=scripted, before=before)
    assert_same(
        simple_fit(tmp_path / "broken", Schedule(6, 0.05, 0.0), validate=scripted, before=reached.append), whole
    )
    assert whole.epoch == 3


def test_a_figure_that_only_some_steps_tell_is_their_mean(tmp_path: Path) -> None:
    class Told(BatchLesson):
        def teach(self, learner: Learner, part: Batch, progress: float, precision: Precision) -> Taught:
            taught = super().teach(learner, part, progress, precision)
            now = round(progress * 2 * STEPS)
            return replace(taught, told={**taught.told, **({"given": float(now)} if now % 2 else {})})

    history = simple_fit(tmp_path, Schedule(2, 0.01, 0.0), lesson=Told).history
    odd = [[step for step in range(epoch * STEPS, (epoch + 1) * STEPS) if step % 2] for epoch in (0, 1)]
    assert [one["given"] for one in history] == pytest.approx([np.mean(steps) for steps in odd])


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    class Lost(BatchLesson):
        def teach(self, learner: Learner, part: Batch, progress: float, precision: Precision) -> Taught:
            taught = super().teach(learner, part, progress, precision)
            return replace(taught, loss=taught.loss.detach() * math.nan + 0.0 * taught.loss.nan_to_num())

    with pytest.raises(PlanError, match="diverged at step 1"):
        simple_fit(tmp_path, Schedule(1, 0.01, 0.0), lesson=Lost)


def test_progress_counts_every_step_up_to_the_last(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    simple_fit(tmp_path, Schedule(3, 0.01, 0.0), report=lambda done, total: told.append((done, total)))
    assert told == [(step, 3 * STEPS) for step in range(3 * STEPS + 1)]


def test_the_history_holds_the_means_of_the_steps(tmp_path: Path) -> None:
    fitted = simple_fit(tmp_path, Schedule(2, 0.01, 0.0))
    for record in fitted.history:
        assert record["loss"] == pytest.approx(0.4 * record["hard-label"] + 0.6 * record["response"], rel=1e-5)
        assert record["gradient_norm"] > 0
        assert {"validation_accuracy", "validation_loss"} <= set(record)


@pytest.mark.parametrize(
    ("schedule", "share"), [("rise", [0, 1 / 4, 2 / 4, 3 / 4]), ("fall", [1, 3 / 4, 2 / 4, 1 / 4])]
)
def test_a_weight_that_rises_or_falls_does_so_by_the_steps_done(
    tmp_path: Path, schedule: str, share: list[float]
) -> None:
    learner = Learner(tiny_module())
    fitted = fit(
        learner, BatchLesson(TinyBatches(1), [Objective("hard-label", 2.0, schedule=schedule)]),  # type: ignore[arg-type]
        Schedule(4, 0.01, 0.0), groups=[{"params": list(learner.parameters())}], validate=parts.validate,
        folder=tmp_path, report=lambda *_: None,
    )  # fmt: skip
    for record, part in zip(fitted.history, share, strict=True):
        assert record["loss"] == pytest.approx(2 * part * record["hard-label"], rel=1e-5)


def test_what_rows_weigh_is_what_is_learnt_from(tmp_path: Path) -> None:
    """Batches in which no row has a label leave a student that learns from labels alone where it is."""

    class Unlabelled(TinyBatches):
        def batch(self, epoch: int, step: int) -> Batch:
            return replace(super().batch(epoch, step), label_weights=torch.zeros(8))

    learner = Learner(tiny_module())
    before = copy.deepcopy(learner.state_dict())
    fitted = fit(
        learner, BatchLesson(Unlabelled(), LABELS_ALONE), Schedule(1, 0.05, 0.0),
        groups=[{"params": list(learner.parameters())}], validate=parts.validate, folder=tmp_path,
        report=lambda *_: None,
    )  # fmt: skip
    assert fitted.history[0]["gradient_norm"] == 0
    for name, parameter in learner.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_the_weighting_is_asked_what_rows_weigh_and_told_what_tasks_lose(tmp_path: Path) -> None:
    """One step, of a student whose first answers are known: by hand."""
    torch.manual_seed(1)
    student = nn.Linear(parts.FEATURES, parts.CLASSES)
    batch = TinyBatches(everything=True).batch(0, 0)
    assert batch.teacher is not None
    assert batch.teacher_weights is not None
    assert batch.tasks is not None
    said = Outputs(student(batch.inputs).detach())
    hard, soft = hard_label(said.logits, batch.labels), response(said.logits, batch.teacher.logits, 2.0)
    counted = by_difficulty(said, batch.teacher) * batch.teacher_weights
    learner = Learner(student)
    weighting = Weighting(difficulty=True, tasks=TaskWeights(parts.TASKS))
    fitted = fit(
        learner, BatchLesson(TinyBatches(1, everything=True), parts.OBJECTIVES, weighting), Schedule(1, 0.01, 0.0),
        groups=[{"params": list(learner.parameters())}], validate=parts.validate, folder=tmp_path,
        report=lambda *_: None,
    )  # fmt: skip
    (record,) = fitted.history
    assert record["response"] == pytest.approx(float((soft * counted).sum() / counted.sum()), rel=1e-5)
    assert record["hard-label"] == pytest.approx(float(hard[:6].mean()), rel=1e-5)
    values = 0.4 * hard + 0.6 * soft
    for number, name in enumerate(parts.TASKS):
        wanted = float(values[batch.tasks == number].mean()) if (batch.tasks == number).any() else 0.0
        assert record[f"task/{name}"] == pytest.approx(wanted, rel=1e-5)


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="diverged") as caught:
        simple_fit(
            tmp_path, Schedule(3, 1e30, 0.0), module=nn.Sequential(nn.Linear(parts.FEATURES, 9), nn.Linear(9, 3))
        )
    assert "learning_rate" in caught.value.hint


def test_a_step_in_parts_is_the_same_step(tmp_path: Path) -> None:
    """Gradients add up over the parts of a step, and so do the figures that they tell."""

    class InTwo(BatchLesson):
        """Each batch in two halves, each half of the loss."""

        def parts(self, epoch: int, step: int) -> list[Batch]:
            whole = self.batches.batch(epoch, step)
            assert whole.teacher is not None
            return [
                Batch(whole.inputs[half], whole.labels[half], Outputs(whole.teacher.logits[half]))
                for half in (slice(0, 4), slice(4, 8))
            ]

        def teach(self, learner: Learner, part: Batch, progress: float, precision: Precision) -> Taught:
            taught = super().teach(learner, part, progress, precision)
            return Taught(taught.loss / 2, {name: value / 2 for name, value in taught.told.items()})

    fitted = []
    for lesson in (BatchLesson, InTwo):
        torch.manual_seed(0)
        learner = Learner(nn.Linear(parts.FEATURES, parts.CLASSES))
        fitted.append(fit(
            learner, lesson(TinyBatches(), parts.OBJECTIVES), Schedule(3, 0.01, 0.0),
            groups=[{"params": list(learner.parameters())}], validate=parts.validate, folder=tmp_path / lesson.__name__,
            report=lambda *_: None,
        ))  # fmt: skip
    whole, halves = fitted
    for name, weight in whole.weights.items():
        torch.testing.assert_close(weight, halves.weights[name], rtol=1e-4, atol=1e-6)
    for one, other in zip(whole.history, halves.history, strict=True):
        for name in ("loss", "hard-label", "response", "gradient_norm"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name
