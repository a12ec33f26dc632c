"""The queue before the model: who runs together, who waits, who is refused."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from batching_parts import Doubler, Made, row

from toolkit.errors import UsageError
from toolkit.serving.batching import Batcher
from toolkit.serving.refusals import Overloaded
from toolkit.serving.together import BRIEF_SECONDS


async def _held_up(batcher: Batcher, model: Doubler, *more: dict[str, np.ndarray]) -> list[asyncio.Task]:
    """One request that the model is busy with, and `more` that came meanwhile."""
    model.gate.clear()
    tasks = [asyncio.ensure_future(batcher.predict(row(1)))]
    await asyncio.sleep(0.02)
    for inputs in more:
        tasks.append(asyncio.ensure_future(batcher.predict(inputs)))
        await asyncio.sleep(0)
    return tasks


def test_what_arrives_while_the_model_is_busy_runs_together_and_gets_its_own_answer() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model)
        tasks = await _held_up(batcher, model, *(row(value) for value in range(2, 7)))
        assert batcher.waiting == 5
        model.gate.set()
        answers = await asyncio.gather(*tasks)
        assert [int(answer["y"][0, 0]) for answer in answers] == [2, 4, 6, 8, 10, 12]
        assert model.batches == [(1, 3), (5, 3)]
        await batcher.stop()

    asyncio.run(scene())


def test_shapes_do_not_mix_and_batches_are_bounded() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model, max_batch=4)
        others = [row(2), row(3, width=4), row(4), row(5, width=4), row(6), row(7)]
        tasks = await _held_up(batcher, model, *others)
        model.gate.set()
        answers = await asyncio.gather(*tasks)
        assert [int(answer["y"][0, 0]) for answer in answers] == [2, 4, 6, 8, 10, 12, 14]
        assert model.batches == [(1, 3), (2, 3), (2, 4), (2, 3)]
        await batcher.stop()

    asyncio.run(scene())


def test_a_lone_request_is_never_held_back() -> None:
    async def scene() -> None:
        batcher = Batcher(Doubler(), max_delay_ms=10_000)
        started = time.perf_counter()
        for value in range(20):
            await batcher.predict(row(value))
        assert time.perf_counter() - started < 2
        await batcher.stop()

    asyncio.run(scene())


def test_a_request_that_found_the_model_busy_is_held_back_for_the_delay_at_most() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model, max_delay_ms=300, max_batch=3)
        first, second = await _held_up(batcher, model, row(2))
        model.gate.set()
        await first
        third = asyncio.ensure_future(batcher.predict(row(3)))  # joins the second, which still waits
        await asyncio.sleep(0.02)
        assert not second.done()
        assert [int(answer["y"][0, 0]) for answer in await asyncio.gather(second, third)] == [4, 6]
        assert model.batches == [(1, 3), (2, 3)]
        await batcher.stop()

    asyncio.run(scene())


def test_a_full_queue_refuses_and_then_recovers() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model, queue_limit=2)
        tasks = await _held_up(batcher, model, row(2), row(3))
        with pytest.raises(Overloaded) as caught:
            await batcher.predict(row(4))
        assert caught.value.retry_after >= 1
        model.gate.set()
        await asyncio.gather(*tasks)
        assert int((await batcher.predict(row(4)))["y"][0, 0]) == 8
        await batcher.stop()

    asyncio.run(scene())


def test_bytes_that_wait_are_bounded_too() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model, queue_bytes=1000)
        tasks = await _held_up(batcher, model, row(2, width=900))
        with pytest.raises(Overloaded):
            await batcher.predict(row(3, width=200))
        model.gate.set()
        await asyncio.gather(*tasks)
        await batcher.stop()

    asyncio.run(scene())


def test_a_failing_batch_fails_only_its_own_requests() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model)
        tasks = await _held_up(batcher, model, row(255), row(3), row(4, width=5))
        model.gate.set()
        first, bad, beside, other = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(bad, ValueError)
        assert isinstance(beside, ValueError)
        assert int(first["y"][0, 0]) == 2
        assert int(other["y"][0, 0]) == 8
        assert int((await batcher.predict(row(9)))["y"][0, 0]) == 18
        await batcher.stop()

    asyncio.run(scene())


@pytest.mark.parametrize("preparers", [0, 2])
def test_what_makes_inputs_may_stand_for_them_and_fails_alone(preparers: int) -> None:
    async def scene() -> None:
        model, made_by = Doubler(), set[str]()
        batcher = Batcher(model, preparers=preparers)

        makes = (Made(value, made_by=made_by) for value in (2, 3, 4))
        _, *given = await asyncio.gather(batcher.predict(row(1)), *map(batcher.predict, makes), return_exceptions=True)
        assert [str(one) if isinstance(one, UsageError) else int(one["y"][0, 0]) for one in given] == [
            4,
            "no picture",
            8,
        ]
        assert made_by == {"prepare" if preparers else "model"}
        await batcher.stop()

    asyncio.run(scene())


def test_rows_that_take_their_time_are_not_kept_waiting_for_each_other_and_quick_ones_run_together() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model, max_batch=8)

        async def together() -> int:
            model.batches.clear()
            await asyncio.gather(*(batcher.predict(row(value)) for value in range(17)))
            return max(shape[0] for shape in model.batches)

        assert await together() == 8
        model.seconds_a_row = BRIEF_SECONDS
        for _ in range(3):
            slow = await together()
        assert slow <= 2
        model.seconds_a_row = 0.0
        for _ in range(20):  # on a busy machine one of them may take its time after all
            if (quick := await together()) == 8:
                break
        assert quick == 8
        await batcher.stop()

    asyncio.run(scene())


def test_what_is_brief_runs_in_the_loop_with_what_arrives_in_the_same_turn() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model, in_loop=0.5)

        async def ran(*inputs: object) -> tuple[list[str], list[int]]:
            """By which threads, and how many rows at once."""
            model.ran_by.clear()
            model.batches.clear()
            answers = await asyncio.gather(*map(batcher.predict, inputs))
            assert [int(answer["y"][0, 0]) for answer in answers] == [2 * value for value in range(len(inputs))]
            return model.ran_by, [shape[0] for shape in model.batches]

        values = range(4)
        assert (await ran(row(0)))[0] == ["model"]  # how long it takes is not known yet
        assert await ran(*map(row, values)) == (["MainThread"], [4])
        assert await ran(*(Made(value, brief=True) for value in values)) == (["MainThread"], [4])
        assert (await ran(*(Made(value, brief=False) for value in values)))[0][-1] == "model"
        assert await ran(row(0), Made(1, brief=False), row(2)) == (["MainThread", "model"], [1, 2])
        assert (await ran(row(0, width=2**21)))[0] == ["model"]
        model.seconds_a_row = 0.55
        await ran(row(0))
        assert (await ran(row(0)))[0] == ["model"]
        model.seconds_a_row = 0.0
        for _ in range(3):
            await ran(row(0))
        assert (await ran(row(0)))[0] == ["MainThread"]
        model.seconds_a_row = 0.2
        await ran(row(0))
        assert max((await ran(*map(row, values)))[1]) <= 2  # as many as are within its seconds
        await batcher.stop()

    asyncio.run(scene())


def test_what_fails_in_the_loop_fails_alone_and_stop_answers_what_waits_there() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model, in_loop=0.5)
        await batcher.predict(row(1))
        tasks = [asyncio.ensure_future(batcher.predict(inputs)) for inputs in (row(255), row(3, width=4), row(4))]
        gone = asyncio.ensure_future(batcher.predict(row(5)))
        await asyncio.sleep(0)
        gone.cancel()
        await batcher.stop()
        bad, other, beside = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(bad, ValueError)
        assert isinstance(beside, ValueError)
        assert int(other["y"][0, 0]) == 6
        assert gone.cancelled()
        assert model.ran_by[1:] == ["MainThread"] * 2

    asyncio.run(scene())


def test_a_request_whose_asker_has_gone_is_dropped() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model)
        first, second, third = await _held_up(batcher, model, row(2), row(3))
        second.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert batcher.waiting == 1
        model.gate.set()
        await asyncio.gather(first, third)
        assert model.batches == [(1, 3), (1, 3)]
        await batcher.stop()

    asyncio.run(scene())


def test_stop_answers_what_waits_and_takes_nothing_more() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model, max_batch=1)
        tasks = await _held_up(batcher, model, row(2), row(3))
        stopping = asyncio.ensure_future(batcher.stop())
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="stopping"):
            await batcher.predict(row(4))
        model.gate.set()
        await stopping
        assert [int(task.result()["y"][0, 0]) for task in tasks] == [2, 4, 6]

    asyncio.run(scene())


def test_inputs_that_disagree_about_rows_are_refused() -> None:
    async def scene() -> None:
        batcher = Batcher(Doubler())
        with pytest.raises(UsageError):
            await batcher.predict({"x": np.zeros((2, 3)), "z": np.zeros((1, 3))})
        with pytest.raises(UsageError):
            await batcher.predict({"x": np.zeros((0, 3))})
        await batcher.stop()

    asyncio.run(scene())
