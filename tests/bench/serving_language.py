"""`make bench-serving-language`: texts by our server beside bare onnxruntime-genai and llama.cpp's server, in one run.

    python tests/bench/serving_language.py [--quick] [--rounds 3] [--tokens 60] [--models smollm2 copy]
        [--forms int4 fp32]

Two models: SmolLM2-135M-Instruct, and a student of the size that the domain content deploys, of seeded weights, since
what a student has learned does not change how long it takes; each in int4 and fp32. All write texts of the same number
of tokens to the same prompts, the likeliest ones; no token ends a text. Our server and llama.cpp's (llama-cpp-python's,
in an environment of its own, the GGUF file itself in Q4_1) are asked by streams of OpenAI's form, one client or four at
once. Rows that begin with `genai` are what its library does without a server, with one thread or as many as there are
cores: generators, each in a thread of its own, and at four its engine with all four from the beginning. All are asked
in turn: a figure is the median of the rounds, a ratio the median of the rounds' ratios, to that way of genai whose
median is best. `late` is the time to the first token of a text that is asked
for while three others are written, and how many of those had ended by then. Writes
tests/bench/results/serving_language.json = {machine, versions, load, skipped, rows, ratios} and prints one table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from serving_servers import HERE, environment, free_port, request, serving, started
from serving_sites import on_site
from writing import checkpoint

RESULTS = HERE / "results" / "serving_language.json"
FORMS = ("int4", "fp32")
CLIENTS = (1, 4)
QUESTIONS = (
    "Write a product description of a red woollen scarf for winter, in three sentences.",
    "Explain to a child of eight years why the sky is blue, and why it is red in the evening.",
    "Name five uses of an old bicycle.",
    "Tell me a story about a lighthouse keeper who finds a message in a bottle on the beach.",
)
COPY = {"parameters": 3_000_000, "vocabulary": 1536, "context": 512}
LLAMA = "llama-cpp-python"

Figures = dict[str, float]
Ask = Callable[[int], Figures]
"""`ask(clients)`: one measurement."""


@dataclass(frozen=True)
class Model:
    """A form of a model: the files of a bundle by role, the folder that genai reads, and its prompts as tokens."""

    name: str
    files: Mapping[str, bytes]
    folder: Path
    prompts: Sequence[Sequence[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, nothing is kept: whether all of it runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--models", nargs="+", default=["smollm2", "copy"], choices=["smollm2", "copy"])
    parser.add_argument("--forms", nargs="+", default=FORMS, choices=FORMS)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    before = os.getloadavg()
    with tempfile.TemporaryDirectory() as aside:
        for name in asked.models:
            folder = Path(aside, name)
            folder.mkdir()
            for model in models(name, folder, asked.forms, asked.tokens):
                rows += measured(model, Path(aside), 1 if asked.quick else asked.rounds, asked.tokens, skipped)
    load = {"before": before, "after": os.getloadavg()}
    record = machine() | {"load": load, "skipped": skipped, "rows": rows, "ratios": ratios(rows)}
    show(record)
    if not asked.quick:
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def models(name: str, folder: Path, forms: Sequence[str], tokens: int) -> list[Model]:
    """The forms of a model, built by onnxruntime-genai's builder."""
    from toolkit.compile.language import CONFIG, MODEL, language_forms
    from toolkit.tasks.text_generation.spelling import record_of
    from toolkit.tasks.text_generation.tokens import prompt_ids
    from toolkit.text import Message

    network, tokenizer = smollm2() if name == "smollm2" else small_student()
    network.save_pretrained(folder / "torch")
    tokenizer.save_pretrained(folder / "torch")
    prompts = [prompt_ids((Message("user", text),), tokenizer) for text in QUESTIONS]
    found = []
    for form in language_forms(folder / "torch", forms, folder):
        place = folder / form.form
        place.mkdir()
        (place / MODEL).write_bytes(form.model)
        config = json.loads(form.beside[CONFIG])
        config["model"]["eos_token_id"] = [network.config.vocab_size - 1]  # which nobody writes
        (place / CONFIG).write_text(json.dumps(config))
        files = bundle(form.model, json.dumps(config).encode(), record_of(tokenizer), prompts, tokens)
        found.append(Model(f"{name} {form.form}", files, place, prompts))
    return found


