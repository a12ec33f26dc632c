"""The plan: what a run will do, resolved once at the edge, validated, frozen, and trusted inside.

Values come in layers (`--set`, flags, toolkit.toml, the domain's draft, core defaults) and remember their layer.
Secrets never enter a plan. This module and the command line are the only ones that read the environment.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

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


class RecipePlan(Section):
    """How knowledge is transferred."""

    name: str = Field("soft-labels", description="A recipe; see `toolkit plugins`.")
    epochs: int = Field(80, ge=1, le=10_000, description="Passes over the training rows.")
    batch_size: int = Field(64, ge=2, le=8192, description="Rows in a step.")
    learning_rate: float = Field(4e-3, gt=0, le=1, description="Highest, after the warm-up.")
    weight_decay: float = Field(0.02, ge=0, le=1, description="Of AdamW.")
    temperature: float = Field(2.0, gt=0, le=100, description="Softens both distributions (Hinton 2015).")
    teacher_weight: float = Field(0.5, ge=0, le=1, description="Share of the loss that comes from the teacher.")
    views: int = Field(80, ge=1, le=10_000, description="Augmented views a row that the teacher labels.")
    mixup: float = Field(0.0, ge=0, le=1, description="Share of views that mix two rows (the teacher labels the mix).")
    baseline: bool = Field(True, description="Also train the same student on the labels alone, to compare.")


class TargetPlan(Section):
    """The hardware the student is compiled for."""

    profile: str = Field("cpu", description="A hardware profile; see `toolkit targets`.")
    precision: Literal["auto", "fp32", "int8"] = Field("auto", description="auto: int8 where it is as good and faster.")
    margin: float = Field(0.005, ge=0, le=1, description="Most accuracy on validation that int8 may lose.")
    latency_p95_ms: float | None = Field(None, gt=0, description="Most that 95% of answers may take.")
    memory_mb: float | None = Field(None, gt=0, description="Most weights and activations together.")
    size_mb: float | None = Field(None, gt=0, description="Largest model file.")


class GatePlan(Section):
    """What the compiled student must keep of its teacher."""

    retain: float = Field(0.95, gt=0, le=1, description="Share of the teacher's quality that must be kept.")
    small_sample: Literal["refuse", "warn"] = Field("refuse", description="What too few test rows mean.")


class ComputePlan(Section):
    """Where training runs. Not part of any digest except `seed`."""

    seed: int = Field(0, ge=0, lt=2**31, description="All that is random follows from it.")
    device: str = Field("auto", description="auto, cpu, cuda, npu, mps, or a torch device such as cuda:1.")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0 takes the machine's cores.")


class CostPlan(Section):
    """Prices for the report's cost line."""

    currency: str = Field("USD", description="Of the prices below.")
    server_hour: float = Field(0.10, ge=0, description="Price of one hour of the box that serves.")
    utilisation: float = Field(0.3, gt=0, le=1, description="Share of an hour the box is busy.")


class Plan(Section):
    """Everything a run needs to know. `sections` holds the settings of plugins, by section name."""

    domain: str = Field(description="An installed domain; see `toolkit plugins`.")
    task: str = Field("image_classification", description="What kind of model this is; the domain chooses.")
    data: DataPlan = DataPlan()
    teacher: TeacherPlan = TeacherPlan()
    student: StudentPlan = StudentPlan()
    recipe: RecipePlan = RecipePlan()
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


@dataclass(frozen=True)
class Layer:
    """Values from one place, nested as in toolkit.toml."""

    source: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class ResolvedPlan:
    """A plan and, for each dotted key, the layer its value came from."""

    plan: Plan
    origins: Mapping[str, str]


def toolkit_home() -> Path:
    """TOOLKIT_HOME, or the platform's data folder."""
    if home := os.environ.get("TOOLKIT_HOME"):
        return Path(home).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "toolkit"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "toolkit"


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


def read_config(path: Path) -> Layer:
    """The layer of a toolkit.toml.

    Raises:
        PlanError: the file is missing or not TOML; the message names the line.
    """
    try:
        return Layer(path.name, tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise PlanError(f"no configuration at {path}", hint="Check --config.") from error
    except OSError as error:
        raise PlanError(f"cannot read {path}: {error.strerror}", hint="--config names a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not valid TOML: {error}", hint="Mend that line.") from error


def parse_assignments(assignments: Sequence[str]) -> Layer:
    """The layer of `--set key=value`; a value is TOML, or else a string."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise PlanError(f"--set {text!r} is not key=value", hint="For example: --set recipe.epochs=80")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        table = values
        *parents, leaf = key.strip().split(".")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise PlanError(f"--set {text!r}: {parent} is a value, not a table", hint="Check the key.")
        table[leaf] = parsed
    return Layer("--set", values)


def resolve(layers: Sequence[Layer], sections: Mapping[str, type[Section]]) -> ResolvedPlan:
    """Merge layers, the first winning, into a validated plan.

    Args:
        layers: highest precedence first; core defaults are added below them all.
        sections: settings models of plugins, by the name of their table.

    Raises:
        PlanError: an unknown key (naming the nearest known one) or a value that does not fit.
    """
    model = plan_model(sections)
    known = _known_keys(model)
    merged: dict[str, Any] = {}
    origins = dict.fromkeys(known, "default")
    for layer in reversed(layers):
        for key, value in _leaves(layer.values, known):
            if key not in known:
                raise _unknown_key(key, layer.source, known)
            _assign(merged, key, value)
            origins[key] = layer.source
    try:
        plan = model.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
        source = origins.get(key, "toolkit.toml")
        raise PlanError(
            f"{key} (from {source}): {first['msg'].removeprefix('Value error, ')}", hint="See `toolkit plan`."
        ) from error
    return ResolvedPlan(plan, {key: origins[key] for key in sorted(known)})


def plan_model(sections: Mapping[str, type[Section]]) -> type[Plan]:
    """The plan's type with the tables that plugins added."""
    if not sections:
        return Plan
    fields: dict[str, Any] = {name: (section, section()) for name, section in sections.items()}
    return create_model("Plan", __base__=Plan, **fields)


def thaw(values: Mapping[str, Any], sections: Mapping[str, type[Section]]) -> Plan:
    """A frozen plan as a bundle carries it. Tables of plugins that are not installed here are left out."""
    model = plan_model(sections)
    return model.model_validate({key: value for key, value in values.items() if key in model.model_fields})


def draft_layer(draft: Plan) -> Layer:
    """What a domain's draft sets itself, and nothing it left at its default."""
    return Layer("domain", draft.model_dump(exclude_unset=True, exclude={"domain"}))


def _lookup(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _known_keys(model: type[BaseModel], prefix: str = "") -> dict[str, None]:
    keys: dict[str, None] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys |= _known_keys(kind, f"{prefix}{name}.")
        else:
            keys[prefix + name] = None
    return keys


def _leaves(values: Mapping[str, Any], known: Mapping[str, None], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        key = prefix + name
        if isinstance(value, Mapping) and key not in known:
            yield from _leaves(value, known, key + ".")
            if not value and not any(k.startswith(key + ".") for k in known):
                yield key, value
        else:
            yield key, value


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[leaf] = value


def _unknown_key(key: str, source: str, known: Mapping[str, None]) -> PlanError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5) or [
        k for k in known if k.split(".")[-1] == key.split(".")[-1]
    ]
    hint = f"Did you mean {near[0]}?" if near else "`toolkit plan` lists every key."
    return PlanError(f"unknown key {key} in {source}", hint=hint)
