"""Every hook, and nothing else.

What is chosen by name is offered; what a domain knows is asked (first answer wins: domain, then plugins, then core);
contents and refusals are collected; events are told. An implementation names only the arguments it wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pluggy
from typer import Typer

from toolkit.artifacts import (
    Artifact,
    BundleFile,
    CompiledModel,
    Dataset,
    Evaluation,
    HardwareBudget,
    StudentSpec,
    TeacherLabels,
    Violation,
)
from toolkit.plan import Options, Plan
from toolkit.protocols import (
    CipherSuite,
    Executor,
    Host,
    KeyProvider,
    Recipe,
    Report,
    RunRecord,
    ServedPredictor,
    Settings,
    Target,
    TensorPredictor,
)
from toolkit.services import Service
from toolkit.text import ServedText, TextPredictor
from toolkit.text_teachers import AnyTeacher, Ask

PROJECT = "toolkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# --- offered -----------------------------------------------------------------------------------------------------


@hookspec
def register_teachers() -> Iterable[AnyTeacher]:
    """Offer teachers; `teacher.name` picks one."""


@hookspec
def register_recipes() -> Iterable[Recipe]:
    """Offer recipes; `recipe.name` picks one."""


@hookspec
def register_targets() -> Iterable[Target]:
    """Offer hardware targets with their profiles; `target.profile` picks one."""


@hookspec
def register_executors() -> Iterable[Executor]:
    """Offer places to work in; `compute.executor` picks one."""


@hookspec
def register_key_providers() -> Iterable[KeyProvider]:
    """ENCRYPTED ON-PREM PACKAGING. Offer what guards keys at rest; `--custody` picks one for keys that are made."""


@hookspec
def register_cipher_suites() -> Iterable[CipherSuite]:
    """ENCRYPTED ON-PREM PACKAGING. Offer how files are encrypted; `--suite` picks one that the trust root allows."""


@hookspec
def register_commands(cli: Typer) -> None:
    """Add own verbs to `cli`, a command line that becomes part of `toolkit`."""


@hookspec
def register_settings() -> Iterable[Settings]:
    """Offer own tables of toolkit.toml, each a pydantic model."""


# --- asked -------------------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def draft_plan(options: Options) -> Plan | None:
    """What this domain would do for these options: set only what differs from core's defaults."""


@hookspec(firstresult=True)
def prepare_data(
    plan: Plan, source: Path | None, purpose: str, workspace: Path, classes: tuple[str, ...], report: Report
) -> Dataset | None:
    """DATA PREP. Read, check and split `source` (None: a sample) into `workspace`, a folder of its own.

    `purpose` is `train`, or `evaluate`: then every readable row is a test row and a label outside `classes` an error.
    """


@hookspec(firstresult=True)
def build_student(plan: Plan, dataset: Dataset) -> StudentSpec | None:
    """The student to train on this data."""


@hookspec(firstresult=True)
def label(
    plan: Plan,
    dataset: Dataset,
    teacher: AnyTeacher,
    workspace: Path,
    journal: Path,
    report: Report,
    executor: Executor,
) -> TeacherLabels | None:
    """Adapt the teacher and label the training rows into `workspace`; what lies there after a crash is taken up.

    `journal` is a folder of the home where what this teacher writes is kept, for every run; `executor`
    has the workers that ask a model again and again."""


@hookspec(firstresult=True)
def evaluate(plan: Plan, dataset: Dataset, predictor: TensorPredictor | TextPredictor, ask: Ask) -> Evaluation | None:
    """EVALUATION. Score a model on the test rows: teacher, student, compiled or installed alike; `ask` finds another
    teacher by its name, where an answer is to be checked by one."""


@hookspec(firstresult=True)
def require_hardware(plan: Plan, dataset: Dataset) -> HardwareBudget | None:
    """HARDWARE TARGETING. What the compiled student may cost on its target."""


@hookspec(firstresult=True)
def serve(site: Path, bundle: Mapping[str, Any], predictor: ServedPredictor | ServedText, ask: Ask) -> Service | None:
    """The routes of an installed student. `bundle` holds its id, plan, classes, thresholds, the `metrics` that it was
    measured at, and the `files` that `package` gave it, decrypted in RAM; `ask` finds a teacher that is installed on
    the site."""


# --- collected ---------------------------------------------------------------------------------------------------


@hookspec
def package(plan: Plan, dataset: Dataset, compiled: CompiledModel) -> Iterable[BundleFile]:
    """ENCRYPTED ON-PREM PACKAGING. Further files for the bundle, each with its role; `serve` finds them in
    `bundle["files"]`.

    A file is encrypted unless it says `secret=False`: then everybody can read it (`toolkit bundle print`), and it is
    signed as everything is. Roles are read by everybody. A licence text has the role `LICENSES/NAME`.
    """


@hookspec
def check_release(plan: Plan, teacher: Evaluation, student: Evaluation) -> Iterable[Violation]:
    """EVALUATION. Reasons not to release the compiled student, beyond the gate."""


@hookspec
def check_install(manifest: Mapping[str, Any], host: Host) -> Iterable[Violation]:
    """ENCRYPTED ON-PREM PACKAGING. Reasons not to install a bundle on this machine."""


# --- told --------------------------------------------------------------------------------------------------------


@hookspec
def run_started(run: RunRecord) -> None:
    """A run begins."""


@hookspec
def stage_finished(run: RunRecord, stage: str, artifact: Artifact, kept: bool) -> None:
    """A stage has its artifact; `kept` where it was there already."""


@hookspec
def run_finished(run: RunRecord) -> None:
    """A run reached the stage it was to end with."""


@hookspec
def run_failed(run: RunRecord, stage: str, error: BaseException) -> None:
    """A stage raised."""
