"""A first guess at what a run will take, before this machine has a run of its own to go by.

The rates were read off two x86-64 cores without VNNI (tests/bench/results/industry.json) at 112 pixels a side.
"""

from __future__ import annotations

from toolkit.plan import Plan
from toolkit.tasks.image_classification.layout import scan_folder

READ, ADAPT, LABEL, TRAIN = 0.006, 0.030, 0.0035, 0.0025
"""Seconds: a picture read and checked; a row an epoch of the teacher; a labelled view; a row an epoch of a student."""
FIXED = {"evaluate": 15.0, "compile": 30.0, "gate": 30.0, "seal": 1.0, "install": 1.0, "check": 5.0}
REFERENCE_SIZE = 112
BASE_MB, TEACHER_MB = 700.0, 900.0
SAMPLE_ROWS, TRAIN_SHARE = 1260, 0.6


def estimate(plan: Plan) -> tuple[dict[str, float], float]:
    """Seconds by stage, and the memory (MB) of the stage that takes most."""
    pictures = SAMPLE_ROWS if plan.data.path is None else len(scan_folder(plan.data.path, purpose="train").entries)
    return estimate_for(plan, pictures, plan.teacher.epochs)


def estimate_for(plan: Plan, pictures: int, teacher_epochs: int) -> tuple[dict[str, float], float]:
    """The same for so many pictures, and a teacher that is adapted for so many epochs."""
    rows = pictures * TRAIN_SHARE
    teacher_area, student_area = (
        (size / REFERENCE_SIZE) ** 2 for size in (plan.teacher.input_size, plan.student.input_size)
    )
    students = 2 if plan.recipe.baseline else 1
    seconds = {
        "prepare": READ * pictures,
        "label": rows * teacher_area * (ADAPT * teacher_epochs + LABEL * plan.recipe.views),
        "distil": rows * student_area * TRAIN * plan.recipe.epochs * students,
        **FIXED,
    }
    side = max(plan.teacher.input_size, plan.student.input_size) * 8 / 7
    return seconds, BASE_MB + TEACHER_MB * teacher_area + pictures * 3 * side**2 / 1e6
