"""The learner model: what one learner can do by now, skill by skill, and what comes next.

Knows skills by name, levels by number, and right or wrong; refuses to know what an item says, who the learner is, and
where states are kept. All is pure: a state goes in, a new one comes out, and chance only comes by a given seed.

Ability: `toolkit_education.ability`. Difficulty of a (skill, level): it starts where the curriculum's level puts it and
moves with every answer by Elo's rule with a decreasing step (Pelánek 2016, "Applications of the Elo rating system in
adaptive educational systems", Computers & Education 98). Reviews: FSRS 6 (package fsrs), one card a skill, since items
are new every time. Mastery: Corbett and Anderson (1995) stop at 0.95 of a known skill; here it is the belief, above
`mastery_confidence`, that success at the skill's top level is above `mastery_success`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random
from types import MappingProxyType
from typing import Protocol

from fsrs import Card, Rating, Scheduler  # type: ignore[import-untyped]

from toolkit.errors import DataError
from toolkit_education import ability


class Skills(Protocol):
    """The curriculum as this module sees it. Levels of a skill are 1 to `levels(skill)`; the last is its target."""

    def ids(self) -> Sequence[str]:
        """Every skill, in the order of the curriculum."""
        ...

    def prerequisites(self, skill: str) -> Sequence[str]:
        """The skills that come before this one; no cycle among them."""
        ...

    def levels(self, skill: str) -> int:
        """How many levels this skill has, at least 1."""
        ...


@dataclass(frozen=True)
class Settings:
    """What may be set. Abilities, difficulties and deviations in logits; the rest shares, or counts.

    Attributes:
        prior_mean, prior_deviation: of ability before the first answer.
        guess, slip: chance of a right answer without the ability, and of a wrong one with it.
        growth, learning: mean and deviation of what ability gains by one item.
        absence: deviation of the change of ability in a day without an answer; it grows with the root of the days.
        first_difficulty, level_step: difficulty of level 1 before any answer, and how much each level adds.
        elo_step, elo_decay: the step of a difficulty after n answers is elo_step / (1 + elo_decay n).
        target: the success, lapses aside, that the chosen level should have: what is learnt is met near the edge of
            what succeeds. A skill that is learnt succeeds more often at its top level, so its reviews do too.
        tolerance: two choices whose success is this near to each other are equally good, and the seed decides.
        focus: among how many of the skills that can be begun the next one is chosen.
        mastery_success, mastery_confidence, mastery_answers: a skill is mastered when success at its top level, lapses
            aside, is above `mastery_success` with this belief, after so many answers.
        begin_confidence: the belief in mastery from which on what needs the skill may begin; see `choose`.
        retention: FSRS: the share of reviews that should succeed.

    Raises:
        DataError: a setting that cannot be.
    """

    prior_mean: float = 0.0
    prior_deviation: float = 1.2
    guess: float = 0.02
    slip: float = 0.05
    growth: float = 0.12
    learning: float = 0.2
    absence: float = 0.05
    first_difficulty: float = -1.5
    level_step: float = 1.0
    elo_step: float = 0.1
    elo_decay: float = 0.05
    target: float = 0.6
    tolerance: float = 0.03
    focus: int = 3
    mastery_success: float = 0.8
    mastery_confidence: float = 0.9
    mastery_answers: int = 4
    begin_confidence: float = 0.5
    retention: float = 0.9

    def __post_init__(self) -> None:
        shares = ("target", "mastery_success", "mastery_confidence", "begin_confidence", "retention")
        lapses = ("guess", "slip", "growth", "learning", "absence", "elo_step", "elo_decay", "tolerance")
        wrong = [name for name in shares if not 0.0 < getattr(self, name) < 1.0]
        wrong += [name for name in lapses if not 0.0 <= getattr(self, name) < math.inf]
        wrong += [name for name in ("focus", "mastery_answers") if getattr(self, name) < 1]
        wrong += ["guess and slip"] if self.guess + self.slip >= 1.0 else []
        wrong += ["prior_deviation"] if not 2 * ability.STEP <= self.prior_deviation < math.inf else []
        if wrong:
            raise DataError(f"{', '.join(wrong)} of the learner model cannot be", hint="See learner.Settings.")


DEFAULTS = Settings()


@dataclass(frozen=True, eq=False)
class Knowledge:
    """One learner in one skill. `posterior` [71] on ability.GRID; `mean` and `error` are its moments, in logits."""

    posterior: ability.Floats
    mean: float
    error: float
    answers: int
    card: Card


@dataclass(frozen=True)
class Difficulty:
    """Of a (skill, level), in logits, after so many answers of all learners."""

    value: float
    answers: int = 0


@dataclass(frozen=True)
class State:
    """One learner's knowledge by skill, and the difficulties by (skill, level), which all learners of a site share."""

    knowledge: Mapping[str, Knowledge] = field(default_factory=lambda: MappingProxyType({}))
    difficulties: Mapping[tuple[str, int], Difficulty] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Choice:
    """What comes next. `because` is one sentence for a teacher."""

    skill: str
    level: int
    because: str


