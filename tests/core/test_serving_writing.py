"""The queue before a model that writes: who is answered beside whom, who hears what, and who is turned away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from toolkit.errors import DataError
from toolkit.protocols import PredictorFacts
from toolkit.serving.refusals import ModelFault, Overloaded
from toolkit.serving.writing import Writer
from toolkit.text import GenerationRequest, Message, TextDelta


@dataclass
class Speller:
    """Writes the last message letter by letter, those of a turn in step; `held` keeps it from beginning."""

    held: threading.Event = field(default_factory=threading.Event)
    turns: list[list[str]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    letters: list[str] = field(default_factory=list)
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("installed", "test", ""))

    def check(self, request: GenerationRequest) -> None:
        if not request.messages[-1].content:
            raise DataError("nothing is asked")

    def generate(
        self, requests: Sequence[GenerationRequest], gone: Callable[[str], bool] = lambda identity: False
    ) -> Iterator[TextDelta]:
        self.held.wait(10)
        self.threads.add(threading.get_ident())
        words = {request.id: request.messages[-1].content for request in requests}
        self.turns.append(list(words.values()))
        if "broken" in words.values():
            raise ModelFault("the model failed")
        if "nothing" in words.values():
            return
        for place in range(max(map(len, words.values()))):
            for identity, word in words.items():
                if place < len(word) and not gone(identity):
                    self.letters.append(word[place])
                    time.sleep(0.002)
                    yield TextDelta(identity, word[place], "stop" if place == len(word) - 1 else None)


def asked(word: str, **how: Any) -> GenerationRequest:
    return GenerationRequest(f"the {word}", (Message("user", word),), **how)


async def heard(writer: Writer, word: str, **how: Any) -> str:
    pieces = [piece async for piece in writer.generate(asked(word, **how))]
    assert {piece.id for piece in pieces} == {f"the {word}"}
    assert [piece.finish for piece in pieces if piece.finish] == ["stop"]
    return "".join(piece.text for piece in pieces)


def served(work: Callable[[Writer, Speller], Awaitable[None]], **settings: Any) -> Speller:
    async def main() -> Speller:
        speller = Speller()
        writer = Writer(speller, **settings)
        try:
            await work(writer, speller)
        finally:
            speller.held.set()
            await writer.stop()
        return speller

    return asyncio.run(main())


async def waiting(writer: Writer, many: int) -> None:
    while writer.waiting < many:
        await asyncio.sleep(0.001)


def test_who_waits_is_answered_side_by_side_and_each_hears_its_own() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        first = asyncio.create_task(heard(writer, "alone"))
        await asyncio.sleep(0.01)  # it has begun by itself
        others = [asyncio.create_task(heard(writer, word)) for word in ("one", "three", "eleven")]
        await waiting(writer, 3)
        speller.held.set()
        assert await asyncio.gather(first, *others) == ["alone", "one", "three", "eleven"]

    speller = served(work)
    assert speller.turns == [["alone"], ["one", "three", "eleven"]]
    assert len(speller.threads) == 1


def test_no_more_than_so_many_at_once_and_drawn_ones_by_themselves() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        tasks = [asyncio.create_task(heard(writer, "begins"))]
        await asyncio.sleep(0.01)
        for word, temperature in (("a", 0.0), ("drawn", 0.7), ("b", 0.0), ("c", 0.0)):
            tasks.append(asyncio.create_task(heard(writer, word, temperature=temperature)))
            await asyncio.sleep(0)
        speller.held.set()
        await asyncio.gather(*tasks)

    assert served(work, together=2).turns == [["begins"], ["a", "b"], ["drawn"], ["c"]]


def test_a_full_queue_says_no_and_what_is_wrong_never_stands_in_it() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        running = asyncio.create_task(heard(writer, "first"))
        await asyncio.sleep(0.01)
        queued = asyncio.create_task(heard(writer, "second"))
        await waiting(writer, 1)
        with pytest.raises(Overloaded):
            await heard(writer, "third")
        with pytest.raises(DataError):
            await heard(writer, "")
        assert writer.waiting == 1
        speller.held.set()
        assert await asyncio.gather(running, queued) == ["first", "second"]

    served(work, queue_limit=1)


def test_of_who_has_gone_nothing_more_is_written() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        speller.held.set()
        pieces = writer.generate(asked("x" * 500))
        await anext(pieces)
        await pieces.aclose()
        assert await heard(writer, "next") == "next"

    speller = served(work)
    assert speller.letters.count("x") < 250


def test_who_leaves_the_queue_is_not_asked_for() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        running = asyncio.create_task(heard(writer, "first"))
        await asyncio.sleep(0.01)
        queued = asyncio.create_task(heard(writer, "second"))
        await waiting(writer, 1)
        queued.cancel()
        await asyncio.sleep(0.01)
        assert writer.waiting == 0
        speller.held.set()
        await running

    assert served(work).turns == [["first"]]


def test_a_fault_reaches_those_of_its_turn_and_no_other() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        running = asyncio.create_task(heard(writer, "broken"))
        await asyncio.sleep(0.01)
        queued = asyncio.create_task(heard(writer, "whole"))
        await waiting(writer, 1)
        speller.held.set()
        with pytest.raises(ModelFault):
            await running
        assert await queued == "whole"

    served(work)


def test_who_is_never_told_the_end_of_its_text_does_not_wait_for_ever() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        speller.held.set()
        with pytest.raises(ModelFault, match="without saying so"):
            async with asyncio.timeout(5):
                await heard(writer, "nothing")

    served(work)


def test_a_writer_that_stops_writes_what_it_took_and_takes_no_more() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        tasks = [asyncio.create_task(heard(writer, word)) for word in ("first", "second")]
        await asyncio.sleep(0.01)
        stopping = asyncio.create_task(writer.stop())
        await asyncio.sleep(0.01)
        assert writer.closed
        with pytest.raises(Overloaded):
            await heard(writer, "late")
        speller.held.set()
        await stopping
        assert await asyncio.gather(*tasks) == ["first", "second"]

    served(work)


def test_an_observer_is_told_of_every_turn() -> None:
    told: list[tuple[int, float]] = []

    async def work(writer: Writer, speller: Speller) -> None:
        speller.held.set()
        await heard(writer, "word")

    served(work, observer=lambda requests, seconds: told.append((requests, seconds)))
    assert [requests for requests, _ in told] == [1]
    assert told[0][1] > 0
