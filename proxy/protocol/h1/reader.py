"""What arrives on a client's connection: heads, one after the other, and bodies in between.

The inlet holds what was read and not yet used, so that pipelined requests and bodies that came with
their head cost no further read. Every wait has its deadline; running into one, or into a client who
left, becomes a `Fault` here, and a client who is done between two requests is no fault at all.

What a body's bytes mean says `body.BodyReader`; here they are waited for, within bounds of time and
size.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import h11

from ...config.model import Limits
from ...errors import Fault
from ...transport.deadlines import Timeouts
from ...transport.stream import READ_SIZE, Stream, StreamBroken, StreamTimeout
from ..message import Fields, Request
from ..service import Service
from . import strict_parser
from .body import CHUNKED, BodyReader
from .serializer import CONTINUE

# A body must come at this rate on average, after `limits.body_timeout` of grace (slow-post).
# Apache's mod_reqtimeout asks for 500 bytes a second; a modem sent 3,000.
_LEAST_RATE = 500.0
# Empty lines that are read over before a request: old clients end a body with one.
_EMPTY_LINES = 2
_CR = ord("\r")
# What is left of a body nobody wants is read if it is this short, so that the connection can stay.
WORTH_READING = 64 * 1024


class Inline(Protocol):
    """Is called with what comes while a request is waited for, within the readiness callback, and
    returns whether it has dealt with it; see `h1`. ``begun``: it has read a request that is not
    finished."""

    begun: bool

    def __call__(self, data: bytes) -> bool: ...


class Inlet:
    __slots__ = ("_held", "_pending", "limits", "partial", "service", "stream", "timeouts")

    def __init__(self, stream: Stream, service: Service, timeouts: Timeouts) -> None:
        self.stream = stream
        self.timeouts = timeouts
        self.service = service
        self.limits: Limits = service.limits
        self._held = b""
        self.partial = b""  # of a head that does not end
        self._pending: asyncio.Future[bytes] | None = None  # a read of `more` that nobody took yet

    async def head(self, inline: Inline | None = None) -> bytes:
        """The next complete head, or b"" when the client sends no more. A head that ``inline`` has
        dealt with is not returned; one that it has begun is, whole, and is not to be read again.

        Raises `Fault` for a head that is too slow, too large, or known to be malformed, and what
        ``inline`` raises.
        """
        data, skipped = self._held, 0
        while True:
            if not data:
                data = await self._wait_for_head(inline)
                if not data or (inline is not None and inline.begun):
                    return data
            if data[0] != _CR or skipped == _EMPTY_LINES:
                break
            data, skipped = await self._skip_empty_lines(data, skipped)
        end = data.find(strict_parser.HEAD_END)
        if end < 0:
            data = await self._rest_of_head(data)
            end = data.find(strict_parser.HEAD_END)
        end += len(strict_parser.HEAD_END)
        if end == len(data):
            self._held = b""
            return data
        self._held = data[end:]
        return data[:end]

    async def _wait_for_head(self, inline: Inline | None) -> bytes:
        """What comes after a time in which nothing was under way; b"" when nothing does."""
        stream = self.stream
        stream.deadline = self.service.clock.now + self.limits.keepalive_timeout
        self.timeouts.idle = True
        try:
            return await stream.read(READ_SIZE, inline)
        except StreamBroken:
            return b""  # nothing is lost
        finally:
            self.timeouts.idle = False

    async def _skip_empty_lines(self, data: bytes, skipped: int) -> tuple[bytes, int]:
        """``data`` without the empty lines that it begins with, and their number. Whatever stands
        behind the last that is allowed is a head (RFC 9112 §2.2 asks for one at least)."""
        while data[:1] == b"\r" and skipped < _EMPTY_LINES:
            if data == b"\r":
                self.stream.deadline = self.service.clock.now + self.limits.header_timeout
                data += await self._more_of_head()
            if data[:2] != b"\r\n":
                return data, _EMPTY_LINES
            data = data[2:]
            skipped += 1
        return data, skipped

    async def _rest_of_head(self, data: bytes) -> bytes:
        """``data`` and what follows, up to the end of the head at least."""
        limits = self.limits
        self.stream.deadline = self.service.clock.now + limits.header_timeout
        self.partial = data
        while strict_parser.HEAD_END not in data:
            if strict_parser.beginning_is_bad(data):
                rule = strict_parser.rule_of_beginnings(data)
                raise Fault("malformed_request", f"{rule}: {data[:32]!r}")
            if len(data) > limits.header_size:
                raise strict_parser.too_large(data, limits)
            data = self.partial = data + await self._more_of_head()
        self.partial = b""
        return data

    async def _more_of_head(self) -> bytes:
        try:
            more = await self.stream.read()
        except StreamTimeout:
            raise Fault("header_timeout") from None
        except StreamBroken:
            more = b""
        if not more:
            raise Fault("client_gone", "within a head")
        return more

    async def more(self, most: int) -> bytes:
        """At least one byte of a body, at most ``most``. The deadline is the caller's.

        May be cancelled without harm: bytes that have come and that the cancelled one did not live
        to take are the next one's. (Lost, they would shift the rest of the connection: a part of
        the next request would be read as this one's body.)
        """
        held = self._held
        if held:
            self._held = held[most:]
            return held[:most]
        pending = self._pending
        if pending is None or pending.cancelled():
            pending = asyncio.ensure_future(self.stream.read(min(most, READ_SIZE)))
            self._pending = pending
        try:
            data = await pending
        except StreamTimeout:
            raise Fault("body_timeout") from None
        except StreamBroken:
            data = b""
        self._pending = None
        if not data:
            raise Fault("client_gone", "within a body")
        return data

    def take(self, most: int) -> bytes:
        """What is there already, at most ``most`` bytes."""
        held = self._held
        self._held = held[most:]
        return held[:most]

    @property
    def at_hand(self) -> int:
        return len(self._held)

    def put_back(self, data: bytes) -> None:
        self._held = data + self._held


class _Pace:
    """How long the client may take: ``limits.body_timeout`` for each piece, and on the whole no
    less than a least rate. Only time spent waiting for him counts, not time the backend takes."""

    __slots__ = ("_inlet", "_waited")

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet
        self._waited = 0.0

    async def more(self, most: int, received: int) -> bytes:
        inlet = self._inlet
        if inlet.at_hand:
            return await inlet.more(most)
        clock = inlet.service.clock
        begun = clock.now
        patience = inlet.limits.body_timeout
        left = patience + received / _LEAST_RATE - self._waited
        inlet.stream.deadline = begun + min(patience, max(left, 0.0))
        data = await inlet.more(most)
        self._waited += clock.now - begun
        return data


class RequestBody:
    """The body of a request, read from its client's connection; see `message.Body`.

    ``framing`` and ``h11_connection`` as `BodyReader` takes them. A body that came whole with its
    head needs no reader.
    """

    __slots__ = (
        "_h11",
        "_inlet",
        "_pace",
        "_reader",
        "_request",
        "at_end",
        "length",
        "received",
        "trailers",
    )

    def __init__(
        self,
        inlet: Inlet,
        request: Request,
        framing: int,
        h11_connection: h11.Connection | None = None,
    ) -> None:
        self._inlet = inlet
        self._request = request
        self._h11 = h11_connection
        self._reader: BodyReader | None = None
        self._pace: _Pace | None = None
        self.length = framing if framing >= 0 else None
        self.received = 0
        self.at_end = False
        self.trailers: Fields = []

    @property
    def remaining(self) -> int | None:
        return None if self.length is None else self.length - self.received

    async def read(self) -> bytes:
        reader = self._started()
        while not self.at_end:
            if self._request.expects_continue:
                await self._invite()
            if self._pace is None:
                self._pace = _Pace(self._inlet)
            piece = self._fed(reader, await self._pace.more(reader.wanted, self.received))
            if piece:
                return piece
        return b""

    def buffered(self) -> bytes | None:
        """Only for a body with a length: of chunks nobody knows whether all are there."""
        length = self.length
        if length is None or self.received or self._inlet.at_hand < length:
            return None
        data = self._inlet.take(length)
        if self._h11 is not None:
            return self._fed(self._started(), data)
        self.at_end = True
        self._count(length)
        return data

    def _started(self) -> BodyReader:
        if self._reader is None:
            framing = CHUNKED if self.length is None else self.length
            self._reader = BodyReader(framing, self._inlet.service.clock.now, self._h11)
        return self._reader

    def _fed(self, reader: BodyReader, data: bytes) -> bytes:
        piece = reader.feed(data, self._inlet.service.clock.now)
        if reader.ended:
            self.at_end, self.trailers = True, reader.trailers
            if reader.rest:
                self._inlet.put_back(reader.rest)
        self._count(len(piece))
        return piece

    async def _invite(self) -> None:
        """Send 100 (Continue) if the client waits for it and nobody has sent it yet."""
        self._request.expects_continue = False
        if not self._inlet.at_hand:
            await send_interim(self._inlet, CONTINUE)

    def _count(self, size: int) -> None:
        self.received += size
        most = self._inlet.limits.body_size
        if most is not None and self.received > most:
            raise Fault("body_too_large", f"more than {most} bytes")


async def send_interim(inlet: Inlet, wire: bytes) -> None:
    inlet.stream.deadline = inlet.service.clock.now + inlet.limits.write_timeout
    try:
        await inlet.stream.write(wire)
    except StreamBroken as error:
        raise Fault("client_gone", str(error)) from None
