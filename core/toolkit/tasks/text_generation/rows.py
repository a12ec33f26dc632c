"""Rows of prompts and completions out of JSON lines: reading them, and saying what is wrong with them, line by line.

Three forms are read as they are: the toolkit's own `{id?, prompt | messages, completion?, task?, answer?, group?,
wanted?}`, GSM8K's `{question, answer}` with the final answer after `####` (arXiv 2110.14168), and SVAMP's list of
`{Body, Question, Answer}` (arXiv 2103.07191). Nothing here knows tokens; copies and splits are in `checks`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from toolkit.artifacts import SPLIT_NAMES
from toolkit.benchmarks.reading import problem_of
from toolkit.errors import DataError
from toolkit.tasks.findings import Finding, listed
from toolkit.text import Message, Role
from toolkit.workspace import digest_of

SPLITS = ("train", "validation", "test", "unlabelled")
"""What a file's name may say of its rows."""

MOST_CHARACTERS = 100_000
"""A prompt or a completion longer than this is a mistake in the file, not a sample: some 25,000 tokens."""

MOST_BYTES = 16 * 1024**2
"""Of one line, and of 64 times this one file that is a single list: what is held in memory at once."""

MOST_TOLD = 100
"""Lines of one kind that are no rows and are told one by one."""

_LIST_BYTES = 64 * MOST_BYTES
_ROLES = get_args(Role)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Row:
    """A prompt, and what is to be said to it.

    `completion` is empty where nobody has said it yet: the teacher will. `task` is the floor group of a mix of tasks,
    `answer` what a verifier compares with, `given` the split that its file says (one of SPLITS) or empty, `where` its
    file and line. Rows of one `group` are never spread over splits; where it is empty its prompt is its group. `wanted`
    are texts that must all stand in what a student writes before it may end.
    """

    id: str
    messages: tuple[Message, ...]
    completion: str = ""
    task: str = ""
    answer: str = ""
    given: str = ""
    where: str = field(default="", compare=False)
    group: str = ""
    wanted: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether it has a completion to learn."""
        return bool(self.completion)


@dataclass(frozen=True)
class Corpus:
    """Rows that can be used, in the order of files and lines, and what a person should know of them and of others."""

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


class _Unusable(Exception):
    """A line that is no row: `kind` for the finding, the message for the reader."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_rows(source: Path) -> Corpus:
    """Read a file, or a folder with train, validation, test or unlabelled as .jsonl or .json.

    Where a folder has no file of such a name, all its .jsonl and .json files are read, and nothing is known of splits.
    A line that is no row becomes a finding with its file and number, and is left out; of many of a kind the rest are
    counted.

    Raises:
        DataError: there is no such file, it is no UTF-8 as a whole, or not one row can be used.
    """
    files, findings = data_files(source)
    rows: list[Row] = []
    seen: dict[str, str] = {}
    unusable: Counter[str] = Counter()
    for path, given in files:
        for number, found in _lines(path):
            where = f"{path.name}:{number}"
            try:
                row = _row(found, given, where)
                _check_identity(row, seen)
            except _Unusable as error:
                unusable[error.kind] += 1
                if unusable[error.kind] <= MOST_TOLD:
                    findings.append(Finding(error.kind, "error", f"{where}: {error}", (where,)))
                continue
            seen[row.id] = where
            rows.append(row)
    more = {kind: lines - MOST_TOLD for kind, lines in unusable.items() if lines > MOST_TOLD}
    findings += [Finding(kind, "error", f"{lines:,} more lines are {kind}") for kind, lines in more.items()]
    if not rows:
        first = f": {findings[0].message}" if findings else ""
        raise DataError(f"{source} has no row that can be used{first}", hint="Give one JSON object a line: " + _FORM)
    return Corpus(tuple(rows), tuple(findings))


_FORM = '{"prompt": "...", "completion": "..."}.'