def smollm2() -> tuple[Any, Any]:
    from toolkit.tasks.text_generation.teacher import read_teacher

    found = read_teacher(checkpoint())
    return found.model, found.tokenizer


def small_student() -> tuple[Any, Any]:
    """As the domain content begins one, in the words of the prompts."""
    import torch

    from toolkit.tasks.text_generation import students
    from toolkit.tasks.text_generation.rows import Row
    from toolkit.tasks.text_generation.scratch import config_for, tokenizer_for
    from toolkit.text import Message

    rows = [Row(str(number), (Message("user", text),), text) for number, text in enumerate(QUESTIONS)]
    tokenizer = tokenizer_for(rows, COPY["vocabulary"])
    config = config_for(COPY["parameters"], COPY["vocabulary"], COPY["context"])
    model = students.from_config(config, seed=0).model
    silent = [token for token in range(config.vocab_size) if not tokenizer.decode([token], skip_special_tokens=True)]
    odd = [token for token in range(config.vocab_size) if not tokenizer.decode([token]).isascii()]
    with torch.no_grad():
        model.get_input_embeddings().weight[[*silent, *odd]] = 0  # a piece of the stream for each token that is written
    return model, tokenizer


def bundle(
    model: bytes, config: bytes, tokenizer: bytes, prompts: Sequence[Sequence[int]], tokens: int
) -> dict[str, bytes]:
    """The files of a bundle by role."""
    from toolkit.plan import Plan
    from toolkit.serving.language import LanguageSession
    from toolkit.tasks.text_generation.installed import generation_record, golden_record, written_ids

    stops = json.loads(config)["model"]["eos_token_id"]
    answers = written_ids(LanguageSession(model, config, stops=stops), prompts, [4] * len(prompts))
    plan = Plan(domain="bench", task="text_generation", text={"answer_tokens": tokens})
    labels = {"classes": [], "good_class": None, "channels": None}
    told = {"plan": plan.model_dump(mode="json"), "classes": labels, "golden": golden_record(prompts, answers)}
    told["generation"] = generation_record(config, stops)
    return {role: json.dumps(content).encode() for role, content in told.items()} | {
        "model": model, "tokenizer": tokenizer,
    }  # fmt: skip


def measured(model: Model, aside: Path, rounds: int, tokens: int, skipped: dict[str, str]) -> list[dict[str, Any]]:
    """Every server of one model, each number of clients, in turn."""
    name, genai = model.name.replace(" ", "-"), Genai(model, tokens)
    site, key = on_site(name, aside / f"home-{name}", model.files)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(serving(site, aside / f"ours-{name}"))
        heads = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        asks: dict[str, Ask] = {"ours": lambda clients: streamed(port, heads, clients, tokens)}
        if model.name == "smollm2 int4":
            try:
                other = stack.enter_context(llama(aside / "llama"))
                asks[LLAMA] = lambda clients: streamed(other, {"Content-Type": "application/json"}, clients, tokens)
            except OSError as error:
                skipped[LLAMA] = str(error)
        asks |= genai.ways()
        for ask in asks.values():
            ask(1)  # what the first call sets up does not count
        rows = []
        pairs = [(who, many) for many in CLIENTS for who in asks if many > 1 or "engine" not in who]
        told: dict[tuple[str, int], list[Figures]] = {pair: [] for pair in pairs}
        for _ in range(rounds):
            for who, many in told:
                told[who, many].append(asks[who](many))
        for (who, many), figures in told.items():
            row: dict[str, Any] = {"model": model.name, "server": who, "clients": many}
            row |= {key: round(statistics.median(one[key] for one in figures), 4) for key in figures[0]}
            row["rounds"] = [round(one["tokens_per_s"], 2) for one in figures]
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
        late = [late_text(port, heads, tokens) for _ in range(rounds)]
        row = {"model": model.name, "server": "ours", "clients": "late"}
        rows.append(row | {key: round(statistics.median(one[key] for one in late), 4) for key in late[0]})
        print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


