"""HTTP/1.1 on a connection that has no task yet.

A task, its coroutines and its future cost a connection two kilobytes for as long as it idles, and
more to begin than a small request to answer. So a connection begins without: heads are parsed and
answered in the readiness callback, where they arrive. The first thing that has to be waited for (a
body, an answer that is not at hand, a head in pieces, a client that does not read) begins the task,
which goes on as `server.serve` does, to the connection's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ...accelerated import Lane, copies, lane
from ...transport.deadlines import Deadlines, Timeouts, new_timeouts
from ...transport.stream import ClientStream, StreamBroken
from ..message import Connection
from ..service import Host, Service
from .fast_parser import FastParser
from .reader import RequestReader, new_reader
from .server import Server
from .writer import ResponseWriter, new_writer


def listen(
    stream: ClientStream,
    connection: Connection,
    service: Service,
    deadlines: Deadlines,
    host: Host,
    fast_parser: FastParser | None = None,
) -> None:
    """Answer requests until the client or we have had enough: `server.serve`, without a task until
    there is something to wait for."""
    limits = service.limits
    timeouts = new_timeouts(stream, _nobody)
    reader = new_reader(stream, service, timeouts, limits)
    writer = new_writer(stream, service, timeouts)
    most, patience = limits.requests_per_connection - 1, limits.keepalive_timeout
    server = new_listening(
        stream, connection, service, timeouts, fast_parser, reader, writer, most, patience,
        deadlines, host,
    )  # fmt: skip
    timeouts.on_disconnect = server.left
    timeouts.idle = True
    deadlines.register(timeouts)
    stream.deadline = service.clock.now + patience
    stream.listen(server.arrived, server.otherwise)


class Listening(Server):
    """A connection that begins without a task."""

    __slots__ = ("_deadlines", "_host", "_task")

    def __init__(
        self,
        stream: ClientStream,
        connection: Connection,
        service: Service,
        timeouts: Timeouts,
        fast_parser: FastParser | None,
        reader: RequestReader,
        writer: ResponseWriter,
        most: int,
        patience: float,
        deadlines: Deadlines,
        host: Host,
    ) -> None:
        Server.__init__(
            self, stream, connection, service, timeouts, fast_parser, reader, writer, most, patience
        )
        self._deadlines = deadlines
        self._host = host
        self._task: asyncio.Task[None] | None = None

    def otherwise(self, said: bytes | BaseException) -> None:
        """Go on with what was not answered where it arrived."""
        self._timeouts.idle = False
        if (said == b"" or isinstance(said, StreamBroken)) and not self.begun:
            self._release()
            self._host.end()
        else:
            self._task = self._host.go_on(self._rest(said))

    async def _rest(self, said: bytes | BaseException) -> None:
        try:
            await self.live(said)
        finally:
            self._release()

    def left(self) -> None:
        """Tell whoever works on the response that the client has left."""
        if self._task is not None:
            self._task.cancel()
        else:
            self._stream.interrupt(asyncio.CancelledError())

    def _release(self) -> None:
        timeouts = self._timeouts
        self._deadlines.release(timeouts)
        # It knows this server: until the garbage collector came to the circle, an ended connection
        # would keep its TLS object, some 20 KiB.
        timeouts.on_disconnect = _nobody
        self._task = None


def _nobody() -> None:
    """Nobody works on a response any more."""


def in_c(lane: Lane) -> Callable[..., Listening]:
    """Return what a lane has in place of `Listening`."""
    nothing: Any = None
    given = (
        "_stream", "_connection", "_service", "_timeouts", "_fast_parser", "_reader", "_writer",
        "_most", "_patience", "_deadlines", "_host",
    )  # fmt: skip
    return copies(lane, Listening(*[nothing] * len(given)), *given)


new_listening = Listening if lane is None else in_c(lane)
