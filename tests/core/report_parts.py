"""Two reports for the tests of the page, their scores and gates made by the modules that make them in a run."""

from __future__ import annotations

import base64
import copy
import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from toolkit.artifacts import Metric
from toolkit.score.classification import ClassificationScore, majority_right, score_classification
from toolkit.score.compare import compare
from toolkit.score.gates import decide
from toolkit.score.measure import LatencySample, NotMeasured, exact_bytes
from toolkit.score.money import cost_per_1000

STEEL = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
HOSTILE = ("good", "<script>alert(1)</script>", 'pit" onload="alert(2)', "划痕 & Kratzer", "{{ 7 * 7 }}")


@cache
def _steel() -> dict[str, Any]:
    """A full run on six classes of steel defects that passed its gate."""
    rng = np.random.default_rng(3)
    truth = [name for name in STEEL for _ in range(60)]
    teacher, student, compiled, baseline = (answers(truth, STEEL, wrong, rng) for wrong in (5, 8, 8, 14))
    scores = [score_classification(truth, *given, STEEL) for given in (teacher, student, compiled, baseline)]
    right = [np.array(given[0]) == np.array(truth) for given in (teacher, compiled)]
    gate = decide(compare(*right, floor_right=majority_right(truth)))
    trained = {"size": "micro", "parameters": 81_030, "input_size": 96}
    return {
        "run": {
            "id": "industry-20260724-101200-7f3a", "domain": "industry", "product": "Steel strip inspection",
            "date": "2026-07-24T10:12:00+00:00", "toolkit": "0.1.0", "sample": False, "development_keys": True,
            "overrides": [], "machine": {
                "cpu": "AMD EPYC 7B13", "cores": 2, "memory_gb": 15.6, "system": "Linux 6.1 x86_64",
                "python": "3.11.7", "onnxruntime": "1.32.0", "torch": "2.13.0",
            },
        },
        "data": {
            "source": "neu-det", "licence": "", "stated": False, "classes": list(STEEL), "good_class": "",
            "channels": 1,
            "counts": {"train": dict.fromkeys(STEEL, 152), "validation": dict.fromkeys(STEEL, 23),
                       "calibration": dict.fromkeys(STEEL, 5), "test": dict.fromkeys(STEEL, 60)},
            "findings": [
                {"kind": "same-image", "severity": "warning", "message": "two files hold the same bytes",
                 "rows": ["patches_101.jpg", "patches_105.jpg"]},
                {"kind": "grey-as-colour", "severity": "info", "message": "all pictures are grey, stored in colour",
                 "rows": []},
            ],
            "leaks": [],
        },
        "teacher": {
            "name": "efficientnet-lite0", "architecture": "EfficientNet-Lite0", "licence": "Apache-2.0",
            "distillation": "allowed", "parameters": 3_379_000, "validation_accuracy": 0.9928,
            "metrics": metrics(scores[0]), "history": history(8, 0.9, 0.992), "picked_epoch": 6,
        },
        "student": trained | {"metrics": metrics(scores[1]), "history": distilled(history(40, 0.35, 0.985)),
                              "picked_epoch": 33, "pace": pace(40, 840.0)},
        "baseline": trained | {"metrics": metrics(scores[3]), "history": history(40, 0.3, 0.964), "picked_epoch": 38,
                               "pace": pace(40, 1010.0)},
        "compiled": {
            "profile": "cpu", "form": "int8", "rung": "verified_on_device",
            "parity": {"rows": 138, "largest_difference": 0.0618, "mean_difference": 0.00093, "same_decision": 0.9928,
                       "worst_class": 0.9565},
            "forms": [
                {"form": "fp32", "size_bytes": 341_220, "validation_accuracy": 0.9855, "latency_ms": 0.402,
                 "chosen": False, "because": "int8 is faster here and loses less than the margin"},
                {"form": "int8", "size_bytes": 118_764, "validation_accuracy": 0.9783, "latency_ms": 0.281,
                 "chosen": True, "because": "loses 0.7 points, within the margin of 1.0, and is 1.43 times faster"},
            ],
            "metrics": metrics(scores[2]), **scores[2].as_record(),
            "worst": worst(scores[2], truth, compiled[0], compiled[1]),
        },
        "gate": gate.as_record(), "violations": [], "costs": costs(rng),
        "end_to_end": {
            "teacher": {"latency": LatencySample.of(rng.normal(6.1, 0.3, 400)).as_record(),
                        "rss": exact_bytes(148_500_000).as_record()},
            "student": {"latency": LatencySample.of(rng.normal(1.9, 0.1, 400)).as_record(),
                        "rss": exact_bytes(101_200_000).as_record()},
        },
        "money": {"currency": "EUR", "teacher": vars(cost_per_1000(3.7, 0.04, 0.5)),
                  "student": vars(cost_per_1000(0.28, 0.04, 0.5))},
        "stages": [{"name": name, "seconds": seconds, "kept": name == "prepare"} for name, seconds in (
            ("prepare", 0.4), ("label", 206.0), ("distil", 418.5), ("evaluate", 21.2), ("compile", 33.0),
            ("seal", 1.1), ("install", 0.8), ("check", 2.6),
        )],
    }  # fmt: skip


