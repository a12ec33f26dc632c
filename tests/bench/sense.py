"""`make bench-sense`: what the sense gate makes of people's problems, of planted nonsense and of free drafts.

    python tests/bench/sense.py [--judged N] [--learnt N] [--epochs N] [--home FOLDER]

Of GSM8K's test rows those that convert and hold together are put before GPT-3's solutions as GSM8K recorded them: one
model at a time, most of the four, and any of the four, which no gate could use since nobody knows beforehand which one
is right. They were recorded for these numbers alone, so nothing is redrawn. Nonsense planted on the same rows has no
recorded answers: shown is what its structure gives away without a solver. Then `toolkit deploy --domain education`
trains the embedded student to draft freely and gates it with the exact solver of the curriculum, numbers redrawn.
Writes tests/bench/results/sense.json = {machine, versions, rows, ratios}. Needs ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results" / "sense.json"
GSM8K = ROOT.parent / "shared" / "data" / "education" / "gsm8k"
RECORDED = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
PLANTED = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judged", type=int, default=100, help="of each: problems by people, nonsense, drafts")
    parser.add_argument("--learnt", type=int, default=1500, help="problems that the student learns to draft by")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--home", type=Path, help="a toolkit home, so that a bench that was broken off goes on")
    arguments = parser.parse_args()
    if not GSM8K.is_dir():
        sys.exit("this needs ../shared/data/education")
    with tempfile.TemporaryDirectory() as aside:
        home = (arguments.home or Path(aside)).absolute()
        home.mkdir(exist_ok=True, parents=True)
        rows = [*human_rows(), *nonsense_rows(), *student_rows(home, arguments)]
    for one in rows:
        figure = one["share"]
        print(f"{one['name']:60s} {figure['value']:6.1%} ({figure['low']:.1%} to {figure['high']:.1%}; {figure['n']})")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(recorded(rows, vars(arguments)), indent=1, ensure_ascii=False) + "\n")


def row(name: str, passed: int, n: int, **more: Any) -> dict[str, Any]:
    from toolkit.score.intervals import share

    return {"name": name, "share": share(passed, n).as_record(), **more}


def sound_models() -> Sequence[Any]:
    from toolkit_education.gsm8k import convert_file
    from toolkit_education.sense import unsound

    return [one for one in convert_file(GSM8K / "test.jsonl", split="test").models if not unsound(one)]


def human_rows() -> Iterator[dict[str, Any]]:
    """People's problems before GPT-3's recorded solutions (Cobbe et al., arXiv 2110.14168)."""
    from toolkit.text import Completion
    from toolkit.text_teachers import AskedTeacher
    from toolkit_education.items import render
    from toolkit_education.sense import AGREES, DISAGREES, Solver, problem_in, vote

    lines = (GSM8K / "example_model_solutions.jsonl").read_text(encoding="utf-8").splitlines()
    book = {one["question"]: [one[name]["solution"] for name in RECORDED] for one in map(json.loads, lines)}
    models = sound_models()

    def by(which: int | None) -> AskedTeacher:
        def answers(prompts: Sequence[Any]) -> Iterator[Completion]:
            for prompt in prompts:
                said = book[problem_in(prompt.messages)]
                yield Completion(prompt.id, said[prompt.sample if which is None else which])

        return AskedTeacher("GPT-3, recorded", "recorded", answers)

    ways = [(f"GPT-3 {name}", Solver(by(place), redrawn=0)) for place, name in enumerate(RECORDED)]
    ways.append(("most of the four", Solver(by(None), redrawn=0, solvings=4)))
    for name, solver in ways:
        found = Counter(one.outcome for one in solver.verdicts(models).values())
        refused = {"refused": found[DISAGREES], "undecided": len(models) - found[AGREES] - found[DISAGREES]}
        yield row(f"people's problems passed: {name}, recorded", found[AGREES], len(models), **refused)
    items = [render(one, one.original()) for one in models]
    any_of = sum(any(vote(item, [said])[0] == AGREES for said in book[item.problem]) for item in items)
    yield row("people's problems that any of the four solves, recorded", any_of, len(models))


def nonsense_rows() -> Iterator[dict[str, Any]]:
    """What of planted nonsense is refused by its structure, before any solver is asked."""
    from toolkit_education.nonsense import KINDS, planted
    from toolkit_education.sense import unsound

    spoilt = list(planted(sound_models(), PLANTED, 0))
    for kind in KINDS:
        ours = [one.model for one in spoilt if one.kind == kind]
        yield row(f"nonsense refused without a solver: {kind}", sum(bool(unsound(one)) for one in ours), len(ours))


def student_rows(home: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The embedded student, taught to draft, at the gate."""
    settings = {
        "education.free_drafting": "true", "education.solver": "curriculum-solver",
        "education.drafts_learnt": arguments.learnt, "education.judged": arguments.judged,
        "recipe.epochs": arguments.epochs,
    }  # fmt: skip
    told = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "toolkit.cli.main", "deploy", "--domain", "education", "--until", "gate", *told]
    command += ["--override", "a bench measures, it does not release", "--json"]
    said = subprocess.run(command, env={**os.environ, "TOOLKIT_HOME": str(home)}, stdout=subprocess.PIPE, text=True)
    if said.returncode:
        sys.exit(said.stdout)
    (path,) = sorted((home / "store").rglob("compiled.json"), key=lambda one: one.stat().st_mtime)[-1:]
    found: Mapping[str, Any] = json.loads(path.read_bytes())
    facts = found["facts"]["sense_gate"]
    names = {
        "sense_human": "curriculum's own problems passed", "sense_nonsense": "nonsense planted on them kept out",
        "sense_nonsense_refused": "of that refused, the rest left to a person",
        "sense_drafts": "the embedded student's free drafts passed",
    }  # fmt: skip
    for name, shown in names.items():
        more = {"reasons": facts["drafts"]} if name == "sense_drafts" else {}
        yield {"name": f"{shown}: {facts['solver']}", "share": found["metrics"][name], **more}


def recorded(rows: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]) -> dict[str, Any]:
    from importlib.metadata import version

    from toolkit.stages.summary import describe_machine

    best = max(one["share"]["value"] for one in rows if one["name"].startswith("people's problems passed: GPT-3"))
    versions = {name: version(name) for name in ("torch", "onnxruntime", "onnxruntime-genai")}
    return {
        "machine": describe_machine(), "versions": versions, "rows": list(rows),
        "settings": {name: value for name, value in arguments.items() if name != "home"},
        "ratios": {"best_recorded_solver_to_the_aim_of_0.9": best / 0.9},
    }  # fmt: skip


if __name__ == "__main__":
    main()
