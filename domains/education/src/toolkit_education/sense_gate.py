"""The sense gate: what a solver makes of problems by people, of planted nonsense, and of free drafts.

Measured where the line measures the compiled student, and sealed with it. A site drafts freely only where these figures
reach the plan's bounds; what they came of is in the report.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.artifacts import Metric
from toolkit.score.intervals import share
from toolkit.text import GenerationRequest, Message, Prompt, TextPredictor, whole_answers
from toolkit.text_teachers import AskedTeacher
from toolkit_education.curriculum import curriculum
from toolkit_education.drafting import SKILLS, asked_of_student, asked_of_teacher, converted, example_of, problem_of
from toolkit_education.generators import models as generated
from toolkit_education.generators.themes import themes
from toolkit_education.gsm8k_reading import LeftOut
from toolkit_education.items import ItemModel
from toolkit_education.nonsense import planted
from toolkit_education.originality import Known
from toolkit_education.sense import AGREES, DISAGREES, UNDECIDED, Solver, Verdict, checked, unsound

HUMAN, NONSENSE, REFUSED, DRAFTS = "sense_human", "sense_nonsense", "sense_nonsense_refused", "sense_drafts"
BOUNDS = {HUMAN: "least_human", NONSENSE: "least_nonsense", DRAFTS: "least_drafts"}
"""The figures that decide, each with the key of the plan that it must reach with the lower end of its interval."""

SAID = {
    HUMAN: "of people's own problems pass the sense gate",
    NONSENSE: "of planted nonsense are kept out by it",
    DRAFTS: "of free drafts pass it",
}
DRAFT_TOKENS, TEMPERATURE = 320, 0.8
WORDY = {"text": {"answer_tokens": 512, "temperature": 0.0}}
"""What of the plan is other for a teacher on this machine that drafts or solves: its answers are longer than a
student's."""

SHOWN = 12
"""Free drafts that the report prints."""


@dataclass(frozen=True)
class Drafted:
    """A free draft: what was written, the item model that it became, and what was found."""

    text: str
    model: ItemModel | None
    verdict: Verdict


