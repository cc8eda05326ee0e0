"""`forward_auth` in one process: what the service hears over either version of HTTP, what becomes of its
connection, and what is remembered. The real program's tests are in `tests/e2e/test_forward_auth.py`."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from proxy.config import model
from proxy.config.schema.access import ForwardAuth, ServiceTls
from proxy.config.syntax.faults import Wrong
from proxy.config.syntax.service_urls import parse_service_url
from proxy.errors import Fault
from proxy.handlers.upstream.context import UpstreamContext
from proxy.handlers.upstream.handler import Upstream
from proxy.handlers.upstream.login_service import LoginService, ServiceQuestion
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Connection, FieldBlock, Fields, Login, Request, Response
from proxy.sites.forward_auth import ForwardAuthentication, LoginAnswers, believed
from proxy.transport.clock import Clock
from proxy.transport.deadlines import Deadlines
from support.http.h2_backend import Request as H2Request
from support.http.h2_backend import Stream, h2_backend

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")


def exchange(
    fields: Fields | None = None, method: bytes = b"GET", target: bytes = b"/x"
) -> Exchange:
    given = [(b"host", b"a.test"), *(fields or [])]
    return Exchange(PEER, Request(method, target, b"1.1", b"a.test", b"a.test", given, PEER))


def rule(url: str, **more: object) -> ForwardAuth:
    return ForwardAuth(url=parse_service_url(url), **{"copy": ("remote-user",), **more})  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def asking(
    one: ForwardAuth, now: Callable[[], float] = time.monotonic
) -> AsyncIterator[ForwardAuthentication]:
    context = UpstreamContext(asyncio.get_running_loop(), Deadlines(), Clock(), (), True)
    upstream = Upstream(model.login_service(one), context, reports_pauses=False)
    try:
        service = LoginService(one, upstream, ServiceQuestion(one, believed(one)))
        yield ForwardAuthentication(one, service, now)
    finally:
        upstream.close()


async def outcome(guard: ForwardAuthentication, asked: Exchange) -> Response | None:
    given = guard.request(asked)
    return given if given is None or isinstance(given, Response) else await given


WELCOME = b"HTTP/1.1 200 OK\r\nRemote-User: alice\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Heard:
    """A service over HTTP/1.1 that says ``answer`` to each question, and counts connections."""

    answer: bytes
    questions: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                self.questions.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@contextlib.asynccontextmanager
async def listening(
    answer: bytes = WELCOME, using: ssl.SSLContext | None = None
) -> AsyncIterator[Heard]:
    heard = Heard(answer)
    server = await asyncio.start_server(heard.talk, "127.0.0.1", 0, ssl=using)
    heard.port = server.sockets[0].getsockname()[1]
    try:
        yield heard
    finally:
        server.close()
        for writer in heard.writers:
            writer.close()
        closed = [writer.wait_closed() for writer in heard.writers]
        await asyncio.gather(*closed, return_exceptions=True)


@contextlib.asynccontextmanager
async def guarded(
    answer: bytes = WELCOME, now: Callable[[], float] = time.monotonic, **more: object
) -> AsyncIterator[tuple[Heard, ForwardAuthentication]]:
    """A service, and the filter that asks it by a rule with ``more``."""
    async with (
        listening(answer) as heard,
        asking(rule(f"http://127.0.0.1:{heard.port}/", **more), now=now) as guard,
    ):
        yield heard, guard


async def test_a_service_over_http2_is_asked_the_same() -> None:
    heard: list[H2Request] = []

    async def answer(request: H2Request, stream: Stream) -> None:
        heard.append(request)
        await stream.says(200, [(b"remote-user", b"alice")], b"welcome")

    async with h2_backend(answer) as service:
        async with asking(rule(f"h2c://127.0.0.1:{service.port}/auth?a=b")) as guard:
            asked = exchange([(b"cookie", b"a=b"), (b"remote-user", b"root")], b"PUT", b"/x?y")
            assert await outcome(guard, asked) is None
        (question,) = heard
        assert question[b":method"] == b"GET"
        assert question[b":path"] == b"/auth?a=b"
        assert question[b":authority"] == question[b"x-forwarded-host"] == b"a.test"
        assert question[b"x-forwarded-method"] == question[b"x-original-method"] == b"PUT"
        assert question[b"x-original-url"] == b"https://a.test/x?y"
        assert question[b"cookie"] == b"a=b"
        assert not [value for name, value in question.fields if name == b"remote-user"]
    assert asked.request is not None
    assert asked.request.login is not None
    assert asked.request.login.fields == [(b"remote-user", b"alice")]
    assert asked.user == "alice"


@pytest.mark.parametrize("known", [True, False])
async def test_a_service_over_https_is_verified(known: bool) -> None:
    ca, other = trustme.CA(), trustme.CA()
    using = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1").configure_cert(using)
    with (ca if known else other).cert_pem.tempfile() as trusted:
        async with listening(using=using) as heard:
            tls = ServiceTls(ca_file=Path(trusted))
            one = rule(f"https://127.0.0.1:{heard.port}/auth", tls=tls, preserve_host=False)
            async with asking(one) as guard:
                if known:
                    assert await outcome(guard, exchange()) is None
                    assert b"\r\nhost: 127.0.0.1:%d\r\n" % heard.port in heard.questions[0]
                else:
                    with pytest.raises(Fault, match="auth_refused"):
                        await outcome(guard, exchange())


WELCOMES = {
    "nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "much": b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000,
}


@pytest.mark.parametrize("answer", WELCOMES.values(), ids=WELCOMES)
async def test_what_a_service_says_beside_its_verdict_costs_no_connection(answer: bytes) -> None:
    async with guarded(answer) as (heard, guard):
        for _ in range(3):
            assert await outcome(guard, exchange()) is None
    assert heard.connections == 1
    assert len(heard.questions) == 3


async def test_a_service_that_says_too_much_lets_in_and_loses_its_connection() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 200_000
    async with guarded(answer) as (heard, guard):
        async with asyncio.timeout(60):
            for _ in range(2):
                assert await outcome(guard, exchange()) is None
    assert heard.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nRemote-User: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_a_service_that_speaks_no_http_lets_nobody_in(answer: bytes) -> None:
    async with guarded(answer) as (_heard, guard):
        with pytest.raises(Fault) as raised:
            await outcome(guard, exchange())
    assert raised.value.kind == "auth_refused"
    assert raised.value.what.status == 502


async def test_the_fields_that_browsers_share_are_told_and_may_be_copied() -> None:
    """Even those that the protocol keeps as one block for many requests."""
    block = FieldBlock([(b"user-agent", b"Firefox"), (b"accept", b"*/*")])
    answer = b"HTTP/1.1 200 OK\r\nUser-Agent: checked\r\nContent-Length: 0\r\n\r\n"
    for copied, kept in ((("user-agent",), False), (("remote-user",), True)):
        async with guarded(answer, copy=copied) as (heard, guard):
            asked = exchange(block.fields)
            request = asked.request
            assert request is not None
            request.uncached_fields = [(b"host", b"a.test")]
            request.cached_fields = block
            assert await outcome(guard, asked) is None
        assert heard.questions[0].count(b"user-agent: Firefox\r\n") == kept
        assert heard.questions[0].count(b"accept: */*\r\n") == 1
        agents = [value for name, value in request.fields if name == b"user-agent"]
        assert agents == ([b"Firefox"] if kept else [b"checked"])
        assert (request.cached_fields is block) == kept
        assert ((b"user-agent", b"Firefox") in request.uncached_fields) is False


async def test_a_verdict_is_kept_for_its_time_and_within_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("proxy.sites.forward_auth._MOST_REMEMBERED", 5)
    async with guarded(cache=10.0, now=lambda: now[0]) as (heard, guard):
        for moment, questions in ((100.0, 1), (109.9, 1), (110.1, 2), (115.0, 2)):
            now[0] = moment
            assert await outcome(guard, exchange()) is None
            assert len(heard.questions) == questions
        for number in range(20):
            await outcome(guard, exchange(target=b"/%d" % number))
        assert len(guard._let_in) <= 5
        before = len(heard.questions)
        await outcome(guard, exchange([(b"x-request-id", b"1")], b"DELETE"))
        await outcome(guard, exchange([(b"x-request-id", b"2")], b"DELETE"))
        assert len(heard.questions) == before + 1


def test_what_a_service_lets_out_is_for_nobody_elses_cache() -> None:
    answers, asked = LoginAnswers(), exchange()
    shared = Response(200, [(b"x-a", b"1")], b"x", shared=True)
    assert answers.response(asked, shared) is shared, "nobody has logged in"
    assert asked.request is not None
    asked.request.login = Login(b"alice", [])
    made = answers.response(asked, shared)
    assert made.fields == [(b"x-a", b"1"), (b"cache-control", b"private")]
    assert answers.response(asked, shared) is made
    assert shared.fields == [(b"x-a", b"1")]
    for said in (b"no-store", b"public, max-age=5"):
        response = Response(200, [(b"cache-control", said)], b"x")
        assert answers.response(asked, response).fields == [(b"cache-control", said)]
    upgrade = Response(101, [], b"")
    assert answers.response(asked, upgrade).fields == []
    # Cookies are this client's alone.
    asked.cookies = [(b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]
    renewed = answers.response(asked, shared)
    assert renewed.fields == [(b"x-a", b"1"), *asked.cookies, (b"cache-control", b"private")]
    assert not renewed.shared
    for said, then in (
        (b"public, max-age=5, S-MaxAge=9, immutable", b"private, max-age=5, immutable"),
        (b"max-age=5", b"private, max-age=5"),
        (b"no-cache", b"private, no-cache"),
        (b"Private, max-age=5", b"Private, max-age=5"),
        (b"no-store", b"no-store"),
    ):
        fields = [(b"cache-control", said), (b"cdn-cache-control", b"max-age=9")]
        kept = answers.response(asked, Response(200, fields, b"x", shared=True))
        assert kept.fields == [*asked.cookies, (b"cache-control", then)], said
        assert fields == [(b"cache-control", said), (b"cdn-cache-control", b"max-age=9")]
    assert answers.response(exchange(), shared) is shared


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        ("http://127.0.0.1:9091/api/authz/forward-auth", "/api/authz/forward-auth", "127.0.0.1"),
        ("http://127.0.0.1:9091", "/", "127.0.0.1"),
        ("http://127.0.0.1:9091/auth/?a=b&c=%2F", "/auth/?a=b&c=%2F", "127.0.0.1"),
        ("https://auth.example.org?x", "/?x", "auth.example.org"),
        ("h2c://[2001:db8::1]:81/a", "/a", "2001:db8::1"),
        ("unix:/run/auth.sock:/oauth2/auth", "/oauth2/auth", ""),
        ("unix:/run/auth.sock", "/", ""),
    ],
)
def test_the_url_of_a_service(url: str, target: str, host: str) -> None:
    made = parse_service_url(url)
    assert (made.target, made.backend.host) == (target, host)
    assert "?" not in repr(made)
    if host == "":
        assert made.backend.path == "/run/auth.sock"


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:9091/auth", "http://a.test/a b", "http://a.test/#x", "http://a.test/%zz",
     "http://u:p@a.test/", "ftp://a.test/", "http://a.test/\r\nx: y", "unix:run/a.sock:/x"],
)  # fmt: skip
def test_what_is_no_url_of_a_service(url: str) -> None:
    with pytest.raises(Wrong):
        parse_service_url(url)
