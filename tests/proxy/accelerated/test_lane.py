"""The C forms say what the Python forms say, or nothing; whatever they are given, memory is safe."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import accelerated
from proxy.accelerated.build import build, target
from proxy.config.model import Limits, SiteLog
from proxy.log import LogFile
from proxy.protocol.exchange import Exchange, bind
from proxy.protocol.h1.fast_parser import FastParser
from proxy.protocol.h1.head_cache import HeadTemplate
from proxy.protocol.message import Connection, Request, Response
from proxy.sites.site import SiteTable
from proxy.transport import openssl
from proxy.version import VERSION
from proxy.worker import access_log
from proxy.worker.access_lines import json_line, rfc3339, text_line
from proxy.worker.access_log import AcceleratedAccessLog, AccessLog, new_access_log
from support.accelerated import bound, lane, leaked

REPOSITORY = Path(__file__).resolve().parents[3]
HEAD = (
    b"%b /a?q=%d HTTP/1.1\r\nHost: x.test\r\nAccept: */*\r\nCookie: n=%d\r\nDNT: 1\r\n"
    b"%bTE: trailers\r\n\r\n"
)
UNSET = object()


def connection() -> Connection:
    return Connection("192.0.2.1", 1, "192.0.2.2", 2, tls_version="TLSv1.3")


def taught(
    parser: FastParser, method: bytes = b"GET", more: bytes = b""
) -> tuple[Connection, bytes]:
    """Return a connection that has a template, which the second of its three heads has made, and
    the third head."""
    client = connection()
    for number in range(3):
        head = HEAD % (method, number, number, more)
        parser.parse(head, client)
    return client, head


def facts(made: object) -> dict[str, object]:
    return {name: getattr(made, name, UNSET) for name in type(made).__slots__}  # type: ignore[attr-defined] # all have them


@contextmanager
def open_log(path: Path) -> Iterator[tuple[LogFile, Path]]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        yield LogFile(fd), path
    finally:
        os.close(fd)


# Heads


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"DELETE"])
@pytest.mark.parametrize("more", [b"", b"Content-Length: 10\r\n", b"Referer: https://x.test/ \r\n"])
def test_a_usual_head_is_parsed_in_c(method: bytes, more: bytes) -> None:
    limits = Limits()
    python, client = FastParser(limits), connection()
    for number in range(3):
        head = HEAD % (method, number, number, more)
        expected = python.parse(head, client)
        if number == 2:  # the second has made a template
            found = lane().plain_head(head, client, 100, 8000, 16000, {}, {})
            assert found is not None
            assert expected is not None
            assert facts(found[0]) == facts(expected[0])
            assert found[1:] == expected[1:]
            assert found[0].uncached_fields is not found[0].fields


def test_bounds_are_those_of_the_configuration() -> None:
    client, head = taught(bound(lane(), Limits()))
    target = len(b"/a?q=2")
    assert lane().plain_head(head, client, 5, target, len(head), {}, {}) is not None
    assert lane().plain_head(head, client, 4, target, len(head), {}, {}) is None
    assert lane().plain_head(head, client, 5, target - 1, len(head), {}, {}) is None
    assert lane().plain_head(head, client, 5, target, len(head) - 1, {}, {}) is None


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_every_byte_of_a_head_may_be_another(data: st.DataObject) -> None:
    python = FastParser(Limits())
    client, head = taught(python, b"POST", b"Content-Length: 3\r\n")
    changed = bytearray(head)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "put"]))
        if how == "set":
            changed[at] = data.draw(
                st.one_of(st.sampled_from(b"\r\n :\t?#\0\x7f\xff"), st.integers(0, 255))
            )
        elif how == "cut" and len(changed) > 1:
            del changed[at : at + data.draw(st.integers(1, 40))]
        else:
            changed[at:at] = data.draw(
                st.sampled_from([b"\r\n", b"\r", b": ", b"Cookie: a\r\n", b" "])
            )
        if not changed:
            return
    found = lane().plain_head(bytes(changed), client, 100, 8000, 16000, {}, {})
    if found is not None:
        expected = python.parse(bytes(changed), client)
        assert expected is not None
        assert facts(found[0]) == facts(expected[0])
        assert found[1:] == expected[1:]


@pytest.mark.parametrize("size", [0, 1, 10, 60, -1, -2])
def test_a_head_that_ends_anywhere_is_declined(size: int) -> None:
    client, head = taught(bound(lane(), Limits()))
    assert lane().plain_head(head[:size], client, 100, 8000, 16000, {}, {}) is None
    assert (
        lane().plain_head(head + head[:size], client, 100, 8000, 16000, {}, {}) is None or size == 0
    )


@pytest.mark.parametrize("name", HeadTemplate.__slots__)
@pytest.mark.parametrize("value", [None, 7, b"", "text", (), [1], UNSET])
def test_a_template_that_is_out_of_order_is_declined(name: str, value: object) -> None:
    client, head = taught(bound(lane(), Limits()))
    (template,) = client.protocol_state
    copy = HeadTemplate((b"", b"", b""), ([], [], []), template.host)
    for slot in HeadTemplate.__slots__:
        setattr(copy, slot, getattr(template, slot))
    if value is UNSET:
        delattr(copy, name)
    else:
        setattr(copy, name, value)
    client.protocol_state = [copy]
    lane().plain_head(
        head, client, 100, 8000, 16000, {}, {}
    )  # and nothing is read that is not there
    client.protocol_state = [value, copy]
    assert lane().plain_head(head, client, 100, 8000, 16000, {}, {}) is None
    client.protocol_state = value
    assert lane().plain_head(head, client, 100, 8000, 16000, {}, {}) is None


FIRST = b"GET /a?q=1 HTTP/1.1\r\nHost: x.test\r\nAccept: */*\r\nCookie: n=1\r\nDNT: 1\r\n\r\n"


def test_the_first_head_of_a_connection_is_parsed_in_c_where_its_lines_are_known() -> None:
    python, parser = FastParser(Limits()), bound(lane(), Limits())
    for one in (python, parser):
        assert one.parse(FIRST, connection()) is not None
    tables = parser._known, parser._hosts
    client = connection()
    found = lane().plain_head(FIRST, client, 4, 6, len(FIRST), *tables)
    assert client.protocol_state == []  # and the next head makes a template
    expected = python.parse(FIRST, client)
    assert found is not None
    assert expected is not None
    assert facts(found[0]) == facts(expected[0])
    assert found[1:] == expected[1:]
    assert found[0].uncached_fields is found[0].fields
    for bounds in ((3, 6, len(FIRST)), (4, 5, len(FIRST)), (4, 6, len(FIRST) - 1)):
        assert lane().plain_head(FIRST, connection(), *bounds, *tables) is None
    for other in (b"Accept: a\r\n", b"Host: x.test\r\n", b"X-Own: 1\r\n", b"\r\n", b"Cookie:a\r\n"):
        head = FIRST.replace(b"DNT: 1\r\n", other)
        fresh = connection()
        assert lane().plain_head(head, fresh, 100, 8000, 16000, *tables) is None
        assert fresh.protocol_state is None
    for wrong in (7, (), ("a", 1), (1, b"", b"", b"")):
        strange = {b"Host: x.test": wrong}
        assert lane().plain_head(FIRST, connection(), 9, 99, 999, tables[0], strange) is None


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_every_byte_of_a_first_head_may_be_another(data: st.DataObject) -> None:
    python, parser = FastParser(Limits()), bound(lane(), Limits())
    for one in (python, parser):
        one.parse(FIRST, connection())
    changed = bytearray(FIRST)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        if data.draw(st.booleans()):
            changed[at] = data.draw(st.sampled_from(b"\r\n :\t?#\0\x7f\xff"))
        else:
            more = [b"\r\n", b"Cookie: a\r\n", b"Content-Length: 1\r\n", b"Accept: */*\r\n"]
            changed[at:at] = data.draw(st.sampled_from(more))
    head, client = bytes(changed), connection()
    found = lane().plain_head(head, client, 100, 8000, 16000, parser._known, parser._hosts)
    if found is not None:
        expected = python.parse(head, client)
        assert expected is not None
        assert facts(found[0]) == facts(expected[0])
        assert found[1:] == expected[1:]


# OpenSSL


def test_what_is_no_tls_object_is_refused() -> None:
    assert openssl.bind(lane())
    for ask in (lane().shake, lane().disable_auto_retry, lane().close_notify):
        for other in (None, 7, object(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)):
            with pytest.raises(TypeError):
                ask(other)
    with pytest.raises(TypeError):
        lane().bind_openssl(7, 32, 1, 1, 1, 1, 1)  # type: ignore[arg-type]
    kind = type(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True
    )._sslobj)  # type: ignore[attr-defined] # not in typeshed  # fmt: skip
    for at in (-8, 0, kind.__basicsize__):
        with pytest.raises(ValueError, match="no pointer"):
            lane().bind_openssl(kind, at, 1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="missing"):
        lane().bind_openssl(kind, 32, 1, 1, 0, 1, 1)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    ],
)
def test_a_handshake_that_fails_is_told_as_by_the_module(said: bytes) -> None:
    """As if C had never asked OpenSSL, also where OpenSSL forgets the failure."""
    assert openssl.bind(lane())
    faults = []
    for shake in (openssl.shaker(None), openssl.shaker(lane())):
        incoming = ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
        inner = tls._sslobj  # type: ignore[attr-defined] # not in typeshed
        assert shake(inner) == openssl.WANTS_BYTES
        incoming.write(said)
        with pytest.raises(ssl.SSLError) as caught:
            shake(inner)
        fault = caught.value
        words = str(fault).partition(" (_ssl.c:")[0]
        faults.append((type(fault), fault.errno, fault.library, fault.reason, words))
        # Nothing is left for the connections that come next.
        assert openssl._last_error() is None
    assert faults[0] == faults[1]
    assert faults[0][3] is not None


@pytest.mark.parametrize("there", [False, True])
def test_a_handshake_whose_peer_leaves_is_told_as_by_the_module(there: bool) -> None:
    """What the system says is no error of OpenSSL's."""
    assert openssl.bind(lane())
    faults = []
    for shake in (openssl.shaker(None), openssl.shaker(lane())):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with context.wrap_socket(ours, True, do_handshake_on_connect=False) as tls:
                inner = tls._sslobj
                assert shake(inner) == openssl.WANTS_BYTES
                if there:
                    theirs.send(b"\x16\x03\x01")
                theirs.close()
                with pytest.raises(OSError) as caught:  # noqa: PT011 - compared below
                    shake(inner)
        faults.append((type(caught.value), getattr(caught.value, "reason", None)))
    assert faults[0] == faults[1]


