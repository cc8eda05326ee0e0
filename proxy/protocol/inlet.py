"""What arrives on a client's connection: heads, one after the other, and bodies in between.

The inlet holds what was read and not yet used, so that pipelined requests and bodies that came with
their head cost no further read. Every wait has its deadline; running into one, or into a client who
left, becomes a `Fault` here, and a client who is done between two requests is no fault at all.

A body is one of two kinds. `CountedBody` follows a head from the fast lane: it counts to its length
and does nothing else. `JudgedBody` follows a head that h11 has read, and h11 goes on to say what is
data and where the message ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import h11

from ..config.model import Limits
from ..errors import Fault
from ..stream import READ_SIZE, Stream, StreamBroken, StreamTimeout
from . import strict
from .chunked import LAST_CHUNK, ChunkedDecoder, reframe
from .head import CONTINUE
from .message import Fields, Request
from .service import Service

# A body must come at this rate on average, after `limits.body_timeout` of grace (slow-post).
# Apache's mod_reqtimeout asks for 500 bytes a second; a modem sent 3,000.
_LEAST_RATE = 500.0
# What is left of a body nobody wants is read if it is this short, so that the connection can stay.
WORTH_READING = 64 * 1024


class Inline(Protocol):
    """Is called with what comes while a request is waited for, within the readiness callback, and
    returns whether it has dealt with it; see `h1`. ``begun``: it has read a request that is not
    finished."""

    begun: bool

    def __call__(self, data: bytes) -> bool: ...


class Inlet:
    __slots__ = ("_held", "_pending", "limits", "service", "stream")

    def __init__(self, stream: Stream, service: Service) -> None:
        self.stream = stream
        self.service = service
        self.limits: Limits = service.limits
        self._held = b""
        self._pending: asyncio.Future[bytes] | None = None  # a read of `more` that nobody took yet

    async def head(self, inline: Inline | None = None) -> bytes:
        """The next complete head, or b"" when the client sends no more. A head that ``inline`` has
        dealt with is not returned; one that it has begun is, whole, and is not to be read again.

        Raises `Fault` for a head that is too slow, too large, or known to be malformed, and what
        ``inline`` raises.
        """
        data = self._held
        if not data:
            stream = self.stream
            stream.deadline = self.service.clock.now + self.limits.keepalive_timeout
            stream.idle = True
            try:
                data = await stream.read(READ_SIZE, inline)
            except StreamBroken:
                return b""  # nothing was under way, so nothing is lost
            finally:
                stream.idle = False
            if inline is not None and inline.begun:
                return data
        end = data.find(strict.HEAD_END)
        if end < 0 or data[0] == 0x0D:
            data = await self._rest_of_head(data)
            if not data:
                return b""
            end = data.find(strict.HEAD_END)
        end += len(strict.HEAD_END)
        if end == len(data):
            self._held = b""
            return data
        self._held = data[end:]
        return data[:end]

    async def _rest_of_head(self, data: bytes) -> bytes:
        limits = self.limits
        stream = self.stream
        stream.deadline = self.service.clock.now + limits.header_timeout
        skipped = False
        while data:
            if not skipped and data.startswith(b"\r\n"):
                # RFC 9112 §2.2: one empty line before a request is read over.
                data, skipped = data[2:], True
                continue
            if strict.HEAD_END in data:
                return data
            if data and data != b"\r" and strict.beginning_is_bad(data):
                raise Fault("malformed_request", f"it begins with {data[:32]!r}")
            if len(data) > limits.header_size:
                raise strict.too_large(data, limits)
            try:
                more = await stream.read()
            except StreamTimeout:
                raise Fault("header_timeout") from None
            except StreamBroken:
                more = b""
            if not more:
                raise Fault("client_gone", "within a head")
            data += more
        return b""

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


class _Body:
    """What both kinds share: the interim answer that a client may wait for."""

    __slots__ = ("_inlet", "_pace", "_received", "_request", "length", "trailers")

    def __init__(self, inlet: Inlet, request: Request, length: int | None) -> None:
        self._inlet = inlet
        self._request = request
        self._pace: _Pace | None = None
        self._received = 0
        self.length = length
        self.trailers: Fields = []

    @property
    def received(self) -> int:
        return self._received

    def _more(self, most: int) -> Awaitable[bytes]:
        if self._pace is None:  # most bodies have come with their head, and nobody waits for them
            self._pace = _Pace(self._inlet)
        return self._pace.more(most, self._received)

    async def _invite(self) -> None:
        """Send 100 (Continue) if the client waits for it and nobody has sent it yet."""
        if self._request.expects_continue:
            self._request.expects_continue = False
            if not self._inlet.at_hand:
                await send_interim(self._inlet, CONTINUE)

    def _count(self, piece: bytes) -> None:
        self._received += len(piece)
        most = self._inlet.limits.body_size
        if most is not None and self._received > most:
            raise Fault("body_too_large", f"more than {most} bytes")


class CountedBody(_Body):
    """A body with a Content-Length, from the fast lane."""

    __slots__ = ("_total",)

    def __init__(self, inlet: Inlet, request: Request, length: int) -> None:
        super().__init__(inlet, request, length)
        self._total = length

    @property
    def at_end(self) -> bool:
        return self._received == self._total

    @property
    def remaining(self) -> int | None:
        return self._total - self._received

    async def read(self) -> bytes:
        left = self._total - self._received
        if not left:
            return b""
        if self._request.expects_continue:
            await self._invite()
        piece = await self._more(left)
        self._count(piece)
        return piece

    def buffered(self) -> bytes | None:
        if self._received or self._inlet.at_hand < self._total:
            return None
        self._received = self._total
        return self._inlet.take(self._total)


class JudgedBody(_Body):
    """A body whose framing h11 follows: chunked (in the canonical form that `chunked` makes of it)
    or counted."""

    __slots__ = ("_decoder", "_ended", "_judge")

    def __init__(
        self, inlet: Inlet, request: Request, length: int | None, judge: h11.Connection
    ) -> None:
        super().__init__(inlet, request, length)
        self._judge = judge
        self._decoder = ChunkedDecoder(inlet.service.clock.now) if length is None else None
        self._ended = False

    @property
    def at_end(self) -> bool:
        return self._ended

    @property
    def remaining(self) -> int | None:
        return None if self.length is None else self.length - self._received

    async def read(self) -> bytes:
        while not self._ended:
            piece = self._next()
            if piece is None:
                await self._invite()
                self._take(await self._more(self._most()))
            elif piece:
                self._count(piece)
                return piece
        return b""

    def buffered(self) -> bytes | None:
        """Only for a counted body: of a chunked one nobody knows whether it is all there."""
        if self.length is None or self._received or self._inlet.at_hand < self.length:
            return None
        self._take(self._inlet.take(self.length))
        pieces = []
        while not self._ended:
            piece = self._next()
            if piece is None:
                raise Fault("internal", "h11 wants more than Content-Length")
            pieces.append(piece)
        whole = b"".join(pieces)
        self._count(whole)
        return whole

    def _most(self) -> int:
        return READ_SIZE if self.length is None else self.length - self._received

    def _take(self, data: bytes) -> None:
        decoder = self._decoder
        if decoder is None:
            self._judge.receive_data(data)
            return
        piece = decoder.feed(data, self._inlet.service.clock.now)
        if piece:
            self._judge.receive_data(reframe(piece))
        if decoder.ended:
            self.trailers = decoder.trailers
            self._judge.receive_data(LAST_CHUNK)
            self._inlet.put_back(decoder.rest)

    def _next(self) -> bytes | None:
        """Data, b"" at the message's end, None when h11 has to be given more first."""
        try:
            event = self._judge.next_event()
        except h11.RemoteProtocolError as error:
            raise Fault("bad_chunk", f"h11: {error}") from None
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            self._ended = True
            return b""
        return None


async def send_interim(inlet: Inlet, wire: bytes) -> None:
    inlet.stream.deadline = inlet.service.clock.now + inlet.limits.write_timeout
    try:
        await inlet.stream.write(wire)
    except StreamBroken as error:
        raise Fault("client_gone", str(error)) from None
