"""Who looks on: the curves in event files are the history, whole and without doubled steps however often a training was
broken off; what the clock says is told and kept apart; and what is told of agreement and weights is worked out by hand.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distil_parts import (
    CLASSES,
    EPOCHS,
    FEATURES,
    OBJECTIVES,
    STEPS,
    Interrupted,
    TinyBatches,
    assert_same,
    interrupt_at,
    one_thread,
    train,
)
from tensorboardX.proto.event_pb2 import Event, SessionLog
from torch import nn

from toolkit.distil import checkpoints, watching
from toolkit.distil.events import EventFiles
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import BatchLesson
from toolkit.distil.precision import Precision
from toolkit.distil.producer import Progress
from toolkit.distil.watching import Figures, Paced, Unwatched, read_pace, watched

Curves = dict[str, dict[int, float]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def curves(folder: Path) -> Curves:
    """Tag to step to value, as a reader that knows nothing of us takes them: file by file in the order of their names,
    and what a session began anew takes the place of what was there. A step that is there twice fails."""
    found: Curves = {}
    for path in sorted(folder.glob("*tfevents*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]
            if event.HasField("session_log"):
                assert event.session_log.status == SessionLog.START
                found = {tag: {step: v for step, v in line.items() if step < event.step} for tag, line in found.items()}
            for value in event.summary.value:
                assert event.step not in found.setdefault(value.tag, {}), (value.tag, event.step)
                found[value.tag][event.step] = value.simple_value
    return found


def watched_training(folder: Path, *, stop: int | None = None) -> watching.Paced:
    """A training with all that it can tell, until it is broken off."""
    with watched(folder, "student", "train", lambda *_: None) as watch:
        assert isinstance(watch, Paced)
        train(folder / "state", interrupt_at(-1 if stop is None else stop), everything=True, watch=watch)
        return watch


def test_the_event_files_hold_the_history(tmp_path: Path) -> None:
    with watched(tmp_path, "student", "train", lambda *_: None) as watch:
        fitted = train(tmp_path / "state", everything=True, watch=watch)
    steps, epochs = (curves(tmp_path / "curves" / "student" / run) for run in ("training", "validation"))
    ends = [STEPS * (epoch + 1) for epoch in range(EPOCHS)]
    objectives = {name.removeprefix("objective_weight/") for name in steps if name.startswith("objective_weight/")}
    assert len(objectives) == 7
    for name in fitted.history[0]:
        values = [record[name] for record in fitted.history]
        if name.startswith(("validation_", "task/", "weight/")):
            line = epochs[name.removeprefix("validation_")]
            assert list(line) == ends
            assert list(line.values()) == pytest.approx(values, rel=1e-6)
        else:
            line = steps[f"objective/{name}" if name in objectives else name]
            assert list(line) == list(range(1, STEPS * EPOCHS + 1))
            means = np.array(list(line.values())).reshape(EPOCHS, STEPS).mean(axis=1)
            np.testing.assert_allclose(means, values, rtol=1e-5, atol=1e-7)
    assert {"loss", "gradient_norm", "learning_rate", "agreement", "pull/feature"} <= set(steps)
    assert min(steps["rows_per_second"].values()) > 0


@pytest.mark.parametrize("seed", range(3))
def test_broken_off_anywhere_the_curves_are_whole_and_no_step_is_double(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a state saved after each step but those that a coin says; what was done since is done, and told, again. All
    of it happens within a second or two, so that files begin in the same one."""
    draw = random.Random(seed)
    watched_training(tmp_path / "whole")
    ends = [STEPS, 2 * STEPS]  # a state of an epoch whose steps are done and that is not closed, too
    for stop in sorted({*draw.sample(range(EPOCHS * STEPS), 3), *ends}):
        monkeypatch.setattr(checkpoints, "EVERY_SECONDS", 0.0)
        monkeypatch.setattr(checkpoints.Checkpoints, "due", property(lambda _: draw.random() < 0.5))
        with pytest.raises(Interrupted):
            watched_training(tmp_path / "broken", stop=stop)
    watched_training(tmp_path / "broken")
    for run in ("training", "validation"):
        whole, broken = (curves(tmp_path / name / "curves" / "student" / run) for name in ("whole", "broken"))
        assert whole.keys() == broken.keys()
        for tag, line in whole.items():
            assert list(broken[tag]) == list(line), tag
            assert tag.endswith("_per_second") or broken[tag] == line, tag
    assert len(list((tmp_path / "broken" / "curves" / "student" / "training").iterdir())) > 1


@pytest.mark.usefixtures("every_step")
def test_an_epoch_whose_steps_were_done_but_not_validated_is_there_once(tmp_path: Path) -> None:
    """A state is saved after the last step of an epoch and then again once it is validated: killed between the two."""

    class After(Unwatched):
        def epoch(self, epochs: int, done: int, figures: Figures) -> None:
            raise Interrupted

    events = EventFiles(tmp_path / "curves")
    with pytest.raises(Interrupted):
        train(tmp_path / "state", watch=Paced(tmp_path / "pace.json", [events, After()]))
    whole = train(tmp_path / "whole")
    state = torch.load(tmp_path / "state" / "checkpoint.pt", weights_only=True)
    assert state["position"] == [0, STEPS]
    assert_same(train(tmp_path / "state", watch=Paced(tmp_path / "pace.json", [events])), whole)
    events.close()
    assert list(curves(tmp_path / "curves" / "validation")["accuracy"]) == [STEPS * (n + 1) for n in range(EPOCHS)]
    assert list(curves(tmp_path / "curves" / "training")["loss"]) == list(range(1, STEPS * EPOCHS + 1))
    assert len(read_pace(tmp_path / "pace.json")) == EPOCHS