def difficulty_of(state: State, skill: str, level: int, settings: Settings = DEFAULTS) -> Difficulty:
    """As it is now; before any answer, where the level puts it.

    Raises:
        DataError: the level is below 1.
    """
    if level < 1:
        raise DataError(f"{skill} has no level {level}", hint="Levels start at 1.")
    found = state.difficulties.get((skill, level))
    return found or Difficulty(settings.first_difficulty + settings.level_step * (level - 1))


def expected(state: State, skill: str, level: int, settings: Settings = DEFAULTS) -> float:
    """P(right) of this learner's next answer to an item of this skill and level."""
    known, difficulty = state.knowledge.get(skill), difficulty_of(state, skill, level, settings)
    posterior = known.posterior if known else _prior(settings)
    return ability.expected(posterior, difficulty.value, settings.guess, settings.slip)


def answered(state: State, skill: str, level: int, right: bool, when: datetime, settings: Settings = DEFAULTS) -> State:
    """The state after an answer. `when` has a time zone; one before the last answer counts as at the last answer.

    Raises:
        DataError: the level is below 1, or `when` has no time zone.
    """
    when, difficulty = _moment(when), difficulty_of(state, skill, level, settings)
    known, posterior, answers = state.knowledge.get(skill), _prior(settings), 0
    card = Card(card_id=0, due=when)
    if known:
        card, answers = known.card, known.answers
        last = card.last_review or when
        when = max(when, last)
        days = (when - last) / timedelta(days=1)
        posterior = ability.moved(known.posterior, 0.0, settings.absence * math.sqrt(days))
    chance = ability.chances(difficulty.value, settings.guess, settings.slip)
    surprise = float(posterior @ chance) - right
    posterior = ability.moved(ability.updated(posterior, chance, right), settings.growth, settings.learning)
    card, _ = _scheduler(settings.retention).review_card(card, Rating.Good if right else Rating.Again, when)
    step = settings.elo_step / (1.0 + settings.elo_decay * difficulty.answers)
    moved = Difficulty(difficulty.value + step * surprise, difficulty.answers + 1)
    now = Knowledge(posterior, *ability.moments(posterior), answers + 1, card)
    return replace(
        state,
        knowledge=MappingProxyType({**state.knowledge, skill: now}),
        difficulties=MappingProxyType({**state.difficulties, (skill, level): moved}),
    )


def mastered(state: State, curriculum: Skills, skill: str, settings: Settings = DEFAULTS) -> bool:
    """Whether success at the skill's top level is above `mastery_success`, with `mastery_confidence`."""
    return belief(state, curriculum, skill, settings) > settings.mastery_confidence


def belief(state: State, curriculum: Skills, skill: str, settings: Settings = DEFAULTS) -> float:
    """P(success at the skill's top level, lapses aside, is above `mastery_success`); 0 before `mastery_answers`
    answers."""
    known = state.knowledge.get(skill)
    if known is None or known.answers < settings.mastery_answers:
        return 0.0
    value = difficulty_of(state, skill, curriculum.levels(skill), settings).value
    return ability.above(known.posterior, value + ability.ability_for(settings.mastery_success))


