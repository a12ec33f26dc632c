"""`make bench-rounds`: what a small student gains from its own verified answers, and from rewards for them.

    python tests/bench/rounds.py [--seeds 0 1 2] [--beginning N] [--epochs N] [--passes N] [--home FOLDER]

Arithmetic by reasoning-gym: sums of a few numbers, legs of a few animals, equations of one unknown. A student from a
config, its tokenizer trained on the questions, first learns the exact teacher's answers to some problems, with their
steps. Then, each from that start: the same answers again for as many epochs as a round has, so that what longer
training gives is seen; `self`, three rounds on its own right answers to problems that nobody answers for it; and
`grpo`, rewarded by the same verifier on the same problems. All are scored on problems that none was trained on, by
their likeliest answer and by four drawn. Writes tests/bench/results/rounds.json = {machine, versions, rows, ratios}
and prints tables. One thread a seed. Needs the plugin teacher-program.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "rounds.json"
TASKS = ("chain_sum", "leg_counting", "simple_equations")
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "chain_sum": {"min_terms": 3, "max_terms": 4, "min_digits": 1, "max_digits": 1},
    "leg_counting": {"min_animals": 1, "max_animals": 2, "max_instances": 5},
    "simple_equations": {"min_terms": 2, "max_terms": 2, "min_value": 1, "max_value": 6},
}
GIVEN: Mapping[str, int] = {"chain_sum": 1000, "leg_counting": 350, "simple_equations": 350}
"""Problems that the teacher answers: sums of two numbers are more in kind than the others' steps."""

POOL, VALIDATION, HELD_OUT = 1500, 60, 300
"""Of each task those that the student alone answers, those that weights are chosen by, and those for the figures."""

VOCABULARY = 512
SIZES = {
    "hidden_size": 160,
    "intermediate_size": 448,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "initializer_range": 0.06,
}
CAPACITY, MOST_TOKENS = 160, 40
ROUNDS, EPOCHS, BEGINNING = 3, 4, 24
DRAWS = 10_000

BATCH, RATE = 32, 1e-4
"""Problems of a step of grpo, and its highest learning rate. A step's gradient is mostly chance, and AdamW takes steps
of one length whatever they are worth: at 2.5e-4 with 16 problems the share of right answers fell from step to step."""


@dataclass(frozen=True)
class Parts:
    """Problems that have nothing in common."""

    given: list[Any]
    pool: list[Any]
    validation: list[Any]
    held_out: list[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--beginning", type=int, default=BEGINNING, help="epochs of the start")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of a round")
    parser.add_argument("--passes", type=int, default=2, help="of grpo over its problems")
    parser.add_argument("--home", type=Path, help="where training is kept, so that a bench that was broken off goes on")
    arguments = parser.parse_args()
    if not find_spec("reasoning_gym") or not find_spec("toolkit_teacher_program"):
        sys.exit("this needs the teacher program: pip install -c constraints.txt ./plugins/teacher-program")
    with tempfile.TemporaryDirectory() as aside:
        home = arguments.home or Path(aside)
        jobs = [(seed, arguments.beginning, arguments.epochs, arguments.passes, home) for seed in arguments.seeds]
        with ProcessPoolExecutor(len(jobs), mp_context=get_context("spawn")) as pool:
            rows = [row for found in pool.map(one_seed, *zip(*jobs, strict=True)) for row in found]
    show(rows)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record(rows), indent=1) + "\n")