class Genai:
    """onnxruntime-genai without a server."""

    def __init__(self, model: Model, tokens: int) -> None:
        import onnxruntime_genai as genai

        self._genai, self._prompts, self._tokens = genai, model.prompts, tokens
        self._models: dict[int, Any] = {}
        for threads in sorted({1, cores()}):
            config = genai.Config(str(model.folder))
            decoder = {"session_options": {"intra_op_num_threads": threads}}
            engine = {"static_batching": {"max_batch_size": max(CLIENTS)}}
            config.overlay(json.dumps({"model": {"decoder": decoder}, "engine": engine}))
            self._models[threads] = genai.Model(config)

    def ways(self) -> dict[str, Ask]:
        """What it offers, by name."""
        found: dict[str, Ask] = {}
        for threads, model in self._models.items():
            found[f"genai, {threads} threads"] = partial(self._at_once, model)
            found[f"genai engine, {threads} threads"] = partial(self._by_engine, model)
        return found

    def _at_once(self, model: Any, clients: int) -> Figures:
        firsts: list[float] = []
        writers = [threading.Thread(target=self._write, args=(model, ids, firsts)) for ids in self._prompts[:clients]]
        began = time.perf_counter()
        for one in writers:
            one.start()
        for one in writers:
            one.join()
        return figures(began, clients * self._tokens, firsts)

    def _write(self, model: Any, prompt: Sequence[int], firsts: list[float]) -> None:
        settings = self._genai.GeneratorParams(model)
        settings.set_search_options(max_length=len(prompt) + self._tokens)
        writing = self._genai.Generator(model, settings)
        writing.append_tokens(np.asarray(prompt, np.int32))
        for number in range(self._tokens):
            writing.generate_next_token()
            writing.get_next_tokens()
            if number == 0:
                firsts.append(time.perf_counter())

    def _by_engine(self, model: Any, clients: int) -> Figures:
        engine, firsts, written, asked = self._genai.Engine(model), list[float](), 0, []
        began = time.perf_counter()
        for prompt in self._prompts[:clients]:
            options = self._genai.RequestOptions()
            options.set_max_session_tokens(len(prompt) + self._tokens)
            asked.append(engine.create_request(options=options))
            turn = self._genai.TurnOptions(asked[-1])
            turn.set_do_sample(False)
            turn.set_max_generated_tokens(self._tokens)
            asked[-1].begin_turn(np.asarray(prompt, np.int32), turn)
        events = engine.create_event_buffer(64)
        while engine.has_pending_requests():
            for event in engine.run(events):
                written += bool(event.flags & self._genai.EngineEventFlags.TOKEN)
                if written <= clients:
                    firsts.append(time.perf_counter())
        for one in asked:
            one.close()
        return figures(began, written, firsts)


@contextlib.contextmanager
def llama(folder: Path) -> Any:
    """The port of llama-cpp-python's server on the GGUF file. Raises OSError where it cannot be had here."""
    python, port = environment(LLAMA), free_port()
    folder.mkdir(parents=True)
    command = [
        str(python), "-m", "llama_cpp.server", "--model", str(checkpoint()), "--host", "127.0.0.1", "--port", str(port),
        "--n_threads", str(cores()), "--n_ctx", "2048", "--interrupt_requests", "False",
    ]  # fmt: skip
    with started(command, {}, folder, port, ready="/v1/models"):
        yield port


def streamed(port: int, heads: Mapping[str, str], clients: int, tokens: int) -> Figures:
    """So many clients at once, a stream each."""

    async def all_at_once() -> Figures:
        began = time.perf_counter()
        texts = await asyncio.gather(*(stream(port, heads, text, tokens) for text in QUESTIONS[:clients]))
        return figures(began, sum(one["tokens"] for one in texts), [one["first"] for one in texts])

    return asyncio.run(all_at_once())


