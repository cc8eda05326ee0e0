"""A client on one end of a real socket, HTTP/1.1 on the other, and a service that is told what to
answer. Tests read as conversations: the client says, the server says. With a fast lane the server
begins without a task, as for a worker's connections over TLS; without, it is one from the beginning,
as for those in the clear."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from proxy.config.model import Limits
from proxy.errors import Fault
from proxy.protocol.exchange import Exchange, PartialHead
from proxy.protocol.h1 import listening
from proxy.protocol.h1 import server as h1
from proxy.protocol.h1.fast_parser import FastParser
from proxy.protocol.message import Connection, Request, Response, Tunnel
from proxy.transport.clock import Clock
from proxy.transport.deadlines import Deadlines
from proxy.transport.tcp import SocketStream

Answer = Callable[[Request], Awaitable[Response]]


async def echo(request: Request) -> Response:
    """What arrived, in a form that a test can compare."""
    body = b""
    if request.body is not None:
        while piece := await request.body.read():
            body += piece
    return Response(200, [], b"%b %b|%b|%b" % (request.method, request.target, request.host, body))


@dataclass
class Told:
    """A `Service` that asks ``answer_with`` and keeps what it is told. What is ``ready`` for a path
    is the response without waiting."""

    lane: FastParser | None
    answer_with: Answer = echo
    limits: Limits = field(default_factory=Limits)
    clock: Clock = field(default_factory=Clock)
    draining: bool = False
    requests: list[Request] = field(default_factory=list)
    limits_reached: list[str] = field(default_factory=list)
    ends: list[tuple[int, int, str | None]] = field(default_factory=list)
    partial: list[PartialHead] = field(default_factory=list)  # what could be read of refused heads
    tunnels: list[Tunnel] = field(default_factory=list)
    details: list[str] = field(default_factory=list)  # of faults
    ready: dict[bytes, Response] = field(default_factory=dict)

    def handle(self, exchange: Exchange) -> Response | Awaitable[Response]:
        request = exchange.request
        assert request is not None
        ready = self.ready.get(request.path)
        if ready is not None:
            return ready
        self.requests.append(request)
        return self.answer_with(request)

    def failed(self, exchange: Exchange, error: Exception) -> Response:
        if isinstance(error, Fault):
            return self.refuse(exchange, error)
        raise error

    def refuse(self, exchange: Exchange, fault: Fault) -> Response:
        kind = fault.what
        self.details.append(fault.detail)
        return Response(
            kind.status, list(fault.fields), fault.kind.encode(), error=fault.kind,
            close=kind.closes,
        )  # fmt: skip

    def limited(self, limit: str, connection: Connection) -> None:
        self.limits_reached.append(limit)

    def finished(self, exchange: Exchange) -> None:
        response = exchange.response
        assert response is not None
        if isinstance(response.body, Tunnel):
            self.tunnels.append(response.body)
        self.ends.append((response.status, exchange.sent, exchange.error or response.error))
        if exchange.partial is not None:
            self.partial.append(exchange.partial)


class Client:
    def __init__(self, sock: socket.socket, service: Told, deadlines: Deadlines) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self.service = service
        self.deadlines = deadlines
        self.heard = b""

    async def says(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def hears(self, until: bytes) -> bytes:
        """Everything heard since the last call, up to and with ``until``."""
        while until not in self.heard:
            data = await self._loop.sock_recv(self._sock, 65536)
            assert data, f"the server ended after {self.heard!r}"
            self.heard += data
        end = self.heard.index(until) + len(until)
        heard, self.heard = self.heard[:end], self.heard[end:]
        return heard

    async def hears_more(self) -> None:
        """At least one more byte into ``heard``."""
        data = await self._loop.sock_recv(self._sock, 65536)
        assert data, "the server ended"
        self.heard += data

    async def hears_the_end(self) -> bytes:
        """Everything up to the end of the connection; a reset is the string b'RESET' at its end."""
        while True:
            try:
                data = await self._loop.sock_recv(self._sock, 65536)
            except ConnectionResetError:
                data = b""
                self.heard += b"RESET"
            if not data:
                heard, self.heard = self.heard, b""
                return heard
            self.heard += data

    def hangs_up(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def time_passes(self, seconds: float) -> None:
        """The deadlines that lie within ``seconds`` from now are over."""
        self.deadlines.sweep(self.service.clock.now + seconds)


@dataclass
class _Host:
    """See `protocol.service.Host`. ``ended`` has what went wrong, too."""

    stream: SocketStream
    ended: asyncio.Future[None]

    def end(self) -> None:
        self.stream.close()
        self.ended.set_result(None)

    def go_on(self, rest: Awaitable[None]) -> asyncio.Task[None]:
        async def live() -> None:
            try:
                await rest
            except BaseException as error:
                self.ended.set_exception(error)
                raise
            else:
                self.ended.set_result(None)
            finally:
                self.stream.close()

        return asyncio.get_running_loop().create_task(live())


@contextlib.asynccontextmanager
async def conversation(service: Told, scheme: bytes = b"http") -> AsyncIterator[Client]:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    deadlines = Deadlines()
    stream = SocketStream(far, loop, deadlines, client=True)
    connection = Connection("192.0.2.1", 1234, "192.0.2.2", 443, scheme)

    host = _Host(stream, loop.create_future())
    if service.lane is not None:
        listening.listen(stream, connection, service, deadlines, host, service.lane)
    else:
        host.go_on(h1.serve(stream, connection, service, deadlines))
    try:
        yield Client(near, service, deadlines)
    finally:
        near.close()
        deadlines.sweep(float("inf"))
        await asyncio.wait_for(host.ended, 60)
        assert not deadlines.exchanges
