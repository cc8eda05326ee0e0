"""One suite for every stream: plain TCP and both versions of TLS, on both event loops.

TLS on both sides is told not to take an end without close_notify for a proper one, as towards
backends: `ssl` cannot tell a reset from it.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
import trustme
import uvloop

from proxy.transport.deadlines import Deadlines
from proxy.transport.stream import StreamBroken, StreamTimeout
from proxy.transport.tcp import SocketStream
from proxy.transport.tls_stream import TlsStream

CA = trustme.CA()
LARGE = os.urandom(3_000_000)  # more than socket buffers on loopback take


@dataclass
class Ends:
    """Our stream, and the peer's blocking socket, whose calls run in a thread."""

    stream: SocketStream
    peer: socket.socket
    deadlines: Deadlines

    async def says(self, data: bytes) -> None:
        await asyncio.to_thread(self.peer.sendall, data)

    async def hears(self, count: int) -> bytes:
        def receive() -> bytes:
            heard = bytearray()
            while len(heard) < count and (data := self.peer.recv(65536)):
                heard += data
            return bytes(heard)

        return await asyncio.to_thread(receive)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """With small buffers, so that a peer that does not read is soon felt."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as undo:
        peer = undo.enter_context(socket.socket())
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        peer.connect(listener.getsockname())
        ours, _address = listener.accept()
        undo.pop_all()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
    ours.setblocking(False)
    return ours, peer


async def plain(deadlines: Deadlines) -> Ends:
    ours, peer = tcp_pair()
    return Ends(SocketStream(ours, asyncio.get_running_loop(), deadlines), peer, deadlines)


def tls(version: ssl.TLSVersion) -> Callable[[Deadlines], Awaitable[Ends]]:
    async def made(deadlines: Deadlines) -> Ends:
        ours, peer = tcp_pair()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CA.issue_cert("a.test").configure_cert(server)
        client = ssl.create_default_context()
        CA.configure_trust(client)
        client.maximum_version = version
        wrapped = server.wrap_socket(
            ours, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        stream = TlsStream(wrapped, asyncio.get_running_loop(), deadlines)

        def greet() -> ssl.SSLSocket:
            return client.wrap_socket(peer, server_hostname="a.test", suppress_ragged_eofs=False)

        secure, _ = await asyncio.gather(asyncio.to_thread(greet), stream.handshake())
        return Ends(stream, secure, deadlines)

    return made


KINDS: dict[str, Callable[[Deadlines], Awaitable[Ends]]] = {
    "plain": plain,
    "TLS 1.2": tls(ssl.TLSVersion.TLSv1_2),
    "TLS 1.3": tls(ssl.TLSVersion.TLSv1_3),
}
Talk = Callable[[Ends], Awaitable[None]]
Run = Callable[[Talk], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    made = uvloop.new_event_loop() if request.param == "uvloop" else asyncio.new_event_loop()
    yield made
    made.run_until_complete(made.shutdown_default_executor())
    made.close()


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def run(request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop) -> Run:
    """Have a conversation from beginning to end; no stream may be left behind."""

    def conversation(talk: Talk) -> None:
        async def life() -> None:
            deadlines = Deadlines()
            ends = await request.param(deadlines)
            try:
                await asyncio.wait_for(talk(ends), 20)
            finally:
                ends.stream.close()
                ends.peer.close()
            assert deadlines.streams == set()

        loop.run_until_complete(life())

    return conversation


def test_what_the_peer_says_is_read(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        await ends.says(b"hello")
        assert await ends.stream.read() == b"hello"
        waiting = asyncio.ensure_future(ends.stream.read())
        await ends.says(b"again")
        assert await waiting == b"again"

    run(talk)


def test_no_more_is_read_than_asked_for_and_nothing_is_lost(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        await ends.says(b"0123456789")
        pieces = b""
        while len(pieces) < 10:
            piece = await ends.stream.read(3)
            assert 1 <= len(piece) <= 3
            pieces += piece
        assert pieces == b"0123456789"

    run(talk)


def test_a_proper_end_is_no_bytes(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        await ends.says(b"the last")
        await asyncio.to_thread(say_goodbye, ends.peer)
        assert await ends.stream.read() == b"the last"
        assert await ends.stream.read() == b""

    run(talk)


def test_what_has_come_is_read_without_waiting(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        assert ends.stream.read_now(100) is None
        await ends.says(b"hello")
        assert await ends.stream.peek(1)
        assert ends.stream.read_now(100) == b"hello"
        assert ends.stream.read_now(100) is None
        await asyncio.to_thread(say_goodbye, ends.peer)
        assert await ends.stream.read() == b""
        assert ends.stream.read_now(100) == b""
        ends.stream.close()
        with pytest.raises(StreamBroken):
            ends.stream.read_now(100)

    run(talk)


def say_goodbye(peer: socket.socket) -> None:
    if isinstance(peer, ssl.SSLSocket):
        peer.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):  # ours is not waited for
            peer.unwrap()
    peer.shutdown(socket.SHUT_WR)


def test_large_things_go_both_ways_at_once(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        async def read_all() -> bytes:
            heard = bytearray()
            while len(heard) < len(LARGE):
                heard += await ends.stream.read()
            return bytes(heard)

        async def there_and_back() -> tuple[bytes, bytes]:
            # The peer says first and hears afterwards: a blocking TLS socket is not for two threads.
            heard, _ = await asyncio.gather(read_all(), ends.says(LARGE))
            back, _ = await asyncio.gather(ends.hears(len(LARGE)), ends.stream.write(LARGE))
            return heard, back

        heard, back = await there_and_back()
        assert heard == LARGE
        assert back == LARGE

    run(talk)


def test_writing_waits_for_a_peer_that_does_not_read(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        writing = asyncio.ensure_future(ends.stream.write(LARGE))
        done, _ = await asyncio.wait([writing], timeout=0.2)
        assert not done
        assert await ends.hears(len(LARGE)) == LARGE
        await writing

    run(talk)


def test_what_is_not_sent_at_once_is_given_back(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        assert len(ends.stream.write_now(b"small")) == 0
        rest = ends.stream.write_now(LARGE)
        assert rest
        hearing = asyncio.ensure_future(ends.hears(5 + len(LARGE)))
        await ends.stream.write(rest)
        assert await hearing == b"small" + LARGE

    run(talk)


def test_a_deadline_ends_who_reads(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        ends.stream.deadline = 10.0
        reading = asyncio.ensure_future(ends.stream.read())
        await asyncio.sleep(0)
        ends.deadlines.sweep(9.9)
        assert not reading.done()
        ends.deadlines.sweep(10.1)
        with pytest.raises(StreamTimeout):
            await reading

    run(talk)


def test_a_deadline_ends_who_writes(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        ends.stream.deadline = 10.0
        writing = asyncio.ensure_future(ends.stream.write(LARGE))
        await asyncio.wait([writing], timeout=0.2)
        ends.deadlines.sweep(10.1)
        with pytest.raises(StreamTimeout):
            await writing

    run(talk)


def test_after_a_deadline_the_next_one_may_wait(run: Run) -> None:
    """The stream is not broken by it: a pool or a handler decides what to do."""

    async def talk(ends: Ends) -> None:
        ends.stream.deadline = 10.0
        reading = asyncio.ensure_future(ends.stream.read())
        await asyncio.sleep(0)
        ends.deadlines.sweep(10.1)
        with pytest.raises(StreamTimeout):
            await reading
        ends.stream.deadline = 20.0
        await ends.says(b"late")
        assert await ends.stream.read() == b"late"

    run(talk)


def test_closing_wakes_who_reads(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        reading = asyncio.ensure_future(ends.stream.read())
        await asyncio.sleep(0)
        ends.stream.close()
        with pytest.raises(StreamBroken):
            await reading

    run(talk)


def test_nothing_can_be_done_after_closing(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        ends.stream.close()
        ends.stream.close()  # twice is no mistake
        for attempt in (ends.stream.read(), ends.stream.write(b"late")):
            with pytest.raises(StreamBroken):
                await attempt
        with pytest.raises(StreamBroken):
            ends.stream.write_now(b"late")

    run(talk)


def test_closing_is_a_clean_end_for_the_peer(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        await ends.stream.write(b"all of it")
        ends.stream.close()
        assert await ends.hears(100) == b"all of it"

    run(talk)


def test_aborting_cannot_be_taken_for_an_end(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        await ends.stream.write(b"a part")
        assert await ends.hears(6) == b"a part"
        ends.stream.abort()
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            await ends.hears(1)

    run(talk)


def test_ending_our_side_leaves_the_other(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        await ends.stream.send_eof()
        if isinstance(ends.peer, ssl.SSLSocket):
            return  # TLS 1.2 peers answer a close_notify with theirs; what they say then is theirs
        assert await ends.hears(1) == b""
        await ends.says(b"still here")
        assert await ends.stream.read() == b"still here"

    run(talk)


def test_what_was_on_its_way_when_we_ended_our_side_is_not_lost(run: Run) -> None:
    """A client that is still sending its upload, or one half of a tunnel."""

    async def talk(ends: Ends) -> None:
        await ends.says(b"a" * 20_000)
        await ends.says(b"b" * 20_000)
        await ends.stream.send_eof()
        heard = b""
        while len(heard) < 40_000:
            heard += await ends.stream.read()
        assert heard == b"a" * 20_000 + b"b" * 20_000
        await ends.says(b"and more")
        assert await ends.stream.read() == b"and more"

    run(talk)


def test_a_reset_is_broken_and_not_an_end(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        reading = asyncio.ensure_future(ends.stream.read())
        await asyncio.sleep(0)
        # Linger of zero: the peer vanishes with RST.
        ends.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        os.close(ends.peer.detach())
        with pytest.raises(StreamBroken):
            await reading

    run(talk)


def test_one_that_breaks_leaves_the_others_whole(loop: asyncio.AbstractEventLoop) -> None:
    """From OpenSSL 3.5 and Python 3.13 on, what a failed write leaves in OpenSSL's queue of errors is
    taken for an error of the next connection that has nothing to read."""

    async def talk() -> None:
        deadlines = Deadlines()
        breaks, lives = [await KINDS["TLS 1.3"](deadlines) for _ in range(2)]
        breaks.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        os.close(breaks.peer.detach())
        for attempt in (breaks.stream.write_now, breaks.stream.write_now):
            with pytest.raises(StreamBroken):
                attempt(b"x" * 100)
            assert lives.stream.read_now(10) is None
        with contextlib.suppress(StreamBroken):  # Debian 12's Python tells it as an end
            assert breaks.stream.read_now(10) == b""
        assert lives.stream.read_now(10) is None
        await lives.says(b"well")
        assert await lives.stream.read() == b"well"
        for one in (breaks, lives):
            one.stream.close()
            one.peer.close()

    loop.run_until_complete(asyncio.wait_for(talk(), 20))


def test_a_kept_connection_that_stirs_is_noticed(run: Run) -> None:
    async def talk(ends: Ends) -> None:
        await ends.says(b"x")
        assert await ends.stream.read() == b"x"
        ends.stream.watch_idle()
        assert not ends.stream.became_readable
        await ends.says(b"unasked")
        while not ends.stream.became_readable:
            await asyncio.sleep(0.001)

    run(talk)


# Before anything is read


def test_looking_ahead_takes_nothing_away(loop: asyncio.AbstractEventLoop) -> None:
    async def talk() -> None:
        ends = await plain(Deadlines())
        await ends.says(b"\x16\x03\x01")
        assert await ends.stream.peek(1) == b"\x16"
        looking = asyncio.ensure_future(ends.stream.peek(100, least=6))
        await ends.says(b"\x00\x05\x01")
        assert await looking == b"\x16\x03\x01\x00\x05\x01"
        assert await ends.stream.read() == b"\x16\x03\x01\x00\x05\x01"
        ends.stream.close()
        ends.peer.close()

    loop.run_until_complete(talk())


def test_looking_ahead_ends_with_the_connection(loop: asyncio.AbstractEventLoop) -> None:
    async def talk() -> None:
        ends = await plain(Deadlines())
        await ends.says(b"ab")
        looking = asyncio.ensure_future(ends.stream.peek(100, least=6))
        await asyncio.sleep(0)
        ends.peer.close()
        assert len(await looking) < 6
        ends.stream.close()

    loop.run_until_complete(talk())


def test_a_socket_that_is_taken_is_the_takers(loop: asyncio.AbstractEventLoop) -> None:
    async def talk() -> None:
        deadlines = Deadlines()
        ends = await plain(deadlines)
        await ends.says(b"for the next one")
        assert await ends.stream.peek(1) == b"f"
        sock = ends.stream.take_socket()
        assert deadlines.streams == set()
        with pytest.raises(StreamBroken):
            await ends.stream.read()
        sock.settimeout(60)
        assert sock.recv(100) == b"for the next one"
        sock.close()
        ends.peer.close()

    loop.run_until_complete(talk())
