"""The audit trail: one signed hash chain, one writer at a time.

Each line of audit/log.jsonl is a signed envelope that names the SHA-256 of the line before it. A tail that was cut
off cannot be seen in the chain itself, so audit/head holds the signed last position, and heads are exported.
Knows no event's meaning.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from toolkit.errors import EnvironmentUnfit, IntegrityError, ToolkitError, UsageError
from toolkit.seal.canonical import HEX_DIGEST, TIME, Fields, utc_now
from toolkit.seal.envelope import Signer, open_document, sign_document
from toolkit.seal.files import open_regular, read_small
from toolkit.workspace import folder_lock, write_file

FORMAT = "distil-audit/1"
KIND = "audit"
HEAD_KIND = "audit-head"
MAX_ENTRY = 64 * 1024
EVENT = r"[a-z][a-z0-9.-]{0,63}"
LOCK_WAIT = 30.0
START = "0" * 64
"""What the first entry names as its predecessor."""


@dataclass(frozen=True)
class AuditEntry:
    """One line whose signature held. `digest` is SHA-256 of the line, which the next one names as `previous`."""

    sequence: int
    previous: str
    time: str
    event: str
    uid: int
    details: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class AuditHead:
    """A position in the chain, to be kept elsewhere: whoever has it sees a later cut or rewrite."""

    sequence: int
    digest: str


@dataclass(frozen=True)
class AuditLog:
    """The trail in `folder`, signed by the key `key_id`, which `signer()` opens."""

    folder: Path
    key_id: str
    signer: Callable[[], Signer]

    @property
    def path(self) -> Path:
        return self.folder / "log.jsonl"

    def start(self, event: str, details: Mapping[str, Any]) -> None:
        """Write the first entry. Where that was cut short it is taken up; where it was done, nothing happens."""
        signer = self.signer()
        with folder_lock(self.folder, purpose="write the audit trail", wait=LOCK_WAIT):
            if (self.folder / "head").exists():
                return
            written = list(self.entries())
            if written:
                self._write_head(AuditHead(written[-1].sequence, written[-1].digest), signer)
            else:
                self._add(event, details, AuditHead(0, START), 0, signer)

    def append(self, event: str, details: Mapping[str, Any]) -> AuditEntry:
        """Add an entry; it is on disk when this returns. `details` are canonical JSON: texts, integers, lists.

        Raises:
            IntegrityError: the end of the trail is not as it was left.
        """
        signer = self.signer()
        with folder_lock(self.folder, purpose="write the audit trail", wait=LOCK_WAIT):
            last, end = self._tail()
            return self._add(event, details, AuditHead(last.sequence, last.digest), end, signer)

    def refused(self, verb: str, error: ToolkitError, **facts: str) -> None:
        """Write down that `verb` was refused. The caller raises `error`, which no trouble of the trail may hide."""
        part = error.part if isinstance(error, IntegrityError) else ""
        facts |= {"code": error.code, "part": part, "message": str(error)}
        with contextlib.suppress(ToolkitError):
            self.append(f"{verb}.refused", {name: _short(text) for name, text in facts.items()})

    def entries(self) -> Iterator[AuditEntry]:
        """All entries in order, each checked against the one before.

        Raises:
            IntegrityError: an entry was edited, removed, added or moved.
        """
        previous = START
        for sequence, line in enumerate(self._lines(), start=1):
            entry = self._read(line, sequence)
            if entry.sequence != sequence or entry.previous != previous:
                raise self._broken(f"entry {sequence} does not follow the one before it")
            previous = entry.digest
            yield entry

    def read(self, exported: AuditHead | None = None) -> tuple[AuditEntry, ...]:
        """All entries, once the chain was found to reach the signed head, and `exported` where given.

        Raises:
            IntegrityError: edited, deleted, reordered, or cut.
        """
        wanted = [self.head(), *([exported] if exported else [])]
        found = tuple(self.entries())
        for head in wanted:
            if head.sequence > len(found):
                raise self._broken(f"it ends after entry {len(found)}: its tail was cut off")
            if head.sequence and found[head.sequence - 1].digest != head.digest:
                raise self._broken(f"entry {head.sequence} is not the one that was recorded there")
        return found

    def verify(self, exported: AuditHead | None = None) -> AuditHead:
        """The last position, once everything was checked; errors as in `read`."""
        last = self.read(exported)[-1]
        return AuditHead(last.sequence, last.digest)

    def head(self) -> AuditHead:
        """The signed last position."""
        part = "audit/head"
        if not (self.folder / "head").exists():
            raise self._broken("its head is missing")
        data = read_small(self.folder / "head", MAX_ENTRY, what="audit head")
        fields = open_document(data, kind=HEAD_KIND, signers=(self.key_id,), part=part, limit=MAX_ENTRY).fields
        return AuditHead(fields.integer("sequence", low=1), fields.text("digest", HEX_DIGEST))

    def _lines(self) -> Iterator[bytes]:
        """Whole lines. What stands behind the last line break was never acknowledged: a writer was killed there."""
        try:
            with open_regular(self.path) as stream:
                while line := stream.readline(MAX_ENTRY + 2):
                    if line.endswith(b"\n"):
                        yield line[:-1]
                    elif len(line) > MAX_ENTRY:
                        raise self._broken("a line is too long")
        except FileNotFoundError:
            return
        except OSError as error:
            raise EnvironmentUnfit(f"cannot read {self.path}: {error.strerror}") from error

    def _tail(self) -> tuple[AuditEntry, int]:
        """The last whole entry and where it ends, without reading all that went before."""
        head = self.head()
        try:
            with open_regular(self.path) as stream:
                start = max(0, stream.seek(0, os.SEEK_END) - 3 * MAX_ENTRY)
                stream.seek(start)
                data = stream.read()
        except FileNotFoundError as error:
            raise self._broken("it is missing") from error
        except OSError as error:
            raise EnvironmentUnfit(f"cannot read {self.path}: {error.strerror}") from error
        end = data.rfind(b"\n") + 1
        lines = data[:end].split(b"\n")[:-1]
        if not lines:
            raise self._broken("its last entry is missing")
        found = self._from_head(head, lines[1:] if start else lines)
        if (found[0].sequence, found[0].digest) != (head.sequence, head.digest):
            raise self._broken(f"it does not end with entry {head.sequence}, as it was left")
        for before, after in pairwise(found):
            if (after.sequence, after.previous) != (before.sequence + 1, before.digest):
                raise self._broken(f"entry {after.sequence} does not follow the one before it")
        return found[-1], start + end

    def _from_head(self, head: AuditHead, lines: Sequence[bytes]) -> list[AuditEntry]:
        """The entry that the head names, and those behind it: whoever was killed, or whose disk was full, between an
        entry and its head has left one more."""
        found: list[AuditEntry] = []
        for line in reversed(lines):
            found.insert(0, self._read(line, head.sequence))
            if found[0].sequence <= head.sequence:
                return found
        return list(self.entries())[max(0, head.sequence - 1) :]

    def _read(self, line: bytes, sequence: int) -> AuditEntry:
        part = f"audit/log.jsonl (entry {sequence})"
        fields = open_document(line, kind=KIND, signers=(self.key_id,), part=part, limit=MAX_ENTRY).fields
        fields.header(FORMAT)
        return AuditEntry(
            sequence=fields.integer("sequence", low=1),
            previous=fields.text("previous", HEX_DIGEST),
            time=fields.text("time", TIME),
            event=fields.text("event", EVENT),
            uid=fields.integer("uid"),
            details=fields.record("details", _values),
            digest=hashlib.sha256(line).hexdigest(),
        )

    def _add(
        self, event: str, details: Mapping[str, Any], after: AuditHead, end: int, signer: Signer
    ) -> AuditEntry:  # fmt: skip
        payload = {
            "format": FORMAT, "critical": [], "sequence": after.sequence + 1, "previous": after.digest,
            "time": utc_now(), "event": event, "uid": os.getuid(), "details": dict(details),
        }  # fmt: skip
        line = sign_document(payload, kind=KIND, signer=signer)
        entry = self._read(line, after.sequence + 1)
        self._write(line, end)
        try:
            self._write_head(AuditHead(entry.sequence, entry.digest), signer)
        except ToolkitError:
            with contextlib.suppress(OSError):  # it is not in the trail, and whoever reads must not find it there
                os.truncate(self.path, end)
            raise
        return entry

    def _write(self, line: bytes, end: int) -> None:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
            with os.fdopen(handle, "wb") as stream:
                stream.truncate(end)
                stream.seek(end)
                stream.write(line + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise EnvironmentUnfit(
                f"cannot write {self.path}: {error.strerror}", hint="Check free space and rights."
            ) from error

    def _write_head(self, head: AuditHead, signer: Signer) -> None:
        payload = {"sequence": head.sequence, "digest": head.digest}
        write_file(self.folder / "head", sign_document(payload, kind=HEAD_KIND, signer=signer))

    def _broken(self, problem: str) -> IntegrityError:
        return IntegrityError(
            f"the audit trail was altered: {problem}", part="audit/log.jsonl",
            hint="Compare it with an exported head or a backup; `toolkit audit verify` shows where it breaks.",
        )  # fmt: skip


def parse_head(text: str) -> AuditHead:
    """A head as it was exported: `SEQUENCE:DIGEST`."""
    sequence, _, digest = text.partition(":")
    if re.fullmatch("[0-9]{1,15}", sequence) is None or re.fullmatch(HEX_DIGEST, digest) is None:
        raise UsageError(f"{text[:100]!r} is not a head of an audit trail", hint="Give it as `toolkit audit head` did.")
    return AuditHead(int(sequence), digest)


def _short(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "replace")[:500]


def _values(fields: Fields) -> Mapping[str, Any]:
    return fields.values
