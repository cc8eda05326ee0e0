"""The table of answers: a backend's bytes, and what a client makes of them.

What a backend says wrongly in its head is 502 and reaches nobody; what it says wrongly in a body ends
in a broken connection, never in something that looks whole. In either case its connection is not
used again, so that what came behind answers no other request.
"""

from __future__ import annotations

from dataclasses import dataclass

OK = b"HTTP/1.1 200 OK\r\n"
SPLIT = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: 1\r\n\r\nevil"


@dataclass(frozen=True)
class Case:
    """``status`` 0: the connection breaks before the answer is whole. ``then`` is what the backend
    does behind its bytes (see `strict_backend.Says`). ``body`` is the client's. ``fields``: lines
    that the client must see. ``sends``: the request's body; ``early``: the answer does not await
    it. ``stays``: whether the client's connection goes on."""

    says: tuple[bytes, ...]
    status: int
    body: bytes = b""
    then: str = "keep"
    method: bytes = b"GET"
    lines: tuple[bytes, ...] = ()
    fields: tuple[bytes, ...] = ()
    interim: int = 0
    sends: bytes = b""
    early: bool = False
    stays: bool = True
    times: int = 1  # how often the backend may hear the request


def answer(*lines: bytes, body: bytes = b"", status: bytes = b"200 OK") -> bytes:
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, fields, body)


