"""Time, resets and leaving: what a sweep does to streams, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import uvloop

from proxy.transport.deadlines import NEVER, SILENT_WITHOUT_CLIENT, Deadlines, Timeouts
from proxy.transport.stream import StreamBroken, StreamTimeout
from proxy.transport.tcp import SocketStream

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@dataclass
class Pair:
    deadlines: Deadlines
    stream: SocketStream
    far: socket.socket

    async def heard(self) -> None:
        """Return when the stream's peer is known to have ended its side."""
        async with asyncio.timeout(20):
            while self.stream not in self.deadlines._left:
                await asyncio.sleep(0)

    def exchange(
        self, on_disconnect: Callable[[], object], on_timeout: Callable[[], object] | None = None
    ) -> Timeouts:
        made = Timeouts(self.stream, on_disconnect, on_timeout)
        self.deadlines.register(made)
        return made

    def left_at(self) -> float:
        return self.deadlines._left[self.stream]


Talk = Callable[[Pair], Awaitable[None]]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Talk], None]:
    def conversation(talk: Talk) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as far,
        ):
            near, _ = listener.accept()
            near.setblocking(False)

            async def life() -> None:
                deadlines = Deadlines()
                stream = SocketStream(near, asyncio.get_running_loop(), deadlines, client=True)
                try:
                    await asyncio.wait_for(talk(Pair(deadlines, stream, far)), 20)
                finally:
                    stream.close()
                assert not deadlines.streams
                assert not deadlines._left

            with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
                runner.run(life())

    return conversation


def fill(stream: SocketStream) -> None:
    while not stream.write_now(b"x" * 65536):
        pass


