"""Of an answer head and body leave together, and nothing is held for longer than a turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from toolkit.serving.head_with_body import HeadWithBody

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


class Told(asyncio.Transport):
    """What a transport was told to do, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.did: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.did.append(bytes(data))

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        self.did.append(b"".join(parts))

    def close(self) -> None:
        self.did.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.did


def told(*what: bytes | str) -> list[bytes | str]:
    """What reaches the transport of these writes; `turn` stands for a turn of the loop, `close` closes, and `gone` is
    a client that leaves."""

    async def run() -> list[bytes | str]:
        transport = Told()
        out = HeadWithBody(transport, asyncio.get_running_loop())
        for one in what:
            if one == "turn":
                await asyncio.sleep(0)
            elif one == "close":
                out.close()
            elif one == "gone":
                transport.close()
            else:
                assert isinstance(one, bytes)
                out.write(one)
        assert out.is_closing() == ("close" in what or "gone" in what)
        return list(transport.did)

    return asyncio.run(run())


def test_head_and_body_are_one_write() -> None:
    assert told(HEAD, b"body") == [HEAD + b"body"]
    assert told(HEAD, b"body", "turn") == [HEAD + b"body"]


def test_a_head_alone_is_sent_after_one_turn() -> None:
    assert told(HEAD) == []
    assert told(HEAD, "turn", b"body", b"more") == [HEAD, b"body", b"more"]


def test_a_head_is_sent_before_the_connection_is_closed() -> None:
    assert told(HEAD, "close", "turn") == [HEAD, "closed"]


def test_a_head_is_not_written_to_a_client_that_has_gone() -> None:
    assert told(HEAD, "gone", "turn") == ["closed"]


def test_answers_that_follow_one_another_keep_their_order() -> None:
    assert told(HEAD, b"", HEAD, b"body", HEAD, "turn") == [HEAD, HEAD + b"body", HEAD]


def test_that_a_request_may_go_on_is_told_at_once() -> None:
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert told(go_on) == [go_on]


def test_a_body_that_begins_like_a_head_is_sent_all_the_same() -> None:
    assert told(HEAD, b"HTTP/1.1 is old", b"HTTP/1.1 is old", "turn") == [HEAD + b"HTTP/1.1 is old", b"HTTP/1.1 is old"]
