"""HTTP/2 towards a backend: one connection that carries many exchanges (RFC 9113).

One task reads it, and every exchange (`client_exchange`) writes through the same session.

Back-pressure is the windows': a stream gets credit for what was read of it, so that a response that
its client does not take stops its backend, and costs no more memory than a window. The connection's
own window is large enough for all streams, so that one of them holds up no other.

What it never does: repeat. When a connection ends, an exchange whose stream the backend surely has
not processed says so (`NoResponse.unseen`: REFUSED_STREAM, or above the last stream of a GOAWAY).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ...errors import Fault
from ...transport.clock import Clock
from ...transport.stream import READ_SIZE, StreamBroken
from ...transport.tcp import SocketStream
from ..h1.client import NoResponse
from ..message import Fields
from . import frames
from .client_session import ClientSession
from .engine import StreamGone, Terms
from .events import Answer, Data, Ended, Event, Pong, Reset, Room, Trailers
from .frames import ConnectionFailed

# What a backend may send as a head; as over HTTP/1.1.
_TERMS = Terms(header_size=64 * 1024, header_count=200)
# More streams than that share one connection's fate, and its place in the kernel's buffers.
_MOST_STREAMS = 100
_WINDOW_OF_EACH = 64 * 1024
# Bytes that wait for the backend to read before whoever sends a body has to wait.
_MOST_UNSENT = 256 * 1024
# Seconds of silence, with streams open, after which the backend is asked whether it is there, and
# for which it may take to say so.
_SILENT_FOR = 10.0
_PONG_WITHIN = 5.0


class Exchange(Protocol):
    """What a connection tells an exchange on it."""

    room: asyncio.Event  # a window has grown

    def take(self, event: Answer | Data | Trailers | Reset | Room) -> None:
        """An event of its stream."""
        ...

    def fail(self, why: Fault | NoResponse | StreamBroken) -> None:
        """Nothing more will come."""
        ...


class BackendSession:
    """One connection. ``ended``: it takes no further stream; ``used``: a request was sent on it."""

    def __init__(
        self, stream: SocketStream, clock: Clock, scheme: bytes, on_change: Callable[[], None]
    ) -> None:
        self.stream = stream
        self.clock = clock
        self.scheme = scheme
        self.ended = self.used = False
        self.idle_since = clock.now
        self._on_change = on_change
        self.session = ClientSession(_TERMS, clock.now, window=_MOST_STREAMS * _WINDOW_OF_EACH)
        self._exchanges: dict[int, Exchange] = {}
        self._heard = clock.now
        self._asked: float | None = None  # since when a PING is out
        self._writer: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()
        self._drained.set()
        self._reader = asyncio.ensure_future(self._read())
        self.flush()

    @property
    def active(self) -> int:
        return len(self._exchanges)

    @property
    def has_room(self) -> bool:
        return not self.ended and self.active < min(_MOST_STREAMS, self.session.peer_streams)

    def tick(self, now: float) -> None:
        """Ask a backend that is silent whether it is still there."""
        if not self._exchanges:
            return
        if self._asked is not None and now - self._asked > _PONG_WITHIN:
            self._end(Fault("backend_timeout", f"no answer to a PING within {_PONG_WITHIN:g} s"))
        elif self._asked is None and now - max(self._heard, self.idle_since) > _SILENT_FOR:
            self._asked = now
            self.session.ping(b"treehous")
            self.flush()

    def close(self) -> None:
        self._end(StreamBroken("closed"))

    def open(self, exchange: Exchange, fields: Fields, end: bool, bodiless: bool) -> int:
        """Raises `NoResponse` where the connection has ended meanwhile."""
        try:
            number = self.session.request(fields, end, bodiless=bodiless)
        except StreamGone:
            raise NoResponse("the connection has ended", unseen=True) from None
        self.used = True
        self._exchanges[number] = exchange
        return number

    def release(self, number: int) -> None:
        """An exchange is over; what is left of its stream is cancelled."""
        if self._exchanges.pop(number, None) is None:
            return
        self.session.reset(number, frames.CANCEL)
        self.session.release(number)
        self.flush()
        self.idle_since = self.clock.now
        if self.ended and not self._exchanges:
            self.close()
        self._on_change()

    # Bytes

    async def _read(self) -> None:
        why: Fault | StreamBroken
        try:
            while True:
                data = await self.stream.read(READ_SIZE)
                if not data:
                    why = StreamBroken("the connection was closed")
                    break
                self._heard, self._asked = self.clock.now, None
                for event in self.session.receive(data, self.clock.now):
                    self._tell(event)
                self.flush()
        except StreamBroken as error:
            why = error
        except ConnectionFailed as error:
            self.flush()
            why = Fault("backend_protocol", f"{error} (RFC 9113)")
        self._end(why)

    def _tell(self, event: Event) -> None:
        match event:
            case Ended(last=last):
                # No failure: it only takes no more (RFC 9113 §6.8).
                self.ended = True
                for number, exchange in list(self._exchanges.items()):
                    if number > last:
                        exchange.fail(NoResponse("GOAWAY", unseen=True))
                if not self._exchanges:
                    self.close()
                self._on_change()
            case Room(stream=0):
                for exchange in self._exchanges.values():
                    exchange.room.set()
            case Pong():
                pass
            case Answer() | Data() | Trailers() | Reset() | Room():
                taker = self._exchanges.get(event.stream)
                if taker is not None:
                    taker.take(event)
                elif isinstance(event, Data):
                    self.session.consumed(event.stream, len(event.data))

    def _end(self, why: Fault | StreamBroken) -> None:
        self.ended = True
        for exchange in list(self._exchanges.values()):
            exchange.fail(why)
        self.session.close()
        for task in (self._reader, self._writer):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self.stream.close()
        self._drained.set()
        self._on_change()

    def flush(self) -> None:
        if self._writer is not None or self.session.unsent == 0:
            return
        try:
            rest = self.stream.write_now(self.session.take())
        except StreamBroken:
            return  # the reader tells
        if rest:
            self._drained.clear()
            self._writer = asyncio.ensure_future(self._write(rest))

    async def _write(self, rest: bytes | memoryview) -> None:
        try:
            while rest:
                await self.stream.write(rest)
                rest = self.session.take()
        except StreamBroken:
            return
        finally:
            self._writer = None
            self._drained.set()

    async def drained(self) -> None:
        """Return when the backend has read enough of what waits for it."""
        if self.session.unsent > _MOST_UNSENT or self._writer is not None:
            await self._drained.wait()
