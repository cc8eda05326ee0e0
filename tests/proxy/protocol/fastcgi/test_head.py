"""Heads of scripts: what RFC 3875 has, and nothing that could make two responses of one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Fault
from proxy.protocol.fastcgi.head import END, parse
from proxy.protocol.h1.response_parser import FastResponseParser

PARSERS = [None, FastResponseParser()]


@pytest.mark.parametrize("parser", PARSERS, ids=["strict", "fast"])
@pytest.mark.parametrize(
    ("head", "method", "status", "length", "fields"),
    [
        (b"Content-Type: text/html", b"GET", 200, -1, {b"content-type": b"text/html"}),
        (b"Content-Type:text/html\nX-A: b", b"GET", 200, -1, {b"x-a": b"b"}),
        (b"Status: 404 Not Found\r\nContent-Type: a/b", b"GET", 404, -1, {b"content-type": b"a/b"}),
        (b"status:  201\r\nX: y", b"POST", 201, -1, {b"x": b"y"}),
        (b"Location: https://b.test/", b"GET", 302, -1, {b"location": b"https://b.test/"}),
        (b"Location: /local", b"GET", 302, -1, {b"location": b"/local"}),
        (b"Status: 201\r\nLocation: /made", b"POST", 201, -1, {b"location": b"/made"}),
        (b"Content-Length: 5\r\nX: y", b"GET", 200, 5, {b"content-length": b"5"}),
        (b"Content-Length: 5\r\nX: y", b"HEAD", 200, 0, {b"content-length": b"5"}),
        (b"Status: 204", b"GET", 204, 0, {}),
        (b"Status: 304\r\nETag: \"a\"", b"GET", 304, 0, {b"etag": b'"a"'}),
        # The framing is not a script's to write.
        (b"Transfer-Encoding: chunked\r\nX: y", b"GET", 200, -1, {b"x": b"y"}),
        (b"Connection: X, close\r\nKeep-Alive: 5\r\nX: y", b"GET", 200, -1, {b"x": b"y"}),
        (b"Upgrade: h2c\r\nX: y", b"GET", 200, -1, {b"x": b"y"}),
    ],
)  # fmt: skip
def test_a_head(
    parser: FastResponseParser | None, head: bytes, method: bytes, status: int, length: int,
    fields: dict[bytes, bytes],
) -> None:  # fmt: skip
    found = parse(head, method, parser)
    assert (found.status, found.length) == (status, length)
    told = dict(found.fields)
    assert fields.items() <= told.items()
    assert not {b"connection", b"keep-alive", b"upgrade", b"status"} & told.keys()
    assert found.h11_connection is None


@pytest.mark.parametrize("parser", PARSERS, ids=["strict", "fast"])
@pytest.mark.parametrize(
    "head",
    [
        b"", b"no colon", b"Status: 99\r\nX: y", b"Status: 101 Switching\r\nX: y", b"Status: 1000",
        b"Status: 200\r\nStatus: 404", b"Status: abc", b"X: a\x00b", b"X: a\rb", b"X : y",
        b" X: y", b"X: y\r\n folded", b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: -1", b": y", "Ü: y".encode(), b"Content-Length: 5, 5",
    ],
)  # fmt: skip
def test_a_head_that_is_refused(parser: FastResponseParser | None, head: bytes) -> None:
    with pytest.raises(Fault) as caught:
        parse(head, b"GET", parser)
    assert caught.value.kind == "backend_protocol"


@given(st.binary(max_size=300))
def test_whatever_a_script_says_is_a_head_or_a_fault(head: bytes) -> None:
    if END.search(head):
        return
    try:
        found = parse(head, b"GET")
    except Fault:
        return
    assert 200 <= found.status <= 999
    for name, value in found.fields:
        assert not {0, 10, 13} & {*name, *value}
