"""Samples packed into rows of a fixed number of tokens, so that next to nothing is spent on padding.

Samples in one row do not see one another: positions start again at 0 with each, attention is block-diagonal
(`attending`). What is packed with what, and in which order it comes, is a function of seed and epoch alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from toolkit.errors import PlanError
from toolkit.tasks.text_generation.tokens import IGNORE, Tokenised

WINDOW = 1024
"""Samples that are packed together: first-fit-decreasing over all would put the same ones together in every epoch."""


@dataclass(frozen=True)
class Packed:
    """Some rows of `capacity` tokens.

    int64 [rows, capacity]: `ids`; `labels`, the ids or IGNORE; `positions`, from 0 within each sample; `segments`, the
    sample's number in its row, -1 for padding. `samples` are those packed, row by row, in the order in which
    `distil.sequences.completion_positions` finds their tokens.
    """

    ids: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    samples: tuple[Tokenised, ...]

    @property
    def learnt(self) -> int:
        """Completion tokens in it."""
        return int((self.labels != IGNORE).sum())

    @property
    def attends(self) -> np.ndarray:
        """bool [rows, 1, capacity, capacity]: whether a token sees another: its own sample's, up to itself. Padding
        sees itself, so that no softmax is over nothing."""
        same = self.segments[:, :, None] == self.segments[:, None, :]
        return np.asarray((same & np.tri(self.ids.shape[1], dtype=bool))[:, None])

    def in_one_row(self) -> Packed:
        """The same samples in the same order side by side in one row, without padding."""
        return packed([self.samples], sum(map(len, self.samples)))


@dataclass(frozen=True)
class Step:
    """One optimiser step: its micro-batches, and the completion tokens of all of them, which each one's loss is divided
    by (`distil.sequences.token_mean`)."""

    batches: tuple[Packed, ...]
    total: int


class PackedBatches:
    """Samples as a training loop asks for them: the same step for the same arguments, whenever it is asked for.

    Args:
        capacity: tokens of a row.
        rows: rows of a micro-batch.
        accumulation: micro-batches of an optimiser step.
        pad: id for padding, any of the vocabulary: nothing sees it.

    Raises:
        PlanError: a sample is longer than a row, or a number is below 1.
    """

    def __init__(
        self,
        samples: Sequence[Tokenised],
        *,
        capacity: int,
        rows: int,
        accumulation: int = 1,
        seed: int = 0,
        pad: int = 0,
        window: int = WINDOW,
    ) -> None:
        if min(capacity, rows, accumulation, window, len(samples)) < 1:
            raise PlanError("rows, tokens a row and accumulation are at least 1, and so is the number of samples")
        self._samples = sorted(samples, key=lambda sample: (sample.id, sample.digest))
        self._capacity, self._rows, self._accumulation = capacity, rows, accumulation
        self._seed, self._pad, self._window = seed, pad, window
        self._plan: tuple[int, list[list[int]]] = (-1, [])
        fewest = math.ceil(sum(len(sample) for sample in samples) / capacity)  # rows of any epoch, and often all
        self.steps = max(1, fewest // (rows * accumulation))

    def step(self, epoch: int, step: int) -> Step:
        """Rows are dealt out evenly, so a step may have a row more than another: epochs pack into a row more or less,
        and have the same number of steps."""
        bins = self._bins(epoch)
        mine = bins[step * len(bins) // self.steps : (step + 1) * len(bins) // self.steps]
        batches = tuple(
            packed([[self._samples[i] for i in row] for row in part], self._capacity, self._pad)
            for part in (mine[start : start + self._rows] for start in range(0, len(mine), self._rows))
        )
        return Step(batches, sum(batch.learnt for batch in batches))

    def _bins(self, epoch: int) -> list[list[int]]:
        if self._plan[0] != epoch:
            lengths = [len(sample) for sample in self._samples]
            self._plan = (epoch, pack(lengths, self._capacity, seed=self._seed, epoch=epoch, window=self._window))
        return self._plan[1]


class Units(Protocol):
    """Rows of a data set whose samples may still be coming."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sequence[Tokenised]:
        """The samples of a row, none or several; it waits for them where they have not come yet."""
        ...


