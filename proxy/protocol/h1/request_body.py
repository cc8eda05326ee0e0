"""The body of a request on its way from the client: waited for, within bounds of time and size.

What its bytes mean says `body.BodyReader`. A client must send at a least rate, and only the time
that we waited for it counts. Running into a bound is a `Fault` of the client.
"""

from __future__ import annotations

import h11

from ...errors import Fault
from ..message import Fields, Request
from .body import CHUNKED, BodyReader
from .interim import send_interim
from .reader import RequestReader
from .serializer import CONTINUE

# A body must come at this rate on average, after `limits.body_timeout` of grace (slow-post).
# Apache's mod_reqtimeout asks for 500 bytes a second; a modem sent 3,000.
_LEAST_RATE = 500.0
# What is left of a body that nobody wants is read if it is this short (bytes), so that the
# connection can be used again.
WORTH_READING = 64 * 1024


class _Pace:
    """Bounds how long the client may take: ``limits.body_timeout`` for each piece, and on the whole
    a least rate. Only time spent waiting for the client counts, not time that the backend takes."""

    __slots__ = ("_patience", "_reader", "_waited")

    def __init__(self, reader: RequestReader, patience: float) -> None:
        self._reader = reader
        self._patience = patience
        self._waited = 0.0

    async def more(self, most: int, received: int) -> bytes:
        reader = self._reader
        if reader.buffered:
            return await reader.more(most)
        clock = reader.service.clock
        begun = clock.now
        patience = self._patience
        left = patience + received / _LEAST_RATE - self._waited
        reader.stream.deadline = begun + min(patience, max(left, 0.0))
        data = await reader.more(most)
        self._waited += clock.now - begun
        return data


class RequestBody:
    """The body of a request, read from its client's connection; see `message.Body`.

    ``framing`` and ``h11_connection`` as `BodyReader` takes them. A body that came whole with its
    head needs no reader.
    """

    __slots__ = (
        "_decoding",
        "_h11",
        "_pace",
        "_reader",
        "_request",
        "at_end",
        "length",
        "limits",
        "received",
        "trailers",
    )

    def __init__(
        self,
        reader: RequestReader,
        request: Request,
        framing: int,
        h11_connection: h11.Connection | None = None,
    ) -> None:
        self._reader = reader
        self._request = request
        self._h11 = h11_connection
        self._decoding: BodyReader | None = None
        self._pace: _Pace | None = None
        self.limits = reader.limits
        self.length = framing if framing >= 0 else None
        self.received = 0
        self.at_end = False
        self.trailers: Fields = []

    @property
    def remaining(self) -> int | None:
        return None if self.length is None else self.length - self.received

    async def read(self) -> bytes:
        decoding = self._started()
        while not self.at_end:
            if self._request.expects_continue:
                await self._invite()
            if self._pace is None:
                self._pace = _Pace(self._reader, self.limits.body_timeout)
            piece = self._fed(decoding, await self._pace.more(decoding.wanted, self.received))
            if piece:
                return piece
        return b""

    def buffered(self) -> bytes | None:
        """See `message.Body`. None for chunks: whether all are there, only decoding tells."""
        length = self.length
        if length is None or self.received or self._reader.buffered < length:
            return None
        data = self._reader.take(length)
        if self._h11 is not None:
            return self._fed(self._started(), data)
        self.at_end = True
        self._count(length)
        return data

    def _started(self) -> BodyReader:
        if self._decoding is None:
            framing = CHUNKED if self.length is None else self.length
            self._decoding = BodyReader(framing, self._reader.service.clock.now, self._h11)
        return self._decoding

    def _fed(self, decoding: BodyReader, data: bytes) -> bytes:
        piece = decoding.feed(data, self._reader.service.clock.now)
        if decoding.ended:
            self.at_end, self.trailers = True, decoding.trailers
            if decoding.rest:
                self._reader.put_back(decoding.rest)
        self._count(len(piece))
        return piece

    async def _invite(self) -> None:
        """Send 100 (Continue) if the client waits for it and nobody has sent it yet."""
        self._request.expects_continue = False
        if not self._reader.buffered:
            await send_interim(self._reader, CONTINUE)

    def _count(self, size: int) -> None:
        self.received += size
        most = self.limits.body_size
        if most is not None and self.received > most:
            raise Fault("body_too_large", f"more than {most} bytes")
