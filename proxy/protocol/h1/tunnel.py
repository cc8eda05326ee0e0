"""Carries bytes both ways between a client and a backend after a 101, until both have ended.

Each direction is a loop of its own: read from the one, write to the other, and pass the end on as
an end, so that a protocol with half-closed connections keeps working (RFC 9110 §7.8). Nothing is
looked at, and at most one piece per direction is held, so that the slower side sets the pace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...transport.clock import Clock
from ...transport.deadlines import NEVER
from ...transport.stream import Stream, StreamBroken
from ..message import Tunnel


class _Activity:
    """Either direction keeps the whole tunnel alive."""

    __slots__ = ("_clock", "_patience", "_streams")

    def __init__(self, clock: Clock, patience: float, *streams: Stream) -> None:
        self._clock = clock
        self._patience = patience
        self._streams = streams
        self.noted()

    def noted(self) -> None:
        deadline = self._clock.now + self._patience
        for stream in self._streams:
            stream.deadline = deadline


async def relay(client: Stream, early: bytes, tunnel: Tunnel, clock: Clock) -> int:
    """Carry bytes until both sides have ended or one has broken; the number that the client got.
    What came from it is counted in ``tunnel.received``.

    ``early`` are bytes of the client's that came with its request's head.
    """
    backend = tunnel.stream
    activity = _Activity(clock, tunnel.idle_timeout, client, backend)
    sent = 0

    def up(count: int) -> None:
        tunnel.received += count

    def down(count: int) -> None:
        nonlocal sent
        sent += count

    async def carry(
        source: Stream, sink: Stream, first: bytes, count: Callable[[int], None]
    ) -> None:
        data = first or await source.read()
        while data:
            activity.noted()
            await sink.write(data)
            count(len(data))
            data = await source.read()
        await sink.send_eof()

    ways = (
        asyncio.ensure_future(carry(client, backend, early, up)),
        asyncio.ensure_future(carry(backend, client, tunnel.leftover, down)),
    )
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        complete = all(one.done() and one.exception() is None for one in ways)
    finally:
        for one in ways:
            one.cancel()
        for outcome in await asyncio.gather(*ways, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, StreamBroken):
                raise outcome
        client.deadline = NEVER
        tunnel.close(False)
    if not complete:
        client.abort()
    return sent
