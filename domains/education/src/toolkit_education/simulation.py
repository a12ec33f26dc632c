"""The proof of adaptation, IN SIMULATION: four ways to choose the next item, at equal budget, on the same learners.

It shows that the policy of `learner` does what it is made for when learners are as `simulated_learners` assumes. It
refuses to say anything about children; for that a site compares groups of its own.

The policies: `fixed` goes through the curriculum in its order, every level of a skill the same number of times, and
starts again at the end; `random` draws skill and level; `adaptive` is learner.choose and learner.answered as a site
runs them, which see labels and answers only; `oracle` sees the truth and takes the item with the largest gain now.
All meet the same learners with the same draws at each step and in the test (common random numbers), so differences are
paired by learner. The post-test is not drawn from practice: see simulated_learners.Test.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

import numpy as np

from toolkit.errors import DataError
from toolkit_education.ability import Floats
from toolkit_education.learner import DEFAULTS, Settings, State, answered, choose, expected
from toolkit_education.simulated_learners import (
    ENOUGH,
    FAMILIES,
    Flags,
    Growth,
    Ints,
    Learners,
    Test,
    Tracing,
    make_test,
    make_world,
)

POLICIES = ("fixed", "random", "adaptive", "oracle")
START = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Graph:
    """A curriculum by its prerequisites: `before` maps every skill, in order, to those it needs; all have as many
    levels."""

    before: Mapping[str, Sequence[str]]
    depth: int = 4

    def ids(self) -> Sequence[str]:
        return tuple(self.before)

    def prerequisites(self, skill: str) -> Sequence[str]:
        return self.before[skill]

    def levels(self, skill: str) -> int:
        return self.depth


PRIMARY = Graph(
    {
        "addition": (),
        "measures": (),
        "multiplication": ("addition",),
        "division": ("multiplication",),
        "fractions": ("division",),
        "area": ("measures", "multiplication"),
        "percentages": ("fractions",),
        "equations": ("division",),
    }
)
"""Eight skills of four levels, shaped like a primary curriculum."""


@dataclass(frozen=True)
class Protocol:
    """What is run. Budgets count items; a session is a day.

    Attributes:
        learners: in each family, over all sites; a multiple of these.
        sites: each with wrong labels, learners and post-test of its own; its learners share what is learned of items.
        budget: items before the post-test.
        looks: other numbers of items after which the post-test is taken too, each below the budget.
        horizon: items after which a learner who has not mastered the curriculum is counted as at the horizon.
        each_level: items of a level in a row, in the fixed order, which starts again at its end.
        session: items in a day.
        delay: days from the last session to the post-test.
        each: post-test items a skill.
        share: of the skills that must be truly mastered at once to have mastered the curriculum.
    """

    learners: int = 2000
    sites: int = 20
    budget: int = 320
    looks: tuple[int, ...] = (80, 160, 240)
    horizon: int = 480
    each_level: int = 5
    session: int = 10
    delay: float = 7.0
    each: int = 4
    share: float = 0.75
    seed: int = 0
    curriculum: Graph = PRIMARY
    settings: Settings = DEFAULTS


@dataclass(frozen=True)
class Outcome:
    """One policy on one family, by learner.

    Attributes:
        score: share of the post-test answered rightly; `ability`, what it would be without lapses and chance.
        early: [looks, learners], the score where it was taken before the budget was spent.
        items: until the curriculum is mastered, at most the horizon; `reached` says whether it was.
        predicted, right: of every answer within the budget, what the tutor expected and what came; adaptive only.
        trace: [steps, learners], skill and level from 0 as one number, within the budget.
        site: which site each learner is of.
    """

    score: Floats
    ability: Floats
    early: Floats
    items: Ints
    reached: Flags
    trace: Ints
    site: Ints
    predicted: Floats
    right: Flags


Pick = Callable[[int, Flags], tuple[Ints, Ints]]
"""Step and who goes on -> skill and level, both from 0, [learners]."""


def run(family: str, policy: str, protocol: Protocol) -> Outcome:
    """One policy on fresh copies of a family's cohorts, site by site. The same protocol gives the same outcome.

    Raises:
        DataError: a family or a policy that nobody knows, or numbers that do not fit together.
    """
    if family not in FAMILIES or policy not in POLICIES:
        raise DataError(
            f"nothing is known of the policy {policy} on the family {family}",
            hint=f"Policies: {', '.join(POLICIES)}. Families: {', '.join(FAMILIES)}.",
        )
    if protocol.learners % protocol.sites or not 0 <= max((0, *protocol.looks)) < protocol.budget <= protocol.horizon:
        raise DataError("the numbers of the protocol do not fit together", hint="See simulation.Protocol.")
    return _joined([_site(family, policy, protocol, site) for site in range(protocol.sites)])


def _site(family: str, policy: str, protocol: Protocol, site: int) -> Outcome:
    size = protocol.learners // protocol.sites

    def stream(name: str) -> np.random.Generator:
        return _stream(protocol.seed, site, f"{family} {name}")

    cohort, test = _setting(family, protocol, stream)
    answers, practice = stream("answer"), stream("practice")
    tutor = Tutor(protocol, size) if policy == "adaptive" else None
    pick = tutor.pick if tutor else _picker(policy, protocol, cohort, size, stream("policy"))
    enough = protocol.share * len(protocol.curriculum.ids())
    items, reached, going = np.full(size, protocol.horizon), np.zeros(size, dtype=bool), np.ones(size, dtype=bool)
    trace, tests = np.zeros((protocol.budget, size), dtype=np.int64), {}
    for step in range(protocol.horizon):
        skill, level = pick(step, going)
        chance = cohort.guess + (1.0 - cohort.guess - cohort.slip) * cohort.knows(skill, level)
        right = answers.random(size) < chance
        cohort.practise(skill, level, practice.random(size))
        if tutor:
            tutor.saw(step, going, skill, level, right)
        done = ~reached & ((cohort.success() >= ENOUGH).sum(axis=1) >= enough)
        items[done], reached[done] = step + 1, True
        if (step + 1) % protocol.session == 0:
            cohort.rest(1.0)
        if step < protocol.budget:
            trace[step] = skill * protocol.curriculum.depth + level
        if step + 1 >= protocol.budget:
            going = ~reached
        if step + 1 in (*protocol.looks, protocol.budget):
            # whom no policy can help takes the test with draws of its own: else all scores would be alike to the digit
            own = stream(f"test {policy}" if family == "null" else "test")
            tests[step + 1] = posttest(cohort, test, own, protocol.delay)
    predicted, came = tutor.said() if tutor else (np.zeros(0), np.zeros(0, dtype=bool))
    early = np.array([tests[look][0] for look in protocol.looks]).reshape(len(protocol.looks), size)
    return Outcome(*tests[protocol.budget], early, items, reached, trace, np.full(size, site), predicted, came)


def _joined(parts: Sequence[Outcome]) -> Outcome:
    found = {one.name: [getattr(part, one.name) for part in parts] for one in fields(Outcome)}
    return Outcome(**{name: np.concatenate(values, axis=-1) for name, values in found.items()})


def posttest(cohort: Learners, test: Test, random: np.random.Generator, delay: float) -> tuple[Floats, Floats]:
    """The share of items answered rightly after `delay` days, [learners], and what it would be without lapses and
    chance. The cohort is left as it was."""
    later = copy.deepcopy(cohort)
    later.rest(delay)
    sure = later.passes(test)
    chance = later.guess[:, None] + (1.0 - later.guess - later.slip)[:, None] * sure
    return (random.random(chance.shape) < chance).mean(axis=1), sure.mean(axis=1)


class Tutor:
    """The policy `adaptive`: each learner's state, and the difficulties that a whole site shares."""

    def __init__(self, protocol: Protocol, size: int) -> None:
        self._protocol, self._settings = protocol, protocol.settings
        self._curriculum, self._names = protocol.curriculum, tuple(protocol.curriculum.ids())
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._states = [State() for _ in range(size)]
        self._recent: list[list[str]] = [[] for _ in range(size)]
        self._difficulties = State().difficulties
        self._predicted: list[float] = []
        self._right: list[bool] = []

    def pick(self, step: int, going: Flags) -> tuple[Ints, Ints]:
        """Skill and level of each learner who goes on, from 0, [learners]; 0 for the others."""
        skill, level = np.zeros(len(going), dtype=np.int64), np.zeros(len(going), dtype=np.int64)
        when = self._when(step)
        for one in np.flatnonzero(going).tolist():
            state = self._state(one)
            choice = choose(state, self._curriculum, when, self._recent[one], seed=one, settings=self._settings)
            skill[one], level[one] = self._numbers[choice.skill], choice.level - 1
        return skill, level

    def saw(self, step: int, going: Flags, skill: Ints, level: Ints, right: Flags) -> None:
        """The answers of those who go on."""
        when = self._when(step)
        for one in np.flatnonzero(going).tolist():
            name, at, was = self._names[skill[one]], int(level[one]) + 1, bool(right[one])
            state = self._state(one)
            if step < self._protocol.budget:
                self._predicted.append(expected(state, name, at, self._settings))
                self._right.append(was)
            state = answered(state, name, at, was, when, self._settings)
            self._states[one], self._difficulties = state, state.difficulties
            self._recent[one] = [*self._recent[one][-1:], name]

    def said(self) -> tuple[Floats, Flags]:
        """What was expected of every answer within the budget, and whether it was right."""
        return np.array(self._predicted), np.array(self._right, dtype=bool)

    def _state(self, one: int) -> State:
        return State(self._states[one].knowledge, self._difficulties)

    def _when(self, step: int) -> datetime:
        day, place = divmod(step, self._protocol.session)
        return START + timedelta(days=day, minutes=2 * place)


