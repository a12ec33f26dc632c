"""Copy that may be served: drafts are checked, bad ones drawn again, and where none passes the pack's own sentences
answer.

What comes out says every attribute and invents none, whichever wrote it, and it says who did.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from toolkit.errors import DataError
from toolkit.serving.written import look_at
from toolkit.text import GenerationRequest, Message, ServedText
from toolkit_content.channels import Channel, length
from toolkit_content.checks import Checker, Finding, passes
from toolkit_content.drafting import Brief, marks_of, prompt_of, text_of
from toolkit_content.products import Product
from toolkit_content.slots import Pack
from toolkit_content.templates import composed, for_title

Seconds = float

TEMPLATE = "template"

TERMS, REFUSED = "terms", "refused"
"""Why a person should look at a draft: terms of the lexicons stand in it, or the checks did not let it pass."""

HOOK, SCENE = 3.0, 1.5
"""Most seconds of a script's hook; least of one of its shots."""


@dataclass(frozen=True)
class Copy:
    """A text with what is to be said of it. `by` is student or template, `drafts` how many the student wrote."""

    text: str
    by: str
    findings: tuple[Finding, ...]
    drafts: int
    tokens: int = 0

    @property
    def passes(self) -> bool:
        return passes(self.findings)

    def as_record(self) -> dict[str, Any]:
        return {
            "text": self.text, "by": self.by, "drafts": self.drafts, "passes": self.passes,
            "findings": [finding.as_record() for finding in self.findings],
        }  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """Some text of a draft as it is written, before anybody has checked it; `draft` counts from 1."""

    draft: int
    text: str


@dataclass(frozen=True)
class Writer:
    """Writes about one product at a time.

    Args:
        request: makes a request of messages and how it is drawn.
        tries: most drafts of a text, the likeliest first, then drawn ones.
        temperature: of those that are drawn.
    """

    predictor: ServedText
    request: Callable[..., GenerationRequest]
    checker: Checker
    tries: int = 4
    temperature: float = 0.7

    async def write(
        self, product: Product, brief: Brief, channel: Channel | None, *, seed: int = 0, drawn: bool = False
    ) -> Copy:
        """One text; `drawn`: not the likeliest, for one of several variants.

        Raises:
            DataError: nothing can be said of the product within the brief, by anybody.
        """
        steps = [step async for step in self.writing(product, brief, channel, seed=seed, drawn=drawn)]
        assert isinstance(steps[-1], Copy)
        return steps[-1]

    async def writing(
        self, product: Product, brief: Brief, channel: Channel | None, *, seed: int = 0, drawn: bool = False
    ) -> AsyncGenerator[Piece | Copy]:
        """As `write`, draft by draft as they come; the text that may be served is the last. Raises as `write` does."""
        about = for_title(product, self.checker.pack) if brief.form == "title" else product
        tokens = 0
        for number in range(self.tries):
            temperature, text = self.temperature if drawn or number else 0.0, ""
            asked = self._asked(about, brief, temperature, seed * self.tries + number)
            used = 0
            async for piece in self.predictor.generate(asked):
                text += piece.text
                used = piece.usage.completion_tokens if piece.usage else used
                yield Piece(number + 1, piece.text)
            tokens += used
            copy = self._checked(about, text, brief, channel, "student", number + 1, tokens)
            if any(finding.kind == "term" for finding in copy.findings):
                look_at(TERMS)
            if copy.passes:
                yield copy
                return
            look_at(REFUSED)
        yield self._by_template(about, brief, channel, tokens)

    def _asked(self, product: Product, brief: Brief, temperature: float, seed: int) -> GenerationRequest:
        prompt, wanted = prompt_of(product, _as_learnt(brief), self.checker.pack), marks_of(product, self.checker.pack)
        return self.request((Message("user", prompt),), temperature=temperature, seed=seed, wanted=wanted)

    def _checked(
        self, product: Product, draft: str, brief: Brief, channel: Channel | None, by: str, drafts: int, tokens: int
    ) -> Copy:
        """A draft with its findings; the pack's own sentences are copies of nothing."""
        text, faults = text_of(product, draft, self.checker.pack)
        marks = [fault for fault in faults if fault.fault == "invented" and fault.span == (0, 0)]
        unknown = [Finding("attribute", "block", f"{fault.slot} is made up") for fault in marks]
        checker = replace(self.checker, copies=None) if by == TEMPLATE else self.checker
        found = [*unknown, *checker.findings(product, text, brief, channel)]
        return Copy(text, by, tuple(found), drafts, tokens)

    def _by_template(self, product: Product, brief: Brief, channel: Channel | None, tokens: int) -> Copy:
        draft = composed(product, brief, self.checker.pack)
        copy = self._checked(product, draft, brief, channel, TEMPLATE, self.tries, tokens)
        if copy.passes:
            return copy
        why = next(finding.message for finding in copy.findings if finding.severity == "block")
        raise DataError(
            f"no copy of {product.id} passes, not the template's either: {why}",
            hint="Look at the product's own values and at the brief: one of them is what the checks refuse.",
        )


