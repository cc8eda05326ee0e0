"""A backend that says exactly what a test tells it to, byte by byte, and keeps what it heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

Script = Callable[["Heard"], Awaitable[None]]


class Heard:
    """One accepted connection, as the script of a backend sees it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number  # 1 for the first connection

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def says(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def resets(self) -> None:
        self.writer.transport.abort()


class RawBackend:
    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def raw_backend(script: Script, port: int = 0) -> AsyncIterator[RawBackend]:
    """``script`` is run for each connection; the connection ends with it."""
    backend = RawBackend()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        backend.connections += 1
        heard = Heard(reader, writer, backend.connections)
        original = heard.head

        async def head() -> bytes:
            found = await original()
            backend.heads.append(found)
            return found

        heard.head = head  # type: ignore[method-assign] # so that every head is kept
        try:
            await script(heard)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    backend.port = server.sockets[0].getsockname()[1]
    try:
        yield backend
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def answer(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), fields, body)
