"""Accepts connections, counts them, finds out whose they are, and hands them to a protocol.

All workers share each listening socket; a worker takes one connection per turn of its loop, so that
those that wait go to whichever worker is idle. One that is far ahead of the others leaves the queue
alone for a moment after each, so that those which the kernel has woken get there. A connection that
cannot be taken (limits, no descriptors left) costs a close and never a spinning loop.

Where a PROXY header has to come first, it is read before the limits of a client are looked at, and
before TLS and HTTP alike. `tls_accept` goes on with connections over TLS.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from ..ipc.connection_counters import CONNECTIONS, ConnectionCounters
from ..log import Seldom
from ..protocol.client_address import UNIX, TrustedProxies, subscriber
from ..protocol.message import Connection, new_connection
from ..protocol.service import Serve, Service
from ..system.listeners import Listener
from ..tls.contexts import ServerSocket
from ..transport.deadlines import Deadlines
from ..transport.stream import StreamBroken
from ..transport.tcp import SocketStream
from ..transport.tls_socket import accept
from . import proxy_protocol
from .context import WorkerContext
from .lives import Life, Lives
from .tls_accept import TlsAcceptor
from .tls_arrival import OURSELVES

log = logging.getLogger("treehouse.worker")

# accept(2): the errors that mean "out of something", not "this connection is broken".
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# While out of descriptors: how long the queue is left alone, and how many idle ones are shed.
_PAUSE = 0.1
_SHED = 16
# While far ahead of the other workers: as long as a process may need to wake up.
_STEP_BACK = 0.001
# Connections to the admin listener beyond all limits.
_ADMIN_SHARE = 16


class Acceptor:
    """``services`` maps a listener's kind to what answers on it; ``plain`` speaks HTTP in the clear
    and ``secure`` over TLS. ``on_empty`` is called whenever the last connection ends while no more
    are accepted. ``proxies``: the networks whose connections begin with a PROXY header.
    ``trusted``: the proxies that name the client of each request. ``secure_admin``: the admin
    listener speaks TLS."""

    def __init__(
        self,
        context: WorkerContext,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        services: dict[str, Service],
        plain: Serve,
        secure: TlsAcceptor,
        counts: ConnectionCounters,
        on_empty: Callable[[], None],
        proxies: tuple[str, ...] = (),
        trusted: tuple[str, ...] = (),
        secure_admin: bool = False,
    ) -> None:
        self._clock, self._limits = context.clock, context.limits
        self._context, self._reporter = context, context.limit_reporter
        self.deadlines = deadlines
        self._loop = loop
        self._services = services
        self._plain = plain
        self._secure = secure
        self._counts = counts
        self._on_empty = on_empty
        self._proxies = TrustedProxies(proxies)
        self._trusted = TrustedProxies(trusted)
        self._secure_admin = secure_admin
        self._listeners: list[Listener] = []
        self._lives = Lives(loop, counts, self._none_left)
        self._accepting = False
        self._seldom = Seldom(log)

    def __len__(self) -> int:
        return len(self._lives)

    @property
    def by_listener(self) -> Mapping[str, int]:
        """How many are open, by the listener's address."""
        return self._lives.by_listener

    def _none_left(self) -> None:
        if not self._accepting:
            self._on_empty()

    # Accepting

    def accept_from(self, listeners: tuple[Listener, ...]) -> None:
        self._accepting = True
        self._listeners = list(listeners)
        for listener in listeners:
            self._arm(listener)

    def _arm(self, listener: Listener) -> None:
        if self._accepting:
            sock = listener.sock
            self._loop.add_reader(sock.fileno(), self._accept, listener, int(sock.family))

    def stop_accepting(self) -> None:
        self._accepting = False
        for listener in self._listeners:
            self._loop.remove_reader(listener.sock.fileno())
            listener.sock.close()
        self._listeners.clear()
        if not len(self._lives):
            self._on_empty()

    def end_idle(self) -> None:
        """End the connections that wait for a request, and of whose next one nothing has come, not
        even into the kernel's buffers."""
        self.deadlines.expire_silent(self.deadlines.idle())

    def _accept(self, listener: Listener, family: int) -> None:
        try:
            sock, address = accept(listener.sock, family, ServerSocket)
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
        if not self._counts.acquire(CONNECTIONS, self._limits.connections + share):
            self._turn_away(sock, "connections", peer)
            return
        if self._counts.ahead():
            self._pause(listener, _STEP_BACK)
        local, local_port = _peer(sock.getsockname())
        connection = new_connection(peer, peer_port, local, local_port)
        life = self._lives.begin(connection, listener)
        if listener.kind != "admin" and self._proxies.trusts(peer):
            life.prepare(self._introduce(sock, life, listener))
        else:
            self._admit(sock, life, listener)

    def _admit(self, sock: socket.socket, life: Life, listener: Listener) -> None:
        """Serve a connection whose client is known, unless the client has too many of them."""
        connection = life.connection
        secure = listener.kind == "https"
        if listener.kind == "admin":
            secure = self._secure_admin
        elif self._trusted.trusts(connection.peer):
            # Its connections are those of many clients, and nobody knows yet of which.
            connection.proxies = self._trusted
        else:
            key = subscriber(connection.peer)
            if not self._counts.acquire_for(key, self._limits.connections_per_address):
                self._turn_away(sock, "connections_per_address", connection.peer)
                life.end()
                return
            connection.counted_as = key
        service = self._services[listener.kind]
        if secure:
            self._secure.begin(sock, life, service)
        else:
            life.go_on(self._serve_http(sock, connection, service))

    def probe(self, sock: socket.socket) -> None:
        """Serve our own end of a socket pair, of which `self_probe` has the other."""
        life = self._lives.begin(Connection(OURSELVES, 0, "", 0), None)
        self._secure.begin(sock, life, self._services["https"])

    async def _introduce(self, sock: socket.socket, life: Life, listener: Listener) -> None:
        """Read the PROXY header, which stands before TLS and HTTP alike."""
        try:
            introduced = await self._read_over_header(sock, life.connection)
        except BaseException:
            life.end()
            raise
        if introduced is None:
            life.end()
        else:
            self._admit(introduced, life, listener)

    async def _read_over_header(
        self, sock: socket.socket, connection: Connection
    ) -> socket.socket | None:
        """Return the connection behind its PROXY header; None where it has been ended."""
        stream = SocketStream(sock, self._loop, self.deadlines, client=True)
        stream.deadline = self._clock.look() + self._limits.handshake_timeout
        try:
            header = await self._proxy_header(stream)
        except (StreamBroken, proxy_protocol.BadHeader) as error:
            text, peer = "a connection of %s was ended: %s", connection.peer
            self._seldom.warning(self._clock.now, text, peer, error, extra={"peer": peer})
            stream.close()
            return None
        sock = stream.take_socket()
        sock.setblocking(False)
        try:
            sock.recv(header.size)
        except OSError:
            sock.close()
            return None
        if header.peer is not None:
            connection.peer, connection.peer_port = header.peer, header.peer_port
        return sock

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
        if self._context.counters is not None:
            self._context.counters.limited("descriptors")
        self.deadlines.expire_silent(self.deadlines.idle()[:_SHED])
        self._pause(listener, _PAUSE)

    def _pause(self, listener: Listener, seconds: float) -> None:
        self._loop.remove_reader(listener.sock.fileno())
        self._loop.call_later(seconds, self._arm, listener)

    def _turn_away(self, sock: socket.socket, limit: str, peer: str) -> None:
        self._reporter.limit_reached(limit, peer)
        sock.close()

    # Lives of connections

    async def _serve_http(
        self, sock: socket.socket, connection: Connection, service: Service
    ) -> None:
        stream = SocketStream(sock, self._loop, self.deadlines, client=True)
        try:
            await self._plain(stream, connection, service, self.deadlines)
        finally:
            stream.close()


def _peer(address: Any) -> tuple[str, int]:
    """Return address and port of a socket name; a unix socket has neither."""
    if isinstance(address, tuple):
        host: str = address[0]
        if host.startswith("::ffff:") and "." in host:
            # A socket for both families, as systemd makes them, shows IPv4 clients like that.
            host = host.removeprefix("::ffff:")
        return host, address[1]
    return UNIX, 0
