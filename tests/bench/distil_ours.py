"""The toolkit's own runs: the teacher's answers are taken into the cache, the teacher is let go, the student learns.
What is left of the teacher is what the line keeps: its cache and, with hidden states, its head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distil_data import MOST_TOKENS, PROMPT_TOKENS, Lot
from distil_runs import Clock, Job, batches_of, groups_of, keep, schedule_of

OWN_TOKENS = MOST_TOKENS - PROMPT_TOKENS


def train(job: Job) -> dict[str, Any]:
    """Train the job's student; the seconds of labelling and of each step, and the size of the cache."""
    from toolkit.distil.learner import Learner
    from toolkit.distil.loop import Score, fit

    lot, clock = Lot(Path(job.lot)), Clock()
    lesson, facts = _lesson(job, lot)
    model = lot.student(job.student, job.seed)
    epochs = iter(range(1, job.epochs + 1))

    def report(done: int, total: int) -> None:
        """A step begins where the one before it ended."""
        clock.tick() if done % lesson.steps else clock.resume()
        del total

    def validate(module: Any) -> Score:
        clock.tick()
        keep(job, next(epochs), module)
        return Score(0.0, 0.0)

    fit(
        Learner(model, "lm_head"), lesson, schedule_of(job), groups=groups_of(model), validate=validate,
        folder=Path(job.folder, "training"), report=report,
    )  # fmt: skip
    return facts | {"parameters": model.num_parameters(), **clock.facts()}


def _lesson(job: Job, lot: Lot) -> tuple[Any, dict[str, Any]]:
    from safetensors.torch import load_file, save_file

    from toolkit.distil.cache.store import TokenCache
    from toolkit.distil.chunks import Mix
    from toolkit.tasks.text_generation.teacher import label, read_teacher
    from toolkit.tasks.text_generation.training import Knowledge, SequenceLesson

    samples, teacher = lot.samples("train"), read_teacher(lot.teacher)
    codec: Any = "topk" if job.variant == "topk" else "hidden"
    clock = Clock()
    cache = label(teacher, samples, Path(job.folder, "cache"), codec=codec, enough=0.0)
    clock.tick()
    facts = {
        "labelling_seconds": clock.seconds[0],
        "labelling_cpu_seconds": clock.cpu[0],
        "bytes_a_token": cache.size_bytes / cache.tokens,
        "mass": cache.quality.mass,
    }
    head = Path(job.folder, "head.safetensors")
    save_file({"weight": teacher.head[0].contiguous()}, head)
    known = Knowledge(TokenCache.at(cache.folder), (load_file(head)["weight"], None) if codec == "hidden" else None)
    if job.variant == "on-policy":
        return _on_policy(job, samples, teacher, known), facts
    return SequenceLesson(batches_of(job, samples), Mix(0.0, 1.0), known), facts


def _on_policy(job: Job, samples: Any, teacher: Any, known: Any) -> Any:
    """With the shares and the divergence that GKDTrainer has by default."""
    from distil_gkd import DEFAULTS

    from toolkit.tasks.text_generation.dealing import Dealt
    from toolkit.tasks.text_generation.onpolicy import Course, Exposure, InMemory, OnPolicyLesson
    from toolkit.tasks.text_generation.sampling import Drawing

    own, beta = DEFAULTS["lmbda"], DEFAULTS["beta"]
    return OnPolicyLesson(
        Dealt(samples, job.batch, seed=job.seed), Exposure(Course(own, own), Course(beta, beta)), InMemory(teacher),
        Drawing(OWN_TOKENS, DEFAULTS["temperature"], rows=job.batch), stops(teacher), rows=job.batch, given=known,
        seed=job.seed,
    )  # fmt: skip


def stops(teacher: Any) -> Any:
    """The tokens that end an answer."""
    from toolkit.tasks.text_generation.tokens import stops_of
    from toolkit.text import Message

    return stops_of([Message("user", "?")], teacher.tokenizer)
