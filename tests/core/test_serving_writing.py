"""The queue before a model that writes: who is answered beside whom, who hears what, and who is turned away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from toolkit.errors import DataError, ToolkitError
from toolkit.protocols import PredictorFacts
from toolkit.serving.refusals import ModelFault, Overloaded
from toolkit.serving.writing import TOLD_SECONDS, Company, Writer
from toolkit.text import GenerationRequest, Message, TextDelta


@dataclass
class Speller:
    """Writes the last message letter by letter, those under way in step; `held` keeps it from beginning. `steps` are
    the words under way at each letter."""

    held: threading.Event = field(default_factory=threading.Event)
    steps: list[list[str]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    letters: list[str] = field(default_factory=list)
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("installed", "test", ""))

    def check(self, request: GenerationRequest) -> None:
        if not request.messages[-1].content:
            raise DataError("nothing is asked")

    def generate(self, requests: Sequence[GenerationRequest], company: Company) -> Iterator[TextDelta]:
        self.held.wait(10)
        self.threads.add(threading.get_ident())
        left: dict[str, str] = {}
        while True:
            new = [*requests, *company.more(company.together - len(left))]
            requests = ()
            left |= {request.id: request.messages[-1].content for request in new}
            left = {identity: word for identity, word in left.items() if not company.gone(identity)}
            if not left:
                return
            self.steps.append(list(left.values()))
            for identity, word in list(left.items()):
                if word == "broken":
                    raise ModelFault("the model failed")
                if word == "nothing":
                    return
                if word == "wrong":
                    company.failed(identity, DataError("it cannot be followed"))
                    del left[identity]
                    continue
                self.letters.append(word[0])
                left[identity] = word[1:]
                yield TextDelta(identity, word[0], None if word[1:] else "stop")
                if not word[1:]:
                    del left[identity]
            time.sleep(0.002)


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


def test_who_comes_late_is_answered_beside_who_is_there_and_each_hears_its_own() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        speller.held.set()
        long, ended = writer.generate(asked("x" * 2000)), []
        assert (await anext(long)).text == "x"
        others = [heard(writer, word, temperature=heat) for word, heat in (("one", 0.0), ("three", 0.7), ("ten", 0.0))]
        ended = await asyncio.gather(*others)
        assert ended == ["one", "three", "ten"]  # and the long one still goes on
        assert (await anext(long)).finish is None
        await long.aclose()

    speller = served(work)
    assert max(map(len, speller.steps)) == 4
    assert len(speller.threads) == 1


def test_no_more_than_so_many_at_once() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        tasks = [asyncio.create_task(heard(writer, word)) for word in ("begins", "a", "bc", "d")]
        await waiting(writer, 4)
        speller.held.set()
        await asyncio.gather(*tasks)

    steps = served(work, together=2).steps
    assert steps[:4] == [["begins", "a"], ["egins", "bc"], ["gins", "c"], ["ins", "d"]]


def test_what_is_wrong_with_one_answer_is_no_concern_of_the_others() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        tasks = [asyncio.create_task(heard(writer, word)) for word in ("whole", "wrong", "sound")]
        await waiting(writer, 3)
        speller.held.set()
        whole, wrong, sound = await asyncio.gather(*tasks, return_exceptions=True)
        assert (whole, sound) == ("whole", "sound")
        assert isinstance(wrong, DataError)

    served(work)


def test_a_full_queue_says_no_and_what_is_wrong_never_stands_in_it() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        tasks = [asyncio.create_task(heard(writer, word)) for word in ("first", "second")]
        await waiting(writer, 2)
        with pytest.raises(Overloaded):
            await heard(writer, "third")
        with pytest.raises(DataError):
            await heard(writer, "")
        assert writer.waiting == 2
        speller.held.set()
        assert await asyncio.gather(*tasks) == ["first", "second"]

    served(work, queue_limit=2)


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
        running, queued = (asyncio.create_task(heard(writer, word)) for word in ("first", "second"))
        await waiting(writer, 2)
        queued.cancel()
        await asyncio.sleep(0.01)
        assert writer.waiting == 1
        speller.held.set()
        await running

    assert "second" not in served(work).steps[0]


def test_a_fault_reaches_who_is_under_way_and_no_other() -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        tasks = [asyncio.create_task(heard(writer, word)) for word in ("beside", "broken", "whole")]
        await waiting(writer, 3)
        speller.held.set()
        beside, broken, whole = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(beside, ModelFault)
        assert isinstance(broken, ModelFault)
        assert whole == "whole"

    served(work, together=2)


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


def test_an_observer_is_told_of_every_text() -> None:
    told: list[tuple[int, float]] = []

    async def work(writer: Writer, speller: Speller) -> None:
        tasks = [asyncio.create_task(heard(writer, word)) for word in ("word", "longer")]
        await waiting(writer, 2)
        speller.held.set()
        await asyncio.gather(*tasks)

    served(work, observer=lambda requests, seconds: told.append((requests, seconds)))
    assert [beside for beside, _ in told] == [2, 1]
    assert all(seconds > 0 for _, seconds in told)


def test_a_text_is_told_fifty_times_a_second_at_most_and_its_first_letter_at_once() -> None:
    word = "incomprehensibilities" * 5

    async def work(writer: Writer, speller: Speller) -> None:
        speller.held.set()
        began = time.monotonic()
        pieces = [piece.text async for piece in writer.generate(asked(word))]
        assert "".join(pieces) == word
        assert pieces[0] == word[0]
        assert 3 <= len(pieces) <= 2 + (time.monotonic() - began) / TOLD_SECONDS
        each = [piece.text async for piece in writer.generate(asked(word, every_token=True))]
        assert each == list(word)

    served(work)


@pytest.mark.parametrize("end", ["broken", "wrong", "nothing"])
def test_what_was_written_before_a_fault_is_heard_before_it(end: str) -> None:
    async def work(writer: Writer, speller: Speller) -> None:
        speller.held.set()
        pieces = []

        async def listen() -> None:
            async for piece in writer.generate(asked("ended" + end)):
                pieces.append(piece.text)

        with pytest.raises(ToolkitError):
            await listen()
        assert "".join(pieces) == "ended"

    served(work)
