"""Connections to one FastCGI server, and whether they are kept.

PHP-FPM gives each connection a process of its own, and a kept connection keeps that process from
everybody else: five idle connections starve a pool of five (which is Debian's default). nginx and
Caddy therefore close them, and so does this pool, unless the server says of itself that it takes
several requests at a time on a connection (FCGI_MPXS_CONNS), or the operator says how many idle
connections a worker may keep. The server is asked once, on a connection of its own, beside the
first request.
"""

from __future__ import annotations

import asyncio
import logging

from ...errors import Fault
from ...protocol.fastcgi import records
from ...protocol.fastcgi.client import FastCgiConnection
from ...transport.stream import StreamBroken
from ..upstream.pool import Connection, Pool

log = logging.getLogger("treehouse.upstream")

_MULTIPLEXES = b"FCGI_MPXS_CONNS"
_ASKED_FOR = 2.0  # seconds until no answer is one


class FastCgiPool(Pool):
    """See `Pool`. ``most_idle``: how many idle connections are kept, None as the server says."""

    def __init__(self, most_idle: int | None, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type] # the same as the base class's
        self._most_idle = most_idle or 0
        self._to_be_asked = most_idle is None
        self._asking: asyncio.Task[None] | None = None

    async def open_another(self) -> FastCgiConnection:
        self._open += 1
        try:
            stream = await self._connector.connect()
        except BaseException:
            self._open -= 1
            self._wake()
            raise
        if self._to_be_asked:
            self._to_be_asked = False
            self._asking = self._context.loop.create_task(self._ask())
        keep = self._most_idle > 0
        return FastCgiConnection(stream, self._context.clock, self._parser, keep)

    def give_back(self, connection: Connection) -> None:
        if len(self._kept) < self._most_idle:
            super().give_back(connection)
        else:
            self.end(connection)

    def end(self, connection: Connection) -> None:
        assert isinstance(connection, FastCgiConnection)  # noqa: S101 - it came from here
        connection.give_up()
        super().end(connection)

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        super().close()

    async def _ask(self) -> None:
        try:
            stream = await self._connector.connect()
        except Fault:
            return
        try:
            stream.deadline = self._context.clock.look() + _ASKED_FOR
            await stream.write(records.question([_MULTIPLEXES]))
            decoder = records.Decoder()
            while data := await stream.read():
                for event in decoder.feed(data):
                    if isinstance(event, records.Values):
                        if event.pairs.get(_MULTIPLEXES) == b"1":
                            self._most_idle = self._action.max_connections
                        return
        except (StreamBroken, records.Malformed):
            return  # it does not say
        finally:
            stream.close()
