"""What the students of one run have learnt, epoch by epoch: their divergence from the teacher over the whole
vocabulary on completions that nobody learnt, and how many answers are right."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from distil_data import MOST_TOKENS, PROMPT_TOKENS, Lot
from distil_runs import Job

CHUNK = 256
ANSWERED = (1, 3, 5)
"""Epochs after which students answer too, which takes its time."""


def main() -> None:
    """`distil_scores.py JOB`: scores.json beside the weights."""
    import torch
    from safetensors.torch import load_model

    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(job.threads)
    lot = Lot(Path(job.lot))
    model = lot.student(job.student, job.seed).train(False)
    found = []
    for epoch in range(job.epochs + 1):
        if epoch:
            load_model(model, Path(job.folder, f"epoch-{epoch}.safetensors"))
        scores: dict[str, Any] = {"epoch": epoch, "kl": divergence(lot, model)}
        if epoch in ANSWERED or epoch == job.epochs:
            scores["right"] = right(lot, model)
        found.append(scores)
    Path(job.folder, "scores.json").write_text(json.dumps(found))


def divergence(lot: Lot, model: Any) -> float:
    """KL(teacher || student), the mean over all held-out completion tokens, in nats."""
    import torch
    from safetensors.torch import load_file

    from toolkit.distil.sequences import forward_kl

    reference = load_file(lot.folder / "reference.safetensors")
    total, place = 0.0, 0
    with torch.inference_mode():
        for sample in lot.samples("held-out"):
            logits = model(input_ids=torch.tensor([sample.ids])).logits[0, sample.prompt - 1 : -1]
            states = reference["states"][place : place + sample.learnt]
            total += float(forward_kl(logits, states @ reference["weight"].T).double().sum())
            place += sample.learnt
    return total / place


def right(lot: Lot, model: Any) -> int:
    """How many of its likeliest answers to the held-out problems are GSM8K's."""
    from transformers import AutoTokenizer

    from toolkit.tasks.text_generation.answers import answers_right
    from toolkit.tasks.text_generation.sampling import Drawing, write
    from toolkit.tasks.text_generation.tokens import stops_of
    from toolkit.text import Message

    tokenizer = AutoTokenizer.from_pretrained(lot.teacher)
    samples = lot.samples("held-out")
    stops = stops_of([Message("user", "?")], tokenizer)
    prompts = [sample.ids[: sample.prompt] for sample in samples]
    told = write(model, prompts, Drawing(MOST_TOKENS - PROMPT_TOKENS, 0.0, rows=len(prompts)), stops=stops, seed=0)
    texts = [tokenizer.decode(list(text), skip_special_tokens=True) for text in told]
    return sum(answers_right(text, answer) for text, answer in zip(texts, lot.answers("held-out"), strict=True))


if __name__ == "__main__":
    main()