def test_watching_changes_nothing(tmp_path: Path) -> None:
    with watched(tmp_path, "student", "train", lambda *_: None) as watch:
        seen = train(tmp_path / "seen", everything=True, watch=watch)
    assert_same(seen, train(tmp_path / "unseen", everything=True))


def test_a_class_whose_name_is_no_text_has_a_curve(tmp_path: Path) -> None:
    events = EventFiles(tmp_path)
    events.begin(0, 0, 1)
    events.epoch(1, 1, {"task/bild_\udcff": 0.5, "loss": 2.0})
    events.close()
    assert curves(tmp_path / "validation") == {"task/bild_?": {1: 0.5}}


# --- what the clock says -----------------------------------------------------------------------------------------


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now


class Seen(Unwatched):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, float]] = []

    def step(self, done: int, figures: Figures) -> None:
        self.told.append(figures)


def test_rates_and_the_queue_by_a_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 2 and 3 s over 10 and 20 rows: 5/s and 6.67/s, 30/5 together; validation, 100 s, is not in it."""
    clock, seen = Clock(), Seen()
    monkeypatch.setattr(watching, "time", clock)
    queue = iter([Progress(4, 9, 3, 0.5, 1.5, 2.0), Progress(6, 9, 2, 0.5, 2.5, 2.0), Progress(9, 9, 1, 0.7, 2.5, 2.0)])
    paced = Paced(tmp_path / "pace.json", [seen], lambda: next(queue).figures())
    paced.begin(0, 0, 2)
    for seconds, rows in ((2, 10), (3, 20)):
        clock.now += seconds
        paced.step(1, {"rows": rows, "loss": 1.0})
    clock.now += 100
    paced.epoch(1, 2, {"loss": 1.0})
    assert [told["rows_per_second"] for told in seen.told] == pytest.approx([5, 20 / 3])
    assert [told["queue/depth"] for told in seen.told] == [3, 2]
    (pace,) = read_pace(tmp_path / "pace.json")
    assert pace == {
        "rows_per_second": 6.0, "queue/depth": 2.5, "queue/done": 6, "queue/total": 9, "queue/per_second": 2.0,
        "queue/labelling_waited_s": 0.5, "queue/training_waited_s": 2.5,
    }  # fmt: skip
    clock.now += 4
    paced.step(3, {"rows": 8})
    assert seen.told[-1]["rows_per_second"] == 2.0


def test_the_pace_of_epochs_before_is_kept_and_of_those_taken_back_is_not(tmp_path: Path) -> None:
    path = tmp_path / "pace.json"
    for begun, ended in ((0, 3), (2, 4), (6, 7)):
        paced = Paced(path, [])
        paced.begin(begun, 0, 1)
        for epoch in range(begun, ended):
            paced.step(epoch + 1, {"tokens": 5.0})
            paced.epoch(epoch + 1, epoch + 1, {})
    assert [bool(pace) for pace in read_pace(path)] == [True] * 4 + [False] * 2 + [True]
    assert read_pace(tmp_path / "nothing.json") == []


def test_a_report_that_can_is_told_the_figures(tmp_path: Path) -> None:
    class Screen:
        def __init__(self) -> None:
            self.shown: dict[str, float] = {}

        def __call__(self, what: str, done: int, total: int) -> None:
            pass

        def figures(self, what: str, figures: Mapping[str, float]) -> None:
            assert what == "train the student"
            self.shown |= figures

    screen = Screen()
    with watched(tmp_path, "student", "train the student", screen) as watch:
        fitted = train(tmp_path / "state", watch=watch)
    last = fitted.history[-1]
    assert screen.shown["validation_accuracy"] == last["validation_accuracy"]
    assert screen.shown["epoch"] == EPOCHS
    assert screen.shown["rows_per_second"] > 0
    assert {"loss", "agreement", "objective_weight/response", "pull/response"} <= set(screen.shown)


# --- what a step tells -------------------------------------------------------------------------------------------


def test_agreement_is_the_share_of_rows_that_both_would_call_the_same() -> None:
    torch.manual_seed(4)
    learner, batches = Learner(nn.Linear(FEATURES, CLASSES)), TinyBatches()
    batch = batches.batch(0, 3)
    assert batch.teacher is not None
    mine = learner(batch.inputs).logits.detach().numpy()
    alike = sum(int(a.argmax() == b.argmax()) for a, b in zip(mine, batch.teacher.logits.numpy(), strict=True))
    assert 0 < alike < 8
    objectives = (OBJECTIVES[0], replace(OBJECTIVES[1], schedule="fall"))
    told = BatchLesson(batches, objectives).teach(learner, batch, 0.25, Precision()).told
    assert told["agreement"] == pytest.approx(alike / 8)
    assert told["rows"] == 8
    assert told["objective_weight/hard-label"] == pytest.approx(0.4)
    assert told["objective_weight/response"] == pytest.approx(0.6 * 0.75)
    unknown = replace(batch, teacher=None)
    assert "agreement" not in BatchLesson(batches, OBJECTIVES[:1]).teach(learner, unknown, 0.25, Precision()).told