class UnitBatches:
    """Steps of so many rows of the data set, each packed by itself, so that training may begin before all samples have
    come: the first epoch takes rows in the order in which they come, later ones are shuffled.

    Args:
        capacity: tokens of a packed row.
        taken: rows of the data set in a step.
        parts: micro-batches that a step is taken in, where it has so many packed rows.
    """

    def __init__(self, units: Units, *, capacity: int, taken: int, parts: int = 1, seed: int = 0, pad: int = 0) -> None:
        self._units, self._capacity, self._taken, self._parts = units, capacity, taken, parts
        self._seed, self._pad = seed, pad
        self.steps = max(1, math.ceil(len(units) / taken))

    def step(self, epoch: int, step: int) -> Step:
        """Without micro-batches where none of its rows has a sample."""
        order: Sequence[int] = range(len(self._units))
        if epoch:
            order = sorted(order, key=lambda index: drawn_lot(self._seed, epoch, "unit", index))
        samples = [one for index in order[step * self._taken : (step + 1) * self._taken] for one in self._units[index]]
        if not samples:
            return Step((), 0)
        bins = pack([len(sample) for sample in samples], self._capacity, seed=self._seed, epoch=epoch)
        rows = math.ceil(len(bins) / self._parts)
        batches = tuple(
            packed([[samples[i] for i in row] for row in bins[start : start + rows]], self._capacity, self._pad)
            for start in range(0, len(bins), rows)
        )
        return Step(batches, sum(batch.learnt for batch in batches))


def pack(lengths: Sequence[int], capacity: int, *, seed: int, epoch: int = 0, window: int = WINDOW) -> list[list[int]]:
    """Indices of samples, row by row: shuffled, then first-fit-decreasing within each window, then rows shuffled.

    First-fit-decreasing needs at most 11/9 of the fewest rows there can be, and two thirds of a row (Dosa 2007).

    Raises:
        PlanError: a sample is longer than a row.
    """
    if lengths and max(lengths) > capacity:
        raise PlanError(
            f"a sample has {max(lengths):,} tokens, a row only {capacity:,}",
            hint="Make rows as long as the longest sample, or leave longer samples out when they are tokenised.",
        )
    order = sorted(range(len(lengths)), key=lambda index: drawn_lot(seed, epoch, "sample", index))
    rows: list[list[int]] = []
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window], key=lambda index: -lengths[index])  # stable: ties as drawn
        rows += _first_fit(part, lengths, capacity)
    return [rows[place] for place in sorted(range(len(rows)), key=lambda place: drawn_lot(seed, epoch, "row", place))]


def _first_fit(order: Sequence[int], lengths: Sequence[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = []
    left: list[int] = []
    for index in order:
        place = next((row for row, space in enumerate(left) if space >= lengths[index]), len(rows))
        if place == len(rows):
            rows.append([])
            left.append(capacity)
        rows[place].append(index)
        left[place] -= lengths[index]
    return rows


def packed(rows: Sequence[Sequence[Tokenised]], capacity: int, pad: int = 0) -> Packed:
    """Lay samples side by side into rows of `capacity` tokens."""
    shape = (len(rows), capacity)
    ids, labels = np.full(shape, pad, np.int64), np.full(shape, IGNORE, np.int64)
    positions, segments = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    for row, samples in enumerate(rows):
        start = 0
        for number, sample in enumerate(samples):
            place = slice(start, start + len(sample))
            ids[row, place], labels[row, place] = sample.ids, sample.labels
            positions[row, place], segments[row, place] = np.arange(len(sample)), number
            start += len(sample)
    return Packed(ids, labels, positions, segments, tuple(sample for samples in rows for sample in samples))


def snug(samples: Sequence[Tokenised], pad: int = 0) -> Packed:
    """Samples in rows as long as the longest of them, as few as first-fit-decreasing needs: at most one a sample."""
    lengths = [len(sample) for sample in samples]
    order = sorted(range(len(samples)), key=lambda index: -lengths[index])
    rows = _first_fit(order, lengths, max(lengths))
    return packed([[samples[index] for index in row] for row in rows], max(lengths), pad)


def drawn_lot(seed: int, epoch: int, what: str, number: int | str) -> bytes:
    """The lot that a number draws: sorting by it shuffles, the same everywhere."""
    return hashlib.sha256(f"{seed}\0{epoch}\0{what}\0{number}".encode()).digest()