# Exchanges


def test_an_exchange_is_like_pythons() -> None:
    client = connection()
    request = Request(b"GET", b"/", b"1.1", b"x", b"x", [], client)
    made, expected = lane().exchange(client, request, 1.5), Exchange(client, request, 1.5)
    assert type(made) is Exchange
    assert facts(made) == facts(expected)


# Lines of the access log

BOTH = {
    "text": (lambda: lane().text_line, text_line),
    "json": (lambda: lane().json_line, json_line),
}
NAMES = st.sampled_from([b"user-agent", b"referer", b"accept", b"user-agen"])
VALUES = st.sampled_from(
    [b"", b"Mozilla/5.0 (X)", b"https://x.test/", b'a"b', b"caf\xe9", b"a\tb", b"\x7f"]
)
WORDS = st.one_of(st.none(), st.sampled_from(["", "static", "caf\xe9", "\u20ac"]))


@pytest.mark.parametrize("form", BOTH)
@settings(max_examples=500, deadline=None)
@given(
    method=st.sampled_from([b"GET", b"P\xff", b""]),
    target=st.one_of(st.binary(max_size=40), st.text("/az?&=\"\\~ ", max_size=40).map(str.encode)),
    host=st.sampled_from([b"x.test", b"y.test", b""]),
    ident=st.one_of(st.just(b""), st.binary(max_size=12), st.just(b"abc 1")),
    status=st.sampled_from([200, 0, 999, -1, 2**70]),
    sent=st.one_of(st.integers(0, 2**64), st.just(True)),
    duration=st.one_of(st.floats(0, 0.2), st.sampled_from([float("nan"), float("inf"), -1.0, 0.09995])),
    words=st.tuples(WORDS, WORDS, WORDS, WORDS),
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=3),
    version=st.sampled_from([b"1.1", b"2", b"1.0", b"7"]),
    peer=st.sampled_from(["192.0.2.1", "unix", "", "\u20ac"]),
    tls=st.sampled_from([None, "TLSv1.3", ""]),
    own_id=st.sampled_from(["", "-", "5f-1a", "\u20ac"]),
    known=st.one_of(st.none(), st.just((b"x.test", "192.0.2.1 x.test", "TLSv1.3")), st.just(("x.test",))),
)  # fmt: skip
def test_a_line_is_pythons_or_none(
    form, method, target, host, ident, status, sent, duration, words, own_id, known, fields,
    version, peer, tls,
) -> None:  # fmt: skip
    in_c, in_python = BOTH[form]
    client = Connection(peer, 1, "192.0.2.2", 2, tls_version=tls)
    client.named_in_log = known
    exchange = Exchange(client, Request(method, target, version, host, host, fields, client))
    exchange.request.id = ident  # type: ignore[union-attr] # it has just been made
    exchange.response = Response(status, [], b"", handler=words[0], error=words[1])
    exchange.response.backend = words[2]
    exchange.error, exchange.sent, exchange.duration = words[3], sent, duration
    line = in_c()("2026-11-24T20:00:00.123Z", exchange, own_id)
    if line is not None:
        assert line == in_python("2026-11-24T20:00:00.123Z", exchange, own_id)
        assert line.isascii()


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize(
    "fields", [[], [(b"user-agent", b"Mozilla/5.0 (X)"), (b"referer", b"https://y.test/")]]
)
@pytest.mark.parametrize("version", [b"1.1", b"2"])
def test_a_usual_line_is_made_in_c(
    form: str, fields: list[tuple[bytes, bytes]], version: bytes
) -> None:
    in_c, in_python = BOTH[form]
    client = connection()
    asked = Request(b"GET", b"/a?b", version, b"x.test", b"x.test", fields, client)
    exchange = Exchange(client, asked)
    exchange.response = Response(200, [], b"", handler="static")
    exchange.response.backend = "http://127.0.0.1:1"
    for duration in (0.01234, 0.0, 0.09994, 0.0004996):
        exchange.duration = duration
        expected = in_python("now", exchange, "id-1")  # text: it names the parties
        assert in_c()("now", exchange, "id-1") == expected


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("value", [None, 7, b"", "text", (), [()], [(b"a", 1)], UNSET])
def test_facts_that_are_missing_are_pythons_business(form: str, value: object) -> None:
    in_c, in_python = BOTH[form]
    for place in range(4):
        for name in (Exchange, Request, Connection, Response)[place].__slots__:
            client = connection()
            client.named_in_log = (b"x", "a x", "-")
            asked = Request(b"GET", b"/", b"1.1", b"x", b"x", [(b"a", b"b")], client)
            exchange = Exchange(client, asked)
            exchange.response = Response(200, [], b"")
            changed = (exchange, asked, client, exchange.response)[place]
            if value is not UNSET:
                setattr(changed, name, value)
            elif hasattr(changed, name):
                delattr(changed, name)
            line = in_c()("now", exchange, "-")
            if line is not None:
                assert line == in_python("now", exchange, "-")


