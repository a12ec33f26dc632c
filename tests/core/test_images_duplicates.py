"""Near-duplicates: what must be found, what must not, and the real steel and tiles."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_parts import INDUSTRY, encoded, texture

from toolkit.tasks.image_classification.duplicates import (
    group_near_duplicates,
    near_duplicates,
    near_duplicates_of_new,
)
from toolkit.tasks.image_classification.fingerprints import Fingerprint, fingerprint, reduction_for
from toolkit.tasks.image_classification.images import decode_image


def printed(pixels: np.ndarray, *, quality: int = 90, reduction: int = 1) -> Fingerprint:
    return fingerprint(decode_image(encoded(pixels, quality=quality))[:, :, 0], reduction=reduction)


def pairs(prints: list[Fingerprint]) -> set[tuple[int, int]]:
    return {(match.first, match.second) for match in near_duplicates(prints)}


def window(surface: np.ndarray, top: int, left: int, side: int = 120) -> np.ndarray:
    return surface[top : top + side, left : left + side]


PLANTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "encoded anew": lambda surface: window(surface, 40, 40),
    "darker": lambda surface: window(surface, 40, 40) * 0.5 + 10,
    "brighter, partly white": lambda surface: window(surface, 40, 40) * 1.5 + 20,
    "shifted": lambda surface: window(surface, 63, 19),
    "half shifted": lambda surface: window(surface, 40, 80),
    "shifted and darker": lambda surface: window(surface, 10, 57) * 0.7,
    "turned by 180": lambda surface: np.rot90(window(surface, 40, 40), 2),
    "turned by 90": lambda surface: np.rot90(window(surface, 40, 40)),
    "mirrored": lambda surface: window(surface, 40, 40)[:, ::-1],
    "upside down": lambda surface: window(surface, 40, 40)[::-1],
    "noisy": lambda surface: window(surface, 40, 40) + np.random.default_rng(5).normal(0, 10, (120, 120)),
    "lit from one side": lambda surface: window(surface, 40, 40) * np.linspace(0.6, 1.2, 120),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_near_duplicate_is_found_and_nothing_else(plant: str) -> None:
    surfaces = [texture(seed, 200) for seed in range(12)]
    originals = [printed(window(surface, 40, 40)) for surface in surfaces]
    planted = [printed(PLANTS[plant](surface), quality=60) for surface in surfaces[:4]]
    assert pairs(originals + planted) == {(index, 12 + index) for index in range(4)}


def test_turned_pairs_say_so_and_overlap_is_a_share() -> None:
    surface = texture(3, 200)
    prints = [printed(window(surface, 0, 0)), printed(window(surface, 0, 60)), printed(window(surface, 0, 0)[::-1])]
    by_pair = {(m.first, m.second): m for m in near_duplicates(prints)}
    assert not by_pair[0, 1].turned
    assert by_pair[0, 1].overlap == pytest.approx(0.5, abs=0.01)
    assert by_pair[0, 2].turned
    assert by_pair[0, 2].overlap == 1.0


def test_a_shift_by_part_of_the_reduction_is_found() -> None:
    surface = texture(4, 800, detail=9)
    prints = [printed(window(surface, y, x, 500), reduction=2) for y, x in ((0, 0), (111, 37), (299, 300))]
    assert (0, 1) in pairs(prints)
    assert (1, 2) in pairs(prints)


def test_surfaces_of_one_kind_are_not_duplicates() -> None:
    rng = np.random.default_rng(0)
    fine = [texture(1000 + seed, detail=2) for seed in range(30)]
    gradients = [120 + rng.normal(0, 2, (120, 120)) + np.linspace(0, 60, 120) for _ in range(30)]
    flat = [np.full((120, 120), level) for level in range(100, 120)]
    scratched = [rng.normal(120, 3, (120, 120)) for _ in range(30)]
    for image in scratched:
        column = int(rng.integers(10, 100))
        image[:, column : column + 5] += 90
    assert pairs([printed(image) for image in (*fine, *gradients, *flat, *scratched)]) == set()


def test_pictures_of_a_part_in_a_fixture_are_not_duplicates_but_copies_are() -> None:
    rng = np.random.default_rng(1)
    part = texture(7, 130, detail=9)
    part[40:90, 40:90] = 220
    pictures = []
    for _ in range(60):
        down, right = rng.integers(0, 4, 2)
        picture = window(part, down, right).copy() + texture(int(rng.integers(1 << 20)), detail=4) * 0.15
        y, x = rng.integers(10, 100, 2)
        picture[y : y + 5, x : x + 12] -= 60
        pictures.append(picture)
    prints = [printed(picture) for picture in (*pictures, *(picture * 0.8 for picture in pictures[:5]))]
    assert pairs(prints) == {(index, 60 + index) for index in range(5)}


def test_sides_spare_only_pairs_that_others_join() -> None:
    surface = texture(8, 200)
    prints = [printed(window(surface, 10 * step, 0)) for step in range(6)]
    sides = [0, 0, 0, 0, 1, 1]
    every = near_duplicates(prints)
    spared = near_duplicates(prints, sides)
    assert len(every) == 15
    across = [match for match in every if sides[match.first] != sides[match.second]]
    assert [match for match in spared if sides[match.first] != sides[match.second]] == across
    assert len(spared) < len(every)
    assert set(group_near_duplicates(6, [(m.first, m.second) for m in spared])) == {0}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_new_image_is_found_to_show_what_a_known_one_shows(plant: str) -> None:
    surfaces = [texture(seed, 200) for seed in range(12)]
    known = [printed(window(surface, 40, 40)) for surface in surfaces]
    new = [printed(PLANTS[plant](surface), quality=60) for surface in surfaces[:4]]
    strange = [printed(texture(seed)) for seed in range(100, 108)]
    found = near_duplicates_of_new(known, strange + new, [False] * 6 + [True] * 6)
    assert {(match.first, match.second) for match in found} == {(index, 20 + index) for index in range(4)}


def test_new_images_group_as_they_would_among_all_and_known_pairs_are_not_looked_at() -> None:
    surface = texture(8, 260)
    strip = [printed(window(surface, 35 * step, 0)) for step in range(5)]
    others = [printed(texture(seed)) for seed in range(20, 24)]
    known, new = [strip[0], strip[1], *others[:2]], [strip[2], *others[2:], strip[3], strip[4]]
    found = [(match.first, match.second) for match in near_duplicates_of_new(known, new, [False, False, True, True])]
    assert found == sorted(found)
    assert all(second >= 4 for _, second in found)
    of_all = [(match.first, match.second) for match in near_duplicates(known + new)]
    assert group_near_duplicates(9, [*found, (0, 1)]) == group_near_duplicates(9, of_all)
    assert near_duplicates_of_new(known, [], [True] * 4) == near_duplicates_of_new([], new, []) == []


def test_a_crowd_of_new_images_hides_no_known_one() -> None:
    rng = np.random.default_rng(3)

    def noisy(pixels: np.ndarray, spread: float) -> Fingerprint:
        return printed(pixels + rng.normal(0, spread, pixels.shape))

    surfaces = [texture(seed, 200) for seed in range(60)]
    known = [printed(window(surface, 40, 40)) for surface in surfaces]
    crowd = [noisy(texture(900 + n // 150), 3) for n in range(300)]  # two scenes: of its pairs, half are the same
    planted = [noisy(window(surfaces[7], 90, 20), 15), noisy(window(surfaces[59], 40, 40)[::-1], 15)]
    found = near_duplicates_of_new(known, crowd + planted, [False] * 50 + [True] * 10)
    assert {(m.first, m.second) for m in found if m.first < 60} == {(7, 360), (59, 361)}
    groups = group_near_duplicates(362, [(m.first, m.second) for m in found])
    assert set(groups[60:360]) == {60, 210}


def test_flat_images_are_known_and_new_without_a_pair() -> None:
    flat = [printed(np.full((60, 60), level)) for level in range(100, 160)]
    assert near_duplicates_of_new(flat, flat, [True] * 60) == []


def test_few_or_tiny_images() -> None:
    assert near_duplicates([]) == []
    assert near_duplicates([printed(texture(0))]) == []
    assert pairs([printed(texture(seed, 16)) for seed in range(8)]) == set()
    assert reduction_for([]) == 1
    assert reduction_for([200, 200, 4000]) == 1
    assert reduction_for([640]) == 3


def test_one_giant_among_others_is_shrunk_further() -> None:
    assert max(fingerprint(np.zeros((10, 8000), np.uint8)).band.shape) <= 2000


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_groups_are_the_connected_components(edges: list[tuple[int, int]]) -> None:
    groups = group_near_duplicates(20, edges)
    reached = {index: {index} for index in range(20)}
    for _, (a, b) in itertools.product(range(20), edges):  # a slow closure as the oracle
        both = reached[a] | reached[b]
        reached[a] = reached[b] = both
        for index in both:
            reached[index] = both
    assert groups == [min(reached[index]) for index in range(20)]


def test_magnetic_tiles_fall_into_their_exposures() -> None:
    if not INDUSTRY.is_dir():
        pytest.skip("shared/data/industry is not here")
    paths = sorted(INDUSTRY.glob("magnetic-tile/test/[cf]r*/*.jpg"), key=lambda p: int(p.stem.split("_")[-1]))
    prints = [fingerprint(decode_image(path.read_bytes())[:, :, 0], reduction=2) for path in paths]
    found = [(m.first, m.second) for m in near_duplicates(prints)]
    # 54 pictures of cracks and fray: a tile was shot at six exposures, one after the other, some tiles more than once,
    # and some of the exposures carry another label
    groups = Counter(group_near_duplicates(len(paths), found))
    assert 9 <= len(groups) <= 14
    assert max(groups.values()) <= 18
    place = {path: index for index, path in enumerate(paths)}
    cracks = [place[p] for p in paths if p.parent.name == "crack" and 32128 <= int(p.stem.split("_")[-1]) <= 32235]
    of = group_near_duplicates(len(paths), found)
    assert len(cracks) == 6
    assert len({of[index] for index in cracks}) == 1
