"""What requests take of a worker's memory: many rows, large pictures, and what is given back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from batching_parts import Doubler, row

from toolkit.serving.batching import MOST_ROWS, Batcher
from toolkit.serving.memory import LARGE, Room
from toolkit.serving.refusals import TooLarge
from toolkit.serving.together import BRIEF_SECONDS

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and wants glibc")


def test_a_request_of_many_rows_runs_in_pieces_and_the_observer_is_told_of_each() -> None:
    async def scene() -> None:
        seen: list[tuple[int, float]] = []
        model = Doubler()
        batcher = Batcher(model, max_batch=4, observer=lambda rows, seconds: seen.append((rows, seconds)))
        given = np.arange(30, dtype=np.uint8).reshape(10, 3)
        answer = await batcher.predict({"x": given})
        np.testing.assert_array_equal(answer["y"], given.astype(np.int64) * 2)
        with pytest.raises(ValueError, match="255"):
            await batcher.predict({"x": np.arange(246, 256, dtype=np.uint8).reshape(10, 1)})
        await batcher.stop()
        assert [rows for rows, _seconds in seen] == [4, 4, 2, 4, 4]
        assert min(seconds for _rows, seconds in seen) > 0

    asyncio.run(scene())


def test_one_request_of_many_rows_does_not_part_those_of_others() -> None:
    async def scene() -> None:
        model = Doubler()
        batcher = Batcher(model, max_batch=8)
        model.seconds_a_row = BRIEF_SECONDS / 8
        await batcher.predict({"x": np.zeros((80, 3), np.uint8)})
        model.seconds_a_row = 0.0
        model.batches.clear()
        await asyncio.gather(*(batcher.predict(row(value)) for value in range(9)))
        assert model.batches == [(1, 3), (8, 3)]
        await batcher.stop()

    asyncio.run(scene())


def test_the_rows_of_one_request_are_bounded() -> None:
    async def scene() -> None:
        batcher = Batcher(Doubler())
        assert len((await batcher.predict({"x": np.zeros((MOST_ROWS, 1), np.uint8)}))["y"]) == MOST_ROWS
        with pytest.raises(TooLarge, match="1,024 rows, and 1,025 came"):
            await batcher.predict({"x": np.zeros((MOST_ROWS + 1, 1), np.uint8)})
        await batcher.stop()

    asyncio.run(scene())


@dataclass
class Decoding:
    """Makes inputs, and counts how many of them are made at once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    now: int = 0
    most: int = 0
    made: int = 0


@dataclass(frozen=True)
class Picture:
    needs: int
    seen: Decoding
    brief: bool = False

    def __call__(self) -> dict[str, np.ndarray]:
        with self.seen.lock:
            self.seen.now += 1
            self.seen.most = max(self.seen.most, self.seen.now)
        time.sleep(0.02)
        with self.seen.lock:
            self.seen.now -= 1
            self.seen.made += 1
        return row(1)


@pytest.mark.parametrize(("needs", "together"), [(0, 4), (LARGE, 4), (2 * LARGE, 2), (9 * LARGE, 1)])
def test_large_pictures_are_decoded_together_only_where_there_is_room(needs: int, together: int) -> None:
    async def scene() -> None:
        seen = Decoding()
        batcher = Batcher(Doubler(), preparers=4, room=Room(4 * LARGE))
        await asyncio.gather(*(batcher.predict(Picture(needs, seen)) for _ in range(8)))
        await batcher.stop()
        assert (seen.most, seen.made) == (together, 8)

    asyncio.run(scene())


def test_models_of_one_worker_share_its_room_and_let_go_of_it_whatever_happens() -> None:
    async def scene() -> None:
        seen, room = Decoding(), Room(4 * LARGE)
        models = Doubler(), Doubler()
        batchers = [Batcher(model, room=room) for model in models]
        asked = [batcher.predict(Picture(3 * LARGE, seen)) for batcher in batchers for _ in range(4)]
        await asyncio.gather(*asked)
        assert (seen.most, seen.made) == (1, 8)
        assert all(shape[0] == 1 for model in models for shape in model.batches)
        for batcher in batchers:
            await batcher.stop()
        with pytest.raises(ZeroDivisionError), room.of(9 * LARGE):
            raise ZeroDivisionError
        with room.of(4 * LARGE):
            pass

    asyncio.run(scene())


def test_who_needs_much_room_is_not_passed_over_for_ever() -> None:
    room, order = Room(4 * LARGE), list[int]()

    def take(size: int) -> None:
        with room.of(size * LARGE):
            order.append(size)

    with ThreadPoolExecutor(3) as threads:
        with room.of(LARGE):
            waiting = threads.submit(take, 4)
            time.sleep(0.05)
            others = [threads.submit(take, 2), threads.submit(take, 3)]
            time.sleep(0.05)
            assert order == []
        for one in (waiting, *others):
            one.result(5)
    assert order[0] == 4


def _measured(code: str) -> list[int]:
    """What a process of its own prints, in MB of `rss()`."""
    head = """
        import sys, numpy as np
        def rss():
            return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmRSS"))
    """
    code = textwrap.dedent(head) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [int(word) for word in done.stdout.split()]


@linux
def test_what_a_large_picture_took_goes_back_to_the_system() -> None:
    before, after = _measured("""
        import asyncio, io
        from PIL import Image
        from toolkit.protocols import PredictorFacts
        from toolkit.serving.batching import Batcher
        from toolkit.tasks.image_classification.inspection import _Look
        file = io.BytesIO()
        Image.new("RGB", (4000, 3000)).save(file, "PNG", compress_level=1)
        class Model:
            facts = PredictorFacts(form="compiled", provider="test", digest="")
            def predict(self, inputs):
                return {"y": inputs["image"][:, 0, 0].copy()}
        async def scene():
            batcher = Batcher(Model())
            print(rss())
            await asyncio.gather(*(batcher.predict(_Look(file.getvalue(), 3)) for _ in range(2)))
            print(rss())
            await batcher.stop()
        asyncio.run(scene())
    """)
    assert after - before < 30


@linux
def test_a_session_keeps_nothing_of_a_large_run() -> None:
    pytest.importorskip("onnx")
    before, after = _measured("""
        from onnx import TensorProto as T, helper
        from toolkit.protocols import PredictorFacts
        from toolkit.serving.sessions import OnnxPredictor
        ends = [helper.make_tensor_value_info("image", T.UINT8, ["n", "h"]),
                helper.make_tensor_value_info("y", T.FLOAT, ["n", 1])]
        steps = [helper.make_node("Cast", ["image"], ["f"], to=T.FLOAT), helper.make_node("Exp", ["f"], ["g"]),
                 helper.make_node("ReduceMean", ["g"], ["y"], axes=[1], keepdims=1)]
        graph = helper.make_graph(steps, "g", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        facts = PredictorFacts(form="compiled", provider="", digest="")
        predictor = OnnxPredictor(model.SerializeToString(), facts=facts)
        predictor.predict({"image": np.zeros((1, 64), np.uint8)})
        print(rss())
        predictor.predict({"image": np.zeros((1, 20_000_000), np.uint8)})
        print(rss())
    """)
    assert after - before < 30
