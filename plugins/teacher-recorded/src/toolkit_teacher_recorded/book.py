"""A file of recorded answers, read once to know where each is, so that it need not fit in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.errors import DataError, EnvironmentUnfit
from toolkit.text import Prompt
from toolkit.workspace import digest_of

NAMED = 5
BOM = b"\xef\xbb\xbf"


class _Turn(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    role: str
    content: str


class Line(BaseModel):
    """One recorded answer. Other keys are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    id: str | int | None = None
    prompt: str | None = None
    messages: list[_Turn] | None = None
    completion: str = Field(min_length=1)
    reasoning: str | None = None

    @property
    def question(self) -> str | None:
        """The text of the last message, where the line states one."""
        if self.prompt is not None:
            return self.prompt
        return self.messages[-1].content if self.messages else None

    def keys(self) -> Sequence[str]:
        """What the line is found by."""
        found = [] if self.id is None else [f"id {self.id}"]
        if self.messages is not None:
            found.append(_text_key([(turn.role, turn.content) for turn in self.messages]))
        elif self.prompt is not None:
            found.append(_text_key([("user", self.prompt)]))
        return found


@dataclass(frozen=True)
class Book:
    """Recorded answers by id and by text, in the order of the file where there are several to one prompt."""

    path: Path
    stream: BinaryIO
    places: dict[str, list[tuple[int, int]]]  # line number, offset

    def has(self, prompt: Prompt) -> bool:
        return self._place(prompt) is not None

    def find(self, prompt: Prompt) -> Line | None:
        """The answer to a prompt: by its id, else by its exact messages.

        Raises:
            DataError: the line of this id states another question.
        """
        place = self._place(prompt)
        if place is None:
            return None
        number, offset = place
        self.stream.seek(offset)
        line = Line.model_validate_json(self.stream.readline().removeprefix(BOM))
        asked = prompt.messages[-1].content if prompt.messages else ""
        if line.question is not None and not _one_in_the_other(line.question, asked):
            raise DataError(
                f"line {number} of {self.path} bears the id {prompt.id}, but states another question than that prompt",
                hint="Give the lines the ids of your prompts, or leave ids out: then the text decides.",
            )
        return line

    def _place(self, prompt: Prompt) -> tuple[int, int] | None:
        messages = [(message.role, message.content) for message in prompt.messages]
        for key in (f"id {prompt.id}", _text_key(messages)):
            places = self.places.get(key, ())
            if prompt.sample < len(places):
                return places[prompt.sample]
        return None


@contextlib.contextmanager
def open_book(path: Path) -> Iterator[Book]:
    """Read where each answer is.

    Raises:
        DataError: a line is none of an answer; the message gives the numbers of such lines.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise EnvironmentUnfit(f"cannot read {path}: {error.strerror}", hint="Check the file's rights.") from error
    with stream:
        yield Book(path, stream, _scan(path, stream))


def _scan(path: Path, stream: BinaryIO) -> dict[str, list[tuple[int, int]]]:
    places: dict[str, list[tuple[int, int]]] = {}
    broken: list[str] = []
    offset = 0
    for number, text in enumerate(stream, 1):
        if text.removeprefix(BOM).strip():
            try:
                keys = Line.model_validate_json(text.removeprefix(BOM)).keys()
                reason = "" if keys else "it has neither id nor prompt nor messages"
            except ValidationError as error:
                keys, reason = (), _reason(error)
            if reason:
                broken.append(f"line {number}: {reason}")
            for key in keys:
                places.setdefault(key, []).append((number, offset))
        offset += len(text)
    if broken:
        more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise DataError(
            f"{path} has {len(broken)} broken lines: {'; '.join(broken[:NAMED])}{more}",
            hint='A line is {"id": ..., "prompt": ..., "completion": ...}; id or prompt or messages may be left out.',
        )
    return places


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where + ': ' if where else ''}{first['msg']}"


def _text_key(messages: Sequence[tuple[str, str]]) -> str:
    return f"text {digest_of([[role, content.strip()] for role, content in messages])}"


def _one_in_the_other(one: str, other: str) -> bool:
    """Whether the texts agree but for a frame around one of them, and for white space."""
    first, second = (" ".join(text.split()) for text in (one, other))
    return first in second or second in first
