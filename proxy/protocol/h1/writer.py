"""Writes responses to a client: framing, head and body.

Framing is decided here and nowhere else (RFC 9112 §6.1, §6.3): a length where it is known, chunks
where the client understands them, else the connection's end. A body that breaks off half-way ends
in a reset, never in a clean close, so that no client can take a part for the whole.

Small responses leave in one write, head and body together. All other bodies go through one pump, in
pieces, with a turn for other connections in between, so that a large download never delays a small
request.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from ...accelerated import Lane, copies, lane
from ...errors import Fault
from ...transport.deadlines import NEVER, Timeouts
from ...transport.stream import READ_SIZE, SMALL_READ, Stream, StreamBroken, StreamTimeout
from ..exchange import Exchange
from ..message import Fields, FileBody, Request, Response, StreamBody, Tunnel
from ..service import Service
from .serializer import SerialisedHead, field_lines, serialise

# Bytes sent without waiting before others have a turn.
_TURN = 512 * 1024
# RFC 9110 §6.4.1, §8.6: these never have content, and no Content-Length that could promise some.
_BARE = frozenset({204, 304})


def ends_with_connection(response: Response) -> bool:
    """Whether a client that does not know chunks finds the end of this response only by the end
    of the connection."""
    body = response.body
    return not isinstance(body, bytes | FileBody | Tunnel) and body.length is None


def client_left(timeouts: Timeouts) -> bool:
    """Whether the task was cancelled because the client of the exchange has left. The cancellation
    ends here then."""
    if timeouts.disconnected:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        task.uncancel()
    return timeouts.disconnected


class _FileSource:
    """A `FileBody` as a `StreamBody`: nobody waits for it."""

    __slots__ = ("_body", "_left", "_offset", "length", "trailers")

    def __init__(self, body: FileBody) -> None:
        self._body = body
        self._offset = body.offset
        self.length: int | None = body.length
        self._left = body.length
        self.trailers: Fields = []

    @property
    def at_end(self) -> bool:
        return not self._left

    def read_now(self, most: int = READ_SIZE) -> bytes:
        if not self._left:
            return b""
        try:
            piece = os.pread(self._body.fd, min(self._left, most), self._offset)
        except OSError as error:
            raise Fault("internal", f"a file cannot be read: {error.strerror}") from None
        if not piece:
            raise Fault("file_shrank")
        self._offset += len(piece)
        self._left -= len(piece)
        return piece

    async def read(self, most: int = READ_SIZE) -> bytes:
        return self.read_now(most)

    def close(self, complete: bool) -> None:
        self._body.release()


class ResponseWriter:
    """Sends one response at a time. Its `Exchange` learns how many bytes of the body have been
    sent, and what ended the sending early."""

    __slots__ = ("_rest", "_service", "_stream", "_timeouts")

    def __init__(self, stream: Stream, service: Service, timeouts: Timeouts) -> None:
        self._stream = stream
        self._timeouts = timeouts
        self._service = service
        self._rest: bytes | memoryview = b""

    def send_plain(self, exchange: Exchange, request: Request, response: Response) -> bool | None:
        """Send a plain response in one write, with no coroutine: one whose body is bytes, and whose
        head is ready but for Date. It is the common case. True when the kernel took all of it,
        False when the client is gone. None: the response is of another kind and nothing was sent,
        or, where `unsent`, `send_rest` has to wait for the rest."""
        cached, body = response.cached, response.body
        if cached is None and response.shared:
            cached = self._serialised(response)
        if (
            type(cached) is not SerialisedHead
            or type(body) is not bytes
            or response.status in _BARE
            or request.version != b"1.1"
            or request.method == b"HEAD"
        ):
            return None
        if cached.dated:
            data = b"%b\r\n%b" % (cached.wire, body)
        else:
            data = b"%b%b\r\n%b" % (cached.wire, self._service.clock.date_field, body)
        try:
            rest = self._stream.write_now(data)
        except StreamBroken as error:
            return self._broken(exchange, error)
        exchange.sent = len(body)
        if not rest:
            return True
        self._rest = rest
        return None

    def _serialised(self, response: Response) -> SerialisedHead | None:
        """Serialise the head of a response that is given to many, for all of them; None where it is
        of another kind than `send_plain` sends."""
        body = response.body
        if not isinstance(body, bytes) or response.status in _BARE:
            return None
        try:
            wire = serialise(response.status, response.fields) + self._length(response, len(body))
        except Fault:
            return None  # `send` tells of it
        made = response.cached = SerialisedHead(wire, wire.find(b"\r\ndate: ") >= 0)
        return made

    @property
    def unsent(self) -> bool:
        """Whether a part of a plain response is still to be sent."""
        return bool(self._rest)

    async def send_rest(self, exchange: Exchange) -> bool:
        rest, self._rest = self._rest, b""
        try:
            await self._write(rest)
        except StreamBroken as error:
            return self._broken(exchange, error)
        return True

    def _broken(self, exchange: Exchange, error: StreamBroken) -> bool:
        exchange.error = "client_stalled" if isinstance(error, StreamTimeout) else "client_gone"
        self._stream.abort()
        return False

    async def send(self, exchange: Exchange, response: Response, close: bool) -> bool:
        """Send it; ``close`` announces the end of the connection. False when it was not sent whole,
        and the connection cannot be used again."""
        body = response.body
        try:
            if isinstance(body, bytes):
                return await self._send_bytes(exchange, response, body, close)
            if isinstance(body, Tunnel):
                raise Fault("internal", "a tunnel is relayed, not sent")
            source = _FileSource(body) if isinstance(body, FileBody) else body
            return await self._send_stream(exchange, response, source, close)
        except StreamBroken as error:
            return self._broken(exchange, error)
        except Fault as fault:
            exchange.error = fault.kind
        except asyncio.CancelledError:
            if not client_left(self._timeouts):
                raise
            exchange.error = "client_gone"
        self._stream.abort()
        return False

    # Heads

    def _head(
        self, request: Request | None, response: Response, close: bool, framing: bytes = b""
    ) -> bytes:
        cached = response.cached
        if isinstance(cached, SerialisedHead):
            wire, dated = cached.wire, cached.dated
        else:
            wire = serialise(response.status, response.fields)
            dated = wire.find(b"\r\ndate: ") >= 0
        if not dated:
            framing += self._service.clock.date_field
        if close:
            framing += b"connection: close\r\n"
        elif request is not None and request.version == b"1.0":
            framing += b"connection: keep-alive\r\n"
        return b"%b%b\r\n" % (wire, framing)

    def _length(self, response: Response, length: int) -> bytes:
        """Return the Content-Length line, or b"" where the handler has given it."""
        if isinstance(response.cached, SerialisedHead):
            given = b"\r\ncontent-length: " in response.cached.wire
        else:
            given = any(name == b"content-length" for name, _ in response.fields)
        return b"" if given else b"content-length: %d\r\n" % length

    # Bodies

    async def _send_bytes(
        self, exchange: Exchange, response: Response, body: bytes, close: bool
    ) -> bool:
        request = exchange.request
        bare = response.status in _BARE or response.status < 200
        framing = b"" if bare else self._length(response, len(body))
        head = self._head(request, response, close, framing)
        stream = self._stream
        stream.deadline = self._service.clock.now + self._service.limits.write_timeout
        if bare or (request is not None and request.method == b"HEAD"):
            await stream.write(head)
        else:
            await stream.write(head + body)
            exchange.sent = len(body)
        return True

    async def _send_stream(
        self, exchange: Exchange, response: Response, source: StreamBody, close: bool
    ) -> bool:
        """Send a body that comes piece by piece, framed by its length, by chunks, or by the end of
        the connection where the client knows no chunks."""
        request = exchange.request
        complete = chunked = False
        self._timeouts.waiting_since = self._service.clock.now
        try:
            framing = b""
            if request is not None and request.method == b"HEAD":
                # What a backend would have sent for a GET, its handler has said if it is known.
                if isinstance(source, _FileSource) and source.length is not None:
                    framing = self._length(response, source.length)
                await self._write(self._head(request, response, close, framing))
            else:
                if source.length is not None:
                    framing = self._length(response, source.length)
                elif request is not None and request.version != b"1.0":
                    chunked, framing = True, b"transfer-encoding: chunked\r\n"
                head = self._head(request, response, close, framing)
                await self._pump(exchange, head, source, chunked)
            complete = True
        finally:
            self._timeouts.waiting_since = NEVER
            source.close(complete)
        return True

    async def _pump(
        self, exchange: Exchange, head: bytes, source: StreamBody, chunked: bool
    ) -> None:
        """Carry all of ``source`` to the client, with the head before the first piece.

        The client first: nothing is fetched before there is room for it. No piece is held while
        somebody is waited for.
        """
        stream = self._stream
        turn, room = 0, READ_SIZE - len(head)  # with its head, the first piece fills whole records
        while True:
            piece = source.read_now(room)
            if piece is None:
                # The client need not wait for what has not come.
                if head:
                    await self._write(head)
                    head = b""
                stream.cork(False)
                piece = await source.read(room)
            count, last = len(piece), not piece or source.at_end
            if chunked:
                end = b"0\r\n%b\r\n" % field_lines(source.trailers) if last else b""
                piece = b"%b%x\r\n%b\r\n%b" % (head, count, piece, end) if count else head + end
            elif head:
                piece = head + piece
            head = b""
            if not last:
                stream.cork(count >= SMALL_READ)
            if piece:
                await self._write(piece)
            piece = b""  # else it would be held while the client is waited for
            exchange.sent += count
            if last:
                break
            turn += count
            if turn >= _TURN:
                turn = 0
                await asyncio.sleep(0)
            room = await self._room()
        stream.cork(False)

    def _room(self) -> Awaitable[int]:
        """Wait until the client can take more; returns how many bytes to fetch. What it does not
        take stays where it comes from, and costs no memory here."""
        self._timeouts.waiting_since = self._service.clock.now
        self._stream.deadline = self._service.clock.now + self._service.limits.write_timeout
        return self._stream.room()

    def _write(self, data: bytes | memoryview) -> Awaitable[None]:
        self._stream.deadline = self._service.clock.now + self._service.limits.write_timeout
        return self._stream.write(data)


def accelerated(lane: Lane) -> type[ResponseWriter]:
    """Return a writer that puts the bytes of a usual plain response together in C."""
    lane.bind_answers(Response, SerialisedHead)
    plain_answer = lane.plain_answer

    class AcceleratedWriter(ResponseWriter):
        __slots__ = ()

        def send_plain(
            self, exchange: Exchange, request: Request, response: Response
        ) -> bool | None:
            data = plain_answer(request, response, self._service.clock.date_field)
            if data is None:
                return ResponseWriter.send_plain(self, exchange, request, response)
            try:
                rest = self._stream.write_now(data)
            except StreamBroken as error:
                return self._broken(exchange, error)
            exchange.sent = len(response.body)  # type: ignore[arg-type] # it is bytes
            if not rest:
                return True
            self._rest = rest
            return None

    return AcceleratedWriter


def in_c(lane: Lane) -> Callable[[Stream, Service, Timeouts], ResponseWriter]:
    """Return what a lane has in place of `ResponseWriter`."""
    nothing: Any = None
    pattern = accelerated(lane)(nothing, nothing, nothing)
    return copies(lane, pattern, "_stream", "_service", "_timeouts")


new_writer = ResponseWriter if lane is None else in_c(lane)
