"""Conversations of three: a client, the handler, and a FastCGI server that is a script of the
test."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.config.model import Backend, FastCgi, FastCgiAction, FileRules, Limits
from proxy.handlers.fastcgi.handler import FastCgiHandler
from proxy.handlers.upstream.context import UpstreamContext
from proxy.protocol.fastcgi import records
from proxy.protocol.fastcgi.records import STDERR, STDIN, STDOUT, record
from proxy.protocol.h1.fast_parser import FastParser
from proxy.transport.clock import Clock
from proxy.transport.deadlines import Deadlines
from support.http.conversation import Client, Told, conversation
from support.http.raw_backend import Heard, RawBackend, Script, raw_backend

GET = b"GET /x.php HTTP/1.1\r\nHost: a.test\r\n\r\n"
OK = record(STDOUT, b"Content-Type: text/plain\r\n\r\nhello")


def end(status: int = 0) -> bytes:
    return record(records.END_REQUEST, struct.pack("!IB3x", 0, status))


@dataclass
class Asked:
    """A request as the server gets it."""

    keep: bool
    told: dict[bytes, bytes]
    body: bytes


async def one(heard: Heard) -> tuple[int, bytes]:
    """The next record: its type and content."""
    header = await heard.reader.readexactly(8)
    _version, kind, _number, length, padding = struct.unpack("!BBHHBx", header)
    content = await heard.reader.readexactly(length + padding)
    return kind, content[:length]


async def asked(heard: Heard) -> Asked:
    kind, content = await one(heard)
    if kind == records.GET_VALUES:  # nothing is said of it
        raise asyncio.IncompleteReadError(b"", 8)
    spelt = body = b""
    while (found := await one(heard)) != (records.PARAMS, b""):
        spelt += found[1]
    while (found := await one(heard)) != (STDIN, b""):
        assert found[0] == STDIN
        body += found[1]
    return Asked(bool(content[2] & 1), records.values(spelt), body)


@dataclass
class Three:
    client: Client
    backend: RawBackend
    service: Told
    deadlines: Deadlines


@contextlib.asynccontextmanager
async def three(
    root: Path, script: Script, servers: int = 1, **options: object
) -> AsyncIterator[Three]:
    (root / "x.php").touch()
    async with contextlib.AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(raw_backend(script)) for _ in range(servers)]
        urls = tuple(
            Backend(f"tcp://127.0.0.1:{one.port}", "tcp", "127.0.0.1", one.port) for one in backends
        )
        keep = options.pop("keep", 0)
        action = FastCgiAction(
            root=root,
            fastcgi=FastCgi(urls, keep=keep),
            files=FileRules(),
            backends=urls,
            **options,  # type: ignore[arg-type]
        )
        deadlines = Deadlines()
        context = UpstreamContext(asyncio.get_running_loop(), deadlines, Clock(), (), True)
        handler = FastCgiHandler(action, context)
        stack.callback(handler.close)

        async def answer(request):  # type: ignore[no-untyped-def]
            found = handler.handle(request)
            return found if not asyncio.iscoroutine(found) else await found

        service = Told(FastParser(Limits()), answer)
        client = await stack.enter_async_context(conversation(service, b"https"))
        yield Three(client, backends[0], service, deadlines)


async def test_an_answer_in_small_pieces(tmp_path: Path) -> None:
    async def script(heard: Heard) -> None:
        await asked(heard)
        for byte in OK + record(STDOUT) + end():
            await heard.says(bytes([byte]))

    async with three(tmp_path, script) as all_:
        await all_.client.says(GET)
        heard = await all_.client.hears(b"hello")
        assert heard.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n")


@pytest.mark.parametrize(
    ("says", "status", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 502, "version 72"),
        (record(STDOUT, b"no head at all") + end(), 502, "without the head"),
        (record(STDOUT, b"X: y\r\nbad\r\n\r\n") + end(), 502, "without a colon"),
        (end(), 502, "without the head"),
        (end(records.UNKNOWN_ROLE), 502, "no responder"),
        (end(records.OVERLOADED), 502, "overloaded"),
        (record(STDERR, b"only a complaint"), 502, "within a head"),
        (record(STDOUT, b"X: " + b"y" * 60000) * 2, 502, "too long"),
        (OK[:20], 502, "within a head"),
        (OK + end() + OK, 502, "behind the end"),
    ],
)
async def test_an_answer_that_is_none(tmp_path: Path, says: bytes, status: int, why: str) -> None:
    async def script(heard: Heard) -> None:
        await asked(heard)
        await heard.says(says)

    async with three(tmp_path, script) as all_:
        await all_.client.says(GET)
        assert b" %d " % status in await all_.client.hears(b"\r\n\r\n")
        assert why in all_.service.details[-1]


async def test_a_body_that_breaks_off_ends_in_a_reset(tmp_path: Path) -> None:
    async def script(heard: Heard) -> None:
        await asked(heard)
        await heard.says(OK)
        await asyncio.sleep(0.05)

    async with three(tmp_path, script) as all_:
        await all_.client.says(GET)
        assert (await all_.client.hears_the_end()).endswith(b"RESET")


async def test_what_is_more_than_the_length_says_is_left_out(tmp_path: Path) -> None:
    async def script(heard: Heard) -> None:
        await asked(heard)
        await heard.says(record(STDOUT, b"Content-Length: 5\r\n\r\nhello and more") + end())

    async with three(tmp_path, script) as all_:
        await all_.client.says(GET * 2)
        for _ in range(2):
            assert (await all_.client.hears(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_complaints_are_bounded_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(heard: Heard) -> None:
        await asked(heard)
        for _ in range(100):
            await heard.says(record(STDERR, b"a complaint" * 1000))
        await heard.says(OK + end())

    async with three(tmp_path, script) as all_:
        with caplog.at_level(logging.WARNING):
            await all_.client.says(GET)
            await all_.client.hears(b"hello")
    told = [one for one in caplog.records if "a script says" in one.message]
    assert len(told) == 1
    assert len(told[0].message) < 2000


async def test_a_connection_is_kept_only_where_the_server_can_do_with_it(tmp_path: Path) -> None:
    flags: list[bool] = []

    async def script(heard: Heard) -> None:
        while True:
            flags.append((await asked(heard)).keep)
            await heard.says(OK + end())

    for keep, connections in ((0, 3), (1, 1)):
        flags.clear()
        async with three(tmp_path, script, keep=keep) as all_:
            for _ in range(3):
                await all_.client.says(GET)
                await all_.client.hears(b"hello")
            assert all_.backend.connections == connections
            assert flags == [bool(keep)] * 3


async def test_a_server_that_multiplexes_says_so_itself(tmp_path: Path) -> None:
    asked_about = asyncio.Event()

    async def script(heard: Heard) -> None:
        kind, content = await one(heard)
        if kind == records.GET_VALUES:
            assert content == b"\x0f\x00FCGI_MPXS_CONNS"
            await heard.says(record(records.GET_VALUES_RESULT, b"\x0f\x01FCGI_MPXS_CONNS1", 0))
            await heard.reader.read()
            asked_about.set()
            return
        while True:
            while (await one(heard)) != (STDIN, b""):
                pass
            await heard.says(OK + end())

    async with three(tmp_path, script, keep=None) as all_:
        await all_.client.says(GET)
        await all_.client.hears(b"hello")
        await asyncio.wait_for(asked_about.wait(), 10)
        for _ in range(3):
            await all_.client.says(GET)
            await all_.client.hears(b"hello")
        assert all_.backend.connections == 3  # the first, the question, and the kept one


async def test_a_kept_connection_that_was_too_old_is_replaced(tmp_path: Path) -> None:
    async def script(heard: Heard) -> None:
        await asked(heard)
        await heard.says(OK + end())
        if heard.number == 1:
            await asked(heard)  # and leaves without an answer

    async with three(tmp_path, script, keep=1) as all_:
        for _ in range(2):
            await all_.client.says(GET)
            await all_.client.hears(b"hello")
        assert all_.backend.connections == 2


async def test_what_may_have_run_is_not_run_again(tmp_path: Path) -> None:
    async def script(heard: Heard) -> None:
        await asked(heard)

    post = b"POST /x.php HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi"
    async with three(tmp_path, script, servers=2) as all_:
        await all_.client.says(post)
        await all_.client.hears(b"backend_broke_off")
        assert all_.backend.connections <= 1


async def test_the_server_hears_that_the_client_has_left(tmp_path: Path) -> None:
    heard_of = asyncio.Event()

    async def script(heard: Heard) -> None:
        await asked(heard)
        await heard.says(OK)
        assert (await one(heard))[0] == records.ABORT_REQUEST
        heard_of.set()

    async with three(tmp_path, script) as all_:
        await all_.client.says(GET)
        await all_.client.hears(b"hello")
        all_.client.hangs_up()
        while not heard_of.is_set():
            all_.client.time_passes(5.0)
            await asyncio.sleep(0.02)


async def test_time_for_the_head_is_bounded(tmp_path: Path) -> None:
    async def script(heard: Heard) -> None:
        await asked(heard)
        await heard.reader.read()

    async with three(tmp_path, script) as all_:
        await all_.client.says(GET)
        while not all_.deadlines.streams or all_.backend.connections == 0:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # until the head is waited for
        all_.deadlines.sweep(Clock().now + 61)
        await all_.client.hears(b"backend_timeout")


async def test_a_slow_form_keeps_no_process_waiting(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def script(heard: Heard) -> None:
        begun.set()
        assert (await asked(heard)).body == b"a=b&c=d"
        await heard.says(OK + end())

    head = b"POST /x.php HTTP/1.1\r\nHost: a.test\r\nContent-Length: 7\r\n\r\n"
    async with three(tmp_path, script) as all_:
        await all_.client.says(head + b"a=b")
        await asyncio.sleep(0.1)
        assert not begun.is_set()
        await all_.client.says(b"&c=d")
        await all_.client.hears(b"hello")


async def test_a_long_body_streams(tmp_path: Path) -> None:
    first = asyncio.Event()

    async def script(heard: Heard) -> None:
        await one(heard)
        while (await one(heard)) != (records.PARAMS, b""):
            pass
        size = len((await one(heard))[1])
        first.set()
        while size < 200_000:
            size += len((await one(heard))[1])
        assert await one(heard) == (STDIN, b"")
        await heard.says(OK + end())

    head = b"PUT /x.php HTTP/1.1\r\nHost: a.test\r\nContent-Length: 200000\r\n\r\n"
    async with three(tmp_path, script) as all_:
        await all_.client.says(head + b"x" * 1000)
        await asyncio.wait_for(first.wait(), 10)
        await all_.client.says(b"x" * 199_000)
        await all_.client.hears(b"hello")