def one_seed(seed: int, beginning: int, epochs: int, passes: int, home: Path) -> list[dict[str, Any]]:
    """The start, more of the same, the rounds, and the rewards of one student, a row each."""
    import torch

    torch.set_num_threads(1)
    from toolkit.tasks.text_generation.sampling import Drawing
    from toolkit.tasks.text_generation.solving import Solver

    teacher, plan, parts = problems_of(seed)
    tokenizer = tokenizer_of([prompt.messages[0].content for prompt in parts.given])
    solver = Solver(tokenizer, verifier(teacher.verifier(plan)), Drawing(MOST_TOKENS, 0.8, rows=128))
    given, model = answered_by(teacher, plan, parts.given, tokenizer), new_student(tokenizer, seed)
    folder, rows, first = home / f"seed-{seed}", [], None

    def add(name: str, weights: Mapping[str, Any], beside: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
        student = copy.deepcopy(model)
        student.load_state_dict(weights)
        rows.append(row(name, seed, parts, measured(student, solver, parts, seed), beside) | more)
        shown = {key: value for key, value in rows[-1].items() if key not in ("right", "drawn")}
        print(json.dumps(shown), flush=True)
        return rows[-1]

    start = tuning(solver, parts, beginning, seed).train(model, given, folder / "start", quiet)
    first = before = add("start", start, None)
    model.load_state_dict(start)
    again = tuning(solver, parts, epochs, seed).train(copy.deepcopy(model), given, folder / "again", quiet)
    add("given again", again, first)
    found = self_trained(copy.deepcopy(model), solver, parts, given, epochs, seed, folder / "self")
    for one in found:
        facts = {name: value for name, value in one.facts().items() if name not in ("before", "after")}
        weights = torch.load(folder / "self" / f"round-{one.number:02}" / "weights.pt", weights_only=True)
        before = add(f"self, round {one.number}", weights, before, facts=facts)
    weights, history = rewarded(copy.deepcopy(model), solver, parts, passes, seed, folder / "grpo")
    add("grpo", weights, first, history=history)
    return rows


def self_trained(
    model: Any, solver: Any, parts: Parts, given: Sequence[Any], epochs: int, seed: int, folder: Path
) -> Sequence[Any]:
    from toolkit.tasks.text_generation.rounds import Improvement, Rounds

    improvement = Improvement(
        model, parts.pool, parts.held_out, solver, tuning(solver, parts, epochs, seed),
        Rounds(ROUNDS, answers=4, most=2, seed=seed), folder, given=given,
    )  # fmt: skip
    found: Sequence[Any] = improvement.run(quiet).rounds
    return found


def rewarded(
    model: Any, solver: Any, parts: Parts, epochs: int, seed: int, folder: Path
) -> tuple[Mapping[str, Any], list[dict[str, float]]]:
    """The weights, and the figures of each pass over the problems."""
    from toolkit.distil.learner import Learner
    from toolkit.distil.loop import Schedule, fit
    from toolkit.tasks.text_generation.dealing import Dealt
    from toolkit.tasks.text_generation.grpo import GrpoLesson, Reinforcement

    exploring = replace(solver, drawing=replace(solver.drawing, temperature=1.0, rows=2 * BATCH))
    lesson = GrpoLesson(
        Dealt(parts.pool, BATCH, seed=seed), exploring, Reinforcement(group=8, norm="token"), rows=8 * BATCH, seed=seed
    )
    fitted = fit(
        Learner(model), lesson, Schedule(epochs, RATE, 0.0, average_decay=0.95, seed=seed),
        groups=[{"params": list(model.parameters())}], validate=solver.validator(parts.validation), folder=folder,
        report=lambda done, total: None,
    )  # fmt: skip
    return fitted.weights, list(fitted.history)


def tuning(solver: Any, parts: Parts, epochs: int, seed: int) -> Any:
    from toolkit.distil.loop import Schedule
    from toolkit.tasks.text_generation.rounds import Tuning

    return Tuning(
        Schedule(epochs, 3e-3, 0.02, seed=seed), CAPACITY, 4, groups=lambda model: [{"params": [*model.parameters()]}],
        validate=solver.validator(parts.validation),
    )  # fmt: skip


def problems_of(seed: int) -> tuple[Any, Any, Parts]:
    """The exact teacher, its plan, and its questions, each text once, dealt out to four parts."""
    from toolkit.plan import Plan
    from toolkit.resolve import Layer, resolve
    from toolkit_teacher_program import ProgramSettings, ProgramTeacher

    most = 2 * (max(GIVEN.values()) + POOL + VALIDATION + HELD_OUT)
    table = {"tasks": TASKS, "size": most, "seed": seed, "parameters": PARAMETERS}
    plan: Plan = resolve(
        [Layer("bench", {"domain": "bench", "teacher_program": table})], {"teacher_program": ProgramSettings}
    ).plan
    teacher = ProgramTeacher()
    asked: dict[str, dict[tuple[Any, ...], Any]] = {task: {} for task in TASKS}
    for prompt in teacher.prompts(plan):
        asked[prompt.id.rpartition("-")[0]].setdefault(prompt.messages, prompt)
    dealt: dict[str, list[Any]] = {name: [] for name in ("held_out", "validation", "given", "pool")}
    for task in TASKS:
        mine, start = list(asked[task].values()), 0
        for name, size in zip(dealt, (HELD_OUT, VALIDATION, GIVEN[task], POOL), strict=True):
            if start + size > len(mine):
                sys.exit(f"{task} has only {len(mine)} questions")
            dealt[name] += mine[start : start + size]
            start += size
    # Of every task some in each stretch, for what learns a stretch at a time
    mixed = {name: [prompt for part in range(POOL) for prompt in found[part::POOL]] for name, found in dealt.items()}
    return teacher, plan, Parts(**mixed)


def tokenizer_of(texts: Sequence[str]) -> Any:
    """Byte pairs of the questions, each digit by itself, and what answers need besides."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["</s>"])
    backend.train_from_iterator([*texts, "#### 0123456789 + - * = \n"], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", clean_up_tokenization_spaces=False)
    made.chat_template = (
        "{% for m in messages %}{{ m.content.strip() }}\n{% if m.role != 'user' %}</s>{% endif %}{% endfor %}"
    )
    return made


def answered_by(teacher: Any, plan: Any, prompts: Sequence[Any], tokenizer: Any) -> Sequence[Any]:
    """The exact answers, tokenised, after the steps where they can be told from the question."""
    from toolkit.tasks.text_generation.rows import Row
    from toolkit.tasks.text_generation.tokens import tokenise
    from toolkit_teacher_program.exam import Exam

    settings = plan.teacher_program
    exam = Exam(settings.tasks, settings.size, settings.seed, settings.parameters)
    rows = [
        Row(prompt.id, prompt.messages, worked(prompt.id, exam.item(prompt)[1]["metadata"], answer.text))
        for prompt, answer in zip(prompts, teacher.answers(plan, prompts), strict=True)
    ]
    return tokenise(rows, tokenizer, max_tokens=CAPACITY).samples


def worked(identity: str, metadata: Mapping[str, Any], answer: str) -> str:
    """A sum one term after the other; the legs of each kind; an equation without its constant."""
    if identity.startswith("chain_sum"):
        total, steps = 0, []
        for number, (sign, term) in enumerate(re.findall(r"([+-]?) ?(\d+)", metadata["expression"])):
            after = total + int(term) * (-1 if sign == "-" else 1)
            steps += [f"{total} {sign} {term} = {after}"] if number else []
            total = after
        return "\n".join([*steps, f"#### {answer}"])
    if identity.startswith("leg_counting"):
        from reasoning_gym.arithmetic.leg_counting import ANIMALS

        each = [count * ANIMALS[animal] for animal, count in metadata["animals"].items()]
        return f"{' + '.join(map(str, each))}\n#### {answer}"
    left, _, right = metadata["equation"].partition(" = ")
    slope, constant = 0, 0
    for sign, number, letter in re.findall(r"(-?) ?(?:(\d+)\*)?(\d+|[a-z])", left):
        value = (-1 if sign else 1) * int(number or 1) * (1 if letter.isalpha() else int(letter))
        slope, constant = (slope + value, constant) if letter.isalpha() else (slope, constant + value)
    return f"{slope}*{metadata['variable']} = {int(right) - constant}\n#### {answer}"


def verifier(check: Any) -> Any:
    """The teacher's checker on what stands after the last mark."""
    return lambda prompt, said: check(prompt, said.rpartition("####")[2].strip())


def new_student(tokenizer: Any, seed: int) -> Any:
    from transformers import LlamaConfig

    from toolkit.tasks.text_generation.students import from_config

    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=CAPACITY, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, **SIZES,
    )  # fmt: skip
    return from_config(config, seed=seed).model


