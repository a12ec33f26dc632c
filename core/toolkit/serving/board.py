"""Memory that the processes of one server share: each has a place to which it alone writes, and all may read.

What stands there is small and no secret: figures, and how each one is. It is anonymous memory, made before the workers
are forked, so nothing of it is ever on a disk.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Mapping
from typing import Any

PLACE_BYTES = 1 << 20
"""Of which only the pages that are written to take memory."""

_HEAD = struct.Struct("<II")  # bytes that follow, and their CRC-32
_TRIES = 5


class Board:
    """`places` records of JSON. A reader sees a record of before or of after, never a part."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._memory = mmap.mmap(-1, places * PLACE_BYTES)
        self._last: dict[int, Mapping[str, Any]] = {}

    def write(self, place: int, record: Mapping[str, Any]) -> None:
        """Replace the record of a place; one that is too large for it is left as it was."""
        data = zlib.compress(json.dumps(record, ensure_ascii=False).encode(), 1)
        if len(data) > PLACE_BYTES - _HEAD.size:
            return
        start = place * PLACE_BYTES
        body = start + _HEAD.size
        self._memory[start:body] = _HEAD.pack(0, 0)
        self._memory[body : body + len(data)] = data
        self._memory[start:body] = _HEAD.pack(len(data), zlib.crc32(data))

    def read(self, place: int) -> Mapping[str, Any]:
        """What was written last; nothing where nobody has written."""
        start = place * PLACE_BYTES
        body = start + _HEAD.size
        for _ in range(_TRIES):  # its writer may be at it
            size, check = _HEAD.unpack(self._memory[start:body])
            data = self._memory[body : body + size]
            if size and zlib.crc32(data) == check:
                self._last[place] = json.loads(zlib.decompress(data))
                break
        return self._last.get(place, {})

    def clear(self, place: int) -> None:
        """Whoever wrote there is gone."""
        self.write(place, {})
