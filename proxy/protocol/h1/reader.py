"""Reads request heads from a client's connection, one after the other.

The reader holds what was read and not yet used, so that pipelined requests, and bodies that came
with their head, cost no further read. Every wait has its deadline. A deadline that passes, or a
client that leaves in the middle, becomes a `Fault` here; a client that is done between two requests
is no fault at all.

Bodies are read through the same object, by `request_body`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ...accelerated import Lane, copies, lane
from ...config.model import Limits
from ...errors import Fault
from ...transport.deadlines import Timeouts
from ...transport.stream import READ_SIZE, Stream, StreamBroken, StreamTimeout
from ..service import Service
from . import strict_parser

# Empty lines that are read over before a request: old clients end a body with one.
_EMPTY_LINES = 2
_CR = ord("\r")


class Inline(Protocol):
    """``arrived`` is called with what comes while a request is waited for, within the readiness
    callback, and returns whether it has dealt with it; see `h1`. ``begun``: it has read a request
    that is not finished."""

    @property
    def begun(self) -> bool: ...

    def arrived(self, data: bytes) -> bool: ...


class RequestReader:
    """``limits`` and ``service`` are those of the connection. ``partial`` is what has come of a
    head that does not end, for the log."""

    __slots__ = ("_held", "_pending", "limits", "partial", "service", "stream", "timeouts")

    def __init__(
        self, stream: Stream, service: Service, timeouts: Timeouts, limits: Limits
    ) -> None:
        self.stream = stream
        self.service = service
        self.timeouts = timeouts
        self.limits = limits
        self._held = b""
        self.partial = b""
        self._pending: asyncio.Future[bytes] | None = None  # a read of `more` that nobody took yet

    async def head(self, inline: Inline | None = None) -> bytes:
        """The next complete head, or b"" when the client sends no more. A head that ``inline`` has
        dealt with is not returned; one that it has begun is, whole, and is not to be read again.

        Raises `Fault` for a head that is too slow, too large, or known to be malformed, and what
        ``inline`` raises.
        """
        data, skipped = self._held, 0
        self._held = b""
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
            return data
        self._held = data[end:]
        return data[:end]

    async def _wait_for_head(self, inline: Inline | None) -> bytes:
        """What comes after a time in which nothing was under way; b"" when nothing does."""
        stream = self.stream
        stream.deadline = self.service.clock.now + self.limits.keepalive_timeout
        self.timeouts.idle = True
        try:
            return await stream.read(READ_SIZE, None if inline is None else inline.arrived)
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
    def buffered(self) -> int:
        return len(self._held)

    def hold(self, data: bytes) -> None:
        """Keep what has come for later."""
        self._held += data

    def put_back(self, data: bytes) -> None:
        self._held = data + self._held


def in_c(lane: Lane) -> Callable[[Stream, Service, Timeouts, Limits], RequestReader]:
    """Return what a lane has in place of `RequestReader`."""
    nothing: Any = None
    pattern = RequestReader(nothing, nothing, nothing, nothing)
    return copies(lane, pattern, "stream", "service", "timeouts", "limits")


new_reader = RequestReader if lane is None else in_c(lane)
