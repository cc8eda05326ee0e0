"""Requests as clients of many kinds write them: what is understood, and what is refused by which rule.

What the whole program makes of them is in `tests/conformance/requests.py`; here are the reasons, as
an operator reads them at `log.level: debug` and in the access log.
"""

from __future__ import annotations

import json

import pytest

from proxy.config.model import Limits
from proxy.errors import Fault
from proxy.protocol.exchange import Exchange, PartialHead
from proxy.protocol.h1 import strict_parser
from proxy.protocol.message import Connection, Response
from proxy.worker.access_lines import json_line, text_line

END = b"\r\nHost: app.example\r\n\r\n"


def parsed(head: bytes, scheme: bytes = b"https") -> strict_parser.Parsed:
    connection = Connection("192.0.2.1", 1, "198.51.100.1", 443, scheme)
    return strict_parser.parse(head, connection, Limits())


@pytest.mark.parametrize(
    ("target", "host", "scheme", "understood"),
    [
        # RFC 3986 §6.2.3: the usual port says nothing.
        (b"https://app.example/f", b"app.example:443", b"https", b"/f"),
        (b"https://app.example:443/f", b"app.example", b"https", b"/f"),
        (b"https://app.example:443/f", b"app.example:443", b"https", b"/f"),
        (b"https://app.example:/f", b"app.example:443", b"https", b"/f"),
        (b"https://app.example/f", b"app.example:", b"https", b"/f"),
        (b"https://app.example:0443/f", b"app.example", b"https", b"/f"),
        (b"HTTPS://APP.example./f?a=b", b"app.EXAMPLE:443", b"https", b"/f?a=b"),
        (b"https://app.example", b"app.example:443", b"https", b"/"),
        (b"https://app.example?q", b"app.example:443", b"https", b"/?q"),
        (b"http://app.example/f", b"app.example:80", b"http", b"/f"),
        (b"http://app.example:80/f", b"app.example", b"http", b"/f"),
        (b"https://[2001:db8::1]:443/f", b"[2001:DB8:0::1]", b"https", b"/f"),
        (b"https://app.example:8443/f", b"app.example:8443", b"https", b"/f"),
        # Another port is another authority.
        (b"https://app.example/f", b"app.example:80", b"https", "bad_host"),
        (b"https://app.example/f", b"app.example:8443", b"https", "bad_host"),
        (b"https://app.example:8443/f", b"app.example", b"https", "bad_host"),
        (b"http://app.example/f", b"app.example:443", b"http", "bad_host"),
        (b"https://app.example:65536/f", b"app.example", b"https", "bad_host"),
        (b"https://other.example/f", b"app.example:443", b"https", "bad_host"),
        (b"http://app.example/f", b"app.example", b"https", "misdirected"),
        (b"ftp://app.example/f", b"app.example", b"https", "malformed_request"),
        (b"https://me@app.example/f", b"app.example", b"https", "malformed_request"),
    ],
)
def test_absolute_form(target: bytes, host: bytes, scheme: bytes, understood: bytes | str) -> None:
    head = b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host)
    if isinstance(understood, bytes):
        assert parsed(head, scheme)[0].target == understood
        return
    with pytest.raises(Fault) as caught:
        parsed(head, scheme)
    assert caught.value.kind == understood


@pytest.mark.parametrize(
    ("codings", "status"),
    [
        # Codings that we do not know, framed so that the body's end could be found (RFC 9112 §6.1).
        ([b"gzip, chunked"], 501),
        ([b"gzip,chunked"], 501),
        ([b"gzip\t,\tchunked"], 501),
        ([b"GZIP, Chunked"], 501),
        ([b"gzip", b"chunked"], 501),
        ([b"deflate, gzip, chunked"], 501),
        ([b"identity, chunked"], 501),
        ([b"cow;a=b, chunked"], 501),
        ([b'cow ; a = "b, c" , chunked'], 501),
        # The end could not be found, or chunked is not what it says (§6.3, §7.1).
        ([b"gzip"], 400),
        ([b"identity"], 400),
        ([b"chunked, gzip"], 400),
        ([b"chunked, chunked"], 400),
        ([b"chunked", b"chunked"], 400),
        ([b"chunked, gzip, chunked"], 400),
        ([b"chunked;q=1"], 400),
        ([b"gzip, chunked;q=1"], 400),
        ([b"gzip, chunked,"], 400),
        ([b",chunked"], 400),
        ([b"gzip,, chunked"], 400),
        ([b"gzip chunked"], 400),
        ([b'gzip;a="b, chunked'], 400),
        ([b""], 400),
        ([b'"chunked"'], 400),
    ],
)
def test_transfer_codings(codings: list[bytes], status: int) -> None:
    lines = b"".join(b"Transfer-Encoding: %b\r\n" % one for one in codings)
    with pytest.raises(Fault) as caught:
        parsed(b"POST / HTTP/1.1\r\nHost: app.example\r\n%b\r\n" % lines)
    assert caught.value.what.status == status
    assert caught.value.what.closes