def test_what_has_come_is_read_before_its_time_is_over(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        pair.stream.deadline = 1.0
        reading = pair.stream.read()
        pair.far.sendall(b"x")
        pair.deadlines.sweep(2.0)  # before the loop has had a turn: it was kept from running
        assert await reading == b"x"

    run(talk)


def test_whoever_has_had_a_turn_is_not_excused_again(run: Callable[[Talk], None]) -> None:
    """Else somebody who sends without end would never be late."""

    async def talk(pair: Pair) -> None:
        pair.stream.deadline = 1.0
        reading = pair.stream.read()
        pair.far.sendall(b"x")
        pair.deadlines.sweep(2.0)
        assert await reading == b"x"
        reading = pair.stream.read()
        pair.far.sendall(b"y")
        pair.deadlines.sweep(2.0)
        with pytest.raises(StreamTimeout):
            await reading
        pair.stream.deadline = 3.0  # another deadline is another wait
        reading = pair.stream.read()
        pair.deadlines.sweep(4.0)
        assert await reading == b"y"

    run(talk)


def test_nothing_that_came_is_a_timeout(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        pair.stream.deadline = 1.0
        reading = pair.stream.read()
        pair.deadlines.sweep(2.0)
        with pytest.raises(StreamTimeout):
            await reading

    run(talk)


def test_a_writer_for_whom_there_is_room_again_goes_on(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        fill(pair.stream)
        writing = asyncio.ensure_future(pair.stream.write(b"end"))
        await asyncio.sleep(0)
        pair.stream.deadline = 1.0
        while not pair.deadlines.served_by_turn([pair.stream]):
            pair.far.recv(1 << 20)
        pair.deadlines.sweep(2.0)
        await writing
        fill(pair.stream)
        writing = asyncio.ensure_future(pair.stream.write(b"end"))
        await asyncio.sleep(0)
        pair.stream.deadline = 3.0
        pair.deadlines.sweep(4.0)
        with pytest.raises(StreamTimeout):
            await writing

    run(talk)


def test_only_those_who_are_silent_are_ended_to_make_room(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        reading = pair.stream.read()
        pair.far.sendall(b"GET")
        pair.deadlines.expire_silent([pair.stream])
        assert await reading == b"GET"
        reading = pair.stream.read()
        pair.deadlines.expire_silent([pair.stream])
        with pytest.raises(StreamTimeout):
            await reading

    run(talk)


def test_the_time_of_a_worker_that_did_not_run_counts_against_nobody() -> None:
    class Known:
        deadline = 10.0

    deadlines, stream = Deadlines(), Known()
    deadlines.streams.add(stream)  # type: ignore[arg-type] # only its deadline is of interest
    deadlines.was_away(0.5, 100.0)  # a long turn
    assert stream.deadline == 10.0
    deadlines.was_away(8.0, 100.0)
    assert stream.deadline == 18.0
    deadlines.was_away(8.0, 108.0)  # a server that somebody keeps busy
    assert stream.deadline == 18.0
    deadlines.was_away(8.0, 200.0)
    assert stream.deadline == 26.0


def half_close(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("leave", [half_close, reset])
@pytest.mark.parametrize("unread", [b"", b"the next request"])
def test_who_leaves_an_answer_that_does_not_come_is_given_up(
    run: Callable[[Talk], None], leave: Callable[[socket.socket], None], unread: bytes
) -> None:
    async def talk(pair: Pair) -> None:
        calls = []
        exchange = pair.exchange(lambda: calls.append(None))
        exchange.waiting_since = 0.0
        pair.far.sendall(unread)
        leave(pair.far)
        await pair.heard()
        left = pair.left_at()
        pair.deadlines.sweep(left + SILENT_WITHOUT_CLIENT * 0.9)
        assert not calls
        pair.deadlines.sweep(left + SILENT_WITHOUT_CLIENT * 1.1)
        assert len(calls) == 1
        assert exchange.disconnected
        pair.deadlines.sweep(NEVER)
        assert len(calls) == 1

    run(talk)


def test_an_answer_that_comes_piece_by_piece_is_not_given_up(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        calls = []
        exchange = pair.exchange(lambda: calls.append(None))
        half_close(pair.far)
        await pair.heard()
        now = pair.left_at()
        for _ in range(10):
            exchange.waiting_since = now
            now += SILENT_WITHOUT_CLIENT * 0.9
            pair.deadlines.sweep(now)
        exchange.waiting_since = NEVER  # nobody waits for anything
        pair.deadlines.sweep(now + 100)
        assert not calls

    run(talk)


def test_a_client_that_reads_slowly_is_not_given_up_for_that(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        calls = []
        exchange = pair.exchange(lambda: calls.append(None))
        half_close(pair.far)
        await pair.heard()
        exchange.waiting_since = 0.0
        fill(pair.stream)
        writing = asyncio.ensure_future(pair.stream.write(b"end"))
        await asyncio.sleep(0)
        pair.deadlines.sweep(pair.left_at() + 100)
        assert not calls
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing

    run(talk)


def test_each_exchange_of_a_connection_has_its_own_time(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        calls: list[str] = []
        first = pair.exchange(lambda: calls.append("first left"), lambda: calls.append("first"))
        second = pair.exchange(lambda: calls.append("second left"), lambda: calls.append("second"))
        first.deadline, second.deadline = 1.0, 3.0
        pair.deadlines.sweep(2.0)
        assert calls == ["first"]
        pair.deadlines.sweep(2.5)
        assert calls == ["first"], "once"
        pair.deadlines.sweep(4.0)
        assert calls == ["first", "second"]
        half_close(pair.far)
        await pair.heard()
        first.waiting_since, second.waiting_since = 0.0, NEVER
        pair.deadlines.sweep(pair.left_at() + 2.0)
        assert calls == ["first", "second", "first left"]
        assert not second.disconnected
        pair.deadlines.release(second)
        second.waiting_since = second.deadline = 0.0
        pair.deadlines.sweep(pair.left_at() + 20.0)
        assert calls == ["first", "second", "first left"]

    run(talk)


def test_an_exchange_is_served_before_its_time_is_over(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        calls: list[None] = []
        exchange = pair.exchange(lambda: None, lambda: calls.append(None))
        exchange.deadline = 1.0
        reading = pair.stream.read()
        pair.far.sendall(b"x")
        pair.deadlines.sweep(2.0)
        assert not calls
        assert await reading == b"x"
        reading = pair.stream.read()
        pair.far.sendall(b"y")
        pair.deadlines.sweep(3.0)
        assert calls, "but once"
        await reading

    run(talk)


def test_who_waits_for_a_request_is_idle(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        waiting, busy = pair.exchange(lambda: None), pair.exchange(lambda: None)
        assert pair.deadlines.idle() == []
        waiting.idle = True
        assert pair.deadlines.idle() == [pair.stream]
        pair.deadlines.release(waiting)
        pair.deadlines.release(busy)
        assert pair.deadlines.idle() == []

    run(talk)


def test_a_reset_in_the_early_time_is_heard_of_once(run: Callable[[Talk], None]) -> None:
    """The event loop has thrown away what it had of the descriptor by then, and says so to whoever
    asks it for a reader."""

    async def talk(pair: Pair) -> None:
        troubles: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: troubles.append(told))
        fill(pair.stream)
        writing = asyncio.ensure_future(pair.stream.write(b"x"))
        heard: list[object] = []
        pair.stream.early = 1
        pair.stream.listen(lambda data: heard.append(data) is None, heard.append)
        await asyncio.sleep(0)
        pair.far.sendall(b"before")
        pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.far.close()
        with pytest.raises(StreamBroken):
            await writing
        async with asyncio.timeout(20):
            while not heard or heard[-1] == b"before":
                await asyncio.sleep(0)
        assert heard[-1] == b"" or isinstance(heard[-1], StreamBroken)
        assert not pair.stream.early
        assert not troubles

    run(talk)


def test_bytes_are_told_early_and_later_by_the_loop(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        heard: list[bytes] = []
        pair.stream.listen(lambda data: heard.append(data) is None, heard.append)  # type: ignore[arg-type]
        begun = pair.stream.early
        assert begun > 1
        for number in range(begun + 3):
            assert pair.stream.early == max(begun - number, 0)
            pair.far.sendall(b"%d" % number)
            async with asyncio.timeout(20):
                while len(heard) <= number:
                    await asyncio.sleep(0)
        pair.far.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(20):
            while heard[-1] != b"":
                await asyncio.sleep(0)
        assert heard[:-1] == [b"%d" % number for number in range(begun + 3)]
        assert not pair.stream.reading

    run(talk)


def test_bytes_that_nobody_wants_are_told_once(run: Callable[[Talk], None]) -> None:
    async def talk(pair: Pair) -> None:
        pair.far.sendall(b"x")
        async with asyncio.timeout(20):
            while pair.stream.early:
                await asyncio.sleep(0)
        assert await pair.stream.read() == b"x"
        pair.far.sendall(b"y")
        assert await pair.stream.read() == b"y"

    run(talk)


def test_who_listens_hears_that_the_stream_was_closed(run: Callable[[Talk], None]) -> None:
    """Also by itself, within its own call: by an answer that found the client gone."""

    async def talk(pair: Pair) -> None:
        heard: list[object] = []

        def on_data(data: bytes) -> bool:
            pair.stream.abort()
            return data == b"x"

        pair.stream.listen(on_data, heard.append)
        pair.far.sendall(b"x")
        async with asyncio.timeout(20):
            while not heard:
                await asyncio.sleep(0)
        assert len(heard) == 1
        assert isinstance(heard[0], StreamBroken)

    run(talk)
