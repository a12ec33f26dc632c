"""Static int8: weights per channel, activations from a calibration set; the network alone, never its preprocessing."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from toolkit.compile.export import NETWORK, quiet
from toolkit.protocols import Tensors

QUANTISED = ["Conv", "Relu", "Clip", "Add"]
"""Nearly all of the time is spent in convolutions; normalisation and the last layer's decision stay in float."""


def quantise_static(exported: bytes, calibration: Iterable[Tensors], *, reduce_range: bool) -> bytes:
    """QDQ int8 of a joined model (u8 activations, s8 weights).

    Args:
        exported: an fp32 model as `export.join` makes it.
        calibration: inputs as the model takes them, a batch each.
        reduce_range: use 7 bits of the weights, for processors whose 8-bit products saturate at 16 bits (x86 without
            VNNI; ONNX Runtime, "Quantize ONNX models", reduce_range).
    """
    model = onnx.load_from_string(exported)
    with quiet(logging.getLogger()), tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            str(target),
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_kept_in_float(model.graph),
        )
        return target.read_bytes()


def _kept_in_float(graph: onnx.GraphProto) -> list[str]:
    """Nodes outside the network, and those of the network before its first convolution: they normalise the picture."""
    inside = [node.name.startswith(NETWORK) for node in graph.node]
    first = next((n for n, node in enumerate(graph.node) if node.op_type == "Conv" and inside[n]), 0)
    return [node.name for n, node in enumerate(graph.node) if n < first or not inside[n]]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, calibration: Iterable[Tensors]) -> None:
        self._batches: Iterator[Tensors] = iter(calibration)

    def get_next(self) -> Any:
        batch = next(self._batches, None)
        return None if batch is None else dict(batch)
