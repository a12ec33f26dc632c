"""The ONNX session: from bytes, on the provider that was asked for, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from serving_parts import expected, mean_model

from toolkit.errors import EnvironmentUnfit
from toolkit.protocols import PredictorFacts
from toolkit.serving.refusals import ModelFault
from toolkit.serving.sessions import OnnxPredictor

FACTS = PredictorFacts(form="compiled", provider="", digest="d1")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 12, 9, 3), np.uint8)


def test_answers_as_the_arithmetic_says(images: np.ndarray) -> None:
    predictor = OnnxPredictor(mean_model()[0], facts=FACTS)
    np.testing.assert_allclose(predictor.predict({"image": images})["probabilities"], expected(images), atol=1e-5)


def test_facts_name_the_provider_that_runs_it() -> None:
    predictor = OnnxPredictor(mean_model()[0], facts=FACTS)
    assert predictor.facts == PredictorFacts("compiled", "CPUExecutionProvider", "d1")


def test_separate_weights_come_from_memory(images: np.ndarray) -> None:
    model, raw = mean_model(external=True)
    predictor = OnnxPredictor(model, facts=FACTS, weights={"weights": raw})
    np.testing.assert_allclose(predictor.predict({"image": images})["probabilities"], expected(images), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("providers", [("CUDAExecutionProvider",), ("BogusExecutionProvider", "CPUExecutionProvider")])
def test_no_silent_fallback_to_the_cpu(providers: tuple[str, ...]) -> None:
    with pytest.raises(EnvironmentUnfit):
        OnnxPredictor(mean_model()[0], facts=FACTS, providers=providers)


def test_a_broken_model_is_told_in_one_line() -> None:
    with pytest.raises(EnvironmentUnfit) as caught:
        OnnxPredictor(mean_model()[0][:100], facts=FACTS)
    assert "\n" not in caught.value.message


def test_an_input_of_another_shape_is_told() -> None:
    predictor = OnnxPredictor(mean_model()[0], facts=FACTS)
    with pytest.raises(ModelFault):
        predictor.predict({"image": np.zeros((1, 8, 8, 1), np.uint8)})
    with pytest.raises(ModelFault):
        predictor.predict({"picture": np.zeros((1, 8, 8, 3), np.uint8)})
