"""Streams over real sockets, on both event loops."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from proxy.transport.deadlines import Deadlines
from proxy.transport.stream import READ_SIZE, SMALL_READ, StreamBroken
from proxy.transport.tcp import SocketStream

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
Test = Callable[[SocketStream, socket.socket], Awaitable[None]]


def converse(loop_name: str, test: Test) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as far,
    ):
        near, _ = listener.accept()
        near.setblocking(False)

        async def run() -> None:
            stream = SocketStream(near, asyncio.get_running_loop(), Deadlines())
            try:
                await asyncio.wait_for(test(stream, far), 20)
            finally:
                stream.close()

        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(run())


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("waiting", [True, False])
def test_what_came_before_a_reset_is_read_and_then_the_reset(loop: str, waiting: bool) -> None:
    async def test(stream: SocketStream, far: socket.socket) -> None:
        reading = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        far.sendall(b"first")
        if not waiting:
            assert await reading == b"first"
            far.sendall(b"second")
        reset(far)
        if waiting:
            assert await reading == b"first"
        else:
            # A reset may overtake what was sent before it; the end is what matters.
            try:
                assert await stream.read() == b"second"
            except StreamBroken:
                return
        with pytest.raises(StreamBroken):
            await stream.read()

    converse(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_kept_connection_that_is_reset_has_stirred(loop: str) -> None:
    async def test(stream: SocketStream, far: socket.socket) -> None:
        far.sendall(b"x")
        assert await stream.read() == b"x"
        stream.watch_idle()
        reset(far)
        async with asyncio.timeout(20):
            while not stream.became_readable:
                await asyncio.sleep(0)

    converse(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_writer_that_waits_hears_of_the_reset(loop: str) -> None:
    async def test(stream: SocketStream, far: socket.socket) -> None:
        writing = asyncio.ensure_future(stream.write(b"x" * (32 << 20)))
        await asyncio.sleep(0)
        assert not writing.done()
        reset(far)
        with pytest.raises(StreamBroken):
            await writing

    converse(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_there_is_room_until_the_peer_stops_reading(loop: str) -> None:
    async def test(stream: SocketStream, far: socket.socket) -> None:
        assert await stream.room() == READ_SIZE
        while not stream.write_now(b"x" * 65536):
            pass
        waiting = asyncio.ensure_future(stream.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        far.setblocking(False)
        while not waiting.done():
            try:
                far.recv(1 << 20)
            except BlockingIOError:
                await asyncio.sleep(0)
        assert await waiting == SMALL_READ

    converse(loop, test)
