"""All that a copy is checked for, wherever it comes from: data, a teacher, a student, or a person who pasted it.

Each finding says what, how grave, where, and why. It refuses to mend a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from toolkit_content.channels import Channel, length
from toolkit_content.copies import Copies
from toolkit_content.drafting import Brief
from toolkit_content.privacy import personal_data
from toolkit_content.products import Product
from toolkit_content.slots import Pack, faults_of, literal
from toolkit_content.terms import Scanner, Severity

MOST_COPIED, WHOLE_COPY = 0.6, 0.95
"""Share of a text's runs of words in what was learnt from which on it is told, and from which on it is no text of its
own."""


@dataclass(frozen=True)
class Finding:
    """`kind`: attribute, term, length, brand, personal-data, copy. `span` is where, in characters; (0, 0) for the
    whole."""

    kind: str
    severity: Severity
    message: str
    span: tuple[int, int] = (0, 0)

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Checker:
    """What a site checks with. `copies` is None where nobody knows what was learnt."""

    pack: Pack
    scanner: Scanner
    copies: Copies | None = None

    def findings(self, product: Product, text: str, brief: Brief, channel: Channel | None) -> Sequence[Finding]:
        """All that is to be said of a copy about a product, the gravest first."""
        found = [*self.of_attributes(product, text), *self.of_text(text), *of_brief(text, brief)]
        if channel is not None:
            found += of_length(text, brief, channel)
        order = {"block": 0, "review": 1, "note": 2}
        return sorted(found, key=lambda finding: (order[finding.severity], finding.span))

    def of_attributes(self, product: Product, text: str) -> Iterator[Finding]:
        """What is missing, wrong or made up."""
        said = {"missing": "is not said", "wrong": "is said otherwise", "invented": "is made up"}
        for fault in faults_of(product, text, self.pack):
            yield Finding("attribute", "block", f"{fault.slot} {said[fault.fault]}: {fault.value}", fault.span)

    def of_text(self, text: str) -> Iterator[Finding]:
        """Terms, personal data and copies, whatever it is about."""
        for hit in self.scanner.scan(text):
            disguise = "" if hit.disguise == "plain" else f", {hit.disguise}"
            message = f"{hit.term.term}: {hit.term.because} [{hit.term.source}]{disguise}"
            yield Finding("term", hit.term.severity, message, hit.span)
        for kind, span in personal_data(text):
            yield Finding("personal-data", "block", f"a {kind}", span)
        if self.copies is not None and (share := self.copies.share(text)) > MOST_COPIED:
            severity: Severity = "block" if share >= WHOLE_COPY else "note"
            yield Finding("copy", severity, f"{share:.0%} of its runs of words stand in a text that was learnt")


def of_brief(text: str, brief: Brief) -> Iterator[Finding]:
    """Words of the brand that are missing or not wanted."""
    for word in brief.must:
        if not literal(word).search(text):
            yield Finding("brand", "block", f"the brief asks for {word}")
    for word in brief.never:
        if hit := literal(word).search(text):
            yield Finding("brand", "block", f"the brief does not want {word}", hit.span())


def of_length(text: str, brief: Brief, channel: Channel) -> Iterator[Finding]:
    """What does not fit the channel."""
    limit = channel.limits.get(brief.form)
    if limit is None:
        yield Finding("length", "block", f"{channel.name} takes no {brief.form}")
        return
    pieces = [piece for piece in text.split("\n") if piece.strip()] if limit.count > 1 else [text]
    if len(pieces) > limit.count:
        yield Finding("length", "block", f"{len(pieces)} pieces, {channel.name} takes {limit.count}")
    for piece in pieces:
        if (found := length(piece, limit.unit, language=brief.language)) > limit.most:
            yield Finding(
                "length", "block", f"{found:g} {limit.unit}s, {channel.name} takes {limit.most}",
                (text.index(piece), text.index(piece) + len(piece)),
            )  # fmt: skip


def passes(findings: Sequence[Finding]) -> bool:
    """Whether a copy may be served: nothing that blocks."""
    return not any(finding.severity == "block" for finding in findings)
