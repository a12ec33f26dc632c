"""Scores of anomaly detectors, against scikit-learn, SciPy and a sweep over every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from toolkit.score.maps import PRO_FALSE_ALARMS, picture_auroc, place_metrics, regions_of, tally

SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ties", [False, True])
def test_pictures_are_ranked_as_scikit_learn_says(seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    faulty = random.random(300) < 0.4
    scores = random.gamma(2, size=300) + faulty
    scores = np.round(scores) if ties else scores
    found = picture_auroc(scores, faulty, seed=seed)
    assert found is not None
    assert found.value == pytest.approx(roc_auc_score(faulty, scores))
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.2


def test_one_kind_of_picture_alone_cannot_be_ranked() -> None:
    assert picture_auroc(np.array([1.0, 2.0]), np.array([True, True])) is None
    assert picture_auroc(np.array([1.0, 2.0]), np.array([False, False])) is None


def test_two_perfect_and_two_hopeless_detectors() -> None:
    faulty = np.array([False, False, True, True])
    perfect, hopeless = picture_auroc(np.arange(4.0), faulty), picture_auroc(-np.arange(4.0), faulty)
    assert [one.value for one in (perfect, hopeless) if one] == [1, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_regions_are_numbered_as_scipy_does(seed: int) -> None:
    mask = np.random.default_rng(seed).random((40, 50)) < 0.3
    expected, count = ndimage.label(mask, structure=np.ones((3, 3)))
    found = regions_of(mask)
    assert found.max() == count
    pairs = set(zip(expected.ravel().tolist(), found.ravel().tolist(), strict=True))
    assert len(pairs) == count + 1  # one name each, and none twice


def test_a_snake_is_one_region() -> None:
    mask = np.zeros((21, 21), dtype=bool)
    mask[::4] = True
    mask[2::4, 0] = mask[1::4, 0] = mask[3::4, 0] = True
    assert regions_of(mask).max() == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_places_are_scored_as_scikit_learn_and_a_sweep_say(seed: int) -> None:
    maps, masks = drawn(seed)
    found = place_metrics([tally(*pair) for pair in zip(maps, masks, strict=True)], seed=seed)
    flat, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    assert found["pixel_auroc"].value == pytest.approx(roc_auc_score(truth, flat), abs=2e-3)
    assert found["aupro"].value == pytest.approx(swept_aupro(maps, masks), abs=5e-3)
    for metric in found.values():
        assert metric.low <= metric.value <= metric.high
        assert metric.n == len(maps)


def test_small_regions_count_as_much_as_large_ones() -> None:
    mask = np.zeros((32, 32), dtype=bool)
    mask[:16, :16] = mask[30, 30] = True
    large, small = np.zeros((32, 32), np.float32), np.zeros((32, 32), np.float32)
    large[:16, :16], small[30, 30] = 2, 2
    found = [place_metrics([tally(one, mask)])["aupro"].value for one in (large, small)]
    # Half of the regions is found at once; the rest lies in the lowest bin with all that is sound.
    assert found[0] == pytest.approx(found[1])
    assert found[0] > 0.5


def test_nothing_to_find_gives_no_figures() -> None:
    assert place_metrics([tally(np.ones((8, 8), np.float32), np.zeros((8, 8), bool))]) == {}
    assert place_metrics([tally(np.ones((8, 8), np.float32), np.ones((8, 8), bool))]) == {}


def drawn(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps of 12 pictures, half of them with two blots that are warm but not sharp."""
    random = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(12):
        mask = np.zeros((48, 48), dtype=bool)
        for _ in range(2 * (index % 2)):
            top, left = random.integers(0, 40, 2)
            mask[top : top + random.integers(2, 9), left : left + random.integers(2, 9)] = True
        scores = random.gamma(3, 0.2, size=(48, 48)) + ndimage.gaussian_filter(mask.astype(float), 1.5)
        maps.append(scores.astype(np.float32))
        masks.append(mask)
    return maps, masks


def swept_aupro(maps: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """AUPRO by its definition: every threshold, every region."""
    values, truth = np.stack(maps), np.stack(masks)
    labels = [ndimage.label(mask, structure=np.ones((3, 3))) for mask in masks]
    regions = [values[n][lab == r] for n, (lab, count) in enumerate(labels) for r in range(1, count + 1)]
    sound = np.sort(values[~truth])
    thresholds = np.quantile(sound, np.linspace(1, 0, 4001))
    alarms = np.array([(sound > t).mean() for t in thresholds])
    found = np.array([np.mean([(region > t).mean() for region in regions]) for t in thresholds])
    within = alarms <= PRO_FALSE_ALARMS
    last = np.interp(PRO_FALSE_ALARMS, alarms, found)
    across, up = np.append(alarms[within], PRO_FALSE_ALARMS), np.append(found[within], last)
    return float(np.trapezoid(up, across) / PRO_FALSE_ALARMS)
