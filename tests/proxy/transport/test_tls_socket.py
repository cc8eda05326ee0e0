"""An accepted socket that speaks TLS itself, beside what `ssl.SSLSocket` would be."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
import trustme

from proxy.transport import openssl
from proxy.transport.deadlines import Deadlines
from proxy.transport.tls_socket import TlsSocket, accept, adopt
from proxy.transport.tls_stream import TlsStream

CA = trustme.CA()


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    CA.issue_cert("a.test").configure_cert(context)
    return context


@pytest.fixture
def pair() -> Iterator[tuple[TlsSocket, socket.socket]]:
    """An accepted connection and its peer, which blocks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        ours, address = accept(listener, int(listener.family), TlsSocket)
    assert address == peer.getsockname()
    with ours, peer:
        yield ours, peer


def greet(peer: socket.socket) -> Callable[[], ssl.SSLSocket]:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    CA.configure_trust(context)
    return lambda: context.wrap_socket(peer, server_hostname="a.test")


def test_what_is_accepted_neither_blocks_nor_is_inherited(
    pair: tuple[TlsSocket, socket.socket],
) -> None:
    ours, _ = pair
    assert not ours.getblocking()
    assert not os.get_inheritable(ours.fileno())
    assert not os.get_blocking(ours.fileno())
    with pytest.raises(BlockingIOError):
        ours.recv(1)


async def test_a_conversation(pair: tuple[TlsSocket, socket.socket]) -> None:
    ours, peer = pair
    ours.begin(server_context())
    stream = TlsStream(ours, asyncio.get_running_loop(), Deadlines())
    secure, _ = await asyncio.gather(asyncio.to_thread(greet(peer)), stream.handshake())
    assert ours.version() == secure.version() == "TLSv1.3"
    assert ours.selected_alpn_protocol() == "http/1.1"
    assert not ours.session_reused
    assert ours.peer_certificate() is None
    secure.sendall(b"0123456789")
    assert await stream.read(4) == b"0123"
    assert ours.pending() == 6
    assert await stream.read() == b"456789"
    await stream.write(b"answer")
    assert await asyncio.to_thread(secure.recv, 100) == b"answer"
    stream.close()
    assert await asyncio.to_thread(secure.recv, 100) == b"", "close_notify"
    secure.close()


@pytest.mark.parametrize("end", [TlsSocket.close, TlsSocket.detach])
def test_nothing_is_sent_on_a_descriptor_that_may_be_another_connection_s(
    pair: tuple[TlsSocket, socket.socket], end: Callable[[TlsSocket], object]
) -> None:
    ours, _ = pair
    ours.begin(server_context())
    number = ours.fileno()
    reader, writer = os.pipe()
    end(ours)
    os.dup2(writer, number)
    openssl.send_close_notify(ours)
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    for fd in (reader, writer, number):
        os.close(fd)


def test_an_adopted_connection_goes_on_with_the_same_descriptor() -> None:
    one, other = socket.socketpair()
    number = one.fileno()
    with adopt(one, TlsSocket) as ours, other:
        assert one.fileno() == -1
        assert ours.fileno() == number
        assert ours.family is socket.AF_UNIX
        assert not ours.getblocking()
        other.sendall(b"!")
        assert ours.recv(9) == b"!"
