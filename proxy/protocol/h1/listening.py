"""HTTP/1.1 on a connection that has no task yet.

A task, its coroutines and its future cost a connection two kilobytes for as long as it idles, and
more to begin than a small request to answer. So a connection begins without: heads are parsed and
answered in the readiness callback, where they arrive. The first thing that has to be waited for (a
body, an answer that is not at hand, a head in pieces, a client that does not read) begins the task,
which goes on as `server.serve` does, to the connection's end.
"""

from __future__ import annotations

import asyncio

from ...transport.deadlines import Deadlines, Timeouts
from ...transport.stream import ClientStream, StreamBroken
from ..message import Connection
from ..service import Host, Service
from .fast_parser import FastParser
from .server import Server


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
    _Listening(stream, connection, service, deadlines, host, fast_parser).begin()


class _Listening(Server):
    """A connection that begins without a task."""

    __slots__ = ("_deadlines", "_host", "_task")

    def __init__(
        self,
        stream: ClientStream,
        connection: Connection,
        service: Service,
        deadlines: Deadlines,
        host: Host,
        fast_parser: FastParser | None,
    ) -> None:
        timeouts = Timeouts(stream, self._left)
        Server.__init__(self, stream, connection, service, timeouts, fast_parser)
        self._deadlines = deadlines
        self._host = host
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        timeouts, stream = self._timeouts, self._stream
        self._deadlines.register(timeouts)
        stream.deadline = self._service.clock.now + self._patience
        timeouts.idle = True
        stream.listen(self.arrived, self._otherwise)

    def _otherwise(self, said: bytes | BaseException) -> None:
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

    def _left(self) -> None:
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