def answered(client: Connection, ident: bytes = b"") -> Exchange:
    exchange = Exchange(client, Request(b"GET", b"/a", b"1.1", b"x.test", b"x.test", [], client))
    exchange.request.id = ident  # type: ignore[union-attr] # it has just been made
    exchange.response = Response(200, [], b"", handler="static")
    return exchange


async def test_lines_are_gathered_as_pythons_and_written_once_a_turn(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    with open_log(tmp_path / "access.log") as (file, path):
        log = AcceleratedAccessLog(file, "text", loop, lane())
        client = connection()
        for ident in (b"", b"", b"", b"given-1", b"\xff", b""):
            log.add(answered(client, ident))
        refused = Exchange(client)
        refused.response = Response(400, [], b"", handler="error", error="malformed_request")
        log.add(refused)
        assert path.read_text() == ""
        await asyncio.sleep(0)
        lines = [line.split() for line in path.read_text().splitlines()]
        # Every line has a moment of now, and every request an id of its own.
        assert [line[1:6] for line in lines[:6]] == [
            ["access", "192.0.2.1", "x.test", '"GET', '/a"']
        ] * 6
        assert all(
            re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line[0]) for line in lines
        )
        ids = [line[-3] for line in lines[:6]]
        prefix = ids[0].partition("-")[0]
        assert [one.partition("-")[2] for one in ids if one.startswith(prefix)] == [
            "0",
            "1",
            "2",
            "4",
        ]
        assert (ids[3], ids[4]) == ("given-1", "\\u00ff")
        assert lines[6][-1] == "malformed_request"
        for _ in range(1000):
            log.add(answered(client))
        assert len(path.read_text().splitlines()) > 900  # what gathers within a turn has a bound
        await asyncio.sleep(0)
        assert len(path.read_text().splitlines()) == 1007


