"""In which number format a student is trained, who chose it, and what was measured to choose it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from toolkit.distil import float8
from toolkit.distil.learner import Learner
from toolkit.distil.objectives import Outputs
from toolkit.errors import EnvironmentUnfit, PlanError

Name = Literal["fp32", "bf16", "fp8"]
Wanted = Literal["auto", "fp32", "bf16", "fp8"]

STEPS, SETTLING = 10, 2
"""Of the probe: the first steps allocate memory and choose kernels; they count for safety and not for time."""

TOLERANCE = 0.05
"""Most that the loss of a step may differ from float32's, as a share of it: bfloat16 rounds to 0.4%, and ten steps add
up. Of losses under a tenth, as a share of a tenth."""

WORTH = 0.95
"""A format is taken where its step takes at most this share of float32's: nearer ones are told apart by chance."""


@dataclass(frozen=True)
class Trial:
    """What the probe saw of one format: the median step (milliseconds), the largest difference of a loss to float32's
    (a share, see TOLERANCE; None where a step failed), and whether it is safe, or why not."""

    name: str
    step_ms: float | None
    difference: float | None
    safe: bool
    why: str = ""


@dataclass(frozen=True)
class Precision:
    """A number format of the products in a training. Weights that are trained, losses and the optimiser are float32 in
    each. `emulated`: the device computes in float32 what the format rounds, so it shows the format's quality and none
    of its speed."""

    name: Name = "fp32"
    emulated: bool = False
    how: str = "everything in float32"
    why: str = "asked for"
    trials: tuple[Trial, ...] = ()

    def facts(self) -> dict[str, Any]:
        """JSON-ready, for the student's facts and for checkpoints."""
        return asdict(self) | {"trials": [asdict(trial) for trial in self.trials]}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Precision:
        """What `facts` gave."""
        return cls(**{**facts, "trials": tuple(Trial(**trial) for trial in facts["trials"])})

    def products(self, learner: Learner) -> AbstractContextManager[None]:
        """Within it the learner's student computes in this format; the losses' copy of what it says is `in_float32`."""
        if self.name == "bf16":
            return torch.autocast(next(learner.parameters()).device.type, torch.bfloat16)
        if self.name == "fp8":
            return float8.float8_products(learner.student, float8.layers(learner.student, learner.head))
        return nullcontext()


Rehearse = Callable[[Precision], Iterator[float]]
"""Steps of a training in that format, each time from its start, on copies: yields the loss of each step."""


def in_float32(said: Outputs) -> Outputs:
    """Losses take logarithms and small differences, so they are computed in float32 whatever the format."""
    return Outputs(*(None if part is None else part.float() for part in (said.logits, said.features, said.projected)))  # type: ignore[arg-type]


def choose(wanted: Wanted, learner: Learner, rehearse: Rehearse) -> Precision:
    """The format that was asked for, or for `auto` the fastest safe one of float32 and bfloat16 on this device.

    Raises:
        EnvironmentUnfit: bfloat16 was asked for, and the device has none.
        PlanError: eight bits were asked for, and no layer of the student can have them.
    """
    device = next(learner.parameters()).device
    if wanted == "fp32":
        return Precision()
    if wanted == "fp8":
        return _eight_bits(learner)
    bfloat16 = Precision("bf16", how="matrix products in bfloat16 (autocast); weights, losses and optimiser in float32")
    if wanted == "auto":
        return probe((Precision(), bfloat16) if has_bfloat16(device) else (Precision(),), rehearse, device)
    if not has_bfloat16(device):
        raise EnvironmentUnfit(
            f"compute.precision bf16 is not usable here: {device} has no autocast to bfloat16",
            hint="Use --set compute.precision=auto, or fp32.",
        )
    return bfloat16


def has_bfloat16(device: torch.device) -> bool:
    """Whether autocast multiplies in bfloat16 there, by trying."""
    if not torch.amp.is_autocast_available(device.type):
        return False
    matrix = torch.ones(2, 2, device=device)
    try:
        with torch.autocast(device.type, torch.bfloat16):
            return (matrix @ matrix).dtype == torch.bfloat16
    except RuntimeError:  # what torch raises where a device or a kernel lacks the type
        return False


def probe(
    candidates: tuple[Precision, ...],
    rehearse: Rehearse,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> Precision:
    """The fastest safe candidate, with the numbers; the first is float32, which the others are measured by.

    The candidates take turns step by step, so that a machine that slows down slows all of them. torch's random state,
    on the CPU and on a CUDA device, is as it was afterwards.

    Args:
        clock: tells seconds.
    """
    seconds: dict[str, list[float]] = {each.name: [] for each in candidates}
    losses: dict[str, list[float]] = {each.name: [] for each in candidates}
    failed: dict[str, str] = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        running = {each.name: rehearse(each) for each in candidates}
        for _ in range(STEPS):
            for name in [name for name in running if name not in failed]:
                begun = clock()
                try:
                    losses[name].append(next(running[name]))
                except (PlanError, RuntimeError) as error:  # it diverges, or torch has no such kernel
                    if name == candidates[0].name:
                        raise
                    failed[name] = str(error).splitlines()[0]
                seconds[name].append(clock() - begun)
    first = losses[candidates[0].name]
    trials = tuple(_trial(n, seconds[n], losses[n], first, failed.get(n)) for n in seconds)
    return _fastest(candidates, trials)


def _trial(name: str, seconds: list[float], losses: list[float], first: list[float], failed: str | None) -> Trial:
    if failed is not None:
        return Trial(name, None, None, False, failed)
    step = 1000 * statistics.median(seconds[SETTLING:])
    if not all(math.isfinite(loss) for loss in losses):
        return Trial(name, step, None, False, "a loss is not a number")
    difference = max(abs(mine - loss) / max(abs(loss), 0.1) for mine, loss in zip(losses, first, strict=True))
    safe = difference <= TOLERANCE
    why = "" if safe else f"a loss differs from float32's by {difference:.1%}, more than {TOLERANCE:.0%}"
    return Trial(name, step, difference, safe, why)


def _fastest(candidates: tuple[Precision, ...], trials: tuple[Trial, ...]) -> Precision:
    chosen, best = candidates[0], trials[0]
    assert best.step_ms is not None
    least, why = WORTH * best.step_ms, "no other format is here"
    for candidate, trial in zip(candidates[1:], trials[1:], strict=True):
        if not trial.safe or trial.step_ms is None:
            why = f"{trial.name} is not safe here: {trial.why}"
        elif trial.step_ms > least:
            why = f"a step takes {best.step_ms:.1f} ms, and {trial.step_ms:.1f} ms in {trial.name}"
        else:
            chosen, least = candidate, trial.step_ms
    if chosen is not candidates[0]:
        why = f"a step takes {least:.1f} ms, and {best.step_ms:.1f} ms in {best.name}; its losses are the same within "
        why += f"{TOLERANCE:.0%}"
    return replace(chosen, why=f"the fastest safe one of {STEPS} steps of each: {why}", trials=trials)


def _eight_bits(learner: Learner) -> Precision:
    names = float8.layers(learner.student, learner.head)
    if not names:
        raise PlanError(
            f"compute.precision fp8 changes nothing: no layer of {type(learner.student).__name__} but its last sums "
            f"over {float8.SMALLEST_INNER} products",
            hint="Use --set compute.precision=fp32, or a larger student.",
        )
    return Precision(
        "fp8",
        emulated=True,
        how=f"{len(names)} layers multiply E4M3 in 1x128 and 128x128 blocks, emulated by rounding to it and back; "
        "sums, weights, norms, the last layer, losses and optimiser in float32",
    )
