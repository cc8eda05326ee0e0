"""Conversations of three: the client says, the backend hears and says, the client hears.

The server side and the proxy are real, over real sockets; the backend is a script."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from proxy.config.model import Backend, Health, ProxyAction
from proxy.errors import Fault
from proxy.handlers.upstream.context import UpstreamContext
from proxy.handlers.upstream.handler import Upstream
from proxy.handlers.upstream.health_check import Unasked, check
from proxy.handlers.upstream.pool import Pool
from proxy.metrics.counters import Counters
from proxy.protocol.exchange import Exchange
from proxy.protocol.h1.client import BackendConnection
from proxy.protocol.message import Response
from proxy.transport.clock import Clock
from proxy.transport.deadlines import Deadlines
from support.http.conversation import Client, Told, conversation
from support.http.conversation_of_three import http_backend, three
from support.http.raw_backend import Heard, Script, answer, raw_backend

GET = b"GET /a?b HTTP/1.1\r\nHost: x.test\r\n\r\n"


@pytest.fixture(params=["lane", "h11"])
def lanes(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "lane")


async def test_a_request_goes_on_and_its_answer_comes_back(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        while True:
            await heard.head()
            await heard.says(answer(b"hello", b"Server: mine", b"X-A: 1"))

    async with three(script, lanes) as all_:
        for _ in range(3):
            await all_.client.says(GET)
            heard = await all_.client.hears(b"hello")
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"server: mine\r\n" in heard
            assert b"content-length: 5\r\n" in heard
            assert b"via: 1.1 treehouse-" in heard
        head = all_.backend.heads[0]
        assert head.startswith(b"GET /a?b HTTP/1.1\r\nhost: x.test\r\n")
        assert b"x-forwarded-for: 192.0.2.1\r\n" in head
        assert b"x-forwarded-proto: http\r\n" in head
        assert b'forwarded: for=192.0.2.1;host="x.test";proto=http\r\n' in head
        assert all_.backend.connections == 1, "the connection is used again"


@pytest.mark.parametrize("client_framing", ["length", "chunked"])
@pytest.mark.parametrize("backend_framing", ["length", "chunked", "close"])
async def test_bodies_go_both_ways_in_any_framing(
    lanes: bool, client_framing: str, backend_framing: str
) -> None:
    sent = b"0123456789" * 30_000

    async def script(heard: Heard) -> None:
        head = await heard.head()
        body = b""
        if b"transfer-encoding: chunked" in head:
            while size := int(await heard.reader.readuntil(b"\r\n"), 16):
                body += await heard.reader.readexactly(size)
                await heard.reader.readexactly(2)
            await heard.reader.readuntil(b"\r\n")
        else:
            body = await heard.reader.readexactly(len(sent))
        match backend_framing:
            case "length":
                await heard.says(answer(body))
            case "chunked":
                await heard.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for at in range(0, len(body), 10_000):
                    await heard.says(b"%x\r\n%b\r\n" % (10_000, body[at : at + 10_000]))
                await heard.says(b"0\r\nX-Sum: 1\r\n\r\n")
            case _:
                await heard.says(b"HTTP/1.0 200 OK\r\n\r\n" + body)

    async with three(script, lanes) as all_:
        head = b"POST /p HTTP/1.1\r\nHost: x.test\r\n"
        if client_framing == "length":
            said = head + b"Content-Length: %d\r\n\r\n" % len(sent) + sent
        else:
            said = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
                len(sent),
                sent,
            )
        saying = asyncio.ensure_future(all_.client.says(said))
        heard = await all_.client.hears(b"\r\n\r\n")
        if backend_framing == "length":
            assert b"content-length: 300000\r\n" in heard
            got = b""
            while len(got) < len(sent):
                got += await _some(all_.client)
        else:
            assert b"transfer-encoding: chunked\r\n" in heard
            got = await _dechunked(all_.client)
        await saying
        assert got == sent


async def _some(client: Client) -> bytes:
    if not client.heard:
        await client.hears_more()
    heard, client.heard = client.heard, b""
    return heard


async def _dechunked(client: Client) -> bytes:
    got = b""
    while size := int(await client.hears(b"\r\n"), 16):
        while len(client.heard) < size + 2:
            await client.hears_more()
        got += client.heard[:size]
        client.heard = client.heard[size + 2 :]
    await client.hears(b"\r\n")
    return got


BROKEN = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
    "folded field": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare CR": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "control byte": b"HTTP/1.1 200 OK\r\nX: a\x02b\r\nContent-Length: 0\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"X: %b\r\n" % (b"a" * 1000) * 80,
    "a flood of 1xx": b"HTTP/1.1 103 Hints\r\n\r\n" * 50 + answer(b"x"),
    "101 that nobody asked for": b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
async def test_an_answer_that_is_not_well_formed_is_502(case: str, lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(BROKEN[case])
        await heard.reader.read()

    async with three(script, lanes) as all_:
        await all_.client.says(GET)
        heard = await all_.client.hears(b"backend_protocol")
        assert b"HTTP/1.1 502 " in heard
        # The client's connection goes on; the backend's does not.
        await all_.client.says(GET)
        await all_.client.hears(b"backend_protocol")
        assert all_.backend.connections == 2


CUT = {
    "within a counted body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
    "within a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\npart",
    "between chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
    "with a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n+1\r\nx\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", CUT)
async def test_a_body_that_is_cut_reaches_the_client_as_a_reset(case: str, lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(CUT[case])

    async with three(script, lanes) as all_:
        await all_.client.says(GET)
        heard = await all_.client.hears_the_end()
        assert heard.endswith(b"RESET") or heard == b"RESET"
        assert b"0\r\n\r\n" not in heard


async def test_nothing_at_all_is_502(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()

    async with three(script, lanes) as all_:
        await all_.client.says(GET)
        assert b" 502 " in await all_.client.hears(b"backend_broke_off")
        assert all_.backend.connections == 1, "a fresh connection that ends is no reason to repeat"


async def test_a_dead_kept_connection_is_replaced_for_what_may_be_repeated(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        if heard.number == 1:
            await heard.head()
            await heard.says(answer(b"one"))
            await heard.head()  # and ends without an answer
            return
        while True:
            await heard.head()
            await heard.says(answer(b"two"))

    async with three(script, lanes) as all_:
        await all_.client.says(GET)
        await all_.client.hears(b"one")
        await all_.client.says(GET)
        await all_.client.hears(b"two")


async def test_a_post_is_never_sent_twice(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        if heard.number == 1:
            await heard.says(answer(b"one"))
            await heard.head()

    async with three(script, lanes) as all_:
        await all_.client.says(GET)
        await all_.client.hears(b"one")
        await all_.client.says(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 2\r\n\r\nhi")
        assert b" 502 " in await all_.client.hears(b"backend_broke_off")
        assert all_.backend.connections == 1


async def test_what_comes_behind_an_answer_spoils_the_connection(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(answer(b"one") + answer(b"smuggled"))
        await heard.reader.read()

    async with three(script, lanes) as all_:
        for _ in range(2):
            await all_.client.says(GET)
            heard = await all_.client.hears(b"one")
            assert b"smuggled" not in heard
        assert all_.backend.connections == 2


async def test_interim_answers_are_passed_on(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n" + answer(b"done"))

    async with three(script, lanes) as all_:
        await all_.client.says(GET)
        heard = await all_.client.hears(b"done")
        assert heard.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </s.css>\r\n\r\nHTTP/1.1 200")


async def test_expect_goes_on_and_an_early_refusal_keeps_the_body_away(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        head = await heard.head()
        assert b"expect: 100-continue\r\n" in head
        if b"/yes" in head:
            await heard.says(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await heard.reader.readexactly(2)
            await heard.says(answer(body))
        else:
            await heard.says(answer(b"too large", status=b"413 No"))
            assert await heard.reader.read() == b"", "no byte of the body may come"

    async with three(script, lanes) as all_:
        ask = (
            b"POST %b HTTP/1.1\r\nHost: x.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        await all_.client.says(ask % b"/yes")
        assert await all_.client.hears(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await all_.client.says(b"hi")
        await all_.client.hears(b"hi")
        await all_.client.says(ask % b"/no")
        heard = await all_.client.hears(b"too large")
        assert heard.startswith(b"HTTP/1.1 413 ")


async def test_an_answer_before_the_body_has_ended(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(answer(b"early"))
        await heard.reader.read()

    async with three(script, lanes) as all_:
        await all_.client.says(
            b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000
        )
        heard = await all_.client.hears(b"early")
        assert b"connection: close\r\n" in heard


async def test_a_client_that_breaks_off_its_body_is_not_taken_for_done(lanes: bool) -> None:
    got = asyncio.Event()
    outcome: list[bytes] = []

    async def script(heard: Heard) -> None:
        await heard.head()
        try:
            outcome.append(await heard.reader.read())
        except ConnectionError:
            outcome.append(b"RESET")
        got.set()

    async with three(script, lanes) as all_:
        await all_.client.says(
            b"POST / HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"
        )
        while not all_.backend.heads:
            await asyncio.sleep(0)
        all_.client.hangs_up()
        await got.wait()
    assert outcome[0] != b"4\r\npart\r\n0\r\n\r\n"
    assert all_.service.ends[-1][2] == "client_gone"


async def test_a_websocket_becomes_a_tunnel(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        head = await heard.head()
        assert b"connection: upgrade\r\n" in head
        assert b"upgrade: websocket\r\n" in head
        assert b"sec-websocket-key: abc\r\n" in head
        await heard.says(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: def\r\n\r\nfirst"
        )
        while data := await heard.reader.read(100):
            await heard.says(data.upper())

    async with three(script, lanes) as all_:
        await all_.client.says(
            b"GET /ws HTTP/1.1\r\nHost: x.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: abc\r\n\r\nearly"
        )
        heard = await all_.client.hears(b"\r\n\r\n")
        assert heard.startswith(b"HTTP/1.1 101 ")
        assert b"upgrade: websocket\r\n" in heard
        assert b"sec-websocket-accept: def\r\n" in heard
        await all_.client.hears(b"first")
        await all_.client.hears(b"EARLY")
        await all_.client.says(b"more")
        await all_.client.hears(b"MORE")
        all_.client.hangs_up()
        assert await all_.client.hears_the_end() == b""
    (tunnel,) = all_.service.tunnels
    assert tunnel.received == len(b"earlymore")
    counters = Counters()
    exchange = Exchange(all_.service.requests[0].connection, all_.service.requests[0])
    exchange.response, exchange.tunnel = Response(101, [], tunnel), True
    counters.request(exchange)
    assert sum(one[0] for one in counters.message()["bytes"].values()) == len(b"earlymore")


async def test_a_200_to_an_upgrade_is_an_answer_and_no_tunnel(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        while True:
            await heard.head()
            await heard.says(answer(b"no"))

    async with three(script, lanes) as all_:
        await all_.client.says(
            b"GET /ws HTTP/1.1\r\nHost: x.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        await all_.client.hears(b"no")
        await all_.client.says(GET)
        await all_.client.hears(b"no")
        assert len(all_.backend.heads) == 2, "the second request is one, and no tunnel's bytes"


@pytest.mark.parametrize("upgrade", [b"h2c", b"h2c, websocket"])
async def test_h2c_is_not_forwarded(lanes: bool, upgrade: bytes) -> None:
    async def script(heard: Heard) -> None:
        head = await heard.head()
        assert b"upgrade" not in head.lower()
        assert b"http2-settings" not in head.lower()
        await heard.says(answer(b"plain"))

    async with three(script, lanes) as all_:
        await all_.client.says(
            b"GET / HTTP/1.1\r\nHost: x.test\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: %b\r\nHTTP2-Settings: AAA\r\n\r\n" % upgrade
        )
        await all_.client.hears(b"plain")


async def test_a_backend_that_never_answers_is_504(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.reader.read()

    async with three(script, lanes) as all_:
        await all_.client.says(GET)
        while not all_.backend.heads:
            await asyncio.sleep(0)
        all_.deadlines.sweep(float("inf"))
        assert b" 504 " in await all_.client.hears(b"backend_timeout")


async def test_head_and_bodiless_answers(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        while True:
            head = await heard.head()
            if head.startswith(b"HEAD /chunked"):
                await heard.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            elif head.startswith(b"HEAD"):
                await heard.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            elif b"/205" in head:
                await heard.says(b"HTTP/1.1 205 Reset Content\r\nContent-Length: 3\r\n\r\nabc")
            elif b"/204" in head:
                await heard.says(b"HTTP/1.1 204 No Content\r\n\r\n")
            else:
                await heard.says(
                    b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 7\r\n\r\n'
                )

    async with three(script, lanes) as all_:
        await all_.client.says(GET.replace(b"GET", b"HEAD"))
        assert b"content-length: 1000\r\n" in await all_.client.hears(b"\r\n\r\n")
        await all_.client.says(GET.replace(b"GET /a", b"HEAD /chunked"))
        heard = await all_.client.hears(b"\r\n\r\n")
        assert b"content-length" not in heard  # which would be a GET's, and nobody knows that
        await all_.client.says(GET.replace(b"/a", b"/205"))
        heard = await all_.client.hears(b"abc")  # no content is promised that does not come
        assert b"content-length: 3\r\n" in heard
        await all_.client.says(GET.replace(b"/a", b"/204"))
        assert b"content-length" not in await all_.client.hears(b"\r\n\r\n")
        await all_.client.says(GET)
        assert b'etag: "x"\r\n' in await all_.client.hears(b"\r\n\r\n")
        assert all_.backend.connections == 1


async def test_no_more_connections_than_allowed_and_the_rest_waits(lanes: bool) -> None:
    release = asyncio.Event()
    most = 0
    now = 0

    async def script(heard: Heard) -> None:
        nonlocal most, now
        while True:
            await heard.head()
            now += 1
            most = max(most, now)
            await release.wait()
            now -= 1
            await heard.says(answer(b"ok"))

    async with raw_backend(script) as backend:
        action = ProxyAction((http_backend(backend.port),), max_connections=2)
        context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), lanes)
        upstream = Upstream(action, context)
        service = Told(None, upstream.handle)
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(conversation(service)) for _ in range(6)]
            for client in clients:
                await client.says(GET)
            while now < 2 or len(service.requests) < 6:
                await asyncio.sleep(0)
            release.set()
            for client in clients:
                await client.hears(b"ok")
        upstream.close()
    assert most == 2


async def test_a_backend_that_is_down_is_passed_over(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        while True:
            await heard.head()
            await heard.says(answer(b"up"))

    async with raw_backend(script) as backend:
        gone = http_backend(1)
        action = ProxyAction((gone, http_backend(backend.port)))
        context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), lanes)
        upstream = Upstream(action, context)
        service = Told(None, upstream.handle)
        async with conversation(service) as client:
            for _ in range(6):
                await client.says(GET)
                await client.hears(b"up")
        status = {one["url"]: one for one in upstream.status()}
        assert status["http://127.0.0.1:1"]["healthy"] == "no"
        assert status["http://127.0.0.1:1"]["last_error"] == "Connection refused"
        assert status["http://127.0.0.1:1"]["failures"] >= 1
        assert status[backend.url]["healthy"] == "yes"
        assert status[backend.url]["last_error"] is None
        upstream.close()


async def test_a_loop_to_ourselves_is_refused(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        head = await heard.head()
        loop = next(line for line in head.split(b"\r\n") if line.startswith(b"cdn-loop: "))
        await heard.says(answer(loop))

    async with three(script, lanes) as all_:
        await all_.client.says(GET)
        heard = await all_.client.hears(b"cdn-loop: treehouse-")
        loop = (heard + all_.client.heard).rpartition(b"cdn-loop: ")[2]
        while len(loop) < 18:
            loop += await _some(all_.client)
        all_.client.heard = b""
        await all_.client.says(GET[:-2] + b"CDN-Loop: other, " + loop[:18] + b"\r\n\r\n")
        assert b" 508 " in await all_.client.hears(b"loop")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_not_looked_up(
    lanes: bool, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    connected = []

    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        raise AssertionError

    async def sock_connect(_: socket.socket, address: tuple[object, ...]) -> None:
        connected.append(address[:2])
        raise ConnectionRefusedError(111, "Connection refused")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    action = ProxyAction((Backend(f"http://{host}", "http", host, 8081),))
    upstream = Upstream(action, UpstreamContext(loop, Deadlines(), Clock(), (), lanes))
    async with conversation(Told(None, upstream.handle)) as client:
        await client.says(GET)
        await client.hears(b"backend_refused")
    assert connected == [(host, 8081)]


async def test_a_name_is_looked_up_again_and_requests_go_where_it_leads(
    lanes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saying(word: bytes) -> Script:
        async def script(heard: Heard) -> None:
            await heard.head()
            await heard.says(answer(word, b"Connection: close"))

        return script

    asked = 0
    clock = Clock()
    async with raw_backend(saying(b"old")) as old, raw_backend(saying(b"new")) as new:
        where = old.port

        async def getaddrinfo(host: str, _port: int, **_: object) -> list[object]:
            nonlocal asked
            asked += 1
            assert host == "app.test"
            await asyncio.sleep(0)  # as a resolver does, beside everything else
            if not where:
                raise OSError("no such name")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", where))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        action = ProxyAction((Backend("http://app.test", "http", "app.test", 80),))
        context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), clock, (), lanes)
        service = Told(None, Upstream(action, context).handle)
        async with conversation(service) as client:
            for place, word in ((old.port, b"old"), (new.port, b"old"), (0, b"old")):
                where = place
                await client.says(GET)
                await client.hears(word)
            assert asked == 1  # for half a minute an answer is good
            clock.now += 31
            await client.says(GET)
            await client.hears(b"old")  # the name has gone: the last answer is better than none
            where = new.port
            clock.now += 31
            await client.says(GET)
            await client.hears(b"new")
            assert asked == 3


async def test_a_backend_is_let_go_when_its_client_leaves(lanes: bool) -> None:
    """Also one who only waits for his turn: his place is free, and the next one's turn comes."""
    let_go = asyncio.Event()

    async def script(heard: Heard) -> None:
        await heard.head()
        if heard.number == 1:
            await heard.reader.read()  # silent until the proxy ends it
            let_go.set()
        else:
            await heard.says(answer(b"ok"))

    async with raw_backend(script) as backend:
        action = ProxyAction((http_backend(backend.port),), max_connections=1, max_queued=1)
        counters = Counters()
        context = UpstreamContext(
            asyncio.get_running_loop(), Deadlines(), Clock(), (), lanes, counters=counters
        )
        upstream = Upstream(action, context)
        service = Told(None, upstream.handle)
        async with contextlib.AsyncExitStack() as stack:
            first, second, third = [
                await stack.enter_async_context(conversation(service)) for _ in range(3)
            ]
            await first.says(GET)
            while not backend.heads:
                await asyncio.sleep(0)
            for number, client in ((2, second), (3, third)):
                await client.says(GET)
                while len(service.requests) < number:
                    await asyncio.sleep(0)
                if client is second:  # it has the only place in the queue, and leaves it
                    await leaves(second)
                    while not service.ends:
                        await asyncio.sleep(0)
            await leaves(first)
            await third.hears(b"ok")
            await let_go.wait()
        assert service.ends[:2] == [(499, 0, "client_gone")] * 2
        assert [one.backend for one in service.requests] == [f"{backend.url}"] * 2 + [None]
        assert counters.message()["upstreams"] == {
            f"{backend.url}\x1fclient_gone": 2, f"{backend.url}\x1fok": 1
        }  # fmt: skip
        assert [one["in_flight"] for one in upstream.status()] == [0]
        upstream.close()


