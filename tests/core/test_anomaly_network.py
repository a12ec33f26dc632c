"""Detectors over pyramids of features: against SciPy's distances, PyTorch's own graph, and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from toolkit.compile.export import Preprocessing, export_network, join
from toolkit.protocols import PredictorFacts
from toolkit.serving.sessions import OnnxPredictor
from toolkit.tasks.anomaly_maps.network import (
    OUTPUTS,
    SHRINKAGE,
    STEADY,
    STEADY_PLACES,
    DetectingNet,
    Detector,
    Foretelling,
    PyramidNet,
    Standard,
    Surprise,
    TeacherPyramid,
    fit_detector,
    highest,
    joined,
    limit_of,
    surprises,
)
from toolkit.tasks.anomaly_maps.predictors import TorchDetector, read_program, write_program
from toolkit.tasks.anomaly_maps.showing import coded, detail, heated

BLOCKS = ((8, 1), (16, 2), (16, 1), (24, 2))


def pyramid() -> PyramidNet:
    torch.manual_seed(0)
    return PyramidNet(channels=1, stem=8, blocks=BLOCKS, seen=(2, 3)).eval()


def levels(rows: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 3, 8, 8, generator=generator), torch.randn(rows, 4, 4, 4, generator=generator)]


def halves(maps: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    return [[level[:2] for level in maps], [level[2:] for level in maps]]


def test_a_pyramid_is_seen_at_an_eighth_and_a_sixteenth() -> None:
    maps = pyramid()(torch.rand(2, 1, 64, 64))
    assert [tuple(level.shape) for level in maps] == [(2, 16, 8, 8), (2, 24, 4, 4)]


def test_a_teacher_is_seen_at_the_layers_it_names_in_their_order() -> None:
    network = pyramid()
    seen = TeacherPyramid(network, ("blocks.2", "blocks.3"))
    pixels = torch.rand(2, 1, 64, 64)
    for mine, theirs in zip(seen(pixels), network(pixels), strict=True):
        assert torch.equal(mine, theirs)


def test_distances_are_those_of_mahalanobis_from_what_the_region_shows() -> None:
    maps = levels(6)
    detector = fit_detector(lambda: [maps])
    places = joined(maps).double().numpy()
    mean = places.mean(axis=0)
    centre = (6 * mean + STEADY * mean.mean(axis=(1, 2), keepdims=True)) / (6 + STEADY)
    rest = np.moveaxis(places - centre, 1, 3)
    corners = [(row, column) for row in (0, 4) for column in (0, 4)]
    regions = [rest[:, row : row + 4, column : column + 4].reshape(-1, 7) for row, column in corners]
    shared = np.mean([region.T @ region / len(region) for region in regions], axis=0)
    plain = np.empty((6, 8, 8))
    for (row, column), region in zip(corners, regions, strict=True):
        covariance = (region.T @ region + STEADY_PLACES * shared) / (len(region) + STEADY_PLACES)
        inverse = np.linalg.inv(covariance + SHRINKAGE * shared.diagonal().mean() * np.eye(7))
        found = [mahalanobis(place, np.zeros(7), inverse) / np.sqrt(7) for place in region]
        plain[:, row : row + 4, column : column + 4] = np.reshape(found, (6, 4, 4))
    usual = (6 * plain.mean(axis=0) + STEADY * plain.mean()) / (6 + STEADY)
    np.testing.assert_allclose(detector.distances(maps).numpy(), plain / usual, rtol=1e-4)


def test_what_is_good_in_one_region_is_strange_in_another() -> None:
    """An edge at the left of every good part, and then one in the middle of a part."""
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(40, 3, 8, 8, generator=generator), torch.randn(40, 4, 4, 4, generator=generator)]
    maps[0][:, :, :, :3] += 6
    detector = fit_detector(lambda: [maps])
    odd = [level[:1].clone() for level in maps]
    odd[0][:, :, :, 5] += 6
    assert float(detector.distances(odd)[0, :, 5].mean()) > 1.5 * float(detector.distances(maps)[:, :, 1].mean())


def test_what_is_usual_at_a_place_is_not_strange_there() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(40, 3, 8, 8, generator=generator), torch.randn(40, 4, 4, 4, generator=generator)]
    maps[0][:, :, 0, 0] *= 4  # a corner that varies in every good picture
    found = fit_detector(lambda: [maps]).distances(maps).mean(dim=0)
    assert float((found / found.mean()).max()) < 1.5


def test_a_detector_is_fitted_batch_by_batch_as_at_once() -> None:
    maps = levels(6)
    at_once, in_parts = fit_detector(lambda: [maps]), fit_detector(lambda: halves(maps))
    torch.testing.assert_close(at_once.whiten, in_parts.whiten)
    torch.testing.assert_close(at_once.centre, in_parts.centre)


def test_features_that_never_vary_do_no_harm() -> None:
    maps = levels(4)
    maps[0][:, 1] = 0.5
    assert torch.isfinite(fit_detector(lambda: [maps]).distances(maps)).all()
    still = [torch.ones_like(level) for level in maps]
    assert torch.isfinite(fit_detector(lambda: [still]).distances(maps)).all()


def test_above_the_limit_is_a_defect_and_at_it_a_tie() -> None:
    detector = Detector(7, (8, 8))
    detector.limit.fill_(2.0)
    maps = [torch.zeros(3, 3, 8, 8), torch.zeros(3, 4, 4, 4)]
    found = detector.distances([level + 1 for level in maps])
    detector.limit.copy_(found.max())
    said, heat = detector(*[level + torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1) for level in maps])
    assert said[0, 0] < 0.5 < said[2, 0]
    assert said[1, 0] == pytest.approx(0.5, abs=1e-5)
    torch.testing.assert_close(said.sum(dim=1), torch.ones(3))
    assert heat.flatten(1).amax(dim=1).tolist() == pytest.approx([0.5, 1, 2], rel=1e-4)


@pytest.mark.parametrize(("rows", "overkill"), [(99, 0.05), (199, 0.1), (19, 0.05)])
def test_the_limit_lets_its_share_of_good_pictures_through(rows: int, overkill: float) -> None:
    """A conformal quantile: of new good pictures, a share of `overkill` at most lies above it on average."""
    generator = torch.Generator().manual_seed(rows)
    above = [
        float(
            (torch.rand(1000, generator=generator) > limit_of(torch.rand(rows, generator=generator), overkill))
            .float()
            .mean()
        )
        for _ in range(300)
    ]
    assert np.mean(above) == pytest.approx(overkill, abs=0.01)


def test_few_pictures_put_the_limit_at_the_highest() -> None:
    assert limit_of(torch.tensor([1.0, 3.0, 2.0]), 0.05) == 3.0


def test_the_shipped_graph_says_what_torch_says() -> None:
    network = pyramid()
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (5, 80, 72, 1), dtype=np.uint8)
    maps = [network(torch.rand(8, 1, 64, 64))]
    module = DetectingNet(network, fit_detector(lambda: [[level.detach() for level in maps[0]]])).eval()
    module.detector.limit.fill_(3.0)
    exported = join(export_network(module, 1, 64, OUTPUTS), Preprocessing(1, 64))
    facts = PredictorFacts("student", "", "")
    shipped = OnnxPredictor(exported, facts=facts).predict({"image": images})
    expected = TorchDetector(module, 64, facts).predict({"image": images})
    assert shipped["map"].shape == (5, 8, 8)
    for name in OUTPUTS:
        np.testing.assert_allclose(shipped[name], expected[name], rtol=2e-3, atol=2e-4)


def test_a_student_foretells_in_its_teachers_channels() -> None:
    foretold = Foretelling(pyramid(), (16, 24), (5, 7))(torch.rand(2, 1, 64, 64))
    assert [tuple(level.shape) for level in foretold] == [(2, 5, 8, 8), (2, 7, 4, 4)]


def test_levels_are_standard_over_good_parts() -> None:
    maps = [level * 3 + 2 for level in levels(30)]
    for level in Standard.of(maps)(maps):
        torch.testing.assert_close(level.mean(dim=(0, 2, 3)), torch.zeros(level.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(level.std(dim=(0, 2, 3)), torch.ones(level.shape[1]))


def test_what_was_foretold_is_no_surprise() -> None:
    """By hand: at one place the teacher points along one axis, the student first there too and then along the other."""
    teacher = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
    assert surprises([teacher], [teacher * 7])[0].abs().max() == 0
    other = surprises([teacher], [torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)])[0]
    assert other.flatten().tolist() == [1.0, -1.0]


def test_a_written_detector_is_read_without_its_classes_and_ships_the_same(tmp_path: Path) -> None:
    teacher, student = TeacherPyramid(pyramid(), ("blocks.2", "blocks.3")), Foretelling(pyramid(), (16, 24), (16, 24))
    pixels = torch.rand(8, 1, 64, 64)
    pair = Surprise(teacher, student.eval(), Standard.of([level.detach() for level in teacher(pixels)])).eval()
    module = DetectingNet(pair, fit_detector(lambda: [[level.detach() for level in pair(pixels)]])).eval()
    write_program(tmp_path / "student.pt2", module, 1, 64)
    read = read_program(tmp_path / "student.pt2")
    for mine, theirs in zip(read(pixels[:3]), module(pixels[:3]), strict=True):
        torch.testing.assert_close(mine, theirs)
    shipped = OnnxPredictor(
        join(export_network(read, 1, 64, OUTPUTS), Preprocessing(1, 64)), facts=PredictorFacts("student", "", "")
    )
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 1), dtype=np.uint8)
    expected = TorchDetector(read, 64, PredictorFacts("student", "", "")).predict({"image": images})
    for name in OUTPUTS:
        np.testing.assert_allclose(shipped.predict({"image": images})[name], expected[name], rtol=2e-3, atol=2e-4)


def test_the_highest_place_is_a_pictures_score() -> None:
    maps = levels(5)
    detector = fit_detector(lambda: [maps])
    expected = detector.distances(maps).flatten(1).amax(dim=1)
    torch.testing.assert_close(highest(detector, halves(maps)), expected)


def test_an_answer_says_where_in_the_pictures_own_pixels() -> None:
    scores = np.full((4, 8), 0.3, np.float32)
    scores[1, 2:4], scores[3, 7] = 1.5, 4.0
    said = detail({"map": scores}, (40, 160))
    assert said["score"] == 4.0
    assert said["regions"] == [{"box": [140, 30, 160, 40], "score": 4.0}, {"box": [40, 10, 80, 20], "score": 1.5}]
    assert said["map"].startswith("data:image/png;base64,")
    assert coded(np.array([[0.0, 1.0, 2.0, 9.0, np.nan]], np.float32)).tolist() == [[0, 128, 255, 255, 255]]


def test_heat_is_laid_where_the_picture_is_strange_alone() -> None:
    picture = np.full((32, 32, 1), 100, np.uint8)
    code = np.zeros((4, 4), np.uint8)
    code[0, 0] = 255
    shown = heated(picture, code)
    assert shown.shape == (32, 32, 3)
    assert (shown[20:, 20:] == 100).all()
    red, green, blue = shown[2, 2].astype(int)
    assert red > green
    assert red > blue