async def test_lines_of_json_are_gathered(tmp_path: Path) -> None:
    with open_log(tmp_path / "access.log") as (file, path):
        log = AcceleratedAccessLog(file, "json", asyncio.get_running_loop(), lane())
        client = connection()
        for ident in (b"", b"given-1", b"\xff", b""):
            log.add(answered(client, ident))
        await asyncio.sleep(0)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [list(line) for line in lines[1:]] == [list(lines[0])] * 3
        assert [line["target"] for line in lines] == ["/a"] * 4
        first, *given, last = [line["request_id"] for line in lines]
        assert given == ["given-1", "\xff"]
        assert (first[-2:], last) == ("-0", f"{first[:-1]}2")


def test_the_moment_of_a_line_is_pythons() -> None:
    said: list[tuple[int, int]] = []

    def say(second: int, millisecond: int) -> str:
        said.append((second, millisecond))
        return rfc3339(second, millisecond)

    lines: list[str] = []
    client = connection()
    gather = lane().gatherer(lines, count(), "p-", say, False).gather
    text_line("", answered(client), "")  # names the parties
    before = time.time()
    assert gather(answered(client)) == 1
    after = time.time()
    second, millisecond = said[0]
    assert int(before * 1000) <= second * 1000 + millisecond <= int(after * 1000)
    assert lines[0].startswith(rfc3339(second, millisecond) + " access ")
    assert " p-0 " in lines[0]


