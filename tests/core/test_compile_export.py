"""torch to ONNX: the shipped graph answers as the torch student, takes any picture, and resizes as torch does."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from toolkit.compile.export import NETWORK, Preprocessing, export_network, join
from toolkit.compile.parity import compare_outputs
from toolkit.compile.quantise import quantise_static
from toolkit.protocols import PredictorFacts
from toolkit.serving.sessions import OnnxPredictor
from toolkit.tasks.image_classification.augment import resize
from toolkit.tasks.image_classification.family import describe_student, network_of
from toolkit.tasks.image_classification.predictors import TorchPredictor

SIZE, CLASSES = 48, 4
SIZES = [(48, 48), (31, 57), (96, 96), (200, 120), (1, 1), (7, 300)]
FACTS = PredictorFacts("compiled", "", "")


@contextlib.contextmanager
def unchanged_logging() -> Iterator[None]:
    """Exporters like to silence the whole process: what is inside must leave its loggers as they were."""
    before = {name: logging.getLogger(name).level for name in ("", "torch.onnx")}
    yield
    assert {name: logging.getLogger(name).level for name in before} == before


@dataclass(frozen=True)
class Exported:
    """A student with lived-in batch norms, and its two exports."""

    channels: int
    module: torch.nn.Module = field(repr=False)
    network: bytes = field(repr=False)
    joined: bytes = field(repr=False)

    @property
    def torch(self) -> TorchPredictor:
        return TorchPredictor(self.module, SIZE, FACTS)

    @property
    def onnx(self) -> OnnxPredictor:
        return OnnxPredictor(self.joined, facts=FACTS)


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "rgb"])
def exported(request: pytest.FixtureRequest) -> Exported:
    channels: int = request.param
    torch.manual_seed(channels)
    module = network_of(describe_student("nano", channels=channels, size_px=SIZE, classes=CLASSES))
    module.train()
    with torch.no_grad():
        for _ in range(10):
            module(torch.rand(16, channels, SIZE, SIZE))
    module.eval()
    with torch.no_grad():
        module.head.weight.mul_(20)
    with unchanged_logging():
        network = export_network(module, channels, SIZE)
    return Exported(channels, module, network, join(network, Preprocessing(channels, SIZE)))


def pictures(count: int, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, height, width]).integers(0, 256, (count, height, width, channels), np.uint8)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_shipped_graph_answers_as_the_torch_student(
    exported: Exported, height: int, width: int, count: int
) -> None:
    image = pictures(count, height, width, exported.channels)
    ours = exported.torch.predict({"image": image})["probabilities"]
    shipped = exported.onnx.predict({"image": image})["probabilities"]
    assert shipped.shape == (count, CLASSES)
    assert shipped.dtype == np.float32
    np.testing.assert_allclose(shipped, ours, atol=1e-4)
    np.testing.assert_allclose(shipped.sum(axis=1), 1, atol=1e-5)


def test_a_batch_answers_as_its_pictures_alone(exported: Exported) -> None:
    image = pictures(6, 60, 60, exported.channels)
    together = exported.onnx.predict({"image": image})["probabilities"]
    alone = [exported.onnx.predict({"image": one[None]})["probabilities"][0] for one in image]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)
    assert len({tuple(np.round(row, 3)) for row in together}) > 1


def preprocessed(model: bytes, image: np.ndarray) -> np.ndarray:
    """What the network is given: the output of the last node of the graph's preprocessing."""
    graph = onnx.load_from_string(model)
    last = [node for node in graph.graph.node if node.name.startswith("preprocess/")][-1].output[0]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run([last], {"image": image})[0]
    return found


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_preprocessing_is_torchs_antialiased_resize(exported: Exported, height: int, width: int) -> None:
    image = pictures(2, height, width, exported.channels, seed=1)
    wanted = resize(image, SIZE).numpy() / 255
    assert np.abs(preprocessed(exported.joined, image) - wanted).max() <= 0.02 / 255


