"""Tensors as the KServe v2 protocol writes them, over HTTP and gRPC alike: as raw bytes, or value by value.

Knows arrays, and what a client may have got wrong; nothing of models, requests or HTTP. Sources: KServe Open Inference
Protocol v2, "Tensor Data Types"; Triton's extension for binary tensor data.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from toolkit.errors import DataError
from toolkit.protocols import TensorSpec

DTYPES: Mapping[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "BYTES": "object",
}  # fmt: skip
"""numpy's names of the protocol's datatypes. BYTES are texts in ONNX: UTF-8 here, str there."""

RAW_ONLY = frozenset({"FP16"})
"""What JSON and gRPC's typed contents have no form for."""

_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
_LENGTH = struct.Struct("<I")
_KINDS: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}), "i": frozenset({int}), "u": frozenset({int}), "f": frozenset({int, float}),
    "O": frozenset({str}),
}  # fmt: skip
"""The types of JSON values that an array of a kind is made of. None is turned into another: "1" is no number."""


@dataclass(frozen=True)
class Stated:
    """What a request says of a tensor, beside its values."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(DTYPES[self.datatype])

    @property
    def count(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


def datatype_of(dtype: str) -> str:
    """The protocol's name of numpy's; of a type that the protocol lacks, ONNX's own in capitals."""
    return _DATATYPES.get(dtype, dtype.upper())


def check_stated(stated: Stated, spec: TensorSpec) -> None:
    """Refuse a tensor that a model's input cannot be, before anything of its size is made.

    Raises:
        DataError: its datatype or its shape is another one.
    """
    wanted = datatype_of(spec.dtype)
    if stated.datatype != wanted or wanted not in DTYPES:
        raise _wrong(stated.name, f"is {wanted}, not {stated.datatype}")
    fits = len(stated.shape) == len(spec.shape) and all(
        length > 0 and axis in (-1, length) for length, axis in zip(stated.shape, spec.shape, strict=True)
    )
    if not fits:
        raise _wrong(stated.name, f"has the shape {list(spec.shape)}, not {_short(stated.shape)}; -1 is any from 1 on")


def from_raw(stated: Stated, data: memoryview | bytes) -> np.ndarray:
    """The array over these bytes, little-endian and row-major; they are not copied but for texts, and where a value
    would lie across the borders that processors want.

    Raises:
        DataError: they are not as many as the shape says, or no texts.
    """
    if stated.datatype == "BYTES":
        return _shaped(stated, list(_texts(stated, data)))
    if len(data) != stated.count * stated.dtype.itemsize:
        said = f"needs {stated.count * stated.dtype.itemsize:,} bytes for its shape, and {len(data):,} came"
        raise _wrong(stated.name, said)
    if stated.datatype == "BOOL" and (np.frombuffer(data, np.uint8) > 1).any():
        raise _wrong(stated.name, "is BOOL, one byte of 0 or 1 each")
    array = np.frombuffer(data, stated.dtype.newbyteorder("<")).reshape(stated.shape)
    native = array.astype(stated.dtype, copy=False)
    return np.require(native, requirements="A")


def from_values(stated: Stated, values: Sequence[Any]) -> np.ndarray:
    """The array of these values of JSON, flat or nested, or of gRPC's typed contents.

    Raises:
        DataError: they are not as many as the shape says, of another type, or too large for it.
    """
    if stated.datatype in RAW_ONLY:
        raise _wrong(stated.name, f"is {stated.datatype}, which travels as raw bytes only")
    flat, kinds = _flat(values)
    if not kinds <= _KINDS[stated.dtype.kind]:
        raise _wrong(stated.name, f"has values that are not {stated.datatype}")
    return _shaped(stated, flat)


def to_raw(array: np.ndarray) -> bytes | memoryview:
    """The array's bytes, little-endian and row-major; not copied where they lie so already."""
    if array.dtype == object:
        texts = [str(text).encode() for text in array.ravel()]
        return b"".join(chain.from_iterable((_LENGTH.pack(len(text)), text) for text in texts))
    whole = np.ascontiguousarray(array, array.dtype.newbyteorder("<") if sys.byteorder == "big" else None)
    return whole.reshape(-1).view(np.uint8).data


def to_values(name: str, array: np.ndarray) -> list[Any]:
    """The array's values, flat, as JSON can write them.

    Raises:
        DataError: JSON has no form for them.
    """
    if (datatype := datatype_of(array.dtype.name)) in RAW_ONLY:
        raise _unwritable(name, f"is {datatype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _unwritable(name, "has values that are no numbers")
    return array.ravel().tolist()


def _flat(values: Sequence[Any]) -> tuple[Sequence[Any], set[type]]:
    """Nested lists as one, and the types of what is in it. By levels, so that no nesting is too deep."""
    kinds = set(map(type, values))
    while kinds == {list}:
        values = list(chain.from_iterable(values))
        kinds = set(map(type, values))
    return values, kinds


def _shaped(stated: Stated, flat: Sequence[Any]) -> np.ndarray:
    if len(flat) != stated.count:
        raise _wrong(stated.name, f"needs {stated.count:,} values for its shape, and {len(flat):,} came")
    try:
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite there
            return np.array(flat, stated.dtype).reshape(stated.shape)
    except OverflowError as error:
        raise _wrong(stated.name, f"has values that do not fit into {stated.datatype}") from error


def _texts(stated: Stated, data: memoryview | bytes) -> Iterator[str]:
    place = 0
    while place < len(data):
        begin = place + _LENGTH.size
        end = begin + _LENGTH.unpack_from(data, place)[0] if begin <= len(data) else begin
        if end > len(data):
            raise _wrong(stated.name, "ends in the middle of a text: four bytes of length, then the text, each")
        try:
            yield str(data[begin:end], "utf-8")
        except UnicodeDecodeError as error:
            raise _wrong(stated.name, "has a text that is not UTF-8") from error
        place = end


def _short(shape: Sequence[int]) -> str:
    return str(list(shape)) if len(shape) <= 8 else f"one of {len(shape)} axes"


def _wrong(name: str, what: str) -> DataError:
    return DataError(f"the input {name} {what}", hint="GET /v2/models/NAME says what the model takes.")


def _unwritable(name: str, why: str) -> DataError:
    return DataError(f"the output {name} {why}: JSON cannot write it", hint='Ask for it with "binary_data": true.')