def test_a_moment_or_a_number_that_fails_is_told() -> None:
    client = connection()
    lines: list[str] = []
    text_line("", answered(client), "")

    def raises(*_: int) -> str:
        raise ValueError("no such moment")

    def says_no_text(*_: int) -> Any:
        return 7

    with pytest.raises(ValueError, match="no such moment"):
        lane().gatherer(lines, count(), "", raises, False).gather(answered(client))
    assert lane().gatherer(lines, iter(()), "", rfc3339, False).gather(answered(client)) == 0
    for number in (-1, 2**70, None):
        numbers: Iterator[Any] = iter([number])
        assert lane().gatherer(lines, numbers, "", rfc3339, False).gather(answered(client)) == 0
    assert lane().gatherer(lines, count(), "", says_no_text, False).gather(answered(client)) == 0
    assert lines == []
    for wrong in (
        (),
        ([], count(), "", 7, True),
        ((), count(), "", rfc3339, True),
        ([], 7, "", rfc3339, True),
    ):
        with pytest.raises(TypeError):
            lane().gatherer(*wrong)
    with pytest.raises(TypeError):
        type(lane().gatherer([], count(), "", rfc3339, False))()


@pytest.mark.parametrize(
    ("form", "sites", "traces", "accelerated_one"),
    [
        ("text", {}, False, True),
        ("json", {}, False, True),
        ("combined", {}, False, False),
        ("text", {}, True, False),
        ("text", {"x.test": SiteLog(lines=False)}, False, False),
    ],
)
async def test_a_log_is_accelerated_where_all_lines_are_alike(
    form: str, sites: dict[str, SiteLog], traces: bool, accelerated_one: bool,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    with open_log(tmp_path / "access.log") as (file, _):
        loop = asyncio.get_running_loop()
        no_site = SiteTable(()).find
        monkeypatch.setattr(access_log, "lane", None)
        assert type(new_access_log(file, form, loop, sites, no_site, traces=traces)) is AccessLog
        monkeypatch.setattr(access_log, "lane", lane())
        made = new_access_log(file, form, loop, sites, no_site, traces=traces)
        assert (type(made) is AcceleratedAccessLog) is accelerated_one


# Memory


def test_nothing_is_kept_and_nothing_is_lost() -> None:
    parser = bound(lane(), Limits())
    client, head = taught(parser)
    template = client.protocol_state[0]
    request = parser.parse(head, client)[0]  # type: ignore[index] # it was not declined
    done = lane().exchange(client, request, 0.5)
    done.response = Response(200, [], b"", handler="static")
    text_line("now", done)
    watched = [
        None, False, head, client, template, template.block, template.host, *template.host,
        *template.before_fields, request, request.target, done, done.response, "now", 0, b"",
    ]  # fmt: skip

    def all_of_it() -> None:
        for text in (head, head[:40], head + head, head.replace(b"Cookie", b"X-Y"), b""):
            lane().plain_head(text, client, 100, 8000, 16000, {}, {})
        lane().plain_head(head, client, 1, 8000, 16000, {}, {})
        lane().exchange(client, request, 0.5)
        assert lane().text_line("now", done, "-")
        lane().text_line("caf\xe9", done, "-")
        lane().text_line("now", client, "-")
        assert lane().json_line("now", done, "-")
        lane().json_line("caf\xe9", done, "-")
        gatherer.gather(done)
        gatherer.gather(client)
        lane().gatherer(lines, numbers, "prefix", rfc3339, False).gather(done)
        lines.clear()

    lines: list[str] = []
    numbers = count()
    gatherer = lane().gatherer(lines, numbers, "prefix", rfc3339, False)
    watched += [lines, numbers, rfc3339, type(gatherer), lane().text_line]
    assert leaked(watched, all_of_it, 100) == []


@pytest.mark.parametrize(
    "name", ["plain_head", "exchange", "text_line", "json_line", "bind_messages", "bind_templates"]
)
@pytest.mark.parametrize(
    "given", [(), (1,), (1, 2), (b"", None, None), (None,) * 4, (b"", 1, "", [], 2)]
)
def test_wrong_arguments_are_errors_or_declined(name: str, given: tuple[object, ...]) -> None:
    try:
        found = getattr(lane(), name)(*given)
    except (TypeError, AttributeError):
        return
    assert found is None or name == "exchange"


def test_a_class_without_the_slots_is_refused() -> None:
    class Other:
        __slots__ = ("response",)
        status = 7

    try:
        with pytest.raises(TypeError, match="status is no slot"):
            lane().bind_messages(Exchange(connection()), Connection, Other)
        with pytest.raises(AttributeError):
            lane().bind_messages(object(), Connection, Response)
        with pytest.raises(AttributeError):
            lane().bind_messages(Exchange(connection()), Connection, Response)  # None for a request
        with pytest.raises(TypeError, match="spellings are bytes"):
            lane().bind_templates(HeadTemplate, {b"A": "a"})  # type: ignore[dict-item] # the point
    finally:
        bind(lane())
        bound(lane(), Limits())


def test_a_lane_that_knows_no_classes_yet_answers_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNBOUND, str(build(tmp_path))],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "TypeError\n" * 4, done.stderr


