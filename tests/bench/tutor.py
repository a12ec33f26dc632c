"""`make bench-tutor`: what the education service serves, computed again by this script alone, and how fast it is.

    python tests/bench/tutor.py [--site SITE] [--items 10000] [--minutes 10]

Needs a site on which the domain education is installed (`toolkit deploy --domain education`). Starts its server on the
loopback, gives it learners, and asks for problems of every skill, level and language, some in words of the learner's
own. Each answer is marked, and what comes with the marking, the steps and the answer, is computed again from the
equations in the steps' sentences by Python's own fractions: wrong keys, items given twice to a learner, and skills or
levels that were not asked for are counted. Then problems are asked for twice a second. Writes
tests/bench/results/tutor.json.
"""

from __future__ import annotations

import argparse
import ast
import json
import operator
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx

RESULTS = Path(__file__).parent / "results" / "tutor.json"
TOOLKIT = [sys.executable, "-m", "toolkit.cli.main"]
WORDS: Mapping[str, Sequence[Mapping[str, str]]] = {
    "en": (
        {"A": "Zed", "thing": "dragon", "things": "dragons"},
        {"A": "Priya", "B": "Otto", "thing": "lego brick", "things": "lego bricks", "place": "the lagoon"},
    ),
    "zh": ({"A": "小鱼", "thing": "魔方", "m": "个"}, {"A": "小米", "B": "小豆", "thing": "乐高积木", "m": "块"}),
}
OPERATORS: Mapping[type[ast.operator], Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_SIDE = r"[\d.,/ ()+\-×÷*−%$元]+"
_EQUATION = re.compile(rf"({_SIDE})=\s*[$]?({_SIDE})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, help="by default the one in the toolkit home")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--learners", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=10.0, help="of two requests a second")
    arguments = parser.parse_args()
    from toolkit.plan import toolkit_home

    with served(arguments.site or toolkit_home() / "site") as (client, started):
        rows = [counted(client, arguments.items, arguments.learners) | {"start_ms": started}]
        rows.append(paced(client, arguments.minutes))
    for row in rows:
        print(json.dumps(row, ensure_ascii=False, indent=1))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(recorded(rows), indent=1, ensure_ascii=False) + "\n")


