"""report.html and report.json of a run: one page for the person who decides, and the same figures for a program.

The page stands alone: style and drawings are inside it, nothing is fetched, no script runs; its own policy forbids it.
All text from outside is escaped. It refuses to measure or to judge: each figure comes from the mapping it is given.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from toolkit.report import charts, costs, tables, wording
from toolkit.report.course import courses
from toolkit.report.learning import gains, panels, pulls, rewards, task_curves
from toolkit.report.verdict import key_figures, notes, subject, verdict, words_of
from toolkit.workspace import write_file

FILTERS = ("amount", "buys", "count", "day", "decimal", "duration", "figure", "interval", "money", "percent")
DRAWINGS = ("axis_labels", "bar", "confusion", "legend_mark", "pair", "promise", "whiskers")

# What no file name may do to a page: control it, turn its text around, or keep it from being encoded.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_PICTURE = re.compile(r"data:image/(?:jpeg|png|webp);base64,[A-Za-z0-9+/=]+")


def render(report: Mapping[str, Any]) -> str:
    """The page, one self-contained HTML document that is well-formed XML as well.

    Args:
        report: the figures of a run, as report.json holds them. A part that is null or missing is left out of the page.
            `picked_epoch` counts from 0; a picture is a data: URL of a JPEG, PNG or WebP, anything else is not shown.
    """
    record = printable(report)
    kind, model = subject(record)
    count_splits, counts = tables.count_rows(record)
    return _environment().get_template("report.html.j2").render(
        report=record, kind=kind, model=model, verdict=verdict(record), notes=notes(record),
        words=words_of(record), key_figures=key_figures(record), quality=tables.quality(record),
        classes=tables.class_rows(record),
        sorting=tables.sorting(record), mix_ups=tables.mix_ups(record), agreement=tables.agreement(record),
        parity=tables.parity_words(record), costs=costs.cost_rows(record),
        end_to_end=costs.end_to_end_rows(record), panels=panels(record), pulls=pulls(record), tasks=task_curves(record),
        gains=gains(record), rewards=rewards(record),
        courses=courses(record), splits=count_splits, counts=counts,
    )  # fmt: skip


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write report.json and report.html into `folder`, each whole or not at all.

    What JSON and UTF-8 cannot hold (NaN, infinities, half characters in file names) is null or U+FFFD in both.

    Raises:
        EnvironmentUnfit: the folder cannot be written to.
    """
    page = render(report)
    text = json.dumps(printable(report), indent=1, ensure_ascii=False, allow_nan=False)
    write_file(folder / "report.json", text.encode())
    write_file(folder / "report.html", page.encode())


def printable(value: Any) -> Any:
    """The same JSON value without what no page or JSON file can hold."""
    if isinstance(value, Mapping):
        return {printable(str(name)): printable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable(inner) for inner in value]
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def picture(url: object) -> str:
    """A picture's data: URL; empty where it is anything else, so that no page ever fetches one."""
    return url if isinstance(url, str) and _PICTURE.fullmatch(url) else ""


def _drawn(chart: Callable[..., str]) -> Callable[..., Markup]:
    """The charts escape what they are given themselves."""
    return lambda *figures: Markup(chart(*figures))


def _known(words: Callable[..., str]) -> Callable[..., str]:
    """What a report lacks is to a filter what is null in it."""
    return lambda value, *rest: words(None if isinstance(value, jinja2.Undefined) else value, *rest)


@cache  # compiling the templates takes longer than all pages of a run
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("toolkit.report", ""), autoescape=True, undefined=jinja2.ChainableUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {name: _known(getattr(wording, name)) for name in FILTERS}
    environment.filters |= {"picture": picture, "drawing": Markup}
    environment.globals |= {name: _drawn(getattr(charts, name)) for name in DRAWINGS}
    environment.globals |= {"share_axis": charts.share_axis, "counted": wording.counted}
    return environment
