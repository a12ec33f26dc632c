"""From what users say to a plan: layers of values (`--set`, flags, toolkit.toml, the domain's draft, core defaults),
the first winning, each value remembering its layer; and from a bundle's frozen plan back to a plan of this machine."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, create_model

from toolkit.errors import PlanError
from toolkit.plan import Plan, Section


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
        # Of a list's entry it is the list that somebody set; of keys that must fit together, the one that came last.
        told = {source for at, source in origins.items() if f"{key}.".startswith(f"{at}.") or at.startswith(f"{key}.")}
        source = next((layer.source for layer in layers if layer.source in told), "default")
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
