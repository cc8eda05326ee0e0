"""A connection that says nothing but TLS's own messages leaves the loop its turns."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable

import pytest
import trustme
import uvloop

from proxy.transport import openssl
from proxy.transport.deadlines import Deadlines
from proxy.transport.stream import StreamBroken
from proxy.transport.tls_stream import TlsStream
from support.http.tls_records import Records

CA = trustme.CA()
UPDATES = 200
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def test_it_can_be_done_here() -> None:
    assert openssl.AVAILABLE


def converse(
    loop: str, say: Callable[[Records], None], read: Callable[[TlsStream], Awaitable[None]]
) -> None:
    """``say`` in a thread, from behind a handshake; ``read`` in the loop."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("a.test").configure_cert(context)

    async def life(far: socket.socket) -> None:
        far.setblocking(False)
        tls = context.wrap_socket(far, server_side=True, do_handshake_on_connect=False)
        stream = TlsStream(tls, asyncio.get_running_loop(), Deadlines())
        try:
            await stream.handshake()
            await asyncio.wait_for(read(stream), 20)
        finally:
            stream.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.socket()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        near.settimeout(20)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    def client() -> None:
        with contextlib.suppress(ConnectionError):
            say(Records(near, "a.test"))

    with near:
        thread = threading.Thread(target=client)
        thread.start()
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(life(far))
        thread.join()


@pytest.mark.parametrize("loop", LOOPS)
def test_key_updates_cost_a_turn_each(loop: str) -> None:
    sent = threading.Event()

    def say(records: Records) -> None:
        records.sock.sendall(records.seal(b"first"))
        updates = b"".join(records.key_update() for _ in range(UPDATES))
        records.sock.sendall(updates + records.seal(b"last"))
        sent.set()

    async def read(stream: TlsStream) -> None:
        running, turns = asyncio.get_running_loop(), 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            running.call_soon(turn)

        assert await stream.read() == b"first"
        sent.wait()  # all of it is in the kernel's buffer
        turn()
        assert await stream.read() == b"last"
        assert turns > UPDATES

    converse(loop, say, read)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_asks_for_answers_and_does_not_read_them_is_ended(loop: str) -> None:
    """Else it would stay readable, and the loop would spin for it."""
    over = threading.Event()

    def say(records: Records) -> None:
        try:
            while True:
                records.sock.sendall(b"".join(records.key_update(True) for _ in range(500)))
        finally:
            over.wait(20)

    async def read(stream: TlsStream) -> None:
        with pytest.raises(StreamBroken, match="does not read"):
            await stream.read()
        over.set()

    converse(loop, say, read)
