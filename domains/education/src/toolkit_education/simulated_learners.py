"""Simulated learners for the proof of adaptation: what they can do, and what practice changes in them.

SIMULATION: no figure from here says anything about children. Four families, none of which is the tutor's own model, and
none of which knows of the tutor: this module imports nothing of `learner`. The parameters were set beforehand, and not
changed after a result was seen. That practice helps most within reach is what they ASSUME; it is not what they show.

- Growth: item response theory with slip and guess; practice adds to ability, most at p = 1/2 (which is not what the
  tutor aims at), and less where prerequisites are not there.
- Tracing: Bayesian knowledge tracing (Corbett and Anderson 1995): each level of a skill is known or not, and learnt in
  one step, seldom while what comes before is unknown.
- Forgetting: growth of which what was acquired decays by a half-life that spaced practice lengthens (Settles and Meeder
  2016, half-life regression).
- Null: whatever is practised, all skills gain the same. No policy can help it; a difference here is a fault of the
  protocol.

Arrays are [learners], [learners, skills] or [learners, skills, levels]; levels count from 0 here; logits and days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit_education.ability import Floats, sigmoid

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

ENOUGH = 0.8
"""True success at a skill's top level, without lapses, from which on the simulated learner has mastered it."""


@dataclass(frozen=True)
class World:
    """What all learners of a family share.

    Attributes:
        before: [skills, skills]; row s marks the prerequisites of s.
        difficulty: [skills, levels], the true ones; the tutor only knows the levels.
        swapped: [skills, levels], the level that truly hides behind a label, for learners that know levels.
    """

    before: Flags
    difficulty: Floats
    swapped: Ints


@dataclass(frozen=True)
class Test:
    """Items that no practice generator makes: each asks two skills at once, of any difficulty, in another form.

    Attributes:
        skill, other: [items]; the skills asked, which are often the same one.
        share: [items], where between the easiest and the hardest level the item lies.
        shift: [items], how much harder its form is than practice, in logits.
        slope: [items], its discrimination.
    """

    skill: Ints
    other: Ints
    share: Floats
    shift: Floats
    slope: Floats


class Learners(Protocol):
    """A cohort. `practise` changes it."""

    slip: Floats
    guess: Floats

    def knows(self, skill: Ints, level: Ints) -> Floats:
        """P(right) without lapses, [learners], of each learner's item."""
        ...

    def practise(self, skill: Ints, level: Ints, draw: Floats) -> None:
        """Each learner works on the item. `draw` [learners] in 0..1 is all the chance there is in it."""
        ...

    def rest(self, days: float) -> None:
        """Time without practice."""
        ...

    def success(self) -> Floats:
        """P(right) without lapses at each skill's top level, [learners, skills]."""
        ...

    def gains(self) -> Floats:
        """What practising each item would add, [learners, skills, levels]: all that an oracle sees."""
        ...

    def passes(self, test: Test) -> Floats:
        """P(right) without lapses on each item of a test, [learners, items]."""
        ...


def make_world(before: Flags, levels: int, random: np.random.Generator) -> World:
    """Levels a logit apart from -1.5 on; labels wrong by 0.3 logits a skill and 0.5 a level (standard deviations); in a
    quarter of the skills two neighbouring levels have changed places."""
    skills = len(before)
    labels = -1.5 + np.arange(levels)
    difficulty = labels + 0.3 * random.standard_normal((skills, 1)) + 0.5 * random.standard_normal((skills, levels))
    swapped = np.tile(np.arange(levels), (skills, 1))
    for skill in np.flatnonzero(random.random(skills) < 0.25):
        low = int(random.integers(levels - 1))
        swapped[skill, [low, low + 1]] = [low + 1, low]
    return World(before, difficulty, swapped)


def make_test(world: World, each: int, random: np.random.Generator) -> Test:
    """`each` items a skill. Half of those of a skill with prerequisites ask one of these too."""
    skill = np.repeat(np.arange(len(world.before)), each)
    other = skill.copy()
    for item, one in enumerate(skill):
        needed = np.flatnonzero(world.before[one])
        if len(needed) and random.random() < 0.5:
            other[item] = random.choice(needed)
    size = len(skill)
    slope = np.exp(0.2 * random.standard_normal(size))
    return Test(skill, other, random.random(size), 0.25 + 0.2 * random.standard_normal(size), slope)


