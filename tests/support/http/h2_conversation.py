"""A client of HTTP/2 on one end of a real socket, `h2.server` on the other, and a service that is told
what to answer. The client writes frames byte by byte (`h2_peer`) and reads with other people's code."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from hyperframe.frame import Frame

from proxy.protocol.h2 import server as h2
from proxy.protocol.h2.shared import Shared
from proxy.protocol.message import Connection
from proxy.transport.deadlines import Deadlines
from proxy.transport.tcp import SocketStream
from support.h2_peer import GET, HELLO, Fields, Sent, headers, rst, window_update
from support.http.conversation import Told


class H2Client:
    """``frames`` are all that have been heard."""

    def __init__(
        self, sock: socket.socket, service: Told, deadlines: Deadlines, shared: Shared
    ) -> None:
        self.sock = sock
        self.service = service
        self.deadlines = deadlines
        self.shared = shared
        self.frames: list[Frame] = []
        self.ended = False
        self.credits = True  # what is heard is credited at once
        self._sent = Sent()
        self._loop = asyncio.get_running_loop()
        self._heads: dict[int, list[Fields]] = {}

    async def says(self, *pieces: bytes) -> None:
        await self._loop.sock_sendall(self.sock, b"".join(pieces))

    async def hears(self, fits: Callable[[Frame], bool]) -> Frame:
        """The first frame that fits, of all that have been and will be heard."""
        seen = 0
        while True:
            for one in self.frames[seen:]:
                if fits(one):
                    return one
            seen = len(self.frames)
            await self._more()

    async def _more(self) -> None:
        assert not self.ended, f"the server ended after {self.frames}"
        try:
            data = await self._loop.sock_recv(self.sock, 65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
            return
        for one in self._sent.read(data):
            self.frames.append(one)
            kind = type(one).__name__
            if kind == "HeadersFrame":
                self._heads.setdefault(one.stream_id, []).append(self._sent.fields(one))
            elif kind == "DataFrame" and self.credits and one.data:
                await self.says(window_update(0, len(one.data)))
                if "END_STREAM" not in one.flags:
                    await self.says(window_update(one.stream_id, len(one.data)))

    async def hears_end_of(self, stream: int) -> None:
        """The stream's end, in whatever way."""
        await self.hears(
            lambda one: (
                one.stream_id == stream
                and ("END_STREAM" in one.flags or type(one).__name__ == "RstStreamFrame")
            )
        )

    async def hears_a_piece(self) -> None:
        """What the kernel has, at most 64 KiB."""
        await self._more()

    async def hears_the_end(self) -> None:
        """The end of the connection."""
        while not self.ended:
            await self._more()

    async def gets(self, stream: int, fields: Fields = GET, *more: bytes) -> tuple[int, bytes]:
        """Ask, and give the answer's status and body."""
        await self.says(headers(stream, fields, end=not more), *more)
        await self.hears_end_of(stream)
        return self.status(stream), self.body(stream)

    def heads(self, stream: int) -> list[Fields]:
        return self._heads.get(stream, [])

    def status(self, stream: int) -> int:
        return int(self.heads(stream)[-1][0][1])

    def body(self, stream: int) -> bytes:
        return b"".join(one.data for one in self.of("DataFrame", stream))

    def of(self, name: str, stream: int | None = None) -> list[Frame]:
        return [
            one for one in self.frames
            if type(one).__name__ == name and stream in (None, one.stream_id)
        ]  # fmt: skip

    def reset_with(self, stream: int) -> int | None:
        found = self.of("RstStreamFrame", stream)
        return found[-1].error_code if found else None

    @property
    def goaways(self) -> list[tuple[int, int]]:
        return [(one.last_stream_id, one.error_code) for one in self.of("GoAwayFrame")]

    async def resets(self, stream: int, code: int = 8) -> None:
        await self.says(rst(stream, code))

    async def time_passes(self, seconds: float) -> None:
        """The deadlines that lie within ``seconds`` from now are over. A deadline is let pass once
        where something has come that was not read yet; hence the second look."""
        self.service.clock.now += seconds
        for _ in range(2):
            self.deadlines.sweep(self.service.clock.now)
            await asyncio.sleep(0.002)

    async def until(self, fits: Callable[[], bool]) -> None:
        """Let the server run until something is so."""
        async with asyncio.timeout(60):
            while not fits():
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def h2_conversation(
    service: Told,
    *,
    own_engine: bool = True,
    hello: bytes = HELLO,
    streams_per_address: int = 1000,
) -> AsyncIterator[H2Client]:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    deadlines = Deadlines()
    shared = Shared(streams_per_address, own_engine=own_engine)
    stream = SocketStream(far, loop, deadlines, client=True)
    connection = Connection("192.0.2.1", 1234, "192.0.2.2", 443, b"https")

    async def live() -> None:
        try:
            await h2.serve(stream, connection, service, deadlines, shared)
        finally:
            stream.close()

    task = loop.create_task(live())
    client = H2Client(near, service, deadlines, shared)
    try:
        if hello:
            await client.says(hello)
        yield client
    finally:
        near.close()
        await asyncio.sleep(0.01)
        deadlines.sweep(float("inf"))
        await asyncio.wait_for(task, 60)
