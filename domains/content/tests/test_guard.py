"""What leaves a stream: no term that is blocked, however the text comes in pieces, and all of what is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from toolkit.protocols import PredictorFacts
from toolkit.text import GenerationRequest, TextDelta
from toolkit_content.guard import Guarded
from toolkit_content.terms import Scanner, load_lexicon

SCANNER = Scanner([load_lexicon("en-advertising"), load_lexicon("zh-advertising")])


@dataclass
class Scripted:
    """Says a text, some letters at a time."""

    text: str
    step: int
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("installed", "test", ""))

    def check(self, request: GenerationRequest) -> None:
        """Anything goes."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        for start in range(0, len(self.text), self.step):
            yield TextDelta(request.id, self.text[start : start + self.step])
        yield TextDelta(request.id, "", "stop")


def heard(text: str, step: int) -> list[TextDelta]:
    async def pieces() -> list[TextDelta]:
        request = GenerationRequest("r", ())
        return [piece async for piece in Guarded(Scripted(text, step), SCANNER).generate(request)]

    return asyncio.run(pieces())


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("text", "told", "finish"),
    [
        (
            "A plain text that goes on for a while and then it ends.",
            "A plain text that goes on for a while and then it ends.",
            "stop",
        ),
        ("A good kettle. It is the world's best, they say.", "A good kettle. It is the", "content_filter"),
        ("这款水壶容量大，是国-家 级产品。", "这款水壶容量大，是", "content_filter"),
        ("这款水壶容量大，是国\n家\n级产品。", "这款水壶容量大，是", "content_filter"),
        ("A kettle that is unbeatab1e, they say, and red.", "A kettle that is", "content_filter"),
        ("这款绝对值得拥有的水壶容量大。", "这款", "content_filter"),
        ("", "", "stop"),
    ],
)
def test_a_banned_term_never_leaves_a_stream(text: str, told: str, finish: str, step: int) -> None:
    pieces = heard(text, step)
    assert "".join(piece.text for piece in pieces) == told
    assert [piece.finish for piece in pieces if piece.finish] == [finish]
    partial = ""
    for piece in pieces:
        partial += piece.text
        assert not any(hit.term.severity == "block" for hit in SCANNER.scan(partial))


@pytest.mark.parametrize("step", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "text",
    [
        "这个温室里的绝对湿度为百分之四十，适合种花。",
        "最大功率为2000瓦，最快3天送达。",
        "We saw a miracle on 34th Street. Fine.",
        "This is a world classical music player for everybody.",
        "Her unmatched socks are sold in pairs of two.",
        "请在最佳食用期内吃完",
        "the glue cures in 24 hours",
        "万能充电器很方便",
        "国家级非物质文化遗产",
        "限时特惠，渠道特供",
        "致力于成为世界领先的企业，从一只水壶开始，一步一步来。",
    ],
)
def test_a_stream_is_not_cut_at_what_is_allowed(text: str, step: int) -> None:
    pieces = heard(text, step)
    assert ("".join(piece.text for piece in pieces), pieces[-1].finish) == (text, "stop")
