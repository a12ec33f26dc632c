"""Joining a Ray cluster for as long as there is work, or starting a Ray of one's own and stopping it again."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before Ray is imported: a Ray of one's own listens on the loopback alone, and an address there stays one. This is how
# Ray is told, on any system; clusters that lie elsewhere are joined all the same.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray

from toolkit.errors import EnvironmentUnfit
from toolkit_executor_ray.crew import RayWorkers
from toolkit_executor_ray.settings import SECTION, RaySettings

TOKEN = Path(".ray") / "auth_token"
"""Where Ray looks for the token of a cluster, in the user's home."""

REACHED_S = 10.0
"""Longest that a cluster's address may take to answer."""


@contextmanager
def connected(settings: RaySettings) -> Iterator[RayWorkers]:
    """Workers of that cluster until the block ends; then nothing of this process is left there.

    Raises:
        EnvironmentUnfit: it cannot be reached, has no room for a piece, or this process is in another already.
    """
    if ray.is_initialized():
        raise EnvironmentUnfit("this process is part of a Ray cluster already", hint="Call ray.shutdown() first.")
    with _own_signals():
        try:
            if ":" in settings.address:  # Ray itself would try for many minutes
                host, _, port = settings.address.rpartition(":")
                socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_S).close()
            ray.init(**(_joining(settings) if settings.address else _starting(settings)))
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise EnvironmentUnfit(
                f"Ray {settings.address or 'on this machine'} does not answer: {_first_line(error)}",
                hint=f"Check {SECTION}.address, and that this machine is a node: ray start --address=HOST:PORT.",
            ) from error
        try:
            workers = RayWorkers(settings)
            try:
                yield workers
            finally:
                workers.end()
        finally:
            ray.shutdown()


def _joining(settings: RaySettings) -> dict[str, Any]:
    return {"address": settings.address, "log_to_driver": False, "logging_level": "error"}


def _starting(settings: RaySettings) -> dict[str, Any]:
    if "RAY_AUTH_TOKEN_PATH" not in os.environ and not (Path.home() / TOKEN).exists():
        # Else Ray would leave a token in the home; this one lives as long as this process.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return {
        "address": "local",
        "num_cpus": max(settings.cpus, settings.workers * settings.cpus or len(os.sched_getaffinity(0))),
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "error",
        "_system_config": {"task_oom_retries": settings.retries},
    }


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself and does not give it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
