"""The review set: samples of what was asked that a person should look at, and what a person said of them.

SITE/review/<id>/facts.json      when, of which request and bundle, why: nothing of the content
SITE/review/<id>/sample.parcel   the input as it came and its measures, encrypted for the site's own key
SITE/review/<id>/said.parcel     a person's label and note, encrypted too
SITE/review/wanted/<id>          a judgement whose sample another process may still hold
SITE/review/lock                 whoever looks for a request and then writes of it holds it meanwhile

Several processes may write: each input has one sample, whether it is collected or judged first. Bounded in size and
age; the oldest go first. Writing takes no secret, reading does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.keyfile import RecipientKey
from toolkit.seal.parcel import pack, unpack
from toolkit.seal.recipient import Recipient, load_recipient
from toolkit.services import Seen
from toolkit.site.settings import ReviewSettings
from toolkit.workspace import write_file

FOLDER = "review"
FACTS, SAMPLE, SAID, WANTED, LOCK = "facts.json", "sample.parcel", "said.parcel", "wanted", "lock"
KIND = "review"
PERSON = "person"
"""Why a sample is there that a person spoke about."""

_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Entry:
    """A sample's facts. `number` tells the inputs of one request apart; `agree` is None until a person has spoken;
    `held` is whether its content is there."""

    id: str
    time: str
    request_id: str
    number: int
    product: str
    bundle: str
    version: str
    task: str
    kind: str
    verdict: str
    why: tuple[str, ...]
    held: bool = True
    agree: bool | None = None
    by: str = ""
    judged: str = ""


@dataclass(frozen=True)
class Said:
    """What a person said of an answer: whether it is right, what would have been, and anything else."""

    agree: bool
    by: str
    label: str = ""
    note: str = ""


class ReviewSet:
    """The review set of the site in `site`."""

    def __init__(self, site: Path, *, keep_bytes: int, keep_days: int) -> None:
        self.folder = site / FOLDER
        self._recipient = site / "recipient.json"
        self._keep_bytes, self._keep_days = keep_bytes, keep_days

    def keep(self, entry: Entry, seen: Seen | None, said: Said | None = None) -> Entry:
        """Put a sample into the set. Without `seen`, of a judgement alone, somebody who holds it may `complete` it.

        Raises:
            EnvironmentUnfit: it cannot be written.
        """
        made = self.folder / f".{entry.id}"
        entry = replace(entry, held=seen is not None)
        try:
            made.mkdir(mode=0o700, parents=True)
            if seen is not None:
                self._write(made / SAMPLE, entry.id, _packed(seen))
            if said is not None:
                entry = self._say(made, entry, said)
            _write_facts(made, entry)
            os.rename(made, self.folder / entry.id)
            if seen is None:
                (self.folder / WANTED).mkdir(mode=0o700, exist_ok=True)
                write_file(self.folder / WANTED / entry.id, entry.request_id.encode(), mode=0o600)
        except OSError as error:
            raise EnvironmentUnfit(
                f"cannot write the review set: {error.strerror}", hint="Check free space and rights."
            ) from error
        return entry

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process or thread looks for a request and writes of it while the block runs."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with open(self.folder / LOCK, "a", opener=partial(os.open, mode=0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def of(self, request_id: str, number: int) -> Entry | None:
        """The sample of this input, if it is in the set."""
        return next((one for one in self.entries() if (one.request_id, one.number) == (request_id, number)), None)

    def take(self, entry: Entry, seen: Seen) -> None:
        """A sample that was collected; a judgement that came first gets it."""
        with self.alone():
            for judged in self.wanted():
                if (judged.request_id, judged.number) == (entry.request_id, entry.number):
                    self.complete(replace(judged, why=(*entry.why, *judged.why)), seen)
                    return
            self.keep(entry, seen)

    def judge(self, identity: str, said: Said) -> Entry:
        """A person has spoken about a sample that is there; who spoke last counts."""
        entry = self._say(self.folder / identity, self.facts(identity), said)
        _write_facts(self.folder / identity, entry)
        return entry

    def wanted(self) -> Iterator[Entry]:
        """Judgements whose samples somebody may hold."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.folder / WANTED):
                if _ID.fullmatch(name):
                    with contextlib.suppress(UsageError):
                        yield self.facts(name)

    def complete(self, entry: Entry, seen: Seen) -> None:
        """The sample of a judgement."""
        folder = self.folder / entry.id
        self._write(folder / SAMPLE, entry.id, _packed(seen))
        _write_facts(folder, replace(entry, held=True, kind=seen.kind, verdict=seen.verdict))
        (self.folder / WANTED / entry.id).unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """All facts, newest first."""
        found = []
        for path in self._folders():
            with contextlib.suppress(UsageError):
                found.append(self.facts(path.name))
        return sorted(found, key=lambda entry: (entry.time, entry.id), reverse=True)

    def facts(self, identity: str) -> Entry:
        """Facts of one sample. Raises UsageError where there is none, IntegrityError where they are damaged."""
        try:
            if not _ID.fullmatch(identity):
                raise FileNotFoundError
            record = json.loads((self.folder / identity / FACTS).read_bytes())
        except FileNotFoundError as error:
            raise UsageError(f"there is no sample {identity[:40]!r}", hint="See: toolkit review list.") from error
        try:
            return Entry(**record | {"why": tuple(record["why"])})
        except (ValueError, TypeError, KeyError) as error:
            raise IntegrityError(f"the facts of sample {identity} are damaged", part=f"{FOLDER}/{identity}") from error

    def open(self, identity: str, keys: Iterable[RecipientKey]) -> tuple[Entry, Seen | None, Said | None]:
        """A sample and what was said of it, decrypted.

        Raises:
            UsageError: there is none, or the keys are none of its. IntegrityError: it was altered.
        """
        entry, keys = self.facts(identity), tuple(keys)
        seen = said = None
        if (data := self._read(entry.id, SAMPLE, keys)) is not None:
            seen = _unpacked(data)
        if (data := self._read(entry.id, SAID, keys)) is not None:
            said = Said(**json.loads(data))
        return entry, seen, said

    def clear(self) -> None:
        """Remove the oldest where there are too many or too old ones, and what a crash left half made."""
        oldest, found = time.time() - self._keep_days * 86_400, []
        for path in self._folders():
            with contextlib.suppress(FileNotFoundError):
                size = sum(item.stat().st_size for item in path.iterdir())
                found.append((path.stat().st_mtime, size, path))
        total = sum(size for _, size, _ in found)
        for changed, size, path in sorted(found):
            if total > self._keep_bytes or changed < oldest:
                shutil.rmtree(path, ignore_errors=True)
                (self.folder / WANTED / path.name).unlink(missing_ok=True)
                total -= size
        for path in self.folder.glob(".*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - 3600:
                    shutil.rmtree(path, ignore_errors=True)

    def forget_wanted(self, seconds: float) -> None:
        """Nobody holds the samples of judgements that are older than this."""
        with contextlib.suppress(FileNotFoundError):
            for item in os.scandir(self.folder / WANTED):
                with contextlib.suppress(FileNotFoundError):
                    if item.stat().st_mtime < time.time() - seconds:
                        os.unlink(item.path)

    def _folders(self) -> list[Path]:
        try:
            return [self.folder / name for name in os.listdir(self.folder) if _ID.fullmatch(name)]
        except FileNotFoundError:
            return []

    def _say(self, folder: Path, entry: Entry, said: Said) -> Entry:
        self._write(folder / SAID, entry.id, json.dumps(asdict(said), ensure_ascii=False).encode())
        why = entry.why if PERSON in entry.why else (*entry.why, PERSON)
        return replace(entry, agree=said.agree, by=said.by, judged=now(), why=why)

    def _write(self, path: Path, name: str, data: bytes) -> None:
        parcel = pack(data, self._site(), kind=f"{KIND}/{path.name}", name=name)
        write_file(path, parcel, mode=0o600)

    def _read(self, identity: str, name: str, keys: tuple[RecipientKey, ...]) -> bytes | None:
        try:
            parcel = (self.folder / identity / name).read_bytes()
        except FileNotFoundError:
            return None
        return unpack(parcel, keys, kind=f"{KIND}/{name}", name=identity)

    def _site(self) -> Recipient:
        return load_recipient(self._recipient)


def review_set(site: Path, settings: ReviewSettings) -> ReviewSet:
    """The review set of the site in `site`, within its bounds."""
    return ReviewSet(site, keep_bytes=settings.keep_mb * 1_000_000, keep_days=settings.keep_days)


def new_entry(
    facts: Mapping[str, Any], seen: Seen | None, *, request_id: str, number: int, why: tuple[str, ...]
) -> Entry:
    """Facts of a new sample; `facts` are `product`, `bundle`, `version` and `task`."""
    kind, verdict = (seen.kind, seen.verdict) if seen else ("", "")
    return Entry(
        secrets.token_hex(8), now(), request_id, number, facts["product"], facts["bundle"], facts["version"],
        facts["task"], kind, verdict, why,
    )  # fmt: skip


def now() -> str:
    """The time as the review set writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write_facts(folder: Path, entry: Entry) -> None:
    write_file(folder / FACTS, json.dumps(asdict(entry), ensure_ascii=False).encode(), mode=0o600)


def _packed(seen: Seen) -> bytes:
    """A line of JSON, and the content behind it."""
    head = {"kind": seen.kind, "verdict": seen.verdict, "measures": dict(seen.measures), "margin": seen.margin}
    return json.dumps(head, ensure_ascii=False).encode() + b"\n" + seen.content


def _unpacked(data: bytes) -> Seen:
    head, _, content = data.partition(b"\n")
    return Seen(content=content, **json.loads(head))
