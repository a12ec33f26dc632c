"""The frozen records that flow down the line: Dataset -> TeacherLabels -> Student -> Evaluation -> CompiledModel
-> Bundle -> Installation.

This module knows what the records are, never how they are made or stored: `workspace` stores them, `stages` make them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

if TYPE_CHECKING:
    pass

Facts = Mapping[str, Any]
"""JSON-serialisable description of an artifact: what a report, the registry or a later stage wants to know."""

SPLITS = ("train", "validation", "calibration", "test", "unlabelled")
SPLIT_NAMES = {"train": "train", "test": "test", "validation": "validation", "valid": "validation", "val": "validation"}
"""How folders and files are named, in lower case, whose owner has split the data himself."""


@dataclass(frozen=True)
class Metric:
    """A measured figure with its interval.

    `low` and `high` bound the 95% interval; they equal `value` only where the figure is exact. `n` is the number of
    rows behind it, `unit` is `share`, `ms`, `bytes`, `joule`, ...
    """

    value: float
    low: float
    high: float
    n: int
    unit: str = "share"
    higher_is_better: bool = True

    def as_record(self) -> dict[str, Any]:
        """`{"value": 0.971, "low": 0.948, "high": 0.984, "n": 360, "unit": "share", "higher_is_better": true}`."""
        return {
            "value": self.value, "low": self.low, "high": self.high, "n": self.n,
            "unit": self.unit, "higher_is_better": self.higher_is_better,
        }  # fmt: skip

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Metric:
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})


@dataclass(frozen=True)
class Row:
    """One example. `inputs` are what a predictor takes, by name: arrays without the batch axis, or messages; `group`
    holds what must not be spread over splits (near-duplicates, a lot, a template)."""

    id: str
    inputs: Mapping[str, Any]
    label: Any
    group: str


class Rows(Protocol):
    """A split's rows in a fixed order. Reading a row may open a file; iterating twice gives the same rows."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __iter__(self) -> Iterator[Row]: ...

    @property
    def ids(self) -> Sequence[str]:
        """The rows' ids, without reading the rows."""
        ...

    @property
    def labels(self) -> Sequence[Any]:
        """The rows' labels, without reading the rows."""
        ...


@dataclass(frozen=True)
class Artifact:
    """What a stage leaves behind: a folder whose manifest was written last.

    `digest` covers the part of the plan that made it, its parents' digests and the code version of what made it.
    """

    path: Path
    digest: str
    parents: tuple[str, ...] = ()
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset(Artifact):
    """Prepared data. `reader` turns a split's name into its rows."""

    reader: Callable[[str], Rows] | None = field(default=None, compare=False, repr=False)

    def split(self, name: str) -> Rows:
        """The rows of `train`, `validation`, `calibration`, `test` or `unlabelled`: to train on without a label, often
        none."""
        if self.reader is None or name not in SPLITS:
            raise KeyError(f"no split {name!r}; splits are {', '.join(SPLITS)}")
        return self.reader(name)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the model's outputs; empty where the task has none."""
        return tuple(self.facts.get("classes", ()))


class Filling(Protocol):
    """Answers of a teacher as they come, in the order of rows."""

    def __iter__(self) -> Iterator[Any]: ...

    def __next__(self) -> Any: ...

    def close(self) -> None:
        """Ask for no more."""
        ...

    def figures(self) -> Mapping[str, float]:
        """How far the teacher is, as `queue/NAME`; nothing where it has not been asked."""
        ...


@dataclass(frozen=True)
class TeacherLabels(Artifact):
    """The teacher's answers to the training rows, kept by the digest of their inputs, with the teacher itself.

    Where the teacher still answers, `filling` are the answers as they come, in the order of rows and never far ahead of
    who reads them; once they are read to their end, the folder is complete, and so are the facts.
    """

    filling: Filling | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Student(Artifact):
    """A trained student: weights, and the facts that rebuild its architecture."""


@dataclass(frozen=True)
class Evaluation(Artifact):
    """What `evaluate` found. `per_row` holds one record a row, `slices` the same metrics on parts of the rows."""

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    per_row: Sequence[Mapping[str, Any]] = ()
    slices: Mapping[str, Mapping[str, Metric]] = field(default_factory=dict)

    @classmethod
    def found(
        cls,
        metrics: Mapping[str, Metric],
        *,
        per_row: Sequence[Mapping[str, Any]] = (),
        slices: Mapping[str, Mapping[str, Metric]] | None = None,
        facts: Facts | None = None,
    ) -> Evaluation:
        """What a domain's `evaluate` returns: core stores it and gives it its digest."""
        return cls(Path(), "", facts=facts or {}, metrics=metrics, per_row=per_row, slices=slices or {})


@dataclass(frozen=True)
class CompiledModel(Artifact):
    """A model in the form its hardware runs.

    `profile` names the hardware profile, `form` the numeric form shipped (`fp32`, `int8`), `rung` how far it was
    verified (hardware.md, validation ladder), `parity` how it agrees with the torch student.
    """

    profile: str = ""
    form: str = ""
    rung: str = ""
    parity: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle(Artifact):
    """A sealed bundle: ciphertext and signatures only."""


@dataclass(frozen=True)
class Installation(Artifact):
    """A bundle installed on a site."""


@dataclass(frozen=True)
class BundleFile:
    """One logical file of a bundle. `secret` files are encrypted; the others are signed only and may be read by all.

    `data` of a large file is `workspace.mapped(path)`: sealing goes over it without its lying in memory as a whole.
    """

    role: str
    data: bytes | memoryview
    secret: bool = True


@dataclass(frozen=True)
class StudentSpec:
    """A student before training. torch stays inside `build()`.

    `inputs` and `outputs` give the shape of each named tensor without the batch axis; `describe` is what the report
    and the registry show (architecture, parameters, input size), and is enough to build the same student again. `head`
    is the dotted name of the last linear layer, whose input are the student's features; empty for the last there is.
    """

    build: Callable[[], Any]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    describe: Facts
    head: str = ""


@dataclass(frozen=True)
class HardwareBudget:
    """What the model may cost on the target. None means no limit. Times in ms, sizes in MB (10^6 bytes)."""

    latency_p95_ms: float | None = None
    memory_mb: float | None = None
    size_mb: float | None = None
    throughput_rps: float | None = None


@dataclass(frozen=True)
class Violation:
    """A reason to refuse a release or an installation, with what was measured and what is allowed."""

    by: str
    because: str
    measured: str = ""
    allowed: str = ""
