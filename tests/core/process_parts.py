"""Processes that train together on this machine, and what they train: as small as what has a state can be."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from distil_parts import CLASSES, EVERYTHING, FEATURES, TASKS, WIDTH, TinyBatches, die_at, validate
from torch import nn

from toolkit.distil import checkpoints
from toolkit.distil.chunks import Mix
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import BatchLesson
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.objectives import Batch, Outputs
from toolkit.distil.precision import Wanted
from toolkit.distil.processes import ALONE, Processes
from toolkit.distil.weighting import TaskWeights, Weighting
from toolkit.errors import EnvironmentUnfit
from toolkit.protocols import Objective
from toolkit.tasks.image_classification.family import describe_student
from toolkit.tasks.image_classification.network import DepthwiseSeparableNet

Before = Callable[[int], None]

CPU = torch.device("cpu")

HEAVY = ["torch._dynamo", "transformers", "toolkit.distil.loop", "toolkit.tasks.text_generation.training"]
"""What is imported once for all processes."""


def rows(
    folder: Path, processes: Processes, before: Before, precision: Wanted = "fp32", shard_on: torch.device | None = None
) -> Fitted:
    """All objectives, weights of samples and of tasks, and batch norm; 8 rows a step."""
    torch.manual_seed(processes.rank)  # the first one's weights are what counts
    # No bias before batch norm, which takes it away again: its gradient is rounding alone, and AdamW makes steps of it
    narrow = nn.Linear(FEATURES, 10, bias=False)
    module = nn.Sequential(narrow, nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, CLASSES))
    learner = Learner(module, width=WIDTH)
    weighting = Weighting(difficulty=True, tasks=TaskWeights(TASKS, by="loss-ratio", floor=0.3))
    return fit(
        learner, BatchLesson(TinyBatches(before=before, everything=True), EVERYTHING, weighting, processes),
        Schedule(4, 0.02, 0.01, seed=7), groups=[{"params": list(learner.parameters())}], validate=validate,
        folder=folder, report=lambda *_: None, precision=precision, processes=processes, shard_on=shard_on,
    )  # fmt: skip


def lost(folder: Path, processes: Processes, before: Before, shard_on: torch.device | None = None) -> Fitted:
    """The last process dies on the way; the others say so and leave."""
    try:
        return rows(folder, processes, before if processes.first else die_at(5), shard_on=shard_on)
    except EnvironmentUnfit as error:
        sys.exit(error.exit_code if "lost touch" in error.message else 1)


def apart(folder: Path, processes: Processes, before: Before) -> Fitted:
    """Each process with a folder of its own, where the last one finds a checkpoint."""
    own = folder / f"{processes.rank}"
    if not processes.first:
        rows(own, ALONE, before)
    try:
        return rows(own, processes, before)
    except EnvironmentUnfit as error:
        sys.exit(error.exit_code if "different checkpoints" in error.message else 1)


class FewPictures:
    """Grey pictures of 32 pixels a side, and the labels that are the brighter half of each."""

    def __init__(self, before: Before, count: int) -> None:
        self.steps, self._before, self._count = 6, before, count

    def batch(self, epoch: int, step: int) -> Batch:
        self._before(epoch * self.steps + step)
        draw = torch.Generator().manual_seed(100 * epoch + step)
        labels = torch.randint(0, 2, (self._count,), generator=draw)
        ramp = torch.linspace(-0.3, 0.3, 32) * (2 * labels - 1)[:, None, None, None]
        pictures = 0.5 + ramp + 0.1 * torch.randn(self._count, 1, 32, 32, generator=draw)
        return Batch(pictures.contiguous(memory_format=torch.channels_last), labels, Outputs(3 * torch.eye(2)[labels]))


def pictures(
    folder: Path, processes: Processes, before: Before, count: int = 10, shard_on: torch.device | None = None
) -> Fitted:
    """The student of the task, label and response."""
    torch.manual_seed(0)
    learner = Learner(DepthwiseSeparableNet(channels=1, stem=8, blocks=[(8, 1), (16, 2)], classes=2))
    if shard_on is None:
        learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objectives = (Objective("hard-label", 0.5), Objective("response", 0.5, 2.0))
    return fit(
        learner, BatchLesson(FewPictures(before, count), objectives, processes=processes), Schedule(2, 4e-3, 0.01),
        groups=[{"params": list(learner.parameters())}], validate=lambda _: Score(0.5, 1.0), folder=folder,
        report=lambda *_: None, processes=processes, shard_on=shard_on,
    )  # fmt: skip


class NoisyPictures:
    """Pictures of six gradients in noise, in double precision: 24 a step, of 64 pixels a side."""

    steps = 6

    def batch(self, epoch: int, step: int) -> Batch:
        draw = torch.Generator().manual_seed(100 * epoch + step)
        labels = torch.randint(0, 6, (24,), generator=draw)
        ramps = torch.linspace(-1, 1, 64, dtype=torch.double) * (labels[:, None] - 2.5) / 5
        noise = torch.randn(24, 1, 64, 64, generator=draw, dtype=torch.double)
        pictures = 0.5 + 0.3 * ramps[:, None, None, :] + 0.2 * noise
        said = 3 * torch.eye(6, dtype=torch.double)[labels] + torch.randn(24, 6, generator=draw, dtype=torch.double)
        return Batch(pictures.contiguous(memory_format=torch.channels_last), labels, Outputs(said))


def doubles(folder: Path, processes: Processes, before: Before) -> Fitted:
    """The default student of pictures, with its hundreds of thousands of rectifiers a step, in double precision."""
    del before
    torch.manual_seed(0)
    described = describe_student("small", channels=1, size_px=64, classes=6)
    network = DepthwiseSeparableNet(channels=1, stem=described["stem"], blocks=described["blocks"], classes=6)
    learner = Learner(network.double())
    learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objectives = (Objective("hard-label", 0.5), Objective("response", 0.5, 2.0))
    return fit(
        learner, BatchLesson(NoisyPictures(), objectives, processes=processes), Schedule(4, 4e-3, 0.01),
        groups=[{"params": list(learner.parameters())}], validate=lambda _: Score(0.5, 1.0), folder=folder,
        report=lambda *_: None, processes=processes,
    )  # fmt: skip


def language(
    folder: Path, processes: Processes, before: Before, shard_on: torch.device | None = None, lora_rank: int = 0,
    checkpointing: bool = False, precision: Wanted = "fp32", weighed: bool = False,
) -> Fitted:  # fmt: skip
    """A student of a teacher's hidden states, two or three micro-batches a step; its last layer is tied. `weighed`: by
    difficulty, and by two tasks."""
    from test_text_generation_teacher import WORDS
    from transformers import LlamaConfig

    from toolkit.tasks.text_generation.adapters import Adapted
    from toolkit.tasks.text_generation.packing import PackedBatches
    from toolkit.tasks.text_generation.rows import Row
    from toolkit.tasks.text_generation.students import from_config
    from toolkit.tasks.text_generation.teacher import label, read_teacher
    from toolkit.tasks.text_generation.tokens import tokenise
    from toolkit.tasks.text_generation.training import Knowledge, SequenceLesson, validator
    from toolkit.tasks.text_generation.weighting import TokenWeighting
    from toolkit.text import Message

    teacher = read_teacher(folder.parent / "teacher", name="tiny")
    numbers = WORDS[6:]
    texts = [
        Row(f"r{n}-{m}", (Message("user", numbers[n]),), " ".join(numbers[n + 1 : n + 1 + m]), task=TASKS[n % 2])
        for n in range(6) for m in (1, 2, 3, 4)
    ]  # fmt: skip
    samples = tokenise(texts, teacher.tokenizer, max_tokens=64).samples
    knowledge = Knowledge(label(teacher, samples, folder / f"cache-{processes.rank}", codec="hidden"), teacher.head)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = from_config(LlamaConfig(vocab_size=24, tie_word_embeddings=True, **sizes), seed=0).model
    if lora_rank:
        Adapted(model, lora_rank)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    batches = PackedBatches(samples, capacity=48, rows=1, accumulation=2)
    weighting = TokenWeighting(TASKS[:2], by="loss-ratio", floor=0.3, difficulty=True) if weighed else TokenWeighting()
    return fit(
        Learner(model, "lm_head"), SequenceLesson(batches, Mix(0.5, 0.5), knowledge, weighting, processes),
        Schedule(5, 1e-2, 0.01),
        groups=[{"params": [p for p in model.parameters() if p.requires_grad]}], validate=validator(batches),
        folder=folder, report=lambda done, _: before(done), precision=precision, processes=processes,
        shard_on=shard_on,
    )  # fmt: skip


def memory(
    folder: Path, processes: Processes, before: Before, shard_on: torch.device | None = None
) -> tuple[int, int]:  # fmt: skip
    """Of a wide student: the bytes that a process keeps between steps, by its own account, and those of all tensors
    that are alive in it by then."""
    alive = [0]

    def look(step: int) -> None:
        gc.collect()
        storages = {
            storage.data_ptr(): storage.nbytes()
            for one in gc.get_objects() if type(one) in (torch.Tensor, nn.Parameter)
            for storage in [one.untyped_storage()]
        }  # fmt: skip
        alive.append(sum(storages.values()))

    wide = 512
    learner = Learner(nn.Sequential(nn.Linear(FEATURES, wide), nn.Linear(wide, wide), nn.Linear(wide, CLASSES)))
    fitted = fit(
        learner, BatchLesson(TinyBatches(before=look), (Objective("hard-label", 1.0),), processes=processes),
        Schedule(1, 0.01, 0.0), groups=[{"params": list(learner.parameters())}], validate=validate, folder=folder,
        report=lambda *_: None, processes=processes, shard_on=shard_on,
    )  # fmt: skip
    assert len(set(fitted.held)) <= 2
    return fitted.held[processes.rank], alive[-1]


def norms(folder: Path, processes: Processes, before: Before) -> dict[str, Any]:
    """Batch norm of float64 inputs of which each process has some, and one of three none."""
    from toolkit.distil.spread import one_batch, whole

    del folder, before
    found: dict[str, Any] = {}
    for name, norm, inputs in norm_cases():
        mine = inputs[processes.rows(len(inputs))].clone().requires_grad_()
        with one_batch(norm, processes):
            said = norm(mine)
        all_rows = whole(Outputs(said), len(inputs), processes).logits
        all_rows.square().mul(torch.arange(all_rows.numel()).view_as(all_rows)).sum().backward()
        gradients = [mine.grad, *(parameter.grad for parameter in norm.parameters())]
        found[name] = {"said": all_rows.detach(), "gradients": gradients, "buffers": dict(norm.named_buffers())}
    return found


def norm_cases() -> Sequence[tuple[str, nn.Module, torch.Tensor]]:
    """Each kind of batch norm, with inputs far from zero, where squares would cancel."""
    draw = torch.Generator().manual_seed(3)

    def inputs(*shape: int) -> torch.Tensor:
        return 50 + torch.randn(*shape, generator=draw, dtype=torch.float64)

    made: list[tuple[str, nn.Module, torch.Tensor]] = [
        ("rows", nn.BatchNorm1d(3), inputs(5, 3)),
        ("series", nn.BatchNorm1d(3, momentum=None), inputs(4, 3, 6)),
        ("pictures", nn.BatchNorm2d(3, eps=1e-3), inputs(2, 3, 4, 4)),
        ("plain", nn.BatchNorm2d(2, affine=False), inputs(5, 2, 3, 3)),
        ("forgetful", nn.BatchNorm2d(2, track_running_stats=False), inputs(5, 2, 3, 3)),
    ]
    for _, norm, _ in made:
        norm.double()
        for number, parameter in enumerate(norm.parameters()):
            nn.init.uniform_(parameter, 0.5, 1.5, generator=torch.Generator().manual_seed(number))
    return made


JOBS: Mapping[str, Callable[[Path, Processes, Before], Any]] = {
    "rows": rows,
    "rows-auto": lambda *given: rows(*given, precision="auto"),
    "pictures": pictures,
    "doubles": doubles,
    "few-pictures": lambda *given: pictures(*given, count=2),
    "language": language,
    "weighed-language": lambda *given: language(*given, weighed=True),
    "norms": norms,
    "memory": memory,
    "sharded-memory": lambda *given: memory(*given, shard_on=CPU),
    "sharded-rows": lambda *given: rows(*given, shard_on=CPU),
    "sharded-pictures": lambda *given: pictures(*given, shard_on=CPU),
    "sharded-few-pictures": lambda *given: pictures(*given, count=2, shard_on=CPU),
    "sharded-language": lambda *given: language(*given, shard_on=CPU),
    "adapters": lambda *given: language(*given, lora_rank=2),
    "sharded-adapters": lambda *given: language(*given, lora_rank=2, shard_on=CPU),
    "sharded-checkpointing": lambda *given: language(*given, checkpointing=True, shard_on=CPU),
    "bf16": lambda *given: language(*given, precision="bf16"),
    "sharded-bf16": lambda *given: language(*given, precision="bf16", shard_on=CPU),
    "fp8": lambda *given: language(*given, precision="fp8"),
    "sharded-fp8": lambda *given: language(*given, precision="fp8", shard_on=CPU),
    "sharded-lost": lambda *given: lost(*given, shard_on=CPU),
    "lost": lost,
    "apart": apart,
}


def alone(folder: Path, job: str) -> Any:
    """What one process makes of a job."""
    _save_teacher(folder)
    return JOBS[job](folder / f"alone-{job}", ALONE, lambda _: None)


def together(folder: Path, size: int, *jobs: str, codes: Sequence[int] = ()) -> Mapping[str, Sequence[Any]]:
    """What `size` processes make of jobs, one after the other: by job, and by process. A job is `NAME`, or `NAME@STEP`:
    then all die, without a word, when that step begins."""
    _save_teacher(folder)
    (folder / "meet").unlink(missing_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    started = [context.Process(target=_main, args=(folder, rank, size, jobs)) for rank in range(size)]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [*(codes or [0] * size)]
    if codes:
        return {}
    return {job: [torch.load(folder / f"{job}-{rank}.pt", weights_only=False) for rank in range(size)] for job in jobs}


def _save_teacher(folder: Path) -> None:
    """Beforehand: of processes that know one another, transformers has one alone save."""
    from test_text_generation_teacher import save_teacher

    if not (folder / "teacher").exists():
        save_teacher(folder / "teacher")


def _main(folder: Path, rank: int, size: int, jobs: Sequence[str]) -> None:
    warnings.simplefilter("error")
    checkpoints.EVERY_SECONDS = 0.0
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    for job in jobs:
        name, _, step = job.partition("@")
        before = die_at(int(step)) if step else lambda _: None
        torch.save(JOBS[name](folder / f"{size}-{name}", Processes(rank, size), before), folder / f"{job}-{rank}.pt")
    dist.destroy_process_group()
