"""An answer on its way to the client: framing, head, body, and what the connection is worth then.

Framing is decided here and nowhere else (RFC 9112 §6.1, §6.3): a length where it is known, chunks
where the client knows them, else the connection's end. A body that breaks off half-way ends in a
reset, never in a clean close, so that no client can take a part for the whole.

Small answers leave in one write, head and body together. Files go in pieces read into one buffer,
with a turn for everybody else in between, so that a large download never delays a small request.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable

from ...errors import Fault
from ...transport.deadlines import NEVER, Timeouts
from ...transport.stream import READ_SIZE, SMALL_READ, Stream, StreamBroken, StreamTimeout
from ..message import FileBody, Request, Response, StreamBody, Tunnel
from ..service import Service
from .serializer import field_lines, serialise

# Read from a file at once, while the client keeps up.
FILE_PIECE = 64 * 1024
# Bytes sent without waiting before others have a turn.
_TURN = 512 * 1024
# RFC 9110 §6.4.1, §8.6: these never have content, and no Content-Length that could promise some.
_BARE = frozenset({204, 304})


def ends_with_connection(response: Response) -> bool:
    """Whether only the end of the connection can tell a client without chunks where this ends."""
    body = response.body
    return not isinstance(body, bytes | FileBody | Tunnel) and body.length is None


def client_left(timeouts: Timeouts) -> bool:
    """Whether a cancellation is that of an exchange whose client has left; then it ends here."""
    if timeouts.disconnected:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        task.uncancel()
    return timeouts.disconnected


class Outlet:
    """Sends one answer. ``sent`` counts its body bytes; ``error`` says what ended it early."""

    __slots__ = ("_rest", "_service", "_stream", "_timeouts", "error", "sent")

    def __init__(self, stream: Stream, service: Service, timeouts: Timeouts) -> None:
        self._stream = stream
        self._timeouts = timeouts
        self._service = service
        self._rest: bytes | memoryview = b""
        self.sent = 0
        self.error: str | None = None

    def send_plain(self, request: Request, response: Response) -> bool | None:
        """Send a plain response in one write, with no coroutine: one whose body is bytes, and whose
        head is ready but for Date. It is the common case. True when the kernel took all of it,
        False when the client is gone. None: the response is of another kind and nothing was sent,
        or, where `unsent`, `send_rest` has to wait for the rest."""
        wire, body = response.wire, response.body
        if (
            wire is None
            or type(body) is not bytes
            or response.status in _BARE
            or request.version != b"1.1"
            or request.method == b"HEAD"
        ):
            return None
        if response.dated:
            data = b"%b\r\n%b" % (wire, body)
        else:
            data = b"%b%b\r\n%b" % (wire, self._service.clock.date_field, body)
        self.sent, self.error = 0, None
        try:
            rest = self._stream.write_now(data)
        except StreamBroken as error:
            return self._broken(error)
        self.sent = len(body)
        if not rest:
            return True
        self._rest = rest
        return None

    @property
    def unsent(self) -> bool:
        """Whether a part of a plain response is still to be sent."""
        return bool(self._rest)

    async def send_rest(self) -> bool:
        rest, self._rest = self._rest, b""
        try:
            await self._write(rest)
        except StreamBroken as error:
            return self._broken(error)
        return True

    def _broken(self, error: StreamBroken) -> bool:
        self.error = "client_stalled" if isinstance(error, StreamTimeout) else "client_gone"
        self._stream.abort()
        return False

    async def send(self, request: Request | None, response: Response, close: bool) -> bool:
        """Send it; ``close`` announces the end of the connection. False when it was not sent whole,
        and the connection cannot be used again."""
        self.sent = 0
        self.error = None
        body = response.body
        try:
            if isinstance(body, bytes):
                return await self._send_bytes(request, response, body, close)
            if isinstance(body, FileBody):
                return await self._send_file(request, response, body, close)
            if isinstance(body, Tunnel):
                raise Fault("internal", "a tunnel is relayed, not sent")
            return await self._send_stream(request, response, body, close)
        except StreamBroken as error:
            return self._broken(error)
        except Fault as fault:
            self.error = fault.kind
        except asyncio.CancelledError:
            if not client_left(self._timeouts):
                raise
            self.error = "client_gone"
        self._stream.abort()
        return False

    # Heads

    def _head(
        self, request: Request | None, response: Response, close: bool, framing: bytes = b""
    ) -> bytes:
        wire, dated = response.wire, response.dated
        if wire is None:
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
        """The Content-Length line, unless the handler has given it."""
        if response.wire is not None:
            given = b"\r\ncontent-length: " in response.wire
        else:
            given = any(name == b"content-length" for name, _ in response.fields)
        return b"" if given else b"content-length: %d\r\n" % length

    # Bodies

    async def _send_bytes(
        self, request: Request | None, response: Response, body: bytes, close: bool
    ) -> bool:
        bare = response.status in _BARE or response.status < 200
        framing = b"" if bare else self._length(response, len(body))
        head = self._head(request, response, close, framing)
        stream = self._stream
        stream.deadline = self._service.clock.now + self._service.limits.write_timeout
        if bare or (request is not None and request.method == b"HEAD"):
            await stream.write(head)
        else:
            await stream.write(head + body)
            self.sent = len(body)
        return True

    async def _send_file(
        self, request: Request | None, response: Response, body: FileBody, close: bool
    ) -> bool:
        stream = self._stream
        patience = self._service.limits.write_timeout
        clock = self._service.clock
        try:
            head = self._head(request, response, close, self._length(response, body.length))
            stream.deadline = clock.now + patience
            if request is not None and request.method == b"HEAD":
                await stream.write(head)
                return True
            # With its head, the first piece fills whole records.
            offset, left, turn, room = body.offset, body.length, 0, FILE_PIECE - len(head)
            stream.cork(left > room)
            while left:
                try:
                    piece = os.pread(body.fd, min(left, room), offset)
                except OSError as error:
                    raise Fault("internal", f"a file cannot be read: {error.strerror}") from None
                if not piece:
                    raise Fault("file_shrank")
                stream.deadline = clock.now + patience
                count = len(piece)
                if head:
                    # The head rides along with the first piece.
                    head, piece = b"", head + piece
                await stream.write(piece)
                piece = b""  # else it would be held while the client is waited for
                offset += count
                left -= count
                self.sent += count
                turn += count
                if turn >= _TURN:
                    turn = 0
                    await asyncio.sleep(0)
                if left:
                    room = await self._room()
            if head:
                await stream.write(head)
            stream.cork(False)
        finally:
            body.release()
        return True

    async def _send_stream(
        self,
        request: Request | None,
        response: Response,
        body: StreamBody,
        close: bool,
    ) -> bool:
        complete = False
        self._timeouts.waiting_since = self._service.clock.now
        try:
            if request is not None and request.method == b"HEAD":
                await self._write(self._head(request, response, close))
            elif body.length is not None:
                length = self._length(response, body.length)
                await self._relay(self._head(request, response, close, length), body)
            elif request is None or request.version == b"1.0":
                await self._relay(self._head(request, response, close), body)
            else:
                framing = b"transfer-encoding: chunked\r\n"
                await self._relay_chunked(self._head(request, response, close, framing), body)
            complete = True
        finally:
            self._timeouts.waiting_since = NEVER
            body.close(complete)
        return True

    async def _relay(self, head: bytes, body: StreamBody) -> None:
        turn, room = 0, READ_SIZE
        while True:
            piece = body.read_now(room)
            if piece is None:
                piece, head = await self._wait_for_more(head, body, room), b""
            if not piece:
                break
            count = len(piece)
            if head:
                head, piece = b"", head + piece
            self._stream.cork(count >= SMALL_READ)
            await self._write(piece)
            piece = b""  # else it would be held while the client is waited for
            self.sent += count
            turn += count
            if turn >= _TURN:
                turn = 0
                await asyncio.sleep(0)
            if self.sent != body.length:
                room = await self._room()
        if head:
            await self._write(head)
        self._stream.cork(False)

    async def _wait_for_more(self, head: bytes, body: StreamBody, most: int) -> bytes:
        """The client need not wait for what the backend has not sent."""
        if head:
            await self._write(head)
        self._stream.cork(False)
        return await body.read(most)

    async def _relay_chunked(self, head: bytes, body: StreamBody) -> None:
        turn, room, last = 0, READ_SIZE, 0
        while True:
            piece = body.read_now(room)
            if piece is None:
                piece, head = await self._wait_for_more(head, body, room), b""
            if not piece:
                break
            count = len(piece)
            piece = b"%b%x\r\n%b\r\n" % (head, count, piece)
            if body.at_end:  # then the last chunk goes with it
                head, last = piece, count
                break
            self._stream.cork(count >= SMALL_READ)
            await self._write(piece)
            head = piece = b""
            self.sent += count
            turn += count
            if turn >= _TURN:
                turn = 0
                await asyncio.sleep(0)
            room = await self._room()
        await self._write(b"%b0\r\n%b\r\n" % (head, field_lines(body.trailers)))
        self._stream.cork(False)
        self.sent += last

    def _room(self) -> Awaitable[int]:
        """How much of a body to ask for. The client first: what it does not take stays where it
        comes from, and costs no memory here."""
        self._timeouts.waiting_since = self._service.clock.now
        self._stream.deadline = self._service.clock.now + self._service.limits.write_timeout
        return self._stream.room()

    def _write(self, data: bytes | memoryview) -> Awaitable[None]:
        self._stream.deadline = self._service.clock.now + self._service.limits.write_timeout
        return self._stream.write(data)
