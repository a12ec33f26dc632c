"""Running programs that a model wrote: without network, without privileges, seeing nothing of this machine but Python.

bubblewrap shuts a program into namespaces of its own; resource limits bound what it takes there. Where that cannot be
had nothing is run.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from toolkit.errors import EnvironmentUnfit

BWRAP = "bwrap"

_ALONE = (
    "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent",
    "--new-session", "--clearenv", "--cap-drop", "ALL", "--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev",
    "--size", "16777216", "--perms", "1777", "--tmpfs", "/tmp", "--chdir", "/tmp",
)  # fmt: skip
_NOBODY = ("--unshare-user", "--uid", "65534", "--gid", "65534")
_ROOT = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
"""Root, whom no limit binds, becomes nobody inside, and loses both with it."""

_INSIDE = """
import os, resource, sys
if os.getuid() == 0:
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
seconds, memory, mark = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
program = sys.stdin.read()
for what, most in (
    (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 1 << 20),
    (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_NPROC, 16), (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(what, (most, most))
del sys.argv[1:]
exec(compile(program, "answer", "exec"), {"__name__": "answer"})
sys.stdout.flush()
print("\\n" + mark)
"""


@dataclass(frozen=True)
class Ran:
    """How a program ended: whether it ran to its end, and where not, why."""

    passed: bool
    because: str = ""


@dataclass(frozen=True)
class Sandbox:
    """Where programs run.

    Args:
        seconds: of a program, at most, by the clock and by the processor.
        memory: bytes that a program may hold.
    """

    seconds: int = 10
    memory: int = 1 << 30

    def check(self) -> None:
        """Raises EnvironmentUnfit: programs cannot be shut in here."""
        found = self._run("pass")
        if not found.passed:
            raise EnvironmentUnfit(
                f"programs that a model wrote cannot be shut in here: {found.because}",
                hint="Install bubblewrap (apt install bubblewrap), and allow user namespaces.",
            )

    def run(self, programs: Sequence[str]) -> list[Ran]:
        """Every program by itself, as many at once as there are processors.

        Raises:
            EnvironmentUnfit: they cannot be shut in.
        """
        self.check()
        with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
            return list(pool.map(self._run, programs))

    def _run(self, program: str) -> Ran:
        if shutil.which(BWRAP) is None:
            return Ran(False, "bubblewrap is not installed")
        mark = secrets.token_hex(16)  # a program that leaves early cannot say it
        inside = [sys.executable, "-I", "-c", _INSIDE, str(self.seconds), str(self.memory), mark]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                subprocess.run(
                    [BWRAP, *_ALONE, *(_NOBODY if os.geteuid() else _ROOT), *self._seen, "--", *inside],
                    input=program.encode("utf-8", "replace"), stdout=out, stderr=err, timeout=self.seconds + 5,
                    check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return Ran(False, f"it took more than {self.seconds} s")
            if _end(out).endswith(f"\n{mark}\n"):
                return Ran(True)
            return Ran(False, _end(err).strip().rpartition("\n")[2] or "it ended early")

    @cached_property
    def _seen(self) -> list[str]:
        """What of this machine a program sees, read-only: Python, and what that loads."""
        prefixes = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
        folders = [Path("/usr"), *sorted(prefixes), Path("/etc/alternatives"), Path("/etc/ld.so.cache")]
        above = {parent: None for one in folders for parent in reversed(one.parents[:-1])}
        found = [piece for one in above for piece in ("--perms", "0755", "--dir", str(one))]
        found += [piece for one in folders if one.exists() for piece in ("--ro-bind", str(one), str(one))]
        for name in ("lib", "lib64", "bin"):
            here = Path("/", name)
            if here.is_symlink():
                found += ["--symlink", str(here.readlink()), str(here)]
            elif here.exists():
                found += ["--ro-bind", str(here), str(here)]
        return found


def _end(file: IO[bytes], most: int = 4096) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - most))
    return file.read().decode("utf-8", "replace")
