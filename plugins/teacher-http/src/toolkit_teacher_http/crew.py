"""Many prompts at a time: workers in an event loop of its own thread, prompts in, answers out.

Prompts are read by a thread apart, for reading may block; a prompt is read only while there is room for its answer, and
who asks for the next answer makes room for one more. So whoever writes an answer down before asking for the next has
never more than `concurrency` paid for and not written down, whenever the process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any
from weakref import WeakSet

from toolkit.errors import Refused
from toolkit.text import Completion, Prompt
from toolkit_teacher_http.asking import Asker, GivenUp
from toolkit_teacher_http.exchange import open_client
from toolkit_teacher_http.money import BudgetSpent, Ledger
from toolkit_teacher_http.settings import SECTION, HttpSettings

PATIENCE_S = 0.2
"""How long closing waits for the thread that reads prompts, which may be stuck where only its source can free it."""


@dataclass(frozen=True)
class _End:
    error: BaseException | None


class HttpAnswers(Iterator[Completion]):
    """Answers as they come: asked for from the first `next()` on, until `close()`, or until nobody holds this."""

    def __init__(self, begin: Callable[[], Crew]) -> None:
        self._begin, self._closed, self._lock = begin, False, threading.Lock()
        self._crew: Crew | None = None

    def __next__(self) -> Completion:
        with self._lock:
            if self._crew is None and not self._closed:
                self._crew = self._begin()
        if self._crew is None:
            raise StopIteration
        return self._crew.take()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        if self._crew is not None:
            self._crew.close()

    def __del__(self) -> None:
        self.close()


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that can hang up all its connections: one that comes about in the moment in which who wanted it is
    cancelled belongs to nobody, and would stay open."""

    def __init__(self) -> None:
        super().__init__()
        self._opened: WeakSet[asyncio.Transport] = WeakSet()

    async def create_connection(self, *where: Any, **how: Any) -> Any:
        made = await super().create_connection(*where, **how)
        self._opened.add(made[0])
        return made

    def hang_up(self) -> None:
        for transport in list(self._opened):
            transport.abort()


class Crew:
    """One asking: two threads, from `start()` to `close()`."""

    def __init__(
        self, settings: HttpSettings, key: str | None, prompts: Iterable[Prompt], *, spent: float, currency: str
    ) -> None:
        self._settings, self._key, self._spent, self._currency = settings, key, spent, currency
        self._prompts = iter(prompts)
        self._room = threading.Semaphore(settings.concurrency - 1)  # the first `take` makes it whole
        self._closed = threading.Event()
        self._out: SimpleQueue[Completion | _End] = SimpleQueue()
        self._read = self._answered = 0
        self._unreadable: BaseException | None = None
        self._loop = _Loop()
        self._runner = asyncio.Runner(loop_factory=lambda: self._loop)
        self._inbox: asyncio.Queue[Prompt | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._threads = [
            threading.Thread(target=target, name=f"teacher-http-{name}", daemon=True)
            for target, name in ((self._run, "ask"), (self._feed, "read"))
        ]

    def start(self) -> Crew:
        for thread in self._threads:
            thread.start()
        return self

    def take(self) -> Completion:
        """The next answer; the one before is done with. An error comes after what was under way with it. Raises
        StopIteration at the end."""
        self._room.release()
        item = self._out.get()
        if isinstance(item, _End):
            self._out.put(_End(None))  # whoever asks again is told again
            self.close()
            raise item.error or StopIteration
        return item

    def close(self) -> None:
        self._closed.set()
        self._room.release()
        self._in_loop(self._cancel)
        asking, reading = self._threads
        asking.join()
        reading.join(PATIENCE_S)

    def _in_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is there to be told
            self._loop.call_soon_threadsafe(call)

    # --- the thread that reads prompts ---------------------------------------------------------------------------

    def _feed(self) -> None:
        try:
            while self._room.acquire() and not self._closed.is_set():
                prompt = next(self._prompts, None)
                if prompt is None:
                    break
                self._read += 1
                self._in_loop(lambda prompt=prompt: self._inbox.put_nowait(prompt))  # type: ignore[misc]
            self._in_loop(self._send_home)
        except BaseException as error:  # noqa: BLE001 - raised again by answers()
            self._unreadable = error
            self._in_loop(self._cancel)

    # --- the thread of the event loop ----------------------------------------------------------------------------

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with self._runner:
                self._runner.run(self._work())
        except asyncio.CancelledError:
            error = self._unreadable
        except BaseException as found:  # noqa: BLE001 - raised again by answers()
            error = found
        self._out.put(_End(error))

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _send_home(self) -> None:
        for _ in range(self._settings.concurrency):
            self._inbox.put_nowait(None)

    async def _work(self) -> None:
        self._task = asyncio.current_task()
        if self._closed.is_set() or self._unreadable is not None:
            raise asyncio.CancelledError
        settings = self._settings
        ledger = Ledger(
            price_in=settings.price_in, price_out=settings.price_out, budget=settings.budget, spent=self._spent
        )
        try:
            await self._serve(ledger)
        finally:
            self._loop.hang_up()
            await asyncio.sleep(0)  # a connection ends in the loop's next round

    async def _serve(self, ledger: Ledger) -> None:
        settings = self._settings
        async with open_client(settings, self._key) as client:
            asker = Asker(settings, client, ledger, self._key)
            workers = [asyncio.create_task(self._ask(asker)) for _ in range(settings.concurrency)]
            try:
                await self._finish(workers, asker)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _finish(self, workers: list[asyncio.Task[None]], asker: Asker) -> None:
        """Wait for all; once one has failed, the others end what they are at and ask for nothing more."""
        done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        failures = [error for worker in done if (error := worker.exception()) is not None]
        if not failures:
            return
        asker.giving_up.set()
        self._send_home()
        await asyncio.wait(workers)
        if isinstance(failures[0], BudgetSpent):
            raise self._refusal(failures[0]) from failures[0]
        raise failures[0]

    async def _ask(self, asker: Asker) -> None:
        with contextlib.suppress(GivenUp):
            while (prompt := await self._inbox.get()) is not None and not asker.giving_up.is_set():
                completion = await asker.ask(prompt)
                self._answered += 1
                self._out.put(completion)

    def _refusal(self, stop: BudgetSpent) -> Refused:
        unread = operator.length_hint(self._prompts, -1)
        left = "the rest" if unread < 0 else f"{self._read - self._answered + unread}"
        money = f"{stop.spent:.6g} of {self._settings.budget:.6g} {self._currency} are spent"
        return Refused(
            f"the budget is used up: {money}, and the next answer may cost {stop.most:.6g}; "
            f"{self._answered} prompts were answered now, {left} are left",
            hint=f"Raise {SECTION}.budget or lower {SECTION}.max_tokens, and run again: what was answered is kept.",
            plugin="distil-toolkit-teacher-http",
        )
