"""Processes that die in the middle of writing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable


def killed_at(point: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that kills itself at its `point`-th touch of the file system; False where it ended first.

    Audit events come before the system call they announce.
    """
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, _: object) -> None:
            nonlocal count
            if event == "open" or event.startswith(("os.", "shutil.")):
                count += 1
                if count == point:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
