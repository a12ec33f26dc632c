"""Asking a teacher that is not the plan's own: found by its name, asked by the plan, its answers kept where there is a
home. What it is asked, and what its answer is worth, is the domain's affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from toolkit.errors import PlanError, Unsupported
from toolkit.plan import Plan
from toolkit.plugins import Plugins
from toolkit.text import Completion, Prompt
from toolkit.text_teachers import Ask, AskedTeacher, LocalTeacher, TextTeacher


def ask_by(plugins: Plugins, plan: Plan, home: Path | None = None) -> Ask:
    """The teachers that are installed, asked by `plan`.

    Args:
        home: where answers are kept, and never asked for twice; None on a site, which keeps none, and where only
            teachers that are asked elsewhere can be, since torch is not installed there.
    """

    def ask(name: str, tables: Mapping[str, Mapping[str, Any]] | None = None) -> AskedTeacher:
        teacher, other = plugins.teacher_named(name), _other(plan, tables or {})
        if isinstance(teacher, LocalTeacher) and not isinstance(teacher, TextTeacher) and home is not None:
            from toolkit.tasks.text_generation.predictors import LocalWriter  # brings torch

            teacher = LocalWriter(teacher)
        if not isinstance(teacher, TextTeacher):
            raise Unsupported(f"the teacher {name} cannot be asked here", hint="Name one that answers, such as http.")
        asked = teacher

        def answers(prompts: Sequence[Prompt]) -> Iterator[Completion]:
            return _kept(home, asked, other, prompts) if home else _asked(asked, other, prompts)

        return AskedTeacher(asked.record(other).id, asked.fingerprint(other), answers)

    return ask


def _kept(home: Path, teacher: TextTeacher, plan: Plan, prompts: Sequence[Prompt]) -> Iterator[Completion]:
    from toolkit.distil.answers import answered
    from toolkit.distil.journal import journal_of

    with answered(journal_of(home, teacher, plan), teacher, plan, prompts) as found:
        yield from found


def _asked(teacher: TextTeacher, plan: Plan, prompts: Sequence[Prompt]) -> Iterator[Completion]:
    teacher.check(plan, prompts)
    found = teacher.answers(plan, prompts)
    try:
        yield from found
    finally:
        found.close()


def _other(plan: Plan, tables: Mapping[str, Mapping[str, Any]]) -> Plan:
    if not tables:
        return plan
    values = plan.model_dump()
    for name, table in tables.items():
        if not isinstance(values.get(name), dict) or not isinstance(table, Mapping):
            raise PlanError(f"the plan has no table [{name}]", hint=f"Install what brings it, or leave [{name}] out.")
        values[name] = values[name] | dict(table)
    try:
        return type(plan).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PlanError(f"{key}: {first['msg']}", hint="`toolkit plan` lists every key.") from error
