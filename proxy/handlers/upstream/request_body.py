"""A request's body on its way to a backend, beside the answer that may come before it has ended.

Only a body that is not all there pays for this task. Its end is one of four: sent whole; the client
broke it off or broke its rules (``fault``: the exchange is over and it is his); the backend stopped
listening (its answer, if one came, still counts); or the answer was complete first and nobody needs
the rest.
"""

from __future__ import annotations

import asyncio

from ...errors import Fault
from ...protocol.h1.chunked import LAST_CHUNK, reframe
from ...protocol.h1.client import BackendConnection
from ...protocol.h1.serializer import field_lines
from ...protocol.message import Body, Request
from ...transport.stream import StreamBroken

# How long a backend may leave a client that expects 100 (Continue) without any word. The RFC wants
# no indefinite wait (RFC 9110 §10.1.1); curl waits as long.
_EXPECT_WITHIN = 1.0


class Upload:
    """Begins with the first piece; ``invited`` is set when the backend wants the body."""

    def __init__(
        self, request: Request, body: Body, connection: BackendConnection, patience: float
    ) -> None:
        self._request = request
        self._body = body
        self._connection = connection
        self._patience = patience
        self._chunked = body.length is None
        self.invited = asyncio.Event()
        self.complete = False
        self.fault: Fault | None = None
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            if self._request.expects_continue:
                await self._await_invitation()
            while piece := await self._body.read():
                await self._connection.send(
                    reframe(piece) if self._chunked else piece, self._patience
                )
            if self._chunked:
                trailers = field_lines(self._body.trailers)
                end = b"0\r\n%b\r\n" % trailers if trailers else LAST_CHUNK
                await self._connection.send(end, self._patience)
            self.complete = True
        except Fault as fault:
            self.fault = fault
            self._connection.usable = False
            # Whoever waits for the answer wakes up, and the backend sees that this is not the end.
            self._connection.stream.abort()
        except StreamBroken:
            self._connection.usable = False

    async def _await_invitation(self) -> None:
        try:
            async with asyncio.timeout(_EXPECT_WITHIN):
                await self.invited.wait()
        except TimeoutError:
            return

    async def stop(self) -> None:
        """The rest is not needed; returns when nothing reads the body any more."""
        if not self._task.done():
            self._connection.usable = False
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def abandon(self) -> None:
        """`stop` where nobody can wait."""
        if not self._task.done():
            self._connection.usable = False
            self._task.cancel()
