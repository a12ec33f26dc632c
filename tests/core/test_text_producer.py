"""Labelling beside training: order, bounds, what happens when a side fails or leaves, and what it saves."""

from __future__ import annotations

import itertools
import operator
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest
from chat_parts import Chat, chat_server, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.distil.producer import Producer
from toolkit.errors import PluginError, UsageError
from toolkit.resolve import Layer, resolve
from toolkit.text import Prompt
from toolkit_teacher_http import HttpSettings, HttpTeacher

Pairs = Iterator[tuple[int, int]]


def squares(rows: Iterator[int]) -> Pairs:
    for row in rows:
        yield row, row * row


def shuffled(width: int, seed: int = 0) -> Callable[[Iterator[int]], Pairs]:
    """Labels `width` rows at a time and hands them on in any order."""
    dice = random.Random(seed)

    def make(rows: Iterator[int]) -> Pairs:
        while batch := list(itertools.islice(rows, width)):
            dice.shuffle(batch)
            yield from ((row, row * row) for row in batch)

    return make


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "label-producer"], 5)


def test_items_come_in_row_order() -> None:
    with Producer(squares, 100, ahead=7) as items:
        assert list(items) == [row * row for row in range(100)]


@given(st.integers(0, 60), st.integers(1, 9), st.integers(0, 9), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_items_come_in_row_order_whatever_order_they_were_made_in(total: int, width: int, more: int, seed: int) -> None:
    with Producer(shuffled(width, seed), total, ahead=width + more) as items:
        assert list(items) == [row * row for row in range(total)]


def test_a_run_goes_on_from_the_row_it_had_come_to() -> None:
    with Producer(squares, 10, first=7) as items:
        assert (items.position, list(items), items.position) == (7, [49, 64, 81], 10)


def test_nothing_to_do_is_done_at_once() -> None:
    with Producer(squares, 0) as items:
        assert list(items) == []


def test_rows_are_given_out_only_so_far_ahead() -> None:
    given_out: list[int] = []

    def make(rows: Iterator[int]) -> Pairs:
        for row in rows:
            given_out.append(row)
            yield row, row

    with Producer(make, 1000, ahead=8) as items:
        wait_until(lambda: len(given_out) == 8)
        for taken in range(1, 20):
            next(items)
            wait_until(lambda taken=taken: len(given_out) == taken + 8)
            assert items.progress().depth <= 8


def test_the_rows_tell_how_many_are_left() -> None:
    left: list[int] = []

    def make(rows: Iterator[int]) -> Pairs:
        for row in rows:
            left.append(operator.length_hint(rows))
            yield row, row

    with Producer(make, 3) as items:
        list(items)
    assert left == [2, 1, 0]


def test_an_error_in_the_making_reaches_the_consumer_as_it_was_after_the_rows_before_it() -> None:
    error = ZeroDivisionError("in the teacher")

    def make(rows: Iterator[int]) -> Pairs:
        for row in rows:
            if row == 3:
                raise error
            yield row, row

    with Producer(make, 10) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ZeroDivisionError) as raised:
            next(items)
    assert raised.value is error


def test_an_error_after_the_last_row_is_not_lost() -> None:
    def make(rows: Iterator[int]) -> Pairs:
        yield from squares(rows)
        raise OSError("while closing")

    with Producer(make, 2) as items, pytest.raises(OSError, match="while closing"):
        list(items)


BROKEN: dict[str, Callable[[Iterator[int]], Pairs]] = {
    "ended without row 1; 2 of 3 rows have no answer": lambda rows: iter([(next(rows), 0)]),
    "row 2 was labelled unasked or twice": lambda rows: iter([(2, 0)]),
    "row 0 was labelled unasked or twice": lambda rows: ((0, 0) for _ in rows),
}


@pytest.mark.parametrize("says", BROKEN)
def test_a_maker_that_does_not_answer_each_row_once_is_found_out(says: str) -> None:
    with Producer(BROKEN[says], 3) as items, pytest.raises(PluginError, match=says):
        list(items)


def test_a_maker_that_would_wait_for_itself_is_told_so() -> None:
    with Producer(shuffled(8), 100, ahead=4) as items, pytest.raises(UsageError, match="holds 4 rows") as refused:
        next(items)
    assert "fewer than 4" in refused.value.hint


@pytest.mark.parametrize(("first", "ahead"), [(0, 0), (11, 1), (-1, 1)])
def test_bounds_that_cannot_be_are_refused(first: int, ahead: int) -> None:
    with pytest.raises(UsageError):
        Producer(squares, 10, first=first, ahead=ahead)


def test_a_consumer_that_leaves_ends_the_making() -> None:
    made: list[int] = []

    def make(rows: Iterator[int]) -> Pairs:
        for row in rows:
            made.append(row)
            yield row, row

    def train() -> None:
        with items:
            next(items)
            raise KeyboardInterrupt

    items = Producer(make, 10**6, ahead=4)
    with pytest.raises(KeyboardInterrupt):
        train()
    assert len(made) <= 6
    assert not items._thread.is_alive()


