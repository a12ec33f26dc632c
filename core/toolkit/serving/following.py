"""A running server follows its site: what is installed, promoted or rolled back there is taken up without a restart.

A version is loaded beside those that answer, warmed up on inputs whose answers are known, and only then switched to;
the one before finishes what it has in hand and is let go. One that does not come to life is taken back on the site.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from toolkit.errors import PluginError, ToolkitError, UsageError
from toolkit.seal.open import OpenedBundle
from toolkit.serving.fleet import Fleet, InHand, Line
from toolkit.serving.metrics import Metrics
from toolkit.serving.models import ServedModel
from toolkit.serving.trial import Tolerance, Trials
from toolkit.site.current import open_served
from toolkit.site.layout import Site, open_site
from toolkit.site.rollback import withdraw
from toolkit.site.state import Served, State, read_state

LOOK_SECONDS = 0.25
"""How often a server looks whether its site changed: one `stat`."""
AGAIN_SECONDS = 10.0
"""After how long a version is tried again that could not be opened, though nobody changed the site."""
SOON_SECONDS = 1.0
"""After how long a site is read again that could not be read."""


@dataclass(frozen=True)
class Loaded:
    """A version that may answer, and what ends with it."""

    model: ServedModel
    ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


Warm = Callable[[Site, OpenedBundle], Loaded]
"""Makes an opened bundle a version that answers, proven right; the bundle may be closed when it returns."""


@dataclass(frozen=True)
class Failed:
    """A version that cannot be served. What could not even be opened (a grant that ended, a clock that was set back) is
    no fault of the version: it is tried again, not taken back."""

    bundle_id: str
    error: ToolkitError
    opened: bool


@dataclass
class Follower:
    """Keeps a fleet what its site says.

    Args:
        site: whose state is followed; opened with what opens its keys.
        warm: makes a version of an opened bundle.
        drain_seconds: how long the requests in hand may take before a version that they may still ask is let go.
        tolerance: of faults in the answers of a version that came while the server ran.
    """

    site: Site
    warm: Warm
    metrics: Metrics
    in_hand: InHand
    drain_seconds: float
    tolerance: Tolerance = field(default_factory=Tolerance)
    fleet: Fleet = field(default_factory=Fleet)
    failed: list[Failed] = field(default_factory=list)
    """Versions that the site names and that are not served here."""
    _loaded: dict[str, Loaded] = field(default_factory=dict)
    _stamp: object = None
    _tried: float = 0.0
    _problem: str = ""
    """Why the site could not be followed when it was tried last."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.trials = Trials(self.tolerance, lambda bundle_id, why: self._start(self._give_up(bundle_id, why)))

    def told(self) -> Mapping[str, Any]:
        """What this worker says of its versions: how many of a thousand requests each is `serving`, those that `failed`
        here and why, and the `tallies` of what they answered, by bundle id."""
        return {
            "serving": {one.facts.id: permille for line in self.fleet.lines() for one, permille in line.shares},
            "failed": {one.bundle_id: one.error.message for one in self.failed},
            "tallies": self.trials.records(),
        }

    def begin(self) -> None:
        """Load what the site serves. What does not come to life is taken back, here as in a server that runs.

        Raises:
            ToolkitError: what is wrong with the first version, where none at all can be served.
        """
        first: ToolkitError | None = None
        while True:
            self._stamp, state = self._look(), self._read()
            lines = self._lines(state)
            if self.failed and first is None:
                first = self.failed[0].error
            taken_back = [self._take_back(one) for one in self.failed]
            if not any(taken_back):
                break
        if not lines:
            nothing = UsageError(
                f"nothing is installed on {self.site.path}", hint="Install a bundle: `toolkit install BUNDLE`."
            )
            raise first or nothing
        self.fleet.put(lines)
        if first is not None:
            _say(f"not all could be served: {first}")

    async def follow(self) -> None:
        """Follow the site until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            shut = any(not one.opened for one in self.failed)
            pause = SOON_SECONDS if self._problem else AGAIN_SECONDS
            again = (self._problem or shut) and loop.time() - self._tried >= pause
            try:
                if self._look() != self._stamp or again:
                    self._tried = loop.time()
                    await self._follow()
                    self._problem = ""
            except (ToolkitError, OSError) as error:
                # What answers goes on answering; the operator is told why it stays as it is, once.
                problem = f"the site cannot be followed: {error}"
                if problem != self._problem:
                    _say(problem)
                self._problem = problem

    async def _follow(self) -> None:
        self._stamp = self._look()
        known = {(one.bundle_id, one.error.message) for one in self.failed}
        state = await asyncio.to_thread(self._read)
        lines = await asyncio.to_thread(self._lines, state)
        before = {line.product: line.current for line in self.fleet.lines()}
        known_models = set(self.fleet.all())
        self.fleet.put(lines)
        for model in self.fleet.all():
            if model not in known_models:
                self.trials.begin(model, before.get(model.facts.product))
                self._say_of(model, "answers now")
        for failed in self.failed:
            if (failed.bundle_id, failed.error.message) not in known:
                _say(f"{failed.bundle_id} cannot be served: {failed.error}")
            await asyncio.to_thread(self._take_back, failed)
        serving = {model.facts.id for model in self.fleet.all()}
        for bundle_id in self._loaded.keys() - serving:
            self._start(self._let_go(self._loaded.pop(bundle_id)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _give_up(self, bundle_id: str, why: str) -> None:
        """Have the site serve another version: this one answers with faults."""
        await asyncio.to_thread(self._withdraw, bundle_id, why)

    async def _let_go(self, loaded: Loaded) -> None:
        """Once nobody can ask the version any more, end it and give its memory back."""
        model = loaded.model
        if not await self.in_hand.earlier(self.drain_seconds):
            self._say_of(model, f"is let go with requests still in hand after {self.drain_seconds:g} seconds")
        await model.queue.stop()
        await asyncio.to_thread(model.service.close)
        await asyncio.to_thread(loaded.ends.close)
        if model.facts.id not in self._loaded:  # it may have come again meanwhile
            self.metrics.forget(model)
            self.trials.end(model)
        self._say_of(model, "was let go")
        del loaded, model
        await asyncio.to_thread(_give_memory_back)

    def _say_of(self, model: ServedModel, what: str) -> None:
        _say(f"{model.facts.product} {model.facts.version} ({model.facts.id}) {what}")

    def _lines(self, state: State) -> list[Line]:
        """What is to answer by this state, as far as it comes to life."""
        self.failed = []
        return [line for served in state.served if (line := self._line(served)) is not None]

    def _line(self, served: Served) -> Line | None:
        current = self._version(served.bundle_id)
        canary = self._version(served.canary) if served.canary else None
        if current is None:  # whoever answered before goes on
            return next((line for line in self.fleet.lines() if line.product == served.product), None)
        return Line(current, canary, served.permille if canary else 0)

    def _version(self, bundle_id: str) -> ServedModel | None:
        """The version, loaded where it is not; None where that fails."""
        if bundle_id not in self._loaded:
            opened = False
            try:
                with open_served(self.site, bundle_id) as bundle:
                    opened = True
                    self._loaded[bundle_id] = self._warmed(bundle)
            except ToolkitError as error:
                self.failed.append(Failed(bundle_id, error, opened))
                return None
        return self._loaded[bundle_id].model

    def _warmed(self, bundle: OpenedBundle) -> Loaded:
        try:
            return self.warm(self.site, bundle)
        except ToolkitError:
            raise
        except Exception as error:
            what = f"the domain {bundle.manifest.domain.name} failed: {type(error).__name__}: {error}"
            raise PluginError(what, hint="Tell whoever made the domain.") from error

    def _take_back(self, failed: Failed) -> bool:
        """Have the site serve another version, where this one came to nothing by itself."""
        return failed.opened and self._withdraw(failed.bundle_id, failed.error.message)

    def _withdraw(self, bundle_id: str, why: str) -> bool:
        try:
            done = withdraw(self.site, bundle_id, why)
        except ToolkitError as error:
            _say(f"{bundle_id} cannot be taken back: {error}")
            return False
        if done:
            self.metrics.taken_back(bundle_id)
            _say(f"{bundle_id} was taken back on the site: {why}")
        return done

    def _read(self) -> State:
        self.site = open_site(self.site.path, self.site.passphrase)
        return read_state(self.site.current, self.site.key_id)

    def _look(self) -> object:
        """Changes with the site's state, which is replaced as one file."""
        found = os.stat(self.site.current)
        return found.st_ino, found.st_mtime_ns


def _give_memory_back() -> None:
    """A model's sessions hang in cycles of routes and closures; what is freed then goes back to the system."""
    gc.collect()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError):  # a C library without it
            ctypes.CDLL(None).malloc_trim(0)


def _say(line: str) -> None:
    sys.stderr.write(f"site: {line}\n")
    sys.stderr.flush()