def counted(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    return answer(b"Content-Length: %d" % len(body), *lines, body=body, status=status)


def chunked(body: bytes) -> bytes:
    return answer(b"Transfer-Encoding: chunked", body=body)


def bad(*says: bytes, then: str = "keep") -> Case:
    return Case(says, 502, then=then)


def broken(*says: bytes, then: str = "keep") -> Case:
    """Within the body."""
    return Case(says, 0, then=then, stays=False)


def good(*says: bytes, body: bytes = b"abc", then: str = "keep", method: bytes = b"GET") -> Case:
    return Case(says, 200, body, then, method)


CASES: dict[str, Case] = {
    # RFC 9112 §4: status lines
    "plain": good(counted(b"abc")),
    "no reason": good(b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc"),
    "HTTP/1.0": good(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", then="close"),
    "another protocol": bad(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "HTTP/0.9": bad(b"<html>hello</html>\r\n\r\n"),
    "HTTP/0.9 and an end": bad(b"<html>hello</html>", then="close"),
    "HTTP/2": bad(b"HTTP/2 200\r\n\r\n"),
    "HTTP/1.2": bad(b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "small http": bad(b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "a status of two digits": bad(answer(b"Content-Length: 0", status=b"20 OK")),
    "a status of four digits": bad(answer(b"Content-Length: 0", status=b"2000 OK")),
    "a status with a sign": bad(answer(b"Content-Length: 0", status=b"+20 OK")),
    "a status of nothing": bad(answer(b"Content-Length: 0", status=b" OK")),
    "a status of 000": bad(answer(b"Content-Length: 0", status=b"000 No")),
    "a status of 099": bad(answer(b"Content-Length: 0", status=b"099 No")),
    "a status of 600": Case((answer(b"Content-Length: 0", status=b"600 No"),), 600),
    "a status of 999": Case((counted(b"abc", status=b"999 No"),), 999, b"abc"),
    "a status of 999 with chunks": Case((answer(
        b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n", status=b"999 No"),),
        999, b"abc"),
    "a status that nobody knows": Case((counted(b"abc", status=b"599 Odd"),), 599, b"abc"),
    "a tab for a space": bad(b"HTTP/1.1\t200\tOK\r\nContent-Length: 0\r\n\r\n"),
    "a bare CR in the reason": bad(answer(b"Content-Length: 0", status=b"200 O\rK")),
    "NUL in the reason": bad(answer(b"Content-Length: 0", status=b"200 O\0K")),
    "an empty line first": bad(b"\r\n" + counted(b"abc")),
    # §2.2, §5: lines
    "bare LF": bad(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    "bare LF behind a field": bad(b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\r\n"),
    "bare CR": bad(counted(b"abc", b"X: a\rb")),
    "NUL": bad(counted(b"abc", b"X: a\0b")),
    "a control byte": bad(counted(b"abc", b"X: a\x02b")),
    "obs-fold": bad(counted(b"abc", b"X: a\r\n b")),
    "obs-fold of the coding": bad(
        answer(b"Transfer-Encoding:\r\n chunked", body=b"3\r\nabc\r\n0\r\n\r\n")),
    "space before the colon": bad(counted(b"abc", b"X : a")),
    "space before the coding's colon": bad(
        answer(b"Transfer-Encoding : chunked", b"Content-Length: 3", body=b"abc")),
    "an empty name": bad(counted(b"abc", b": a")),
    "no colon": bad(counted(b"abc", b"X")),
    "a name beyond ASCII": bad(counted(b"abc", b"X\xe9: a")),
    "a head of 80 KiB": bad(OK + b"X: %b\r\n" % (b"a" * 1000) * 80),
    "a head without end": bad(OK + b"X: " + b"a" * 80_000),
    "three hundred fields": bad(counted(b"", *[b"X: y"] * 300)),
    "a head that breaks off": bad(OK + b"X: a", then="close"),
    "a head that is reset": bad(OK + b"X: a", then="reset"),
    # On a kept connection it may have been too old; a GET is asked once more (RFC 9112 §9.3.1).
    "nothing": Case((b"",), 502, then="close", times=2),
    "a reset": Case((b"",), 502, then="reset", times=2),
    "nothing, to a POST": Case((b"",), 502, then="close", method=b"POST", sends=b"abc"),
    "a reset, to a POST": Case((b"",), 502, then="reset", method=b"POST", sends=b"abc"),
    "an interim answer and a reset": Case(
        (answer(status=b"103 Hints"),), 502, then="reset", interim=1),
    # §6.1, §6.3: framing
    "chunked": good(chunked(b"3\r\nabc\r\n0\r\n\r\n")),
    "chunked in capitals": good(
        answer(b"TRANSFER-ENCODING: CHUNKED", body=b"3\r\nabc\r\n0\r\n\r\n")),
    "until the end": good(answer(body=b"abc"), then="close"),
    "until the end, in HTTP/1.0": good(b"HTTP/1.0 200 OK\r\n\r\nabc", then="close"),
    "until a reset": broken(answer(body=b"abc"), then="reset"),
    "CL and TE": bad(answer(b"Content-Length: 3", b"Transfer-Encoding: chunked",
                            body=b"3\r\nabc\r\n0\r\n\r\n")),
    "TE and CL": bad(answer(b"Transfer-Encoding: chunked", b"Content-Length: 3",
                            body=b"3\r\nabc\r\n0\r\n\r\n")),
    "CL twice, the same": good(counted(b"abc", b"Content-Length: 3")),
    "CL three times, the same": good(counted(b"abc", b"X: 1", *[b"Content-Length: 3"] * 2)),
    "CL twice, in two spellings": bad(counted(b"abc", b"Content-Length: 03")),
    "CL twice, different": bad(counted(b"abc", b"Content-Length: 2")),
    "CL list": bad(answer(b"Content-Length: 3, 3", body=b"abc")),
    "CL plus": bad(answer(b"Content-Length: +3", body=b"abc")),
    "CL minus": bad(answer(b"Content-Length: -3", body=b"abc")),
    "CL hexadecimal": bad(answer(b"Content-Length: 0x3", body=b"abc")),
    "CL empty": bad(answer(b"Content-Length:", body=b"abc")),
    "CL of thirty digits": bad(answer(b"Content-Length: " + b"9" * 30)),
    "CL with a fraction": bad(answer(b"Content-Length: 3.0", body=b"abc")),
    "TE twice": bad(answer(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked",
                           body=b"0\r\n\r\n")),
    "TE list": bad(answer(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "TE unknown": bad(answer(b"Transfer-Encoding: cow", body=b"abc")),
    "TE identity": bad(answer(b"Transfer-Encoding: identity", b"Content-Length: 3", body=b"abc")),
    "TE in HTTP/1.0": bad(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a body that breaks off": broken(answer(b"Content-Length: 100", body=b"abc"), then="close"),
    "a body that is reset": broken(answer(b"Content-Length: 100", body=b"abc"), then="reset"),
    "a body that breaks off later": broken(
        answer(b"Content-Length: 100"), b"abc", then="close"),
    # §6.3: messages that have no body
    "204": Case((answer(status=b"204 No"),), 204),
    "204 with a length": Case((answer(b"Content-Length: 3", status=b"204 No"),), 204),
    "204 with a body": Case((counted(SPLIT, status=b"204 No"),), 204),
    "204 with a length of 0": Case((answer(b"Content-Length: 0", status=b"204 No"),), 204),
    "204 with chunks": Case((answer(
        b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n", status=b"204 No"),), 204),
    "204 with the last chunk later": Case(
        (answer(b"Transfer-Encoding: chunked", status=b"204 No"), b"0\r\n\r\n"), 204),
    "204 with CL and TE": bad(answer(
        b"Transfer-Encoding: chunked", b"Content-Length: 3", status=b"204 No")),
    "304 with a length": Case((answer(b"Content-Length: 3", status=b"304 No"),), 304),
    "304": Case((answer(b'ETag: "a"', status=b"304 No"),), 304, fields=(b'etag: "a"',)),
    "304 with a body": Case((counted(SPLIT, status=b"304 No"),), 304),
    "304 with chunks behind it": Case((answer(
        b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n", status=b"304 No"),), 304),
    "205 with a body": Case((counted(b"abc", status=b"205 Reset"),), 205, b"abc"),
    "HEAD": Case((answer(b"Content-Length: 3"),), 200, method=b"HEAD",
                 fields=(b"content-length: 3",)),
    "HEAD with a body": Case((counted(SPLIT),), 200, method=b"HEAD"),
    "HEAD with chunks": Case((chunked(b"3\r\nabc\r\n0\r\n\r\n"),), 200, method=b"HEAD"),
    # §7.1: chunks
    "a chunk extension": good(chunked(b'3;a="b"\r\nabc\r\n0;c\r\n\r\n')),
    "a trailer": good(chunked(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")),
    "chunk size with a plus": broken(chunked(b"+3\r\nabc\r\n0\r\n\r\n")),
    "chunk size with a minus": broken(chunked(b"-3\r\nabc\r\n0\r\n\r\n")),
    "chunk size with 0x": broken(chunked(b"0x3\r\nabc\r\n0\r\n\r\n")),
    "chunk size with a space": good(chunked(b"3 \r\nabc\r\n0\r\n\r\n")),
    "chunk sizes padded to a width": good(chunked(b"3     \r\nabc\r\n0     \r\n\r\n")),
    "chunk size with a tab": good(chunked(b"3\t\r\nabc\r\n0\r\n\r\n")),
    "a space before the chunk size": broken(chunked(b" 3\r\nabc\r\n0\r\n\r\n")),
    "a space within the chunk size": broken(chunked(b"0 3\r\nabc\r\n0\r\n\r\n")),
    "white space around a chunk extension": good(
        chunked(b'3 ; a = "b" ;c\t=\td \r\nabc\r\n0 ;e\r\n\r\n')),
    "chunk size of 17 digits": broken(chunked(b"00000000000000003\r\nabc\r\n0\r\n\r\n")),
    "chunk size of 2**64 - 1": broken(chunked(b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n")),
    "empty chunk size": broken(chunked(b"\r\nabc\r\n0\r\n\r\n")),
    "chunk line ends in LF": broken(chunked(b"3\nabc\r\n0\r\n\r\n")),
    "last chunk ends in LF": broken(chunked(b"3\r\nabc\r\n0\n\n")),
    "chunk longer than its size": broken(chunked(b"3\r\nabcd\r\n0\r\n\r\n")),
    "chunk data ends in LF": broken(chunked(b"3\r\nabc\n0\r\n\r\n")),
    "chunk extension with CR": broken(chunked(b"3;a\rb\r\nabc\r\n0\r\n\r\n")),
    "chunk extension of 15 kB": broken(chunked(b"3;" + b"a" * 15_000 + b"\r\nabc\r\n0\r\n\r\n")),
    "trailer Content-Length": good(chunked(b"3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n")),
    "trailer Set-Cookie": good(chunked(b"3\r\nabc\r\n0\r\nSet-Cookie: a=b\r\n\r\n")),
    "trailer that is no field": broken(chunked(b"3\r\nabc\r\n0\r\nX a\r\n\r\n")),
    "trailer with a bare CR": broken(chunked(b"3\r\nabc\r\n0\r\nX: a\rb\r\n\r\n")),
    "a flood of tiny chunks": good(
        chunked(b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n"), body=b"x" * 30_000),
    "twenty thousand rows": good(
        chunked(b"c\r\n12345678901\n\r\n" * 20_000 + b"0\r\n\r\n"), body=b"12345678901\n" * 20_000),
    "chunks that break off": broken(chunked(b"3\r\nabc\r\n"), then="close"),
    "a chunk that breaks off": broken(chunked(b"64\r\nabc"), then="close"),
    "chunks without their last line": broken(chunked(b"3\r\nabc\r\n0\r\n"), then="close"),
    "chunks that are reset": broken(chunked(b"3\r\nabc\r\n"), then="reset"),
    # §9.2, §11.1: what comes behind an answer
    "a second answer behind it": good(counted(b"abc") + SPLIT),
    "a second answer a moment later": good(counted(b"abc"), SPLIT),
    "bytes behind it": good(counted(b"abc") + b"x"),
    "a second answer behind chunks": good(chunked(b"3\r\nabc\r\n0\r\n\r\n") + SPLIT),
    "a second answer behind a 304": Case((answer(status=b"304 No") + SPLIT,), 304),
    "keep-alive with parameters": good(
        counted(b"abc", b"Connection: keep-alive; timeout=5", b"Keep-Alive: timeout=5, max=9")),
    "keep-alive with more parameters": good(
        counted(b"abc", b"Connection: Keep-Alive, timeout=5, max=100")),
    "a stray semicolon in Connection": good(counted(b"abc", b"Connection: keep-alive;")),
    "a stray semicolon behind close": good(counted(b"abc", b"Connection: close;"), then="close"),
    "a Connection that nobody can read": good(counted(b"abc", b"Connection: (what?)")),
    "Connection: close, and it does": good(counted(b"abc", b"Connection: close"), then="close"),
    "Connection: close, and it does not": good(counted(b"abc", b"Connection: close")),
    "an end that was not announced": good(counted(b"abc"), then="close"),
    # RFC 9110 §15.2: interim answers
    "100 that nobody asked for": good(answer(status=b"100 Continue") + counted(b"abc")),
    "103": Case((answer(b"Link: </a>", status=b"103 Hints") + counted(b"abc"),), 200, b"abc",
                interim=1),
    "102 and 103": Case((answer(status=b"102 P"), answer(status=b"103 H"), counted(b"abc")),
                        200, b"abc", interim=2),
    "1xx with a length": Case((answer(b"Content-Length: 3", status=b"103 Hints") + counted(b"abc"),),
                              200, b"abc", interim=1),
    "1xx with a body": Case(
        (counted(b"xyz", status=b"103 Hints") + counted(b"abc"),), 502, interim=1),
    "1xx with chunks": bad(answer(b"Transfer-Encoding: chunked", status=b"103 Hints",
                                  body=b"0\r\n\r\n") + counted(b"abc")),
    "a flood of 1xx": Case(
        (answer(status=b"103 Hints") * 50 + counted(b"abc"),), 502, interim=30),
    "thirty times 103": Case(
        (answer(status=b"103 Hints") * 30 + counted(b"abc"),), 200, b"abc", interim=30),
    "1xx and an end": Case((answer(status=b"103 Hints"),), 502, then="close", interim=1),
    # RFC 9110 §7.8: Upgrade
    "101 that nobody asked for": bad(
        answer(b"Connection: upgrade", b"Upgrade: websocket", status=b"101 Switching") + b"hello"),
    "200 to an Upgrade is no tunnel": Case(
        (counted(b"abc") + SPLIT,), 200, b"abc",
        lines=(b"Connection: upgrade", b"Upgrade: websocket")),
    "101 to another protocol": Case(
        (answer(b"Connection: upgrade", b"Upgrade: h2c", status=b"101 Switching") + b"hello",), 502,
        lines=(b"Connection: upgrade", b"Upgrade: websocket")),
    "101 without a protocol": Case(
        (answer(status=b"101 Switching") + b"hello",), 502,
        lines=(b"Connection: upgrade", b"Upgrade: websocket")),
    "101 to an h2c that was not passed on": Case(
        (answer(b"Connection: upgrade", b"Upgrade: h2c", status=b"101 Switching") + b"hello",), 502,
        lines=(b"Connection: upgrade", b"Upgrade: h2c")),
    "426 to an Upgrade": Case(
        (counted(b"abc", b"Connection: upgrade", b"Upgrade: websocket", status=b"426 Required"),),
        426, b"abc", lines=(b"Connection: upgrade", b"Upgrade: websocket")),
    # An answer before the request has ended
    "early, and the body goes on": Case(
        (counted(b"abc"),), 200, b"abc", method=b"POST", sends=b"x" * 200_000, early=True,
        stays=False),
    "early, and it ends": Case(
        (counted(b"abc", b"Connection: close"),), 200, b"abc", then="close", method=b"POST",
        sends=b"x" * 200_000, early=True, stays=False),
    "early, a short body": Case(
        (counted(b"abc"),), 200, b"abc", method=b"POST", sends=b"x" * 10, early=True),
    # RFC 9110 §7.6.1: fields of one hop, and those that would split an answer
    "fields of one hop stay behind": Case(
        (counted(b"abc", b"Connection: x-mine, keep-alive", b"X-Mine: evil", b"Keep-Alive: evil",
                 b"Proxy-Authenticate: evil", b"X-Kept: 1"),), 200, b"abc",
        fields=(b"x-kept: 1",)),
    "Set-Cookie twice": Case(
        (counted(b"abc", b"Set-Cookie: a=1", b"Set-Cookie: b=2"),), 200, b"abc",
        fields=(b"set-cookie: a=1", b"set-cookie: b=2")),
    "CR and LF, encoded": Case(
        (counted(b"abc", b"Location: /%0d%0aX-Split:%201"),), 200, b"abc",
        fields=(b"location: /%0d%0aX-Split:%201",)),
}  # fmt: skip
