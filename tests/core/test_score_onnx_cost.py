from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.errors import IntegrityError, UsageError
from toolkit.score.measure import NotMeasured
from toolkit.score.onnx_arena import ArenaPeak, arena_peak
from toolkit.score.onnx_cost import compare_costs, model_cost
from toolkit.score.onnx_weights import weight_bytes

# The same run on an arena that hands out exact chunks: its own peak is then what was asked for, with no waste in it.
# It is set up once a process, so this runs in one of its own.
EXACT_ARENA = """
import json, sys
import numpy as np, onnxruntime as ort
from onnxruntime.capi import _pybind_state as c
memory = c.OrtMemoryInfo("Cpu", c.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, c.OrtMemType.DEFAULT)
c.create_and_register_allocator(memory, c.OrtArenaCfg({"arena_extend_strategy": 1, "max_dead_bytes_per_chunk": 1}))
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.enable_mem_pattern = False
options.enable_profiling = True
options.profile_file_prefix = sys.argv[1] + "-exact"
options.add_session_config_entry("session.use_env_allocators", "1")
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
x = session.get_inputs()[0]
session.run(None, {x.name: np.zeros(x.shape, np.float32)})
nodes = [e["args"] for e in json.load(open(session.end_profiling())) if "mem_in_use_peak" in e.get("args", {})]
first, last = nodes[0], nodes[-1]
assert int(first["mem_in_use_peak"]) <= int(first["mem_bytes_in_use"]), "making the session took more than the run"
print(int(last["mem_in_use_peak"]) - int(first["mem_bytes_in_use"]) + int(first["mem_in_use_delta"]))
"""


def to_bytes(nodes, shape, weights, outputs=("y",), **attributes):
    """A model of one float input `x`; the shapes of its outputs are left to ONNX Runtime."""
    graph = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, **attributes)
    return model.SerializeToString()


def convolutions(channels, size=48):
    """A stack of 3x3 convolutions with stride 1, 2, 1, 2, ... and a mean at the end."""
    random, nodes, weights, before, last = np.random.default_rng(0), [], {}, 3, "x"
    for number, width in enumerate(channels):
        weights[f"w{number}"] = random.normal(size=(width, before, 3, 3)).astype(np.float32)
        stride = 1 + number % 2
        nodes += [
            helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1] * 4, strides=[stride] * 2),
            helper.make_node("Relu", [f"c{number}"], [f"r{number}"]),
        ]
        before, last = width, f"r{number}"
    nodes.append(helper.make_node("ReduceMean", [last], ["y"], axes=[2, 3]))
    return to_bytes(nodes, [1, 3, size, size], weights), {"x": np.zeros((1, 3, size, size), np.float32)}


def quantised_convolution(size=64):
    """One int8 convolution, whose kernel lays its input out anew in scratch memory."""
    random = np.random.default_rng(0)
    weights = {
        "scale": np.float32(0.02), "zero": np.uint8(128), "weight_zero": np.int8(0),
        "w": random.integers(-90, 90, (16, 8, 3, 3)).astype(np.int8),
    }  # fmt: skip
    inputs = ["q", "scale", "zero", "w", "scale", "weight_zero", "scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("QLinearConv", inputs, ["c"], pads=[1] * 4),
        helper.make_node("DequantizeLinear", ["c", "scale", "zero"], ["y"]),
    ]
    shape = [1, 8, size, size]
    return to_bytes(nodes, shape, {name: np.asarray(value) for name, value in weights.items()}), {
        "x": np.zeros(shape, np.float32)
    }


@pytest.fixture(scope="module")
def large():
    return convolutions([16, 32, 64, 64, 128])


@pytest.fixture(scope="module")
def small():
    return convolutions([8, 8, 16])


def test_weights_are_those_of_the_onnx_package(large):
    model = onnx.load_from_string(large[0])
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert weight_bytes(large[0]) == sum(array.nbytes for array in arrays) == 4 * 9 * (
        3 * 16 + 16 * 32 + 32 * 64 + 64 * 64 + 64 * 128
    )  # fmt: skip


def test_weights_of_every_kind_are_counted():
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["out"])], "branch", [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(7, np.float32), "inner")],
    )  # fmt: skip
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.zeros(5, np.float64)))
    choice = helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)
    packed = helper.make_tensor("nibbles", TensorProto.INT4, [5], [1, 2, 3, 4, 5])
    weights = {"flag": np.array(True), "half": np.zeros((3, 4), np.float16), "none": np.zeros((0, 4), np.float32)}
    model = onnx.load_from_string(to_bytes([constant, choice], [1, 1], weights))
    model.graph.initializer.append(packed)
    # flag 1, half 24, none 0, nibbles 2.5 -> 3, constant 40, a branch of 28 twice
    assert weight_bytes(model.SerializeToString()) == 1 + 24 + 0 + 3 + 40 + 2 * 28