def choose(
    state: State, curriculum: Skills, when: datetime, recent: Sequence[str] = (), *,
    seed: int = 0, settings: Settings = DEFAULTS,
) -> Choice:  # fmt: skip
    """What this learner should meet next. `recent` are the skills met so far, the last one last.

    A skill is learnt once it is more likely mastered than `begin_confidence`: what needs it may begin, and it comes
    back when its review is due, which proves its mastery better than more of the same at once would. Due reviews come
    first; then, of the first `focus` skills that are not learnt while all their prerequisites are, the one with a level
    whose success is nearest to the target. Two reviews in a row, or a skill for the third time in a row, come only
    where nothing else can be begun: prerequisites go before variety.

    Raises:
        DataError: the curriculum is empty or nothing in it can be begun; `when` has no time zone.
    """
    when, ids = _moment(when), curriculum.ids()
    beliefs = {skill: belief(state, curriculum, skill, settings) for skill in ids}
    learnt = {skill for skill in ids if beliefs[skill] > settings.begin_confidence}
    ready = [s for s in ids if s not in learnt and learnt.issuperset(curriculum.prerequisites(s))]
    if not learnt and not ready:
        raise DataError("nothing in the curriculum can be begun", hint="Look for a cycle among the prerequisites.")
    tired = recent[-1] if len(recent) > 1 and recent[-1] == recent[-2] else None
    fresh = [skill for skill in ready if skill != tired]
    reviews = sorted((state.knowledge[s].card.due, number, s) for number, s in enumerate(ids) if s in learnt - {tired})
    if reviews and reviews[0][0] <= when and not (fresh and recent and recent[-1] in learnt):
        due, _, skill = reviews[0]
        return _at_level(state, curriculum, skill, settings, f"it is learnt, and its review is due since {due.date()}")
    if fresh:
        return _nearest(state, curriculum, fresh[: settings.focus], seed, settings)
    if not reviews:
        return _at_level(state, curriculum, [*ready, *learnt][0], settings, "nothing else can be begun yet")
    unproven = [one for one in reviews if beliefs[one[2]] <= settings.mastery_confidence]
    if unproven and not ready:
        return _at_level(state, curriculum, unproven[0][2], settings, "all is learnt, and this is still to be proven")
    why = "what can be begun was met twice in a row" if ready else "all that can be begun is mastered"
    return _at_level(state, curriculum, reviews[0][2], settings, f"{why}, and this review is the next to come")


def _nearest(state: State, curriculum: Skills, skills: Sequence[str], seed: int, settings: Settings) -> Choice:
    """Of these skills the one that has a level nearest to the target; among equals the seed decides."""
    found = [(skill, *_level(state, curriculum, skill, settings)) for skill in skills]
    least = min(abs(success - settings.target) for _, _, success in found)
    equal = [one for one in found if abs(one[2] - settings.target) <= least + settings.tolerance]
    answers = sum(known.answers for known in state.knowledge.values())
    skill, level, success = equal[Random(f"{seed} {answers}").randrange(len(equal))] if len(equal) > 1 else equal[0]
    return Choice(skill, level, f"all that it needs is learnt, and at this level {success:.0%} should succeed")


def _at_level(state: State, curriculum: Skills, skill: str, settings: Settings, because: str) -> Choice:
    return Choice(skill, _level(state, curriculum, skill, settings)[0], because)


def _level(state: State, curriculum: Skills, skill: str, settings: Settings) -> tuple[int, float]:
    """The level whose success is nearest to the target, the higher of two alike; and that success, lapses aside."""
    known, top = state.knowledge.get(skill), curriculum.levels(skill)
    difficulties = [difficulty_of(state, skill, level, settings).value for level in range(top, 0, -1)]
    found = ability.successes(known.posterior if known else _prior(settings), difficulties)
    best = min(range(top), key=lambda place: abs(found[place] - settings.target))
    return top - best, found[best]


def _moment(when: datetime) -> datetime:
    if when.tzinfo is None:
        raise DataError(f"{when} has no time zone", hint="Give the moment in UTC.")
    return when.astimezone(UTC)


@lru_cache(maxsize=16)
def _prior(settings: Settings) -> ability.Floats:
    return ability.prior(settings.prior_mean, settings.prior_deviation)


@lru_cache(maxsize=16)
def _scheduler(retention: float) -> Scheduler:
    """Without the steps of minutes: within a session this model chooses, and a review is a matter of days."""
    return Scheduler(desired_retention=retention, learning_steps=(), relearning_steps=(), enable_fuzzing=False)
