"""How good the models are, and on which pictures: from the report's records to rows of ready text.

It refuses to know HTML; what a figure means to the reader stands here, beside the figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress

from toolkit.artifacts import SPLITS
from toolkit.report.charts import Axis, share_axis
from toolkit.report.verdict import JUDGED, Record, judged_by, part, subject, words_of
from toolkit.report.wording import count, counted, figure, interval, one_in, parameters, percent, points

MODELS = ("teacher", "student", "baseline", "compiled")
NAMES = {
    "teacher": "Teacher", "student": "Student", "baseline": "Same student, labels alone", "compiled": "Shipped student",
}  # fmt: skip
METRICS = {
    "macro_f1": ("Macro F1", "Right answers and completeness in one figure, every class counting the same. Higher is "
                 "better."),
    "token_accuracy": ("Tokens chosen", "How many of a text's tokens the model would have chosen itself. Higher is "
                       "better."),
    "log_loss": ("Log loss", "How surprised the model is by the truth, in nats: a mistake it was sure of costs most. "
                 "Lower is better."),
    "calibration_error": ("Calibration error", "How far stated confidence and being right lie apart. Lower is "
                          "better."),
    "auroc": ("AUROC, pictures", "The chance that a faulty picture looks stranger than a good one, wherever the limit "
              "is. Higher is better."),
    "pixel_auroc": ("AUROC, places", "The same of places in pictures, by the masks. Higher is better."),
    "aupro": ("AUPRO", "How much of a faulty region is found at few false alarms, small regions counting as much as "
              "large ones. Higher is better."),
}  # fmt: skip
GOOD_CLASS_METRICS = ("escapes", "overkill")
MOST_CONFUSED = 6


@dataclass(frozen=True)
class Cell:
    """A figure and its interval as text."""

    figure: str
    interval: str

    @classmethod
    def of(cls, metric: Record | None) -> Cell:
        return cls(figure(metric), interval(metric))


@dataclass(frozen=True)
class ModelRow:
    """One model of the quality table; `others` are the cells of the columns after accuracy."""

    kind: str
    name: str
    about: str
    accuracy: Record
    others: tuple[Cell, ...]


@dataclass(frozen=True)
class Quality:
    """The quality table: what models are judged by, and `columns` (heading, what it means) after it."""

    axis: Axis
    heading: str
    meaning: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[ModelRow, ...]
    added: str


@dataclass(frozen=True)
class ClassRow:
    """Recall of one class: the model's and its teacher's."""

    name: str
    rows: str
    ours: Record
    teachers: Record | None
    missed: str


def quality(report: Record) -> Quality | None:
    """Teacher, student, baseline and compiled model side by side; None where nothing was scored."""
    models = [(kind, part(report, kind)) for kind in MODELS if part(report, kind, "metrics")]
    if not models:
        return None
    chief = judged_by(report)
    names = list(dict.fromkeys(
        name for _, model in models for name in model["metrics"]
        if name != chief and "/" not in name and name not in GOOD_CLASS_METRICS
    ))  # fmt: skip
    rows = tuple(
        ModelRow(kind, NAMES[kind], _about(kind, model), part(model, "metrics", chief),
                 tuple(Cell.of(model["metrics"].get(name)) for name in names))
        for kind, model in models
    )  # fmt: skip
    columns = tuple(METRICS.get(name, (name.replace("_", " ").capitalize(), "")) for name in names)
    return Quality(share_axis([row.accuracy for row in rows]), *JUDGED[chief], columns, rows, _added(report))


def _about(kind: str, model: Record) -> str:
    size = model.get("parameters")
    weights = f"{parameters(size)} parameters" if size else ""
    if kind == "compiled":
        facts = [model.get("form"), f"for {model['profile']}" if model.get("profile") else ""]
    elif kind == "teacher":
        facts = [model.get("architecture") or model.get("name"), weights]
    else:
        facts = [model.get("size"), weights]
    return ", ".join(str(fact) for fact in facts if fact)


def _added(report: Record) -> str:
    """What distilling added or cost, beside the same student trained on the labels alone."""
    ours, theirs = (part(report, kind, "metrics", judged_by(report)) for kind in ("student", "baseline"))
    if not ours or not theirs or ours["value"] is None or theirs["value"] is None:
        return ""
    gained = 100 * (ours["value"] - theirs["value"])
    surprise = _surprise(report)
    if gained == 0:
        return (
            "Learning from the teacher made no difference to how often the same student, trained on the labels alone, "
            f"is right.{surprise}"
        )
    word = "added" if gained > 0 else "cost"
    apart = ours["low"] > theirs["high"] or ours["high"] < theirs["low"]
    caution = "" if apart else " The two intervals overlap, so this may be chance."
    return (
        f"Learning from the teacher {word} {points(abs(gained)).lstrip('+')} of accuracy, beside the same student "
        f"trained on the labels alone.{caution}{surprise}"
    )


def _surprise(report: Record) -> str:
    """What it did to how sure the student is of the truth."""
    ours, theirs = (part(report, kind, "metrics", "log_loss") for kind in ("student", "baseline"))
    if not ours or not theirs:
        return ""
    return f" Log loss: {figure(ours)}, on the labels alone {figure(theirs)}."


def class_rows(report: Record) -> tuple[ClassRow, ...]:
    """Recall class by class, in the order of the classes."""
    _, model = subject(report)
    ours, teachers = part(model, "metrics"), part(report, "teacher", "metrics")
    found = []
    for key, metric in ours.items():
        kind, _, name = key.partition("/")
        if kind == "recall":
            found.append(ClassRow(name, count(metric["n"]), metric, teachers.get(key), _missed(metric)))
    return tuple(found)


def _missed(metric: Record) -> str:
    missed = round((1 - metric["value"]) * metric["n"]) if metric["value"] is not None else None
    return "" if missed is None else f"{missed or 'none'} of {count(metric['n'])} missed"


@dataclass(frozen=True)
class Sorting:
    """Escapes or overkill in plain words."""

    title: str
    share: Cell
    words: str
    teacher: str


def sorting(report: Record) -> tuple[Sorting, ...]:
    """What gets through and what is thrown away needlessly; empty where no class means good."""
    _, model = subject(report)
    words = {
        "escapes": ("Defects that pass as good (escapes)", "defective parts would be let through"),
        "overkill": ("Good parts that are rejected (overkill)", "good parts would be stopped"),
    }
    found = []
    for name, (title, what) in words.items():
        metric = part(model, "metrics", name)
        if metric:
            taught = part(report, "teacher", "metrics", name)
            some = round(metric["value"] * metric["n"])
            often = f"{count(some)} of {count(metric['n'])} {what}: {one_in(metric['value'])}."
            found.append(Sorting(
                title, Cell.of(metric), often if some else f"None of {count(metric['n'])} {what}.",
                f"The teacher: {figure(taught)}." if taught else "",
            ))  # fmt: skip
    return tuple(found)


@dataclass(frozen=True)
class MixUp:
    """How many of a class's rows were called by another's name."""

    truth: str
    called: str
    number: int
    of: int


def mix_ups(report: Record) -> tuple[MixUp, ...]:
    """The most frequent confusions of the compiled model, most frequent first."""
    model = part(report, "compiled")
    classes, matrix = model.get("classes") or (), model.get("confusion") or ()
    if len(classes) != len(matrix):
        return ()
    lost = model.get("unreadable") or [0] * len(classes)
    found = [
        MixUp(classes[truth], classes[called], number, sum(row) + lost[truth])
        for truth, row in enumerate(matrix) for called, number in enumerate(row) if number and truth != called
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda mix_up: -mix_up.number)[:MOST_CONFUSED])


@dataclass(frozen=True)
class CountRow:
    """Pictures of one class in each split."""

    name: str
    counts: tuple[str, ...]
    total: str


def count_rows(report: Record) -> tuple[tuple[str, ...], tuple[CountRow, ...]]:
    """(splits, rows): pictures a class and split, and the sums in the last row. Calibration pictures are training
    pictures too, so they do not count again in the total."""
    data = part(report, "data")
    counts = part(data, "counts")
    splits = tuple(sorted(counts, key=lambda split: SPLITS.index(split) if split in SPLITS else len(SPLITS)))
    names = list(data.get("classes") or dict.fromkeys(name for split in splits for name in counts[split]))
    if not splits or not names:
        return splits, ()
    table = [[(counts[split] or {}).get(name, 0) for split in splits] for name in names]
    table.append([sum(column) for column in zip(*table, strict=True)])
    rows = zip([*names, "All"], table, strict=True)
    once = [split != "calibration" for split in splits]
    return splits, tuple(CountRow(name, tuple(map(count, row)), count(sum(compress(row, once)))) for name, row in rows)


def agreement(report: Record) -> str:
    """On how many rows teacher and shipped student disagree, in one sentence."""
    comparison = part(report, "gate", "comparison")
    if not comparison:
        return ""
    teacher, student, n = comparison["teacher_only"], comparison["student_only"], comparison["n"]
    judged = "test token" if judged_by(report) == "token_accuracy" else f"test {words_of(report).row}"
    if not teacher + student:
        return f"On none of {counted(n, judged)} was only one of the two right."
    return (
        f"On {count(teacher + student)} of {counted(n, judged)} only one of the two was right: "
        f"the teacher {count(teacher)} times, the student {count(student)} times."
    )


def parity_words(report: Record) -> str:
    """How the shipped file agrees with the model that was trained."""
    parity = part(report, "compiled", "parity")
    if not parity:
        return ""
    words = words_of(report)
    least = "in the text" if words.part == "Task" else "in the class"
    least += " where they agree least"
    return (
        f"The shipped file decides as the trained student does on {percent(parity.get('same_decision'))} of "
        f"{counted(parity.get('rows') or 0, words.step)}; {least}, on {percent(parity.get('worst_class'))}."
    )
