"""Benchmarks as they are handed out: files of rows, whose keys tell what kind of question each holds.

The known ones are read as their authors publish them; a file or folder of one's own in any of the same shapes is one
too. Nothing is fetched: what is not here is said to be absent, and where it can be had.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.benchmarks.forms import CHOICE, LETTERS, NUMBER, PROGRAM, Form, Question
from toolkit.errors import DataError

WHERE: Mapping[str, str] = {
    "gsm8k": "train.jsonl and test.jsonl of github.com/openai/grade-school-math (grade_school_math/data)",
    "svamp": "SVAMP.json of github.com/arkilpatel/SVAMP",
    "humaneval": "HumanEval.jsonl.gz of github.com/openai/human-eval (data)",
    "mmlu": "the folders dev and test of data.tar of github.com/hendrycks/test",
}
"""The known benchmarks, and what each is read from."""

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".csv")
EXAMPLES, TESTS = frozenset({"train", "dev"}), frozenset({"test"})


@dataclass(frozen=True)
class Benchmark:
    """Questions of one form, and examples that may stand before them. `digest` is SHA-256 over all that was read."""

    name: str
    form: Form
    questions: Sequence[Question]
    examples: Sequence[Question]
    digest: str


def read_benchmark(which: str, data: Path | None, home: Path) -> Benchmark:
    """A known benchmark by its name, out of `data` or else HOME/benchmarks/NAME; or a file or folder of one's own.

    Raises:
        DataError: it is absent, or holds what is no question.
    """
    folder = data or (home / "benchmarks" / which if which in WHERE else Path(which))
    if not folder.exists():
        known = f"Put {WHERE[which]} there, or name its folder: --data FOLDER." if which in WHERE else (
            f"Known: {', '.join(WHERE)}; or the path of a file or folder of questions."
        )  # fmt: skip
        raise DataError(f"the benchmark {which} is not here: there is no {folder}", hint=known)
    digest = hashlib.sha256()
    files = _files(folder)
    found = {
        split: [question for path in paths for question in _questions(path, digest)] for split, paths in files.items()
    }
    forms = list(dict.fromkeys(form for rows in found.values() for form, _ in rows))
    if not found["test"]:
        raise DataError(f"{folder} holds no question", hint=f"Files that end in {', '.join(ENDINGS)} are read.")
    if len(forms) > 1:
        raise DataError(f"{folder} mixes {' and '.join(form.name for form in forms)}s", hint="One kind a benchmark.")
    tests, examples = ([question for _, question in found[split]] for split in ("test", "examples"))
    return Benchmark(which if which in WHERE else folder.name, forms[0], tests, examples, digest.hexdigest())


def _files(folder: Path) -> Mapping[str, Sequence[Path]]:
    """Files of questions and of examples, by the names of the files and of the folders that they lie in."""
    if folder.is_file():
        return {"test": [folder], "examples": []}
    every = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(ENDINGS))
    words = {path: _words(path.relative_to(folder)) for path in every}
    examples = [path for path in every if words[path] & EXAMPLES]
    tests = [path for path in every if words[path] & TESTS]
    return {"test": tests or [path for path in every if path not in examples], "examples": examples}


def _words(path: Path) -> frozenset[str]:
    """Of a path's folders and of its file, without their endings."""
    return frozenset(word for part in path.parts for word in re.split("[_-]", part.partition(".")[0].lower()))


def _questions(path: Path, digest: Any) -> Iterator[tuple[Form, Question]]:
    opened = path.read_bytes()
    digest.update(path.name.encode() + b"\0" + opened)
    try:
        text = (gzip.decompress(opened) if path.name.endswith(".gz") else opened).decode("utf-8-sig")
        rows = list(_rows(path, text))
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="Compare it with the original.") from error
    subject = path.stem.removesuffix("_test").removesuffix("_dev").replace("_", " ")
    for number, row in enumerate(rows):
        try:
            yield question_of(row, f"{path.name.partition('.')[0]}/{number}", subject)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"{path}, row {number + 1}: no question can be made of {str(row)[:120]}",
                hint="A row has question and answer; or question, choices and answer; or prompt, test and entry_point.",
            ) from error


def _rows(path: Path, text: str) -> Iterator[Any]:
    if path.suffix == ".csv":
        yield from csv.reader(text.splitlines(keepends=True))
    elif path.suffix == ".json":
        if not isinstance(rows := json.loads(text), list):
            raise ValueError("a list of rows is wanted")
        yield from rows
    else:
        yield from (json.loads(line) for line in text.split("\n") if line.strip())


def question_of(row: Any, identity: str, subject: str = "") -> tuple[Form, Question]:
    """A row as a question, by its keys; a CSV's row as MMLU has it: question, choices, letter.

    Raises:
        KeyError, TypeError, ValueError, IndexError: it is none.
    """
    if isinstance(row, list):
        asked, *choices, letter = row
        return CHOICE, Question(identity, asked, _letter(letter, choices), tuple(choices), subject)
    if "entry_point" in row:
        name = str(row.get("task_id", identity))
        return PROGRAM, Question(name, str(row["prompt"]), str(row["test"]), entry=str(row["entry_point"]))
    if "choices" in row:
        choices = [str(choice) for choice in row["choices"]]
        part = str(row.get("subject", subject)).replace("_", " ")
        return CHOICE, Question(identity, str(row["question"]), _letter(row["answer"], choices), tuple(choices), part)
    if "Body" in row:
        asked = problem_of(str(row["Body"]), str(row["Question"]))
        return NUMBER, Question(str(row.get("ID", identity)), asked, f"{row['Equation']}\n#### {row['Answer']:g}")
    return NUMBER, Question(str(row.get("id", identity)), str(row["question"]), str(row["answer"]))


def problem_of(body: str, question: str) -> str:
    """SVAMP's two parts of a problem as one text."""
    body = body.strip()
    joint = " " if body.endswith((".", "!", "?", ",")) else ". "
    return body + joint + question.strip()


def _letter(answer: Any, choices: Sequence[str]) -> str:
    """The letter of the right choice, which is given as its place, as its letter, or in full."""
    letters = LETTERS[: len(choices)]
    if len(choices) < 2 or len(letters) < len(choices):
        raise ValueError("2 to 10 choices")
    if isinstance(answer, int):
        return letters[answer]
    return answer if len(answer) == 1 and answer in letters else letters[choices.index(answer)]