class Growth:
    """Ability by skill, `theta` [learners, skills]; `rate` [learners] is the most that an item can add."""

    def __init__(self, world: World, size: int, random: np.random.Generator) -> None:
        skills = len(world.before)
        self.world = world
        self.theta = -1.0 + 0.8 * random.standard_normal((size, 1)) + 0.4 * random.standard_normal((size, skills))
        self.rate = 0.25 * np.exp(0.4 * random.standard_normal(size))
        self.slip, self.guess = random.uniform(0.02, 0.12, size), random.uniform(0.0, 0.08, size)
        self._rows = np.arange(size)

    def ability(self) -> Floats:
        return self.theta

    def knows(self, skill: Ints, level: Ints) -> Floats:
        return sigmoid(self.ability()[self._rows, skill] - self.world.difficulty[skill, level])

    def ready(self) -> Floats:
        """The mean success at the middle of the prerequisites, [learners, skills]; 1 where there are none."""
        before = self.world.before.astype(float)
        middle = sigmoid(self.ability() - self.world.difficulty.mean(axis=1))
        counts = before.sum(axis=1)
        return np.where(counts > 0, middle @ before.T / np.maximum(counts, 1.0), 1.0)

    def practise(self, skill: Ints, level: Ints, draw: Floats) -> None:
        chance = self.knows(skill, level)
        self._add(skill, self.rate * 4.0 * chance * (1.0 - chance) * self.ready()[self._rows, skill])

    def _add(self, skill: Ints, gain: Floats) -> None:
        self.theta[self._rows, skill] += gain

    def rest(self, days: float) -> None:
        """Nothing is forgotten."""

    def success(self) -> Floats:
        found: Floats = sigmoid(self.ability() - self.world.difficulty[:, -1])
        return found

    def gains(self) -> Floats:
        """Ability that would be added; of little worth where the top level is mastered already."""
        chance = sigmoid(self.ability()[:, :, None] - self.world.difficulty)
        gain = self.rate[:, None, None] * 4.0 * chance * (1.0 - chance) * self.ready()[:, :, None]
        return gain * np.where(self.success() < ENOUGH, 1.0, 0.01)[:, :, None]

    def passes(self, test: Test) -> Floats:
        low, high = self.world.difficulty[:, 0], self.world.difficulty[:, -1]

        def part(skill: Ints) -> Floats:
            difficulty = low[skill] + test.share * (high - low)[skill] + test.shift
            return sigmoid(test.slope * (self.ability()[:, skill] - difficulty))

        return part(test.skill) * np.where(test.other == test.skill, 1.0, part(test.other))


class Forgetting(Growth):
    """Growth over what was there before; what was acquired halves in `half` days, [learners, skills], unless practised.

    The spacing effect: practice multiplies the half-life by up to 2, the more was forgotten the more.
    """

    def __init__(self, world: World, size: int, random: np.random.Generator) -> None:
        super().__init__(world, size, random)
        self.acquired = np.zeros_like(self.theta)
        self.half = 10.0 * np.exp(0.4 * random.standard_normal(size))[:, None] * np.ones_like(self.theta)
        self.idle = np.zeros_like(self.theta)

    def ability(self) -> Floats:
        found: Floats = self.theta + self.acquired * self._kept()
        return found

    def _kept(self) -> Floats:
        found: Floats = 2.0 ** (-self.idle / self.half)
        return found

    def _add(self, skill: Ints, gain: Floats) -> None:
        place = (self._rows, skill)
        kept = self._kept()[place]
        self.acquired[place] = self.acquired[place] * kept + gain
        self.half[place] *= 1.0 + (1.0 - kept)
        self.idle[place] = 0.0

    def rest(self, days: float) -> None:
        self.idle += days


class Tracing:
    """Knows a level or does not, `known` [learners, skills, levels]; `rate` [learners] is the chance to learn it."""

    def __init__(self, world: World, size: int, random: np.random.Generator) -> None:
        skills, levels = world.difficulty.shape
        self.world = world
        general = -1.0 + 0.8 * random.standard_normal((size, 1, 1))
        known = random.random((size, skills, levels)) < sigmoid(general - (-1.5 + np.arange(levels)))
        self.known = np.logical_and.accumulate(known, axis=2)
        self.rate = random.beta(4.0, 12.0, size)
        self.slip, self.guess = random.uniform(0.02, 0.12, size), random.uniform(0.05, 0.2, size)
        self._rows = np.arange(size)

    def _true(self, skill: Ints, level: Ints) -> Ints:
        found: Ints = self.world.swapped[skill, level]
        return found

    def knows(self, skill: Ints, level: Ints) -> Floats:
        return self.known[self._rows, skill, self._true(skill, level)].astype(float)

    def chances(self) -> Floats:
        """The chance to learn each level by its label, [learners, skills, levels]: a tenth while a level below it, or
        the better half of a prerequisite, is unknown; none where it is known."""
        middle = self.known[:, :, self.known.shape[2] // 2]
        lacking = (~middle).astype(float) @ self.world.before.T.astype(float) > 0
        below = np.concatenate([np.ones_like(self.known[:, :, :1]), self.known[:, :, :-1]], axis=2)
        ready = np.where(below & ~lacking[:, :, None], 1.0, 0.1)
        chance = self.rate[:, None, None] * ready * ~self.known
        return np.take_along_axis(chance, np.broadcast_to(self.world.swapped, chance.shape), axis=2)

    def practise(self, skill: Ints, level: Ints, draw: Floats) -> None:
        learnt = draw < self.chances()[self._rows, skill, level]
        self.known[self._rows, skill, self._true(skill, level)] |= learnt

    def rest(self, days: float) -> None:
        """Nothing is forgotten."""

    def success(self) -> Floats:
        return self.known[:, :, -1].astype(float)

    def gains(self) -> Floats:
        return self.chances()

    def passes(self, test: Test) -> Floats:
        levels = self.known.shape[2]
        asked = np.minimum((test.share * levels).astype(np.int64), levels - 1)
        return (self.known[:, test.skill, asked] & self.known[:, test.other, asked]).astype(float)


class Null(Growth):
    """Every item adds the same to all skills: neither difficulty nor order can matter."""

    def practise(self, skill: Ints, level: Ints, draw: Floats) -> None:
        self.theta += (0.1 * self.rate)[:, None]

    def gains(self) -> Floats:
        return np.ones((*self.theta.shape, self.world.difficulty.shape[1]))


FAMILIES: dict[str, type[Growth] | type[Tracing]] = {
    "growth": Growth, "tracing": Tracing, "forgetting": Forgetting, "null": Null
}  # fmt: skip
