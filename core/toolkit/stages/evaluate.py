"""Score teacher, student and baseline on the test rows, before anything is compiled: EVALUATION."""

from __future__ import annotations

from pathlib import Path

from toolkit.artifacts import Dataset, Evaluation, Facts, Student, TeacherLabels
from toolkit.stages.context import Context, Stage, Upstream, take
from toolkit.stages.evaluations import score
from toolkit.stages.spread import executor_for, spread
from toolkit.tasks.base import task_of
from toolkit.workspace import Stored


def run(context: Context, upstream: Upstream, folder: Path) -> Facts:
    """One file a model: teacher, student, and baseline where there is one."""
    task, dataset = task_of(context.plan), take(upstream, "prepare", Dataset)
    labels, student = take(upstream, "label", TeacherLabels), take(upstream, "distil", Student)
    spec = context.student_spec(dataset)
    scored: dict[str, object] = {}
    distilled = task.student_predictor(student, spec, "student")
    with executor_for(distilled, context.executor).open(context.plan) as workers:
        predictors = [
            task.teacher_predictor(context.plan, context.teacher, labels, context.journal, workers.threads),
            distilled,
        ]
        if "baseline" in student.facts:
            predictors.append(task.student_predictor(student, spec, "baseline"))
        for done, predictor in enumerate(predictors):
            context.report(f"score the {predictor.facts.form}", done, len(predictors))
            evaluation = score(context, dataset, spread(predictor, workers), folder)
            scored[predictor.facts.form] = {name: metric.as_record() for name, metric in evaluation.metrics.items()}
    return {"metrics": scored}


def load(context: Context, stored: Stored) -> Evaluation:
    return Evaluation(stored.path, stored.digest, stored.parents, stored.facts)


STAGE = Stage(
    name="evaluate",
    kind="evaluation",
    keys=("compute.seed", "text.answer_tokens"),
    needs=("prepare", "label", "distil"),
    code=("toolkit.score", "toolkit.tasks", "toolkit.stages.evaluate"),
    run=run,
    load=load,
)
