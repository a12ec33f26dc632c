"""Answers that end before a text which the client named, and several answers at once. Knows texts, and no tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from toolkit.text import TextDelta


async def until_stop(pieces: AsyncGenerator[TextDelta], stops: Sequence[str]) -> AsyncGenerator[TextDelta]:
    """The answer up to the first of `stops`, which is not given; no more of it is written then.

    What may be the beginning of a stop is held back until it is known not to be one.
    """
    held = ""
    async with aclosing(pieces):
        async for piece in pieces:
            if not stops:
                yield piece
                continue
            held += piece.text
            found = [place for stop in stops if (place := held.find(stop)) >= 0]
            if found:
                yield TextDelta(piece.id, held[: min(found)], "stop", piece.usage)
                return
            end = len(held) if piece.finish is not None else _free(held, stops)
            if end or piece.finish is not None:
                yield replace(piece, text=held[:end])
                held = held[end:]


async def together(answers: Sequence[AsyncGenerator[TextDelta]]) -> AsyncGenerator[tuple[int, TextDelta]]:
    """The pieces of all answers as they come, each with its place; when this is closed, all are."""
    if len(answers) == 1:  # as nearly always: nothing is waited for beside it
        async with aclosing(answers[0]) as only:
            async for told in only:
                yield 0, told
        return
    coming = {asyncio.ensure_future(anext(answer, None)): place for place, answer in enumerate(answers)}
    try:
        while coming:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=coming.__getitem__):
                place, piece = coming.pop(task), task.result()
                if piece is not None:
                    yield place, piece
                    coming[asyncio.ensure_future(anext(answers[place], None))] = place
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        for answer in answers:
            await answer.aclose()


def _free(text: str, stops: Sequence[str]) -> int:
    """How much of it cannot be the beginning of a stop."""
    longest = max(map(len, stops), default=0)
    return next(
        (
            place
            for place in range(max(0, len(text) - longest + 1), len(text))
            if any(stop.startswith(text[place:]) for stop in stops)
        ),
        len(text),
    )
