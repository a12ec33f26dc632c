"""A first guess at what a run will take, before this machine has a run of its own to go by.

The rates were read off two x86-64 cores with a teacher of 135 M parameters and a student of 30 M.
"""

from __future__ import annotations

from toolkit.plan import Plan
from toolkit.tasks.text_generation.rows import data_files

BYTES = 4.0
"""Of a token, in English."""

READ, LABEL, TRAIN = 2e-7, 9e-5, 4e-5
"""Seconds: a byte read and checked; a token and a million parameters of the teacher; a token an epoch and a million
parameters of the student."""

TEACHER, BASE_MB, FIXED = 135.0, 900.0, 60.0
"""Parameters (millions) where the checkpoint does not tell; memory of the process; seconds of scoring."""


def estimate(plan: Plan) -> tuple[dict[str, float], float]:
    """Seconds by stage, and the memory (MB) of the stage that takes most."""
    size = 0 if plan.data.path is None else sum(path.stat().st_size for path, _ in data_files(plan.data.path)[0])
    tokens, students = size / BYTES, 2 if plan.recipe.baseline else 1
    teacher, student = _millions(plan), plan.student.parameters / 1e6
    seconds = {
        "prepare": READ * size,
        "label": LABEL * tokens * teacher,
        "distil": TRAIN * tokens * student * plan.recipe.epochs * students,
        "evaluate": FIXED,
    }
    return seconds, BASE_MB + 4 * teacher + 16 * student


def _millions(plan: Plan) -> float:
    """Parameters of the teacher by the size of its weights, at two bytes each."""
    source = plan.teacher.checkpoint
    if source is None or not source.exists():
        return TEACHER
    files = [source] if source.is_file() else [*source.glob("*.safetensors"), *source.glob("pytorch_model*.bin")]
    return max(1.0, sum(path.stat().st_size for path in files) / 2e6)