def data_files(source: Path) -> tuple[list[tuple[Path, str]], list[Finding]]:
    """The files to read, each with the split its name says, and a note of those that are not read."""
    if source.is_file():
        return [(source, _split_of(source))], []
    if not source.is_dir():
        raise DataError(f"{source} does not exist", hint="Name a .jsonl file, or a folder with train.jsonl.")
    found = sorted(path for path in source.iterdir() if path.suffix.lower() in (".jsonl", ".json") and path.is_file())
    named = [path for path in found if _split_of(path)]
    if len(set(map(_split_of, named))) < len(named):
        raise DataError(f"{source} has a split twice: {listed(path.name for path in named)}", hint="Keep one.")
    if not found:
        raise DataError(f"{source} has no .jsonl file", hint=f"Put rows into train.jsonl: {_FORM}")
    chosen = sorted(named, key=lambda path: SPLITS.index(_split_of(path))) or found
    notes = []
    if left := [path.name for path in found if path not in chosen]:
        notes.append(Finding("ignored-file", "note", f"not named after a split and not read: {listed(left)}"))
    return [(path, _split_of(path)) for path in chosen], notes


def _split_of(path: Path) -> str:
    """The split that a file's name says, as a picture folder's may: Train.JSONL, valid.json; '' where it says none."""
    name = path.stem.lower()
    return SPLIT_NAMES.get(name, name if name in SPLITS else "")


def _lines(path: Path) -> Iterator[tuple[int, bytes | Mapping[str, Any]]]:
    """Each line that is not empty with its number; of a file that is one list, each element with its place in it."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
            stream.seek(0)
            if head.startswith(_UTF_16):
                raise DataError(f"{path} is UTF-16, not UTF-8", hint="Save it as UTF-8.")
            if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
                yield from enumerate(_elements(path, stream.read(_LIST_BYTES + 1)), start=1)
                return
            number = 0
            while line := stream.readline(MOST_BYTES):
                number += 1
                whole = line.endswith(b"\n") or len(line) < MOST_BYTES
                while not whole and (rest := stream.readline(MOST_BYTES)):
                    whole = rest.endswith(b"\n")
                    line = b"\0" * MOST_BYTES  # `_parsed` says that it is too long
                if line.strip():
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint="Check its rights.") from error


def _elements(path: Path, data: bytes) -> list[Any]:
    if len(data) > _LIST_BYTES:
        raise DataError(f"{path} is one list of over {_LIST_BYTES >> 20} MB", hint="Write one JSON object a line.")
    try:
        found = json.loads(data.removeprefix(b"\xef\xbb\xbf").decode())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no list in JSON: {_short(error)}", hint="Mend it, or write JSON lines.") from error
    return list(found)


def _parsed(line: object) -> Mapping[str, Any]:
    """A line's object."""
    if isinstance(line, bytes):
        if len(line) >= MOST_BYTES:
            raise _Unusable("too-long", f"a line of over {MOST_BYTES >> 20} MB")
        try:
            line = json.loads(line.decode())
        except UnicodeDecodeError as error:
            raise _Unusable("not-utf-8", f"not UTF-8 at byte {error.start} of the line") from error
        except (ValueError, RecursionError) as error:
            raise _Unusable("broken-json", f"not JSON: {_short(error)}") from error
    if not isinstance(line, dict):
        raise _Unusable("broken-json", "no JSON object")
    return line


def _row(found: object, given: str, where: str) -> Row:
    record = _parsed(found)
    messages, completion, answer = _content(record)
    if not messages or messages[-1].role != "user":
        raise _Unusable("missing-field", "the last message before the completion is not the user's")
    for message in messages:
        _check_text(message.content, f"the {message.role}'s message", empty=message.role == "system")
    _check_text(completion, "the completion", empty=True)
    identity = _identity(record) or digest_of([[[m.role, m.content] for m in messages], completion])[:20]
    task, group = (_text_of(record, name) if name in record else "" for name in ("task", "group"))
    return Row(identity, messages, completion, task, answer, given, where, group, _wanted(record))


