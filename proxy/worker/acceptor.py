"""Accepting connections, their number, and what happens before and after HTTP is spoken on them.

All workers share each listening socket; a worker takes one connection per turn of its loop, so that
the ones that wait go to whichever worker is idle. A connection that cannot be taken (limits, no
descriptors left) costs a close and never a spinning loop.

What is looked at before OpenSSL sees anything: the PROXY header, where one has to come first; the
first byte, which tells TLS from plain HTTP, so that somebody who speaks HTTP on 443 gets an answer
in his own language; and, only while a challenge is pending or where a site asks for client
certificates or takes names on demand, what the ClientHello asks for.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import itertools
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from ..config.model import Limits
from ..errors import Fault
from ..ipc.connection_counters import CONNECTIONS, Counts
from ..log import Seldom
from ..metrics.counters import Figures
from ..protocol.client_address import UNIX, TrustedProxies
from ..protocol.h1 import server as h1
from ..protocol.message import Connection
from ..protocol.service import Serve, Service
from ..system.listeners import Listener
from ..tls import client_hello
from ..tls.acme_alpn import AlpnChallenges
from ..tls.contexts import Certificates, Served, ServerSocket
from ..transport.clock import Clock
from ..transport.deadlines import Deadlines
from ..transport.stream import SocketStream, StreamBroken, StreamTimeout, TlsStream
from . import proxy_protocol
from .limits import Bounds
from .on_demand import WaitingRoom

log = logging.getLogger("treehouse.worker")

# accept(2): the errors that mean "out of something", not "this connection is broken".
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# While out of descriptors: how long the queue is left alone, and how many idle ones are shed.
_PAUSE = 0.1
_SHED = 16
_OURSELVES = "self"  # as the peer of a connection: a look at ourselves is no client's
# Connections to the admin listener beyond all limits.
_ADMIN_SHARE = 16
# What a ClientHello is looked at for, in its first bytes: nearly all offer it.
_FIRST_LOOK = 2048
# Who names no protocol in ALPN, or speaks in the clear, means this one.
_USUAL = "http/1.1"
# RFC 8446 §6: a fatal alert, before any key.
_NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"
_TLS_HANDSHAKE = 0x16  # RFC 8446 §5.1, ContentType.handshake


class Connections:
    """``services`` maps a listener's kind to what answers on it. ``on_empty`` is called whenever
    the last connection ends while no more are accepted. ``proxies``: the networks whose connections
    begin with a PROXY header. ``trusted``: the proxies that name the client of each request.
    ``protocols``: who speaks each protocol, by its name in ALPN."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        base: ssl.SSLContext,
        services: dict[str, Service],
        limits: Limits,
        counts: Counts,
        on_empty: Callable[[], None],
        alpn: AlpnChallenges,
        certificates: Certificates,
        bounds: Bounds,
        figures: Figures | None = None,
        proxies: tuple[str, ...] = (),
        waiting: WaitingRoom | None = None,
        trusted: tuple[str, ...] = (),
        protocols: Mapping[str, Serve] = MappingProxyType({_USUAL: h1.serve}),
    ) -> None:
        self._protocols = protocols
        self._offered = {name.encode("ascii") for name in protocols}
        # As a ClientHello has them (RFC 7301 §3.1).
        self._offers = tuple(bytes([len(name)]) + name for name in self._offered)
        self._waiting = waiting
        self._trusted = TrustedProxies(trusted)
        self.deadlines = Deadlines()
        self._loop = loop
        self._clock = clock
        self._base = base
        self._services = services
        self._limits = limits
        self._counts = counts
        self._on_empty = on_empty
        self._alpn = alpn
        self._certificates = certificates
        self._proxies = TrustedProxies(proxies)
        self._bounds = bounds
        self._numbers = itertools.count()
        self._figures = figures
        self._listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.by_listener: Counter[str] = Counter()  # open ones, by the listener's address
        self._accepting = False
        self._seldom = Seldom(log)

    def __len__(self) -> int:
        return len(self._tasks)

    # Accepting

    def accept_from(self, listeners: tuple[Listener, ...]) -> None:
        self._accepting = True
        self._listeners = list(listeners)
        for listener in listeners:
            self._arm(listener)

    def _arm(self, listener: Listener) -> None:
        if self._accepting:
            self._loop.add_reader(listener.sock.fileno(), self._accept, listener)

    def stop_accepting(self) -> None:
        self._accepting = False
        for listener in self._listeners:
            self._loop.remove_reader(listener.sock.fileno())
            listener.sock.close()
        self._listeners.clear()
        if not self._tasks:
            self._on_empty()

    def end_idle(self) -> None:
        """End the connections that wait for a request: nothing of theirs is under way, not even in
        the kernel's buffers."""
        self.deadlines.expire_silent(self.deadlines.idle())

    def _accept(self, listener: Listener) -> None:
        try:
            sock, address = listener.sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _OUT_OF_RESOURCES:
                now = self._clock.now
                self._seldom.warning(
                    now, "accept on %s failed: %s", listener.address, error.strerror
                )
                return
            self._relieve(listener, error)
            return
        peer, peer_port = _peer(address)
        # A few more for who wants to see what is going on.
        share = 0 if listener.kind != "admin" else _ADMIN_SHARE
        if not self._counts.come(CONNECTIONS, self._limits.connections + share):
            self._turn_away(sock, "connections", peer)
            return
        sock.setblocking(False)
        local, local_port = _peer(sock.getsockname())
        connection = Connection(peer, peer_port, local, local_port)
        if listener.kind != "admin" and self._proxies.trusts(peer):
            self._start(self._introduce(sock, connection, listener), listener)
            return
        life = self._admitted(sock, connection, listener)
        if life is not None:
            self._start(life, listener)
        else:
            self._counts.go(CONNECTIONS)

    def _admitted(
        self, sock: socket.socket, connection: Connection, listener: Listener
    ) -> Coroutine[Any, Any, None] | None:
        """The life of a connection whose client is known, unless he has too many already."""
        service = self._services[listener.kind]
        if listener.kind == "admin":
            return self._serve_http(sock, connection, service)
        serve = self._serve_https if listener.kind == "https" else self._serve_http
        if self._trusted.trusts(connection.peer):
            # Its connections are those of many clients, and nobody knows yet of which.
            connection.proxies = self._trusted
            return serve(sock, connection, service)
        key = fairness_key(connection.peer)
        if not self._counts.come_from(key, self._limits.connections_per_address):
            self._turn_away(sock, "connections_per_address", connection.peer)
            return None
        return self._counted(key, serve(sock, connection, service))

    async def _counted(self, key: str, life: Coroutine[Any, Any, None]) -> None:
        try:
            await life
        finally:
            self._counts.go_from(key)

    def look_at(self, sock: socket.socket) -> None:
        """Serve our own end of a socket pair, of which a look at ourselves has the other."""
        connection = Connection(_OURSELVES, 0, "", 0)
        self._start(self._serve_https(sock, connection, self._services["https"]))

    async def _introduce(
        self, sock: socket.socket, connection: Connection, listener: Listener
    ) -> None:
        """Read the PROXY header, which stands before TLS and HTTP alike."""
        stream = SocketStream(sock, self._loop, self.deadlines, client=True)
        stream.deadline = self._clock.look() + self._limits.handshake_timeout
        try:
            header = await self._proxy_header(stream)
        except (StreamBroken, proxy_protocol.BadHeader) as error:
            self._seldom.warning(
                self._clock.now, "a connection of %s was ended: %s", connection.peer, error
            )
            stream.close()
            return
        sock = stream.take_socket()
        sock.setblocking(False)
        try:
            sock.recv(header.size)
        except OSError:
            sock.close()
            return
        if header.peer is not None:
            connection.peer, connection.peer_port = header.peer, header.peer_port
        life = self._admitted(sock, connection, listener)
        if life is not None:
            await life

    @staticmethod
    async def _proxy_header(stream: SocketStream) -> proxy_protocol.Header:
        least = 1
        while True:
            data = await stream.peek(proxy_protocol.MOST, least)
            if len(data) < least:
                raise StreamBroken("it ended before its PROXY header did")
            try:
                return proxy_protocol.parse(data)
            except proxy_protocol.Incomplete:
                least = len(data) + 1

    def _relieve(self, listener: Listener, error: OSError) -> None:
        self._seldom.warning(
            self._clock.now, "out of resources (%s): idle connections are ended", error.strerror
        )
        if self._figures is not None:
            self._figures.limited("descriptors")
        self.deadlines.expire_silent(self.deadlines.idle()[:_SHED])
        self._loop.remove_reader(listener.sock.fileno())
        self._loop.call_later(_PAUSE, self._arm, listener)

    def _turn_away(self, sock: socket.socket, limit: str, peer: str) -> None:
        self._bounds.reached(limit, peer)
        sock.close()

    def _start(
        self,
        life: Coroutine[Any, Any, None],
        listener: Listener | None = None,
    ) -> None:
        """``listener``: where it came in, and has been counted; None for a look at ourselves."""
        if listener is not None:
            self.by_listener[listener.address] += 1
        task = self._loop.create_task(life)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if listener is not None:
                self._counts.go(CONNECTIONS)
                self.by_listener[listener.address] -= 1
            if not task.cancelled() and task.exception() is not None:
                log.error("a connection failed inside the server", exc_info=task.exception())
            if not self._tasks and not self._accepting:
                self._on_empty()

        task.add_done_callback(ended)

    # Lives of connections

    async def _serve_http(
        self, sock: socket.socket, connection: Connection, service: Service
    ) -> None:
        stream = SocketStream(sock, self._loop, self.deadlines, client=True)
        try:
            await self._protocols[_USUAL](stream, connection, service, self.deadlines)
        finally:
            stream.close()

    async def _serve_https(
        self, sock: socket.socket, connection: Connection, service: Service
    ) -> None:
        try:
            tls = self._base.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:  # the peer has gone already
            sock.close()
            return
        assert isinstance(tls, ServerSocket)  # noqa: S101 - told to the base context in tls.py
        stream = TlsStream(tls, self._loop, self.deadlines, client=True)
        stream.deadline = self._clock.look() + self._limits.handshake_timeout
        number = next(self._numbers)
        under_way = self._bounds.handshakes
        under_way.begin(number, stream, connection.peer)
        try:
            first = await stream.peek(_FIRST_LOOK)
            if first and first[0] != _TLS_HANDSHAKE:
                under_way.end(number)
                await self._answer_plain(stream, connection, service, first)
                return
            looks = self._alpn or self._certificates.asks_clients or self._waiting
            if looks or not any(offer in first for offer in self._offers):
                hello = await _hello(stream)
                context = self._alpn.find(hello) if hello is not None else None
                if context is not None:
                    await self._answer_challenge(stream, context)
                    return
                if hello is not None and self._speaks_none_of(hello, connection.local):
                    await self._refuse_protocols(stream, connection)
                    return
                if self._waiting:
                    under_way.end(number)  # the waiting room has bounds of its own
                    await self._waiting.hold(hello, stream, connection.peer)
                    under_way.begin(number, stream, connection.peer)
                    stream.deadline = self._clock.look() + self._limits.handshake_timeout
                served = self._asking(hello, connection.local)
                if served is not None:
                    stream, tls = self._held_to(served, hello, stream)
                    under_way.begin(number, stream, connection.peer)
            await self._handshake(stream, connection, tls)
            under_way.end(number)
            if self._waiting:
                self._waiting.came(tls.served)
            serve = self._protocols[tls.selected_alpn_protocol() or _USUAL]
            await serve(stream, connection, service, self.deadlines)
        except StreamBroken as error:
            if isinstance(error, StreamTimeout):
                under_way.late(number, connection.peer)
            log.debug("%s: connection ended: %s", connection.peer, error)
        finally:
            under_way.end(number)
            stream.close()

    def _speaks_none_of(self, hello: client_hello.Hello, local: str) -> bool:
        """Whether a client asks for protocols, and for none that the site speaks."""
        offered = self._offered
        served = self._chosen(hello, local)
        if served is not None and not served.http2:
            offered = offered - {b"h2"}
        return bool(hello.protocols) and offered.isdisjoint(hello.protocols)

    def _chosen(self, hello: client_hello.Hello, local: str) -> Served | None:
        """The certificate that the client will be shown."""
        name = hello.server_name.decode("ascii", "replace") if hello.server_name else None
        return self._certificates.choose(name, local)

    def _asking(self, hello: client_hello.Hello | None, local: str) -> Served | None:
        """The certificate of a site that asks its clients for theirs; None with any other."""
        served = self._chosen(hello, local) if hello is not None else None
        return served if served is not None and served.asks_clients else None

    def _held_to(
        self, served: Served, hello: client_hello.Hello | None, stream: TlsStream
    ) -> tuple[TlsStream, ServerSocket]:
        """The connection begun anew with the site's own rules, before a byte of it was read."""
        deadline = stream.deadline
        tls = served.context.wrap_socket(
            stream.take_socket(), server_side=True, do_handshake_on_connect=False
        )
        assert isinstance(tls, ServerSocket)  # noqa: S101 - told to the context in tls.py
        tls.served = served
        if hello is not None and hello.server_name:
            tls.requested_name = hello.server_name.decode("ascii", "replace")
        stream = TlsStream(tls, self._loop, self.deadlines, client=True)
        stream.deadline = deadline
        return stream, tls

    async def _refuse_protocols(self, stream: TlsStream, connection: Connection) -> None:
        """RFC 7301 §3.2: who offers protocols and none of ours is refused, so that nobody takes
        what we say for another's. The `ssl` module would go on without any."""
        if self._figures is not None:
            self._figures.handshake(connection, False, "failed")
        plain = SocketStream(stream.take_socket(), self._loop, self.deadlines)
        plain.deadline = self._clock.look() + self._limits.handshake_timeout
        try:
            await plain.read()  # else closing would take the alert back
            await plain.write(_NO_APPLICATION_PROTOCOL)
        finally:
            plain.close()

    async def _answer_challenge(self, stream: TlsStream, context: ssl.SSLContext) -> None:
        """RFC 8737 §3: the handshake is the answer; nothing follows."""
        tls = context.wrap_socket(
            stream.take_socket(), server_side=True, do_handshake_on_connect=False
        )
        answering = TlsStream(tls, self._loop, self.deadlines, client=True)
        answering.deadline = self._clock.look() + self._limits.handshake_timeout
        try:
            await answering.handshake()
        finally:
            answering.close()

    async def _handshake(
        self, stream: TlsStream, connection: Connection, tls: ServerSocket
    ) -> None:
        figures = None if connection.peer == _OURSELVES else self._figures
        try:
            await stream.handshake()
        except StreamBroken:
            if figures is not None:
                figures.handshake(connection, False, "failed")
            raise
        _note(connection, tls)
        if figures is not None:
            figures.handshake(connection, bool(tls.session_reused), "ok")

    async def _answer_plain(
        self, stream: TlsStream, connection: Connection, service: Service, first: bytes
    ) -> None:
        plain = SocketStream(stream.take_socket(), self._loop, self.deadlines)
        plain.deadline = self._clock.look() + self._limits.header_timeout
        try:
            await h1.refuse(plain, connection, service, Fault("plain_on_tls"), first)
        finally:
            plain.close()