def in_threads(work: Callable[[int], None]) -> Callable[[Iterator[int]], Pairs]:
    """Labels four rows at a time in threads that read rows themselves, as a remote teacher does."""

    def make(rows: Iterator[int]) -> Pairs:
        reading, made = threading.Lock(), SimpleQueue[int | None]()

        def label() -> None:
            try:
                while True:
                    with reading:
                        row = next(rows, None)
                    if row is None:
                        return
                    work(row)
                    made.put(row)
            finally:
                made.put(None)

        with ThreadPoolExecutor(4) as pool:
            ends = [pool.submit(label) for _ in range(4)]
            working = len(ends)
            while working:
                row = made.get()
                working -= row is None
                if row is not None:
                    yield row, row
            for end in ends:
                end.result()

    return make


def test_what_is_under_way_when_the_consumer_leaves_comes_to_its_end() -> None:
    begun: list[int] = []
    come: list[int] = []

    def work(row: int) -> None:
        begun.append(row)
        time.sleep(0.2)
        come.append(row)

    with Producer(in_threads(work), 100, ahead=50) as items:
        next(items)
        wait_until(lambda: len(begun) >= 6)
    assert sorted(come) == sorted(begun)
    assert len(come) <= 8


class Stuck(Iterator[tuple[int, int]]):
    """Hands on one row, and no other until it is closed."""

    def __init__(self, rows: Iterator[int]) -> None:
        self.rows, self.closed, self.waiting = rows, threading.Event(), threading.Event()

    def __next__(self) -> tuple[int, int]:
        row = next(self.rows)
        if row:
            self.waiting.set()
            self.closed.wait(20)
            raise StopIteration
        return row, row

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("total", [2, 100])
def test_what_is_under_way_for_too_long_is_closed(total: int) -> None:
    made: list[Stuck] = []

    def make(rows: Iterator[int]) -> Stuck:
        made.append(Stuck(rows))
        return made[0]

    with Producer(make, total, grace_s=0.3) as items:
        next(items)
        assert made[0].waiting.wait(5)
        began = time.monotonic()
    assert 0.25 < time.monotonic() - began < 5


def test_a_generator_at_work_is_waited_for() -> None:
    """It cannot be closed from outside; it ends when it wants its next row."""
    ended: list[str] = []
    working = threading.Event()

    def make(rows: Iterator[int]) -> Pairs:
        try:
            for row in rows:
                if row:
                    working.set()
                    time.sleep(0.3)
                yield row, row
        finally:
            ended.append("closed")

    with Producer(make, 100, grace_s=0.05) as items:
        next(items)
        assert working.wait(5)
    assert ended == ["closed"]


def test_progress_counts_and_says_who_waited_for_whom() -> None:
    def slow(rows: Iterator[int]) -> Pairs:
        for row in rows:
            time.sleep(0.02)
            yield row, row

    with Producer(slow, 20, ahead=4) as items:
        list(items)
        starved = items.progress()
    assert (starved.done, starved.total, starved.depth) == (20, 20, 0)
    assert starved.consumer_waited_s > 0.3 > 0.1 > starved.producer_waited_s
    assert 20 < starved.per_second <= 50
    with Producer(squares, 20, ahead=4) as items:
        for _ in items:
            time.sleep(0.02)
        held = items.progress()
    assert held.producer_waited_s > 0.25 > 0.1 > held.consumer_waited_s


ROWS, ANSWER_S, AT_A_TIME = 48, 0.15, 4


def labelling(url: str) -> Callable[[Iterator[int]], Iterator[tuple[int, str]]]:
    table = {"url": url, "model": "m", "concurrency": AT_A_TIME}
    plan = resolve([Layer("test", {"domain": "mine", "teacher_http": table})], {"teacher_http": HttpSettings}).plan
    prompts = [Prompt.of(str(row), f"question {row}") for row in range(ROWS)]

    def make(rows: Iterator[int]) -> Iterator[tuple[int, str]]:
        for answer in HttpTeacher().answers(plan, (prompts[row] for row in rows)):
            yield int(answer.prompt_id), answer.text

    return make


@pytest.fixture(scope="module")
def teacher_url() -> Iterator[str]:
    with chat_server(Chat(delay=ANSWER_S)) as url:
        yield url


@pytest.fixture(scope="module")
def labelling_alone_s(teacher_url: str) -> float:
    began = time.monotonic()
    assert len(list(labelling(teacher_url)(iter(range(ROWS))))) == ROWS
    return time.monotonic() - began


@pytest.mark.parametrize("item_s", [0.033, 0.055], ids=["labelling takes longer", "training takes longer"])
def test_labelling_and_training_together_take_little_longer_than_the_longer_of_them(
    item_s: float, teacher_url: str, labelling_alone_s: float
) -> None:
    """48 answers of 150 ms, four at a time, take 1.8 s and a little; training takes 1.6 s or 2.6 s."""
    texts: list[str] = []
    began = time.monotonic()
    with Producer(labelling(teacher_url), ROWS, ahead=32) as items:
        for text in items:
            time.sleep(item_s)
            texts.append(text)
    together = time.monotonic() - began
    longer = max(labelling_alone_s, ROWS * item_s)
    assert texts == [f"answer to question {row}" for row in range(ROWS)]
    assert together <= 1.15 * longer, f"{together:.2f} s together, {longer:.2f} s the longer alone"
