"""A compiled language model as who scores it, or asks it, sees it: messages in, text out, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from toolkit.protocols import PredictorFacts
from toolkit.serving.language import Drawn, LanguageSession
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.tokens import Tokenised, Tokenizer, encode, prompt_ids
from toolkit.text import GenerationRequest, Message, TextDelta

UNFINISHED = "\ufffd"
"""What a tokenizer makes of a character whose other bytes have not come yet."""


@dataclass(frozen=True)
class CompiledPredictor:
    """A `TextPredictor` over a `LanguageSession`."""

    session: LanguageSession
    tokenizer: Tokenizer
    facts: PredictorFacts

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        """Every answer as it is written, word by word; those to several requests come mixed."""
        prompts = [prompt_ids(request.messages, self.tokenizer) for request in requests]
        drawn = [Drawn(one.max_tokens, one.temperature, one.top_p, one.seed) for one in requests]
        texts = [Spelling(self.tokenizer) for _ in requests]
        for place, token, finish in self.session.write(prompts, drawn):
            if token is not None and (text := texts[place].add(token)):
                yield TextDelta(requests[place].id, text)
            if finish is not None:
                yield TextDelta(requests[place].id, texts[place].rest(), finish)

    def logprobs(self, texts: Sequence[tuple[tuple[Message, ...], str]]) -> Sequence[np.ndarray]:
        rows = [Row(str(number), messages, completion) for number, (messages, completion) in enumerate(texts)]
        samples = [encode(row, self.tokenizer) for row in rows]
        return [np.take_along_axis(self.said(one), targets(one)[:, None], 1)[:, 0] for one in samples]

    def said(self, sample: Tokenised) -> np.ndarray:
        """The logarithms of what it says of every token in a completion's places: float32 [learnt, vocabulary]."""
        logits = self.session.logits(sample.ids)[sample.prompt - 1 : -1]
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits


def targets(sample: Tokenised) -> np.ndarray:
    """The tokens of its completion, int64 [learnt]."""
    return np.asarray(sample.ids[sample.prompt :], np.int64)


@dataclass
class Spelling:
    """Text out of tokens as they come. A token may be a part of a character, and how it is spelt may depend on those
    before it, so a stretch is spelt with and without what is new."""

    tokenizer: Tokenizer
    ids: list[int] = field(default_factory=list)
    start: int = 0
    told: int = 0

    def add(self, token: int) -> str:
        """What the token adds; nothing while a character is not whole."""
        self.ids.append(token)
        return self._more(whole=True)

    def rest(self) -> str:
        """What is left at the end, whole or not."""
        return self._more(whole=False)

    def _more(self, *, whole: bool) -> str:
        before, now = self._spelt(self.ids[self.start : self.told]), self._spelt(self.ids[self.start :])
        if len(now) <= len(before) or (whole and now.endswith(UNFINISHED)):
            return ""
        self.start, self.told = self.told, len(self.ids)
        return now[len(before) :]

    def _spelt(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
