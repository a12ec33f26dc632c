"""How often a key may ask: a token bucket each, shared by all processes of a site.

A bucket is a few numbers in SITE/rates, mapped into memory: whichever worker takes a request sees the same tokens. The
file holds no names, only keyed digests of them, and losing it fills all buckets.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import mmap
import os
import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import EnvironmentUnfit, UsageError

FILE = "rates"
SLOTS = 4096
PROBES = 16

_SLOT = struct.Struct("<Qdd")  # whose, tokens left, when that was
_UNITS = {"s": 1, "m": 60, "h": 3600}
_RATE = re.compile(r"([1-9][0-9]{0,6})/([smh])")


@dataclass(frozen=True)
class Rate:
    """So many requests in so many seconds; all of them may come at once."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """`20/s`, `600/m` or `1000/h`. Raises UsageError."""
        found = _RATE.fullmatch(text)
        if found is None:
            raise UsageError(f"{text[:40]!r} is no rate", hint="Write 20/s, 600/m or 1000/h.")
        return cls(int(found[1]), _UNITS[found[2]])

    @property
    def a_second(self) -> float:
        return self.count / self.seconds


class Buckets:
    """The buckets of the site in `site`, for one thread of each process."""

    def __init__(self, site: Path) -> None:
        try:
            self._file = os.open(site / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            if os.fstat(self._file).st_size != SLOTS * _SLOT.size:
                os.ftruncate(self._file, SLOTS * _SLOT.size)
            # A hole would be filled when it is written through the map; on a full disk that is a SIGBUS.
            os.posix_fallocate(self._file, 0, SLOTS * _SLOT.size)
            self._memory = mmap.mmap(self._file, SLOTS * _SLOT.size)
        except OSError as error:
            raise EnvironmentUnfit(
                f"cannot write {site / FILE}: {error.strerror}", hint="Check free space and rights."
            ) from error

    def take(self, name: str, rate: Rate) -> float:
        """Take a token of `name`'s bucket: 0 where there was one, else the seconds until there is."""
        tag = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, person=b"toolkit-rate").digest(), "little")
        now = time.time()
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            place, tokens, when = self._find(tag, now)
            if when == 0:
                tokens = float(rate.count)
            tokens = min(float(rate.count), tokens + max(0.0, now - when) * rate.a_second)
            taken = tokens >= 1
            _SLOT.pack_into(self._memory, place, tag, tokens - 1 if taken else tokens, now)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return 0.0 if taken else (1 - tokens) / rate.a_second

    def _find(self, tag: int, now: float) -> tuple[int, float, float]:
        """The slot of a bucket; a new one takes an empty slot near by, or the one unused for longest."""
        oldest, since = 0, math.inf
        for probe in range(PROBES):
            place = (tag + probe) % SLOTS * _SLOT.size
            whose, tokens, when = _SLOT.unpack_from(self._memory, place)
            if whose == tag and when <= now + 1:
                return place, tokens, when
            if when < since:
                oldest, since = place, when
        return oldest, 0.0, 0.0
