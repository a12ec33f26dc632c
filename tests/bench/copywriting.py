"""`make bench-copy`: restaurant copy on E2E's cleaned rows, from attributes to served texts.

    python tests/bench/copywriting.py [--served N] [--tested N]

The domain content is deployed on ../shared/data/content/e2e-cleaned with the pack `restaurant`, once on texts that the
pack finds faithful and once on all. Of each student: slot errors and BLEU of first drafts on every test product, as the
sealed model writes them; slot errors, BLEU and milliseconds of texts that are served, drawn again or by the template
where need be. Beside them the pack's own sentences, and as they were published a template of twelve lines and TGen
(Dušek, Howcroft and Rieser, INLG 2019), which other matchers scored. Writes tests/bench/results/copy.json = {machine,
versions, rows, ratios}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "copy.json"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "content" / "e2e-cleaned"
PUBLISHED = (
    {"name": "template of 12 lines, published", "slot_error_rate": 0.0126, "bleu": 35.7},
    {"name": "TGen on clean labels, published", "slot_error_rate": 0.0083, "bleu": 41.2},
    {"name": "TGen on noisy labels, published", "slot_error_rate": 0.045, "bleu": 39.4},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--served", type=int, default=2000, help="texts that are served")
    parser.add_argument("--tested", type=int, default=16, help="test rows that the teacher is asked about")
    parser.add_argument("--home", type=Path, help="a toolkit home, so that a bench that was broken off goes on")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not there")
    with tempfile.TemporaryDirectory() as aside:
        home = arguments.home or Path(aside)
        rows: list[dict[str, Any]] = [*PUBLISHED, template_row()]
        for clean in (True, False):
            record = deployed(home, clean, arguments.tested)
            rows += [teacher_row(record)] if clean else []
            rows += asyncio.run(measured(Path(record["bundle"]), home, clean, arguments.served if clean else 0))
    show(rows)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(recorded(rows), indent=1, ensure_ascii=False) + "\n")


def deployed(home: Path, clean: bool, tested: int) -> dict[str, Any]:
    """What `toolkit deploy` says; the gate is passed by, since its teacher is not what is measured here."""
    settings = {
        "content.packs": '["restaurant"]', "content.lexicons": '["en-advertising"]', "content.clean": json.dumps(clean),
        "content.most_tested": tested, "recipe.baseline": "false", "gate.small_sample": "warn", "recipe.epochs": 9,
        "recipe.batch_size": 24, "text.max_tokens": 192, "text.answer_tokens": 96,
    }  # fmt: skip
    command = [sys.executable, "-m", "toolkit.cli.main", "deploy", "--domain", "content", "--data", str(DATA), "--json"]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command += [
        "--override",
        "a bench measures, it does not release",
        "--until",
        "install",
        "--site",
        str(home / f"site-{clean}"),
    ]
    said = subprocess.run(
        command, env={**os.environ, "TOOLKIT_HOME": str(home)}, stdout=subprocess.PIPE, text=True, check=False
    )
    if said.returncode:
        sys.exit(said.stdout)
    found: dict[str, Any] = json.loads(said.stdout)
    return found | {"site": str(home / f"site-{clean}")}


def teacher_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher on the test rows that it was asked about."""
    folder = next(Path(stage["path"]) for stage in record["stages"] if stage["name"] == "evaluate")
    found = json.loads((folder / "teacher.json").read_text())["metrics"]
    return {
        "name": "its teacher, SmolLM2-135M-Instruct", "n": found["bleu"]["n"],
        "slot_error_rate": found["slot_error_rate"]["value"], "bleu": found["bleu"]["value"],
    }  # fmt: skip


def products() -> tuple[Sequence[Any], Any]:
    """The test products with people's texts, and their pack."""
    from toolkit_content.preparing import told_in
    from toolkit_content.slots import load_pack

    told, _ = told_in(DATA)
    return [one for one in told if one.split == "test"], load_pack("restaurant")


def template_row() -> dict[str, Any]:
    """The pack's own sentences."""
    from toolkit_content.scoring import template_row as scored

    told, pack = products()
    found = scored([(one.product.id, one.product.id, one) for one in told], {"en": pack}, 0)
    return {
        "name": "the pack's own sentences",
        "slot_error_rate": found["slot_error_rate"].value,
        "bleu": found["bleu"].value,
    }


