"""What every stage is handed, and what a stage is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from toolkit.artifacts import Artifact, Dataset, Facts, StudentSpec, TeacherLabels
from toolkit.distil.journal import journal_of
from toolkit.distil.processes import ALONE, Processes
from toolkit.plan import Plan
from toolkit.plugins import Plugins
from toolkit.protocols import Executor, HardwareProfile, Report, RunRecord, Target
from toolkit.seal.custody import Unlock
from toolkit.text_teachers import AnyTeacher
from toolkit.workspace import Stored, Workspace

Kind = TypeVar("Kind", bound=Artifact)


@dataclass(frozen=True)
class Context:
    """One run: its plan, the plugins that serve it, where it works, whom it tells, and the processes that share it."""

    plan: Plan
    plugins: Plugins
    workspace: Workspace
    run: RunRecord
    report: Report
    site: Path
    passphrase: Unlock = None
    override: str = ""
    suite: str = ""
    processes: Processes = ALONE

    @property
    def teacher(self) -> AnyTeacher:
        return self.plugins.teachers()[self.plan.teacher.name]

    @property
    def journal(self) -> Path:
        """Where what this teacher writes is kept, for every run of this home."""
        return journal_of(self.workspace.home, self.teacher, self.plan)

    @property
    def executor(self) -> Executor:
        return self.plugins.executors()[self.plan.compute.executor]

    def student_spec(self, dataset: Dataset) -> StudentSpec:
        """The student that the domain, or core, builds for this data."""
        spec: StudentSpec = self.plugins.hook.build_student(plan=self.plan, dataset=dataset)
        return spec

    @property
    def profile(self) -> tuple[HardwareProfile, Target]:
        return self.plugins.profiles()[self.plan.target.profile]


Upstream = Mapping[str, Artifact]
"""The artifacts of the stages before, by stage name."""


def take(upstream: Upstream, stage: str, kind: type[Kind]) -> Kind:
    """The artifact that `stage` left, as its kind."""
    artifact = upstream[stage]
    assert isinstance(artifact, kind)
    return artifact


@dataclass(frozen=True)
class Stage:
    """A stage of the line.

    Args:
        kind: name of the artifact's kind in the store.
        keys: dotted keys of the plan that its digest covers.
        needs: stages whose artifacts it reads; their digests are its parents.
        code: modules whose sources its digest covers, beside the domain's.
        run: makes the artifact's files in a folder and returns its facts. What lies there after a crash is taken up.
        begin: as `run`, where the next stage can work on what has been made so far and bring it to its end.
        load: a stored artifact as the record that later stages take.
        uses: what plugins offered for it; the sources of those plugins count too.
        inputs: what else the digest covers: data, checkpoints, the site.
        stands: whether a stored artifact still holds; a site may have changed since.
        together: several processes run it together, of which the first one writes; else the first one runs it alone.
    """

    name: str
    kind: str
    keys: tuple[str, ...]
    needs: tuple[str, ...]
    code: tuple[str, ...]
    run: Callable[[Context, Upstream, Path], Facts]
    load: Callable[[Context, Stored], Artifact]
    begin: Callable[[Context, Upstream, Path], TeacherLabels] | None = None
    uses: Callable[[Context], tuple[object, ...]] = field(default=lambda _: ())
    inputs: Callable[[Context], Mapping[str, Any]] = field(default=lambda _: {})
    stands: Callable[[Context, Artifact], bool] = field(default=lambda _, __: True)
    together: bool = False
