"""The plan: what a run will do, validated, frozen, and trusted inside; `resolve` makes it of what users say.

Secrets never enter a plan. This module and the command line are the only ones that read the environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from toolkit.errors import PlanError

STAGES = ("prepare", "label", "distil", "evaluate", "compile", "gate", "seal", "install", "check")


class Section(BaseModel):
    """A table of toolkit.toml. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class DataPlan(Section):
    """The rows: where they are, under what licence, and how they are split."""

    path: Path | None = Field(None, description="Folder of the data; none lets the domain render its sample.")
    licence: str = Field("", description="Licence of the data, as SPDX id or text; else what the folder states.")
    validation_share: float = Field(0.15, gt=0, lt=0.5, description="Share of train that picks the checkpoint.")
    test_share: float = Field(0.2, gt=0, lt=0.9, description="Share held out where the folder has no test split.")
    calibration_rows: int = Field(200, ge=8, description="Train rows used to calibrate static int8.")
    minimum_per_class: int = Field(10, ge=2, description="Fewest usable training rows of a class.")
    good_classes: tuple[str, ...] = Field(("good", "ok", "normal"), description="Names of the class of good parts.")


class TeacherPlan(Section):
    """Who teaches, and how the teacher is adapted to the classes at hand."""

    name: str = Field("efficientnet-lite0", description="A teacher offered by a plugin; see `toolkit teachers`.")
    checkpoint: Path | None = Field(None, description="Local checkpoint folder, for teachers that take one.")
    input_size: int = Field(112, ge=32, le=1024, multiple_of=8, description="Pixels a side.")
    epochs: int = Field(6, ge=1, le=1000, description="Passes over the training rows.")
    batch_size: int = Field(32, ge=2, le=4096, description="Rows in a step.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Highest, after the warm-up.")
    accept_unknown_licence: str = Field("", description="Reason to use a teacher whose licence is not known.")


class StudentPlan(Section):
    """Which member of the student family is trained."""

    size: Literal["nano", "micro", "small", "medium", "large"] = Field("small", description="About 20 k to 500 k.")
    input_size: int = Field(112, ge=32, le=512, multiple_of=8, description="Pixels a side.")
    checkpoint: Path | None = Field(
        None, description="Text: folder of a checkpoint, or of a config alone; none prunes the teacher."
    )
    parameters: int = Field(30_000_000, ge=1, description="Text: most of a pruned student, or of one from nothing.")
    vocabulary: int = Field(
        0, ge=0, le=262_144,
        description="Text: begin from nothing, with so many tokens learnt from the rows; 0: see checkpoint.",
    )  # fmt: skip
    lora_rank: int = Field(
        0, ge=0, le=4096, description="Text: train adapters of this rank beside frozen weights (LoRA); 0: all weights."
    )
    frozen_bits: Literal[4, 32] = Field(32, description="Text: bits of frozen weights beside adapters; 4: NF4 (QLoRA).")


class ObjectivePlan(Section):
    """A term of the loss: a table [[recipe.objective]]."""

    name: str = Field(description="hard-label, response, feature, similarity, relation-distance, ...")
    weight: float = Field(1.0, ge=0, le=1e6, description="What the term is multiplied by.")
    temperature: float = Field(1.0, gt=0, le=100, description="Softens both distributions, for response.")
    beta: float = Field(0.0, ge=0, le=1, description="Text, of response: 0 forward KL, 1 reverse KL, JSD between.")
    schedule: Literal["constant", "rise", "fall"] = Field(
        "constant", description="The weight throughout, rising from 0, or falling to 0."
    )


