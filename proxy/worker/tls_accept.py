"""From an accepted socket to a protocol over TLS: the first byte, the ClientHello, the handshake.

What is looked at before OpenSSL sees anything: the first byte, which tells TLS from plain HTTP, so
that somebody who speaks HTTP on 443 gets an answer that can be read; and, only while a challenge is
pending, or where a site asks for client certificates or takes names on demand, or where the client
seems to speak no protocol of ours, what the ClientHello asks for.

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
from collections.abc import Mapping

from ..errors import Fault
from ..protocol.h1 import server as h1
from ..protocol.message import Connection
from ..protocol.service import Serve, Service
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

log = logging.getLogger("treehouse.worker")

OURSELVES = "self"  # peer address of our own probe connections; not counted as a client
# Who names no protocol in ALPN, or speaks in the clear, means this one.
USUAL_PROTOCOL = "http/1.1"
# What a ClientHello is looked at for, in its first bytes: nearly all offer it, as RFC 7301 §3.1 has
# it.
_USUAL_OFFER = b"\x08http/1.1"
_FIRST_LOOK = 2048
# RFC 8446 §6: a fatal alert, before any key.
_NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"
_TLS_HANDSHAKE = 0x16  # RFC 8446 §5.1, ContentType.handshake
# How long, and for how many pieces, a client is listened to whose handshake we refused.
_LISTEN = 2.0
_LISTEN_PIECES = 8


class TlsAcceptor:
    """Serves connections over TLS. ``protocols``: who speaks each protocol, by its name in ALPN."""

    def __init__(
        self,
        context: WorkerContext,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        base: ssl.SSLContext,
        alpn: AlpnChallenges,
        protocols: Mapping[str, Serve],
    ) -> None:
        self._clock, self._limits = context.clock, context.limits
        self._certificates, self._on_demand = context.certificates, context.on_demand
        self._context, self._reporter = context, context.limit_reporter
        self._loop = loop
        self._deadlines = deadlines
        self._base = base
        self._alpn = alpn
        self._protocols = protocols
        self._offered = {name.encode("ascii") for name in protocols}
        self._numbers = itertools.count()
        self._log = HandshakeLog()

    async def serve(self, sock: socket.socket, connection: Connection, service: Service) -> None:
        """Speak with a client over TLS until the connection ends; it is closed then."""
        tls = sock if isinstance(sock, ServerSocket) else adopt(sock, ServerSocket)
        try:
            tls.begin(self._base)
        except OSError as error:
            log.error("a connection cannot be served over TLS: %s", error)
            tls.close()
            return
        stream = TlsStream(tls, self._loop, self._deadlines, client=True)
        stream.deadline = self._clock.look() + self._limits.handshake_timeout
        number = next(self._numbers)
        under_way = self._reporter.handshakes
        under_way.begin(number, stream, connection.peer)
        try:
            prepared = await self._before_tls(stream, tls, connection, service, number)
            if prepared is None:
                return
            stream, tls = prepared
            try:
                await self._handshake(stream, connection, tls)
            except HandshakeRefused as error:
                log.debug("%s: handshake refused: %s", connection.peer, error)
                await self._let_alert_arrive(stream, connection, number)
                return
            under_way.end(number)
            if self._on_demand:
                self._on_demand.handshake_done(tls.served)
            serve = self._protocols[tls.selected_alpn_protocol() or USUAL_PROTOCOL]
            await serve(stream, connection, service, self._deadlines)
        except StreamBroken as error:
            if isinstance(error, StreamTimeout):
                under_way.late(number, connection.peer)
            log.debug("%s: connection ended: %s", connection.peer, error)
        finally:
            under_way.end(number)
            stream.close()

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
        under_way = self._reporter.handshakes
        first = await stream.peek(_FIRST_LOOK)
        if first and first[0] != _TLS_HANDSHAKE:
            under_way.end(number)
            await self._answer_plain(stream, connection, service, first)
            return None
        looks = self._alpn or self._certificates.asks_clients or self._on_demand
        if not looks and _USUAL_OFFER in first:
            return stream, tls
        hello = await _hello(stream)
        context = self._alpn.find(hello) if hello is not None else None
        if context is not None:
            await self._answer_challenge(stream, context)
            return None
        if hello is not None and self._speaks_none_of(hello, connection.local):
            await self._refuse_protocols(stream, connection)
            return None
        if self._on_demand:
            under_way.end(number)  # who waits for a certificate has bounds of their own
            await self._on_demand.wait_for_certificate(hello, stream, connection.peer)
            under_way.begin(number, stream, connection.peer)
            stream.deadline = self._clock.look() + self._limits.handshake_timeout
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
        return self._certificates.choose(name, local)

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
            context = self._certificates.context_of(served)
        except (ssl.SSLError, OSError) as error:
            log.error("the certificate for %s cannot be loaded: %s", served.name, error)
            raise StreamBroken("the certificate cannot be loaded") from None
        tls = adopt(stream.take_socket(), ServerSocket)
        tls.begin(context)
        tls.served = served
        if hello is not None and hello.server_name:
            tls.requested_name = hello.server_name.decode("ascii", "replace")
        stream = TlsStream(tls, self._loop, self._deadlines, client=True)
        stream.deadline = deadline
        return stream, tls

    async def _refuse_protocols(self, stream: TlsStream, connection: Connection) -> None:
        """Refuse a client that offers protocols and none of ours (RFC 7301 §3.2), so that it does
        not take HTTP for another protocol. The `ssl` module would go on without any."""
        if self._context.counters is not None:
            self._context.counters.handshake(connection, False, "failed")
        self._log.failed("no application protocol", connection.peer, self._clock.now)
        plain = SocketStream(stream.take_socket(), self._loop, self._deadlines)
        plain.deadline = self._clock.look() + self._limits.handshake_timeout
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
        answering = TlsStream(tls, self._loop, self._deadlines, client=True)
        answering.deadline = self._clock.look() + self._limits.handshake_timeout
        try:
            await answering.handshake()
        finally:
            answering.close()

    async def _handshake(
        self, stream: TlsStream, connection: Connection, tls: ServerSocket
    ) -> None:
        ourselves = connection.peer == OURSELVES
        counters = None if ourselves else self._context.counters
        tracer = None if ourselves else self._context.tracer
        began = time.monotonic() if tracer is not None else 0.0
        try:
            await stream.handshake()
        except StreamBroken as error:
            if counters is not None:
                counters.handshake(connection, False, "failed")
            if not ourselves:
                self._report(error, connection, tls)
            if tracer is not None:
                tracer.handshake_failed(connection, began, str(error))
            raise
        _note(connection, tls)
        if tracer is not None:
            connection.handshake = began, time.monotonic(), tls.session_reused
        if counters is not None:
            counters.handshake(connection, tls.session_reused, "ok")

    def _report(self, error: StreamBroken, connection: Connection, tls: ServerSocket) -> None:
        now = self._clock.now
        if tls.unknown_name is not None:
            self._log.unknown_name(tls.unknown_name, connection.peer, now)
        elif isinstance(error, HandshakeRefused) or "alert" in str(error):
            self._log.failed(str(error), connection.peer, now)

    async def _let_alert_arrive(
        self, stream: TlsStream, connection: Connection, number: int
    ) -> None:
        """End our side, and listen for a moment; the stream's socket is used up."""
        plain = SocketStream(stream.take_socket(), self._loop, self._deadlines, client=True)
        self._reporter.handshakes.begin(number, plain, connection.peer)
        plain.deadline = self._clock.look() + _LISTEN
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
        plain = SocketStream(stream.take_socket(), self._loop, self._deadlines)
        plain.deadline = self._clock.look() + self._limits.header_timeout
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


def _note(connection: Connection, tls: ServerSocket) -> None:
    """Write down what the handshake has settled."""
    connection.scheme = b"https"
    connection.tls_version = tls.version()
    connection.server_name = tls.requested_name
    if tls.served is not None:
        connection.certificate_names = tls.served.names
        if tls.served.asks_clients:
            connection.mtls_site = tls.served.name
            certificate = tls.peer_certificate()
            if certificate:
                # RFC 9440 §2.2, a byte sequence of RFC 8941
                encoded = base64.b64encode(certificate)
                connection.client_certificate = b"client-cert: :%b:\r\n" % encoded
