"""Views: what teacher and student look at is the same, whatever else is in the batch and whatever its size."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.tasks.image_classification.augment import (
    Augmentation,
    Views,
    draw_parameters,
    label_indices,
    resize,
    shuffled,
)

ROWS, SIDE = 12, 48


def pictures(channels: int = 1, rows: int = ROWS, side: int = SIDE) -> torch.Tensor:
    """Smooth random pictures, uint8: structure that survives another size, and no symmetry."""
    coarse = torch.rand(rows, channels, 6, 6, generator=torch.Generator().manual_seed(3))
    smooth = functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False)
    return (smooth.clamp(0, 1) * 255).round().byte()


def views(seed: int = 0, mixup: float = 0.0, channels: int = 1) -> Views:
    return Views(pictures(channels), seed, Augmentation(mixup=mixup))


EVERY = torch.arange(ROWS)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=20), view=st.integers(0, 50))
def test_a_row_looks_the_same_in_every_batch(mixup: float, rows: list[int], view: int) -> None:
    every = views(mixup=mixup).render(EVERY, view, 32)
    some = views(mixup=mixup).render(torch.tensor(rows), view, 32)
    torch.testing.assert_close(some, every[rows], rtol=0, atol=1e-6)


def test_the_same_batch_is_the_same_bits() -> None:
    first, again = views(mixup=0.5).render(EVERY, 3, 32), views(mixup=0.5).render(EVERY, 3, 32)
    assert torch.equal(first, again)


def test_other_views_other_seeds_and_other_rows_differ() -> None:
    found = [views(seed).render(EVERY, view, 32) for seed, view in itertools.product((0, 1), (0, 1, 2))]
    for one, other in itertools.combinations(found, 2):
        assert float((one - other).abs().mean()) > 0.01
    geometry = draw_parameters(ROWS, 0, 0, Augmentation())["affine"]
    assert len({tuple(row.flatten().tolist()) for row in geometry}) == ROWS


def test_the_draw_does_not_touch_torchs_own_generator() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    views(seed=123).render(EVERY, 77, 32)
    shuffled(ROWS, 123, 77)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("mixup", [0.0, 1.0])
@pytest.mark.parametrize("view", range(4))
def test_teacher_and_student_sizes_see_the_same_geometry(view: int, mixup: float) -> None:
    large = views(mixup=mixup).render(EVERY, view, 64)
    small = views(mixup=mixup).render(EVERY, view, 32)
    halved = functional.avg_pool2d(large, 2)
    for row in range(ROWS):
        same = np.corrcoef(halved[row].flatten(), small[row].flatten())[0, 1]
        other = np.corrcoef(halved[row].flatten(), small[(row + 1) % ROWS].flatten())[0, 1]
        assert same > 0.97
        assert same > other
    assert float((halved - small).abs().mean()) < 0.03


@pytest.mark.parametrize("channels", [1, 3])
def test_values_stay_within_0_and_1(channels: int) -> None:
    extreme = (torch.rand(ROWS, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) > 0.5).byte() * 255
    wild = replace(Augmentation(), brightness=1.0, contrast=0.9, mixup=0.7)
    for view in range(5):
        found = Views(extreme, 0, wild).render(EVERY, view, 32)
        assert found.shape == (ROWS, channels, 32, 32)
        assert found.dtype == torch.float32
        assert torch.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1


def test_a_view_that_may_not_stray_is_the_picture() -> None:
    still = Augmentation(
        smallest_crop=1.0, rotation=0.0, brightness=0.0, contrast=0.0, mixup=0.0,
        **{name: 0.0 for name in ("stretch",) if hasattr(Augmentation(), name)},
    )  # fmt: skip
    source = pictures()
    found = Views(source, 0, still).render(EVERY, 0, SIDE)
    exact = source.float() / 255
    flips = [exact, exact.flip(-1), exact.flip(-2), exact.flip(-1, -2)]
    turns = [turn for flip in flips for turn in (flip, flip.transpose(-1, -2))]
    for row in range(ROWS):
        assert min(float((found[row] - turn[row]).abs().max()) for turn in turns) < 1e-4


@pytest.mark.parametrize("view", range(3))
def test_mixed_labels_are_blended_as_the_pixels_are(view: int) -> None:
    """Every class is one flat grey, so a view's grey tells how it was blended, unless light is changed too."""
    levels = torch.tensor([0.0, 1.0, 0.5])
    classes = torch.arange(ROWS) % 3
    flat = (levels[classes] * 255).round().byte().view(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE).contiguous()
    steady = replace(Augmentation(), brightness=0.0, contrast=0.0, mixup=1.0)
    mixing, one_hot = Views(flat, 4, steady), functional.one_hot(classes, 3).float()
    labels = mixing.mixed_labels(EVERY, view, one_hot)
    grey = mixing.render(EVERY, view, 32).mean(dim=(1, 2, 3))
    torch.testing.assert_close(labels.sum(1), torch.ones(ROWS))
    torch.testing.assert_close(grey, labels @ torch.tensor([0.0, 1.0, 128 / 255]), rtol=0, atol=1e-5)
    assert float(((labels > 0.01) & (labels < 0.99)).float().mean()) > 0.1
    torch.testing.assert_close(mixing.mixed_labels(EVERY[5:7], view, one_hot), labels[5:7])


def test_a_row_is_mostly_itself() -> None:
    one_hot = torch.eye(ROWS)
    labels = views(mixup=1.0).mixed_labels(EVERY, 0, one_hot)
    assert (labels.diagonal() >= 0.5).all()


def test_without_mixing_labels_are_the_labels() -> None:
    one_hot = functional.one_hot(torch.arange(ROWS) % 3, 3).float()
    assert torch.equal(views().mixed_labels(EVERY, 2, one_hot), one_hot)


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_as_many_views_are_mixed_as_was_asked_for(share: float) -> None:
    mixed = [draw_parameters(1000, 0, view, Augmentation(mixup=share))["share"] > 0 for view in range(4)]
    assert float(torch.cat(mixed).float().mean()) == pytest.approx(share, abs=0.04)


def test_each_epoch_is_an_order_of_all_rows_of_its_own() -> None:
    orders = [shuffled(50, seed, epoch) for seed in (0, 1) for epoch in range(4)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
    assert len({tuple(order.tolist()) for order in orders}) == len(orders)
    assert torch.equal(shuffled(50, 1, 2), orders[6])


def test_resizing_down_by_a_whole_factor_is_what_pillow_does() -> None:
    """Both are the antialiased triangle filter; Pillow rounds to 8 bits."""
    from PIL import Image

    image = np.random.default_rng(2).integers(0, 256, (1, 60, 90, 3), np.uint8)
    ours = resize(image, 30)
    theirs = np.asarray(Image.fromarray(image[0]).resize((30, 30), Image.Resampling.BILINEAR))
    assert ours.shape == (1, 3, 30, 30)
    assert np.abs(ours[0].permute(1, 2, 0).numpy() - theirs).max() <= 1.0


def test_labels_become_indices_in_the_order_of_the_classes() -> None:
    assert label_indices(["b", "a", "b"], ["a", "b", "c"]).tolist() == [1, 0, 1]
