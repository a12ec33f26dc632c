"""What is kept of a token: its k best alternatives, or the last hidden state, in half precision.

Numpy alone, so that a cache can be looked at and checked where there is no torch. Whatever a codec rounds away is
measured while it is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from toolkit.errors import IntegrityError

Arrays = Mapping[str, np.ndarray]
"""Of a sample's n completion tokens, in order, an array [n, ...] for each of its codec's fields."""

LOWEST = float(np.finfo(np.float16).min)
"""Stands for the logarithm of 0: half precision has no number below it."""

SLACK = 0.01
"""How far probabilities may be from summing to 1 before they are taken to be none."""

PROBES = 1
"""Tokens of a sample whose rounded hidden state is measured through the head: each costs two products with it."""


@dataclass(frozen=True)
class Field:
    """One array of a shard: its name, and type and shape of a token's part."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()

    @property
    def bytes_per_token(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Quality:
    """What a teacher's entries keep of what it said.

    `mass` is the mean probability of the k best tokens together; `error_mean` and `error_max` are of |dlogp|, what
    half precision changed the log-probabilities by, over `measured` of them; 0 where none was.
    """

    tokens: int = 0
    mass: float = 1.0
    measured: int = 0
    error_mean: float = 0.0
    error_max: float = 0.0

    @classmethod
    def over(cls, parts: Sequence[Quality]) -> Quality:
        """Of all parts together."""
        tokens, measured = sum(part.tokens for part in parts), sum(part.measured for part in parts)
        return cls(
            tokens,
            sum(part.tokens * part.mass for part in parts) / tokens if tokens else 1.0,
            measured,
            sum(part.measured * part.error_mean for part in parts) / measured if measured else 0.0,
            max((part.error_max for part in parts), default=0.0),
        )


@dataclass(frozen=True)
class TopKCodec:
    """The k best tokens: indices, log-probabilities at temperature 1, and the logarithm of the mass that is left.

    The rest is kept as a logarithm because half precision has no digit of a mass of 1e-7, and every digit of ln 1e-7.
    """

    name: ClassVar[str] = "topk"
    k: int
    vocabulary: int

    @property
    def fields(self) -> Sequence[Field]:
        """Indices in the smallest type that the vocabulary allows."""
        index = np.dtype(np.uint16 if self.vocabulary <= 2**16 else np.uint32)
        half = np.dtype(np.float16)
        return (Field("indices", index, (self.k,)), Field("log_probs", half, (self.k,)), Field("log_rest", half))

    def as_record(self) -> dict[str, Any]:
        return {"name": self.name, "k": self.k, "vocabulary": self.vocabulary}

    def encode(self, exact: Arrays) -> tuple[Arrays, Quality]:
        """Round a sample's entries.

        Args:
            exact: `indices` [n, k], all different in a row, `log_probs` [n, k] and `log_rest` [n].

        Raises:
            IntegrityError: they are no probabilities over this vocabulary.
        """
        tokens = _tokens(exact, self.fields)
        indices = np.asarray(exact["indices"])
        logs = {name: np.asarray(exact[name], np.float64) for name in ("log_probs", "log_rest")}
        _check_entries(indices, logs["log_probs"], logs["log_rest"], self.vocabulary)
        stored = {one.name: _stored(logs.get(one.name, indices), one) for one in self.fields}
        changes = np.concatenate([_changes(logs[name], stored[name]) for name in logs])
        mass = float(np.exp(logs["log_probs"]).sum(axis=1).mean()) if tokens else 1.0
        return stored, _quality(tokens, mass, changes)


@dataclass(frozen=True)
class HiddenCodec:
    """The last hidden state [width]; with the teacher's head its logits are rebuilt, all of them.

    Args:
        log_probs: the head: float32 [m, width] to log-probabilities [m, vocabulary], for the error; None: not measured.
    """

    name: ClassVar[str] = "hidden"
    width: int
    vocabulary: int
    log_probs: Callable[[np.ndarray], np.ndarray] | None = field(default=None, compare=False, repr=False)

    @property
    def fields(self) -> Sequence[Field]:
        return (Field("hidden", np.dtype(np.float16), (self.width,)),)

    def as_record(self) -> dict[str, Any]:
        return {"name": self.name, "width": self.width, "vocabulary": self.vocabulary}

    def encode(self, exact: Arrays) -> tuple[Arrays, Quality]:
        """Round a sample's states `hidden` [n, width].

        Raises:
            IntegrityError: they are not finite in half precision.
        """
        tokens = _tokens(exact, self.fields)
        hidden = np.asarray(exact["hidden"], np.float32)
        if not (np.abs(hidden) <= np.finfo(np.float16).max).all():
            raise IntegrityError(
                "the teacher's hidden states are not finite in half precision",
                part="hidden",
                hint="Check the teacher's weights, or keep its best tokens instead (topk).",
            )
        stored = {"hidden": _stored(hidden, self.fields[0])}
        changes = np.zeros(0)
        if self.log_probs is not None and tokens:
            kept = stored["hidden"][:PROBES].astype(np.float32)
            changes = np.abs(self.log_probs(hidden[:PROBES]) - self.log_probs(kept)).ravel()
        return stored, _quality(tokens, 1.0, changes)


Codec = TopKCodec | HiddenCodec


def codec_of(record: Mapping[str, Any]) -> Codec:
    """The codec that a header describes; KeyError, TypeError or ValueError where it describes none."""
    if record["name"] == TopKCodec.name:
        return TopKCodec(_size(record["k"]), _size(record["vocabulary"]))
    if record["name"] == HiddenCodec.name:
        return HiddenCodec(_size(record["width"]), _size(record["vocabulary"]))
    raise ValueError(f"no codec is named {record['name']}")


def _size(value: object) -> int:
    if isinstance(value, int) and 0 < value <= 2**32:
        return value
    raise ValueError(f"{value} is no size")


def bytes_per_token(codec: Codec) -> int:
    """What a token takes, but for its share of the header: 258 for the 64 best of 49,152."""
    return sum(one.bytes_per_token for one in codec.fields)


def rest_of(log_probs: np.ndarray) -> np.ndarray:
    """The logarithm [n] of what the k best [n, k] leave of 1, for a teacher that tells no more than those; no less than
    what single precision can tell from nothing."""
    left = 1 - np.exp(np.asarray(log_probs, np.float64)).sum(axis=-1)
    return np.asarray(np.log(np.maximum(left, 2.0**-24)))


def _tokens(exact: Arrays, fields: Sequence[Field]) -> int:
    """How many tokens the arrays are of."""
    lengths = {len(exact[one.name]) for one in fields}
    for one in fields:
        if len(lengths) > 1 or np.shape(exact[one.name])[1:] != one.shape:
            shapes = {field.name: np.shape(exact[field.name]) for field in fields}
            raise IntegrityError(f"the teacher's arrays do not fit its codec: {shapes}", part=one.name, hint=_HINT)
    return lengths.pop()


_HINT = "Check how the teacher's answers are read; none of this sample was kept."


def _check_entries(indices: np.ndarray, log_probs: np.ndarray, log_rest: np.ndarray, vocabulary: int) -> None:
    if indices.size and not (indices.min() >= 0 and indices.max() < vocabulary):
        raise IntegrityError(
            f"the teacher names tokens that a vocabulary of {vocabulary:,} lacks", part="indices", hint=_HINT
        )
    if (np.diff(np.sort(indices, axis=1), axis=1) == 0).any():
        raise IntegrityError("the teacher names a token twice", part="indices", hint=_HINT)
    total = np.exp(log_probs).sum(axis=1) + np.exp(log_rest)
    if not (np.abs(total - 1) <= SLACK).all():  # NaN is not within it either
        raise IntegrityError(
            "the teacher's probabilities do not sum to 1 with the rest", part="log_probs",
            hint="Take them at temperature 1, over the whole vocabulary, before the k best are picked.",
        )  # fmt: skip


def _stored(exact: np.ndarray, one: Field) -> np.ndarray:
    bounded: np.ndarray = np.maximum(exact, LOWEST) if one.dtype == np.float16 else exact
    return np.ascontiguousarray(bounded, dtype=one.dtype)


def _changes(exact: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """|dlogp| of every number that is not the logarithm of 0."""
    some = exact > LOWEST
    return np.asarray(np.abs(exact[some] - stored[some].astype(np.float64)))


def _quality(tokens: int, mass: float, changes: np.ndarray) -> Quality:
    if not changes.size:
        return Quality(tokens, mass)
    return Quality(tokens, mass, changes.size, float(changes.mean()), float(changes.max()))
