"""From an accepted socket to a protocol over TLS: the first byte, the ClientHello, the handshake.

What is looked at before OpenSSL sees anything: the first byte, which tells TLS from plain HTTP, so
that somebody who speaks HTTP on 443 gets an answer that can be read; and, only while a challenge is
pending, or where a site asks for client certificates or takes names on demand, or where the client
seems to speak no protocol of ours, what the ClientHello asks for. The usual connection, of which
nothing is to be looked at, is `tls_arrival`'s, and comes here where it turns out to be another.

A handshake that is refused ends with an alert, and the client is listened to for a moment, so that
the alert reaches it: in TLS 1.3 a client has sent its request before its certificate is refused,
and closing with that unread would reset the connection.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Mapping
from types import MappingProxyType

from ..errors import Fault
from ..protocol.h1 import server as h1
from ..protocol.message import Connection
from ..protocol.service import Listen, Serve, Service
from ..tls import client_hello
from ..tls.acme_alpn import AlpnChallenges
from ..tls.contexts import Served, ServerSocket
from ..transport.deadlines import Deadlines
from ..transport.stream import HandshakeRefused, StreamBroken, StreamTimeout
from ..transport.tcp import SocketStream
from ..transport.tls_socket import adopt
from ..transport.tls_stream import TlsStream
from .context import WorkerContext
from .handshake_log import HandshakeLog
from .lives import Life
from .tls_arrival import (
    FIRST_LOOK,
    OURSELVES,
    TLS_HANDSHAKE,
    USUAL_OFFER,
    USUAL_PROTOCOL,
    arrive,
)

log = logging.getLogger("treehouse.worker")

# RFC 8446 §6: a fatal alert, before any key.
_NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"
# How long, and for how many pieces, a client is listened to whose handshake we refused.
_LISTEN = 2.0
_LISTEN_PIECES = 8


class TlsAcceptor:
    """Serves connections over TLS. ``protocols``: who speaks each protocol, by its name in ALPN.
    ``listeners``: the same where a protocol can be spoken without a task."""

    def __init__(
        self,
        context: WorkerContext,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        base: ssl.SSLContext,
        alpn: AlpnChallenges,
        protocols: Mapping[str, Serve],
        listeners: Mapping[str, Listen] = MappingProxyType({}),
    ) -> None:
        self.clock, self.limits = context.clock, context.limits
        self.certificates, self.on_demand = context.certificates, context.on_demand
        self.context, self.under_way = context, context.limit_reporter.handshakes
        self.loop = loop
        self.deadlines = deadlines
        self._base = base
        self.alpn = alpn
        self.protocols = protocols
        self.listeners = listeners
        self._offered = {name.encode("ascii") for name in protocols}
        self.numbers = itertools.count()
        self._log = HandshakeLog()

    def begin(self, sock: socket.socket, life: Life, service: Service) -> None:
        """Speak with a client over TLS until the connection ends; it is closed then."""
        tls = sock if isinstance(sock, ServerSocket) else adopt(sock, ServerSocket)
        try:
            # Now and not with its first byte: a worker that is busy with a connection leaves the
            # next one to others.
            tls.begin(self._base)
        except OSError as error:
            log.error("a connection cannot be served over TLS: %s", error)
            tls.close()
            life.end()
            return
        arrive(self, life, service, tls)

    def looks(self) -> object:
        """Whether each ClientHello has to be looked at."""
        return self.alpn or self.certificates.asks_clients or self.on_demand

    async def serve(
        self,
        stream: TlsStream,
        tls: ServerSocket,
        connection: Connection,
        service: Service,
        number: int,
    ) -> None:
        """Serve a connection from its first byte on; ``number`` is that of its handshake."""
        under_way = self.under_way
        try:
            prepared = await self._before_tls(stream, tls, connection, service, number)
            if prepared is None:
                return
            stream, tls = prepared
            await self.shake(stream, tls, connection, service, number)
        except StreamBroken as error:
            self.note_end(error, connection, number)
        finally:
            under_way.end(number)
            stream.close()

    async def shake(
        self,
        stream: TlsStream,
        tls: ServerSocket,
        connection: Connection,
        service: Service,
        number: int,
    ) -> None:
        """Make the handshake, or what is left of it, and serve. Raises `StreamBroken`."""
        tracer = None if connection.peer == OURSELVES else self.context.tracer
        began = time.monotonic() if tracer is not None else 0.0
        try:
            await stream.handshake()
        except StreamBroken as error:
            self.handshake_failed(error, connection, tls, began)
            if not isinstance(error, HandshakeRefused):
                raise
            await self.let_alert_arrive(stream, connection, number)
            return
        self.handshake_done(connection, tls, number, began)
        serve = self.protocols[tls.selected_alpn_protocol() or USUAL_PROTOCOL]
        await serve(stream, connection, service, self.deadlines)

    async def until_end(
        self,
        stream: TlsStream,
        connection: Connection,
        number: int,
        rest: Awaitable[None],
    ) -> None:
        """Await the rest of a connection's life, and close it."""
        try:
            await rest
        except StreamBroken as error:
            self.note_end(error, connection, number)
        finally:
            self.under_way.end(number)
            stream.close()

    def note_end(self, error: StreamBroken, connection: Connection, number: int) -> None:
        if isinstance(error, StreamTimeout):
            self.under_way.late(number, connection.peer)
        log.debug("%s: connection ended: %s", connection.peer, error)

    async def _before_tls(
        self,
        stream: TlsStream,
        tls: ServerSocket,
        connection: Connection,
        service: Service,
        number: int,
    ) -> tuple[TlsStream, ServerSocket] | None:
        """Look at what the client begins with, where there is a reason to. Returns the stream for
        the handshake, or None where the connection has been dealt with."""
        under_way = self.under_way
        first = await stream.peek(FIRST_LOOK)
        if first and first[0] != TLS_HANDSHAKE:
            under_way.end(number)
            await self._answer_plain(stream, connection, service, first)
            return None
        if not self.looks() and USUAL_OFFER in first:
            return stream, tls
        hello = await _hello(stream)
        context = self.alpn.find(hello) if hello is not None else None
        if context is None and hello is not None and self.alpn.may_come(hello):
            under_way.end(number)
            context = await self.alpn.wait_for(hello)
            under_way.begin(number, stream, connection.peer)
            stream.deadline = self.clock.look() + self.limits.handshake_timeout
        if context is not None:
            await self._answer_challenge(stream, context)
            return None
        if hello is not None and self._speaks_none_of(hello, connection.local):
            await self._refuse_protocols(stream, connection)
            return None
        if self.on_demand:
            under_way.end(number)  # who waits for a certificate has bounds of their own
            await self.on_demand.wait_for_certificate(hello, stream, connection.peer)
            under_way.begin(number, stream, connection.peer)
            stream.deadline = self.clock.look() + self.limits.handshake_timeout
        served = self._asking(hello, connection.local)
        if served is None:
            return stream, tls
        held = self._held_to(served, hello, stream)
        under_way.begin(number, held[0], connection.peer)
        return held

    def _speaks_none_of(self, hello: client_hello.Hello, local: str) -> bool:
        """Whether a client asks for protocols, and for none that the site speaks."""
        offered = self._offered
        served = self._chosen(hello, local)
        if served is not None and not served.http2:
            offered = offered - {b"h2"}
        return bool(hello.protocols) and offered.isdisjoint(hello.protocols)

    def _chosen(self, hello: client_hello.Hello, local: str) -> Served | None:
        """Return the certificate that the client will be shown, None if there is none."""
        name = hello.server_name.decode("ascii", "replace") if hello.server_name else None
        return self.certificates.choose(name, local)

    def _asking(self, hello: client_hello.Hello | None, local: str) -> Served | None:
        """Return the certificate of a site that asks for client certificates; None for others."""
        served = self._chosen(hello, local) if hello is not None else None
        return served if served is not None and served.asks_clients else None

    def _held_to(
        self, served: Served, hello: client_hello.Hello | None, stream: TlsStream
    ) -> tuple[TlsStream, ServerSocket]:
        """Begin the connection anew with the context of its site, before a byte of it was read."""
        deadline = stream.deadline
        try:
            context = self.certificates.context_of(served)
        except (ssl.SSLError, OSError) as error:
            log.error("the certificate for %s cannot be loaded: %s", served.name, error)
            raise StreamBroken("the certificate cannot be loaded") from None
        tls = adopt(stream.take_socket(), ServerSocket)
        tls.begin(context)
        tls.served = served
        if hello is not None and hello.server_name:
            tls.requested_name = hello.server_name.decode("ascii", "replace")
        stream = TlsStream(tls, self.loop, self.deadlines, client=True)
        stream.deadline = deadline
        return stream, tls

    async def _refuse_protocols(self, stream: TlsStream, connection: Connection) -> None:
        """Refuse a client that offers protocols and none of ours (RFC 7301 §3.2), so that it does
        not take HTTP for another protocol. The `ssl` module would go on without any."""
        if self.context.counters is not None:
            self.context.counters.handshake(connection, False, "failed")
        self._log.failed("no application protocol", connection.peer, self.clock.now)
        plain = SocketStream(stream.take_socket(), self.loop, self.deadlines)
        plain.deadline = self.clock.look() + self.limits.handshake_timeout
        try:
            await plain.read()  # else closing would take the alert back
            await plain.write(_NO_APPLICATION_PROTOCOL)
        finally:
            plain.close()

    async def _answer_challenge(self, stream: TlsStream, context: ssl.SSLContext) -> None:
        """Answer a TLS-ALPN-01 challenge: the handshake is the answer, nothing follows (RFC 8737
        §3)."""
        tls = adopt(stream.take_socket(), ServerSocket)
        tls.begin(context)
        answering = TlsStream(tls, self.loop, self.deadlines, client=True)
        answering.deadline = self.clock.look() + self.limits.handshake_timeout
        try:
            await answering.handshake()
        finally:
            answering.close()

    def handshake_failed(
        self, error: StreamBroken, connection: Connection, tls: ServerSocket, began: float
    ) -> None:
        """Count and tell a handshake that failed; ``began`` is monotonic, for traces."""
        if isinstance(error, HandshakeRefused):
            log.debug("%s: handshake refused: %s", connection.peer, error)
        if connection.peer == OURSELVES:
            return
        context = self.context
        if context.counters is not None:
            context.counters.handshake(connection, False, "failed")
        self._report(error, connection, tls)
        if context.tracer is not None:
            context.tracer.handshake_failed(connection, began, str(error))

    def handshake_done(
        self, connection: Connection, tls: ServerSocket, number: int, began: float
    ) -> None:
        """Write down what the handshake has settled, and count it."""
        connection.scheme = b"https"
        connection.tls_version = tls.version()
        connection.server_name = tls.requested_name
        served = tls.served
        if served is not None:
            connection.certificate_names = served.names
            if served.asks_clients:
                _note_client(connection, tls, served)
        context = self.context
        if context.counters is not None or context.tracer is not None:
            self._count(connection, tls, began)
        self.under_way.end(number)
        if self.on_demand:
            self.on_demand.handshake_done(served)

    def _count(self, connection: Connection, tls: ServerSocket, began: float) -> None:
        if connection.peer == OURSELVES:
            return
        if self.context.tracer is not None:
            connection.handshake = began, time.monotonic(), tls.session_reused
        if self.context.counters is not None:
            self.context.counters.handshake(connection, tls.session_reused, "ok")

    def _report(self, error: StreamBroken, connection: Connection, tls: ServerSocket) -> None:
        now = self.clock.now
        if tls.unknown_name is not None:
            self._log.unknown_name(tls.unknown_name, connection.peer, now)
        elif isinstance(error, HandshakeRefused) or "alert" in str(error):
            self._log.failed(str(error), connection.peer, now)

    async def let_alert_arrive(
        self, stream: TlsStream, connection: Connection, number: int
    ) -> None:
        """End our side, and listen for a moment; the stream's socket is used up."""
        plain = SocketStream(stream.take_socket(), self.loop, self.deadlines, client=True)
        self.under_way.begin(number, plain, connection.peer)
        plain.deadline = self.clock.look() + _LISTEN
        try:
            await plain.send_eof()
            for _ in range(_LISTEN_PIECES):
                if not await plain.read():
                    break
        except StreamBroken:
            pass  # it has left, or says nothing: either way it has had the time
        finally:
            plain.close()

    async def _answer_plain(
        self, stream: TlsStream, connection: Connection, service: Service, first: bytes
    ) -> None:
        plain = SocketStream(stream.take_socket(), self.loop, self.deadlines)
        plain.deadline = self.clock.look() + self.limits.header_timeout
        try:
            await h1.refuse(plain, connection, service, Fault("plain_on_tls"), first)
        finally:
            plain.close()


async def _hello(stream: TlsStream) -> client_hello.Hello | None:
    """Read what the ClientHello asks for; None for a ClientHello that we cannot read."""
    least = 1
    while True:
        data = await stream.peek(client_hello.LARGEST, least)
        if len(data) < least or len(data) >= client_hello.LARGEST:
            return None
        try:
            return client_hello.parse(data)
        except client_hello.Incomplete:
            least = len(data) + 1


def _note_client(connection: Connection, tls: ServerSocket, served: Served) -> None:
    """Write down whose certificate a client has shown."""
    connection.mtls_site = served.name
    certificate = tls.peer_certificate()
    if certificate:
        # RFC 9440 §2.2, a byte sequence of RFC 8941
        encoded = base64.b64encode(certificate)
        connection.client_certificate = b"client-cert: :%b:\r\n" % encoded