def measured(model: Any, solver: Any, parts: Parts, seed: int) -> dict[str, np.ndarray]:
    """Of each held-out problem whether the likeliest answer is right, and the share of right ones among four drawn."""
    drawn = solver.attempts(model, parts.held_out, each=4, seed=seed)
    right = solver.right(model, parts.held_out).astype(float)
    return {"right": right, "drawn": np.array([np.mean([one.right for one in each]) for each in drawn])}


def row(
    name: str, seed: int, parts: Parts, found: Mapping[str, np.ndarray], beside: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Accuracy with its Wilson interval, by task too, and the gains over `beside` on the same problems, paired, by the
    bootstrap over problems."""
    from toolkit.score.intervals import share

    tasks, right = np.array([prompt.id.rpartition("-")[0] for prompt in parts.held_out]), found["right"]
    made: dict[str, Any] = {"name": name, "seed": seed, **{key: values.tolist() for key, values in found.items()}}
    made["accuracy"] = asdict(share(int(right.sum()), len(right)))
    made["accuracy_drawn"] = float(found["drawn"].mean())
    made["tasks"] = {task: float(right[tasks == task].mean()) for task in TASKS}
    if beside is not None:
        made |= {f"gain_{key}": gain(values, np.array(beside[key])) for key, values in found.items()}
    return made


def gain(after: np.ndarray, before: np.ndarray) -> dict[str, float]:
    """Of problem after problem, with its 95% interval."""
    each = after.astype(float) - before.astype(float)
    drawn = np.random.default_rng(0).integers(0, len(each), (DRAWS, len(each)))
    low, high = np.quantile(each[drawn].mean(axis=1), (0.025, 0.975))
    return {"value": float(each.mean()), "low": float(low), "high": float(high)}


def over_seeds(rows: Sequence[Mapping[str, Any]], after: str, before: str) -> dict[str, dict[str, float]]:
    """The gains of one over the other, means over seeds, by the bootstrap over all their problems."""
    found = {}
    for key in ("right", "drawn"):
        pair = [np.concatenate([row[key] for row in rows if row["name"] == name]) for name in (after, before)]
        found[key] = gain(pair[0], pair[1])
    return found


def gains_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    rounds = ["start", *(f"self, round {number}" for number in range(1, ROUNDS + 1))]
    pairs = [
        *((after, before) for before, after in pairwise(rounds)),
        (rounds[-1], "start"),
        (rounds[-1], "given again"),
    ]
    pairs += [("grpo", "start"), ("given again", "start")]
    return {f"{after} over {before}": over_seeds(rows, after, before) for after, before in pairs}


def record(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from toolkit.stages.summary import describe_machine

    machine = describe_machine()
    versions = {name: machine.pop(name) for name in ("python", "onnxruntime", "torch")}
    plain = [{name: value for name, value in row.items() if name not in ("right", "drawn")} for row in rows]
    return {"machine": machine, "versions": versions, "rows": plain, "ratios": {"gains": gains_of(rows)}}


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{'':14} {'seed':>4} {'likeliest answer':>24} {'drawn':>6}  of each task")
    for row in rows:
        found = row["accuracy"]
        accuracy = f"{found['value']:.1%} ({found['low']:.1%} to {found['high']:.1%})"
        tasks = ", ".join(f"{task} {value:.0%}" for task, value in row["tasks"].items())
        print(f"{row['name']:14} {row['seed']:4} {accuracy:>24} {row['accuracy_drawn']:6.1%}  {tasks}")
    print("\npoints gained, over all seeds: by the likeliest answer, and by answers drawn")
    for name, found in gains_of(rows).items():
        told = ["{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * v for v in one.values())) for one in found.values()]
        print(f"{name:30} {told[0]:>24} {told[1]:>24}")


def quiet(what: str, done: int, total: int) -> None:
    del what, done, total


if __name__ == "__main__":
    main()
