"""The top of the page: what came out, in one sentence, and what a reader must know before believing it.

Reads the report's figures and chooses words. It refuses to decide anything: the gate did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from toolkit.report.wording import counted, figure, interval, one_in, percent, times

Record: TypeAlias = Mapping[str, Any]

AS_FAST = 1.05  # a ratio closer to one than this is no difference worth a number


@dataclass(frozen=True)
class Words:
    """What the page calls things, which depends on the task; a report that does not say is about pictures.

    Args:
        row: of the data.       step: of which the models' times are.       part: what rows are counted by.
        request: how a request goes, in a few words.                        around: the same in a sentence.
    """

    row: str = "picture"
    step: str = "picture"
    part: str = "Class"
    request: str = "Picture file in, verdict out"
    around: str = "As a request meets it: the picture file is read and decoded, prepared, judged and answered."

    @property
    def rows(self) -> str:
        return f"{self.row}s"


def words_of(report: Record) -> Words:
    """The words of a report's task."""
    return Words(**part(report, "words"))


JUDGED = {
    "accuracy": ("Accuracy", "is the share of right answers"),
    "token_accuracy": ("Tokens chosen", "is the share of a text's tokens that a model would have chosen itself"),
}
"""What the gate compares models by: its name, and what it means."""


def judged_by(report: Record) -> str:
    """The metric that the gate compares models by."""
    return str(report.get("judged") or "accuracy")


@dataclass(frozen=True)
class Verdict:
    """`tone` is good, bad, unsure or none; `badge` a few words; `sentence` what a manager reads aloud."""

    tone: str
    badge: str
    sentence: str


@dataclass(frozen=True)
class Note:
    """Something to know before the figures. `tone` is bad, warn or plain."""

    tone: str
    title: str
    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyFigure:
    """One of the figures at the top; `pair` holds teacher's and student's amounts where bars can show them."""

    title: str
    value: str
    beside: str
    explained: str
    pair: tuple[float, float] | None = None


def part(report: Record, *path: str) -> Record:
    """The mapping at `path`; empty where it, or anything on the way, is missing or null."""
    here: Any = report
    for name in path:
        here = here.get(name) if isinstance(here, Mapping) else None
    return here if isinstance(here, Mapping) else {}


def subject(report: Record) -> tuple[str, Record]:
    """The model the page is about, (kind, record): the compiled one, or the student where nothing was compiled."""
    return next(((kind, part(report, kind)) for kind in ("compiled", "student") if part(report, kind)), ("", {}))


def verdict(report: Record) -> Verdict:
    """The verdict of the run in plain words."""
    gate = part(report, "gate")
    refused = len(report.get("violations") or ())
    clauses, rows = _clauses(report), words_of(report).rows
    claim = f"The student {_listed(clauses)}." if clauses else ""
    tone, badge, end = {
        "pass": ("good", "Gate passed", "Gate passed."),
        "fail": ("bad", "Gate failed", f"Gate failed{_promised(gate)}."),
        "insufficient_n": ("unsure", f"Too few {rows} to be sure", f"The test {rows} are too few to be sure of it."),
    }.get(str(gate.get("outcome")), ("none", "No verdict", "This run has no verdict: no gate was asked."))
    if refused:
        tone, badge = "bad", f"{badge}, release refused"
        end += f" {counted(refused, 'rule')} refused the release."
    return Verdict(tone, badge, f"{claim} {end}".strip())


def _promised(gate: Record) -> str:
    """What was promised, where the student keeps less; a gate can fail on its teacher, too."""
    comparison = part(gate, "comparison")
    retained, retain = part(comparison, "retained").get("value"), comparison.get("retain")
    if retained is None or retain is None or retained >= retain:
        return ""
    return f": at least {percent(retain)} was promised"


def _clauses(report: Record) -> list[str]:
    clauses = []
    retained = part(report, "gate", "comparison", "retained").get("value")
    if retained is not None:
        clauses.append(
            f"keeps all of its teacher's quality ({percent(retained)})" if retained >= 1
            else f"keeps {percent(retained)} of its teacher's quality"
        )  # fmt: skip
    ratios = part(report, "costs", "ratios")
    speed, space = part(ratios, "latency").get("value"), part(ratios, "size").get("value")
    if speed:
        clauses.append(f"answers {_compared(speed, 'faster', 'slower', 'about as fast')}")
    if space:
        clauses.append(f"takes {_compared(space, 'less space', 'more space', 'about as much space')}")
    return clauses


