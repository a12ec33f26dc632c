"""The same input to both versions: a sample of what one answers is put to the other, whose answer only is compared.

Only requests whose route leaves verdicts are repeated, for such a route has no other effect than its answer. One at a
time and after the answer is out, so that no client waits for it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from starlette.types import Message, Receive, Scope, Send

from toolkit.serving.fleet import Fleet, InHand
from toolkit.serving.models import ServedModel

SHARE = 0.1
"""Of the requests to a product with a version on trial, as far as one at a time allows."""

Compared = Callable[[ServedModel, ServedModel, Sequence[tuple[str, str]]], object]
"""`compared(model, other, pairs)`: the verdicts of both on the same input."""


class Shadow:
    def __init__(self, fleet: Fleet, in_hand: InHand, compared: Compared, share: float = SHARE) -> None:
        self._fleet = fleet
        self._in_hand = in_hand
        self._compared = compared
        self._share = share
        self._task: asyncio.Task[None] | None = None

    def other(self, model: ServedModel) -> ServedModel | None:
        """Whom this request is to be put to as well, if anybody."""
        if self._task is not None:
            return None
        for line in self._fleet.lines():
            if line.canary is not None and model in line.versions:
                other = line.canary if model is line.current else line.current
                return other if random.random() < self._share else None
        return None

    async def answer(self, model: ServedModel, other: ServedModel, scope: Scope, receive: Receive, send: Send) -> None:
        """Have `model` answer the request, and `other` after it."""
        again = {**scope, "state": dict(scope["state"])}
        bodies: list[Message] = []

        async def keep() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                bodies.append(message)
            return message

        await model.service.routes(scope, keep, send)
        verdicts = list(scope["state"].get("verdicts", ()))
        if verdicts and self._task is None:
            self._task = asyncio.create_task(self._repeat(model, other, again, bodies, verdicts))
            self._task.add_done_callback(self._done)

    async def _repeat(
        self, model: ServedModel, other: ServedModel, scope: Scope, bodies: list[Message], verdicts: list[str]
    ) -> None:  # fmt: skip
        async def replay() -> Message:
            return bodies.pop(0) if bodies else {"type": "http.disconnect"}

        async def drop(message: Message) -> None:
            del message

        with self._in_hand.one():
            await other.service.routes(scope, replay, drop)
        theirs = list(scope["state"].get("verdicts", ()))
        if len(theirs) == len(verdicts):
            self._compared(model, other, list(zip(verdicts, theirs, strict=True)))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            told = {"message": "comparing two versions failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