@pytest.mark.parametrize(
    ("head", "rule"),
    [
        (b"get / HTTP/1.1" + END, "the method has lower-case letters"),
        (b"Get / HTTP/1.1" + END, "the method has lower-case letters"),
        (b"purge / HTTP/1.1" + END, "the method has lower-case letters"),
        (b"G(T / HTTP/1.1" + END, "does not begin with a method"),
        (b" GET / HTTP/1.1" + END, "does not begin with a method"),
        (b"GET /\xc3\xbc HTTP/1.1" + END, "bytes that a URL encodes"),
        (b"GET /a\x01b HTTP/1.1" + END, "bytes that a URL encodes"),
        (b"GET /a#b HTTP/1.1" + END, "fragment"),
        (b"GET /a b HTTP/1.1" + END, "more than its two spaces"),
        (b"GET  / HTTP/1.1" + END, "more than its two spaces"),
        (b"GET /" + END, "version"),
        (b"GET / HTTP/1" + END, "version"),
        (b"GET / http/1.1" + END, "version"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "white space before its colon"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "folded"),
        (b"GET / HTTP/1.1\r\nHost\r\n\r\n", "no colon"),
        (b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n", "no token"),
        (b"GET / HTTP/1.1\r\n: a\r\n\r\n", "no token"),
        (b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n", "control bytes"),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "CR or LF alone"),
        (b"GET / HTTP/1.1\r\n\r\n", "0 Host fields"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "Host b'a b'"),
    ],
)
def test_the_rule_is_named(head: bytes, rule: str) -> None:
    with pytest.raises(Fault) as caught:
        parsed(head)
    assert caught.value.what.status == 400
    assert rule in caught.value.detail


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"GET /\xc3\xbc HTTP/1.1" + END, (b"GET", b"/\xc3\xbc", b"app.example")),
        (b"get /a HTTP/1.1" + END, (b"get", b"/a", b"app.example")),
        (b"GET /a b HTTP/1.1" + END, (b"GET", b"/a b", b"app.example")),
        (b"GET /a HTTP/1.1\nHost: app.example\n\n", (b"GET", b"/a", b"app.example")),
        (b"GET /a HTTP/1.1\r\nhost : app.example\r\n\r\n", (b"GET", b"/a", b"app.example")),
        (b"GET /a", (b"GET", b"/a", None)),
        (b"GET", (b"GET", None, None)),
        (b"GET /a HTTP/1.1\r\nX: y\r\n", (b"GET", b"/a", None)),
        (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", (b"GET", b"/a", None)),
        (b"\x16\x03\x01\x02\x00\x01\x00", (None, None, None)),
        (b"", (None, None, None)),
        (b"\r\n\r\n", (None, None, None)),
        (b"GET /" + b"a" * 100_000, (b"GET", b"/" + b"a" * 4095, None)),
    ],
)
def test_what_could_be_read_is_in_the_access_line(
    data: bytes, read: tuple[bytes | None, bytes | None, bytes | None]
) -> None:
    refused = Exchange(Connection("192.0.2.1", 1, "198.51.100.1", 443))
    refused.response = Response(400, [], b"", handler="error", error="malformed_request")
    refused.partial = strict_parser.what_could_be_read(data)
    assert refused.partial == PartialHead(*read)
    line = json.loads(json_line("now", refused))
    told = [None if one is None else one.decode("latin-1") for one in read]
    assert [line["method"], line["target"], line["host"]] == told
    text = text_line("now", refused)
    assert text.isascii()
    assert text.count("\n") == 1
    assert text.split(" ")[3] == (told[2] or "-")
