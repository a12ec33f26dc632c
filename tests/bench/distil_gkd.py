"""TRL's GKDTrainer on the samples, steps, optimiser and learning rates of the toolkit's own runs.

It is handed tokens, padded to the longest of a batch, so that it tokenises nothing. Unless it is to be lean, it keeps
activations instead of computing them twice, which TRL does by default and which takes a third more time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distil_data import MOST_TOKENS, PROMPT_TOKENS, Lot
from distil_runs import CLIPPED, Clock, Job, groups_of, keep, schedule_of, steps_of

FORWARD_KL = {"lmbda": 0.0, "beta": 0.0}
DEFAULTS = {"lmbda": 0.5, "beta": 0.5, "temperature": 0.9}
IGNORE = -100


def train(job: Job) -> dict[str, Any]:
    """Train the job's student; the seconds of each step."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    lot, lean = Lot(Path(job.lot)), job.variant == "gkd-lean"
    samples, tokenizer = lot.samples("train"), AutoTokenizer.from_pretrained(lot.teacher)
    model, teacher = lot.student(job.student, job.seed), AutoModelForCausalLM.from_pretrained(lot.teacher)
    rows = [{"ids": list(sample.ids), "prompt": sample.prompt} for step in steps_of(job, samples) for sample in step]
    total = len(rows) // job.batch
    schedule = schedule_of(job)
    optimizer = torch.optim.AdamW(
        groups_of(model), lr=job.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.factor(step, total))
    micro = 1 if lean else job.batch
    settings = GKDConfig(
        output_dir=str(Path(job.folder, "trl")), per_device_train_batch_size=micro,
        gradient_accumulation_steps=job.batch // micro, gradient_checkpointing=lean, num_train_epochs=1,
        max_grad_norm=CLIPPED, max_length=MOST_TOKENS, max_new_tokens=MOST_TOKENS - PROMPT_TOKENS, bf16=False,
        use_cpu=True, seed=job.seed, train_sampling_strategy="sequential", save_strategy="no", report_to="none",
        disable_tqdm=True, **(DEFAULTS if job.variant == "gkd-defaults" else FORWARD_KL),
    )  # fmt: skip
    clock = Clock()
    trainer = GKDTrainer(
        model, teacher, settings, data_collator=lambda batch: padded(batch, tokenizer.pad_token_id),
        train_dataset=Dataset.from_list(rows), processing_class=tokenizer, optimizers=(optimizer, rates),
        callbacks=[_watcher(job, clock, total // job.epochs)],
    )  # fmt: skip
    trainer.train()
    return {"parameters": model.num_parameters(), **clock.facts()}


def _watcher(job: Job, clock: Clock, steps: int) -> Any:
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        """Looks at the clock after each step and keeps the weights after each epoch of `steps`."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.resume()

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            clock.tick()
            if state.global_step % steps == 0:
                keep(job, state.global_step // steps, given["model"])
                clock.resume()

    return Watcher()


def padded(batch: Sequence[dict[str, Any]], pad: int) -> dict[str, Any]:
    """As DataCollatorForChatML pads: texts to the right here, since nothing is generated after them; prompts, which
    are completed, to the left."""
    import torch

    longest, prompt = max(len(row["ids"]) for row in batch), max(row["prompt"] for row in batch)
    made: dict[str, list[list[int]]] = {
        name: [] for name in ("input_ids", "attention_mask", "labels", "prompts", "prompt_attention_mask")
    }
    for row in batch:
        ids, given = row["ids"], row["prompt"]
        after, before = longest - len(ids), prompt - given
        made["input_ids"].append([*ids, *[pad] * after])
        made["attention_mask"].append([1] * len(ids) + [0] * after)
        made["labels"].append([IGNORE] * given + ids[given:] + [IGNORE] * after)
        made["prompts"].append([pad] * before + ids[:given])
        made["prompt_attention_mask"].append([0] * before + [1] * given)
    return {name: torch.tensor(rows) for name, rows in made.items()}
