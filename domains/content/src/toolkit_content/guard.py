"""Free text from the model, streamed with enough held back that a term that may not leave never does.

A term is found when its last letter has come; so as many letters as the longest has are kept back until the end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from toolkit.protocols import PredictorFacts
from toolkit.text import GenerationRequest, ServedText, TextDelta
from toolkit_content.reading import read, squeezed
from toolkit_content.terms import Scanner


@dataclass(frozen=True)
class Guarded:
    """A `ServedText` that ends an answer, as its own filter would, before a term that is blocked."""

    predictor: ServedText
    scanner: Scanner

    @property
    def facts(self) -> PredictorFacts:
        return self.predictor.facts

    def check(self, request: GenerationRequest) -> None:
        self.predictor.check(request)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        """What came, up to where a term might still begin; at the end the rest, or up to the first term."""
        text, told = "", 0
        async for piece in self.predictor.generate(request):
            text += piece.text
            blocked = self._first_blocked(text)
            end = len(text) if piece.finish is not None else self._safe(text)
            if blocked is not None:
                yield TextDelta(request.id, text[told : max(told, blocked)].rstrip(), "content_filter", piece.usage)
                return
            if piece.finish is not None:
                yield TextDelta(request.id, text[told:], piece.finish, piece.usage)
                return
            if end > told:
                yield TextDelta(request.id, text[told:end], usage=piece.usage)
                told = end

    def _first_blocked(self, text: str) -> int | None:
        return next((hit.span[0] for hit in self.scanner.scan(text) if hit.term.severity == "block"), None)

    def _safe(self, text: str) -> int:
        """How much may leave: what stands before the letters that the longest term has, and a word before them."""
        letters = squeezed(read(text))
        kept = self.scanner.longest + 1
        if len(letters.places) <= kept:
            return 0
        return letters.places[-kept]
