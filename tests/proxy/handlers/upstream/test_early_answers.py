"""Requests on kept connections to backends, whose answers are begun where the requests arrive. What
comes between the two is every way in which the task of the client's connection has to take over."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from proxy.config.model import Limits
from proxy.errors import Fault
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Request, Response
from proxy.sites.filters import Answer, Chain
from proxy.transport.deadlines import Timeouts
from support.http.conversation_of_three import Three, three
from support.http.raw_backend import Heard, answer

GET = b"GET /%b HTTP/1.1\r\nHost: x.test\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x.test\r\nContent-Length: 4\r\n\r\nbody"


@pytest.fixture(params=[True, False], ids=["lane", "h11"])
def lanes(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class Said:
    """The script of a backend: it answers ``first``, then what the test says for each request."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.heard: Heard | None = None
        self.bodies: list[bytes] = []
        self.let_go = asyncio.Event()

    async def __call__(self, heard: Heard) -> None:
        self.heard = heard
        try:
            await self._converse(heard)
        finally:
            self.let_go.set()

    async def _converse(self, heard: Heard) -> None:
        while True:
            head = await heard.head()
            if b"content-length: 4" in head:
                self.bodies.append(await heard.reader.readexactly(4))
            if b" /first " in head:
                await heard.says(answer(b"first"))
            else:
                self.asked.set()

    async def says(self, *pieces: bytes) -> None:
        assert self.heard is not None
        for piece in pieces:
            await self.heard.says(piece)
            for _ in range(5):
                await asyncio.sleep(0)


async def begun(all_: Three, said: Said, request: bytes = GET % b"x") -> Timeouts:
    """Have a request on its way to the backend, on a kept connection."""
    await all_.client.says(GET % b"first")
    await all_.client.hears(b"first")
    said.asked.clear()
    await all_.client.says(request)
    await said.asked.wait()
    (exchange,) = all_.client.deadlines.exchanges
    assert not exchange.idle, "a connection with a request is not idle"
    return exchange


def waits_without_its_task(exchange: Timeouts) -> bool:
    return bool(exchange.transport.reading)  # type: ignore[attr-defined] # a stream of a client


async def test_an_answer_in_one_piece(lanes: bool) -> None:
    said = Said()
    async with three(said, lanes) as all_:
        for number in range(4):
            exchange = await begun(all_, said)
            assert waits_without_its_task(exchange)
            body = b"answer %d" % number
            await said.says(answer(body))
            heard = await all_.client.hears(body)
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
            assert heard.count(b"\r\ndate: ") == 1
            while not exchange.idle:
                await asyncio.sleep(0)
        assert all_.backend.connections == 1
        assert [end[0] for end in all_.service.ends] == [200] * 8
        assert [one["in_flight"] for one in all_.upstream.status()] == [0]


