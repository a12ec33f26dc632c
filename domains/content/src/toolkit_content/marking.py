"""Marking what a machine wrote: visible words, and metadata for a file or to lie beside it.

The record says whose text it is, and shows a text that was changed by mistake. It is not signed: whoever changes a text
on purpose can write another record.

The rules are a dated pack: GB 45438-2025 and the measures on labelling of AI-generated content (China, in force since 1
September 2025) ask for visible words and a metadata field AIGC; article 50 of Regulation (EU) 2024/1689 for a mark that
machines can read, in force since 2 August 2026. Read second-hand: have counsel check before you rely on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.errors import Refused, unknown_name

CHECKED_ON = "2026-11-28"


@dataclass(frozen=True)
class Rule:
    """What a jurisdiction asks of a text that is published: visible words, the whole of its last line, by language; and
    a record that machines read."""

    name: str
    visible: Mapping[str, str]
    machine: bool
    source: str


RULES: Mapping[str, Rule] = {
    "cn": Rule("cn", {"zh": "（AI生成）", "en": "(AI-generated)"}, True, "GB 45438-2025"),
    "eu": Rule("eu", {"en": "(AI-generated)", "zh": "（AI生成）"}, True, "Regulation (EU) 2024/1689, art. 50"),
    "none": Rule("none", {}, False, ""),
}


@dataclass(frozen=True)
class Marked:
    """A text as it may be published, and what goes into its file's metadata or lies beside it."""

    text: str
    metadata: Mapping[str, str]


def rule_named(name: str) -> Rule:
    """Raises PlanError where there is none."""
    if name not in RULES:
        raise unknown_name("marking profile", name, sorted(RULES))
    return RULES[name]


def marked(text: str, rule: Rule, *, language: str, producer: str, identity: str) -> Marked:
    """The text with the rule's visible words under it, and the metadata field AIGC of GB 45438-2025.

    Args:
        producer: who runs the model, as the bundle names its product.
        identity: the bundle and the text: what an audit finds again.
    """
    words = rule.visible.get(language) or next(iter(rule.visible.values()), "")
    shown = text if not words or is_visibly_marked(text, rule) else f"{text.rstrip()}\n\n{words}"
    record = {
        "Label": "1", "ContentProducer": producer, "ProduceID": identity, "ReservedCode1": _digest(text),
        "ContentPropagator": "", "PropagateID": "", "ReservedCode2": "",
    }  # fmt: skip
    return Marked(shown, {"AIGC": json.dumps(record, ensure_ascii=False)} if rule.machine else {})


def is_visibly_marked(text: str, rule: Rule) -> bool:
    """Whether the last line says that a machine wrote it, as the rule words it and no more."""
    return text.rstrip().rpartition("\n")[2] in rule.visible.values()


def check_export(text: str, metadata: Mapping[str, str], rule: Rule) -> None:
    """Refuse to hand out a text without its marks.

    Raises:
        Refused: a mark is missing, or is another text's.
    """
    if not rule.visible and not rule.machine:
        return
    if rule.visible and not is_visibly_marked(text, rule):
        raise Refused(
            f"{rule.source} asks that the text says that a machine wrote it", hint="Export it as it was marked."
        )
    body = text.rstrip().rpartition("\n\n")[0]
    try:
        record = json.loads(metadata.get("AIGC", ""))
        known = record["Label"], record["ReservedCode1"]
    except (ValueError, KeyError, TypeError):
        known = ("", "")
    if rule.machine and known != ("1", _digest(body)):
        raise Refused(
            f"{rule.source} asks for a mark that machines read, and this text has none of its own",
            hint="Export text and metadata together; a text that a person changed is marked anew.",
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.rstrip().encode()).hexdigest()
