"""Sends a request's body to a backend, beside the response that may come before the body has ended.

Only a body that has not fully arrived pays for this task. An upload ends in one of four ways: it is
sent whole; the client broke it off or broke the framing (``fault``, which ends the exchange); the
backend stopped reading (its response, if there is one, still counts); or the response was complete
first, and the rest of the body is not needed.
"""

from __future__ import annotations

import asyncio

from ...errors import Fault
from ...protocol.fastcgi.client import FastCgiConnection
from ...protocol.h1.chunked import LAST_CHUNK, reframe
from ...protocol.h1.serializer import field_lines
from ...protocol.h2.client_exchange import BackendExchange
from ...protocol.message import Body, Request
from ...transport.stream import StreamBroken
from .pool import Connection

# How long a backend may leave a client that expects 100 (Continue) without any word. The RFC wants
# no indefinite wait (RFC 9110 §10.1.1); curl waits as long.
_EXPECT_WITHIN = 1.0


# RFC 9110 §9.2.2, and methods of WebDAV that only read (RFC 4918 §9.1, RFC 3253 §3.6, RFC 5323).
_IDEMPOTENT = frozenset(
    {
        b"GET",
        b"HEAD",
        b"OPTIONS",
        b"TRACE",
        b"PUT",
        b"DELETE",
        b"PROPFIND",
        b"REPORT",
        b"SEARCH",
    }
)
# RFC 9110 §8.6: for these a length of 0 has a meaning, and servers ask for it (411); a client that
# sends no content and no length means the same.
_ASK_FOR_LENGTH = frozenset({b"POST", b"PUT", b"PATCH"})
# For these it has none.
_WITHOUT_CONTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})


def is_idempotent(request: Request) -> bool:
    """Whether sending the request again does no harm (RFC 9110 §9.2.2)."""
    return request.method in _IDEMPOTENT


class Payload:
    """What a request sends behind its head, for each time that it is sent.

    ``framing`` are the lines of the head that announce it, ``whole`` is a body that is all here,
    ``follows`` one that is not. ``repeatable``: no harm is done by sending the request again.
    ``repeats`` counts how often it was held and sent again; ``lost``: the last time not a byte came
    back, and it may be sent again.
    """

    # Defaults of the class: most requests have no body, and an instance costs nothing then.
    follows: Body | None = None
    framing = whole = b""
    repeatable = True
    lost = False
    repeats = 0

    def __init__(self, request: Request) -> None:
        body = request.body
        if body is None:
            if request.method not in _WITHOUT_CONTENT or request.upgrade is not None:
                self.framing = _lines_without_body(request)
                self.repeatable = request.method in _IDEMPOTENT
            return
        whole = body.buffered() if not request.expects_continue else None
        self.repeatable = whole is not None and request.method in _IDEMPOTENT
        if whole is not None:
            self.framing = b"content-length: %d\r\n" % len(whole)
            self.whole = whole
            return
        if body.length is None:
            self.framing = b"transfer-encoding: chunked\r\n"
        else:
            self.framing = b"content-length: %d\r\n" % body.length
        if request.expects_continue:
            self.framing += b"expect: 100-continue\r\n"
        self.follows = body


def _lines_without_body(request: Request) -> bytes:
    lines = b""
    method = request.method
    if method not in _WITHOUT_CONTENT and (
        method in _ASK_FOR_LENGTH or request.field(b"content-length") is not None
    ):
        lines = b"content-length: 0\r\n"
    if request.upgrade is not None:
        lines += b"connection: upgrade\r\nupgrade: %b\r\n" % request.upgrade
    return lines


class Upload:
    """Begins with the first piece; ``invited`` is set when the backend wants the body."""

    def __init__(
        self, request: Request, body: Body, connection: Connection, patience: float
    ) -> None:
        self._request = request
        self._body = body
        self._connection = connection
        self._patience = patience
        self._chunked = body.length is None
        self.invited = asyncio.Event()
        if isinstance(connection, FastCgiConnection):
            self.invited.set()  # CGI has no 100 (Continue)
        self.complete = False
        self.fault: Fault | None = None
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            if self._request.expects_continue:
                await self._await_invitation()
            while piece := await self._body.read():
                await self._send(piece)
            await self._end()
            self.complete = self._connection.request_sent = True
        except Fault as fault:
            self.fault = fault
            # Whoever waits for the answer wakes up, and the backend sees that this is not the end.
            self._connection.abort()
        except StreamBroken:
            return  # the backend does not listen any more; its answer may still come

    async def _send(self, piece: bytes) -> None:
        connection = self._connection
        if isinstance(connection, BackendExchange | FastCgiConnection):
            await connection.send_piece(piece, self._patience)
        else:
            await connection.send(reframe(piece) if self._chunked else piece, self._patience)

    async def _end(self) -> None:
        trailers = self._body.trailers
        connection = self._connection
        if isinstance(connection, BackendExchange | FastCgiConnection):
            await connection.end_body(trailers, self._patience)
        elif self._chunked:
            end = b"0\r\n%b\r\n" % field_lines(trailers) if trailers else LAST_CHUNK
            await connection.send(end, self._patience)

    async def _await_invitation(self) -> None:
        try:
            async with asyncio.timeout(_EXPECT_WITHIN):
                await self.invited.wait()
        except TimeoutError:
            return

    async def stop(self) -> None:
        """The rest is not needed; returns when nothing reads the body any more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def abandon(self) -> None:
        """`stop` where nobody can wait."""
        self._task.cancel()
