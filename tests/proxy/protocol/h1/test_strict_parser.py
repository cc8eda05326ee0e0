"""What must never be let in: one table, each line the client's bytes and the answer's reason.

Every case runs in both modes of parsing, over a real socket, behind a good request and before
another: whatever stands after a refused request on the same connection is never answered.
"""

from __future__ import annotations

import pytest

from proxy.config.model import Limits
from proxy.errors import FAULTS
from proxy.protocol.h1.fast_parser import FastParser
from support.http.conversation import Told, conversation

H = b"Host: x.test\r\n"
CANARY = b"GET /canary HTTP/1.1\r\nHost: x.test\r\n\r\n"


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + H + fields + b"\r\n" + body


def get(fields: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + H + fields + b"\r\n"


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


REFUSED = {
    # RFC 9112 §6.1, §6.3: whose length is it
    "CL.TE": (post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), "bad_framing"),
    "TE.CL": (post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), "bad_framing"),
    "TE twice": (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "unsupported_coding"),
    "TE list": (post(b"Transfer-Encoding: gzip, chunked\r\n"), "coding_not_implemented"),
    "TE chunked twice": (post(b"Transfer-Encoding: chunked, chunked\r\n"), "unsupported_coding"),
    "TE identity": (post(b"Transfer-Encoding: identity\r\n"), "unsupported_coding"),
    "TE quoted": (post(b'Transfer-Encoding: "chunked"\r\n'), "unsupported_coding"),
    "TE unknown": (post(b"Transfer-Encoding: xchunked\r\n"), "unsupported_coding"),
    "TE empty": (post(b"Transfer-Encoding:\r\n"), "unsupported_coding"),
    "TE comma": (post(b"Transfer-Encoding: chunked,\r\n"), "unsupported_coding"),
    "TE parameter": (post(b"Transfer-Encoding: chunked;a=b\r\n"), "unsupported_coding"),
    "TE vertical tab": (post(b"Transfer-Encoding: \x0bchunked\r\n"), "malformed_request"),
    "TE no-break space": (post(b"Transfer-Encoding: \xa0chunked\r\n"), "unsupported_coding"),
    "TE byte order mark": (post(b"Transfer-Encoding: \xef\xbb\xbfchunked\r\n"), "unsupported_coding"),
    "TE folded": (post(b"Transfer-Encoding:\r\n chunked\r\n"), "malformed_request"),
    "TE space before colon": (post(b"Transfer-Encoding : chunked\r\n"), "malformed_request"),
    "TE in HTTP/1.0": (
        b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "bad_framing"),
    "CL twice": (post(b"Content-Length: 5\r\nContent-Length: 5\r\n"), "bad_framing"),
    "CL twice, different": (post(b"Content-Length: 5\r\nContent-Length: 6\r\n"), "bad_framing"),
    "CL list": (post(b"Content-Length: 5, 5\r\n"), "bad_framing"),
    "CL plus": (post(b"Content-Length: +3\r\n"), "bad_framing"),
    "CL minus": (post(b"Content-Length: -3\r\n"), "bad_framing"),
    "CL hexadecimal": (post(b"Content-Length: 0x3\r\n"), "bad_framing"),
    "CL underscore": (post(b"Content-Length: 1_0\r\n"), "bad_framing"),
    "CL space": (post(b"Content-Length: 3 0\r\n"), "bad_framing"),
    "CL fraction": (post(b"Content-Length: 3.0\r\n"), "bad_framing"),
    "CL empty": (post(b"Content-Length:\r\n"), "bad_framing"),
    "CL of thirty digits": (post(b"Content-Length: " + b"9" * 30 + b"\r\n"), "bad_framing"),
    "CL in other digits": (post("Content-Length: ٣\r\n".encode()), "bad_framing"),
    "CL space before colon": (post(b"Content-Length : 3\r\n"), "malformed_request"),
    # RFC 9112 §2.2, §5: lines
    "bare LF between fields": (b"GET / HTTP/1.1\r\nHost: x.test\nX: y\r\n\r\n", "malformed_request"),
    "bare LF everywhere": (b"GET / HTTP/1.1\nHost: x.test\n\n", "malformed_request"),
    "bare CR in a value": (get(b"X: a\rb\r\n"), "malformed_request"),
    "bare CR at a line's end": (b"GET / HTTP/1.1\r\rHost: x.test\r\n\r\n", "malformed_request"),
    "NUL in a value": (get(b"X: a\0b\r\n"), "malformed_request"),
    "control byte in a value": (get(b"X: a\x01b\r\n"), "malformed_request"),
    "escape in a value": (get(b"X: a\x1bb\r\n"), "malformed_request"),
    "delete in a value": (get(b"X: a\x7fb\r\n"), "malformed_request"),
    "folded field": (get(b"X: a\r\n b\r\n"), "malformed_request"),
    "folded with a tab": (get(b"X: a\r\n\tb\r\n"), "malformed_request"),
    "space before the first field": (b"GET / HTTP/1.1\r\n Host: x.test\r\n\r\n", "malformed_request"),
    "space before colon": (get(b"X : a\r\n"), "malformed_request"),
    "empty name": (get(b": a\r\n"), "malformed_request"),
    "no colon": (get(b"X\r\n"), "malformed_request"),
    "name with a byte beyond ASCII": (get(b"X\xe9: a\r\n"), "malformed_request"),
    "name with a slash": (get(b"X/Y: a\r\n"), "malformed_request"),
    "three empty lines first": (b"\r\n\r\n\r\n" + CANARY, "malformed_request"),
    "a space first": (b" " + CANARY, "malformed_request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "malformed_request"),
    # RFC 9112 §3: request lines
    "HTTP/0.9": (b"GET /\r\n\r\n", "malformed_request"),
    "HTTP/0.9 with a number": (b"GET / HTTP/0.9\r\n" + H + b"\r\n", "unsupported_version"),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n" + H + b"\r\n", "unsupported_version"),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n" + H + b"\r\n", "unsupported_version"),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "unsupported_version"),
    "HTTP/1.10": (b"GET / HTTP/1.10\r\n" + H + b"\r\n", "malformed_request"),
    "small http": (b"GET / http/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "two spaces": (b"GET  / HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "a tab for a space": (b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "a space at the end": (b"GET / HTTP/1.1 \r\n" + H + b"\r\n", "malformed_request"),
    "a space in the target": (b"GET /a b HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "a fragment": (b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "no slash": (b"GET a HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "an asterisk for GET": (b"GET * HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "a target beyond ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "another scheme": (b"GET ftp://x.test/ HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "user information": (b"GET http://u@x.test/ HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "a method with a parenthesis": (b"G(T / HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    "a method of forty letters": (b"G" * 40 + b" / HTTP/1.1\r\n" + H + b"\r\n", "malformed_request"),
    # RFC 9110 §7.2: Host
    "no Host": (b"GET / HTTP/1.1\r\nX: y\r\n\r\n", "bad_host"),
    "no field at all": (b"GET / HTTP/1.1\r\n\r\n", "bad_host"),
    "no Host in HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", "bad_host"),
    "Host twice": (get(H), "bad_host"),
    "Host twice, apart": (get(b"X: y\r\nHost: y.test\r\n"), "bad_host"),
    "empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "bad_host"),
    "Host list": (b"GET / HTTP/1.1\r\nHost: x.test, y.test\r\n\r\n", "bad_host"),
    "Host with a slash": (b"GET / HTTP/1.1\r\nHost: x.test/a\r\n\r\n", "bad_host"),
    "Host with a space": (b"GET / HTTP/1.1\r\nHost: x test\r\n\r\n", "bad_host"),
    "Host with user information": (b"GET / HTTP/1.1\r\nHost: u@x.test\r\n\r\n", "bad_host"),
    "Host with a bad port": (b"GET / HTTP/1.1\r\nHost: x.test:65536\r\n\r\n", "bad_host"),
    "Host with a word for a port": (b"GET / HTTP/1.1\r\nHost: x.test:http\r\n\r\n", "bad_host"),
    "Host with a percent": (b"GET / HTTP/1.1\r\nHost: x%2etest\r\n\r\n", "bad_host"),
    "Host with an open bracket": (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "bad_host"),
    "Host of dots": (b"GET / HTTP/1.1\r\nHost: ..\r\n\r\n", "bad_host"),
    "Host against the target": (b"GET http://y.test/ HTTP/1.1\r\n" + H + b"\r\n", "bad_host"),
    "another port in the target": (b"GET http://x.test:81/ HTTP/1.1\r\n" + H + b"\r\n", "bad_host"),
    "https in a target on http": (b"GET https://x.test/ HTTP/1.1\r\n" + H + b"\r\n", "misdirected"),
    # RFC 9110 §7.6.1, §9.3, §10.1.1
    "Connection names Host": (get(b"Connection: host\r\n"), "malformed_request"),
    "Connection names Content-Length": (
        post(b"Content-Length: 1\r\nConnection: close, content-length\r\n", b"x"),
        "malformed_request"),
    "Connection is no list": (get(b"Connection: a b\r\n"), "malformed_request"),
    "CONNECT": (b"CONNECT x.test:443 HTTP/1.1\r\n" + H + b"\r\n", "method_not_allowed"),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + H + b"\r\n", "method_not_allowed"),
    "another expectation": (get(b"Expect: miracles\r\n"), "expectation_failed"),
    # RFC 9112 §7.1: chunks
    "chunk size with a sign": (chunked(b"+5\r\nhello\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk size with 0x": (chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk size with an underscore": (chunked(b"1_0\r\nhello\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk size behind a space": (chunked(b" 5\r\nhello\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk size before a space": (chunked(b"5 \r\nhello\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk size of 17 digits": (chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk size beyond reason": (chunked(b"ffffffffffffffff\r\nhello"), "bad_chunk"),
    "empty chunk size": (chunked(b"\r\nhello\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk line ends in LF": (chunked(b"5\nhello\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk data longer than its size": (chunked(b"5\r\nhello!\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk data ends in LF": (chunked(b"5\r\nhello\n0\r\n\r\n"), "bad_chunk"),
    "chunk extension with CR": (chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk extension without end": (chunked(b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n"), "bad_chunk"),
    "trailer Content-Length": (chunked(b"0\r\nContent-Length: 5\r\n\r\n"), "bad_chunk"),
    "trailer Transfer-Encoding": (chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), "bad_chunk"),
    "trailer Host": (chunked(b"0\r\nHost: y.test\r\n\r\n"), "bad_chunk"),
    "trailer Authorization": (chunked(b"0\r\nAuthorization: Basic x\r\n\r\n"), "bad_chunk"),
    "trailer folded": (chunked(b"0\r\nX: a\r\n b\r\n\r\n"), "bad_chunk"),
    "a flood of tiny chunks": (chunked(b"1\r\na\r\n" * 20_000), "tiny_chunks"),
    # Sizes
    "a target of 9 KiB": (b"GET /" + b"a" * 9216 + b" HTTP/1.1\r\n" + H + b"\r\n", "target_too_long"),
    "a target without end": (b"GET /" + b"a" * 70_000, "target_too_long"),
    "a head of 40 KiB": (get(b"X: " + b"a" * 40_000 + b"\r\n"), "head_too_large"),
    "a head without end": (b"GET / HTTP/1.1\r\n" + (b"X: " + b"a" * 1000 + b"\r\n") * 60, "head_too_large"),
    "101 fields": (get(b"X: y\r\n" * 100), "head_too_large"),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["lane", "h11"])
@pytest.mark.parametrize("case", REFUSED)
async def test_it_is_refused_and_nothing_behind_it_is_answered(case: str, mode: str) -> None:
    said, reason = REFUSED[case]
    service = Told(FastParser(Limits()) if mode == "lane" else None)
    async with conversation(service) as client:
        await client.says(b"GET /before HTTP/1.1\r\nHost: x.test\r\n\r\n" + said + CANARY)
        client.hangs_up()
        heard = await client.hears_the_end()
    good, _, refusal = heard.partition(b"GET /before|x.test|")
    assert good.startswith(b"HTTP/1.1 200")
    assert refusal.startswith(b"HTTP/1.1 %d " % FAULTS[reason].status), refusal
    assert b"connection: close\r\n" in refusal
    assert refusal.endswith(reason.encode())
    assert refusal.count(b"HTTP/1.1 ") == 1, "something behind it was answered"
    assert len(service.ends) == 2


ACCEPTED = {
    "coding in capitals": (chunked(b"0\r\n\r\n").replace(b"chunked", b"CHUNKED"), b"POST /|x.test|"),
    "space around a value": (
        post(b"Content-Length: \t3 \t\r\n", b"abc"), b"POST /|x.test|abc"),
    "tab after the coding": (
        post(b"Transfer-Encoding:\tchunked\t\r\n", b"0\r\n\r\n"), b"POST /|x.test|"),
    "host in capitals": (b"GET / HTTP/1.1\r\nhOST: X.TEST\r\n\r\n", b"GET /|x.test|"),
    "host with a trailing dot": (b"GET / HTTP/1.1\r\nHost: x.test.\r\n\r\n", b"GET /|x.test|"),
    "host with a port": (b"GET / HTTP/1.1\r\nHost: x.test:8443\r\n\r\n", b"GET /|x.test|"),
    "an IPv6 host": (b"GET / HTTP/1.1\r\nHost: [::1]:443\r\n\r\n", b"GET /|::1|"),
    "bytes beyond ASCII in a value": (get(b"X: \xc3\xa9\r\n"), b"GET /|x.test|"),
    "an empty value": (get(b"X:\r\n"), b"GET /|x.test|"),
    "GET with a body": (
        b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\n\r\nabc", b"GET /|x.test|abc"),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", b"OPTIONS *|x.test|"),
    "a method of one's own": (b"PURGE / HTTP/1.1\r\n" + H + b"\r\n", b"PURGE /|x.test|"),
    "what browsers leave in a query": (
        b"GET /?a=b|c{d}^\"<> HTTP/1.1\r\n" + H + b"\r\n", b"GET /?a=b|c{d}^\"<>|x.test|"),
    "a chunk extension": (chunked(b'3;a="b;c"\r\nabc\r\n0\r\n\r\n'), b"POST /|x.test|abc"),
    "100 fields": (get(b"X: y\r\n" * 99), b"GET /|x.test|"),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["lane", "h11"])
@pytest.mark.parametrize("case", ACCEPTED)
async def test_it_is_answered_and_so_is_what_comes_behind_it(case: str, mode: str) -> None:
    said, answer = ACCEPTED[case]
    service = Told(FastParser(Limits()) if mode == "lane" else None)
    async with conversation(service) as client:
        await client.says(said + CANARY)
        await client.hears(b"\r\n\r\n" + answer)
        await client.hears(b"GET /canary|x.test|")