@cache
def _hostile() -> dict[str, Any]:
    """A small sample run that failed: a good class, no baseline, no energy, a long finding, hostile names."""
    rng = np.random.default_rng(8)
    truth = [name for name in HOSTILE for _ in range(12)]
    teacher, student = answers(truth, HOSTILE, 3, rng), answers(truth, HOSTILE, 13, rng)
    student[0][20] = None
    scores = [score_classification(truth, *given, HOSTILE, good_class="good") for given in (teacher, student)]
    right = [np.array(given[0], dtype=object) == np.array(truth, dtype=object) for given in (teacher, student)]
    trained = {"size": "nano", "parameters": 21_400, "input_size": 64}
    return {
        "run": {
            "id": "<img src=x onerror=alert(3)>", "domain": "industry", "product": "Sample lot </title><script>",
            "date": "yesterday", "toolkit": "0.1.0", "sample": True, "development_keys": True,
            "overrides": ["shown to visitors only <b>& nobody else</b>"], "machine": {"cpu": "x86", "cores": 2},
        },
        "data": {
            "source": "https://evil.example/lot", "licence": "CC0-1.0", "stated": True, "classes": list(HOSTILE),
            "counts": {"train": dict.fromkeys(HOSTILE, 40), "test": dict.fromkeys(HOSTILE, 12)},
            "findings": [{"kind": "truncated", "severity": "error", "message": "pictures end early <script>",
                          "rows": [f"train/<script>/\u202ebild_{k:04}\udcff.jpg" for k in range(400)]}],
            "leaks": [[f"train/a{k}.png", f"test/b{k}.png", 0.993] for k in range(30)], "good_class": "good",
            "channels": 3,
        },
        "teacher": {
            "name": "efficientnet-lite0", "architecture": "EfficientNet-Lite0", "licence": "Apache-2.0",
            "distillation": "allowed", "parameters": 3_379_000, "validation_accuracy": 0.95,
            "metrics": metrics(scores[0]), "history": [], "picked_epoch": None,
        },
        "student": trained | {"metrics": metrics(scores[1]), "picked_epoch": 0,
                              "history": [{"loss": float("nan"), "validation_accuracy": 0.7, "validation_loss": 0.9}]},
        "baseline": None,
        "compiled": {
            "profile": "cpu", "form": "fp32", "rung": "verified_on_device", "parity": None, "forms": None,
            "metrics": metrics(scores[1]), **scores[1].as_record(),
            "worst": [{"id": "https://evil.example/x", "truth": HOSTILE[1], "predicted": "good", "confidence": 0.97,
                       "picture": "https://evil.example/pixel.gif"},
                      {"id": "b", "truth": HOSTILE[2], "predicted": HOSTILE[3], "confidence": None,
                       "picture": 'data:image/png;base64,AA"onerror="alert(4)'}],
        },
        "gate": decide(compare(*right, floor_right=majority_right(truth))).as_record(),
        "violations": [{"by": "industry", "because": "escapes are above the limit", "measured": "8.3%",
                        "allowed": "at most 2.0%"}],
        "costs": None, "end_to_end": None, "money": None, "stages": None,
    }  # fmt: skip


def steel() -> dict[str, Any]:
    return copy.deepcopy(_steel())


