"""How fast requests leave: so many a minute, and none while the server asks for a pause."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

Sleep = Callable[[float], Awaitable[None]]


class Pace:
    """Turns for requests. All that ask one server share it, so a pause asked of one holds for all."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._apart = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = self._paused_until = 0.0

    async def turn(self, sleep: Sleep) -> None:
        """Wait until it is this request's turn; one that comes in a pause begun meanwhile is put off."""
        now = asyncio.get_running_loop().time
        while True:
            at = max(now(), self._next, self._paused_until)
            self._next = at + self._apart
            if (wait := at - now()) > 0:
                await sleep(wait)
            if now() >= self._paused_until:
                return

    def pause(self, seconds: float) -> None:
        """Let nobody's turn come before `seconds` are over."""
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + seconds)


def backoff(attempt: int, *, first: float, longest: float) -> float:
    """Seconds before the next try after `attempt` failures: doubling, up to `longest`, and of that a random share of a
    half to the whole, so that those who failed together do not come back together."""
    return min(longest, first * 2.0 ** min(attempt - 1, 60)) * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3: seconds or a date); 0 where it does not say."""
    stated = headers.get("retry-after", "").strip()
    if stated.isascii() and stated.isdigit():
        return float(stated[:9])
    try:
        at = parsedate_to_datetime(stated)
    except ValueError:
        return 0.0
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
