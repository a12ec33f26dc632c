"""Asking a teacher of text beside training: only for what the journal does not hold, and never twice.

An answer is written down before anybody sees it, so what was paid for outlives whatever happens next. This module never
judges an answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.distil.journal import Journal, answer_key, open_journal
from toolkit.distil.producer import Producer, Progress, end
from toolkit.errors import DataError, PluginError
from toolkit.plan import Plan
from toolkit.text import Completion, Prompt
from toolkit.text_teachers import Answers, TextTeacher

_Ask = Callable[[Iterable[Prompt]], Answers]


class Answered:
    """A teacher's answers to a list of prompts, in its order; iterate as often as you like. From `answered`."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        keys: Sequence[str],
        missing: Iterable[str],
        journal: Journal,
        fresh: Producer[Completion],
    ) -> None:
        self._prompts, self._keys, self._journal, self._fresh = prompts, keys, journal, fresh
        self._rows = {key: row for row, key in enumerate(missing)}

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[Completion]:
        for prompt, key in zip(self._prompts, self._keys, strict=True):
            new = self._rows.get(key, -1) >= self._fresh.position
            completion = next(self._fresh) if new else self._journal.get(key)
            yield replace(completion, prompt_id=prompt.id)

    @property
    def kept(self) -> int:
        """How many of the answers were in the journal already."""
        return sum(key not in self._rows for key in self._keys)

    def progress(self) -> Progress:
        """Of the asking for those that were not."""
        return self._fresh.progress()


@contextlib.contextmanager
def answered(
    folder: Path, teacher: TextTeacher, plan: Plan, prompts: Sequence[Prompt], *, ahead: int = 64, grace_s: float = 5.0
) -> Iterator[Answered]:
    """Ask `teacher` for what the journal in `folder` does not hold, ahead of who consumes the answers.

    Args:
        ahead: most answers asked for and not consumed; see Producer.
        grace_s: how long to wait, once the consumer has left, for answers that are under way and will be billed.

    Raises:
        DataError: two prompts have one id. And what the teacher raises, where the answer it kept from coming is due.
    """
    _refuse_twins(prompts)
    fingerprint, sampling, record = teacher.fingerprint(plan), asdict(teacher.sampling(plan)), teacher.record(plan)
    keys = [answer_key(fingerprint, sampling, prompt) for prompt in prompts]
    by = {"name": teacher.name, "id": record.id, "licence": record.licence, "fingerprint": fingerprint}
    with open_journal(folder) as journal:
        missing: dict[str, Prompt] = {}
        for key, prompt in zip(keys, prompts, strict=True):
            if key not in journal:
                missing.setdefault(key, prompt)
        if missing:
            teacher.check(plan, list(missing.values()))
        ask = partial(teacher.answers, plan, spent=journal.cost(dict.fromkeys(keys)))
        make = partial(_Asking, missing, journal, {"teacher": by, "sampling": sampling}, ask)
        with Producer(make, len(missing), ahead=ahead, grace_s=grace_s) as fresh:
            yield Answered(prompts, keys, missing, journal, fresh)


class _Asking(Iterator[tuple[int, Completion]]):
    """The producer's side: prompts go out, answers are written down and handed on."""

    def __init__(
        self,
        prompts: Mapping[str, Prompt],
        journal: Journal,
        provenance: Mapping[str, Any],
        ask: _Ask,
        rows: Iterator[int],
    ) -> None:
        self._keys, self._prompts = list(prompts), list(prompts.values())
        self._row_of = {prompt.id: row for row, prompt in enumerate(self._prompts)}
        self._journal, self._provenance = journal, provenance
        self._answers = ask(_Prompts(rows, self._prompts))

    def __next__(self) -> tuple[int, Completion]:
        completion = next(self._answers)
        row = self._row_of.get(completion.prompt_id)
        if row is None or self._keys[row] in self._journal:
            raise PluginError(
                f"the teacher answers {completion.prompt_id!r} unasked or twice",
                hint="A teacher answers each prompt once, by its id.",
            )
        self._journal.add(self._keys[row], completion, {**self._provenance, **_asked(self._prompts[row])})
        return row, completion

    def close(self) -> None:
        end(self._answers)


def _asked(prompt: Prompt) -> Mapping[str, Any]:
    return {"messages": [asdict(message) for message in prompt.messages], "sample": prompt.sample}


class _Prompts(Iterator[Prompt]):
    """The prompts of the rows that may be labelled; how many are left is known without taking them."""

    def __init__(self, rows: Iterator[int], prompts: Sequence[Prompt]) -> None:
        self._rows, self._prompts = rows, prompts

    def __next__(self) -> Prompt:
        return self._prompts[next(self._rows)]

    def __length_hint__(self) -> int:
        hint: int = self._rows.__length_hint__()  # type: ignore[attr-defined]
        return hint


def _refuse_twins(prompts: Sequence[Prompt]) -> None:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise DataError(f"two prompts have the id {prompt.id}", hint="Give each prompt an id of its own.")
        seen.add(prompt.id)
