"""What plugins offer and what domains see. Types only: nothing here runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from toolkit.artifacts import Facts
from toolkit.cipher_suites import CipherSuite as CipherSuite
from toolkit.key_providers import KeyProvider as KeyProvider
from toolkit.key_providers import SigningProvider as SigningProvider
from toolkit.plan import Plan, Section

if TYPE_CHECKING:
    import numpy as np

Tensors = Mapping[str, "np.ndarray"]
"""Named arrays; the first axis is the batch."""

Report = Callable[[str, int, int], None]
"""`report(what, done, total)`: told as work goes on; what listens draws a bar or prints a line."""


@runtime_checkable
class Gauges(Protocol):
    """What a Report may be as well: it shows figures of what goes on, by name. What it is told once holds until it is
    told anew. The names are those of `toolkit.distil.watching`."""

    def figures(self, what: str, figures: Mapping[str, float]) -> None: ...


Distillation = Literal["allowed", "conditional", "forbidden", "unknown"]

Piece = TypeVar("Piece")
Made = TypeVar("Made")
Made_co = TypeVar("Made_co", covariant=True)


# --- models as a domain sees them --------------------------------------------------------------------------------


@dataclass(frozen=True)
class PredictorFacts:
    """Which model answers: `form` is teacher, student, baseline, compiled or installed."""

    form: str
    provider: str
    digest: str


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph: `dtype` is numpy's name, a -1 in `shape` stands for any number."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Make(Protocol):
    """What makes the inputs of one row when it is called, maybe in a thread; `brief`: within a millisecond or so.
    `needs`: bytes of memory that it takes meanwhile, at most."""

    @property
    def brief(self) -> bool: ...

    @property
    def needs(self) -> int: ...

    def __call__(self) -> Tensors: ...


class TensorPredictor(Protocol):
    """Arrays in, arrays out. For image_classification: `image` uint8 [n, height, width, 3] to `probabilities`
    float32 [n, classes]."""

    @property
    def facts(self) -> PredictorFacts: ...

    def predict(self, inputs: Tensors) -> Tensors: ...


@runtime_checkable
class BatchPredictor(TensorPredictor, Protocol):
    """A predictor that works on several batches at once, and answers them in order; none is read far ahead."""

    def predict_all(self, batches: Iterable[Tensors]) -> Iterator[Tensors]: ...


class ServedPredictor(Protocol):
    """The same model behind the server's queue: requests are batched, and refused when the queue is full. What makes
    inputs may stand for them, so that a picture is decoded where it costs least; what it raises is raised here."""

    @property
    def facts(self) -> PredictorFacts: ...

    async def predict(self, inputs: Tensors | Make) -> Tensors: ...


# --- what is offered by name -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TeacherRecord:
    """Where a teacher comes from and whether its answers may train a model. `licence_text` travels in the bundle."""

    id: str
    licence: str
    licence_text: str
    distillation: Distillation
    obligations: tuple[str, ...] = ()


@dataclass(frozen=True)
class TeacherSpec:
    """A pretrained network before it is adapted.

    `build()` returns a torch module that maps float32 [n, 3, size, size], normalised by `mean` and `std` (of values in
    0..1), to logits [n, classes]. `head` is the dotted name of its new last layer, a linear one; its input are the
    teacher's features. Empty for the last linear layer there is. `maps` names layers of feature maps, finest first.
    """

    build: Callable[[], Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    head: str = ""
    maps: tuple[str, ...] = ()
    describe: Facts = field(default_factory=dict)


class Teacher(Protocol):
    """A large model whose ability is transferred."""

    @property
    def name(self) -> str: ...

    @property
    def tasks(self) -> frozenset[str]: ...

    @property
    def gives(self) -> frozenset[str]:
        """Carriers of knowledge: response, features, maps, text."""
        ...

    def record(self, plan: Plan) -> TeacherRecord:
        """Licence and identity, without loading the model."""
        ...

    def fingerprint(self, plan: Plan) -> str:
        """SHA-256 of the checkpoint, without importing torch. Raises EnvironmentUnfit where it is not installed."""
        ...

    def load(self, plan: Plan, classes: Sequence[str]) -> TeacherSpec:
        """The network with a new head for `classes`."""
        ...


Schedule = Literal["constant", "rise", "fall"]


@dataclass(frozen=True)
class Objective:
    """One term of a recipe's loss, named as in `toolkit.distil.recipes.CARRIERS`, with its weight.

    `schedule`: the weight is the same throughout, or rises from nothing, or falls to nothing, evenly. `beta`, of
    `response` in text: the divergence, from 0, forward KL, to 1, reverse KL (`sequences.generalised_jsd`).
    """

    name: str
    weight: float
    temperature: float = 1.0
    schedule: Schedule = "constant"
    beta: float = 0.0

    def factor(self, progress: float) -> float:
        """The share of the weight that counts when `progress`, 0..1, of the training is done."""
        return {"constant": 1.0, "rise": progress, "fall": 1.0 - progress}[self.schedule]


class Recipe(Protocol):
    """A list of weighted objectives. What the teacher must give for them follows from their names."""

    @property
    def name(self) -> str: ...

    def objectives(self, plan: Plan) -> Sequence[Objective]: ...


@dataclass(frozen=True)
class HardwareProfile:
    """A kind of box. `arch` lists machine names the profile runs on; `threads` is what one session may use there."""

    name: str
    target: str
    describe: str
    arch: tuple[str, ...]
    opset: int = 18
    threads: int = 1


@dataclass(frozen=True)
class CompiledForm:
    """One way to run the student on the target: the model file's bytes, in memory. `beside`: small files that the
    runtime needs with it, by name."""

    form: str  # fp32, int8, int4
    model: bytes
    notes: Facts = field(default_factory=dict)
    beside: Mapping[str, bytes] = field(default_factory=dict)


class Target(Protocol):
    """A kind of hardware and its runtime."""

    @property
    def name(self) -> str: ...

    def profiles(self) -> Iterable[HardwareProfile]:
        """What the target can build for; one bears the target's own name."""
        ...

    def compile(
        self, exported: bytes, calibration: Iterable[Tensors], profile: HardwareProfile, folder: Path
    ) -> Iterable[CompiledForm]:
        """The forms of an exported ONNX model, the most wanted first and fp32 last."""
        ...

    def load(self, model: bytes, profile: HardwareProfile, facts: PredictorFacts) -> TensorPredictor:
        """A session on this machine. Raises EnvironmentUnfit where the profile cannot run here."""
        ...


