"""What filters of users hold of bodies. The rest is tried with the real program."""

from __future__ import annotations

import asyncio

import pytest

from proxy.config.model import Limits
from proxy.errors import Fault
from proxy.filters import BodyTooLarge
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Connection, Fields, Request
from proxy.sites import own_messages
from proxy.sites.own_messages import LiveRequest

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")
PIECE = b"x" * 1000


class Arriving:
    """A body of which some pieces have come; the end comes when ``rest`` is set."""

    def __init__(self, pieces: int, rest: asyncio.Event) -> None:
        self.limits = Limits()
        self.length: int | None = None
        self.trailers: Fields = []
        self.received = 0
        self.remaining: int | None = None
        self.at_end = False
        self._left = pieces
        self._rest = rest

    def buffered(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        if self._left:
            self._left -= 1
            return PIECE
        await self._rest.wait()
        return b""


def live(body: Arriving) -> LiveRequest:
    request = Request(b"POST", b"/", b"1.1", b"a", b"a", [], PEER, body)
    return LiveRequest(Exchange(PEER, request), request)


async def test_bodies_that_do_not_end_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_messages._collector, "most", 10_000)
    rest = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(live(Arriving(3, rest)).body()) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Fault, match="no_capacity"):
            await live(Arriving(3, rest)).body()
        with pytest.raises(BodyTooLarge):
            await live(Arriving(1, rest)).body(limit=10)
        left = group.create_task(live(Arriving(1, rest)).body())
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        last = group.create_task(live(Arriving(1, rest)).body())
        rest.set()
    assert [task.result() for task in waiting] == [3 * PIECE] * 3
    assert last.result() == PIECE
    assert await live(Arriving(10, rest)).body() == 10 * PIECE
