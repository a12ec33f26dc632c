"""From rows to token ids: the chat template, which tokens are learnt, and where a sequence begins and ends.

A sample is tokenised as it will be asked for: the prompt's tokens are those that a server makes of the prompt alone, so
that what is learnt follows what is seen. No text is ever cut: a sample that is too long is dropped and told. Neither
torch nor transformers is imported; a tokenizer is whatever behaves like one of transformers.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from toolkit.errors import DataError, PlanError
from toolkit.tasks.findings import Finding, listed
from toolkit.tasks.text_generation.rows import Row
from toolkit.text import GenerationRequest, Message
from toolkit.workspace import canonical_json

IGNORE = -100
"""A label that is not learnt; the same number as `distil.sequences.IGNORE`, which needs torch."""

PLAIN = {"system": "{}\n\n", "user": "### Instruction:\n{}\n\n", "assistant": "### Response:\n{}\n\n"}
"""How a message is put where the tokenizer has no chat template: Alpaca's form."""

PLAIN_ANSWER = "### Response:\n"

_MARK = "the-answer-stands-here"


class Tokenizer(Protocol):
    """What is asked of a tokenizer of transformers, or of one that stands for it."""

    chat_template: Any

    @property
    def bos_token_id(self) -> int | None: ...
    @property
    def eos_token_id(self) -> int | None: ...
    def __len__(self) -> int: ...
    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Any: ...
    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool) -> Any: ...
    def get_vocab(self) -> dict[str, int]: ...
    def decode(self, token_ids: Any, *, skip_special_tokens: bool) -> Any: ...
    def save_pretrained(self, save_directory: Any) -> Any: ...

    @property
    def all_special_tokens(self) -> list[str]: ...
    @property
    def all_special_ids(self) -> list[int]: ...


@dataclass(frozen=True)
class Tokenised:
    """A sample: `ids` [n], of which the first `prompt` (at least 1) are given and the others are learnt. `said`: a
    teacher wrote those."""

    id: str
    ids: tuple[int, ...]
    prompt: int
    task: str = ""
    said: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def learnt(self) -> int:
        """How many tokens are learnt."""
        return len(self.ids) - self.prompt

    @property
    def labels(self) -> np.ndarray:
        """int64 [n]: the ids, IGNORE for what is given."""
        labels = np.asarray(self.ids, np.int64)
        labels[: self.prompt] = IGNORE
        return labels

    @property
    def digest(self) -> str:
        """SHA-256 of its tokens and of where the completion begins: what a teacher's cache knows it by."""
        return hashlib.sha256(f"{self.prompt}:".encode() + np.asarray(self.ids, "<u4").tobytes()).hexdigest()


@dataclass(frozen=True)
class Encoded:
    """Samples in the order of their rows, and what was dropped, and why."""

    samples: tuple[Tokenised, ...]
    template: Literal["chat", "plain"]
    findings: tuple[Finding, ...]

    @property
    def longest(self) -> Tokenised:
        """The sample that takes the most memory: tried first."""
        return max(self.samples, key=len)


def tokenise(rows: Iterable[Row], tokenizer: Tokenizer, *, max_tokens: int) -> Encoded:
    """As `encoded`, where something must be left.

    Raises:
        PlanError, DataError: as `encoded`; DataError also where no row is left.
    """
    rows = list(rows)
    found = encoded(rows, tokenizer, max_tokens=max_tokens)
    if not found.samples:
        why = f": {found.findings[0].message}" if found.findings else ""
        raise DataError(
            f"no row of {len(rows)} is left{why}", hint="Raise text.max_tokens, the most tokens of a sample."
        )
    return found


def encoded(rows: Iterable[Row], tokenizer: Tokenizer, *, max_tokens: int) -> Encoded:
    """Tokenise rows that have a completion.

    A row of more than `max_tokens` tokens is dropped with a finding, and so is one whose text spells a special token of
    the tokenizer, which would end or forge a turn.

    Raises:
        PlanError: the tokenizer has no end-of-sequence token, or its template refuses every row.
        DataError: a row has no completion.
    """
    check_end(tokenizer)
    samples: list[Tokenised] = []
    dropped: dict[str, list[str]] = defaultdict(list)
    beyond: Counter[str] = Counter()
    special = [token for token in special_tokens(tokenizer) if token.strip()]
    for row in rows:
        if not row.labelled:
            raise DataError(f"the row {row.id} has no completion", hint="Have the teacher answer it first.")
        if any(token in text for token in special for text in (row.completion, *(m.content for m in row.messages))):
            dropped["special-token"].append(row.id)
            continue
        sample = encode(row, tokenizer)
        if len(sample) > max_tokens:
            dropped["too-long"].append(row.id)
            beyond[row.id] = len(sample)
        else:
            samples.append(sample)
    findings = _findings(dropped, beyond, max_tokens)
    return Encoded(tuple(samples), "chat" if tokenizer.chat_template else "plain", tuple(findings))


