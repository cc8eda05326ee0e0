"""A backend over HTTP/2 without TLS: python-hyper's h2 on an asyncio server, told what to answer.

``answer`` is called with each whole request, and with the `Stream` to answer it on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError


@dataclass
class Request:
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def __getitem__(self, name: bytes) -> bytes:
        (value,) = [value for key, value in self.fields if key == name]
        return value


class Stream:
    def __init__(self, peer: Peer, number: int) -> None:
        self.peer = peer
        self.number = number

    async def says(
        self,
        status: int = 200,
        fields: list[tuple[bytes, bytes]] | None = None,
        body: bytes = b"",
        trailers: list[tuple[bytes, bytes]] | None = None,
        end: bool = True,
    ) -> None:
        h2, number = self.peer.h2, self.number
        head = [(b":status", b"%d" % status), *(fields or [])]
        h2.send_headers(number, head, end_stream=end and not body and not trailers)
        while body:
            room = min(h2.local_flow_control_window(number), h2.max_outbound_frame_size, len(body))
            if not room:
                await self.peer.flush()
                self.peer.grew.clear()
                await self.peer.grew.wait()
                continue
            last = room == len(body) and end and not trailers
            h2.send_data(number, body[:room], end_stream=last)
            body = body[room:]
        if trailers:
            h2.send_headers(number, trailers, end_stream=True)
        await self.peer.flush()

    async def says_more(self, piece: bytes, end: bool = False) -> None:
        """One DATA frame more."""
        self.peer.h2.send_data(self.number, piece, end_stream=end)
        await self.peer.flush()

    async def resets(self, code: int) -> None:
        self.peer.h2.reset_stream(self.number, code)
        await self.peer.flush()


Answer = Callable[[Request, Stream], Awaitable[None]]


class Peer:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.writer = writer
        self.grew = asyncio.Event()

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()


@dataclass
class H2Backend:
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)  # codes of the proxy's RST_STREAM
    peers: list[Peer] = field(default_factory=list)


@contextlib.asynccontextmanager
async def h2_backend(answer: Answer, early: bool = False) -> AsyncIterator[H2Backend]:
    """``early``: it answers at the request's head."""
    backend = H2Backend()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = asyncio.current_task()
        assert own is not None
        tasks.add(own)
        peer = Peer(writer)
        backend.peers.append(peer)
        peer.h2.initiate_connection()
        open_: dict[int, Request] = {}
        try:
            await peer.flush()
            while data := await reader.read(65536):
                for event in peer.h2.receive_data(data):
                    match event:
                        case RequestReceived():
                            request = open_[event.stream_id] = Request(list(event.headers))
                            backend.requests.append(request)
                            if early:
                                begin(answer(request, Stream(peer, event.stream_id)))
                        case DataReceived():
                            open_[event.stream_id].body += event.data
                            peer.h2.acknowledge_received_data(
                                event.flow_controlled_length, event.stream_id
                            )
                        case TrailersReceived():
                            open_[event.stream_id].trailers = list(event.headers)
                        case StreamEnded() if not early:
                            begin(answer(open_[event.stream_id], Stream(peer, event.stream_id)))
                        case StreamReset():
                            backend.resets.append(int(event.error_code))
                        case WindowUpdated():
                            peer.grew.set()
                await peer.flush()
        except (ConnectionError, ProtocolError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(own)

    def begin(answering: Awaitable[None]) -> None:
        async def run() -> None:
            with contextlib.suppress(ConnectionError, ProtocolError, asyncio.CancelledError):
                await answering

        task = asyncio.ensure_future(run())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    backend.port = server.sockets[0].getsockname()[1]
    try:
        yield backend
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
