"""Connections to one backend: kept for the next request, bounded in number.

Kept ones are taken last in, first out, so that a burst's surplus ages and is closed. A kept
connection is watched: whatever comes on it while nobody asks (an end, most of all) makes it
useless, so that taking one out costs no system call. Requests beyond the bound wait in a bounded
queue.

Why it is hard: a backend may close an idle connection at the very moment at which a request leaves
for it, and then nobody knows whether the request was seen. So a connection is not used near the end
that its backend has announced (``Keep-Alive: timeout=``), and a request that must not be sent twice
gets none that has been idle for long where nothing was announced: Node and uvicorn close after 5 s,
gunicorn's threads after 2 s, and settings of a second exist. Any other request is sent again.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections import deque
from typing import TYPE_CHECKING

from ...config.model import Backend, ProxyAction
from ...errors import Fault
from ...protocol.h1.client import BackendConnection
from ...protocol.h1.response_parser import FastResponseParser
from ...protocol.h2.client_exchange import BackendExchange
from ...transport.deadlines import NEVER
from .connector import Connector
from .context import UpstreamContext

# Over HTTP/2 a stream stands for a connection.
Connection = BackendConnection | BackendExchange

# Seconds before an announced end at which a connection is no longer used, at most half of what was
# announced. It covers the way there, and clocks that are read four times a second on our side.
_MARGIN = 1.0
# Seconds of idleness that no backend ends, for requests that must not be sent twice.
_SURE_FOR = 0.5


class Pool:
    def __init__(
        self,
        backend: Backend,
        action: ProxyAction,
        tls: ssl.SSLContext | None,
        context: UpstreamContext,
        parser: FastResponseParser | None,
    ) -> None:
        self.backend = backend
        self._action = action
        self._context = context
        self._parser = parser
        self._idle_for = action.idle_connection_timeout
        self._connector = Connector(backend, action, tls, context)
        self._kept: list[BackendConnection] = []
        self._open = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def take(self, repeatable: bool = True) -> Connection | None:
        """Return a kept connection that is as good as new, if there is one. ``repeatable``: the
        request may be sent again should the backend close the connection just now."""
        kept = self._kept
        now = self._context.clock.now
        while kept:
            connection = kept.pop()
            if connection.stream.became_readable or now > connection.good_until:
                self.end(connection)
            elif (
                repeatable
                or now - connection.idle_since <= _SURE_FOR
                or connection.keep_alive != math.inf
            ):
                return connection
            else:
                kept.append(connection)  # and those below have been idle for longer
                return None
        return None

    async def open(self, fresh: bool = False) -> Connection:
        """Return a new connection, or one that became free meanwhile unless it has to be
        ``fresh``. Raises `Fault`: no_capacity, backend_refused, _timeout, _tls."""
        if self._open >= self._action.max_connections:
            if self._kept:  # none of them would do
                self.end(self._kept.pop(0))
            else:
                kept = await self._wait_for_room()
                if kept is not None:
                    if not fresh:
                        return kept
                    self.end(kept)
        return await self.open_another()

    async def open_another(self) -> Connection:
        """Open a connection whatever the bound: for health checks and probes, which must not wait
        behind requests. Raises `Fault` as `open` does."""
        self._open += 1
        try:
            stream = await self._connector.connect()
        except BaseException:
            self._open -= 1
            self._wake()
            raise
        return BackendConnection(stream, self._context.clock, self._parser)

    def give_back(self, connection: Connection) -> None:
        """Keep the connection for the next request, or end it if it cannot be used again."""
        if TYPE_CHECKING:
            assert isinstance(connection, BackendConnection)
        now = self._context.clock.now
        connection.idle_since = now
        if connection.keep_alive == NEVER:
            good_until = now + self._idle_for
        else:
            announced = connection.keep_alive
            margin = min(_MARGIN, announced / 2)
            good_until = now + min(self._idle_for, announced - margin)
        if self._closed or good_until <= now or not connection.reusable:
            self.end(connection)
            return
        connection.good_until = good_until
        stream = connection.stream
        stream.deadline = NEVER
        stream.watch_idle()
        self._kept.append(connection)
        if self._queue:
            self._wake()

    def end(self, connection: Connection) -> None:
        assert isinstance(connection, BackendConnection)  # noqa: S101 - it came from here
        connection.stream.close()
        self._open -= 1
        self._wake()

    def tick(self, now: float) -> None:
        """End what was kept too long, and what its backend has ended."""
        over = [one for one in self._kept if one.stream.became_readable or now > one.good_until]
        if over:
            self._kept = [one for one in self._kept if one not in over]
            for one in over:
                self.end(one)

    def close(self) -> None:
        self._closed = True
        self._connector.close()
        while self._kept:
            self.end(self._kept.pop())

    # Room

    async def _wait_for_room(self) -> Connection | None:
        """Return a connection that became free, or None when a new one may be opened."""
        if len(self._queue) >= self._action.max_queued:
            raise Fault("no_capacity", "the queue is full")
        waiter: asyncio.Future[None] = self._context.loop.create_future()
        self._queue.append(waiter)
        try:
            async with asyncio.timeout(self._action.connect_timeout):
                while True:
                    await waiter
                    kept = self.take()
                    if kept is not None or self._open < self._action.max_connections:
                        return kept
                    # A newer request has taken the connection. Keep our place in the queue.
                    waiter = self._context.loop.create_future()
                    self._queue.appendleft(waiter)
        except BaseException as error:
            if waiter in self._queue:
                self._queue.remove(waiter)
            elif not waiter.cancelled():
                self._wake()  # it was its turn, and the next one's is now
            if not isinstance(error, TimeoutError):
                raise
            raise Fault("no_capacity", "no connection became free") from None

    def _wake(self) -> None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
