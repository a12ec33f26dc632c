"""A compiled language model as who scores it, or asks it, sees it: messages in, text out, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from toolkit.errors import DataError, PlanError, ToolkitError
from toolkit.protocols import PredictorFacts
from toolkit.serving.drawing import Drawn
from toolkit.serving.language import TOGETHER, LanguageSession
from toolkit.serving.refusals import ModelFault
from toolkit.serving.writing import Company
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

    def generate(self, requests: Sequence[GenerationRequest], company: Company | None = None) -> Iterator[TextDelta]:
        """Every answer as it is written, word by word; those to several requests come mixed, and those to requests that
        come meanwhile, of which `company` knows, among them.

        Raises:
            ToolkitError: one of them cannot be written; where there is company it is told, and the others go on.
        """
        return _Answers(self, company or _Alone()).to(requests)

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


class _Alone:
    """Nobody else asks, and what goes wrong is an error."""

    together = TOGETHER

    def gone(self, identity: str) -> bool:
        return False

    def more(self, free: int) -> Sequence[GenerationRequest]:
        return ()

    def failed(self, identity: str, error: ToolkitError) -> None:
        raise error


class _Answers:
    """The answers under way by their places in the session, each as its request, the tokens given, and its text."""

    def __init__(self, predictor: CompiledPredictor, company: Company) -> None:
        self._predictor, self._company, self._places = predictor, company, count()
        self._under_way: dict[int, tuple[str, int, Spelling]] = {}

    def to(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        session, together = self._predictor.session, self._company.together
        prompts, drawn = zip(*begun, strict=True) if (begun := self._begun(requests)) else ((), ())
        for place, token, end in session.write(prompts, drawn, self._gone, self._more, together):
            identity, given, text = self._under_way[place]
            if isinstance(end, ToolkitError):
                del self._under_way[place]
                self._company.failed(identity, end)
                continue
            said = text.rest() if token is None else text.add(token)
            if said or end is not None:
                yield TextDelta(identity, said, end, Usage(given, len(text.ids)))
            if end is not None:
                del self._under_way[place]

    def _gone(self, place: int) -> bool:
        if gone := self._company.gone(self._under_way[place][0]):
            del self._under_way[place]
        return gone

    def _more(self, free: int) -> Sequence[tuple[Sequence[int], Drawn]]:
        return self._begun(self._company.more(free))

    def _begun(self, requests: Sequence[GenerationRequest]) -> list[tuple[Sequence[int], Drawn]]:
        """What the session is to write; of those that cannot begin the company is told."""
        found: list[tuple[Sequence[int], Drawn]] = []
        tokenizer = self._predictor.tokenizer
        for one in requests:
            try:
                prompt, constraint = opening_ids(one, tokenizer), constraint_of(one, tokenizer)
            except ToolkitError as error:
                self._company.failed(one.id, error)
                continue
            self._under_way[next(self._places)] = one.id, len(prompt), Spelling(tokenizer)
            found.append((prompt, Drawn(one.max_tokens, one.temperature, one.top_p, one.seed, constraint)))
        return found


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