async def measured(bundle: Path, home: Path, clean: bool, served: int) -> list[dict[str, Any]]:
    """First drafts of every test product, and served texts, by the installed bundle."""
    from toolkit.plan import passphrase_from_environment
    from toolkit.protocols import PredictorFacts
    from toolkit.serving.writing import Writer as Queue
    from toolkit.site.current import open_current
    from toolkit.tasks.text_generation.installed import open_installed
    from toolkit.tasks.text_generation.service import Manner
    from toolkit.text import GenerationRequest, Message
    from toolkit_content.checks import Checker
    from toolkit_content.drafting import Brief, prompt_of, text_of
    from toolkit_content.terms import Scanner, load_lexicon
    from toolkit_content.writer import Writer

    told, pack = products()
    with open_current(home / f"site-{clean}", passphrase_from_environment()) as opened:
        plan = json.loads(opened.read("plan"))
        predictor = open_installed(opened, PredictorFacts("installed", "", bundle.name), 1)
    labels = "clean" if clean else "all"
    requests = [
        GenerationRequest(str(n), (Message("user", prompt_of(one.product, Brief(), pack)),), 96)
        for n, one in enumerate(told)
    ]
    drafts = [""] * len(told)
    for piece in predictor.generate(requests):
        drafts[int(piece.id)] += piece.text
    first = [text_of(one.product, draft, pack) for one, draft in zip(told, drafts, strict=True)]
    rows = [
        figures(f"student of {labels} labels, first drafts", told, [text for text, _ in first], [f for _, f in first])
    ]
    if served:
        queue = Queue(predictor)
        manner = Manner.of({"id": bundle.name, "product": "copy", "plan": plan})
        writer = Writer(queue, manner.request, Checker(pack, Scanner([load_lexicon("en-advertising")])))
        texts, took, by = [], [], []
        chosen = [told[n % len(told)] for n in range(served)]
        for number, one in enumerate(chosen):
            started = time.perf_counter()
            copy = await writer.write(one.product, Brief(), None, seed=number, drawn=number >= len(told))
            took.append(1e3 * (time.perf_counter() - started))
            texts.append(copy.text)
            by.append(copy)
        await queue.stop()
        faults = [text_of(one.product, text, pack)[1] for one, text in zip(chosen, texts, strict=True)]
        rows.append(
            figures(f"student of {labels} labels, served", chosen, texts, faults)
            | {
                "p50_ms": statistics.median(took), "p95_ms": statistics.quantiles(took, n=20)[-1],
                "by_template": sum(copy.by == "template" for copy in by) / len(by),
                "drafts": statistics.fmean(copy.drafts for copy in by),
                "tokens": statistics.fmean(copy.tokens for copy in by),
            }
        )  # fmt: skip
    return rows


def figures(name: str, told: Sequence[Any], texts: Sequence[str], faults: Sequence[Sequence[Any]]) -> dict[str, Any]:
    from toolkit_content.scoring import judged_row, metrics_of

    rows = [
        judged_row(str(n), one.product.id, one, text, wrong)
        for n, (one, text, wrong) in enumerate(zip(told, texts, faults, strict=True))
    ]
    found = metrics_of(rows, told, 0)
    return {
        "name": name, "n": len(rows), "slot_error_rate": found["slot_error_rate"].value,
        "slot_error_interval": [found["slot_error_rate"].low, found["slot_error_rate"].high],
        "faithful": found["accuracy"].value, "bleu": found["bleu"].value,
        "with_a_fault": sum(row["wrong"] > 0 for row in rows),
    }  # fmt: skip


def recorded(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from toolkit.stages.summary import describe_machine

    machine = describe_machine()
    versions = {name: machine.pop(name) for name in ("python", "onnxruntime", "torch")}
    first = next(row for row in rows if row["name"].endswith("clean labels, first drafts"))
    teacher = next(row for row in rows if row["name"].startswith("its teacher"))
    return {
        "machine": machine, "versions": versions, "rows": list(rows),
        "ratios": {
            "bleu_to_template": first["bleu"] / PUBLISHED[0]["bleu"],  # type: ignore[operator]
            "bleu_to_teacher": first["bleu"] / teacher["bleu"],
        },
    }  # fmt: skip


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{'':44} {'slot errors':>11} {'BLEU':>6} {'p50 ms':>8}  by the template")
    for row in rows:
        took = f"{row['p50_ms']:8.0f}  {row['by_template']:.1%}" if "p50_ms" in row else ""
        print(f"{row['name']:44} {row['slot_error_rate']:11.2%} {row['bleu']:6.1f} {took}")


if __name__ == "__main__":
    main()