def mistrusted(settings: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Why nothing may be drafted freely, by a plan's table and the figures that were sealed; empty where it may."""
    if not settings.get("free_drafting", False):
        return "free drafting is off (education.free_drafting)"
    for name, key in BOUNDS.items():
        low, least = float(metrics.get(name, {}).get("low") or 0.0), float(settings[key])
        if low < least:
            return f"as few as {low:.0%} {SAID[name]}, and education.{key} asks for {least:.0%}"
    return ""


def humans(bank: Sequence[ItemModel], many: int, seed: int) -> Sequence[ItemModel]:
    """Problems that people wrote and that hold together: the bank's; the curriculum's own where there is no bank."""
    found = [one for one in bank if one.language == "en" and not one.theme]
    if not found:
        found = [
            model for skill in curriculum() for level in range(1, len(curriculum()[skill].levels) + 1)
            for theme in themes() for model in generated(skill, level, "en", theme)
        ]  # fmt: skip
    order, chosen = random.Random(f"{seed}/humans").sample(found, len(found)), list[ItemModel]()
    known = set[str]()
    for model in order:
        if len(chosen) < many and model.id not in known and not unsound(model):
            known.add(model.id)
            chosen.append(model)
    return chosen


def student_requests(many: int, seed: int) -> Sequence[GenerationRequest]:
    """What a student is asked for drafts, drawn apart by their seeds."""
    rng = random.Random(f"{seed}/drafts")
    return [
        GenerationRequest(
            f"draft-{number}", (Message("user", asked_of_student(SKILLS[number % 3], rng.randrange(1000))),),
            DRAFT_TOKENS, TEMPERATURE, 0.95, rng.randrange(2**31), calculator=True,
        )
        for number in range(many)
    ]  # fmt: skip


def teacher_prompts(many: int, seed: int) -> Sequence[Prompt]:
    """What a teacher is asked for drafts: the things that they are to be about tell them apart."""
    rng = random.Random(f"{seed}/drafts")
    things, example = sorted(one.words["en"]["things"] for one in themes().values()), example_of(seed)
    return [
        Prompt(
            f"draft-{seed}-{number}",
            asked_of_teacher(SKILLS[number % 3], f"{rng.choice(things)} (idea {number + 1})", example),
        )
        for number in range(many)
    ]  # fmt: skip


def judged(texts: Sequence[str], known: Known, solver: Solver) -> Sequence[Drafted]:
    """Each draft: converted, new, sound, and solved by somebody else, in this order; the first that fails says why."""
    found: dict[int, Drafted] = {}
    models: dict[int, ItemModel] = {}
    for place, text in enumerate(texts):
        try:
            models[place] = converted(text)
        except LeftOut as reason:
            found[place] = Drafted(text, None, Verdict(DISAGREES, str(reason)))
    copies = known.copied([problem_of(model) for model in models.values()])
    asked: dict[str, int] = {}
    for (place, model), copied in zip(models.items(), copies, strict=True):
        because = copied or ("it was drafted before" if model.id in asked else "")
        if because:
            found[place] = Drafted(texts[place], model, Verdict(DISAGREES, because))
        else:
            asked[model.id] = place
    for model, verdict in checked([models[place] for place in asked.values()], solver):
        place = asked[model.id]
        found[place] = Drafted(texts[place], model, verdict)
    return [found[place] for place in range(len(texts))]


def measured(
    bank: Sequence[ItemModel], texts: Sequence[str], solver: Solver, many: int, seed: int
) -> tuple[dict[str, Metric], dict[str, Any]]:
    """The gate's figures, and the facts behind them.

    Args:
        texts: free drafts as they were written.
        many: problems by people, and as many planted ones.
    """
    ours = humans(bank, many, seed)
    sane = [verdict for _, verdict in checked(ours, solver)]
    spoilt = list(planted(ours, many, seed))
    kept = [verdict for _, verdict in checked([one.model for one in spoilt], solver)]
    known = Known([model.text for model in bank if model.language == "en"])
    drafts = judged(texts, known, solver)
    shares = {
        HUMAN: [one.outcome == AGREES for one in sane],
        NONSENSE: [one.outcome != AGREES for one in kept],
        REFUSED: [one.outcome == DISAGREES for one in kept],
        DRAFTS: [one.verdict.outcome == AGREES for one in drafts],
    }
    kinds = Counter((one.kind, verdict.outcome) for one, verdict in zip(spoilt, kept, strict=True))
    facts = {
        "solver": solver.teacher.id, "redrawn": solver.redrawn, "solvings": solver.solvings,
        "humans": dict(Counter(one.because or AGREES for one in sane).most_common(SHOWN)),
        "nonsense": {
            kind: {outcome: kinds[kind, outcome] for outcome in (DISAGREES, UNDECIDED, AGREES)}
            for kind in dict.fromkeys(one.kind for one in spoilt)
        },
        "drafts": dict(Counter(one.verdict.because or AGREES for one in drafts).most_common(SHOWN)),
        "passed_nonsense": [
            {"kind": one.kind, "text": one.model.text}
            for one, verdict in zip(spoilt, kept, strict=True) if verdict.outcome == AGREES
        ][:SHOWN],
    }  # fmt: skip
    tables = _tables(facts, drafts)
    return {name: share(sum(flags), len(flags)) for name, flags in shares.items() if flags}, facts | {"tables": tables}


def _tables(facts: Mapping[str, Any], drafts: Sequence[Drafted]) -> list[Mapping[str, Any]]:
    """What the report prints of it, for a person to read."""
    outcomes = (DISAGREES, UNDECIDED, AGREES)
    counted = [[kind, *(str(found[one]) for one in outcomes)] for kind, found in facts["nonsense"].items()]
    shown = [[one.verdict.because or "passes", one.text] for one in drafts[:SHOWN]]
    return [
        {
            "title": "Planted nonsense", "columns": ["Kind", "Refused", "Left to a person", "Passed"], "rows": counted,
            "explain": f"Problems by people, spoilt on purpose, before the solver {facts['solver']}. None may pass.",
        },
        {
            "title": "Free drafts", "columns": ["Found", "As it was written"], "rows": shown,
            "explain": "The first that were drafted. Only what passes may be served; what is left undecided goes to a "
            "person's review.",
        },
    ]  # fmt: skip


def drafts_by(predictor: TextPredictor, many: int, seed: int) -> Sequence[str]:
    """What a student drafts."""
    requests = student_requests(many, seed)
    found = whole_answers(predictor, requests)
    return [found.get(request.id, "") for request in requests]


def drafts_of(teacher: AskedTeacher, many: int, seed: int) -> Sequence[str]:
    """What a teacher drafts."""
    prompts = teacher_prompts(many, seed)
    found = {answer.prompt_id: answer.text for answer in teacher.answers(prompts)}
    return [found.get(prompt.id, "") for prompt in prompts]