def _wanted(record: Mapping[str, Any]) -> tuple[str, ...]:
    stated = record.get("wanted", [])
    if not isinstance(stated, list) or not all(isinstance(one, str) and one.strip() for one in stated):
        raise _Unusable("missing-field", "wanted is no list of texts")
    return tuple(stated)


def _identity(record: Mapping[str, Any]) -> str:
    """What the record calls itself, or nothing."""
    stated = record.get("id", record.get("ID"))
    if isinstance(stated, int) and not isinstance(stated, bool):
        return str(stated)
    if stated is None:
        return ""
    if not isinstance(stated, str) or not stated.strip() or not stated.isprintable():
        raise _Unusable("bad-id", "the id is no printable text")
    return stated


def _content(record: Mapping[str, Any]) -> tuple[tuple[Message, ...], str, str]:
    """Messages, completion and answer of a record of any of the three forms."""
    if "question" in record and "answer" in record:
        completion = _text_of(record, "answer").strip()
        answer = completion.rpartition("####")[2].strip().replace(",", "") if "####" in completion else completion
        return (Message("user", _text_of(record, "question").strip()),), completion, answer
    if {"Body", "Question", "Answer"} <= set(record):
        problem = problem_of(_text_of(record, "Body"), _text_of(record, "Question"))
        return (Message("user", problem),), "", _number(record["Answer"])
    messages = _messages(record)
    completion = _text_of(record, "completion").strip() if record.get("completion") is not None else ""
    if messages and messages[-1].role == "assistant":  # a whole conversation: its last turn is what is learnt
        if completion:
            raise _Unusable("two-completions", "a completion beside a last message of the assistant")
        completion, messages = messages[-1].content.strip(), messages[:-1]
        if not completion:
            raise _Unusable("empty-text", "the assistant's message is empty")
    elif record.get("completion") is not None and not completion:
        raise _Unusable("empty-text", "the completion is empty: leave the field out where the teacher is to answer")
    stated = record.get("answer")
    return messages, completion, "" if stated is None else _number(stated)


def _messages(record: Mapping[str, Any]) -> tuple[Message, ...]:
    if ("prompt" in record) == ("messages" in record):
        raise _Unusable("missing-field", "it needs a prompt or messages, one of the two")
    if "prompt" in record:
        return (Message("user", _text_of(record, "prompt").strip()),)
    turns = record["messages"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise _Unusable("missing-field", "messages are no list of {role, content}")
    for turn in turns:
        if turn.get("role") not in _ROLES:
            raise _Unusable("unknown-role", f"a message's role is none of {', '.join(_ROLES)}")
    return tuple(Message(turn["role"], _text_of(turn, "content")) for turn in turns)


def _text_of(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise _Unusable("missing-field", f"{name} is {'missing' if value is None else 'no text'}")
    return value


def _number(value: object) -> str:
    """An answer as text: 51.0 is 51."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value).strip()
    raise _Unusable("missing-field", "the answer is neither text nor a number")


def _check_text(text: str, what: str, *, empty: bool) -> None:
    if not text.strip() and not empty:
        raise _Unusable("empty-text", f"{what} is empty")
    if len(text) > MOST_CHARACTERS:
        raise _Unusable("too-long", f"{what} has {len(text):,} characters, more than {MOST_CHARACTERS:,}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _Unusable("not-utf-8", f"{what} has half of a surrogate pair, which is no text")


def _check_identity(row: Row, seen: Mapping[str, str]) -> None:
    if row.id not in seen:
        return
    raise _Unusable("same-id", f"the id {row.id}, or the very same row, is at {seen[row.id]} already")


def _short(error: BaseException) -> str:
    """What is wrong, never the line itself."""
    return "nested too deep" if isinstance(error, RecursionError) else str(error).split(": line")[0][:120]
