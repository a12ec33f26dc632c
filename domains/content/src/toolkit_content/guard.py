"""Free text from the model, streamed with enough held back that a term that may not leave never does.

Whether a term stands there is known when its last letter has come, and whether it may when what is around it has; so
as many letters as the longest has, and as are looked for around it, are kept back until the end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from toolkit.protocols import PredictorFacts
from toolkit.text import GenerationRequest, ServedText, TextDelta
from toolkit_content.reading import Reading, read, squeezed
from toolkit_content.terms import AROUND, Scanner


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
            reading = read(text)
            blocked = self._first_blocked(text, reading, ended=piece.finish is not None)
            end = self._safe(reading)
            if blocked is not None:
                yield TextDelta(request.id, text[told : max(told, blocked)].rstrip(), "content_filter", piece.usage)
                return
            if piece.finish is not None:
                yield TextDelta(request.id, text[told:], piece.finish, piece.usage)
                return
            if end > told:
                yield TextDelta(request.id, text[told:end], usage=piece.usage)
                told = end

    def _first_blocked(self, text: str, reading: Reading, *, ended: bool) -> int | None:
        """Where the first term begins that no wording to come can allow."""
        places = reading.places
        settled = len(text) if ended else places[-AROUND] if len(places) >= AROUND else 0
        hits = (hit for hit in self.scanner.scan(text) if hit.term.severity == "block")
        return next((hit.span[0] for hit in hits if hit.span[1] <= settled), None)

    def _safe(self, reading: Reading) -> int:
        """How much may leave: what stands before the letters that the longest term has, a word before them, and what
        may follow it."""
        letters = squeezed(reading)
        kept = self.scanner.longest + 1 + AROUND
        if len(letters.places) <= kept:
            return 0
        return letters.places[-kept]