@contextmanager
def served(site: Path) -> Iterator[tuple[httpx.Client, float]]:
    """A client with a key of its own, and the milliseconds until the server listened."""
    name = f"bench-{random.randrange(10**9)}"
    made = subprocess.run(
        [*TOOLKIT, "access", "add", name, "--role", "infer", "--site", str(site), "--json"],
        check=True,
        capture_output=True,
    )
    key, began = json.loads(made.stdout)["key"], time.perf_counter()
    process = subprocess.Popen(
        [*TOOLKIT, "serve", "--site", str(site), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().partition(" at ")[2].split()[0]
        started = 1e3 * (time.perf_counter() - began)
        with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60) as client:
            yield client, started
    finally:
        process.terminate()
        process.communicate(timeout=60)
        subprocess.run([*TOOLKIT, "access", "remove", name, "--site", str(site)], check=True, capture_output=True)


def counted(client: httpx.Client, items: int, learners: int) -> dict[str, Any]:
    """Problems of every skill, level and language, each computed again."""
    skills = [
        (skill["id"], level) for skill in client.get("/v1/skills").json() for level in range(1, skill["levels"] + 1)
    ]
    people = [client.post("/v1/learners").json()["learner"] for _ in range(learners)]
    found: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    rng, took, shown = random.Random(0), [], []
    for number in range(items):
        skill, level = skills[number % len(skills)]
        learner, language = people[rng.randrange(learners)], ("en", "zh")[number % 2]
        body: dict[str, Any] = {"learner": learner, "skill": skill, "level": level, "language": language}
        if number % 3 == 0:
            body["words"] = rng.choice(WORDS[language])
        began = time.perf_counter()
        answer = client.post("/v1/problem", json=body)
        took.append(1e3 * (time.perf_counter() - began))
        if answer.status_code == 422 and "nothing is left" in answer.text:
            found["nothing left for this learner"] += 1
            continue
        problem = answer.raise_for_status().json()
        marked = client.post("/v1/answer", json={"learner": learner, "item": problem["item"], "answer": "x"}).json()
        found["served"] += 1
        found[themed_by(problem["theming"]) if "words" in body else "as the generator has it"] += 1
        found["not as asked"] += (problem["skill"], problem["level"], problem["language"]) != (skill, level, language)
        found["given twice"] += (learner, problem["item"]) in seen
        found["unverified"] += not problem["provenance"]["checks"]
        found[checked(marked)] += 1
        seen.add((learner, problem["item"]))
        if len(shown) < 50:
            shown.append({name: problem[name] for name in ("skill", "level", "problem")} | {"answer": marked["answer"]})
    cuts = statistics.quantiles(took, n=100)
    return {
        "name": "served and computed again", "counts": dict(sorted(found.items())),
        "p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98], "items_to_read": shown,
    }  # fmt: skip


def themed_by(theming: Mapping[str, str]) -> str:
    """Who put the learner's words in; where nobody did, whether there was anything to put them in."""
    if theming["by"] == "none":
        return "asked for words: no story" if "no story" in theming["because"] else "asked for words: fell back"
    return f"asked for words: by the {theming['by']}"


def checked(marked: Mapping[str, Any]) -> str:
    """Whether every equation of the steps holds, and the last one gives the answer."""
    results: list[Fraction] = []
    for sentence in marked["steps"]:
        for left, right in _EQUATION.findall(sentence):
            try:
                one, other = computed(left), computed(right)
            except (SyntaxError, ValueError, KeyError, ZeroDivisionError):
                continue
            if one != other:
                return "wrong key"
            results.append(other)
    if not results:
        return "no equation to compute"
    return "right key" if Fraction(marked["answer"]) in (results[-1], results[-1] / 100) else "answer by words"


def computed(side: str) -> Fraction:
    plain = re.sub(r"[$元 ]|,(?=\d{3})", "", side).replace("×", "*").replace("÷", "/").replace("−", "-").strip(".,")
    return value_of(ast.parse(re.sub(r"([\d.]+)%", r"(\1/100)", plain), mode="eval").body)


def value_of(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float()):
            return Fraction(str(node.value))
        case ast.BinOp():
            return Fraction(OPERATORS[type(node.op)](value_of(node.left), value_of(node.right)))
        case ast.UnaryOp(op=ast.USub()):
            return -value_of(node.operand)
    raise ValueError(ast.dump(node))


def paced(client: httpx.Client, minutes: float) -> dict[str, Any]:
    """Two problems a second, each with its solution: the time until both are there."""
    skills = [skill["id"] for skill in client.get("/v1/skills").json()]
    learner, rng, took = client.post("/v1/learners").json()["learner"], random.Random(1), []
    until = time.perf_counter() + 60 * minutes
    while time.perf_counter() < until:
        began = time.perf_counter()
        language = rng.choice(("en", "zh"))
        body = {"learner": learner, "skill": rng.choice(skills), "level": rng.randrange(1, 6), "language": language}
        if rng.random() < 1 / 3:
            body["words"] = rng.choice(WORDS[language])
        answer = client.post("/v1/problem", json=body)
        if answer.status_code == 200:
            client.post("/v1/answer", json={"learner": learner, "item": answer.json()["item"], "answer": "x"})
            took.append(1e3 * (time.perf_counter() - began))
        time.sleep(max(0.0, 0.5 - (time.perf_counter() - began)))
    cuts = statistics.quantiles(took, n=100)
    return {"name": "two a second", "n": len(took), "p50_ms": cuts[49], "p95_ms": cuts[94], "most_ms": max(took)}


def recorded(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from toolkit.stages.summary import describe_machine

    machine = describe_machine()
    versions = {name: machine.pop(name) for name in ("python", "onnxruntime", "torch")}
    return {"machine": machine, "versions": versions, "rows": list(rows), "ratios": {}}


if __name__ == "__main__":
    main()
