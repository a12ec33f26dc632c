"""Scoring copy: slot errors, faithful texts, and how like people's texts it is; of teacher and student by the same
lines.

A teacher is asked in words, with all values; a student in the form it learnt, with marks. Both are judged by what a
reader would read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.artifacts import Dataset, Evaluation, Metric
from toolkit.plan import Plan
from toolkit.score.intervals import bootstrap_interval, clustered_share
from toolkit.tasks.text_generation.evaluate import request_of
from toolkit.text import GenerationRequest, TextPredictor, whole_answers
from toolkit_content.channels import Channel
from toolkit_content.checks import of_length
from toolkit_content.drafting import text_of
from toolkit_content.preparing import Told, products_in
from toolkit_content.slots import Pack, SlotFault, faults_of
from toolkit_content.templates import composed
from toolkit_content.wording import Asking

SHOWN = 50
"""Texts that the report shows for a person to read."""


def evaluate(plan: Plan, dataset: Dataset, predictor: TextPredictor, packs: Mapping[str, Pack]) -> Evaluation:
    """`accuracy`: the share of first drafts that say every attribute and invent none. `slot_error_rate`: slots missing,
    wrong or invented for each that was to be said. `bleu` against people's texts, where sacrebleu is installed."""
    told, rows = products_in(dataset.path), list(dataset.split("test"))
    in_words, most = predictor.facts.form == "teacher", plan.text.answer_tokens
    asking = Asking.of(packs, (told[row] for row in dataset.split("train").ids))
    requests = [
        GenerationRequest(row.id, asking.messages(told[row.id]), most) if in_words else request_of(row, most)
        for row in rows
    ]
    said = whole_answers(predictor, requests)
    per_row = [
        _record(row.id, row.group, told[row.id], said.get(row.id, ""), pack_for(told[row.id], packs), in_words=in_words)
        for row in rows
    ]
    metrics = metrics_of(per_row, [told[row.id] for row in rows], plan.compute.seed)
    languages = sorted({told[row.id].brief.language for row in rows})
    slices = {
        language: metrics_of(
            [one for one, row in zip(per_row, rows, strict=True) if told[row.id].brief.language == language],
            [told[row.id] for row in rows if told[row.id].brief.language == language], plan.compute.seed,
        )
        for language in languages if len(languages) > 1
    }  # fmt: skip
    facts = {"predictor": {
        "form": predictor.facts.form, "provider": predictor.facts.provider, "digest": predictor.facts.digest
    }}  # fmt: skip
    return Evaluation.found(metrics, per_row=per_row, slices=slices, facts=facts)


def pack_for(one: Told, packs: Mapping[str, Pack]) -> Pack:
    return packs.get(one.brief.language) or next(iter(packs.values()))


def _record(identity: str, group: str, one: Told, said: str, pack: Pack, *, in_words: bool) -> dict[str, Any]:
    text, faults = (
        (" ".join(said.split()), faults_of(one.product, said, pack)) if in_words else text_of(one.product, said, pack)
    )
    return judged_row(identity, group, one, text, faults) | {"draft": said}


def judged_row(identity: str, group: str, one: Told, text: str, faults: Sequence[SlotFault]) -> dict[str, Any]:
    """A row as the gate, the report and a site see it."""
    wrong = {fault.slot for fault in faults}
    return {
        "id": identity, "group": group, "task": one.brief.language, "truth": one.texts[0] if one.texts else "",
        "predicted": text, "right": not wrong, "text": text, "hits": "", "slots": len(one.product.attributes),
        "wrong": len(wrong), "faults": sorted(f"{fault.fault} {fault.slot}" for fault in faults),
    }  # fmt: skip


def metrics_of(per_row: Sequence[Mapping[str, Any]], told: Sequence[Told], seed: int) -> dict[str, Metric]:
    """Of rows as `judged_row` makes them."""
    groups = [row["group"] for row in per_row]
    sums = np.array([[row["wrong"], row["slots"]] for row in per_row], np.float64)
    low, high = bootstrap_interval(sums, lambda found: found[:, 0] / found[:, 1], groups=groups, seed=seed)
    errors = float(sums[:, 0].sum() / sums[:, 1].sum())
    return {
        "accuracy": clustered_share(np.array([row["right"] for row in per_row]), groups, seed=seed),
        "slot_error_rate": Metric(errors, low, high, len(per_row), "share", False),
        **_bleu([row["text"] for row in per_row], [one.texts for one in told], [one.brief.language for one in told]),
    }


def _bleu(texts: Sequence[str], references: Sequence[Sequence[str]], languages: Sequence[str]) -> dict[str, Metric]:
    """Corpus BLEU (Papineni 2002) by sacrebleu, of the rows that people wrote about."""
    try:
        import sacrebleu
    except ImportError:
        return {}
    rows = [(text, refs) for text, refs in zip(texts, references, strict=True) if refs]
    if not rows:
        return {}
    most = max(len(refs) for _, refs in rows)
    streams = [[refs[place] if place < len(refs) else None for _, refs in rows] for place in range(most)]
    chinese = set(languages) == {"zh"}
    found = sacrebleu.corpus_bleu(
        [text for text, _ in rows],
        streams,  # type: ignore[arg-type]  # a row may have fewer references than another
        tokenize="zh" if chinese else "13a",
    )
    return {"bleu": Metric(found.score, found.score, found.score, len(rows), "points")}


def template_row(told: Sequence[tuple[str, str, Told]], packs: Mapping[str, Pack], seed: int) -> dict[str, Metric]:
    """What the pack's own sentences come to on the same rows: a student that does no better is worth nothing."""
    rows = []
    for identity, group, one in told:
        pack = pack_for(one, packs)
        text, faults = text_of(one.product, composed(one.product, one.brief, pack), pack)
        rows.append(judged_row(identity, group, one, text, faults))
    return metrics_of(rows, [one for _, _, one in told], seed)


def too_long(text: str, one: Told, channel: Channel) -> bool:
    """Whether a text does not fit the channel."""
    return any(True for _ in of_length(text, one.brief, channel))