def _setting(
    family: str, protocol: Protocol, stream: Callable[[str], np.random.Generator]
) -> tuple[Growth | Tracing, Test]:
    """The cohort and the test of a site: the same for every policy."""
    ids = protocol.curriculum.ids()
    before = np.array([[other in protocol.curriculum.prerequisites(one) for other in ids] for one in ids])
    world = make_world(before, protocol.curriculum.depth, stream("world"))
    cohort = FAMILIES[family](world, protocol.learners // protocol.sites, stream("learners"))
    return cohort, make_test(world, protocol.each, stream("items"))


def _stream(seed: int, site: int, name: str) -> np.random.Generator:
    """Chance by what it is for: nothing that one policy does moves what another meets."""
    return np.random.default_rng([seed, site, *name.encode()])


def _picker(policy: str, protocol: Protocol, cohort: Learners, size: int, random: np.random.Generator) -> Pick:
    levels = protocol.curriculum.depth
    cells = len(protocol.curriculum.ids()) * levels

    def fixed(step: int) -> Ints:
        return np.full(size, step // protocol.each_level % cells)

    def drawn(step: int) -> Ints:
        return random.integers(0, cells, size)

    def oracle(step: int) -> Ints:
        found: Ints = cohort.gains().reshape(size, -1).argmax(axis=1)
        return found

    cell = {"fixed": fixed, "random": drawn, "oracle": oracle}[policy]

    def pick(step: int, going: Flags) -> tuple[Ints, Ints]:
        found = cell(step)
        return found // levels, found % levels

    return pick
