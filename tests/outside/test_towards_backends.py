"""What applications do that are asked by a proxy: they want a length, they restart, they close
connections, they live at several addresses. What the proxy makes of it, without the real program.

What their responses may look like stands in tests/conformance/answers.py."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config.model import Backend, Health, ProxyAction, StickyCookie
from proxy.config.schema.rules import RequestFieldRules
from proxy.handlers.upstream.balancing import hashed_by
from proxy.handlers.upstream.context import UpstreamContext
from proxy.handlers.upstream.handler import Upstream
from proxy.handlers.upstream.health_check import check
from proxy.handlers.upstream.pool import Pool
from proxy.protocol.client_address import TrustedProxies
from proxy.protocol.message import Connection, Request
from proxy.transport.clock import Clock
from proxy.transport.deadlines import Deadlines
from proxy.transport.stream import StreamBroken
from proxy.transport.tcp import SocketStream
from support.http.conversation import Client, Told, conversation
from support.http.conversation_of_three import http_backend, three
from support.http.raw_backend import Heard, answer, raw_backend

HOST = b"Host: x.test\r\n"


async def echo_head(heard: Heard) -> None:
    while True:
        head = await heard.head()
        for line in head.split(b"\r\n"):
            if line.startswith(b"content-length: "):
                await heard.reader.readexactly(int(line[16:]))
        await heard.says(answer(head))


# Request line and fields that a client sends, lines that the backend must see, and lines (or
# beginnings of lines) that it must not see.
REQUESTS = {
    "POST with a length of 0": (b"POST / HTTP/1.1\r\nContent-Length: 0", [b"content-length: 0"], []),
    "PUT with a length of 0": (b"PUT / HTTP/1.1\r\nContent-Length: 0", [b"content-length: 0"], []),
    "PATCH with a length of 0": (b"PATCH / HTTP/1.1\r\nContent-Length: 0", [b"content-length: 0"], []),
    "POST without any length": (b"POST / HTTP/1.1", [b"content-length: 0"], []),
    "DELETE with a length of 0": (b"DELETE / HTTP/1.1\r\nContent-Length: 0", [b"content-length: 0"], []),
    "DELETE without any length": (b"DELETE / HTTP/1.1", [], [b"content-length"]),
    "REPORT with a length of 0": (b"REPORT / HTTP/1.1\r\nContent-Length: 0", [b"content-length: 0"], []),
    "GET with a length of 0": (b"GET / HTTP/1.1\r\nContent-Length: 0", [], [b"content-length"]),
    "TE": (b"GET / HTTP/1.1\r\nTE: trailers\r\nConnection: TE", [b"te: trailers", b"connection: te"], []),
    "TE without Connection": (b"GET / HTTP/1.1\r\nTE: trailers", [b"te: trailers", b"connection: te"], []),
    "TE of another kind": (b"GET / HTTP/1.1\r\nTE: gzip\r\nConnection: TE", [], [b"te:", b"connection:"]),
    "TE of an upgrade": (
        b"GET / HTTP/1.1\r\nTE: trailers\r\nConnection: TE, upgrade\r\nUpgrade: websocket",
        [b"connection: upgrade", b"upgrade: websocket"], [b"te:", b"connection: te"]),
    "a forged scheme": (
        b"GET / HTTP/1.1\r\nFront-End-Https: on\r\nX-Url-Scheme: https\r\nX-Scheme: https", [],
        [b"front-end-https", b"x-url-scheme", b"x-scheme"]),
    "a forged address": (
        (b"GET / HTTP/1.1\r\nX-Real-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nCF-Connecting-IP: 6.6.6.6"
        b"\r\nX-Client-IP: 6.6.6.6\r\nX-Cluster-Client-IP: 6.6.6.6\r\nClient-IP: 6.6.6.6"),
        [b"x-real-ip: 192.0.2.1"],
        [b"true-client", b"cf-", b"x-client", b"x-cluster", b"client-ip", b"x-real-ip: 6"]),
    "a forged path": (
        b"GET / HTTP/1.1\r\nX-Original-URL: /admin\r\nX_Rewrite_Url: /admin", [],
        [b"x-original-url", b"x_rewrite_url", b"x-rewrite-url"]),
    "a forged certificate": (
        b"GET / HTTP/1.1\r\nX-SSL-Client-Verify: SUCCESS\r\nSSL-Client-Cert: x\r\nClient-Cert: :x:",
        [], [b"x-ssl-client", b"ssl-client", b"client-cert"]),
    "no Via": (b"GET / HTTP/1.1", [], [b"via:"]),
    "a field of one's own": (b"GET / HTTP/1.1\r\nX-Client-Version: 3", [b"x-client-version: 3"], []),
}  # fmt: skip


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "h11"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_backend_sees(name: str, lane: bool) -> None:
    says, seen, unseen = REQUESTS[name]
    first, _, fields = says.partition(b"\r\n")
    async with three(echo_head, lane) as all_:
        more = fields + b"\r\n" if fields else b""
        await all_.client.says(b"%b\r\n%b%b\r\n" % (first, HOST, more))
        while not all_.backend.heads:
            await asyncio.sleep(0)
        lines = all_.backend.heads[0].split(b"\r\n")
        for line in seen:
            assert line in lines
        for beginning in unseen:
            assert not [line for line in lines if line.startswith(beginning)]


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, b"x.test"),
        ({"preserve_host": False}, b"127.0.0.1:%d"),
        ({"request_headers": RequestFieldRules(host="app.internal:81")}, b"app.internal:81"),
        ({"request_headers": RequestFieldRules(host="app.internal"), "preserve_host": False},
         b"app.internal"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("lane", [True, False], ids=["lane", "h11"])
async def test_the_host_that_a_backend_is_told(
    options: dict[str, object], seen: bytes, lane: bool
) -> None:
    async with three(echo_head, lane, **options) as all_:
        for first in (b"GET / HTTP/1.1\r\n", b"GET http://x.test/ HTTP/1.1\r\n"):
            await all_.client.says(first + HOST + b"X-Forwarded-Host: evil.test\r\n\r\n")
            await all_.client.hears(b"\r\n\r\nGET ")
            await all_.client.hears(b"\r\n\r\n")
            lines = all_.backend.heads[-1].split(b"\r\n")
            told = [line for line in lines if line.startswith(b"host:")]
            assert told == [b"host: " + (seen % all_.backend.port if b"%" in seen else seen)]
            assert b"x-forwarded-host: x.test" in lines, "the client's own, for links"


# Whether a request that a kept connection swallowed may be sent again.
REPEATS = {
    "GET": (b"GET / HTTP/1.1", b"", True),
    "HEAD": (b"HEAD / HTTP/1.1", b"", True),
    "PUT with a body": (b"PUT / HTTP/1.1\r\nContent-Length: 2", b"hi", True),
    "DELETE with a body": (b"DELETE / HTTP/1.1\r\nContent-Length: 2", b"hi", True),
    "PROPFIND with a body": (b"PROPFIND / HTTP/1.1\r\nContent-Length: 2", b"hi", True),
    "REPORT with a body": (b"REPORT / HTTP/1.1\r\nContent-Length: 2", b"hi", True),
    "SEARCH with a body": (b"SEARCH / HTTP/1.1\r\nContent-Length: 2", b"hi", True),
    "PUT that expects 100": (
        b"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue", b"hi", False),
    "PUT in chunks": (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked", b"2\r\nhi\r\n0\r\n\r\n", False),
    "POST": (b"POST / HTTP/1.1\r\nContent-Length: 2", b"hi", False),
    "PATCH": (b"PATCH / HTTP/1.1\r\nContent-Length: 2", b"hi", False),
    "LOCK": (b"LOCK / HTTP/1.1", b"", False),
}  # fmt: skip


@pytest.mark.parametrize("name", REPEATS)
async def test_what_a_kept_connection_swallowed_is_sent_again_once(name: str) -> None:
    head, body, again = REPEATS[name]
    swallowed = 0

    async def script(heard: Heard) -> None:
        nonlocal swallowed
        if heard.number > 1:
            await echo_head(heard)
        await heard.head()
        await heard.says(answer(b"one"))
        await heard.head()
        swallowed += 1

    async with three(script, True) as all_:
        await all_.client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await all_.client.hears(b"one")
        first, _, fields = head.partition(b"\r\n")
        more = fields + b"\r\n" if fields else b""
        await all_.client.says(b"%b\r\n%b%b\r\n%b" % (first, HOST, more, body))
        heard = await all_.client.hears(b"\r\n\r\n")
        assert swallowed == 1
        assert (b" 200 " in heard) is again
        assert (b" 502 " in heard) is not again
        status = all_.upstream.status()[0]
        assert (status["failures"], status["healthy"]) == (0, "yes"), "it is nobody's fault"


async def test_what_surely_reached_nobody_is_sent_again_whatever_it_is() -> None:
    """The backend has closed a kept connection, and its FIN is here already while the loop has not
    looked yet."""
    closed = asyncio.Event()

    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(answer(b"one"))
        if heard.number == 1:
            await closed.wait()

    async with three(script, True) as all_:
        await all_.client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await all_.client.hears(b"one")
        # Nothing is read until the request is on its way: the loop does not turn in between.
        (kept,) = all_.upstream._backends[0].pool._kept
        closed.set()
        while kept.stream._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != b"\x08":
            await asyncio.sleep(0)  # CLOSE_WAIT
        kept.stream.became_readable = False
        await all_.client.says(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n" + HOST + b"\r\nhi")
        await all_.client.hears(b"one")
        assert all_.backend.connections == 2


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_408_that_met_a_request_on_its_way_is_no_answer_to_it(method: bytes) -> None:
    """Node and HAProxy say it to connections that were idle for too long."""

    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(answer(b"one"))
        if heard.number == 1:
            await heard.head()
            await heard.says(answer(b"", b"Connection: close", status=b"408 Request Timeout"))
        else:
            await echo_head(heard)

    async with three(script, True) as all_:
        await all_.client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await all_.client.hears(b"one")
        await all_.client.says(method + b" / HTTP/1.1\r\nContent-Length: 2\r\n" + HOST + b"\r\nhi")
        assert b" 200 " in await all_.client.hears(b"one")
        assert all_.backend.connections == 2


async def test_an_answer_that_came_before_the_backend_stopped_to_read_reaches_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel takes a part of the request, and then tells of a reset: which part, no test can
    choose, so that the stream is told what to say."""
    answered = asyncio.Event()
    original = SocketStream.write_now

    def write_now(self: SocketStream, data: bytes) -> bytes | memoryview:
        if not data.startswith(b"POST"):
            return original(self, data)
        original(self, data[:100])
        return memoryview(data)[100:]

    async def write(self: SocketStream, data: bytes | memoryview) -> None:
        await answered.wait()
        raise StreamBroken("Connection reset by peer")

    async def script(heard: Heard) -> None:
        await heard.reader.readexactly(100)
        await heard.says(answer(b"too large", b"Connection: close", status=b"413 Too Large"))
        answered.set()

    monkeypatch.setattr(SocketStream, "write_now", write_now)
    body = b"x" * 1000
    async with three(script, True) as all_:
        head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n" % len(body)
        with monkeypatch.context() as patched:
            patched.setattr(SocketStream, "write", write)
            await all_.client.says(head + HOST + b"\r\n" + body)
            await answered.wait()
            while all_.upstream.status()[0]["in_flight"]:
                await asyncio.sleep(0)
        heard = await all_.client.hears(b"too large")
        assert b" 413 " in heard
        assert all_.backend.connections == 1, "a POST is never sent twice"


