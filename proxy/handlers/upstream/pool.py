"""Connections to one backend: opened, kept for the next request, bounded in number.

Kept ones are taken last in, first out, so that a burst's surplus ages and is closed. A kept
connection is watched: whatever comes on it while nobody asks (an end, most of all) makes it
useless, so that taking one out costs no system call. Requests beyond the bound wait in a bounded
queue.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import deque

from ...config.model import Backend, ProxyAction
from ...errors import Fault
from ...protocol.h1.client import BackendConnection
from ...protocol.h1.response_parser import AnswerLane
from ...transport.deadlines import NEVER
from ...transport.stream import StreamBroken, StreamTimeout
from ...transport.tcp import SocketStream
from ...transport.tls_stream import TlsStream
from .context import Surroundings
from .resolver import Addresses

# connect(2) and socket(2): the errors that are ours and not the backend's.
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}


class Pool:
    def __init__(
        self,
        backend: Backend,
        action: ProxyAction,
        tls: ssl.SSLContext | None,
        around: Surroundings,
        lane: AnswerLane | None,
    ) -> None:
        self.backend = backend
        self._action = action
        self._tls = tls
        self._around = around
        self._lane = lane
        self._kept: list[tuple[BackendConnection, float]] = []
        self._open = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._addresses = Addresses(backend, around)
        self._closed = False

    def take(self) -> BackendConnection | None:
        """A kept connection that is as good as new, if there is one."""
        kept = self._kept
        while kept:
            connection, _ = kept.pop()
            if not connection.stream.stirred:
                return connection
            self.end(connection)
        return None

    async def open(self) -> BackendConnection:
        """A new connection. Raises `Fault`: no_capacity, backend_refused, _timeout, _tls."""
        if self._open >= self._action.max_connections:
            kept = await self._wait_for_room()
            if kept is not None:
                return kept
        return await self.open_another()

    async def open_another(self) -> BackendConnection:
        """One more, whatever the bound: for a question of our own, which must not wait behind
        requests. Raises `Fault` as `open` does."""
        self._open += 1
        try:
            stream = await self._connect()
        except BaseException:
            self._open -= 1
            self._wake()
            raise
        return BackendConnection(stream, self._around.clock, self._lane)

    def give_back(self, connection: BackendConnection) -> None:
        """Keep it for the next request, or end it if it is of no more use."""
        if not connection.usable or not connection.silent or self._closed:
            self.end(connection)
            return
        connection.stream.deadline = NEVER
        connection.stream.watch()
        self._kept.append((connection, self._around.clock.now))
        if self._queue:
            self._wake()

    def end(self, connection: BackendConnection) -> None:
        connection.stream.close()
        self._open -= 1
        self._wake()

    def tick(self, now: float) -> None:
        """End what was kept too long; the oldest are at the front."""
        kept, patience = self._kept, self._action.idle_connection_timeout
        while kept and (kept[0][0].stream.stirred or now - kept[0][1] > patience):
            self.end(kept.pop(0)[0])

    def close(self) -> None:
        self._closed = True
        self._addresses.close()
        while self._kept:
            self.end(self._kept.pop()[0])

    # Room

    async def _wait_for_room(self) -> BackendConnection | None:
        """A connection that was kept, or room for a new one (None)."""
        if len(self._queue) >= self._action.max_queued:
            raise Fault("no_capacity", f"{self.backend.url}: the queue is full")
        waiter: asyncio.Future[None] = self._around.loop.create_future()
        self._queue.append(waiter)
        try:
            async with asyncio.timeout(self._action.connect_timeout):
                while True:
                    await waiter
                    kept = self.take()
                    if kept is not None or self._open < self._action.max_connections:
                        return kept
                    # A request that came just now has taken it. The place in the queue stays.
                    waiter = self._around.loop.create_future()
                    self._queue.appendleft(waiter)
        except BaseException as error:
            if waiter in self._queue:
                self._queue.remove(waiter)
            elif not waiter.cancelled():
                self._wake()  # it was its turn, and the next one's is now
            if not isinstance(error, TimeoutError):
                raise
            detail = f"{self.backend.url}: no connection became free"
            raise Fault("no_capacity", detail) from None

    def _wake(self) -> None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    # Connecting

    async def _connect(self) -> SocketStream:
        backend = self.backend
        try:
            async with asyncio.timeout(self._action.connect_timeout):
                sock = await self._connect_any()
                if backend.scheme != "https":
                    return SocketStream(sock, self._around.loop, self._around.deadlines)
                return await self._handshake(sock)
        except TimeoutError:
            raise Fault("backend_timeout", f"{backend.url}: no connection in time") from None

    async def _connect_any(self) -> socket.socket:
        """To the first of the backend's addresses that answers."""
        error: OSError | None = None
        for family, address in await self._addresses.find():
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as failed:
                raise self._out_of_resources(failed) from None
            try:
                sock.setblocking(False)
                if family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._around.loop.sock_connect(sock, address)
            except OSError as failed:
                sock.close()
                if failed.errno in _OUT_OF_RESOURCES:
                    raise self._out_of_resources(failed) from None
                error = failed
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        said = error.strerror if error is not None and error.strerror else "no address"
        raise Fault("backend_refused", f"{self.backend.url}: {said}")

    def _out_of_resources(self, error: OSError) -> Fault:
        detail = f"{self.backend.url}: no connection can be made: {error.strerror}"
        return Fault("no_capacity", detail)

    async def _handshake(self, sock: socket.socket) -> SocketStream:
        assert self._tls is not None  # noqa: S101 - made for every https backend
        name = self._action.tls.server_name or self.backend.host
        try:
            tls = self._tls.wrap_socket(
                sock,
                server_hostname=name,
                do_handshake_on_connect=False,
                # A body may end with the connection: then a cut one must not look complete.
                suppress_ragged_eofs=False,
            )
        except OSError as error:  # it has been reset already
            sock.close()
            detail = f"{self.backend.url}: {error.strerror or error}"
            raise Fault("backend_tls", detail) from None
        stream = TlsStream(tls, self._around.loop, self._around.deadlines)
        stream.deadline = self._around.clock.now + self._action.connect_timeout
        try:
            await stream.handshake()
        except StreamTimeout:
            stream.close()
            raise TimeoutError from None
        except StreamBroken as error:
            stream.close()
            raise Fault("backend_tls", f"{self.backend.url}: {error}") from None
        except BaseException:
            stream.close()
            raise
        return stream
