"""The bytes of a model's weights, read from its ONNX bytes without the onnx package.

It walks the few fields of onnx.proto that lead to weights (github.com/onnx/onnx, onnx/onnx.proto) and refuses to know
the rest of the format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from toolkit.errors import IntegrityError, UsageError

# Bits of one element by TensorProto.DataType (8 is string, whose elements have no fixed size).
BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
STRING = 8
EXTERNAL = 1  # TensorProto.DataLocation

# Field numbers.
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_ATTRIBUTE = 5
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
TENSOR_DIMS, TENSOR_TYPE, TENSOR_LOCATION = 1, 2, 14

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def weight_bytes(model: bytes) -> int:
    """Bytes of all initializers and constant tensors, those of subgraphs included (strings are not counted).

    Raises:
        UsageError: a weight lies in a file beside the model.     IntegrityError: these are not ONNX bytes.
    """
    try:
        return sum(_graph(value) for number, value in _fields(memoryview(model)) if number == MODEL_GRAPH)
    except (IndexError, KeyError, TypeError) as error:
        raise IntegrityError("the model's bytes are not ONNX", part="model", hint="Compile the model again.") from error


def _graph(graph: memoryview | int) -> int:
    total = 0
    for number, value in _fields(graph):
        if number == GRAPH_INITIALIZER:
            total += _tensor(value)
        elif number == GRAPH_NODE:
            total += sum(_attribute(inner) for field, inner in _fields(value) if field == NODE_ATTRIBUTE)
    return total


def _attribute(attribute: memoryview | int) -> int:
    total = 0
    for number, value in _fields(attribute):
        if number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
            total += _tensor(value)
        elif number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
            total += _graph(value)
    return total


def _tensor(tensor: memoryview | int) -> int:
    dims: list[int] = []
    kind = 0
    for number, value in _fields(tensor):
        if number == TENSOR_DIMS:  # packed or one by one, both are valid
            dims += [value] if isinstance(value, int) else _varints(value)
        elif number == TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif number == TENSOR_LOCATION and value == EXTERNAL:
            raise UsageError("the model keeps weights in another file", hint="Export it as one file.")
    return 0 if kind == STRING else -(-math.prod(dims) * BITS[kind] // 8)


def _fields(message: memoryview | int) -> Iterator[tuple[int, memoryview | int]]:
    """Field number and value of each field: whole numbers as int, everything else as bytes."""
    if isinstance(message, int):
        raise TypeError("a message was expected")
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == BYTES:
            length, at = _varint(message, at)
        else:
            length = {FIXED64: 8, FIXED32: 4}[wire]
        if at + length > len(message):
            raise IndexError("the message is cut off")
        yield number, message[at : at + length]
        at += length


def _varints(packed: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        values.append(value)
    return values


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
