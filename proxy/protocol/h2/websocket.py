"""WebSockets over HTTP/2 (RFC 8441): a stream of ours becomes one end of a tunnel.

The client asks with CONNECT and `:protocol`; a backend is asked with a GET and Upgrade, for that is
how WebSockets are spoken with backends, and a key that RFC 6455 wants there and RFC 8441 has no
place for. What the backend says to the key is verified here, because the client cannot."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...errors import Fault
from ...transport.deadlines import NEVER
from ...transport.stream import READ_SIZE, OnData, StreamBroken
from ..message import Fields, Request, Response, Tunnel
from . import frames
from .answer import fields_of
from .body import RequestBody
from .engine import Engine, StreamGone

if TYPE_CHECKING:
    from .work import Work

log = logging.getLogger("treehouse.worker")

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
# Fields of the answer that RFC 8441 §5 has no use for.
_OF_HTTP_1 = frozenset({b"sec-websocket-accept", b"upgrade", b"connection"})


def accepts(fields: Fields, key: bytes) -> bool:
    """Whether an answer of 101 is one to our key (RFC 6455 §4.1)."""
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return [v for n, v in fields if n == b"sec-websocket-accept"] == [base64.b64encode(digest)]


def ask_as_http1(request: Request) -> bytes:
    """Make the request what HTTP/1.1 has for it; the key that the backend must answer."""
    key = base64.b64encode(secrets.token_bytes(16))
    request.method = b"GET"
    request.upgrade = b"websocket"
    request.fields = [
        *(field for field in request.fields if field[0] != b"sec-websocket-key"),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-key", key),
    ]
    request.uncached_fields = request.fields
    return key


def check(work: Work, response: Response, tunnel: Tunnel) -> None:
    """Raise `Fault` for a 101 of a backend that answers another key than ours, or none: whoever
    sent it has not understood what was asked."""
    if accepts(response.fields, work.key):
        return
    tunnel.close(False)
    backend, request = response.backend, work.exchange.request
    site = request.host.decode("latin-1") if request is not None else ""
    why = f"{backend}: its 101 does not answer the key of a WebSocket (RFC 6455 §4.1)"
    log.warning("backend_protocol: %s", why, extra={"backend": backend, "site": site})
    fault = Fault("backend_protocol", why)
    fault.backend = backend
    raise fault


def opened(
    work: Work,
    response: Response,
    engine: Engine,
    is_choked: Callable[[], bool],
    soon: Callable[[], None],
) -> StreamEnd | None:
    """Answer the stream, and give it as the end of a tunnel; None where fields of the backend's
    answer cannot be sent, or the stream is gone."""
    assert work.body is not None  # noqa: S101 - made with the key
    fields = [field for field in response.fields if field[0] not in _OF_HTTP_1]
    try:
        engine.head(work.number, 200, fields_of(fields), False)
    except (StreamGone, ValueError) as error:
        log.warning("a WebSocket over HTTP/2 cannot be opened: %s", error)
        return None
    soon()
    return StreamEnd(engine, work.number, work.body, is_choked, soon)


class StreamEnd:
    """A stream of HTTP/2 as `transport.Stream` has it, for `h1.tunnel.relay`. ``is_choked``:
    whether the client has much to take before it is given more; ``soon``: have what was queued
    sent."""

    def __init__(
        self,
        engine: Engine,
        number: int,
        body: RequestBody,
        is_choked: Callable[[], bool],
        soon: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._number = number
        self._body = body
        self._is_choked = is_choked
        self._soon = soon
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
            window = 0 if self._is_choked() else self._engine.window(self._number)
            if not window:
                if not self._engine.is_open(self._number):
                    raise StreamBroken("the stream was reset")
                self._room = asyncio.get_running_loop().create_future()
                await self._room
                continue
            count = min(window, len(data) - at)
            self._engine.data(self._number, bytes(data[at : at + count]), False)
            self._soon()
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
        self._soon()

    def close(self) -> None:
        self._engine.reset(self._number, frames.CANCEL)
        self._soon()

    abort = close