UNBOUND = """
import sys, importlib.util as u
from importlib.machinery import ExtensionFileLoader as L
s = u.spec_from_file_location("lane", sys.argv[1], loader=L("lane", sys.argv[1]))
lane = u.module_from_spec(s); s.loader.exec_module(lane)
for ask in (lambda: lane.plain_head(b"", None, 1, 1, 1), lambda: lane.exchange(1, 2, 3),
            lambda: lane.text_line("", None, ""),
            lambda: lane.gatherer([], iter(()), "", print, False).gather(None)):
    try:
        ask()
    except TypeError:
        print("TypeError")
"""


# Which form runs


def test_the_environment_asks_for_pure_python() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "--version"],
        cwd=REPOSITORY, env={**os.environ, "TREEHOUSE_PURE_PYTHON": "1"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"treehouse-proxy, version {VERSION} (pure Python)\n"


def test_a_lane_of_another_revision_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, accelerated.NAME, lane())
    assert accelerated.load() == (lane(), "")
    own = accelerated.REVISION
    monkeypatch.setattr(accelerated, "REVISION", own + 1)
    fault = f"the accelerated lane is of revision {own}, not of {own + 1}"
    assert accelerated.load() == (None, fault)


def test_a_lane_that_cannot_be_loaded_is_told_and_the_program_runs(tmp_path: Path) -> None:
    # Others may compile there meanwhile.
    built = shutil.ignore_patterns("__pycache__", "*.so*")
    for package in ("proxy", "acme_client"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=built)

    def said() -> str:
        environment = {k: v for k, v in os.environ.items() if k != "TREEHOUSE_PURE_PYTHON"}
        return subprocess.run(
            [sys.executable, "-B", "-m", "proxy", "--version"],
            cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip

    version = f"treehouse-proxy, version {VERSION}"
    assert said() == f"{version} (pure Python)\n"
    # Built here or elsewhere, it is the same; no path of the machine is in it.
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-B", "-m", "proxy.accelerated.build"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120, capture_output=True)
    made = target(tmp_path / "proxy/accelerated")
    assert made.read_bytes() == build(tmp_path / "elsewhere").read_bytes()
    assert said() == f"{version} (accelerated lane)\n"
    made.write_bytes(b"\x7fELF 100%\n")
    assert said().startswith(
        f"{version} (pure Python: the accelerated lane cannot be loaded: {made}: "
    )
    made.unlink()
    # For another Python: no fault of this one.
    (made.parent / "lane.cpython-310-x86_64-linux-gnu.so").write_bytes(b"")
    assert said() == f"{version} (pure Python)\n"


def test_who_has_no_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc")
    with pytest.raises(RuntimeError, match="apt-get install gcc"):
        build(tmp_path)
    assert list(tmp_path.iterdir()) == []
