"""The body of a request over HTTP/2, between the frames that bring it and the handler that reads
it.

What has come and was not read yet lies here, and is never more than the windows allow: the client
gets credit only for what somebody has read. So a backend that does not take an upload stops the
client that sends it, and an upload that nobody reads costs a window of memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from ...config.model import Limits
from ...errors import Fault
from ...transport.clock import Clock
from ..message import Fields, Request

# As for HTTP/1.1 (`h1.reader`): a body must come at this rate on average, in bytes per second,
# after `limits.body_timeout` of grace.
_LEAST_RATE = 500.0
_MOST_AT_ONCE = 64 * 1024
# What is left of a body that nobody wants is read if it is this short.
_WORTH_READING = 64 * 1024


class Source(Protocol):
    """What a body needs of its stream."""

    def consumed(self, count: int) -> None:
        """So many bytes were read: the client may send as many more."""
        ...

    def invite(self) -> None:
        """Send 100 (Continue)."""
        ...

    def read_by(self, deadline: float) -> None:
        """Call `RequestBody.fail` when nothing has come by then."""
        ...


class RequestBody:
    """See `message.Body`. ``length`` is Content-Length, None where the client gave none. ``ended``:
    the last of it has come, read or not. ``endless``: a tunnel's, which has no pace and no size."""

    __slots__ = (
        "_clock",
        "_endless",
        "_fault",
        "_pieces",
        "_request",
        "_source",
        "_waited",
        "_waiter",
        "at_end",
        "ended",
        "length",
        "limits",
        "received",
        "trailers",
    )

    def __init__(
        self,
        source: Source,
        request: Request,
        length: int | None,
        limits: Limits,
        clock: Clock,
        endless: bool = False,
    ) -> None:
        self._source = source
        self._request = request
        self.limits = limits
        self._clock = clock
        self._pieces: deque[bytes] = deque()
        self.ended = False
        self._fault: Fault | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._waited = 0.0
        self._endless = endless
        self.length = length
        self.received = 0
        self.at_end = False
        self.trailers: Fields = []

    # What the frames bring

    def feed(self, data: bytes, end: bool) -> None:
        if data:
            self._pieces.append(data)
        self.ended = self.ended or end
        self._wake()

    def feed_trailers(self, fields: Fields) -> None:
        self.trailers = fields
        self.ended = True
        self._wake()

    def fail(self, fault: Fault) -> None:
        """The rest will not come: whoever reads gets ``fault``, even before what has come."""
        if not self.ended:
            self._fault = fault
            self._pieces.clear()
            self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the handler reads

    @property
    def remaining(self) -> int | None:
        return None if self.length is None else self.length - self.received

    async def read(self) -> bytes:
        while True:
            if self._fault is not None:
                raise self._fault
            if self._pieces:
                return self._taken(self._next())
            if self.ended:
                self.at_end = True
                return b""
            if self._request.expects_continue:
                self._request.expects_continue = False
                self._source.invite()
            await self._more()

    def _next(self) -> bytes:
        """What there is, at most 64 KiB (or one frame)."""
        pieces = self._pieces
        first = pieces.popleft()
        if not pieces or len(first) + len(pieces[0]) > _MOST_AT_ONCE:
            return first
        taken, size = [first], len(first)
        while pieces and size + len(pieces[0]) <= _MOST_AT_ONCE:
            size += len(pieces[0])
            taken.append(pieces.popleft())
        return b"".join(taken)

    def _taken(self, piece: bytes) -> bytes:
        self.received += len(piece)
        self.at_end = self.ended and not self._pieces
        self._source.consumed(len(piece))
        most = self.limits.body_size
        if most is not None and self.received > most and not self._endless:
            raise Fault("body_too_large", f"more than {most} bytes")
        return piece

    async def _more(self) -> None:
        """Wait until something comes. Only time spent waiting for the client counts against it."""
        clock, patience = self._clock, self.limits.body_timeout
        begun = clock.now
        left = patience + self.received / _LEAST_RATE - self._waited
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        if not self._endless:
            self._source.read_by(begun + min(patience, max(left, 0.0)))
        try:
            await waiter
        finally:
            self._waiter = None
            self._source.read_by(float("inf"))
            self._waited += clock.now - begun

    def buffered(self) -> bytes | None:
        """The whole body, if its end has come and nothing was read yet."""
        if not self.ended or self.received or self.trailers or self._fault is not None:
            return None
        whole = b"".join(self._pieces)
        self._pieces.clear()
        return self._taken(whole)


class Leftovers:
    """Bodies of requests that were answered before they had ended. DATA of them is on its way
    already, so that some of it is let pass before the client is told (RFC 9113 §8.1); clients may
    take that for a failure."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: dict[int, int] = {}  # bytes that may still pass, by stream

    def add(self, stream: int) -> None:
        self._left[stream] = _WORTH_READING

    def take(self, stream: int, count: int, end: bool) -> bool:
        """Whether DATA may pass; after a False the stream is to be reset."""
        left = self._left.pop(stream, 0) - count
        if left >= 0 and not end:
            self._left[stream] = left
        return left >= 0

    def forget(self, stream: int) -> None:
        """It has ended."""
        self._left.pop(stream, None)