async def test_a_post_gets_no_connection_that_may_be_about_to_end() -> None:
    announced = b""

    async def script(heard: Heard) -> None:
        while True:
            head = await heard.head()
            if head.startswith(b"POST"):
                await heard.reader.readexactly(2)
            await heard.says(answer(b"ok", announced or b"X: y"))

    post = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n" + HOST + b"\r\nhi"
    get = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    # Seconds of idleness, what the backend has announced, the request, whether it is a new one.
    for idle, announced, says, new in (
        (0.0, b"", post, False),
        (0.4, b"", post, False),
        (0.9, b"", post, True),
        (0.9, b"", get, False),
        (29.0, b"", get, False),
        (31.0, b"", get, True),
        (3.9, b"Keep-Alive: timeout=5", post, False),
        (4.1, b"Keep-Alive: timeout=5", post, True),
        (4.1, b"Keep-Alive: timeout=5", get, True),
        (0.4, b"Keep-Alive: timeout=1, max=100", post, False),
        (0.6, b"Keep-Alive: timeout=1, max=100", get, True),
        (0.0, b"Keep-Alive: timeout=0", get, True),
    ):
        async with three(script, True) as all_:
            await all_.client.says(get)
            await all_.client.hears(b"ok")
            all_.upstream.context.clock.now += idle
            await all_.client.says(says)
            await all_.client.hears(b"ok")
            assert (all_.backend.connections == 2) is new, (idle, announced, says)