def test_weights_in_another_file_are_refused():
    model = onnx.load_from_string(to_bytes([], [1, 4], {"w": np.zeros(4, np.float32)}))
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(UsageError, match="another file"):
        weight_bytes(model.SerializeToString())


@pytest.mark.parametrize("noise", [b"\x3a\xff\xff\x01", b"\x3a\x05\x2a\x03", b"\x3b\x00", b"\x38\x01", b"\x80"])
def test_noise_is_no_model(noise):
    with pytest.raises(IntegrityError, match="not ONNX"):
        weight_bytes(noise)


def test_arena_by_hand():
    """x @ w -> a and x @ v -> a2, 4096 floats each; then b = exp(a) beside both; the product takes b's or a2's place.

    Packing w and v takes 8 MB of the arena before the run: none of it may be counted."""
    weights = {
        "w": np.full((256, 4096), 1e-3, np.float32), "v": np.full((256, 4096), 1e-3, np.float32),
        "out": np.full((4096, 10), 1e-3, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Exp", ["a"], ["b"]),
        helper.make_node("MatMul", ["x", "v"], ["a2"]),
        helper.make_node("Mul", ["b", "a2"], ["c"]),
        helper.make_node("MatMul", ["c", "out"], ["y"]),
    ]
    peak = arena_peak(to_bytes(nodes, [1, 256], weights), {"x": np.ones((1, 256), np.float32)})
    assert peak.activations == 3 * 4096 * 4
    assert peak.activations <= peak.held


def test_arena_is_reproducible_and_leaves_weights_out(large):
    first = arena_peak(*large)
    assert isinstance(first, ArenaPeak)
    assert first == arena_peak(*large)
    # The first convolution's output and the second's input at once at least; weights (536 kB) are not in it.
    assert 48 * 48 * 16 * 4 < first.activations < 48 * 48 * (16 + 16 + 32) * 4


@pytest.mark.parametrize("build", [lambda: convolutions([16, 32, 64, 64, 128]), quantised_convolution])
def test_arena_agrees_with_an_arena_without_waste(tmp_path, build):
    model, feeds = build()
    (tmp_path / "model.onnx").write_bytes(model)
    command = [sys.executable, "-c", EXACT_ARENA, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert arena_peak(model, feeds).activations == pytest.approx(int(done.stdout), rel=0.01)


def test_scratch_of_kernels_is_counted():
    """q (uint8 64 x 64 x 8), c (64 x 64 x 16), and 3 x 3 x 8 values of scratch for each of the 64 x 64 places."""
    assert arena_peak(*quantised_convolution()).activations == 64 * 64 * (8 + 16 + 3 * 3 * 8)


def test_profiles_leave_nothing_behind(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    arena_peak(*small)
    assert list(Path(tmp_path).iterdir()) == []


def test_cost_of_one_model(small):
    cost = model_cost(*small, seconds=0.2)
    assert cost.size.value == len(small[0])
    assert cost.memory.value == cost.weights.value + cost.activations.value
    assert 0 < cost.latency.p50.low <= cost.latency.p50.value <= cost.latency.p95.value
    record = cost.as_record()
    assert json.loads(json.dumps(record)) == record
    if isinstance(cost.energy, NotMeasured):
        assert record["energy"].startswith("not measured here: ")


def test_costs_side_by_side(large, small):
    costs = compare_costs(large[0], small[0], large[1], seconds=0.6)
    assert costs.size.value == pytest.approx(len(large[0]) / len(small[0]))
    assert costs.memory.value == pytest.approx(costs.teacher.memory.value / costs.student.memory.value)
    assert costs.latency.low <= costs.latency.value <= costs.latency.high
    assert costs.latency.value > 3  # 27 times the multiplications
    assert (costs.latency.unit, costs.latency.higher_is_better) == ("times", True)
    assert (costs.energy is None) == isinstance(costs.teacher.energy, NotMeasured)
    assert set(costs.as_record()["ratios"]) == {"latency", "size", "memory", "energy"}


def test_a_model_beside_itself_costs_the_same(small):
    costs = compare_costs(small[0], small[0], small[1], small[1], seconds=0.6)
    assert (costs.size.value, costs.memory.value) == (1, 1)
    assert costs.latency.value == pytest.approx(1, abs=0.35)


def test_a_batch_is_refused(small):
    with pytest.raises(UsageError, match="batch 1; x holds more rows"):
        model_cost(small[0], {"x": np.zeros((2, 3, 48, 48), np.float32)})