def _compared(ratio: float, better: str, worse: str, alike: str) -> str:
    if 1 / AS_FAST < ratio < AS_FAST:
        return alike
    return f"{times(ratio)} {better}" if ratio > 1 else f"{times(1 / ratio)} {worse}"


def _listed(clauses: list[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}"


def notes(report: Record) -> tuple[Note, ...]:
    """What limits the figures or their use: a refusal, an override, leaks, licence, keys."""
    run, data = part(report, "run"), part(report, "data")
    violations, overrides = report.get("violations") or (), run.get("overrides") or ()
    leaks, rows = len(data.get("leaks") or ()), words_of(report).rows
    found = []
    if violations:
        found.append(Note("bad", "Release refused", "These rules are not met:", tuple(map(_violation, violations))))
    if overrides:
        found.append(Note("bad", "Overridden", "Somebody let this run go on against a rule, and gave the reason:",
                          tuple(map(str, overrides))))  # fmt: skip
    if leaks:
        found.append(Note("bad", f"{rows.capitalize()} shared between splits", f"{counted(leaks, 'pair')} of "
                          f"near-identical {rows} lie in different splits: the scores may be too good."))  # fmt: skip
    if part(report, "gate").get("outcome") == "insufficient_n" and not part(report, "gate").get("refuses"):
        found.append(Note("warn", "Small sample", f"The plan lets this run go on although the test {rows} are too "
                          "few to be sure."))  # fmt: skip
    if data and not data.get("stated"):
        found.append(Note("warn", "No licence stated", f"Nothing says under which terms these {rows} may be used. "
                          "Taking the bundle to another machine needs a reason on record."))  # fmt: skip
    if run.get("development_keys"):
        found.append(Note("plain", "Development keys", "The keys that protect this bundle were made by the first run, "
                          "without a passphrase: right for trying out, not for production."))  # fmt: skip
    return tuple(found)


def _violation(violation: Record) -> str:
    measured, allowed = violation.get("measured"), violation.get("allowed")
    facts = ", ".join(f"{word} {value}" for word, value in (("measured", measured), ("allowed", allowed)) if value)
    return f"{violation.get('because', '')}{f' ({facts})' if facts else ''}. Rule of: {violation.get('by', '')}"


def key_figures(report: Record) -> tuple[KeyFigure, ...]:
    """Accuracy, speed, size and memory, as far as they were measured."""
    _, model = subject(report)
    name = judged_by(report)
    accuracy, taught = part(model, "metrics", name), part(report, "teacher", "metrics", name)
    found = []
    if accuracy:
        beside = f"likely {interval(accuracy)}" if interval(accuracy) else ""
        wrong, answers = one_in(1 - accuracy["value"]), "token" if name == "token_accuracy" else "answer"
        called = f"No {answers} was wrong" if wrong == "none" else f"Wrong {answers}s: {wrong}"
        found.append(KeyFigure(
            JUDGED[name][0], figure(accuracy), beside,
            f"{called}{f'; the teacher scores {figure(taught)}' if taught else ''}.",
        ))  # fmt: skip
    costs = part(report, "costs")
    step = words_of(report).step
    wording = (
        ("latency", "Speed", "faster", "slower", "as fast", f"Median time of one {step} on one processor core."),
        ("size", "Size", "smaller", "larger", "as large", "The model's files."),
        ("memory", "Memory", "less", "more", "as much", "Weights and the peak of working memory."),
    )
    for name, title, better, worse, alike, explained in wording:
        ratio = part(costs, "ratios", name).get("value")
        if not ratio:
            continue
        teacher, student = (_cost(part(costs, who), name) for who in ("teacher", "student"))
        found.append(KeyFigure(
            title, _compared(ratio, better, worse, alike), f"{figure(student)} instead of {figure(teacher)}", explained,
            (teacher["value"], student["value"]) if teacher and student else None,
        ))  # fmt: skip
    return tuple(found)


def _cost(model: Record, name: str) -> Record:
    return part(model, "latency", "p50") if name == "latency" else part(model, name)
