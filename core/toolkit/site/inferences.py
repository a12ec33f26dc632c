"""The trail of inferences: who asked what was served, and how it ended. One hash chain a process that writes.

Signing every line would take longer than a small model's answer. So a line names the SHA-256 of the line before it, and
the last of them is signed into the site's own trail (`audit`) every few minutes and when the writer stops. What was
signed cannot be altered, moved or left out afterwards without being found; nor can a whole chain be taken away, since
the trail says that it was begun. Knows no model and no request.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toolkit.errors import EnvironmentUnfit
from toolkit.site.audit import START, AuditLog
from toolkit.site.inference_chain import BEGUN, REMOVED, SEALED, Walk, known_streams, last_line, segments
from toolkit.workspace import flush_folder

SEGMENT_BYTES = 64 * 2**20
MOST_WAITING = 10_000
"""Lines held in memory while the disk takes none; nothing is answered then, so these are of requests in progress."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # made once: half the cost of a line


class InferenceLog:
    """Writes one stream of the site's trail of inferences; `audit` is where its head is signed.

    Every method may be called from any thread.

    Args:
        folder: of all streams of a site.
        keep_bytes, keep_days: what is kept of them; older segments are removed, and that is signed.
    """

    def __init__(self, folder: Path, audit: Callable[[], AuditLog], *, keep_bytes: int, keep_days: int) -> None:
        self.folder, self._audit = folder, audit
        self._keep_bytes, self._keep_days = keep_bytes, keep_days
        self._guard = threading.Lock()
        self._file: int | None = None
        self._day = 0
        self._size = self._sequence = self._sealed = 0
        self._digest = START
        self._time = ""
        self._waiting: list[bytes] = []
        self.stream = secrets.token_hex(8)

    def begin(self) -> None:
        """Let the signed trail know of the stream, and make its file.

        Raises:
            EnvironmentUnfit: neither can be written.
        """
        self._audit().append(BEGUN, {"stream": self.stream})
        with self._guard:
            try:
                self._open(1)
            except OSError as error:
                raise _unwritable(error) from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line, once it was begun. Where the disk takes none it waits in memory, and `check` refuses the next."""
        with self._guard:
            if len(self._waiting) >= MOST_WAITING:
                return
            self._time = max(self._time, _now())  # a clock that is set back changes nothing in the order of lines
            head = {"sequence": self._sequence + 1, "previous": self._digest, "time": self._time}
            line = _encode(head | dict(record)).encode() + b"\n"
            self._sequence += 1
            self._digest = hashlib.sha256(line[:-1]).hexdigest()
            self._waiting.append(line)
            with contextlib.suppress(OSError):
                self._write()

    def check(self) -> None:
        """Write what waits.

        Raises:
            EnvironmentUnfit: the trail cannot be written, so that nothing may be answered.
        """
        if not self._waiting:
            return
        with self._guard:
            try:
                self._write()
            except OSError as error:
                raise _unwritable(error) from error

    def seal(self) -> None:
        """Flush what was written, and sign for it; nothing happens where nothing is new."""
        with self._guard:
            sequence, digest, file = self._sequence, self._digest, self._file
            if file is None or sequence == self._sealed or self._waiting:
                return
            os.fsync(file)
            self._sealed = sequence
        self._audit().append(SEALED, {"stream": self.stream, "sequence": sequence, "digest": digest})

    def close(self) -> None:
        """Sign for the last line, and write no more."""
        self.seal()
        with self._guard:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def adopt(self) -> None:
        """Sign for what writers that died left unsigned; a stream that is still written is left alone."""
        known = known_streams(self._audit().entries())
        for stream, parts in segments(self.folder).items():
            with contextlib.suppress(BlockingIOError), parts[-1].path.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stream not in known or stream == self.stream:
                    continue
                sequence, digest = Walk(stream, known[stream]).over(parts)
                if sequence > known[stream].last:
                    self._audit().append(SEALED, {"stream": stream, "sequence": sequence, "digest": digest})

    def clear(self) -> None:
        """Remove the oldest segments where there are too many or too old ones, and sign that before."""
        found = [(part, part.path.stat()) for parts in segments(self.folder).values() for part in parts]
        found.sort(key=lambda one: one[1].st_mtime)
        total, oldest = sum(status.st_size for _, status in found), time.time() - self._keep_days * 86400
        for part, status in found:
            if total <= self._keep_bytes and status.st_mtime >= oldest:
                return
            with contextlib.suppress(BlockingIOError), part.path.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                sequence, digest = last_line(part)
                self._audit().append(REMOVED, {"stream": part.stream, "sequence": sequence, "digest": digest})
                part.path.unlink()
                total -= status.st_size

    def _write(self) -> None:
        """Under the guard: all that waits, into the segment of the day."""
        while self._waiting:
            line = self._waiting[0]
            if self._size and (self._size >= SEGMENT_BYTES or _day() != self._day):
                self._open(self._sequence - len(self._waiting) + 1)
            file = self._file
            if file is None:
                raise ValueError("the stream was not begun, or is closed")
            if os.write(file, line) != len(line):  # a full disk takes a part: what stands there is cut off again
                os.ftruncate(file, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += len(line)
            del self._waiting[0]

    def _open(self, first: int) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        path = self.folder / f"{self.stream}-{first:012}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(path, flags, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
        self._file, self._size, self._day = file, os.fstat(file).st_size, _day()
        flush_folder(self.folder)


def _day() -> int:
    return int(time.time() // 86_400)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _unwritable(error: OSError) -> EnvironmentUnfit:
    return EnvironmentUnfit(
        f"the trail of inferences cannot be written: {error.strerror}", hint="Check free space and rights."
    )
