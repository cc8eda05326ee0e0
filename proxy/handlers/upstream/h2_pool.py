"""Connections over HTTP/2 to one backend: few, each with many streams.

The bound that `Pool` puts on connections is one on streams here; whoever finds it reached waits in
the same queue. A further connection is opened where those that there are have no room, by one
attempt for all who need it. A connection that the backend has ended (GOAWAY) serves its streams to
their end and takes no more.
"""

from __future__ import annotations

import asyncio

from ...errors import Fault
from ...protocol.h2.client import BackendSession
from ...protocol.h2.client_exchange import BackendExchange
from .pool import Connection, Pool


class H2Pool(Pool):
    """See `Pool`. A connection that is taken is a stream."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type] # the same as the base class's
        self._sessions: list[BackendSession] = []
        self._connecting: asyncio.Task[BackendSession] | None = None

    def take(self, repeatable: bool = True) -> BackendExchange | None:
        if self._open >= self._action.max_connections:
            return None
        session = self._with_room()
        if session is None:
            return None
        self._open += 1
        return BackendExchange(session)

    async def open_another(self) -> BackendExchange:
        self._open += 1
        try:
            while (session := self._with_room()) is None:
                await self._connected()
            return BackendExchange(session)
        except BaseException:
            self._open -= 1
            self._wake()
            raise

    def give_back(self, connection: Connection) -> None:
        self.end(connection)

    def end(self, connection: Connection) -> None:
        assert isinstance(connection, BackendExchange)  # noqa: S101 - it came from here
        connection.release()
        self._open -= 1
        self._wake()

    def tick(self, now: float) -> None:
        for session in list(self._sessions):
            session.tick(now)
            if not session.active and now - session.idle_since > self._idle_for:
                session.close()
        self._forget_ended()

    def close(self) -> None:
        super().close()
        if self._connecting is not None:
            self._connecting.cancel()
        for session in self._sessions:
            session.close()

    def _with_room(self) -> BackendSession | None:
        return next((one for one in self._sessions if one.has_room), None)

    def _forget_ended(self) -> None:
        self._sessions = [one for one in self._sessions if one.active or not one.ended]

    async def _connected(self) -> None:
        """Wait for one more connection, together with all others who need one."""
        if self._connecting is None:
            self._connecting = self._context.loop.create_task(self._connect())
        try:
            await asyncio.shield(self._connecting)
        except Fault as fault:  # others have the same one, and each says its own request
            raise type(fault)(fault.kind, fault.detail) from None

    async def _connect(self) -> BackendSession:
        try:
            stream = await self._connector.connect()
        finally:
            self._connecting = None
        scheme = b"https" if self.backend.scheme == "https" else b"http"
        session = BackendSession(stream, self._context.clock, scheme, self._wake)
        self._forget_ended()
        self._sessions.append(session)
        return session
