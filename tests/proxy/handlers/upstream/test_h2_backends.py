"""Backends over HTTP/2: the client says, the backend hears and says, the client hears. The proxy is
real, over real sockets; the backend is python-hyper's h2."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from proxy.config.model import Backend, Health, Limits, ProxyAction
from proxy.doctor.probes.backends import _ask
from proxy.handlers.upstream.context import UpstreamContext
from proxy.handlers.upstream.h2_pool import H2Pool
from proxy.handlers.upstream.handler import Upstream
from proxy.handlers.upstream.health_check import check
from proxy.protocol.h1.fast_parser import FastParser
from proxy.transport.clock import Clock
from proxy.transport.deadlines import Deadlines
from support.http.conversation import Client, Told, conversation
from support.http.h2_backend import Answer, H2Backend, Request, Stream, h2_backend

GET = b"GET /a?b HTTP/1.1\r\nHost: x.test\r\n\r\n"


@dataclass
class Talk:
    clients: list[Client]
    backend: H2Backend
    upstream: Upstream
    service: Told

    @property
    def client(self) -> Client:
        return self.clients[0]


@contextlib.asynccontextmanager
async def talk(
    answer: Answer, clients: int = 1, early: bool = False, **options: object
) -> AsyncIterator[Talk]:
    async with h2_backend(answer, early) as backend:
        one = Backend(f"h2c://127.0.0.1:{backend.port}", "h2c", "127.0.0.1", backend.port)
        context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), True)
        upstream = Upstream(ProxyAction((one,), **options), context)  # type: ignore[arg-type]
        service = Told(FastParser(Limits()), upstream.handle)
        try:
            async with contextlib.AsyncExitStack() as stack:
                made = [
                    await stack.enter_async_context(conversation(service)) for _ in range(clients)
                ]
                yield Talk(made, backend, upstream, service)
        finally:
            upstream.close()


async def hello(_request: Request, stream: Stream) -> None:
    await stream.says(200, [(b"content-length", b"5"), (b"x-a", b"1")], b"hello")


async def test_a_request_goes_on_and_its_response_comes_back() -> None:
    async with talk(hello) as all_:
        for _ in range(3):
            await all_.client.says(GET)
            heard = await all_.client.hears(b"hello")
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"content-length: 5\r\n" in heard
            assert b"x-a: 1\r\n" in heard
        request = all_.backend.requests[0]
        assert request.fields[:4] == [
            (b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"x.test"), (b":path", b"/a?b"),
        ]  # fmt: skip
        assert request[b"x-forwarded-for"] == b"192.0.2.1"
        assert len(all_.backend.peers) == 1, "one connection serves all"
        assert all_.upstream.status()[0]["in_flight"] == 0


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_large_bodies_and_trailers_go_both_ways(framing: str) -> None:
    sent = b"0123456789" * 50_000

    async def echo(request: Request, stream: Stream) -> None:
        await stream.says(200, [], request.body, [(b"x-sum", b"1"), *request.trailers])

    async with talk(echo) as all_:
        head = b"POST /p HTTP/1.1\r\nHost: x.test\r\n"
        if framing == "length":
            said = head + b"Content-Length: %d\r\n\r\n" % len(sent) + sent
        else:
            said = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-Mine: 2\r\n\r\n" % (
                len(sent), sent)  # fmt: skip
        saying = asyncio.ensure_future(all_.client.says(said))
        assert b"transfer-encoding: chunked\r\n" in await all_.client.hears(b"\r\n\r\n")
        got = b""
        while size := int(await all_.client.hears(b"\r\n"), 16):
            while len(all_.client.heard) < size + 2:
                await all_.client.hears_more()
            got += all_.client.heard[:size]
            all_.client.heard = all_.client.heard[size + 2 :]
        trailers = await all_.client.hears(b"\r\n\r\n")
        await saying
        assert got == sent
        assert b"x-sum: 1\r\n" in trailers
        assert (b"x-mine: 2\r\n" in trailers) is (framing == "chunked")


async def test_many_at_once_share_a_connection_and_one_that_is_not_read_stops_no_other() -> None:
    async def answer(request: Request, stream: Stream) -> None:
        body = b"x" * (20_000_000 if request[b":path"] == b"/large" else 10)
        await stream.says(200, [(b"content-length", b"%d" % len(body))], body)

    async with talk(answer, clients=20) as all_:
        for client in all_.clients[:5]:
            await client.says(GET.replace(b"/a?b", b"/large"))
        for client in all_.clients[5:]:
            for _ in range(3):
                await client.says(GET)
                await client.hears(b"x" * 10)
        assert len(all_.backend.peers) == 1
        assert all_.upstream.status()[0]["in_flight"] == 5


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_refused_stream_is_sent_again_whatever_it_is(method: bytes) -> None:
    async def answer(_request: Request, stream: Stream) -> None:
        if stream.number == 3:
            await stream.resets(7)  # REFUSED_STREAM
        else:
            await stream.says(200, [], b"well")

    async with talk(answer) as all_:
        for _ in range(2):
            await all_.client.says(
                b"%b / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 2\r\n\r\nhi" % method
            )
            await all_.client.hears(b"well")
        assert len(all_.backend.requests) == 3
        assert all_.upstream.status()[0]["failures"] == 0


async def test_goaway_is_no_failure_and_what_it_did_not_take_goes_to_another_connection() -> None:
    async def answer(request: Request, stream: Stream) -> None:
        await stream.says(200, [], b"well")
        if stream.number == 1 and len(seen) == 1:
            stream.peer.h2.close_connection()
            await stream.peer.flush()

    seen: list[object] = []
    async with talk(answer) as all_:
        seen = all_.backend.peers
        for _ in range(3):
            await all_.client.says(
                b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 2\r\n\r\nhi"
            )
            assert b" 200 " in await all_.client.hears(b"well")
        assert len(all_.backend.requests) == 3
        status = all_.upstream.status()[0]
        assert (status["failures"], status["healthy"]) == (0, "yes")


async def test_a_backend_may_ping_and_chatter_more_than_a_client() -> None:
    async def answer(request: Request, stream: Stream) -> None:
        for _ in range(3000):
            stream.peer.h2.ping(b"12345678")
        await stream.peer.flush()
        await stream.says(200, [], b"well")

    async with talk(answer) as all_:
        await all_.client.says(GET)
        await all_.client.hears(b"well")


async def test_rows_that_are_streamed_in_tiny_frames_arrive_whole() -> None:
    async def answer(request: Request, stream: Stream) -> None:
        await stream.says(200, [], end=False)
        for number in range(5000):
            await stream.says_more(b"x", end=number == 4999)

    async with talk(answer) as all_:
        await all_.client.says(GET)
        await all_.client.hears(b"\r\n\r\n")
        while all_.client.heard.count(b"x") < 5000:  # in whatever framing
            await all_.client.hears_more()


BROKEN = {
    "a reset": (2, b"backend_broke_off"),
    "a field of one connection": ([(b"connection", b"close")], b"backend_protocol"),
    "two lengths": ([(b"content-length", b"1"), (b"content-length", b"2")], b"backend_protocol"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_not_well_formed_is_502(name: str) -> None:
    what, kind = BROKEN[name]

    async def answer(_request: Request, stream: Stream) -> None:
        if isinstance(what, int):
            await stream.resets(what)
            return
        stream.peer.h2.config.validate_outbound_headers = False
        stream.peer.h2.config.normalize_outbound_headers = False
        await stream.says(200, what, b"ab")  # type: ignore[arg-type] # of the table

    async with talk(answer) as all_:
        for _ in range(2):
            await all_.client.says(
                b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 2\r\n\r\nhi"
            )
            assert b" 502 " in await all_.client.hears(kind)
        assert len(all_.backend.requests) == 2, "a POST is never sent twice"


async def test_a_body_that_is_cut_reaches_the_client_as_a_reset() -> None:
    async def answer(_request: Request, stream: Stream) -> None:
        await stream.says(200, [], b"part", end=False)
        await stream.resets(2)

    async with talk(answer) as all_:
        await all_.client.says(GET)
        assert (await all_.client.hears_the_end()).endswith(b"RESET")


async def test_a_client_that_leaves_cancels_its_stream() -> None:
    begun = asyncio.Event()

    async def answer(_request: Request, stream: Stream) -> None:
        begun.set()

    async with talk(answer) as all_:
        await all_.client.says(GET)
        await begun.wait()
        all_.client.hangs_up()
        while not all_.client.deadlines._left:
            await asyncio.sleep(0)
        all_.client.deadlines.sweep(max(all_.client.deadlines._left.values()) + 1.5)
        while not all_.backend.resets:
            await asyncio.sleep(0)
        assert all_.backend.resets == [8], "CANCEL"
        assert all_.upstream.status()[0]["in_flight"] == 0


async def test_a_response_before_the_request_has_ended() -> None:
    async def answer(_request: Request, stream: Stream) -> None:
        await stream.says(413, [(b"content-length", b"3")], b"big")
        await stream.resets(0)

    async with talk(answer, early=True) as all_:
        await all_.client.says(
            b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000
        )
        assert b" 413 " in await all_.client.hears(b"big")


async def test_responses_without_a_body() -> None:
    async def answer(request: Request, stream: Stream) -> None:
        match request[b":path"]:
            case b"/204":
                await stream.says(204)
            case b"/304":
                await stream.says(304, [(b"etag", b'"x"')])
            case b"/empty":
                await stream.says(200)
            case _:
                await stream.says(200, [(b"content-length", b"1000")])

    async with talk(answer) as all_:
        for target, seen in (
            (b"/204", b" 204 "),
            (b"/304", b'etag: "x"'),
            (b"/empty", b"content-length: 0"),
        ):
            await all_.client.says(GET.replace(b"/a?b", target))
            assert seen in await all_.client.hears(b"\r\n\r\n")
        await all_.client.says(GET.replace(b"GET", b"HEAD"))
        assert b"content-length: 1000\r\n" in await all_.client.hears(b"\r\n\r\n")
        await all_.client.says(GET.replace(b"/a?b", b"/204"))
        await all_.client.hears(b" 204 ")


async def test_streams_are_bounded_and_the_rest_waits() -> None:
    release = asyncio.Event()
    most = now = 0

    async def answer(_request: Request, stream: Stream) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await release.wait()
        now -= 1
        await stream.says(200, [(b"content-length", b"2")], b"ok")

    async with talk(answer, clients=6, max_connections=2) as all_:
        for client in all_.clients:
            await client.says(GET)
        while now < 2 or len(all_.service.requests) < 6:
            await asyncio.sleep(0)
        release.set()
        for client in all_.clients:
            await client.hears(b"ok")
    assert most == 2


async def test_a_silent_connection_is_asked_and_then_given_up() -> None:
    async def answer(_request: Request, stream: Stream) -> None:
        stream.peer.h2 = None  # type: ignore[assignment] # it reads no more frames

    async with talk(answer) as all_:
        await all_.client.says(GET)
        while not all_.backend.requests:
            await asyncio.sleep(0)
        pool = all_.upstream._backends[0].pool
        assert isinstance(pool, H2Pool)
        (session,) = pool._sessions
        session.tick(session._heard + 11)
        session.tick(session._heard + 17)
        assert b" 504 " in await all_.client.hears(b"backend_timeout")


async def test_the_doctor_speaks_it_too() -> None:
    async with h2_backend(hello) as backend:
        one = Backend(f"h2c://127.0.0.1:{backend.port}", "h2c", "127.0.0.1", backend.port)
        found = await asyncio.to_thread(_ask, one, ProxyAction((one,)), "a.test", "/hc")
        assert found == ("answer", 200, "", None)
        assert backend.requests[0][b":authority"] == b"a.test"


async def test_a_health_check_speaks_it_too() -> None:
    async with h2_backend(hello) as backend:
        one = Backend(f"h2c://127.0.0.1:{backend.port}", "h2c", "127.0.0.1", backend.port)
        context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), True)
        pool = H2Pool(one, ProxyAction((one,)), None, context, None)
        assert await check(pool, Health("/hc", timeout=5.0)) is None
        assert backend.requests[0][b":path"] == b"/hc"
        assert backend.requests[0][b":authority"] == b"127.0.0.1:%d" % backend.port
        pool.close()
