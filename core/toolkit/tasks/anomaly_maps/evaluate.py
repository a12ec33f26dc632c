"""Scoring any anomaly detector on the test rows: verdicts as a classifier's, and its maps by the masks."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.artifacts import Dataset, Evaluation, Metric, Row
from toolkit.plan import Plan
from toolkit.protocols import TensorPredictor, Tensors
from toolkit.score.intervals import clustered_share
from toolkit.score.maps import MapTally, picture_auroc, place_metrics, tally
from toolkit.tasks.anomaly_maps.data import Masks
from toolkit.tasks.anomaly_maps.layout import ANOMALY, kind_of
from toolkit.tasks.anomaly_maps.showing import coded, resized
from toolkit.tasks.image_classification import evaluate as pictures

SIDE = 256
"""Places are scored at this many pixels a side at most, so that the largest pictures do not outweigh the others."""

SHOWN = 12
MEANINGLESS = ("macro_f1", "log_loss", "calibration_error")
"""What a score without probabilities cannot be held to: nobody told the detector how likely a defect is."""


def evaluate(plan: Plan, dataset: Dataset, predictor: TensorPredictor) -> Evaluation:
    """Accuracy of verdicts, escapes and overkill at the limit; `auroc` of pictures, whatever the limit; `pixel_auroc`
    and `aupro` of places, where there are masks; each with its interval. Slices say how many of each kind of defect
    are found. `per_row` has each row's score, in units of the limit; facts hold coded maps of the strangest rows."""
    masks = Masks.of(dataset)
    scores: dict[str, float] = {}
    maps: dict[str, NDArray[np.uint8]] = {}
    tallies: dict[str, MapTally] = {}

    def look(row: Row, said: Tensors) -> None:
        scores[row.id], maps[row.id] = float(said["map"].max()), coded(said["map"])
        mask = masks.mask(row)
        if mask is not None:
            tallies[row.id] = _tally(said["map"], mask)

    found = pictures.evaluate(plan, dataset, predictor, look)
    rows = [dict(row) | {"score": round(scores.get(row["id"], 0.0), 6)} for row in found.per_row]
    metrics = {name: metric for name, metric in found.metrics.items() if name not in MEANINGLESS}
    read = [row for row in rows if row["id"] in scores]
    if read:
        faulty = np.array([row["truth"] == ANOMALY for row in read])
        ranked = picture_auroc(np.array([scores[row["id"]] for row in read]), faulty, seed=plan.compute.seed)
        metrics |= {"auroc": ranked} if ranked else {}
    if any(one.region_count for one in tallies.values()):
        metrics |= place_metrics(list(tallies.values()), seed=plan.compute.seed)
    facts = dict(found.facts) | {"maps": _kept(rows, maps)}
    slices = dict(found.slices) | _by_kind(rows)
    return replace(found, metrics=metrics, per_row=tuple(rows), slices=slices, facts=facts)


def decode_map(text: str) -> NDArray[np.uint8]:
    """A coded map as the facts of an evaluation hold it."""
    side, _, data = text.partition(":")
    return np.frombuffer(base64.b64decode(data), dtype=np.uint8).reshape(int(side), -1)


def _tally(scores: NDArray[np.float32], mask: NDArray[np.bool_]) -> MapTally:
    height, width = (min(side, SIDE) for side in mask.shape)
    if (height, width) != mask.shape:
        share = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
        smaller = np.asarray(share) > 127
        mask = smaller if smaller.any() or not mask.any() else np.asarray(share) > 0
    return tally(resized(scores, height, width), mask)


def _kept(rows: list[dict[str, object]], maps: dict[str, NDArray[np.uint8]]) -> dict[str, str]:
    """Coded maps of wrong rows, worst first, and then of the strangest."""
    there = [row for row in rows if row["id"] in maps]
    ranked = sorted(there, key=lambda row: (bool(row["right"]), -float(str(row["score"]))))
    found = {}
    for row in ranked[:SHOWN]:
        code = maps[str(row["id"])]
        found[str(row["id"])] = f"{len(code)}:{base64.b64encode(code.tobytes()).decode()}"
    return found


def _by_kind(rows: list[dict[str, object]]) -> dict[str, dict[str, Metric]]:
    """Of each kind of defect, the share that is found."""
    kinds: dict[str, list[bool]] = {}
    for row in rows:
        if row["truth"] == ANOMALY:
            kinds.setdefault(kind_of(str(row["id"])), []).append(bool(row["right"]))
    return {
        f"defect {kind}": {"found": clustered_share(np.array(flags))} for kind, flags in sorted(kinds.items()) if kind
    }
