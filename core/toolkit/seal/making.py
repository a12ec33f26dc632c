"""What a bundle's papers say of how it was made, beside what its manifest says.

Papers are read by everybody. So nothing of a plan, a data set or an evaluation gets here by being in it: whoever seals
chooses each word. No class names, thresholds, prompts or paths, and no figure but those that the gate decided by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from toolkit.artifacts import Metric


@dataclass(frozen=True)
class Package:
    """An installed distribution: its name on the package index, its version, and its licence as it states it."""

    name: str
    version: str
    licence: str = ""


@dataclass(frozen=True)
class Making:
    """Facts for the bill of materials and the provenance.

    Args:
        task: what kind of model it is.
        form: the numeric form shipped, `fp32`, `int8`, ...
        gate: how the gate decided; '' where none was asked.
        figures: what it decided by, as `<whose> <metric>`.
        parameters: what the user asked for, of the plan; canonical JSON.
        data_sha256, teacher_sha256: digests of what it was made from, '' where there is none.
        line: the distributions that made it: core, the domain, the plugins that took part.
        runtime: the distributions that it was proven to run on.
        run: the run's id.
    """

    task: str = ""
    form: str = ""
    gate: str = ""
    figures: Mapping[str, Metric] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    data_sha256: str = ""
    teacher_sha256: str = ""
    line: tuple[Package, ...] = ()
    runtime: tuple[Package, ...] = ()
    run: str = ""


NOTHING_SAID = Making()