async def test_answers_in_pieces(lanes: bool) -> None:
    said = Said()
    whole = answer(b"in pieces", b"X-A: b")
    head, _, body = whole.partition(b"\r\n\r\n")
    ways: list[list[bytes]] = [
        [whole[: place + 1][-1:] for place in range(len(whole))],
        [head + b"\r\n\r\n", body],
        [head, b"\r\n\r\n" + body],
        [whole[:3], whole[3:]],
        [b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n" + whole],
        [b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n", whole],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nin pieces\r\n", b"0\r\n\r\n"],
    ]
    async with three(said, lanes) as all_:
        for pieces in ways:
            await begun(all_, said)
            await said.says(*pieces)
            await all_.client.hears(b"in pieces")
            if b"chunked" in pieces[0]:
                await all_.client.hears(b"0\r\n\r\n")
        assert [end[0] for end in all_.service.ends] == [200] * 2 * len(ways)


async def test_a_body_larger_than_one_read(lanes: bool) -> None:
    said = Said()
    body = b"y" * 300_000 + b"end"
    async with three(said, lanes) as all_:
        await begun(all_, said)
        saying = asyncio.ensure_future(said.says(answer(body)))
        assert (await all_.client.hears(b"end")).endswith(body)
        await saying
        await begun(all_, said)
        await said.says(answer(b"ok"))
        await all_.client.hears(b"ok")


async def test_answers_that_are_none(lanes: bool) -> None:
    for wrong, kind in (
        (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", b"backend_protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"backend_protocol"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"backend_protocol"),
        (b"junk\n", b"backend_protocol"),
    ):
        said = Said()
        async with three(said, lanes) as all_:
            await begun(all_, said)
            await said.says(wrong)
            assert b" 502 " in await all_.client.hears(kind)
            assert [one["in_flight"] for one in all_.upstream.status()] == [0]


async def test_a_backend_that_ends_within_its_head(lanes: bool) -> None:
    said = Said()
    async with three(said, lanes) as all_:
        await begun(all_, said)
        assert said.heard is not None
        await said.says(b"HTTP/1.1 200 OK\r\n")
        said.heard.resets()
        assert b" 502 " in await all_.client.hears(b"backend_broke_off")


@pytest.mark.parametrize("way", ["end", "reset", "408"])
async def test_a_backend_that_ends_instead(way: str, lanes: bool) -> None:
    """GET goes to another connection. A POST does where nobody can have seen it."""
    for request, repeated in ((GET % b"x", True), (POST, way == "408")):
        said = Said()
        async with three(said, lanes) as all_:
            await begun(all_, said, request)
            said.asked.clear()
            old = said.heard
            assert old is not None
            if way == "408":
                await said.says(answer(b"", b"Connection: close", status=b"408 Request Timeout"))
            elif way == "reset":
                old.resets()
            else:
                old.writer.close()
            if repeated:
                await said.asked.wait()
                assert said.heard is not old
                await said.says(answer(b"again"))
                await all_.client.hears(b"again")
            else:
                assert b" 502 " in await all_.client.hears(b"backend_broke_off")
            assert all_.backend.connections == 1 + repeated


async def test_a_backend_that_is_silent_is_504(lanes: bool) -> None:
    for said_before in (b"", b"HTTP/1.1 200 OK\r\n"):
        said = Said()
        async with three(said, lanes, response_timeout=30.0) as all_:
            await begun(all_, said)
            if said_before:
                await said.says(said_before)
            now = all_.service.clock.now
            all_.deadlines.sweep(now + 29)
            assert [one["in_flight"] for one in all_.upstream.status()] == [1]
            all_.deadlines.sweep(now + 31)
            assert b" 504 " in await all_.client.hears(b"backend_timeout")
            assert all_.service.ends[-1][2] == "backend_timeout"


async def leaves(all_: Three) -> None:
    all_.client.hangs_up()
    while not all_.client.deadlines._left:
        await asyncio.sleep(0)
    all_.client.deadlines.sweep(max(all_.client.deadlines._left.values()) + 1.5)


async def test_a_client_that_leaves(lanes: bool) -> None:
    said = Said()
    async with three(said, lanes) as all_:
        await begun(all_, said)
        await leaves(all_)
        await said.let_go.wait()
        await all_.client.hears_the_end()
        assert all_.service.ends[-1] == (499, 0, "client_gone")
        assert [one["in_flight"] for one in all_.upstream.status()] == [0]


async def test_a_client_that_resets(lanes: bool) -> None:
    said = Said()
    async with three(said, lanes) as all_:
        await begun(all_, said)
        sock = all_.client._sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        while not all_.client.deadlines._left:
            await asyncio.sleep(0)
        all_.client.deadlines.sweep(max(all_.client.deadlines._left.values()) + 1.5)
        await said.let_go.wait()
        while len(all_.service.ends) < 2:
            await asyncio.sleep(0)
        assert all_.service.ends[-1] == (499, 0, "client_gone")


async def test_a_client_that_has_ended_its_side_is_answered(lanes: bool) -> None:
    said = Said()
    async with three(said, lanes) as all_:
        await begun(all_, said)
        all_.client.hangs_up()
        for _ in range(5):
            await asyncio.sleep(0)
        await said.says(answer(b"to the end"))
        assert (await all_.client.hears_the_end()).endswith(b"to the end")
        assert all_.service.ends[-1] == (200, 10, None)


async def test_requests_that_come_meanwhile_are_answered_in_their_order(lanes: bool) -> None:
    said = Said()
    async with three(said, lanes) as all_:
        await begun(all_, said)
        await all_.client.says(GET % b"first" + (GET % b"first")[:9])
        await all_.client.says((GET % b"first")[9:])
        await said.says(answer(b"one"))
        heard = await all_.client.hears(b"one")
        assert heard.count(b"HTTP/1.1 ") == 1
        for _ in range(2):
            assert (await all_.client.hears(b"first")).count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("backend_first", [True, False])
async def test_both_at_once(backend_first: bool, lanes: bool) -> None:
    """The client's next request and the backend's answer are found in one turn of the loop."""
    said = Said()
    async with three(said, lanes) as all_:
        for _ in range(20):
            await begun(all_, said)
            assert said.heard is not None
            says: list[Callable[[], object]] = [
                lambda: said.heard and said.heard.writer.write(answer(b"one")),
                lambda: all_.client._sock.send(GET % b"first"),
            ]
            for say in says if backend_first else reversed(says):
                say()
            heard = await all_.client.hears(b"first")
            assert heard.index(b"one") < heard.index(b"first")
            assert heard.count(b"HTTP/1.1 200") == 2


async def test_bodies_that_come_with_their_heads(lanes: bool) -> None:
    said = Said()
    async with three(said, lanes) as all_:
        for request in (POST, POST + GET % b"first", POST[:-2]):
            await all_.client.says(GET % b"first")
            await all_.client.hears(b"first")
            said.asked.clear()
            await all_.client.says(request)
            if request == POST[:-2]:
                for _ in range(10):
                    await asyncio.sleep(0)
                await all_.client.says(POST[-2:])
            await said.asked.wait()
            (exchange,) = all_.client.deadlines.exchanges
            assert waits_without_its_task(exchange) is (lanes and request == POST)
            await said.says(answer(b"done"))
            await all_.client.hears(b"done")
            if request.endswith(GET % b"first"):
                await all_.client.hears(b"first")
        assert said.bodies == [b"body"] * 3


async def test_the_last_answer_of_a_connection_says_so(lanes: bool) -> None:
    async def drains(all_: Three, said: Said) -> None:
        all_.service.draining = True

    async def has_had_enough(all_: Three, said: Said) -> None:
        return

    ways: tuple[tuple[Limits, Callable[[Three, Said], Awaitable[None]]], ...] = (
        (Limits(), drains),
        (Limits(requests_per_connection=2), has_had_enough),
    )
    for limits, happens in ways:
        said = Said()
        async with three(said, lanes, limits) as all_:
            await begun(all_, said)
            await happens(all_, said)
            await said.says(answer(b"the last"))
            heard = await all_.client.hears_the_end()
            assert b"\r\nconnection: close\r\n" in heard
            assert heard.endswith(b"the last")


async def test_a_loop_is_refused_and_its_connection_kept(lanes: bool) -> None:
    said = Said()
    async with three(said, lanes) as all_:
        await begun(all_, said)
        await said.says(answer(b"ok"))
        await all_.client.hears(b"ok")
        line = next(
            one for one in all_.backend.heads[-1].split(b"\r\n") if one.startswith(b"cdn-loop")
        )
        await all_.client.says(GET.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n") % b"x")
        assert b" 508 " in await all_.client.hears(b"loop")
        assert [one["in_flight"] for one in all_.upstream.status()] == [0]
        await begun(all_, said)
        await said.says(answer(b"ok"))
        await all_.client.hears(b"ok")
        assert all_.backend.connections == 1


async def test_an_answer_to_head_has_no_body(lanes: bool) -> None:
    said = Said()
    async with three(said, lanes) as all_:
        await begun(all_, said, b"HEAD /x HTTP/1.1\r\nHost: x.test\r\n\r\n")
        await said.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert b"content-length: 5\r\n" in await all_.client.hears(b"\r\n\r\n")
        await begun(all_, said)
        await said.says(b"HTTP/1.1 304 Not Modified\r\n\r\n")
        assert b" 304 " in await all_.client.hears(b"\r\n\r\n")
        assert all_.backend.connections == 1


@pytest.mark.parametrize("way", ["at once", "waits", "fails", "fails late"])
async def test_filters_of_the_answer(way: str, lanes: bool) -> None:
    class Signs:
        def response(self, _exchange: Exchange, response: Response) -> Answer:
            if way == "fails":
                raise Fault("internal", "a filter")
            response.add_field(b"x-signed", b"yes")
            return response if way == "at once" else self._later(response)

        async def _later(self, response: Response) -> Response:
            await asyncio.sleep(0)
            if way == "fails late":
                raise Fault("internal", "a filter")
            return response

    said = Said()
    async with three(said, lanes) as all_:
        service = all_.service
        chain = Chain((), [Signs()])

        def filtered(request: Request) -> Answer:
            exchange = Exchange(request.connection, request)
            return chain.changed(exchange, all_.upstream.handle(request), service.failed)

        await begun(all_, said)
        await said.says(answer(b"unsigned"))
        await all_.client.hears(b"unsigned")
        service.answer_with = filtered  # type: ignore[assignment] # Response is never its answer
        for _ in range(2):
            said.asked.clear()
            await all_.client.says(GET % b"x")
            await said.asked.wait()
            await said.says(answer(b"body"))
            heard = await all_.client.hears(b"internal" if "fails" in way else b"body")
            assert (b"\r\nx-signed: yes\r\n" in heard) is ("fails" not in way)
        assert [one["in_flight"] for one in all_.upstream.status()] == [0]
        # h11 streams a body, and what is thrown away unread ends its connection.
        assert all_.backend.connections == (1 if lanes or "fails" not in way else 2)