def late_text(port: int, heads: Mapping[str, str], tokens: int) -> Figures:
    """The first token of a short text, asked for when three long ones have begun."""

    async def late() -> Figures:
        begun = [asyncio.Event() for _ in QUESTIONS[1:]]
        long = [
            asyncio.create_task(stream(port, heads, text, 2 * tokens, event))
            for text, event in zip(QUESTIONS[1:], begun, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in begun))
        began = time.perf_counter()
        text = await stream(port, heads, QUESTIONS[0], 8)
        ended = [one["ended"] for one in await asyncio.gather(*long)]
        return {"first_ms": 1e3 * (text["first"] - began), "ended_before": sum(end < text["first"] for end in ended)}

    return asyncio.run(late())


async def stream(
    port: int, heads: Mapping[str, str], text: str, tokens: int, begun: asyncio.Event | None = None
) -> Figures:
    """One stream of OpenAI's form to its end: when the first and the last piece came, and the tokens, as the server
    counts them in the end, or else by the pieces that have a text."""
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "stream": True, "temperature": 0,
            "stream_options": {"include_usage": True}}  # fmt: skip
    whole = request("/v1/chat/completions", json.dumps(body).encode(), {**heads, "Connection": "close"})
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(whole)
    first, pieces, said, usage = 0.0, 0, b"", dict[str, int]()
    while line := await reader.readline():
        said = said or line
        event = json.loads(line[6:]) if line.startswith(b"data: {") else {}
        usage = event.get("usage") or usage
        if event.get("choices") and event["choices"][0]["delta"].get("content"):
            first, pieces = first or time.perf_counter(), pieces + 1
            if begun is not None:
                begun.set()
    writer.close()
    if b" 200 " not in said or not pieces:
        raise RuntimeError(f"the server did not write: {said!r}")
    return {"first": first, "ended": time.perf_counter(), "tokens": usage.get("completion_tokens", pieces)}


def figures(began: float, tokens: float, firsts: Sequence[float]) -> Figures:
    took = time.perf_counter() - began
    first = statistics.median(firsts) - began
    return {"tokens": tokens, "seconds": took, "tokens_per_s": tokens / took, "first_ms": 1e3 * first}


def cores() -> int:
    return len(os.sched_getaffinity(0))


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of the whole SmolLM2 in int4 where a name says no other: ours to genai and llama.cpp's server, and four clients
    to one; milliseconds of a text of the copy student by itself."""
    found = {(row["model"], row["server"], row["clients"]): row for row in rows}
    told: dict[str, float] = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        suffix = "" if model == "smollm2 int4" else "_" + model.replace("smollm2 ", "").replace(" ", "_")
        ours = {many: found[model, "ours", many] for many in CLIENTS}
        for many in CLIENTS:
            ways = [row for (which, who, at), row in found.items() if (which, at) == (model, many) and "genai" in who]
            told[f"to_genai_at_{many}{suffix}"] = ratio(ours[many], max(ways, key=lambda row: row["tokens_per_s"]))
            if theirs := found.get((model, LLAMA, many)):
                told[f"to_llama_at_{many}{suffix}"] = ratio(ours[many], theirs)
        told[f"at_4_to_1{suffix}"] = ratio(ours[4], ours[1])
        if model.startswith("copy"):
            told[f"p50_ms{suffix}"] = round(1e3 * ours[1]["seconds"], 1)
    return told


def ratio(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    return round(statistics.median(a / b for a, b in zip(mine["rounds"], theirs["rounds"], strict=True)), 3)


def machine() -> dict[str, Any]:
    from toolkit.stages.summary import describe_machine

    told = describe_machine()
    versions = {name: told.pop(name) for name in ("python", "onnxruntime")}
    versions["onnxruntime-genai"] = importlib.metadata.version("onnxruntime-genai")
    return {"machine": told, "versions": versions}


def show(record: Mapping[str, Any]) -> None:
    print("model          server                   clients  tokens/s  first token, ms")
    for row in record["rows"]:
        rate = f"{row['tokens_per_s']:9.1f}" if "tokens_per_s" in row else " " * 9
        print(f"{row['model']:<14} {row['server']:<24} {row['clients']:>7} {rate} {row['first_ms']:>16.0f}")
    for name, value in record["ratios"].items():
        print(f"{name:<28} {value:.2f}")
    for name, why in record["skipped"].items():
        print(f"skipped: {name}: {why}")


if __name__ == "__main__":
    main()