class RecipePlan(Section):
    """How knowledge is transferred."""

    name: str = Field("white-box", description="A recipe; see `toolkit plugins`.")
    epochs: int = Field(80, ge=1, le=10_000, description="Passes over the training rows.")
    batch_size: int = Field(64, ge=1, le=8192, description="Rows in a step.")
    accumulation: int = Field(1, ge=1, le=8192, description="Text: parts that a step is taken in, to fit memory.")
    gradient_checkpointing: bool = Field(
        False, description="Text: compute activations twice rather than keep them: slower, in less memory."
    )
    learning_rate: float = Field(4e-3, gt=0, le=1, description="Highest, after the warm-up.")
    weight_decay: float = Field(0.02, ge=0, le=1, description="Of AdamW.")
    temperature: float = Field(1.0, gt=0, le=100, description="Softens both distributions (Hinton 2015).")
    teacher_weight: float = Field(0.5, ge=0, le=1, description="Share of the loss that comes from the teacher.")
    beta: float = Field(0.0, ge=0, le=1, description="Text: 0 forward KL a token, 1 reverse KL, JSD between.")
    feature_weight: float = Field(3.0, ge=0, le=1e6, description="Of the teacher's features, in white-box.")
    relation_weight: float = Field(0.0, ge=0, le=1e6, description="Of how rows resemble one another, in white-box.")
    objective: tuple[ObjectivePlan, ...] = Field((), description="Own terms of the loss in place of the recipe's.")
    weighting: Literal["even", "difficulty"] = Field(
        "difficulty", description="difficulty: more of what the student has not learnt yet and the teacher is sure of."
    )
    task_weighting: Literal["even", "loss-ratio", "uncertainty"] = Field(
        "even",
        description="Of classes or tasks. loss-ratio: more where the loss falls slowly (DWA, Liu 2019); uncertainty: "
        "less where it stays high (Kendall 2018).",
    )
    task_floor: float = Field(0.5, ge=0, lt=1, description="Least weight of a class or task, in units of the mean.")
    views: int = Field(8, ge=1, le=10_000, description="Augmented views a row that the teacher labels.")
    answers: Literal["row-mean", "per-view"] = Field(
        "row-mean",
        description="row-mean: a fresh view every epoch, with the mean of what the teacher says of the row's views; "
        "per-view: the very pixels that the teacher saw, over and over.",
    )
    mixup: float = Field(0.0, ge=0, le=1, description="Share of views that mix two rows; per-view only.")
    baseline: bool = Field(True, description="Also train the same student on the labels alone, to compare.")

    @model_validator(mode="after")
    def _mixed_rows_are_labelled_per_view(self) -> RecipePlan:
        if self.mixup and self.answers != "per-view":
            raise ValueError("mixup needs answers = per-view: a mean over views knows no mixture")
        return self


class MapsPlan(Section):
    """The task anomaly_maps: where the line between good and strange is drawn."""

    overkill: float = Field(0.05, gt=0, lt=0.5, description="Share of good parts that the limit may refuse.")


class TextPlan(Section):
    """The task text_generation: its samples, and what is kept of what a teacher says of them."""

    system: str = Field("", max_length=20_000, description="Put before every row that has no system message.")
    max_tokens: int = Field(512, ge=8, le=131_072, description="Longest sample; longer ones are left out, none is cut.")
    row_tokens: int = Field(0, ge=0, le=131_072, description="Of a packed row; 0: as max_tokens.")
    completions: Literal["given", "teacher"] = Field(
        "given", description="given: the teacher answers rows that have no completion; teacher: all of them anew."
    )
    samples: int = Field(1, ge=1, le=64, description="Answers that the teacher gives to a prompt; right ones are kept.")
    answer_tokens: int = Field(256, ge=1, le=131_072, description="Most that a model on this machine writes.")
    temperature: float = Field(0.0, ge=0, le=10, description="Of a teacher on this machine; 0: the likeliest token.")
    knowledge: Literal["auto", "topk", "hidden", "none"] = Field(
        "auto", description="Of each token: the teacher's best ones, its hidden states, or nothing; auto: as needed."
    )
    top_k: int = Field(64, ge=1, le=4096, description="Tokens that topk keeps.")
    vocabulary: int | None = Field(None, ge=1, description="Rows of both heads that count, where one is padded more.")

    @property
    def capacity(self) -> int:
        """Tokens of a packed row."""
        return self.row_tokens or self.max_tokens

    @model_validator(mode="after")
    def _a_sample_fits_into_a_row(self) -> TextPlan:
        if self.capacity < self.max_tokens:
            raise ValueError("row_tokens is less than max_tokens: a sample would not fit into a row")
        return self


class PracticePlan(Section):
    """Text that the student writes itself and learns from: the recipes on-policy, self and grpo."""

    own_first: float = Field(0.0, ge=0, le=1, description="on-policy: share of steps on its own text, at first.")
    own_last: float = Field(1.0, ge=0, le=1, description="on-policy: the same, at the end.")
    beta_first: float = Field(0.0, ge=0, le=1, description="on-policy: 0 forward KL, 1 reverse KL, at first.")
    beta_last: float = Field(1.0, ge=0, le=1, description="on-policy: the same, at the end.")
    rounds: int = Field(3, ge=1, le=100, description="self: times that it writes, is verified and trained.")
    answers: int = Field(8, ge=2, le=1024, description="self, grpo: answers to a problem.")
    learnt: int = Field(4, ge=1, le=1024, description="self: most answers of a problem that are learnt.")
    temperature: float = Field(1.0, gt=0, le=10, description="Of what it writes.")
    epochs: int = Field(1, ge=1, le=1000, description="grpo: passes over the problems, after the fine-tuning.")
    learning_rate: float = Field(1e-5, gt=0, le=1, description="grpo: highest, after the warm-up.")
    updates: int = Field(1, ge=1, le=64, description="grpo: steps made from the same answers.")
    clip: float = Field(0.2, gt=0, lt=1, description="grpo: how far the odds of a token may move in a step.")
    norm: Literal["answer", "token", "constant"] = Field(
        "answer", description="grpo: what a token's loss is divided by: its answer's length, all tokens, or the most."
    )
    scaled: bool = Field(True, description="grpo: advantages in units of their group's deviation.")
    kl: float = Field(0.0, ge=0, le=100, description="grpo: weight of the divergence from the student it began as.")


