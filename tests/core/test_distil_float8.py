"""E4M3 in blocks: roundings by hand and by ml_dtypes, products against numpy's, and bounds that the format sets."""

from __future__ import annotations

import copy

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from toolkit.distil.float8 import ACROSS, ALONG, SQUARE, float8_products, layers, rounded
from toolkit.tasks.image_classification.family import describe_student, network_of

HALF_STEP = 2.0**-4
"""The largest relative error of a rounding to three bits of mantissa."""

HALF_SUBNORMAL = 2.0**-10 / 448
"""Half the step of E4M3's subnormals, 2^-9, in units of the block's largest value, which becomes 448."""


def by_ml_dtypes(values: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """Block by block, in float32, with ml_dtypes' rounding; nothing grows past its block's largest value."""
    found = np.zeros_like(values)
    for row in range(0, values.shape[0], block[0]):
        for column in range(0, values.shape[1], block[1]):
            part = values[row : row + block[0], column : column + block[1]]
            largest = np.abs(part).max()
            if largest:
                scale = np.float32(largest) / np.float32(448)
                codes = np.clip(part / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn)
                found[row : row + block[0], column : column + block[1]] = np.clip(
                    codes.astype(np.float32) * scale, -largest, largest
                )
    return found


def normal(*shape: int, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    """Normal, and where `spread` is more than one, over as many powers of ten."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, generator=generator)
    return values * 10 ** (torch.rand(*shape, generator=generator) * (spread - 1))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.0, 0.0),
        (1.0, 1.0),
        (1.0625, 1.0),  # half way from 1.000 to 1.001 in binary: to the even one
        (1.1875, 1.25),  # half way from 1.001 to 1.010
        (1.07, 1.125),
        (0.3, 0.3125),
        (-17.0, -16.0),
        (19.0, 20.0),
        (400.0, 384.0),
        (432.0, 448.0),
        (-447.0, -448.0),
        (2.0**-6, 2.0**-6),  # the smallest normal
        (7 * 2.0**-9, 7 * 2.0**-9),  # the largest subnormal
        (15 * 2.0**-10, 2.0**-6),  # half way between those two
        (2.0**-9, 2.0**-9),  # the smallest subnormal
        (3 * 2.0**-10, 2.0**-8),  # half way from one to two of it
        (2.0**-10, 0.0),  # half way from none to one
        (1.01 * 2.0**-10, 2.0**-9),
    ],
)
def test_roundings_by_hand(value: float, wanted: float) -> None:
    """Beside 448 a value is in its own units."""
    assert rounded(torch.tensor([[value, 448.0]]), ALONG).tolist() == [[wanted, 448.0]]


def test_every_number_of_the_format_stays() -> None:
    codes = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    finite = torch.from_numpy(codes[np.isfinite(codes)]).view(1, -1)
    assert finite.numel() == 254
    assert float(finite.max()) == 448
    assert torch.equal(rounded(finite, SQUARE), finite)


def test_a_sweep_of_all_signs_exponents_and_seven_bits_agrees_with_ml_dtypes() -> None:
    bits = np.arange(2**16, dtype=np.uint32) << 16
    values = bits.view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) <= 448)]
    values = np.stack([values, np.full_like(values, 448)], axis=1)
    wanted = values.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    np.testing.assert_array_equal(rounded(torch.from_numpy(values), ALONG).numpy(), wanted)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.sampled_from([1, 2, 127, 128, 129, 260]),
    columns=st.sampled_from([1, 16, 128, 130, 257]),
    block=st.sampled_from([ALONG, ACROSS, SQUARE]),
    seed=st.integers(0, 2**20),
    spread=st.sampled_from([1.0, 6.0, 20.0]),
)
def test_blocks_agree_with_ml_dtypes(rows: int, columns: int, block: tuple[int, int], seed: int, spread: float) -> None:
    values = normal(rows, columns, seed=seed, spread=spread)
    values[0] = 0
    np.testing.assert_array_equal(rounded(values, block).numpy(), by_ml_dtypes(values.numpy(), block))
    assert torch.equal(rounded(torch.stack([values, values]), block)[1], rounded(values, block)), "of each matrix alone"


def test_scales_of_blocks_by_hand() -> None:
    """3 x 2^-10 is half way between two subnormals beside 448 and becomes 2^-8; beside 7, which makes the scale 2^-6,
    it is 0.1875, which E4M3 holds."""
    small = 3 * 2.0**-10
    values = torch.full((256, 256), small)
    values[0, 0], values[0, 128] = 448.0, 7.0
    square = rounded(values, SQUARE)
    assert square[1, 1] == square[127, 127] == 2.0**-8
    assert square[1, 128] == square[128, 0] == small
    along = rounded(values, ALONG)
    assert along[0, 127] == 2.0**-8
    assert along[0, 129] == along[1, 0] == small
    across = rounded(values, ACROSS)
    assert across[127, 0] == 2.0**-8
    assert across[128, 0] == across[0, 1] == across[127, 128] == small


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-39, 1e-30, 1.0, 1e30, 3.4028234e38])
def test_finite_stays_finite(size: float) -> None:
    values = torch.tensor([[size, -size, size / 3, 0.0]])
    found = rounded(values, ALONG)
    assert torch.isfinite(found).all()
    assert (found.abs() <= size).all()
    if size >= 1e-30:
        np.testing.assert_allclose(found, values, rtol=HALF_STEP)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_hidden(broken: float) -> None:
    found = rounded(torch.tensor([[1.0, broken], [1.0, 2.0]]), ALONG)
    assert not torch.isfinite(found[0]).all()
    assert found[1].tolist() == [1.0, 2.0]


def through(layer: nn.Module, inputs: torch.Tensor, slope: torch.Tensor) -> list[torch.Tensor]:
    """Outputs in eight bits, and the gradients of inputs and weight; the backward pass runs outside."""
    inputs = inputs.clone().requires_grad_()
    with float8_products(layer, [""]):
        outputs = layer(inputs)
    outputs.backward(slope)
    weight = layer.get_parameter("weight")
    assert inputs.grad is not None
    assert weight.grad is not None
    return [outputs.detach(), inputs.grad, weight.grad]


def test_a_linear_layer_is_numpys_product_of_what_ml_dtypes_rounds() -> None:
    layer = nn.Linear(200, 150)
    inputs, slope = normal(140, 200, spread=3), normal(140, 150, seed=1, spread=3)
    x, g, w = (part.detach().numpy() for part in (inputs, slope, layer.weight))
    wanted = [
        by_ml_dtypes(x, (1, 128)) @ by_ml_dtypes(w, (128, 128)).T + layer.bias.detach().numpy(),
        by_ml_dtypes(g, (1, 128)) @ by_ml_dtypes(w, (128, 128)),
        by_ml_dtypes(g, (128, 1)).T @ by_ml_dtypes(x, (128, 1)),
    ]
    for found, known in zip(through(layer, inputs, slope), wanted, strict=True):
        np.testing.assert_allclose(found.numpy(), known, rtol=1e-4, atol=1e-4 * np.abs(known).max())
    np.testing.assert_allclose(layer.bias.grad.numpy(), g.sum(axis=0), rtol=1e-4, atol=1e-3)  # type: ignore[union-attr]


def error(values: torch.Tensor) -> torch.Tensor:
    """Most that a rounding moves each value: no block's largest is larger than the largest of all."""
    return values.abs() * HALF_STEP + values.abs().max() * HALF_SUBNORMAL


LAYERS = {
    "linear": lambda: (nn.Linear(300, 20), (9, 300)),
    "linear of sequences": lambda: (nn.Linear(64, 20), (2, 5, 64)),
    "pointwise": lambda: (nn.Conv2d(32, 8, 1, bias=False), (3, 32, 5, 4)),
    "strided": lambda: (nn.Conv2d(3, 8, 7, 4, 3), (2, 3, 21, 17)),
    "dilated": lambda: (nn.Conv2d(20, 6, (3, 5), (1, 2), (2, 1), (2, 1)), (2, 20, 9, 11)),
    "grouped": lambda: (nn.Conv2d(16, 12, 3, 1, 1, groups=2), (2, 16, 6, 7)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_as_near_as_the_format_allows(name: str) -> None:
    """|xy' - xy| <= (|x| + dx)(|y| + dy) - |x||y| for each product, summed as the layer sums; autograd of the layer in
    float64 on absolute values does those sums."""
    torch.manual_seed(3)
    layer, shape = LAYERS[name]()
    inputs = normal(*shape, spread=2)
    plain = layer(inputs)
    slope = normal(*plain.shape, seed=1, spread=2)
    found = through(layer, inputs, slope)
    exact = sums(layer, inputs, layer.weight, slope, layer.bias)
    values = [part.detach().double().abs() for part in (inputs, layer.weight, slope)]
    least = sums(layer, *values, None)
    most = sums(layer, *(part + error(part) for part in values), None)
    for mine, true, low, high in zip(found, exact, least, most, strict=True):
        assert mine.shape == true.shape
        off = (mine.double() - true).abs()
        assert (off <= (high - low) + 1e-5 * high).all()
        assert off.max() > 1e-4 * true.abs().max(), "this is not float32"
        assert float((mine.double() - true).norm() / true.norm()) < 2 * HALF_STEP


def sums(
    layer: nn.Module, x: torch.Tensor, w: torch.Tensor, g: torch.Tensor, bias: torch.Tensor | None
) -> list[torch.Tensor]:
    """The layer's output and gradients in float64."""
    other = copy.deepcopy(layer).double()
    other.weight.data.copy_(w)
    other.weight.grad = None
    if other.bias is not None:
        other.bias.data.copy_(torch.zeros(()) if bias is None else bias)
    inputs = x.detach().double().requires_grad_()
    outputs = other(inputs)
    outputs.backward(g.double())
    return [outputs.detach(), inputs.grad, other.weight.grad]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("size", "slope"), [(0.0, 0.0), (1e-42, 1e-42), (1.0, 0.0), (0.0, 1.0), (1e15, 1e15), (1e30, 1.0), (1.0, 1e30)]
)
def test_layers_stay_finite_where_float32_does(size: float, slope: float) -> None:
    layer = nn.Linear(40, 5)
    for part in through(layer, size * normal(7, 40), slope * normal(7, 5)):
        assert torch.isfinite(part).all()


def test_weights_of_nothing_give_the_bias() -> None:
    layer = nn.Linear(40, 5)
    nn.init.zeros_(layer.weight)
    with float8_products(layer, [""]):
        assert torch.equal(layer(normal(7, 40)), layer.bias.expand(7, 5))


def test_depthwise_layers_and_the_head_stay_in_float32() -> None:
    network = network_of(describe_student("nano", channels=1, size_px=32, classes=4))
    names = layers(network)
    assert names == ["features.0.0", *(f"features.{i}.pointwise.0" for i in range(1, 7))]
    assert layers(nn.Sequential(nn.Conv2d(16, 4, 3), nn.Conv2d(4, 4, 3))) == ["0"], "the last convolution is the head"
    assert layers(nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)), "0") == ["1"], "a head that is named"
    assert layers(nn.Sequential(nn.Linear(15, 16), nn.Linear(16, 16))) == []
    assert layers(nn.ReLU()) == []


def test_layers_that_compute_something_else_are_left_alone() -> None:
    class Doubled(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(inputs)

    circular, same = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), nn.Conv2d(4, 4, 3, padding="same")
    assert layers(nn.Sequential(Doubled(16, 16), circular, same, nn.Linear(16, 2))) == []


def test_outside_it_is_the_module_it_was() -> None:
    network = network_of(describe_student("nano", channels=1, size_px=32, classes=4)).eval()
    pixels, before = normal(2, 1, 32, 32), copy.deepcopy(network)
    classes = [type(module) for module in network.modules()]
    with float8_products(network, layers(network)):
        assert list(network.state_dict()) == list(before.state_dict())
        assert not torch.equal(network(pixels), before(pixels))
    with pytest.raises(RuntimeError), float8_products(network, layers(network)):
        network(pixels.expand(2, 2, 32, 32))
    assert torch.equal(network(pixels), before(pixels))
    assert [type(module) for module in network.modules()] == classes
    assert not any("forward" in vars(module) for module in network.modules())
