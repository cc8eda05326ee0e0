"""The usual connection over TLS, from its first byte to its protocol, without a task.

Of nearly all connections there is nothing to be looked at but the first byte, and that the client
offers a protocol of ours; then OpenSSL is called once or twice, when something has come. A task for
that, with the coroutines that it enters again each time, costs more than all the rest of ours. So
an `Arrival` is what the stream calls when it is readable. Whatever is unusual (a challenge, a site
that asks for client certificates, names on demand, plain HTTP, a client that does not read, a
refusal that has to reach the client) it leaves to a coroutine of `tls_accept`, before a byte of the
connection has been read or with the handshake as far as it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..accelerated import Lane, copies, lane
from ..protocol.service import Service
from ..tls.contexts import ServerSocket
from ..transport import openssl
from ..transport.openssl import DONE, WANTS_ROOM
from ..transport.stream import HandshakeRefused, StreamBroken
from ..transport.tls_stream import TlsStream, new_client_stream
from .lives import Life

if TYPE_CHECKING:
    from .tls_accept import TlsAcceptor

log = logging.getLogger("treehouse.worker")

OURSELVES = "self"  # peer address of our own probe connections; not counted as a client
# Who names no protocol in ALPN, or speaks in the clear, means this one.
USUAL_PROTOCOL = "http/1.1"
# What a ClientHello is looked at for, in its first bytes: nearly all offer it, as RFC 7301 §3.1 has
# it.
USUAL_OFFER = b"\x08http/1.1"
FIRST_LOOK = 2048
TLS_HANDSHAKE = 0x16  # RFC 8446 §5.1, ContentType.handshake


def arrive(acceptor: TlsAcceptor, life: Life, service: Service, tls: ServerSocket) -> None:
    """Serve a connection by ``service`` until it ends. ``tls`` is its socket, on which TLS has
    begun."""
    stream = new_client_stream(tls, tls.fileno(), acceptor.loop, acceptor.deadlines)
    stream.deadline = acceptor.clock.look() + acceptor.limits.handshake_timeout
    number = next(acceptor.numbers)
    acceptor.under_way.begin(number, stream, life.connection.peer)
    arrival = new_arrival(acceptor, life, service, tls, stream, number)
    stream.tell_when_ready(arrival.on_first)


class Arrival:
    """A connection until its protocol is known, and the host of one that is spoken without a
    task. ``number`` is that of its handshake."""

    __slots__ = ("_acceptor", "_began", "_life", "_number", "_service", "_stream", "_tls")

    def __init__(
        self,
        acceptor: TlsAcceptor,
        life: Life,
        service: Service,
        tls: ServerSocket,
        stream: TlsStream,
        number: int,
    ) -> None:
        self._acceptor = acceptor
        self._life = life
        self._service = service
        self._tls = tls
        self._stream = stream
        self._number = number
        self._began = 0.0

    def on_first(self, error: StreamBroken | None) -> None:
        try:
            if error is None:
                self._begin()
            else:
                self._acceptor.note_end(error, self._life.connection, self._number)
                self.end()
        except Exception:
            self._crashed()

    def _on_more(self, error: StreamBroken | None) -> None:
        try:
            if error is None:
                self._shake()
            else:
                self._failed(error)
        except Exception:
            self._crashed()

    def _crashed(self) -> None:
        log.exception("a connection failed inside the server")
        self.end()

    def _begin(self) -> None:
        """Look at the first bytes, and begin the handshake where that is all."""
        acceptor, stream, tls = self._acceptor, self._stream, self._tls
        connection = self._life.connection
        try:
            first = stream.peek_now(FIRST_LOOK)
        except StreamBroken as error:
            acceptor.note_end(error, connection, self._number)
            self.end()
            return
        if first is None:
            return
        if not first or first[0] != TLS_HANDSHAKE or USUAL_OFFER not in first or acceptor.looks():
            stream.tell_when_ready(None)
            self._life.go_on(acceptor.serve(stream, tls, connection, self._service, self._number))
            return
        if acceptor.context.tracer is not None:
            self._began = time.monotonic()
        openssl.disable_auto_retry(tls.inner)
        stream.tell_when_ready(self._on_more)
        self._shake()

    def _shake(self) -> None:
        """Go on with the handshake."""
        stream, tls = self._stream, self._tls
        try:
            how = stream.shake(tls.inner)
        except StreamBroken as error:
            self._failed(error)
            return
        if how == DONE:
            self._done()
        elif how == WANTS_ROOM:
            stream.tell_when_ready(None)
            acceptor, connection = self._acceptor, self._life.connection
            self.go_on(acceptor.shake(stream, tls, connection, self._service, self._number))

    def _failed(self, error: StreamBroken) -> None:
        acceptor, stream, connection = self._acceptor, self._stream, self._life.connection
        acceptor.handshake_failed(error, connection, self._tls, self._began)
        if isinstance(error, HandshakeRefused):
            stream.tell_when_ready(None)
            self.go_on(acceptor.let_alert_arrive(stream, connection, self._number))
        else:
            acceptor.note_end(error, connection, self._number)
            self.end()

    def _done(self) -> None:
        """Speak the protocol that was agreed on."""
        acceptor, stream, tls = self._acceptor, self._stream, self._tls
        connection = self._life.connection
        stream.tell_when_ready(None)
        acceptor.handshake_done(connection, tls, self._number, self._began)
        name = tls.selected_alpn_protocol() or USUAL_PROTOCOL
        listen = acceptor.listeners.get(name)
        if listen is not None:
            listen(stream, connection, self._service, acceptor.deadlines, self)
        else:
            serve = acceptor.protocols[name]
            self.go_on(serve(stream, connection, self._service, acceptor.deadlines))

    # See `protocol.service.Host`

    def end(self) -> None:
        self._acceptor.under_way.end(self._number)
        self._stream.close()
        self._life.end()

    def go_on(self, rest: Awaitable[None]) -> asyncio.Task[None]:
        acceptor, connection = self._acceptor, self._life.connection
        return self._life.go_on(acceptor.until_end(self._stream, connection, self._number, rest))


def in_c(
    lane: Lane,
) -> Callable[[TlsAcceptor, Life, Service, ServerSocket, TlsStream, int], Arrival]:
    """Return what a lane has in place of `Arrival`."""
    nothing: Any = None
    pattern = Arrival(nothing, nothing, nothing, nothing, nothing, nothing)
    given = "_acceptor", "_life", "_service", "_tls", "_stream", "_number"
    return copies(lane, pattern, *given)


new_arrival = Arrival if lane is None else in_c(lane)