async def _hello(stream: TlsStream) -> client_hello.Hello | None:
    """What the connection's ClientHello asks for; None for what is none that we can read."""
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
    """What the handshake has settled."""
    connection.scheme = b"https"
    connection.tls_version = tls.version()
    connection.server_name = tls.requested_name
    if tls.served is not None:
        connection.certificate_names = tls.served.names
        if tls.served.asks_clients:
            connection.client_site = tls.served.name
            certificate = tls.getpeercert(binary_form=True)
            if certificate:
                # RFC 9440 §2.2, a byte sequence of RFC 8941
                encoded = base64.b64encode(certificate)
                connection.client_certificate = b"client-cert: :%b:\r\n" % encoded


def _peer(address: Any) -> tuple[str, int]:
    """Address and port of a socket name; a unix socket has neither."""
    if isinstance(address, tuple):
        host: str = address[0]
        if host.startswith("::ffff:") and "." in host:
            # A socket for both families, as systemd makes them, shows IPv4 clients like that.
            host = host.removeprefix("::ffff:")
        return host, address[1]
    return UNIX, 0


def fairness_key(peer: str) -> str:
    """Whom a connection counts for: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    if ":" not in peer:
        return peer
    return str(ipaddress.ip_network((peer.partition("%")[0], 64), strict=False))