def _findings(dropped: dict[str, list[str]], beyond: Counter[str], max_tokens: int) -> list[Finding]:
    found = []
    if rows := dropped["too-long"]:
        shown = listed(f"{row} ({count:,})" for row, count in beyond.most_common())
        message = f"{len(rows)} rows have more than {max_tokens:,} tokens and are left out, none is cut: {shown}"
        found.append(Finding("too-long", "error", message, tuple(rows)))
    if rows := dropped["special-token"]:
        message = f"{len(rows)} rows spell a special token of the tokenizer and are left out: {listed(rows)}"
        found.append(Finding("special-token", "error", message, tuple(rows)))
    return found


def encode(row: Row, tokenizer: Tokenizer) -> Tokenised:
    """One row: its prompt's tokens, then its completion's, then what ends a turn (the template's own end token, else
    the tokenizer's end-of-sequence token)."""
    prompt = prompt_ids(row.messages, tokenizer)
    text = rendered(row.messages, tokenizer)
    joint = tuple(_begun(_ids(text + row.completion, tokenizer), tokenizer))
    # A tokenizer may merge across the border; then the completion is tokenised by itself, as a server never merges
    learnt = joint[len(prompt) :] if joint[: len(prompt)] == prompt else _ids(row.completion, tokenizer)
    ids = (*prompt, *learnt, *end_ids(row.messages, tokenizer))
    return Tokenised(row.id, ids, max(1, len(prompt)), row.task)


def prompt_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[int, ...]:
    """What a server makes of the messages before it generates: the template says where it begins, else the tokenizer's
    own rule, and never is a beginning put twice."""
    return tuple(_begun(_ids(rendered(messages, tokenizer), tokenizer), tokenizer))


def opening_ids(request: GenerationRequest, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that an answer follows: of the messages, or of the text that is gone on from; at least one."""
    if request.prompt is None:
        return prompt_ids(request.messages, tokenizer)
    ids = tuple(_begun(_ids(request.prompt, tokenizer), tokenizer))
    return ids or ((tokenizer.bos_token_id if tokenizer.bos_token_id is not None else check_end(tokenizer)),)


def rendered(messages: Sequence[Message], tokenizer: Tokenizer, *, answer: str | None = None) -> str:
    """The messages as text, up to where the answer begins, or with the answer and what ends it.

    Raises:
        PlanError: the template refuses them.
    """
    if not tokenizer.chat_template:
        text = "".join(PLAIN[message.role].format(message.content) for message in messages) + PLAIN_ANSWER
        return text if answer is None else text + answer
    turns = [{"role": message.role, "content": message.content} for message in messages]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    import jinja2  # what templates are written in

    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer is None))
    except jinja2.TemplateError as error:
        raise PlanError(
            f"the chat template refuses a row: {error}",
            hint="Leave out system messages, and let user and assistant take turns; or give another template.",
        ) from error


def template_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 of how prompts are put."""
    return hashlib.sha256(canonical_json(tokenizer.chat_template or [PLAIN, PLAIN_ANSWER])).hexdigest()


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 of all that decides which ids a text becomes; not of padding and truncation, which are settings."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else {"vocabulary": tokenizer.get_vocab()}
    rules = {name: rule for name, rule in rules.items() if name not in ("padding", "truncation")}
    return hashlib.sha256(canonical_json([rules, tokenizer.bos_token_id, tokenizer.eos_token_id])).hexdigest()


def stops_of(messages: Sequence[Message], tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that end an answer: the template's own, and the end of the sequence."""
    return frozenset({check_end(tokenizer), end_ids(messages, tokenizer)[-1]})


def check_end(tokenizer: Tokenizer) -> int:
    """The end-of-sequence token; a student of a tokenizer that has none would never stop.

    Raises:
        PlanError: there is none.
    """
    if tokenizer.eos_token_id is None:
        raise PlanError(
            "the tokenizer has no end-of-sequence token", hint="Set eos_token in its tokenizer_config.json."
        )
    return tokenizer.eos_token_id


def end_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """What follows an answer: in the template up to its last special token (a line feed after it is never generated),
    without one the end-of-sequence token. At least one token."""
    ids: list[int] = []
    if tokenizer.chat_template:
        closed = rendered(messages, tokenizer, answer=_MARK)
        ids = _ids(closed.rpartition(_MARK)[2], tokenizer)
        ends = set(special_tokens(tokenizer).values())
        while ids and ids[-1] not in ends:
            ids.pop()
    return ids or [check_end(tokenizer)]


def _ids(text: str, tokenizer: Tokenizer) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _begun(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """With the beginning-of-sequence token where the tokenizer puts one of its own accord and no template did."""
    begin = tokenizer.bos_token_id
    if tokenizer.chat_template or begin is None or ids[:1] == [begin]:
        return ids
    return [begin, *ids] if list(tokenizer("a")["input_ids"])[:1] == [begin] else ids


def special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Every token that stands for structure and not for text, and its id."""
    known = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return known | {token.content: identity for identity, token in added.items() if token.special}