class TargetPlan(Section):
    """The hardware the student is compiled for."""

    profile: str = Field("cpu", description="A hardware profile; see `toolkit targets`.")
    precision: Literal["auto", "fp32", "int8", "int4"] = Field(
        "auto", description="auto: the smallest that is as good as fp32 and faster; int4 for text."
    )
    margin: float = Field(0.005, ge=0, le=1, description="Most accuracy on validation that a smaller form may lose.")
    latency_p95_ms: float | None = Field(None, gt=0, description="Most that 95% of answers may take.")
    memory_mb: float | None = Field(None, gt=0, description="Most weights and activations together.")
    size_mb: float | None = Field(None, gt=0, description="Largest model file.")


class GatePlan(Section):
    """What the compiled student must keep of its teacher."""

    retain: float = Field(0.95, gt=0, le=1, description="Share of the teacher's quality that must be kept.")
    small_sample: Literal["refuse", "warn"] = Field("refuse", description="What too few test rows mean.")


class ComputePlan(Section):
    """Where and in which number format training runs."""

    seed: int = Field(0, ge=0, lt=2**31, description="All that is random follows from it.")
    device: str = Field("auto", description="auto, cpu, cuda, npu, mps, or a torch device such as cuda:1.")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0 takes the machine's cores.")
    executor: str = Field("local", description="Where labelling and evaluation are done; see `toolkit plugins`.")
    precision: Literal["auto", "fp32", "bf16", "fp8"] = Field(
        "fp32", description="Of the student's training. auto: the faster safe one of fp32 and bf16; fp8 is emulated."
    )
    sharding: Literal["none", "full"] = Field(
        "none", description="full: of several processes each holds a share of weights, gradients and optimiser (FSDP2)."
    )


class CostPlan(Section):
    """Prices for the report's cost line."""

    currency: str = Field("USD", description="Of the prices below.")
    server_hour: float = Field(0.10, ge=0, description="Price of one hour of the box that serves.")
    utilisation: float = Field(0.3, gt=0, le=1, description="Share of an hour the box is busy.")
    api_in: float = Field(
        0.27, ge=0, description="An API's price of a million prompt tokens; deepseek-chat's list price in spring 2025."
    )
    api_out: float = Field(1.10, ge=0, description="Likewise of a million tokens of answers.")


class Plan(Section):
    """Everything a run needs to know. `sections` holds the settings of plugins, by section name."""

    domain: str = Field(description="An installed domain; see `toolkit plugins`.")
    task: str = Field("image_classification", description="What kind of model this is; the domain chooses.")
    data: DataPlan = DataPlan()
    teacher: TeacherPlan = TeacherPlan()
    student: StudentPlan = StudentPlan()
    recipe: RecipePlan = RecipePlan()
    maps: MapsPlan = MapsPlan()
    text: TextPlan = TextPlan()
    practice: PracticePlan = PracticePlan()
    target: TargetPlan = TargetPlan()
    gate: GatePlan = GatePlan()
    compute: ComputePlan = ComputePlan()
    cost: CostPlan = CostPlan()
    product: str = Field("", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$|^$", description="Name the bundle carries.")

    def part(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values under the dotted `keys`, JSON-ready: what a stage's digest covers."""
        everything = self.model_dump(mode="json")
        return {key: _lookup(everything, key) for key in keys}


@dataclass(frozen=True)
class Options:
    """What the user typed, before any plan: what `draft_plan` may look at."""

    domain: str
    data: Path | None = None
    teacher: str | None = None
    target: str | None = None


def toolkit_home() -> Path:
    """TOOLKIT_HOME, or the platform's data folder."""
    if home := os.environ.get("TOOLKIT_HOME"):
        return Path(home).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "toolkit"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "toolkit"


def database_url(home: Path) -> str:
    """TOOLKIT_DATABASE_URL, or the SQLite file under that home. It may hold a password: it never enters a plan."""
    return os.environ.get("TOOLKIT_DATABASE_URL") or f"sqlite:///{quote(os.fsencode(home.absolute() / 'registry.db'))}"


def passphrase_from_environment() -> str | None:
    """The first line of the file that TOOLKIT_PASSPHRASE_FILE names, or None."""
    name = os.environ.get("TOOLKIT_PASSPHRASE_FILE")
    if not name:
        return None
    try:
        return Path(name).read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise PlanError(
            f"cannot read a passphrase from {name}", hint="TOOLKIT_PASSPHRASE_FILE names a file that holds it."
        ) from error


def _lookup(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values
