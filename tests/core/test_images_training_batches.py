"""What a training step is handed, and the student family: rows, their view, and the teacher's logits for that view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from line_parts import small_lot, tiny_context
from torch import nn

from toolkit.artifacts import Dataset
from toolkit.distil.lookup import Answers
from toolkit.pipeline import run_line
from toolkit.protocols import TeacherSpec
from toolkit.stages.distil import STAGE as DISTIL
from toolkit.tasks.image_classification.augment import Augmentation, Views
from toolkit.tasks.image_classification.batches import (
    FEWEST_STEPS,
    UNLABELLED,
    ImageBatches,
    TrainingData,
    load_training_data,
    steps_an_epoch,
)
from toolkit.tasks.image_classification.family import WIDTHS, describe_student, network_of
from toolkit.tasks.image_classification.training import teacher_network, validator

ROWS, VIEWS, SIZE = 10, 3, 32
CPU = torch.device("cpu")


def training_data(mixup: float = 0.0) -> TrainingData:
    """Every row is a class of its own, so that a batch's labels tell its rows."""
    pixels = torch.randint(0, 256, (ROWS, 1, 40, 40), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    return TrainingData(
        views=Views(pixels, 5, Augmentation(mixup=mixup)), one_hot=torch.eye(ROWS), labels=torch.arange(ROWS),
        validation=pixels[:4], validation_labels=torch.arange(4),
    )  # fmt: skip


def stored_answers() -> Answers:
    """Logits that tell view and row: 100 view + row; features that do the same below zero."""
    rows = np.arange(ROWS)[:, None]
    return Answers(
        [
            {
                "logits": np.broadcast_to(100.0 * view + rows, (ROWS, ROWS)).astype(np.float16),
                "features": np.broadcast_to(-100.0 * view - rows, (ROWS, 3)).astype(np.float16),
            }
            for view in range(VIEWS)
        ]
    )


def batches(
    answers: Answers | None = None, batch_size: int = 4, mixup: float = 0.0, steps: int = 0, unlabelled: int = 0
) -> ImageBatches:
    data = training_data(mixup)
    if unlabelled:
        data.labels[-unlabelled:] = UNLABELLED
        data.one_hot[-unlabelled:] = 0
    return ImageBatches(data, batch_size, SIZE, CPU, steps or max(1, ROWS // batch_size), answers)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_pixels_labels_and_teacher_are_of_the_same_rows_and_view(mixup: float) -> None:
    made = batches(stored_answers(), mixup=mixup)
    for epoch in range(VIEWS * 2):
        for step in range(made.steps):
            batch = made.batch(epoch, step)
            assert batch.teacher is not None
            assert batch.teacher.features is not None
            told = batch.teacher.logits[:, 0]
            assert torch.equal(batch.teacher.features[:, 0], -told)
            rows, view = (told % 100).long(), int(told[0] // 100)
            assert (told // 100 == view).all()
            assert view == epoch % VIEWS
            expected = made.data.views.render(rows, view, SIZE)
            torch.testing.assert_close(batch.inputs, expected, rtol=0, atol=1e-6)
            labels = made.data.views.mixed_labels(rows, view, made.data.one_hot)
            torch.testing.assert_close(batch.labels, labels)
            assert batch.label_weights is None
            assert batch.teacher_weights is None


def test_answers_that_hold_for_any_view_go_with_a_fresh_one_every_pass() -> None:
    made = batches(stored_answers().averaged())
    for epoch in (0, VIEWS, VIEWS + 4):
        batch = made.batch(epoch, 0)
        assert batch.teacher is not None
        rows = batch.labels.argmax(1)
        assert torch.equal(batch.inputs, made.data.views.render(rows, epoch, SIZE))
        torch.testing.assert_close(batch.teacher.logits[:, 0], 100.0 * (VIEWS - 1) / 2 + rows)


def test_an_epoch_sees_no_row_twice_and_the_next_another_order() -> None:
    made = batches(stored_answers())
    orders = []
    for epoch in range(2):
        seen = torch.cat([made.batch(epoch, step).labels.argmax(1) for step in range(made.steps)]).tolist()
        assert len(seen) == len(set(seen)) == made.steps * 4
        orders.append(seen)
    assert orders[0] != orders[1]


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 10), (3, 3), (4, 2), (10, 1), (64, 1)])
def test_a_batch_is_never_short_unless_there_are_too_few_rows(batch_size: int, steps: int) -> None:
    made = batches(batch_size=batch_size)
    assert {len(made.batch(0, step).labels) for step in range(steps)} == {min(batch_size, ROWS)}


def test_an_epoch_of_few_rows_goes_through_them_again_under_other_views() -> None:
    made = batches(batch_size=ROWS, steps=3)
    seen = [made.batch(epoch, step) for epoch in range(2) for step in range(3)]
    for number, batch in enumerate(seen):
        rows = batch.labels.argmax(1)
        assert sorted(rows.tolist()) == list(range(ROWS))
        assert torch.equal(batch.inputs, made.data.views.render(rows, number, SIZE))


@pytest.mark.parametrize(
    ("rows", "batch_size", "steps"), [(895, 64, 13), (10_000, 64, 156), (768, 64, 12), (30, 64, 1)]
)
def test_an_epoch_is_a_pass_but_never_too_short(rows: int, batch_size: int, steps: int) -> None:
    assert steps_an_epoch(rows, batch_size) == max(steps, FEWEST_STEPS)


def test_the_teacher_alone_speaks_for_rows_without_a_label() -> None:
    """As much as it is sure: equal logits over ten classes are a tenth; the labels' own rows count in full."""
    made = batches(stored_answers(), batch_size=ROWS, unlabelled=4)
    batch = made.batch(0, 0)
    assert batch.teacher is not None
    assert batch.label_weights is not None
    assert batch.teacher_weights is not None
    rows = batch.teacher.logits[:, 0].long() % 100
    known = rows < ROWS - 4
    assert torch.equal(batch.label_weights, known.float())
    torch.testing.assert_close(batch.teacher_weights, torch.where(known, 1.0, 0.1))
    assert torch.equal(batch.labels.sum(1), known.float())
    assert batch.tasks is not None
    assert torch.equal(batch.tasks[known], rows[known])


def test_without_a_teacher_rows_without_a_label_are_never_seen() -> None:
    made = batches(batch_size=2, unlabelled=4, steps=5)
    seen = {int(row) for epoch in range(4) for step in range(5) for row in made.batch(epoch, step).labels.argmax(1)}
    assert seen == set(range(ROWS - 4))


def test_baseline_and_student_look_at_the_same_pixels_while_views_last() -> None:
    for epoch in range(VIEWS):
        student, baseline = batches(stored_answers()).batch(epoch, 1), batches(None).batch(epoch, 1)
        assert torch.equal(student.inputs, baseline.inputs)
        assert baseline.teacher is None


def test_the_teacher_sees_every_picture_as_an_ordinary_photograph_in_its_own_units() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    network = teacher_network(TeacherSpec(nn.Identity, mean, std))
    dark = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 0.2
    found = network(dark)
    assert found.shape == (2, 3, 16, 16)
    torch.testing.assert_close(found, network(dark * 3 + 0.1), atol=0.2, rtol=0)
    for channel in range(3):
        assert float(found[0, channel].mean()) == pytest.approx((0.45 - mean[channel]) / std[channel], abs=1e-4)


def test_validation_scores_by_hand() -> None:
    """A module that always says class 1 with odds e: right on one of four rows."""

    class Fixed(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            assert pixels.shape[1:] == (1, SIZE, SIZE)
            assert pixels.max() <= 1
            return torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(len(pixels), -1)

    score = validator(training_data(), SIZE, CPU)(Fixed())
    assert score.accuracy == 0.25
    total = np.log(3 + np.e)
    assert score.loss == pytest.approx((3 * total + (total - 1)) / 4, rel=1e-5)


def test_the_data_in_memory_are_the_rows_of_their_splits(tmp_path: Path) -> None:
    context = tiny_context(tmp_path / "home", small_lot(tmp_path / "lot", 8))
    (result,) = run_line(context, until="prepare", listen=lambda _: None)
    dataset = result.artifact
    assert isinstance(dataset, Dataset)
    data = load_training_data(context.plan, dataset)
    train, validation = dataset.split("train"), dataset.split("validation")
    assert [dataset.classes[index] for index in data.labels] == list(train.labels)
    assert [dataset.classes[index] for index in data.validation_labels] == list(validation.labels)
    assert data.views.pictures.shape[:2] == (len(train), 1)
    assert data.views.pictures.dtype == torch.uint8
    assert torch.equal(data.one_hot.argmax(1), data.labels)
    for index in (0, len(train) - 1):
        whole = train[index].inputs["image"]
        assert float(data.views.pictures[index].float().mean()) == pytest.approx(float(whole.mean()), abs=1.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_student_is_what_its_size_and_description_say(channels: int) -> None:
    counts = {}
    for size in WIDTHS:
        describe = describe_student(size, channels=channels, size_px=64, classes=6)
        network = network_of(describe).eval()
        counts[size] = sum(p.numel() for p in network.parameters())
        with torch.inference_mode():
            for side in (32, 64, 112):
                assert network(torch.rand(2, channels, side, side)).shape == (2, 6)
        torch.manual_seed(1)
        first = network_of(describe).state_dict()
        torch.manual_seed(1)
        again = network_of(dict(describe)).state_dict()
        assert all(torch.equal(first[name], again[name]) for name in first)
    assert list(counts) == ["nano", "micro", "small", "medium", "large"]
    assert list(counts.values()) == sorted(counts.values())
    assert counts["nano"] < 40_000
    assert 300_000 < counts["large"] < 600_000


def test_a_constant_picture_has_an_answer() -> None:
    network = network_of(describe_student("nano", channels=1, size_px=32, classes=3)).eval()
    for level in (0.0, 0.5, 1.0):
        logits = network(torch.full((1, 1, 32, 32), level))
        assert torch.isfinite(logits).all()
        logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_distilling_does_not_depend_on_where_training_runs_beyond_device_seed_and_precision() -> None:
    keys = {key for key in DISTIL.keys if key.startswith("compute")}
    assert keys == {"compute.seed", "compute.device", "compute.precision"}