def hostile() -> dict[str, Any]:
    return copy.deepcopy(_hostile())


def answers(truth: list[str], classes: tuple[str, ...], wrong: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Answers of a model that errs `wrong` times, mostly on the second class, and its probabilities."""
    called: list[str | None] = list(truth)
    weights = np.array([4.0 if name == classes[1] else 1.0 for name in truth])
    for row in rng.choice(len(truth), wrong, replace=False, p=weights / weights.sum()):
        called[row] = classes[(classes.index(truth[row]) + int(rng.integers(1, 3))) % len(classes)]
    probabilities = rng.dirichlet(np.full(len(classes), 0.05), len(truth)) * 0.12
    for row, name in enumerate(called):
        probabilities[row, classes.index(name or classes[0])] += 0.88
    return called, probabilities


def metrics(score: ClassificationScore) -> dict[str, Any]:
    return {name: metric.as_record() for name, metric in score.metrics.items()}


def history(epochs: int, start: float, end: float) -> list[dict[str, float]]:
    share = np.linspace(0, 1, epochs)
    accuracy = end - (end - start) * np.exp(-6 * share)
    return [
        {"loss": float(0.08 + 1.6 * np.exp(-5 * s)), "hard-label": 0.1,
         "gradient_norm": float(0.4 + 3 * np.exp(-3 * s)), "validation_accuracy": float(a),
         "validation_loss": float(0.12 + 1.2 * np.exp(-4 * s))}
        for s, a in zip(share, accuracy, strict=True)
    ]  # fmt: skip


def distilled(plain: list[dict[str, float]]) -> list[dict[str, float]]:
    """With what is told of three objectives, of which one falls to nothing, and of the teacher."""
    wanted = {"hard-label": (0.4, 0.2), "response": (0.6, 0.3), "feature": (0.5, 0.5)}
    for number, epoch in enumerate(plain):
        share = number / (len(plain) - 1)
        epoch["agreement"] = 0.97 - 0.6 * float(np.exp(-5 * share))
        for name, (weight, pull) in wanted.items():
            epoch[name] = weight * (0.05 + float(np.exp(-4 * share)))
            epoch[f"objective_weight/{name}"] = weight * (1 - share if name == "feature" else 1)
            epoch[f"pull/{name}"] = pull
    return plain


def pace(epochs: int, rate: float) -> list[dict[str, float]]:
    """Of the tenth epoch nothing is known."""
    rates = rate + 25 * np.sin(np.arange(epochs))
    return [{} if number == 9 else {"rows_per_second": float(value)} for number, value in enumerate(rates)]


def worst(score: ClassificationScore, truth: list[str], called: list[str], probabilities: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"{truth[row]}_{row}.jpg", "truth": truth[row], "predicted": called[row],
         "confidence": float(probabilities[row].max()), "picture": jpeg(np.full((64, 64), row % 256, np.uint8))}
        for row in score.worst
    ]  # fmt: skip


def jpeg(pixels: np.ndarray) -> str:
    """uint8 [height, width] as the data: URL of a JPEG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def costs(rng: np.random.Generator) -> dict[str, Any]:
    """As CostComparison.as_record() gives it."""
    times, sizes = (3.7, 0.281), ((13_528_004, 13_480_120, 4_816_896), (118_764, 97_330, 331_776))
    energy = str(NotMeasured("this machine shows no energy counters"))
    teacher, student = (
        {
            "latency": LatencySample.of(rng.normal(mean, mean / 40, 600)).as_record(),
            "size": exact_bytes(size).as_record(), "weights": exact_bytes(weights).as_record(),
            "activations": exact_bytes(peak).as_record(), "memory": exact_bytes(weights + peak).as_record(),
            "energy": energy,
        }
        for mean, (size, weights, peak) in zip(times, sizes, strict=True)
    )  # fmt: skip
    ratios = {name: teacher[name]["value"] / student[name]["value"] for name in ("size", "memory")}
    exact = {name: Metric(value, value, value, 1, "times").as_record() for name, value in ratios.items()}
    latency = Metric(13.17, 13.05, 13.31, 30, "times").as_record()
    return {"teacher": teacher, "student": student, "ratios": exact | {"latency": latency, "energy": None}}