async def test_the_end_of_an_idle_connection_is_seen_at_once() -> None:
    closing = asyncio.Event()

    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(answer(b"ok"))
        await closing.wait()

    async with three(script, True) as all_:
        await all_.client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await all_.client.hears(b"ok")
        pool = all_.upstream._backends[0].pool
        (kept,) = pool._kept
        closing.set()
        while not kept.stream.became_readable:
            await asyncio.sleep(0)
        all_.upstream.tick(all_.upstream.context.clock.now)
        assert pool._kept == []


# ManagedCertificate


@contextlib.asynccontextmanager
async def holding(
    port: int, clients: int, **options: object
) -> AsyncIterator[tuple[list[Client], Upstream, Told]]:
    action = ProxyAction((http_backend(port),), **options)  # type: ignore[arg-type]
    context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), True)
    upstream = Upstream(action, context)
    service = Told(None, upstream.handle)
    try:
        async with contextlib.AsyncExitStack() as stack:
            yield (
                [await stack.enter_async_context(conversation(service)) for _ in range(clients)],
                upstream,
                service,
            )
    finally:
        upstream.close()


async def test_requests_wait_for_an_app_that_restarts_and_go_on_in_order() -> None:
    async def script(heard: Heard) -> None:
        while True:
            if (await heard.head()).startswith(b"POST"):
                await heard.reader.readexactly(2)
            await heard.says(answer(b"back"))

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with holding(port, 6, wait_for_backend=10.0, max_connections=1) as (
        clients,
        upstream,
        _told,
    ):
        for number, client in enumerate(clients):
            if number % 2:
                await client.says(
                    b"POST /%d HTTP/1.1\r\nContent-Length: 2\r\n%b\r\nhi" % (number, HOST)
                )
            else:
                await client.says(b"GET /%d HTTP/1.1\r\n%b\r\n" % (number, HOST))
            assert upstream._held is not None
            while len(upstream._held) <= number:
                await asyncio.sleep(0)
        async with raw_backend(script, port) as backend:
            for client in clients:
                assert b" 200 " in await client.hears(b"back")
        asked = [head.split(b" ")[1] for head in backend.heads]
        assert asked == [b"/%d" % number for number in range(6)]


