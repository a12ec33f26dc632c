"""Plaintext in RAM: buffers that are kept out of core dumps and wiped, and a process that leaves no dump.

What it cannot do: keep out an administrator of the machine, or wipe the copies that a runtime makes for itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import resource
import sys
from dataclasses import dataclass

PR_SET_DUMPABLE = 4
MLOCK_ONFAULT = 1


class SecretBuffer:
    """Anonymous memory of `size` bytes: not in core dumps, locked where the limit allows, zeroed by `wipe()`.

    In huge pages where the system has them: with pages of 4 KiB, filling and wiping takes longer than decrypting.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        # Private, not Python's default of shared: shared memory lies in a file system in RAM, and costs more to fill.
        self._memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in ("MADV_DONTDUMP", "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError, AttributeError):
                self._memory.madvise(getattr(mmap, advice))
        self.locked = _lock(self._memory)

    @property
    def view(self) -> memoryview:
        """Writable view of the whole buffer; release it before `wipe()` to give the memory back at once."""
        return memoryview(self._memory)[: self.size]

    def wipe(self) -> None:
        """Zero the memory and give it back. A view still held by somebody then shows zeros."""
        if self._memory.closed:
            return
        ctypes.memset(_address(self._memory), 0, self.size)
        with contextlib.suppress(BufferError):
            self._memory.close()

    def __repr__(self) -> str:
        return f"SecretBuffer({self.size} bytes)"


@dataclass(frozen=True)
class Hardening:
    """What `harden_process` reached on this machine."""

    core_dumps_off: bool
    not_dumpable: bool


def harden_process() -> Hardening:
    """No core dumps, and no attaching or reading of this process's memory by its own user (Linux)."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        core_dumps_off = True
    except (OSError, ValueError):
        core_dumps_off = False
    if not sys.platform.startswith("linux"):
        return Hardening(core_dumps_off, False)
    return Hardening(core_dumps_off, ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)


def _lock(memory: mmap.mmap) -> bool:
    """Keep the pages out of swap, each from when it is first written. RLIMIT_MEMLOCK is small on many systems; then
    they are not locked."""
    if not sys.platform.startswith("linux"):
        return False
    where, size = ctypes.c_void_p(_address(memory)), ctypes.c_size_t(len(memory))
    return bool(ctypes.CDLL(None).mlock2(where, size, MLOCK_ONFAULT) == 0)


def _address(memory: mmap.mmap) -> int:
    """Where it begins; it stays there until it is closed."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
