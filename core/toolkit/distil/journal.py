"""The journal of answers that were paid for: it loses none.

It is one file of JSON lines to which lines are only added, each with a checksum of its own. A process that is killed
loses no answer it has added; after a power cut at most the last batch of them is asked for again. It lies where every
run with the same teacher finds it, and is written by one process at a time. It never judges an answer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import DataError, EnvironmentUnfit, IntegrityError
from toolkit.plan import Plan
from toolkit.text import Completion, Prompt
from toolkit.text_teachers import AnyTeacher
from toolkit.workspace import digest_of, flush_folder, folder_lock

JOURNAL = "answers.jsonl"
FLUSH_LINES, FLUSH_S = 64, 1.0
"""Lines are forced to the disk this many at a time, or with the first that comes this long after the last time."""

_HEAD = re.compile(rb'\{"key":"([0-9a-f]{64})","cost":([0-9.e+-]+),')
_SUM = re.compile(rb',"sum":"([0-9a-f]{16})"\}\n$')


def journal_of(home: Path, teacher: AnyTeacher, plan: Plan) -> Path:
    """Where a home keeps what a teacher writes."""
    return home / "answers" / teacher.fingerprint(plan)[:32]


def answer_key(fingerprint: str, sampling: Mapping[str, Any], prompt: Prompt) -> str:
    """What names an answer: SHA-256 of the teacher, how it samples, and what it is asked.

    Raises:
        DataError: the prompt's text is not Unicode.
    """
    asked = [[message.role, message.content] for message in prompt.messages]
    try:
        return digest_of([fingerprint, dict(sampling), asked, prompt.sample])
    except UnicodeEncodeError as error:
        raise DataError(
            f"the prompt {prompt.id} holds half a character (a lone surrogate)", hint="Mend its text."
        ) from error


@dataclass(frozen=True)
class _Place:
    offset: int
    length: int
    cost: float


class Journal:
    """The answers in a folder. One thread may add answers while others read."""

    def __init__(self, descriptor: int, path: Path, places: dict[str, _Place], end: int) -> None:
        self._descriptor, self._path, self._places, self._end = descriptor, path, places, end
        self._unflushed, self._flushed_at = 0, time.monotonic()
        self._adding = threading.Lock()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def cost(self, keys: Iterable[str]) -> float:
        """What those of the answers that are here have cost."""
        return sum(self._places[key].cost for key in keys if key in self._places)

    def get(self, key: str) -> Completion:
        """Raises KeyError where it is not here, IntegrityError where the file was changed since it was opened."""
        place = self._places[key]
        line = os.pread(self._descriptor, place.length, place.offset)
        try:
            return Completion.from_record(json.loads(line)["answer"])
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{self._path} was changed while it was read", part=JOURNAL, hint="Run again."
            ) from error

    def add(self, key: str, completion: Completion, provenance: Mapping[str, Any]) -> None:
        """Write an answer down; it survives this process from here on.

        Args:
            provenance: who was asked what, and how: for who reads the file.

        Raises:
            EnvironmentUnfit: the disk is full, or gone.
        """
        line = _encode(key, completion, provenance)
        with self._adding, _writing(self._path):
            if os.pwrite(self._descriptor, line, self._end) < len(line):
                os.ftruncate(self._descriptor, self._end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._places[key] = _Place(self._end, len(line), completion.cost)
            self._end += len(line)
            self._unflushed += 1
            if self._unflushed >= FLUSH_LINES or time.monotonic() - self._flushed_at >= FLUSH_S:
                self._flush()

    def close(self) -> None:
        """Force what was added to the disk. Whoever adds later is told so, and writes to no other file by accident."""
        with self._adding, _writing(self._path):
            try:
                self._flush()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def _flush(self) -> None:
        os.fsync(self._descriptor)
        self._unflushed, self._flushed_at = 0, time.monotonic()


@contextlib.contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """The journal in `folder`, for one process at a time. A last line that a crash tore is cut off.

    Raises:
        EnvironmentUnfit: another process has it. IntegrityError: a line in its midst is damaged.
    """
    path = folder / JOURNAL
    with folder_lock(folder, purpose="ask a teacher"):
        with _writing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            flush_folder(folder)
            places, end = _scan(path)
            os.ftruncate(descriptor, end)
        except BaseException:
            os.close(descriptor)
            raise
        with contextlib.closing(Journal(descriptor, path, places, end)) as journal:
            yield journal


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot write to {path}: {error.strerror}", hint="Make room and run again: what was answered is kept."
        ) from error


def _encode(key: str, completion: Completion, provenance: Mapping[str, Any]) -> bytes:
    head = {"key": key, "cost": float(completion.cost), "answer": completion.as_record(), **provenance}
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    body = text[:-1].encode("utf-8")
    return body + b',"sum":"' + _checksum(body) + b'"}\n'


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def _scan(path: Path) -> tuple[dict[str, _Place], int]:
    """Where each answer lies, and where the last sound line ends."""
    places: dict[str, _Place] = {}
    offset = end = 0
    unsound = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            head, tail = _HEAD.match(line), _SUM.search(line[-32:])
            if head and tail and tail[1] == _checksum(line[: -len(tail[0])]):
                if unsound:
                    raise IntegrityError(
                        f"line {unsound} of {path} is damaged",
                        part=JOURNAL,
                        hint="Remove that line: its answer, and no other, is asked for again.",
                    )
                places[head[1].decode()] = _Place(offset, len(line), float(head[2]))
                end = offset + len(line)
            else:
                unsound = unsound or number
            offset += len(line)
    return places, end
