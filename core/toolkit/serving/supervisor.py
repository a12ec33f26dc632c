"""The process that starts a server's workers, and starts one anew where it dies.

It owns the listening socket: connections that come while a worker is missing wait in its backlog, or go to another
one. It opens no model, no key and no session itself, so that forking is safe and a worker's death takes nothing with
it; what is slow to import it has imported, so that a new worker answers at once. Knows nothing of models or HTTP.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from toolkit.errors import EnvironmentUnfit, ToolkitError
from toolkit.serving.board import Board
from toolkit.serving.crew import PARENT
from toolkit.serving.gathering import gathered

MOST = 64
"""Workers of one server."""
STEADY_SECONDS = 10.0
"""A worker that lived so long did not die of its start: the next one is started at once."""
BACK_OFF = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before another start, after so many deaths that came too soon one after the other."""
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Duty:
    """What a new worker is told: its place on the board, where to say that it is ready, and whom it replaces."""

    place: int
    board: Board
    ready: Callable[[Mapping[str, Any]], None]
    replaces: Mapping[str, str]


Work = Callable[[Duty], None]
"""A worker's whole life, in its own process: it comes to life, says that it is ready, serves, and returns when it was
asked to end (SIGTERM) and has answered what it had in hand."""


@dataclass
class _Worker:
    place: int
    process: BaseProcess
    told: Connection
    started: float
    heard: bool = False
    """Whether it said what it had to say: that it is ready, or why it does not come to life."""


@dataclass
class Supervisor:
    """Args:
    work: what each worker does.
    drain_seconds: how long one may take to end.
    buried: told the place of a worker that died.
    """

    work: Work
    drain_seconds: float
    buried: Callable[[int], object] = lambda place: None
    board: Board = field(default_factory=lambda: Board(MOST + 1))
    wanted: int = 1
    restarts: int = 0
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _due: dict[int, float] = field(default_factory=dict)
    _begun: bool = False
    _early: int = 0
    _last: Mapping[str, str] = field(default_factory=dict)
    _dead: dict[int, Mapping[str, str]] = field(default_factory=dict)
    """By place, whom the next worker there replaces."""
    _gone: str = ""

    def run(self, listener: socket.socket, first: Callable[[Mapping[str, Any]], int]) -> None:
        """Run workers until SIGTERM or SIGINT; then have all of them answer what they have in hand, and return.

        Args:
            listener: closed as soon as the end begins, so that nobody is kept waiting in its backlog.
            first: called with what the first worker said of itself when it was ready; how many there are to be.

        Raises:
            ToolkitError: the first worker did not come to life, and why.
        """
        with _signals() as signalled:
            try:
                self._start(1)
                while not self._ended(signalled, first):
                    pass
            finally:
                listener.close()
                self._end()

    def _ended(self, signalled: socket.socket, first: Callable[[Mapping[str, Any]], int]) -> bool:
        """Wait for something to happen, and see to it; whether it was the signal to end."""
        workers = list(self._workers.values())
        watched: list[Connection | socket.socket | int] = [signalled, *(one.process.sentinel for one in workers)]
        watched += [one.told for one in workers if not one.heard]
        left = max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None
        happened = wait(watched, left)
        if signalled in happened:
            return True
        for worker in workers:
            if worker.told in happened:
                self._hear(worker, first)
            if worker.process.sentinel in happened:
                self._bury(worker)
        for place, due in list(self._due.items()):
            if due <= time.monotonic():
                del self._due[place]
                self._start(place)
        return False

    def _start(self, place: int) -> None:
        here, there = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")
        gc.freeze()  # a worker's collector leaves what it shares with its parent alone, and its pages shared
        others = [here, *(worker.told for worker in self._workers.values())]
        process = context.Process(target=self._live, args=(place, there, others, os.getpid()), name=f"worker-{place}")
        with _held_back():  # what it is sent before it has signals of its own, it hears then
            process.start()
        there.close()
        self._workers[place] = _Worker(place, process, here, time.monotonic())
        self._tell()

    def _live(self, place: int, told: Connection, others: list[Connection], parent: int) -> None:
        """In the worker's process."""
        _end_with(parent)
        for connection in others:
            connection.close()
        try:
            self.work(Duty(place, self.board, lambda record: told.send(dict(record)), self._dead.get(place, {})))
        except ToolkitError as error:
            with contextlib.suppress(OSError):
                told.send(error)
            sys.exit(error.exit_code)

    def _hear(self, worker: _Worker, first: Callable[[Mapping[str, Any]], int]) -> None:
        worker.heard = True
        try:
            said = worker.told.recv()
        except EOFError:  # it died without a word
            return
        if isinstance(said, ToolkitError):
            if not self._begun:
                raise said
            _say(f"worker {worker.place} does not come to life: {said}")
        elif not self._begun:
            self._begun = True
            self.wanted = max(1, min(first(said), MOST))
            for place in range(2, self.wanted + 1):
                self._start(place)

    def _bury(self, worker: _Worker) -> None:
        worker.process.join()
        worker.told.close()
        code, pid = worker.process.exitcode or 0, worker.process.pid
        lived = time.monotonic() - worker.started
        if not self._begun:
            raise EnvironmentUnfit(f"the server {_how(code)} while it came to life")
        if figures := self.board.read(worker.place).get("metrics"):
            self._gone = gathered([self._gone, str(figures)], counted_only=True).decode()
        self.board.clear(worker.place)
        self.buried(worker.place)
        del self._workers[worker.place]
        self._early = 0 if lived >= STEADY_SECONDS else self._early + 1
        pause = BACK_OFF[min(max(self._early - 1, 0), len(BACK_OFF) - 1)]
        self.restarts += 1
        self._last = self._dead[worker.place] = {
            "pid": str(pid), "place": str(worker.place), "why": _how(code), "lived_seconds": f"{lived:.1f}",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip
        after = f" in {pause:g} seconds" if pause else ""
        _say(f"worker {worker.place} (process {pid}) {_how(code)} after {lived:.1f} seconds; another is started{after}")
        self._due[worker.place] = time.monotonic() + pause
        self._tell()

    def _end(self) -> None:
        """All workers together drain; one that does not end is killed."""
        for worker in self._workers.values():
            worker.process.terminate()
        deadline = time.monotonic() + self.drain_seconds + 10
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                _say(f"worker {worker.place} does not end, and is killed")
                worker.process.kill()
                worker.process.join()

    def _tell(self) -> None:
        """What the workers show of their parent: its figures, and those of who is gone."""
        registry = CollectorRegistry()
        Counter("toolkit_worker_restarts", "Workers that died and were replaced.", registry=registry).inc(self.restarts)
        Gauge("toolkit_workers", "Workers that there are to be.", registry=registry).set(self.wanted)
        figures = generate_latest(registry).decode() + self._gone
        told = {"pid": os.getpid(), "wanted": self.wanted, "restarts": self.restarts, "metrics": figures}
        self.board.write(PARENT, told | ({"last": self._last} if self._last else {}))


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that can be read once a signal to end came."""
    here, there = socket.socketpair()
    there.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in _ENDING}
    woken = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    try:
        yield here
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        here.close()
        there.close()


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """The signals to end wait while the block runs; a process that is forked within holds them back until it lets them
    through."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def _end_with(parent: int) -> None:
    """In a worker: its own signals, and an end with its parent's. A terminal's Ctrl-C is its parent's to hear."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(0)


def _how(code: int) -> str:
    """What an exit code says."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _say(line: str) -> None:
    sys.stderr.write(f"server: {line}\n")
    sys.stderr.flush()
