"""A compiled language model as who scores it, or asks it, sees it: messages in, text out, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from toolkit.errors import DataError, PlanError
from toolkit.protocols import PredictorFacts
from toolkit.serving.language import Drawn, LanguageSession
from toolkit.serving.refusals import ModelFault
from toolkit.tasks.text_generation.constraints import constraint_of
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.tokens import Tokenised, Tokenizer, encode, opening_ids, special_tokens
from toolkit.text import GenerationRequest, Logprobs, Message, TextDelta, Usage

UNFINISHED = "\ufffd"
"""What a tokenizer makes of a character whose other bytes have not come yet."""


@dataclass(frozen=True)
class CompiledPredictor:
    """A `TextPredictor` over a `LanguageSession`."""

    session: LanguageSession
    tokenizer: Tokenizer
    facts: PredictorFacts

    def check(self, request: GenerationRequest) -> None:
        """Refuse what cannot be answered.

        Raises:
            DataError: it is too long, its messages fit no template, or they spell a token that only a template may.
        """
        special = [token for token in special_tokens(self.tokenizer) if token.strip()]
        given = [message.content for message in request.messages] if request.prompt is None else [request.prompt]
        for text in given:
            if found := [token for token in special if token in text]:
                raise DataError(
                    f"a text spells {found[0]}, which marks the turns of a conversation",
                    hint="Leave it out of the text.",
                )
        if request.grammar is not None:
            constraint_of(request, self.tokenizer)
        try:
            self.session.check_room(len(opening_ids(request, self.tokenizer)), request.max_tokens)
        except (PlanError, ModelFault) as error:
            raise DataError(error.message, hint=error.hint) from error

    def generate(
        self, requests: Sequence[GenerationRequest], gone: Callable[[str], bool] = lambda identity: False
    ) -> Iterator[TextDelta]:
        """Every answer as it is written, word by word; those to several requests come mixed, and of one that is `gone`
        nothing more."""
        prompts = [opening_ids(request, self.tokenizer) for request in requests]
        drawn = [
            Drawn(one.max_tokens, one.temperature, one.top_p, one.seed, constraint_of(one, self.tokenizer))
            for one in requests
        ]
        texts = [Spelling(self.tokenizer) for _ in requests]
        counts = [0] * len(requests)
        for place, token, finish in self.session.write(prompts, drawn, lambda place: gone(requests[place].id)):
            counts[place] += token is not None
            usage = Usage(len(prompts[place]), counts[place])
            if token is not None and (text := texts[place].add(token)):
                yield TextDelta(requests[place].id, text, usage=usage)
            if finish is not None:
                yield TextDelta(requests[place].id, texts[place].rest(), finish, usage)

    def logprobs(self, texts: Sequence[tuple[tuple[Message, ...], str]]) -> Sequence[Logprobs]:
        rows = [Row(str(number), messages, completion) for number, (messages, completion) in enumerate(texts)]
        return [self._logprobs(encode(row, self.tokenizer)) for row in rows]

    def _logprobs(self, sample: Tokenised) -> Logprobs:
        said, tokens = self.said(sample), targets(sample)
        return Logprobs(np.take_along_axis(said, tokens[:, None], 1)[:, 0], said.argmax(axis=1) == tokens)

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