def test_the_file_says_what_it_takes_and_nothing_of_where_it_was_made(exported: Exported) -> None:
    model = onnx.load_from_string(exported.joined)
    onnx.checker.check_model(model, full_check=True)
    (taken,), (given,) = model.graph.input, model.graph.output
    assert (taken.name, given.name) == ("image", "probabilities")
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim][1] == CLASSES
    assert len(model.opset_import) == 1
    for word in (b"/home", b"site-packages", b".py", b"torch.nn"):
        assert word not in exported.joined
    assert exported.joined == join(exported.network, Preprocessing(exported.channels, SIZE))


def calibration(exported: Exported) -> Iterator[dict[str, np.ndarray]]:
    for seed in range(12):
        yield {"image": pictures(1, 64, 64, exported.channels, seed=seed)}


@pytest.fixture(scope="module")
def quantised(exported: Exported) -> bytes:
    with unchanged_logging():
        return quantise_static(exported.joined, calibration(exported), reduce_range=False)


def test_int8_answers_much_as_fp32_does(exported: Exported, quantised: bytes) -> None:
    image = np.concatenate([pictures(1, 64, 64, exported.channels, seed=seed) for seed in range(20, 60)])
    exact = exported.onnx.predict({"image": image})["probabilities"]
    rough = OnnxPredictor(quantised, facts=FACTS).predict({"image": image})["probabilities"]
    np.testing.assert_allclose(rough.sum(axis=1), 1, atol=1e-5)
    assert compare_outputs(exact, rough).mean_difference < 0.05
    assert not np.array_equal(exact, rough)


def test_int8_takes_any_picture(exported: Exported, quantised: bytes) -> None:
    for count, height, width in ((1, 20, 90), (3, 200, 64)):
        found = OnnxPredictor(quantised, facts=FACTS).predict(
            {"image": pictures(count, height, width, exported.channels)}
        )
        assert found["probabilities"].shape == (count, CLASSES)


def test_int8_touches_nothing_but_the_network(exported: Exported, quantised: bytes) -> None:
    before, after = onnx.load_from_string(exported.joined).graph, onnx.load_from_string(quantised).graph
    outside = {node.name: node for node in before.node if not node.name.startswith(NETWORK)}
    assert outside
    kept = {node.name: node for node in after.node}
    for name, node in outside.items():
        assert kept[name].op_type == node.op_type
        assert list(kept[name].output) == list(node.output)
    made = {output: node for node in after.node for output in node.output}
    for node in after.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            readers = [other for other in after.node if set(node.output) & set(other.input)]
            assert all(
                reader.name.startswith(NETWORK) or reader.op_type in ("QuantizeLinear", "DequantizeLinear")
                for reader in readers
            )
    for name in outside:
        for taken in kept[name].input:
            if taken in made and name.startswith("preprocess/"):
                assert made[taken].op_type not in ("QuantizeLinear", "DequantizeLinear")
    assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in after.initializer)


def test_a_reduced_range_uses_seven_bits_of_the_weights(exported: Exported) -> None:
    reduced = onnx.load_from_string(quantise_static(exported.joined, calibration(exported), reduce_range=True))
    weights = [onnx.numpy_helper.to_array(t) for t in reduced.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    weights = [weight for weight in weights if weight.ndim == 4]
    assert weights
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) <= 64


def test_parity_by_hand() -> None:
    """Four rows; one decision of the two that the reference calls class 1 is lost."""
    reference = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]], np.float32)
    shipped = np.array([[0.9, 0.1], [0.7, 0.3], [0.3, 0.7], [0.6, 0.4]], np.float32)
    found = compare_outputs(reference, shipped)
    assert found.rows == 4
    assert found.largest_difference == pytest.approx(0.2, abs=1e-6)
    assert found.mean_difference == pytest.approx((0.1 * 2 + 0.2 * 2) / 8, abs=1e-6)
    assert (found.same_decision, found.worst_class) == (0.75, 0.5)


def test_parity_with_itself_is_whole() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(5), 30).astype(np.float32)
    found = compare_outputs(scores, scores)
    assert (found.largest_difference, found.same_decision, found.worst_class) == (0.0, 1.0, 1.0)