async def test_a_missing_socket_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"back", b"Connection: close"))
        writer.close()

    action = ProxyAction((Backend(f"unix:{path}", "unix", path=str(path)),), wait_for_backend=10.0)
    context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), True)
    upstream = Upstream(action, context)
    async with conversation(Told(None, upstream.handle)) as client:
        await client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert upstream._held is not None
        while not upstream._held:
            await asyncio.sleep(0)
        server = await asyncio.start_unix_server(serve, path)
        assert b" 200 " in await client.hears(b"back")
        server.close()
    upstream.close()


async def test_a_socket_that_we_may_not_use_is_not_waited_for() -> None:
    """What the server's user sees is told in words (not root's case: root may connect)."""
    name = "/var/tmp/treehouse-forbidden.sock"
    one = Backend(f"unix:{name}", "unix", path=name)
    context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), True)
    upstream = Upstream(ProxyAction((one,), wait_for_backend=60.0), context)

    async def denied(*_: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    upstream._backends[0].pool._connector._attempt = denied  # type: ignore[method-assign]
    told = Told(None, upstream.handle)
    async with conversation(told) as client:
        await client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert b" 502 " in await client.hears(b"backend_refused")
    assert "must be allowed to write to the socket" in told.details[0]
    upstream.close()


async def test_nobody_waits_for_longer_than_was_said_nor_more_than_the_queue_holds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with holding(port, 3, wait_for_backend=0.4, max_queued=2) as (clients, upstream, told):
        assert upstream._held is not None
        for number, client in enumerate(clients):
            await client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            # Asked, and found nobody there: so they wait in this order.
            while len(told.requests) <= number or len(upstream._held) < min(number + 1, 2):
                await asyncio.sleep(0)
        assert b" 503 " in await clients[2].hears(b"no_capacity")
        for client in clients[:2]:
            assert b" 502 " in await client.hears(b"backend_refused")
        assert upstream.status()[0]["healthy"] == "no"
        assert upstream.status()[0]["last_error"] == "Connection refused"


async def test_who_leaves_while_waiting_takes_no_place() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with holding(port, 1, wait_for_backend=60.0, max_queued=1) as (clients, upstream, told):
        await clients[0].says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert upstream._held is not None
        while not upstream._held:
            await asyncio.sleep(0)
        clients[0].hangs_up()
        while not clients[0].deadlines._left:
            await asyncio.sleep(0)
        clients[0].deadlines.sweep(max(clients[0].deadlines._left.values()) + 1.5)
        while not told.ends:
            await asyncio.sleep(0)
        assert len(upstream._held) == 0


# Several addresses


@contextlib.contextmanager
def silent_address() -> object:
    """An address that lets SYNs go by: a listener whose queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(listener.getsockname())
            yield listener.getsockname()


async def test_a_name_with_a_dead_address_is_served_by_the_other_and_that_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(answer(b"alive", b"Connection: close"))

    attempts: list[object] = []
    loop = asyncio.get_running_loop()
    original = loop.sock_connect

    async def sock_connect(sock: socket.socket, address: object) -> None:
        attempts.append(address)
        await original(sock, address)

    clock = Clock()
    async with raw_backend(script) as backend:
        with silent_address() as silent, socket.create_server(("127.0.0.1", 0)) as taken:
            refused = taken.getsockname()
            taken.close()
            alive = ("127.0.0.1", backend.port)

            async def getaddrinfo(*_: object, **__: object) -> list[object]:
                return [(socket.AF_INET, 1, 6, "", one) for one in (silent, refused, alive)]

            monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
            monkeypatch.setattr(loop, "sock_connect", sock_connect)
            one = Backend("http://multi.test", "http", "multi.test", 80)
            context = UpstreamContext(loop, Deadlines(), clock, (), True)
            upstream = Upstream(ProxyAction((one,), connect_timeout=5.0), context)
            async with conversation(Told(None, upstream.handle)) as client:
                for asked in ([silent, refused, alive], [alive], [alive]):
                    attempts.clear()
                    begun = loop.time()
                    await client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
                    await client.hears(b"alive")
                    assert attempts == asked
                    assert loop.time() - begun < 2.0
                clock.now += 61
                attempts.clear()
                await client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
                await client.hears(b"alive")
                assert attempts[0] == silent, "after a while it gets another chance"
            assert upstream.status()[0]["failures"] == 0
            upstream.close()


# Checks, balancing, places


@pytest.mark.parametrize(
    ("backend", "host", "seen"),
    [
        ({}, None, b"host: 127.0.0.1:PORT"),
        ({}, "shop.test", b"host: shop.test"),
        ({}, "[::1]", b"host: [::1]"),
        ({"prefix": "/app"}, None, b"GET /app/hc HTTP/1.1"),
    ],
)
async def test_a_check_asks_like_a_request(
    backend: dict[str, str], host: str | None, seen: bytes
) -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(answer(b"well"))

    async with raw_backend(script) as raw:
        one = replace(http_backend(raw.port), **backend)  # type: ignore[arg-type]
        action = ProxyAction((one,))
        context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), True)
        pool = Pool(one, action, None, context, None)
        assert await check(pool, Health("/hc", timeout=5.0, host=host)) is None
        assert seen.replace(b"PORT", b"%d" % raw.port) in raw.heads[0].split(b"\r\n")


def test_clients_behind_a_trusted_proxy_are_hashed_by_their_own_address() -> None:
    key = ProxyAction(()).hash_by
    trusted = TrustedProxies(("127.0.0.0/8",))
    connection = Connection("127.0.0.1", 1, "127.0.0.1", 443, proxies=trusted)
    found = {
        hashed_by(key, Request(b"GET", b"/", b"1.1", b"x", b"x",
                               [(b"x-forwarded-for", b"203.0.113.%d" % number)], connection))
        for number in range(30)
    }  # fmt: skip
    assert found == {b"203.0.113.%d" % number for number in range(30)}


async def test_an_abstract_socket_is_a_backend() -> None:
    name = f"treehouse-test-{id(object())}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0" + name)
    listener.listen()
    listener.setblocking(False)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"abstract", b"Connection: close"))
        writer.close()

    server = await asyncio.start_unix_server(serve, sock=listener)
    action = ProxyAction((Backend(f"unix:@{name}", "unix", path=f"@{name}"),))
    context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), True)
    upstream = Upstream(action, context)
    async with conversation(Told(None, upstream.handle)) as client:
        await client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert b" 200 " in await client.hears(b"abstract")
    server.close()
    upstream.close()


@pytest.mark.parametrize("same_site", ["none", "lax", "strict"])
async def test_a_sticky_cookie_says_its_same_site(same_site: str) -> None:
    async with three(
        echo_head, True, sticky_cookie=StickyCookie(name="lb", same_site=same_site)
    ) as all_:
        await all_.client.says(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        head = await all_.client.hears(b"\r\n\r\n")
        assert b"; HttpOnly; Secure; SameSite=%b\r\n" % same_site.capitalize().encode() in head


async def test_a_fault_names_backend_site_and_request() -> None:
    async def script(heard: Heard) -> None:
        await heard.head()
        await heard.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc")

    async with three(script, True) as all_:
        await all_.client.says(b"GET /page?secret=1 HTTP/1.1\r\n" + HOST + b"\r\n")
        await all_.client.hears(b"backend_protocol")
        (detail,) = all_.service.details
        assert detail == (
            f"{all_.backend.url}: two Content-Length fields that differ (RFC 9112 §6.3) "
            "(GET x.test/page)"
        )