async def leaves(client: Client) -> None:
    client.hangs_up()
    while not client.deadlines._left:
        await asyncio.sleep(0)
    client.deadlines.sweep(max(client.deadlines._left.values()) + 1.5)


async def test_who_has_waited_in_vain_has_no_place_in_the_queue(lanes: bool) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.reader.read()

    async with raw_backend(script) as backend:
        action = ProxyAction(
            (http_backend(backend.port),), max_connections=1, max_queued=1, connect_timeout=0.3
        )
        context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), lanes)
        upstream = Upstream(action, context)
        service = Told(None, upstream.handle)
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(conversation(service)) for _ in range(3)]
            for client in clients:
                await client.says(GET)
                if client is not clients[0]:
                    await client.hears(b"no_capacity")
            await leaves(clients[0])
        details = [one for one in service.details if "queue is full" in one]
        assert details == []
        upstream.close()


async def test_a_name_server_that_is_down_takes_no_backend_down(
    lanes: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However many ask meanwhile, it is one lookup; and who has an address uses it."""
    caplog.set_level("INFO")

    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(answer(b"well", b"Connection: close"))

    asked = 0
    clock = Clock()
    answers, silence = asyncio.Event(), asyncio.Event()
    answers.set()
    async with raw_backend(script) as backend:

        async def getaddrinfo(_host: str, _port: int, **_: object) -> list[object]:
            nonlocal asked
            asked += 1
            if not answers.is_set():
                silence.set()
                await answers.wait()
                raise OSError(-3, "Temporary failure in name resolution")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", backend.port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        action = ProxyAction((Backend("http://app.test", "http", "app.test", 80),))
        context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), clock, (), lanes)
        upstream = Upstream(action, context)
        async with conversation(Told(None, upstream.handle)) as client:
            await client.says(GET)
            await client.hears(b"well")
            answers.clear()
            clock.now += 31
            for _ in range(3):
                await client.says(GET)
                await client.hears(b"well")
                clock.now += 1  # only the first one waits for a moment
            assert silence.is_set()
            assert asked == 2
            answers.set()
            await client.says(GET)
            await client.hears(b"well")
            clock.now += 31
            await client.says(GET)
            await client.hears(b"well")
            assert asked == 3
        upstream.close()
    told = [one.getMessage() for one in caplog.records if one.name == "treehouse.upstream"]
    why = "Temporary failure in name resolution"
    assert told == [
        f"http://app.test: the name cannot be resolved ({why}); its last addresses are used",
        "http://app.test: the name can be resolved again",
    ]


async def test_a_newcomer_who_takes_what_was_freed_makes_nobody_open_one_too_many() -> None:
    async def script(heard: Heard) -> None:
        await heard.reader.read()

    async with raw_backend(script) as backend:
        one = http_backend(backend.port)
        action = ProxyAction((one,), max_connections=1, max_queued=2)
        context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), True)
        pool = Pool(one, action, None, context, None)
        first = await pool.open()
        waiting = asyncio.create_task(pool.open())
        await asyncio.sleep(0)
        for _ in range(3):
            pool.give_back(first)  # it is the waiting one's turn …
            assert pool.take() is first  # … and somebody else is faster
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
        pool.give_back(first)
        assert await waiting is first
        assert backend.connections == 1
        pool.end(first)


async def test_a_check_waits_behind_no_request_and_blames_nobody_for_our_own_want() -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(answer(b"well"))

    async with raw_backend(script) as backend:
        one = http_backend(backend.port)
        action = ProxyAction((one,), max_connections=1, max_queued=0)
        context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), True)
        pool = Pool(one, action, None, context, None)
        busy = await pool.open()
        assert await check(pool, Health("/", timeout=5.0)) is None
        assert backend.connections == 2

        async def none_left() -> BackendConnection:
            raise Fault("no_capacity", "out of descriptors")

        pool.open_another = none_left  # type: ignore[method-assign]
        with pytest.raises(Unasked, match="out of descriptors"):
            await check(pool, Health("/", timeout=5.0))
        pool.end(busy)
