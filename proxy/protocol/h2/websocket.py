"""WebSockets over HTTP/2 (RFC 8441): a stream of ours becomes one end of a tunnel.

The client asks with CONNECT and `:protocol`; a backend is asked with a GET and Upgrade, for that is
how WebSockets are spoken with backends, and a key that RFC 6455 wants there and RFC 8441 has no
place for. What the backend says to the key is verified here, because the client cannot."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from typing import Protocol

from ...errors import Fault
from ...transport.deadlines import NEVER
from ...transport.stream import READ_SIZE, OnData, StreamBroken
from ..message import Fields
from . import frames
from .body import RequestBody
from .engine import Engine, StreamGone

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
# Fields of the answer that RFC 8441 §5 has no use for.
_OF_HTTP_1 = frozenset({b"sec-websocket-accept", b"upgrade", b"connection"})


def new_key() -> bytes:
    """A value of Sec-WebSocket-Key."""
    return base64.b64encode(secrets.token_bytes(16))


def accepts(fields: Fields, key: bytes) -> bool:
    """Whether an answer of 101 is one to our key (RFC 6455 §4.1)."""
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return [v for n, v in fields if n == b"sec-websocket-accept"] == [base64.b64encode(digest)]


def answer_fields(fields: Fields) -> Fields:
    """The fields of a 101 that go with the 200 of the stream."""
    return [field for field in fields if field[0] not in _OF_HTTP_1]


class Link(Protocol):
    """What the end of a tunnel needs of its connection."""

    def is_choked(self) -> bool:
        """Whether the client has much to take before it is given more."""
        ...

    def soon(self) -> None:
        """Have what was queued sent."""
        ...


class StreamEnd:
    """A stream of HTTP/2 as `transport.Stream` has it, for `h1.tunnel.relay`."""

    def __init__(self, engine: Engine, number: int, body: RequestBody, link: Link) -> None:
        self._engine = engine
        self._number = number
        self._body = body
        self._link = link
        self._room: asyncio.Future[None] | None = None
        self.deadline = NEVER  # that of the backend's end is the same, and is kept

    @property
    def awaits(self) -> int:
        return 0

    def expire(self) -> None:
        """The other end expires."""

    def fail(self) -> None:
        """The connection tells."""

    async def read(self, limit: int = READ_SIZE, on_data: OnData | None = None) -> bytes:
        try:
            return await self._body.read()
        except Fault as fault:
            raise StreamBroken(fault.kind) from None

    async def write(self, data: bytes | memoryview) -> None:
        at = 0
        while at < len(data):
            window = 0 if self._link.is_choked() else self._engine.window(self._number)
            if not window:
                if not self._engine.is_open(self._number):
                    raise StreamBroken("the stream was reset")
                self._room = asyncio.get_running_loop().create_future()
                await self._room
                continue
            count = min(window, len(data) - at)
            self._engine.data(self._number, bytes(data[at : at + count]), False)
            self._link.soon()
            at += count

    def has_room(self) -> None:
        """A window has grown, or the client has taken something, or the stream is gone."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def write_now(self, data: bytes | memoryview) -> bytes | memoryview:
        return data

    async def room(self) -> int:
        return READ_SIZE

    def cork(self, on: bool) -> None:
        """There is nothing to hold back."""

    async def send_eof(self) -> None:
        try:
            self._engine.data(self._number, b"", True)
        except StreamGone:
            return
        self._link.soon()

    def close(self) -> None:
        self._engine.reset(self._number, frames.CANCEL)
        self._link.soon()

    abort = close
