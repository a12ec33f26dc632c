"""Write docs/reference.md from the code: verbs with their options, exit codes, and the keys of plans and sites.

python docs/generate.py            write it (`make docs`)
python docs/generate.py --check    exit 1 where it is out of date (the tests do this)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic.fields import FieldInfo

from toolkit import defaults, errors
from toolkit.cli.main import build_app
from toolkit.plan import Section
from toolkit.plugins import load_plugins
from toolkit.resolve import plan_model
from toolkit.site.settings import SiteSettings

TARGET = Path(__file__).with_name("reference.md")
HEAD = """# Reference

Written by `docs/generate.py` from the code; a test fails where the two differ. The same is printed by `toolkit --help`,
`toolkit VERB --help` and `toolkit plan --domain DOMAIN`.
"""
BOUNDS = {Ge: ("ge", "at least {}"), Gt: ("gt", "above {}"), Le: ("le", "at most {}"), Lt: ("lt", "below {}")}
SHARED = {"--json"}
"""Options that nearly every verb has, said once."""


def reference() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_verbs(), *_exit_codes(), *_plan_keys(), *_site_keys()]) + "\n"


def commands() -> dict[str, Any]:
    """Every verb that can be typed, by its words: `deploy`, `site init`, `teachers cache ls`, ..."""
    return dict(_leaves(typer.main.get_command(build_app())))


def _leaves(group: Any, words: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        if inner is None or command.invoke_without_command:
            yield f"{words} {name}".strip(), command
        if inner is not None:
            yield from _leaves(command, f"{words} {name}".strip())


def plan_keys(domain: str = "industry") -> dict[str, FieldInfo]:
    """Every key of the plan by its dotted name, core's and the domain's."""
    return dict(_fields(plan_model(load_plugins(domain, defaults).settings())))


def _verbs() -> Iterator[str]:
    yield "## Verbs\n"
    yield "Every verb takes `--json` (one machine-readable object) and `--help`. `--version` stands alone; anywhere,"
    yield "`--debug` (the traceback of an error).\n"
    for name, command in commands().items():
        context = command.make_context(f"toolkit {name}", [], resilient_parsing=True)
        usage = [piece for parameter in command.params for piece in parameter.get_usage_pieces(context)]
        yield f"### `{' '.join(['toolkit', name, *usage])}`\n"
        yield f"{' '.join(command.help.split())}\n"
        rows = [parameter.get_help_record(context) for parameter in command.params if not SHARED & set(parameter.opts)]
        if rows:
            yield from _table(
                ("option", "meaning"), [(f"`{left}`", right.replace("  [", " [")) for left, right in rows]
            )


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes\n"
    by_code: dict[int, list[str]] = {}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.ToolkitError) and kind is not errors.ToolkitError:
            by_code.setdefault(kind.exit_code, []).append(_first_line(kind))
    by_code[0] = ["Done."]
    by_code[1] = ["A bug of the toolkit."]
    by_code[130] = ["Stopped by Ctrl-C; the same command takes up where it was."]
    yield from _table(("code", "meaning"), [(str(code), "<br>".join(by_code[code])) for code in sorted(by_code)])
    yield "An error is two lines on standard error, what and what to do; with `--json` it is one object, `error`, with"
    yield "`code`, `message` and `hint`.\n"


def _first_line(kind: type) -> str:
    text = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return text.replace(f" (exit {kind.exit_code})", "")  # type: ignore[attr-defined]


def _plan_keys() -> Iterator[str]:
    yield "## Keys of the plan\n"
    yield "In `toolkit.toml` a dot is a table: `recipe.epochs` is `epochs` under `[recipe]`. On the command line it is"
    yield "`--set recipe.epochs=40`. A domain's draft may differ from these defaults; `toolkit plan` shows what holds,"
    yield "and where it comes from.\n"
    yield from _key_table(plan_keys())


def site_keys() -> dict[str, FieldInfo]:
    """Every key of a site's settings."""
    return dict(_fields(SiteSettings))


def _site_keys() -> Iterator[str]:
    yield "## Settings of a site\n"
    yield "`SITE/settings.toml`, read when a server starts; see [watch a site](howto/watching.md).\n"
    yield from _key_table(site_keys())


def _key_table(keys: Mapping[str, FieldInfo]) -> Iterator[str]:
    rows = []
    for key, field in keys.items():
        assert field.description, f"the key {key} has no description"
        default = "" if field.is_required() or field.default is None else _value(field.default)
        rows.append((f"`{key}`", default, _allowed(field), field.description))
    yield from _table(("key", "default", "values", "meaning"), rows)


def _fields(model: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value != "" else ""


def _allowed(field: FieldInfo) -> str:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if choices:
        return ", ".join(_value(value) for value in choices)
    bounds = [text.format(getattr(one, name)) for kind, (name, text) in BOUNDS.items() for one in field.metadata
              if isinstance(one, kind)]  # fmt: skip
    bounds += [f"a multiple of {one.multiple_of}" for one in field.metadata if isinstance(one, MultipleOf)]
    return ", ".join(bounds) or _kind(field.annotation)


def _kind(annotation: Any) -> str:
    plain = [kind for kind in get_args(annotation) if kind is not type(None)] if get_args(annotation) else [annotation]
    if get_origin(annotation) is tuple:
        return "a list of texts"
    return {bool: "true, false", Path: "a folder", str: "text"}.get(plain[0], plain[0].__name__)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Sequence[str]) -> int:
    page = reference()
    if "--check" in arguments:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == page:
            return 0
        sys.stderr.write(f"{TARGET.name} is out of date: run python docs/generate.py\n")
        return 1
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