class Results(Protocol[Made_co]):
    """What pieces of work came to, in their order. A generator is one."""

    def __iter__(self) -> Iterator[Made_co]: ...
    def __next__(self) -> Made_co: ...

    def close(self) -> None:
        """End what is under way; nothing more is read or made."""
        ...


class Workers(Protocol):
    """An executor at work. `threads` is what each worker may use of its machine."""

    @property
    def threads(self) -> int: ...

    def map(self, prepare: Callable[[], Callable[[Piece], Made]], pieces: Iterable[Piece]) -> Results[Made]:
        """What the work of `prepare()` makes of each piece, in the order of the pieces.

        `pieces` is read as results are taken, in the thread that takes them, and never far ahead. A piece whose worker
        died is done again by another, as often as the executor's limit says.

        Args:
            prepare: may travel to other machines (pickle); each worker calls it once, and what it returns stays there.

        Raises:
            ToolkitError: what a piece raised, as it is; or naming what it raised, where that is no toolkit error.
            EnvironmentUnfit: workers died over one piece again and again.
        """
        ...


class Executor(Protocol):
    """Where work that falls into pieces is done. It says where, never what: the results are the same wherever."""

    @property
    def name(self) -> str: ...

    def check(self, plan: Plan) -> None:
        """Raise what can be known before anything runs: settings that do not fit, a package that is not installed."""
        ...

    def open(self, plan: Plan) -> AbstractContextManager[Workers]:
        """Workers for as long as the block lasts. Raises EnvironmentUnfit where there are none to be had."""
        ...


@dataclass(frozen=True)
class Settings:
    """A plugin's own table in toolkit.toml.

    `read_by` says which keys each stage reads, so that a changed key re-runs that stage and those after it; a table
    that does not say is read by every stage. `teachers` are keys that name a teacher, or none: who it is counts too.
    """

    section: str
    model: type[Section]
    read_by: Mapping[str, tuple[str, ...]] | None = None
    teachers: tuple[str, ...] = ()


# --- what is told ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    """The machine a bundle is about to be installed on."""

    arch: str
    system: str
    packages: Mapping[str, str]  # distribution name -> version
    free_bytes: int


@dataclass(frozen=True)
class RunRecord:
    """A run as events and reports see it."""

    id: str
    plan: Plan
    folder: Path
