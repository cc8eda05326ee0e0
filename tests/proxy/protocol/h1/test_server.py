"""Conversations with the server side of HTTP/1.1, in both modes of parsing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from dataclasses import replace
from typing import ClassVar

import pytest

from proxy.config.model import Limits
from proxy.errors import Fault
from proxy.protocol.h1.fast_parser import FastParser
from proxy.protocol.message import Connection, Fields, FileBody, Request, Response
from proxy.transport.tcp import SocketStream
from support.http.conversation import Client, Told, conversation, echo


@pytest.fixture(params=["lane", "h11"])
def service(request: pytest.FixtureRequest) -> Told:
    return Told(FastParser(Limits()) if request.param == "lane" else None)


GET = b"GET /a HTTP/1.1\r\nHost: x.test\r\n\r\n"


async def test_a_kept_alive_connection_answers_one_request_after_the_other(service: Told) -> None:
    async with conversation(service) as client:
        for _ in range(3):
            await client.says(GET)
            heard = await client.hears(b"GET /a|x.test|")
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"content-length: 14\r\n" in heard
            assert b"\r\ndate: " in heard
            assert b"connection:" not in heard
    assert service.ends == [(200, 14, None)] * 3


async def test_pipelined_requests_are_answered_in_their_order(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(b"".join(GET.replace(b"/a", b"/%d" % n) for n in range(100)))
        for n in range(100):
            await client.hears(b"GET /%d|x.test|" % n)


async def test_a_head_may_come_byte_by_byte(service: Told) -> None:
    async with conversation(service) as client:
        for at in range(len(GET)):
            await client.says(GET[at : at + 1])
            await asyncio.sleep(0)
        await client.hears(b"GET /a|x.test|")


async def test_a_body_ends_where_its_length_says(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(
            b"POST /p HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\n\r\nhello" + GET
        )
        await client.hears(b"POST /p|x.test|hello")
        await client.hears(b"GET /a|x.test|")


async def test_a_chunked_body_and_what_comes_behind_it(service: Told) -> None:
    bodies = []

    async def kept(request: Request) -> Response:
        bodies.append(request.body)
        return await echo(request)

    service.answer_with = kept
    async with conversation(service) as client:
        await client.says(
            b"POST /p HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n" + GET
        )
        await client.hears(b"POST /p|x.test|hello!")
        await client.hears(b"GET /a|x.test|")
    body = bodies[0]
    assert body is not None
    assert body.trailers == [(b"x-sum", b"1")]


async def test_a_large_body_arrives_whole(service: Told) -> None:
    sent = os.urandom(300_000)
    got = b""

    async def count(request: Request) -> Response:
        nonlocal got
        assert request.body is not None
        while piece := await request.body.read():
            got += piece
        return Response(204, [])

    service.answer_with = count
    async with conversation(service) as client:
        await client.says(
            b"PUT /p HTTP/1.1\r\nHost: x.test\r\nContent-Length: 300000\r\n\r\n" + sent
        )
        assert b"content-length" not in await client.hears(b"\r\n\r\n")
    assert got == sent


async def test_whoever_expects_100_gets_it_when_the_body_is_wanted(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(
            b"POST /p HTTP/1.1\r\nHost: x.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert await client.hears(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.says(b"ok")
        await client.hears(b"POST /p|x.test|ok")


async def test_an_answer_before_the_invitation_ends_the_connection(service: Told) -> None:
    async def refuse(request: Request) -> Response:
        raise Fault("not_found")

    service.answer_with = refuse
    async with conversation(service) as client:
        await client.says(
            b"POST /p HTTP/1.1\r\nHost: x.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        heard = await client.hears(b"not_found")
        assert heard.startswith(b"HTTP/1.1 404 ")
        assert b"connection: close\r\n" in heard
        # The body that came after all is no request.
        await client.says(b"GE")
        client.hangs_up()
        assert await client.hears_the_end() == b""


async def test_a_short_body_that_nobody_read_is_read_over(service: Told) -> None:
    async def ignore(request: Request) -> Response:
        return Response(200, [], b"ignored")

    service.answer_with = ignore
    async with conversation(service) as client:
        await client.says(b"POST /p HTTP/1.1\r\nHost: x.test\r\nContent-Length: 10\r\n\r\nhello")
        await client.hears(b"ignored")
        service.answer_with = echo
        await client.says(b"world" + GET)
        await client.hears(b"GET /a|x.test|")


async def test_a_long_body_that_nobody_read_ends_the_connection_after_the_answer(
    service: Told,
) -> None:
    async def ignore(request: Request) -> Response:
        return Response(200, [], b"ignored")

    service.answer_with = ignore
    async with conversation(service) as client:
        await client.says(b"POST /p HTTP/1.1\r\nHost: x.test\r\nContent-Length: 9999999\r\n\r\n")
        assert b"connection: close\r\n" in await client.hears(b"ignored")


async def test_old_clients_close_unless_they_ask_otherwise(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(b"GET / HTTP/1.0\r\nHost: x.test\r\nConnection: keep-alive\r\n\r\n")
        assert b"connection: keep-alive\r\n" in await client.hears(b"GET /|x.test|")
        await client.says(b"GET / HTTP/1.0\r\nHost: x.test\r\n\r\n")
        assert b"connection: close\r\n" in await client.hears(b"GET /|x.test|")
        client.hangs_up()
        assert await client.hears_the_end() == b""


async def test_connection_close_is_honoured_and_said(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(b"GET / HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n")
        assert b"connection: close\r\n" in await client.hears_the_end()


async def test_a_draining_server_says_so_on_the_next_answer(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(GET)
        await client.hears(b"GET /a|x.test|")
        service.draining = True
        await client.says(GET)
        assert b"connection: close\r\n" in await client.hears_the_end()


async def test_head_has_the_fields_of_get_and_no_body(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(GET.replace(b"GET", b"HEAD") + GET)
        heard = await client.hears(b"\r\n\r\n")
        assert b"content-length: 15\r\n" in heard
        assert (await client.hears(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_absolute_form_is_reduced(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(b"GET http://X.test/p?q HTTP/1.1\r\nHost: x.test\r\n\r\n")
        await client.hears(b"GET /p?q|x.test|")
        await client.says(b"GET http://x.test?q HTTP/1.1\r\nHost: x.test\r\n\r\n")
        await client.hears(b"GET /?q|x.test|")


async def test_one_empty_line_before_a_request_is_read_over(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(b"\r\n" + GET)
        await client.hears(b"GET /a|x.test|")


async def test_a_slow_head_is_told_so(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(GET)
        await client.hears(b"GET /a|x.test|")
        await client.says(GET[:10])
        while not any(
            stream.deadline - service.clock.now <= 10 for stream in client.deadlines.streams
        ):
            await asyncio.sleep(0)
        client.time_passes(11)
        heard = await client.hears(b"header_timeout")
        assert heard.startswith(b"HTTP/1.1 408 ")


async def test_an_idle_client_is_left_without_a_word(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(GET)
        await client.hears(b"GET /a|x.test|")
        while not client.deadlines.idle():
            await asyncio.sleep(0)
        client.time_passes(76)
        assert await client.hears_the_end() == b""


async def test_a_slow_body_is_told_so(service: Told) -> None:
    async with conversation(service) as client:
        await client.says(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\n\r\nhe")
        while not service.requests:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.time_passes(31)
        assert (await client.hears(b"body_timeout")).startswith(b"HTTP/1.1 408 ")


async def test_a_body_beyond_the_limit_is_refused(service: Told) -> None:
    service.limits = replace(service.limits, body_size=4)
    async with conversation(service) as client:
        await client.says(
            b"POST / HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        )
        heard = await client.hears(b"body_too_large")
        assert heard.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close\r\n" in heard


class Pieces:
    """A body that arrives piece by piece; None in the list is a backend that breaks off."""

    def __init__(self, pieces: list[bytes | None], length: int | None) -> None:
        self._pieces = pieces
        self.length = length
        self.trailers: Fields = []
        self.closed: list[bool] = []

    @property
    def at_end(self) -> bool:
        return not self._pieces

    def read_now(self, most: int = 65536) -> bytes | None:
        return None

    async def read(self, most: int = 65536) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if piece is None:
            raise Fault("backend_broke_off")
        return piece

    def close(self, complete: bool) -> None:
        self.closed.append(complete)


def answering(service: Told, body: Pieces) -> None:
    async def answer(request: Request) -> Response:
        return Response(200, [], body)

    service.answer_with = answer


async def test_a_stream_without_length_goes_out_in_chunks_with_its_trailers(service: Told) -> None:
    body = Pieces([b"one", b"three"], None)
    body.trailers = [(b"x-sum", b"8")]
    answering(service, body)
    async with conversation(service) as client:
        await client.says(GET)
        heard = await client.hears(b"0\r\nx-sum: 8\r\n\r\n")
        assert b"transfer-encoding: chunked\r\n" in heard
        assert heard.endswith(b"\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\nx-sum: 8\r\n\r\n")
    assert body.closed == [True]
    assert service.ends == [(200, 8, None)]


async def test_to_an_old_client_it_ends_with_the_connection(service: Told) -> None:
    body = Pieces([b"one", b"three"], None)
    answering(service, body)
    async with conversation(service) as client:
        await client.says(b"GET / HTTP/1.0\r\nHost: x.test\r\nConnection: keep-alive\r\n\r\n")
        heard = await client.hears_the_end()
        assert b"connection: close\r\n" in heard
        assert heard.endswith(b"\r\n\r\nonethree")
    assert body.closed == [True]


@pytest.mark.parametrize("length", [100, None])
async def test_a_body_that_breaks_off_ends_in_a_reset(service: Told, length: int | None) -> None:
    body = Pieces([b"part", None], length)
    answering(service, body)
    async with conversation(service) as client:
        await client.says(GET)
        heard = await client.hears_the_end()
        assert heard.endswith(b"RESET")
        assert b"0\r\n\r\n" not in heard
    assert body.closed == [False]
    assert service.ends == [(200, 4, "backend_broke_off")]


class Gushes(Pieces):
    """A body of which half comes at once, and half after a wait; ``corked`` tells at each step
    whether segments that are not full are held back."""

    def __init__(self, length: int | None) -> None:
        super().__init__([], length)
        self._left: list[bytes | None] = [b"a" * 65536, b"b" * 65536, None, b"c" * 65536]
        self.corked: list[tuple[str, bool]] = []
        self.stream: SocketStream | None = None

    @property
    def at_end(self) -> bool:
        return False

    def note(self, step: str) -> None:
        assert self.stream is not None
        held = self.stream._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)
        self.corked.append((step, bool(held)))

    def read_now(self, most: int = 65536) -> bytes | None:
        self.note("look")
        return self._left.pop(0) if self._left else b""

    async def read(self, most: int = 65536) -> bytes:
        self.note("wait")
        return self._left.pop(0) or b""


@pytest.mark.parametrize("length", [3 * 65536, None])
async def test_nothing_is_held_back_while_more_is_waited_for(
    service: Told, length: int | None
) -> None:
    body = Gushes(length)
    answering(service, body)
    async with conversation(service) as client:
        (body.stream,) = client.deadlines.streams
        await client.says(GET)
        await client.hears(b"c" * 1000)
        while not service.ends:
            await client.hears_more()
        body.note("over")
    assert body.corked == [
        ("look", False),
        ("look", True),
        ("look", True),
        ("wait", False),
        ("look", True),
        ("over", False),
    ]


async def test_a_file_that_shrinks_ends_in_a_reset(service: Told, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "f"
    path.write_bytes(b"short")
    fd = os.open(path, os.O_RDONLY)
    released = []

    async def answer(request: Request) -> Response:
        return Response(200, [], FileBody(fd, 0, 50, lambda: released.append(True)))

    service.answer_with = answer
    async with conversation(service) as client:
        await client.says(GET)
        assert (await client.hears_the_end()).endswith(b"shortRESET")
    os.close(fd)
    assert released == [True]
    assert service.ends == [(200, 5, "file_shrank")]


async def test_interim_answers_go_to_those_who_know_them(service: Told) -> None:
    async def hint(request: Request) -> Response:
        if request.inform is not None:
            await request.inform(103, [(b"link", b"</s.css>")])
        return Response(200, [], b"done")

    service.answer_with = hint
    async with conversation(service) as client:
        await client.says(GET)
        heard = await client.hears(b"done")
        assert heard.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </s.css>\r\n\r\nHTTP/1.1 200")
        await client.says(b"GET / HTTP/1.0\r\nHost: x.test\r\n\r\n")
        assert (await client.hears(b"done")).startswith(b"HTTP/1.1 200")


async def test_a_field_that_would_split_the_answer_is_never_sent(service: Told) -> None:
    async def split(request: Request) -> Response:
        return Response(200, [(b"location", b"/\r\nset-cookie: a=b")], b"")

    service.answer_with = split
    async with conversation(service) as client:
        await client.says(GET)
        assert b"set-cookie" not in await client.hears_the_end()


async def test_a_reader_of_a_byte_now_and_then_wins_no_time(service: Told) -> None:
    """A piece of an answer has its time, not a byte: a least rate, and no mere idle time-out."""

    async def answer_much(_: Request) -> Response:
        return Response(200, [], b"x" * (32 << 20))

    service.answer_with = answer_much
    async with conversation(service) as client:
        await client.says(GET)
        await client.hears(b"\r\n\r\n")
        (stream,) = client.deadlines.streams
        deadline = stream.deadline
        for _ in range(3):
            await client.hears_more()
            assert stream.deadline == deadline
        while not service.ends:
            # The kernel may have made room this moment, and then nothing waits that could expire.
            client.time_passes(service.limits.write_timeout + 1)
            await asyncio.sleep(0)
        await client.hears_the_end()
    assert service.ends == [(200, 0, "client_stalled")]


async def test_a_connection_has_so_many_requests_and_its_end_is_announced(service: Told) -> None:
    service.limits = Limits(requests_per_connection=3)
    async with conversation(service) as client:
        await client.says(GET * 4)
        heard = await client.hears_the_end()
    assert heard.count(b"HTTP/1.1 200") == 3
    assert heard.count(b"connection: close") == 1
    assert service.limits_reached == ["requests_per_connection"]


async def test_a_body_of_a_byte_now_and_then_wins_no_time(service: Told) -> None:
    """Slow-post: a byte every nine seconds is less than the least rate."""
    async with conversation(service) as client:
        await client.says(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 1000\r\n\r\n")
        begun = service.clock.now
        streams = list(client.deadlines.streams)
        while not service.ends:
            deadline = streams[0].deadline
            await client.says(b"x")
            while streams[0].deadline == deadline and not service.ends:
                await asyncio.sleep(0)  # the byte has arrived, and the next is waited for
            service.clock.now += 9.0
            client.deadlines.sweep(service.clock.now)
        assert b" 408 " in await client.hears(b"body_timeout")
        assert service.clock.now - begun < 60


async def hangs_up_and_time_passes(client: Client, seconds: float) -> None:
    client.hangs_up()
    while not client.deadlines._left:
        await asyncio.sleep(0)
    client.deadlines.sweep(max(client.deadlines._left.values()) + seconds)


async def test_a_client_that_leaves_gives_up_its_request(service: Told) -> None:
    ended = asyncio.Event()

    async def never(request: Request) -> Response:
        request.backend = "http://slow"
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    service.answer_with = never
    async with conversation(service) as client:
        await client.says(GET)
        while not service.requests:
            await asyncio.sleep(0)
        await hangs_up_and_time_passes(client, 1.5)
        await ended.wait()
        assert await client.hears_the_end() == b"RESET"
    assert service.ends == [(499, 0, "client_gone")]


async def test_a_client_that_ends_its_side_gets_an_answer_that_comes_soon(service: Told) -> None:
    release = asyncio.Event()

    async def soon(request: Request) -> Response:
        await release.wait()
        return await echo(request)

    service.answer_with = soon
    async with conversation(service) as client:
        await client.says(GET)
        await hangs_up_and_time_passes(client, 0.5)
        release.set()
        assert (await client.hears_the_end()).endswith(b"GET /a|x.test|")
    assert service.ends == [(200, 14, None)]


async def test_a_client_that_leaves_a_body_that_has_fallen_silent_ends_it(service: Told) -> None:
    closed = []

    class Silent:
        length = None
        trailers: ClassVar[Fields] = []
        at_end = False
        pieces = iter([b"one"])

        def read_now(self, most: int = 0) -> bytes | None:
            return None

        async def read(self, most: int = 0) -> bytes:
            piece = next(self.pieces, None)
            return piece if piece is not None else await asyncio.Future()

        def close(self, complete: bool) -> None:
            closed.append(complete)

    async def events(_: Request) -> Response:
        return Response(200, [], Silent())

    service.answer_with = events
    async with conversation(service) as client:
        await client.says(GET)
        await client.hears(b"3\r\none\r\n")
        await hangs_up_and_time_passes(client, 0.5)
        assert not closed
        await hangs_up_and_time_passes(client, 1.5)
        assert await client.hears_the_end() == b"RESET"
    assert closed == [False]
    assert service.ends == [(200, 3, "client_gone")]


async def test_a_request_that_came_in_time_is_answered_by_a_worker_that_could_not_run(
    service: Told,
) -> None:
    async with conversation(service) as client:
        await client.says(GET)
        await client.hears(b"GET /a|x.test|")
        client._sock.sendall(GET)  # no turn of the loop in between
        client.time_passes(1000.0)
        await client.hears(b"GET /a|x.test|")


async def test_an_ended_connection_is_gone_without_the_garbage_collector(service: Told) -> None:
    def alive(kind: type = Request) -> int:
        return sum(isinstance(one, kind) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before, connections = alive(), alive(Connection)
        async with conversation(service) as client:
            await client.says(
                b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 1\r\n\r\nx" + GET
            )
            await client.hears(b"GET /a")
            assert alive() == before + 2
            service.requests.clear()
            client.hangs_up()
            await client.hears_the_end()
        assert alive() == before
        assert alive(Connection) == connections
    finally:
        gc.enable()


# A client that is answered before it has said everything


async def too_large(_request: Request) -> Response:
    return Response(413, [], b"enough", error="body_too_large", close=True)


LARGE = b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 1000000000\r\n\r\n"


async def answered_early(client: Client, service: Told) -> None:
    await client.says(LARGE)
    await client.hears(b"enough")
    while not (client.deadlines.idle() and service.ends):
        await asyncio.sleep(0)  # until the server listens


async def test_an_early_answer_reaches_a_client_that_says_all_first(service: Told) -> None:
    """It would be taken away by a reset, if we did not take what is still coming."""
    service.answer_with = too_large
    async with conversation(service) as client:
        await client.says(LARGE)
        for _ in range(128):
            await client.says(b"x" * 65536)
        client.hangs_up()
        heard = await client.hears_the_end()
    assert heard.startswith(b"HTTP/1.1 413 ")
    assert heard.endswith(b"enough")


async def test_whoever_falls_silent_after_an_early_answer_is_not_waited_for(service: Told) -> None:
    service.answer_with = too_large
    async with conversation(service) as client:
        await answered_early(client, service)
        client.time_passes(4.9)
        (stream,) = client.deadlines.streams
        assert stream.awaits
        client.time_passes(5.1)
        while client.deadlines.streams:
            await asyncio.sleep(0)


async def test_whoever_goes_on_after_an_early_answer_is_heard_for_half_a_minute(
    service: Told,
) -> None:
    service.answer_with = too_large
    begun = service.clock.now
    async with conversation(service) as client:
        await answered_early(client, service)
        (stream,) = client.deadlines.streams
        with contextlib.suppress(ConnectionError):
            while client.deadlines.streams:
                deadline = stream.deadline
                service.clock.now += 4.0
                await client.says(b"x")
                while client.deadlines.streams and stream.deadline == deadline:
                    await asyncio.sleep(0)
    assert 28 <= service.clock.now - begun <= 36


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("lines", [b"\r\n", b"\r\n\r\n"])
async def test_empty_lines_behind_a_body_end_nothing(
    service: Told, lines: bytes, bytewise: bool
) -> None:
    """Old clients send one, and then perhaps nothing for a while."""
    post = b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 3\r\n\r\nabc"
    async with conversation(service) as client:
        for _ in range(2):
            for piece in (
                [post, *(lines[i : i + 1] for i in range(4))] if bytewise else [post + lines]
            ):
                await client.says(piece)
                for _ in range(10):
                    await asyncio.sleep(0)
            await client.hears(b"|abc")
            while not client.deadlines.idle():
                await asyncio.sleep(0)
        await client.says(GET)
        await client.hears(b"GET /a|x.test|")
