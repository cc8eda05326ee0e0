"""HTTP/2 connections as conversations: real sockets, a service that is told what to answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from proxy.config.model import Limits
from proxy.errors import Fault
from proxy.protocol.exchange import PartialHead
from proxy.protocol.message import Connection, FileBody, Request, Response, Tunnel
from proxy.transport.tcp import SocketStream
from support.h2_peer import (
    CANCEL,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GET,
    HEADERS,
    HELLO,
    INTERNAL_ERROR,
    PING,
    POST,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Fields,
    data,
    frame,
    headers,
    rst,
    settings,
    window_update,
)
from support.http.conversation import Told, echo
from support.http.h2_conversation import H2Client, h2_conversation

LARGEST = (1 << 31) - 1
Answer = Callable[[Request], Awaitable[Response]]


@pytest.fixture(params=[True, False], ids=["session", "authority"])
def own_engine(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def service() -> Told:
    return Told(None)


@pytest.fixture
async def client(service: Told, own_engine: bool) -> AsyncIterator[H2Client]:
    async with h2_conversation(service, own_engine=own_engine) as made:
        yield made


def target(path: bytes, *more: tuple[bytes, bytes], method: bytes = b"GET") -> Fields:
    return [(b":method", method), *GET[1:3], (b":path", path), *more]


class Pieces:
    """A body that arrives piece by piece; see `message.StreamBody`."""

    def __init__(
        self,
        pieces: list[bytes | Fault | None],
        trailers: Fields | None = None,
        length: int | None = None,
    ) -> None:
        self.length = length
        self.trailers = trailers or []
        self.left = list(pieces)
        self.closed: list[bool] = []
        self.more = asyncio.Event()
        self.asked = 0

    @property
    def at_end(self) -> bool:
        return False

    def read_now(self, most: int = 65536) -> bytes | None:
        self.asked += 1
        if not self.left:
            return b""
        piece = self.left[0]
        if piece is None:
            return None
        self.left.pop(0)
        if isinstance(piece, Fault):
            raise piece
        if len(piece) > most:
            self.left.insert(0, piece[most:])
        return piece[:most]

    async def read(self, most: int = 65536) -> bytes:
        while self.left and self.left[0] is None:
            await self.more.wait()
            self.more.clear()
            self.left.pop(0)
        found = self.read_now(most)
        assert found is not None
        return found

    def close(self, complete: bool) -> None:
        self.closed.append(complete)


# Requests and answers


async def test_an_answer_that_is_known_at_once(client: H2Client, service: Told) -> None:
    service.ready[b"/"] = Response(200, [(b"a", b"b")], b"hello", shared=True)
    assert await client.gets(1) == (200, b"hello")
    assert await client.gets(3) == (200, b"hello")
    for number in (1, 3):
        [head] = client.heads(number)
        assert {name for name, _ in head} == {b":status", b"a", b"content-length", b"date"}
        assert dict(head)[b"content-length"] == b"5"
        assert dict(head)[b"date"].endswith(b"GMT")
    assert service.ends == [(200, 5, None), (200, 5, None)]


async def test_an_answer_that_is_waited_for(client: H2Client, service: Told) -> None:
    assert await client.gets(1, target(b"/x?y")) == (200, b"GET /x?y|a.example|")
    [request] = service.requests
    assert (request.version, request.connection.peer) == (b"2", "192.0.2.1")
    assert service.ends == [(200, 19, None)]


async def test_many_at_a_time_and_the_last_first(client: H2Client, service: Told) -> None:
    gates = {b"/%d" % number: asyncio.Event() for number in range(50)}

    async def answer(request: Request) -> Response:
        await gates[request.path].wait()
        return Response(200, [], request.path)

    service.answer_with = answer
    await client.says(*(headers(2 * number + 1, target(b"/%d" % number)) for number in range(50)))
    await client.until(lambda: len(service.requests) == 50)
    for number in reversed(range(50)):
        gates[b"/%d" % number].set()
        await client.hears_end_of(2 * number + 1)
        assert client.body(2 * number + 1) == b"/%d" % number


async def test_a_body_that_comes_whole(client: H2Client) -> None:
    assert await client.gets(1, POST, data(1, b"hello", end=True)) == (
        200,
        b"POST /|a.example|hello",
    )


async def test_a_body_in_pieces_with_trailers(client: H2Client, service: Told) -> None:
    async def answer(request: Request) -> Response:
        made = await echo(request)
        assert request.body is not None
        assert request.body.at_end
        made.body += repr(request.body.trailers).encode()
        return made

    service.answer_with = answer
    await client.says(headers(1, POST, False))
    await client.until(lambda: bool(service.requests))
    for piece in (b"he", b"llo"):
        await client.says(data(1, piece))
    await client.says(headers(1, [(b"sum", b"1")]))
    await client.hears_end_of(1)
    assert client.body(1) == b"POST /|a.example|hello[(b'sum', b'1')]"


async def test_a_large_body_is_credited_as_it_is_read(client: H2Client, service: Told) -> None:
    whole = os.urandom(1 << 20)

    async def answer(request: Request) -> Response:
        assert request.body is not None
        got = b""
        while piece := await request.body.read():
            got += piece
        return Response(200, [], b"same" if got == whole else b"other")

    service.answer_with = answer
    await client.says(headers(1, POST, False))
    at = window = 0
    room = {0: 65535, 1: 65535}
    seen = 0
    while at < len(whole):
        for one in client.frames[seen:]:
            if type(one).__name__ == "WindowUpdateFrame":
                room[one.stream_id] += one.window_increment
        seen = len(client.frames)
        window = min(room.values())
        if not window:
            count = len(client.of("WindowUpdateFrame"))
            await client.hears(lambda one, count=count: len(client.of("WindowUpdateFrame")) > count)
            continue
        piece = whole[at : at + min(window, 16384)]
        at += len(piece)
        for number in room:
            room[number] -= len(piece)
        await client.says(data(1, piece, end=at == len(whole)))
    await client.hears_end_of(1)
    assert client.body(1) == b"same"


async def test_a_body_that_nobody_reads_is_not_credited(client: H2Client, service: Told) -> None:
    begun = asyncio.Event()

    async def answer(request: Request) -> Response:
        await begun.wait()
        return Response(200, [], b"done")

    service.answer_with = answer
    await client.says(headers(1, POST, False), *(data(1, bytes(16383)) for _ in range(4)))
    await client.says(frame(PING, 0, 0, b"12345678"))
    await client.hears(lambda one: type(one).__name__ == "PingFrame")
    assert client.of("WindowUpdateFrame", 1) == []
    begun.set()
    await client.hears_end_of(1)
    # What lay there is credited on the connection: another upload finds its whole window.
    for number in range(3, 23, 2):
        assert (
            await client.gets(
                number,
                POST,
                *(data(number, bytes(16000)) for _ in range(3)),
                data(number, b"", end=True),
            )
        )[0] == 200


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
async def test_answers_without_a_body(
    client: H2Client, service: Told, method: bytes, status: int
) -> None:
    body = Pieces([b"x"], length=1)
    answers = {b"/ready": b"hello", b"/stream": body}

    async def answer(request: Request) -> Response:
        return Response(status, [], answers[request.path])

    service.answer_with = answer
    service.ready[b"/ready"] = Response(status, [], b"hello", shared=True)
    for number, path in ((1, b"/ready"), (3, b"/stream")):
        await client.says(headers(number, target(path, method=method)))
        await client.hears_end_of(number)
        assert client.of("DataFrame", number) == []
        named = dict(client.heads(number)[0])
        assert (b"content-length" in named) is (status == 200)
    assert body.closed == [True]
    assert service.ends == [(status, 0, None)] * 2


async def test_a_file(client: H2Client, service: Told, tmp_path: Path) -> None:
    whole = os.urandom(300_000)
    (tmp_path / "f").write_bytes(whole)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    released: list[bool] = []
    service.ready[b"/"] = Response(
        206, [], FileBody(fd, 100, 200_000, lambda: released.append(True))
    )
    assert await client.gets(1) == (206, whole[100:200_100])
    assert dict(client.heads(1)[0])[b"content-length"] == b"200000"
    assert released == [True]
    os.close(fd)


async def test_a_file_that_shrinks_breaks_off(
    client: H2Client, service: Told, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(bytes(1000))
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    released: list[bool] = []
    service.ready[b"/"] = Response(200, [], FileBody(fd, 0, 2000, lambda: released.append(True)))
    await client.gets(1)
    assert client.reset_with(1) == INTERNAL_ERROR
    assert released == [True]
    assert service.ends == [(200, 1000, "file_shrank")]
    os.close(fd)


async def test_a_body_from_a_backend_with_trailers(client: H2Client, service: Told) -> None:
    body = Pieces([b"one", None, b"two", b"x" * 50_000], [(b"grpc-status", b"0")])

    async def answer(request: Request) -> Response:
        return Response(200, [(b"a", b"b")], body)

    service.answer_with = answer
    await client.says(headers(1, GET))
    await client.hears(lambda one: type(one).__name__ == "DataFrame")
    assert client.body(1) == b"one"
    body.more.set()
    await client.hears_end_of(1)
    assert client.body(1) == b"onetwo" + b"x" * 50_000
    assert client.heads(1)[-1] == [(b"grpc-status", b"0")]
    assert b"content-length" not in dict(client.heads(1)[0])
    assert body.closed == [True]
    assert service.ends == [(200, 50_006, None)]


async def test_a_body_that_breaks_off_is_not_taken_for_whole(
    client: H2Client, service: Told
) -> None:
    body = Pieces([b"one", Fault("backend_broke_off")])

    async def answer(request: Request) -> Response:
        return Response(200, [], body)

    service.answer_with = answer
    await client.gets(1)
    assert client.reset_with(1) == INTERNAL_ERROR
    assert body.closed == [False]
    assert service.ends == [(200, 3, "backend_broke_off")]


async def test_nothing_is_fetched_for_a_window_that_is_shut(
    service: Told, own_engine: bool
) -> None:
    body = Pieces([b"x" * 40_000] * 10)

    async def answer(request: Request) -> Response:
        return Response(200, [], body)

    service.answer_with = answer
    hello = PREFACE + settings((4, 10))
    async with h2_conversation(service, own_engine=own_engine, hello=hello) as client:
        client.credits = False
        await client.says(headers(1, GET))
        await client.hears(lambda one: type(one).__name__ == "DataFrame")
        await client.says(frame(PING, 0, 0, bytes(8)))
        await client.hears(lambda one: type(one).__name__ == "PingFrame")
        assert client.body(1) == b"x" * 10
        assert body.asked == 1
        await client.says(window_update(1, 5))
        await client.hears(lambda one: len(client.body(1)) == 15)
        assert body.asked == 2


async def test_interim_answers(client: H2Client, service: Told) -> None:
    async def answer(request: Request) -> Response:
        assert request.inform is not None
        await request.inform(103, [(b"link", b"</a.css>")])
        await request.inform(100, [])  # which nobody asked for
        return Response(200, [], b"ok")

    service.answer_with = answer
    assert await client.gets(1) == (200, b"ok")
    assert client.heads(1)[0] == [(b":status", b"103"), (b"link", b"</a.css>")]
    assert len(client.heads(1)) == 2


async def test_a_client_that_waits_for_100_is_asked_for_its_body(client: H2Client) -> None:
    await client.says(headers(1, [*POST, (b"expect", b"100-continue")], False))
    await client.hears(lambda one: type(one).__name__ == "HeadersFrame")
    assert client.heads(1) == [[(b":status", b"100")]]
    await client.says(data(1, b"hello", end=True))
    await client.hears_end_of(1)
    assert client.body(1).endswith(b"|hello")


async def test_a_body_too_large_is_answered_while_it_still_comes(own_engine: bool) -> None:
    service = Told(None, limits=Limits(body_size=20_000))
    async with h2_conversation(service, own_engine=own_engine) as client:
        await client.says(headers(1, POST, False), data(1, bytes(16384)), data(1, bytes(16384)))
        await client.hears_end_of(1)
        assert client.status(1) == 413
        await client.says(*(data(1, bytes(10_000)) for _ in range(3)))  # it did not know yet
        assert (await client.gets(3))[0] == 200
        assert client.reset_with(1) is None
        for _ in range(3):
            await client.says(data(1, bytes(16384)))
        await client.hears(lambda one: type(one).__name__ == "RstStreamFrame")
        assert client.reset_with(1) == 0
        assert (await client.gets(5))[0] == 200


# Refusals


@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        (target(b"/" + b"x" * 9000), 414, "target_too_long"),
        (target(b"/", *[(b"a", b"b")] * 101), 431, "head_too_large"),
        (target(b"/", method=b"TRACE"), 405, "method_not_allowed"),
        (target(b"/", (b"expect", b"x")), 417, "expectation_failed"),
    ],
)  # fmt: skip
async def test_what_gets_an_error_for_an_answer(
    client: H2Client, service: Told, fields: Fields, status: int, kind: str
) -> None:
    assert await client.gets(1, fields) == (status, kind.encode())
    assert service.ends == [(status, len(kind), kind)]
    said = dict(fields)
    (told,) = service.partial
    assert told == PartialHead(said[b":method"], said[b":path"][:4096], said[b":authority"])
    assert (await client.gets(3))[0] == 200


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ([*target(b"/a", method=b"POST"), (b"A", b"b")], (b"POST", b"/a")),
        (target(b"/a", (b"connection", b"close")), (b"GET", b"/a")),
        (target(b"/a", (b"b", b"c\r\nd: e")), (b"GET", b"/a")),
        (target(b"/a", (b"host", b"y.test")), (b"GET", b"/a")),
        (target(b"/a", (b":path", b"/b")), (b"GET", b"/a")),
        (target(b"/a b"), (b"GET", b"/a b")),
        ([*GET[:1], GET[1], (b":path", b"/a b"), (b"host", b"z.test")], (b"GET", b"/a b")),
        (target(b"/" + b"\n" * 5000), (b"GET", b"/" + b"\n" * 4095)),
        (target(b"/a", method=b"ge t"), (b"ge t", b"/a")),
        ([(b":method", b"CONNECT"), *target(b"/a")[1:], (b":protocol", b"x")], (b"CONNECT", b"/a")),
    ],
)
async def test_of_what_is_malformed_the_log_has_what_could_be_read(
    client: H2Client, service: Told, fields: Fields, told: tuple[bytes, bytes]
) -> None:
    await client.says(headers(1, fields))
    await client.hears_end_of(1)
    assert client.reset_with(1) == PROTOCOL_ERROR
    host = dict(fields).get(b":authority", b"z.test")
    assert service.partial == [PartialHead(*told, host)]


async def test_what_is_malformed_is_reset_and_told(client: H2Client, service: Told) -> None:
    await client.says(headers(1, target(b"/", (b"A", b"b"))))
    await client.hears_end_of(1)
    assert client.reset_with(1) == PROTOCOL_ERROR
    assert service.ends == [(400, 0, "malformed_request")]
    assert service.requests == []
    assert (await client.gets(3))[0] == 200


async def test_an_answer_that_would_break_apart_is_not_sent(
    client: H2Client, service: Told
) -> None:
    service.ready[b"/bad"] = Response(200, [(b"a", b"b\r\nc: d")], b"x", shared=True)
    await client.says(headers(1, target(b"/bad")))
    await client.hears_end_of(1)
    assert client.reset_with(1) == INTERNAL_ERROR
    assert (await client.gets(3))[0] == 200


async def test_what_belongs_to_http_1_is_left_out(client: H2Client, service: Told) -> None:
    service.ready[b"/"] = Response(
        200, [(b"connection", b"close"), (b"upgrade", b"h2c"), (b"a", b"b")], b"x"
    )
    await client.gets(1)
    assert {name for name, _ in client.heads(1)[0]} == {
        b":status",
        b"a",
        b"date",
        b"content-length",
    }


async def test_a_tunnel_is_no_answer(client: H2Client, service: Told) -> None:
    closed: list[bool] = []

    async def answer(request: Request) -> Response:
        return Response(101, [], Tunnel(None, b"", closed.append))  # type: ignore[arg-type] # never used

    service.answer_with = answer
    await client.says(headers(1, GET))
    await client.hears_end_of(1)
    assert client.reset_with(1) == INTERNAL_ERROR
    assert closed == [False]


async def test_more_streams_of_an_address_than_allowed(service: Told, own_engine: bool) -> None:
    never = asyncio.Event()

    async def answer(request: Request) -> Response:
        await never.wait()
        return Response(200, [])

    service.answer_with = answer
    async with h2_conversation(service, own_engine=own_engine, streams_per_address=2) as client:
        await client.says(*(headers(number, GET) for number in (1, 3, 5)))
        await client.hears_end_of(5)
        assert client.reset_with(5) == REFUSED_STREAM
        assert service.limits_reached == ["streams_per_address"]
        never.set()
        await client.hears_end_of(1)
        await client.hears_end_of(3)
        assert (await client.gets(7))[0] == 200


async def test_more_streams_of_a_connection_than_allowed(own_engine: bool) -> None:
    service = Told(None, limits=Limits(streams=2))
    never = asyncio.Event()

    async def answer(request: Request) -> Response:
        await never.wait()
        return Response(200, [])

    service.answer_with = answer
    async with h2_conversation(service, own_engine=own_engine) as client:
        await client.says(*(headers(number, GET) for number in (1, 3, 5)))
        await client.hears_end_of(5)
        assert client.reset_with(5) == REFUSED_STREAM
        assert service.limits_reached == ["streams"]


# Ends


async def test_a_reset_lets_the_work_go_at_once(client: H2Client, service: Told) -> None:
    gone: list[bytes] = []

    async def answer(request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            gone.append(request.path)
        return Response(200, [])

    service.answer_with = answer
    await client.says(headers(1, target(b"/one")), headers(3, target(b"/two")))
    await client.until(lambda: len(service.requests) == 2)
    await client.resets(1)
    await client.until(lambda: gone == [b"/one"])
    await client.until(lambda: service.ends == [(499, 0, "client_gone")])


async def test_a_reset_in_the_middle_of_an_answer_closes_its_body(
    client: H2Client, service: Told
) -> None:
    waiting, ready = Pieces([b"x", None]), Pieces([b"x" * 10_000] * 1000)

    async def answer(request: Request) -> Response:
        return Response(200, [], {b"/w": waiting, b"/r": ready}[request.path])

    service.answer_with = answer
    client.credits = False
    for number, path, body in ((1, b"/w", waiting), (3, b"/r", ready)):
        await client.says(headers(number, target(path)))
        await client.hears(
            lambda one, number=number: one.stream_id == number and type(one).__name__ == "DataFrame"
        )
        await client.resets(number)
        await client.until(lambda body=body: body.closed == [False])
    assert [error for *_, error in service.ends] == ["client_gone", "client_gone"]
    assert client.reset_with(1) is None


async def test_a_reset_within_an_upload_is_a_body_cut_short(
    client: H2Client, service: Told
) -> None:
    met: list[str] = []

    async def answer(request: Request) -> Response:
        assert request.body is not None
        try:
            while await request.body.read():
                pass
        except (Fault, asyncio.CancelledError) as error:
            met.append(type(error).__name__)
            raise
        return Response(200, [], b"taken for whole")

    service.answer_with = answer
    await client.says(headers(1, POST, False), data(1, b"hello"))
    await client.until(lambda: bool(service.requests))
    await client.resets(1)
    await client.until(lambda: bool(service.ends))
    assert met in (["Fault"], ["CancelledError"])
    assert service.ends[0][2] == "client_gone"


async def test_a_request_that_is_reset_before_its_task_ran(client: H2Client, service: Told) -> None:
    from support.h2_peer import rst

    for number in range(1, 41, 2):
        await client.says(headers(number, GET) + rst(number))
    await client.until(lambda: len(service.ends) == 20)
    assert {error for *_, error in service.ends} <= {"client_gone", None}
    assert (await client.gets(99))[0] == 200


async def test_the_end_of_the_connection_ends_all_work(client: H2Client, service: Told) -> None:
    gone: list[bool] = []

    async def answer(request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            gone.append(True)
        return Response(200, [])

    service.answer_with = answer
    await client.says(*(headers(number, GET) for number in (1, 3, 5)))
    await client.until(lambda: len(service.requests) == 3)
    client.sock.close()
    await client.until(lambda: len(gone) == 3)
    await client.until(lambda: [error for *_, error in service.ends] == ["client_gone"] * 3)


async def test_a_connection_error_is_said_and_ends_all_work(
    client: H2Client, service: Told
) -> None:
    async def answer(request: Request) -> Response:
        await asyncio.Event().wait()
        return Response(200, [])

    service.answer_with = answer
    await client.says(headers(1, GET), data(0, b"x"))
    await client.hears_the_end()
    assert client.goaways == [(1, PROTOCOL_ERROR)]
    assert [error for *_, error in service.ends] == ["client_gone"]


async def test_a_connection_error_while_answers_wait_for_their_turn(
    client: H2Client, service: Told
) -> None:
    """Nothing more is sent of them, and nobody stumbles over it."""
    bodies = [Pieces([b"x" * 60_000] * 5) for _ in range(3)]

    async def answer(request: Request) -> Response:
        return Response(200, [], bodies[int(request.path[1:])])

    service.answer_with = answer
    service.ready[b"/ready"] = Response(200, [], b"y" * 100_000)
    client.credits = False
    await client.says(*(headers(2 * n + 1, target(b"/%d" % n)) for n in range(3)))
    await client.hears(lambda one: type(one).__name__ == "DataFrame")
    await client.says(headers(7, target(b"/ready")), headers(9, target(b"/0")), data(0, b"x"))
    await client.hears_the_end()
    assert [code for _last, code in client.goaways] == [PROTOCOL_ERROR]
    assert len(service.ends) == 5
    assert all(one.closed == [False] for one in bodies[1:])


async def test_waste_ends_the_connection_and_is_counted(client: H2Client, service: Told) -> None:
    await client.says(*(frame(99, 0, 0) for _ in range(500)))
    await client.hears_the_end()
    assert client.goaways == [(0, ENHANCE_YOUR_CALM)]
    assert service.limits_reached == ["http2_waste"]


# Time


async def test_a_connection_without_requests_ends_in_time(client: H2Client, service: Told) -> None:
    await client.gets(1)
    await client.time_passes(service.limits.keepalive_timeout - 1)
    assert (await client.gets(3))[0] == 200
    await client.time_passes(service.limits.keepalive_timeout + 1)
    await client.hears_the_end()
    assert client.goaways == [(3, 0)]


async def test_a_client_that_says_nothing_at_all(service: Told) -> None:
    async with h2_conversation(service, hello=b"") as client:
        await client.hears(lambda one: type(one).__name__ == "SettingsFrame")
        await client.time_passes(service.limits.header_timeout + 1)
        await client.hears_the_end()


async def test_a_head_that_does_not_end(client: H2Client, service: Told) -> None:
    await client.says(headers(1, GET)[:20])
    await client.time_passes(0.5)
    await client.time_passes(service.limits.header_timeout + 1)
    await client.hears_the_end()
    assert [end[2] for end in service.ends] == ["header_timeout"]


async def test_a_body_that_does_not_come(client: H2Client, service: Told) -> None:
    await client.says(headers(1, POST, False), data(1, b"x"))
    await client.until(lambda: bool(service.requests))
    await client.time_passes(0.5)
    await client.time_passes(service.limits.body_timeout + 1)
    await client.hears_end_of(1)
    assert (client.status(1), client.body(1)) == (408, b"body_timeout")
    assert (await client.gets(3))[0] == 200


async def test_a_window_that_stays_shut(client: H2Client, service: Told) -> None:
    body = Pieces([b"x" * 60_000] * 3)

    async def answer(request: Request) -> Response:
        return Response(200, [], body)

    service.answer_with = answer
    client.credits = False
    await client.says(headers(1, GET))
    await client.hears(lambda one: len(client.body(1)) == 65535)
    await client.time_passes(service.limits.write_timeout + 1)
    await client.hears_end_of(1)
    assert client.reset_with(1) == CANCEL
    assert body.closed == [False]
    assert service.ends == [(200, 65535, "client_stalled")]


async def test_a_window_that_opens_byte_by_byte(client: H2Client, service: Told) -> None:
    """Each update comes in time, and all together they never end."""
    body = Pieces([b"x" * 60_000] * 3)

    async def answer(request: Request) -> Response:
        return Response(200, [], body)

    service.answer_with = answer
    client.credits = False
    await client.says(headers(1, GET))
    await client.hears(lambda one: len(client.body(1)) == 65535)
    for number in range(1, 20):
        await client.time_passes(service.limits.write_timeout / 2)
        if body.closed:
            break
        await client.says(window_update(0, 1), window_update(1, 1))
        await client.hears(
            lambda one, number=number: (
                len(client.body(1)) == 65535 + number or type(one).__name__ == "RstStreamFrame"
            )
        )
    assert body.closed == [False]
    assert service.ends[0][2] == "client_stalled"


async def test_what_was_never_begun_is_closed_with_all_that_it_would_have_awaited(
    client: H2Client, service: Told
) -> None:
    """Python warns of coroutines that nobody awaits, and warnings fail tests."""
    begun = []

    async def handler() -> Response:
        begun.append("handler")
        return Response(200)

    async def chain(inner: Awaitable[Response]) -> Response:
        return await inner

    service.handle = lambda exchange: chain(chain(handler()))  # type: ignore[method-assign]
    for number in range(1, 41, 2):
        await client.says(headers(number, GET) + rst(number))
    await client.until(lambda: len(service.ends) == 20)
    gc.collect()
    assert begun == []


async def test_an_ended_connection_is_gone_without_the_garbage_collector(
    service: Told, own_engine: bool
) -> None:
    def alive(kind: type) -> int:
        return sum(isinstance(one, kind) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = {kind: alive(kind) for kind in (Request, Connection, SocketStream)}
        async with h2_conversation(service, own_engine=own_engine) as client:
            await client.says(headers(1, GET), headers(3, POST, False), data(3, b"x", end=True))
            await client.until(lambda: len(service.ends) == 2)
            assert alive(Connection) == before[Connection] + 1
            service.requests.clear()
        del client
        assert {kind: alive(kind) for kind in before} == before
    finally:
        gc.enable()


async def test_a_client_that_takes_nothing_costs_no_memory(own_engine: bool) -> None:
    service = Told(None)
    bodies = [Pieces([b"x" * 16_000] * 10_000) for _ in range(20)]

    async def answer(request: Request) -> Response:
        return Response(200, [], bodies[int(request.path[1:])])

    service.answer_with = answer
    hello = PREFACE + settings((4, LARGEST)) + window_update(0, LARGEST - 65535)
    async with h2_conversation(service, own_engine=own_engine, hello=hello) as client:
        await client.says(*(headers(2 * n + 1, target(b"/%d" % n)) for n in range(20)))
        await client.until(lambda: bool(client.shared._servers))
        [server] = client.shared._servers
        await client.until(lambda: bool(server._sender.rest))  # type: ignore[attr-defined]
        taken = [10_000 - len(body.left) for body in bodies]
        assert sum(taken) * 16_000 < 8 << 20  # the kernel's buffers, and less than 200 KiB of ours
        assert len(server._sender.rest) + server._engine.unsent < 200 * 1024  # type: ignore[attr-defined]


# Whose turn it is


async def test_a_small_urgent_answer_overtakes_a_large_one(own_engine: bool) -> None:
    service = Told(None)

    async def answer(request: Request) -> Response:
        if request.path == b"/large":
            return Response(200, [], Pieces([b"x" * 16_000] * 1000))
        return Response(200, [], b"small")

    service.answer_with = answer
    hello = PREFACE + settings((4, LARGEST)) + window_update(0, LARGEST - 65535)
    async with h2_conversation(service, own_engine=own_engine, hello=hello) as client:
        client.credits = False
        await client.says(headers(1, target(b"/large")))
        await client.hears(lambda one: len(client.body(1)) > 100_000)
        await client.says(headers(3, target(b"/small", (b"priority", b"u=0"))))
        await client.hears_end_of(3)
        assert len(client.body(1)) < 15_000_000
        await client.hears_end_of(1)
        assert len(client.body(1)) == 16_000_000


# The end in two steps


async def test_a_drain_names_the_last_stream_only_when_the_client_has_heard(
    client: H2Client, service: Told
) -> None:
    gate = asyncio.Event()

    async def answer(request: Request) -> Response:
        if request.path == b"/slow":
            await gate.wait()
        return Response(200, [], request.path)

    service.answer_with = answer
    await client.says(headers(1, target(b"/slow")))
    await client.until(lambda: bool(service.requests))
    client.shared.drain(asyncio.get_running_loop(), 0.0)
    ping = await client.hears(lambda one: type(one).__name__ == "PingFrame")
    assert client.goaways == [(LARGEST, 0)]
    # What was on its way is still taken.
    assert await client.gets(3, target(b"/late")) == (200, b"/late")
    await client.says(frame(PING, 1, 0, ping.opaque_data))
    await client.hears(lambda one: len(client.goaways) == 2)
    assert client.goaways[1] == (3, 0)
    await client.says(headers(5, target(b"/never")))
    gate.set()
    await client.hears_end_of(1)
    assert client.body(1) == b"/slow"
    await client.hears_the_end()
    assert {request.path for request in service.requests} == {b"/slow", b"/late"}
    assert client.heads(5) == []


async def test_a_drain_of_an_idle_connection(client: H2Client) -> None:
    await client.gets(1)
    client.shared.drain(asyncio.get_running_loop(), 0.0)
    ping = await client.hears(lambda one: type(one).__name__ == "PingFrame")
    await client.says(frame(PING, 1, 0, ping.opaque_data))
    await client.hears_the_end()
    assert client.goaways == [(LARGEST, 0), (1, 0)]


@contextlib.asynccontextmanager
async def much_to_take(own_engine: bool) -> AsyncIterator[H2Client]:
    """A connection that is over for the server, while its client has nearly all to read yet."""
    service = Told(None)
    service.ready[b"/"] = Response(200, [], b"x" * 200_000, shared=True)
    hello = PREFACE + settings((4, LARGEST)) + window_update(0, LARGEST - 65535)
    async with h2_conversation(service, own_engine=own_engine, hello=hello) as client:
        client.credits = False
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await client.says(headers(1, GET))
        await client.until(lambda: bool(service.ends))
        client.shared.drain(asyncio.get_running_loop(), 0.0)
        for _ in range(2):
            await asyncio.sleep(0)  # two turns of the loop: the drain has begun, its ping is asked
        await client.says(frame(PING, 1, 0, b"draining"))
        await client.until(lambda: not client.shared.connections)
        yield client


async def test_a_client_that_reads_slowly_gets_all_of_its_last_answer(own_engine: bool) -> None:
    """It sends window updates while it reads; to close before it has read would be a reset, which
    takes away what is still on its way."""
    async with much_to_take(own_engine) as client:
        for _ in range(5):
            await client.time_passes(3)
            await client.says(window_update(0, 1))
        await client.hears_the_end()
        assert client.body(1) == b"x" * 200_000
        assert client.goaways == [(LARGEST, 0), (1, 0)]


async def test_a_client_that_reads_slowly_and_says_nothing_gets_all_of_it(own_engine: bool) -> None:
    async with much_to_take(own_engine) as client:
        for _ in range(8):
            await client.hears_a_piece()
            await client.time_passes(20)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # faster now
        await client.hears_the_end()
        assert client.body(1) == b"x" * 200_000
        assert client.service.limits_reached == []


async def test_a_client_that_takes_nothing_of_its_last_answer_is_a_limit(own_engine: bool) -> None:
    async with much_to_take(own_engine) as client:
        await client.time_passes(client.service.limits.write_timeout - 1)
        assert client.deadlines.idle() == []  # it has something to lose
        assert client.deadlines.streams
        await client.time_passes(2)
        await client.until(lambda: not client.deadlines.streams)
        assert client.service.limits_reached == ["write_timeout"]


async def test_a_client_that_is_silent_after_its_last_answer_is_not_waited_for(
    client: H2Client,
) -> None:
    await client.gets(1)
    client.shared.drain(asyncio.get_running_loop(), 0.0)
    await client.says(frame(PING, 1, 0, b"draining"))
    await client.hears_the_end()
    (stream,) = client.deadlines.streams
    assert isinstance(stream, SocketStream)
    await client.until(lambda: stream.unacknowledged() <= 1)  # as it is long before time passes
    await client.time_passes(6)
    await client.until(lambda: not client.deadlines.streams)


async def test_a_connection_that_has_had_its_requests_is_drained(own_engine: bool) -> None:
    service = Told(None, limits=Limits(requests_per_connection=3))
    async with h2_conversation(service, own_engine=own_engine) as client:
        for number in (1, 3, 5):
            assert (await client.gets(number))[0] == 200
        ping = await client.hears(lambda one: type(one).__name__ == "PingFrame")
        await client.says(frame(PING, 1, 0, ping.opaque_data))
        await client.hears_the_end()
        assert client.goaways == [(LARGEST, 0), (5, 0)]
        assert service.limits_reached == ["requests_per_connection"]


async def test_frames_in_any_cut_through_a_real_socket(client: H2Client) -> None:
    whole = headers(1, POST, False) + data(1, b"hello") + data(1, b"", end=True)
    for at in range(0, len(whole), 3):
        await client.says(whole[at : at + 3])
        await asyncio.sleep(0)
    await client.hears_end_of(1)
    assert client.body(1).endswith(b"|hello")


def test_the_names_that_are_used() -> None:
    """So that a typing mistake above is no test that cannot fail."""
    assert (PREFACE + settings(), 1, 4, 1) == (HELLO, HEADERS, END_HEADERS, END_STREAM)