def _as_learnt(brief: Brief) -> Brief:
    """A script is written as a description, shot by shot."""
    return replace(brief, form="description") if brief.form == "script" else brief


def script_of(text: str, brief: Brief, channel: Channel | None, pack: Pack) -> Mapping[str, Any]:
    """A short video's script out of a checked text: a hook, a shot for each sentence, and a call to act; the seconds
    add up.

    Raises:
        DataError: it is longer than the channel takes.
    """
    zh = brief.language == "zh"
    sentences = _sentences(text)
    hook, call = (
        ("看看这一款。", "想了解更多，点开主页。")
        if zh
        else ("Look at this one.", "Want to know more? Have a look at our page.")
    )
    shots = [
        {
            "seconds": max(SCENE, round(length(sentence, "second", language=brief.language), 1)),
            "visual": _visual(sentence, pack, zh=zh), "voice_over": sentence, "caption": sentence.rstrip("。."),
        }
        for sentence in sentences
    ]  # fmt: skip
    opening = min(HOOK, round(length(hook, "second", language=brief.language), 1))
    ending = round(length(call, "second", language=brief.language), 1)
    total = round(opening + sum(float(str(shot["seconds"])) for shot in shots) + ending, 1)
    limit = channel.limits.get("script") if channel else None
    if limit and total > limit.most:
        raise DataError(
            f"the script takes {total:g} s, {channel.name if channel else ''} takes {limit.most}",
            hint="Name fewer attributes.",
        )
    return {
        "hook": {"seconds": opening, "voice_over": hook}, "shots": shots,
        "call_to_action": {"seconds": ending, "voice_over": call}, "seconds": total,
    }  # fmt: skip


def _sentences(text: str) -> Sequence[str]:
    import re

    return [one.strip() for one in re.findall(r".+?(?:[。！？]|[.!?](?=\s|$)|$)", text) if one.strip()]


def _visual(sentence: str, pack: Pack, *, zh: bool) -> str:
    """What a shot shows: the attribute that its sentence speaks of."""
    about = [name for name, slot in pack.slots.items() if any(found.search(sentence) for found in slot.values.values())]
    if zh:
        return f"特写：{'、'.join(about)}" if about else "产品全景"
    return f"close-up: {', '.join(about)}" if about else "the product as a whole"


async def variants(
    writer: Writer, product: Product, brief: Brief, channel: Channel | None, many: int, *, seed: int = 0
) -> AsyncIterator[Copy]:
    """Several different texts; fewer where the student repeats itself."""
    seen: set[str] = set()
    for number in range(many):
        copy = await writer.write(product, brief, channel, seed=seed + number, drawn=number > 0)
        if copy.text not in seen:
            seen.add(copy.text)
            yield copy
