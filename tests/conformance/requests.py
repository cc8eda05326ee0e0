"""The table of requests: a client's bytes, what of them may reach a backend, and the answers.

``@@`` stands for the case's tag. Behind whatever is refused comes a request that nobody may answer
or pass on; behind whatever is let in comes one that must be answered with its own body. RFC 9112
§§ 2-7, 9 and 11 in their order, then what RFC 9110 adds.
"""

from __future__ import annotations

from dataclasses import dataclass

H = b"Host: a.test\r\n"
TE = b"Transfer-Encoding: chunked\r\n"


@dataclass(frozen=True)
class Case:
    """``reaches``: the messages that a backend must hear, and no others. ``begins``: the head of one
    that it may hear begin, and never whole. ``stays``: the connection goes on. ``hangs_up``: the
    client ends its side behind its bytes."""

    says: bytes
    answers: tuple[int, ...]
    reaches: tuple[bytes, ...] = ()
    begins: bytes = b""
    stays: bool = False
    hangs_up: bool = False


def request(
    *lines: bytes,
    method: bytes = b"GET",
    target: bytes = b"/@@",
    version: bytes = b"HTTP/1.1",
    host: bytes = H,
    body: bytes = b"",
) -> bytes:
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"%b %b %b\r\n%b%b\r\n%b" % (method, target, version, host, fields, body)


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return request(*lines, method=b"POST", body=body)


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def onward(
    *lines: bytes,
    method: bytes = b"GET",
    target: bytes = b"/@@",
    host: bytes = b"a.test",
    body: bytes = b"",
) -> bytes:
    """As a backend hears it, without what the proxy adds of its own."""
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n%b" % (method, target, host, fields, body)


def counted(body: bytes, *lines: bytes, method: bytes = b"POST") -> bytes:
    return onward(*lines, b"content-length: %d" % len(body), method=method, body=body)


def in_chunks(body: bytes, trailers: bytes = b"") -> bytes:
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    body = chunk + b"0\r\n" + trailers + b"\r\n"
    return onward(b"transfer-encoding: chunked", method=b"POST", body=body)


CHUNKED_HEAD = onward(b"transfer-encoding: chunked", method=b"POST")


def refused(says: bytes, status: int = 400) -> Case:
    return Case(says, (status,))


def refused_within(says: bytes, status: int = 400) -> Case:
    """Only the body shows it, so that the head may have gone on."""
    return Case(says, (status,), begins=CHUNKED_HEAD)


def passes(says: bytes, *reaches: bytes, stays: bool = True) -> Case:
    return Case(says, (200,) * len(reaches), reaches, stays=stays)


GOOD = onward()

CASES: dict[str, Case] = {
    # RFC 9112 §2.2: lines, and what stands before the first
    "a plain request": passes(request(), GOOD),
    "two in one packet": passes(request() + request(target=b"/@@/2"), GOOD, onward(target=b"/@@/2")),
    "one empty line first": passes(b"\r\n" + request(), GOOD),
    "two empty lines first": passes(b"\r\n\r\n" + request(), GOOD),
    "three empty lines first": refused(b"\r\n\r\n\r\n" + request()),
    "an empty line behind a body": passes(
        post(b"Content-Length: 3", body=b"abc\r\n") + request(target=b"/@@/2"),
        counted(b"abc"), onward(target=b"/@@/2")),
    "half an empty line first": refused(b"\r" + request()),
    "a bare LF first": refused(b"\n" + request()),
    "a space first": refused(b" " + request()),
    "bare LF everywhere": refused(b"GET /@@ HTTP/1.1\nHost: a.test\n\n"),
    "bare LF behind the request line": refused(b"GET /@@ HTTP/1.1\nHost: a.test\r\n\r\n"),
    "bare LF behind a field": refused(b"GET /@@ HTTP/1.1\r\nHost: a.test\nX: y\r\n\r\n"),
    "bare LF for the empty line": refused(b"GET /@@ HTTP/1.1\r\nHost: a.test\r\n\n\r\n\r\n"),
    "bare CR behind the request line": refused(b"GET /@@ HTTP/1.1\r\rHost: a.test\r\n\r\n"),
    "bare CR in a value": refused(request(b"X: a\rb")),
    "CR CR LF": refused(request(b"X: a\r")),
    "bare CR in a name": refused(request(b"X\r: a")),
    "NUL in a value": refused(request(b"X: a\0b")),
    "NUL in the target": refused(request(target=b"/@@\0")),
    "NUL in the method": refused(request(method=b"G\0T")),
    "control byte in a value": refused(request(b"X: a\x01b")),
    "escape in a value": refused(request(b"X: a\x1b[2Jb")),
    "vertical tab in a value": refused(request(b"X: a\x0bb")),
    "delete in a value": refused(request(b"X: a\x7fb")),
    "TLS within TLS": refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "bytes beyond ASCII in a value": passes(request(b"X: \xc3\xa9"), onward(b"x: \xc3\xa9")),
    # §2.3, §2.5: versions
    "HTTP/0.9": refused(b"GET /@@\r\n\r\n"),
    "HTTP/0.9 with a number": refused(request(version=b"HTTP/0.9"), 505),
    "HTTP/1.2": refused(request(version=b"HTTP/1.2"), 505),
    "HTTP/2.0": refused(request(version=b"HTTP/2.0"), 505),
    "HTTP/9.9": refused(request(version=b"HTTP/9.9"), 505),
    "the preface of HTTP/2": refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.10": refused(request(version=b"HTTP/1.10")),
    "HTTP/01.1": refused(request(version=b"HTTP/01.1")),
    "HTTP/1": refused(request(version=b"HTTP/1")),
    "small http": refused(request(version=b"http/1.1")),
    "another protocol": refused(request(version=b"ICY/1.1")),
    "HTTP/1.0": passes(request(version=b"HTTP/1.0"), GOOD, stays=False),
    "HTTP/1.0, kept alive": passes(
        request(b"Connection: keep-alive", version=b"HTTP/1.0"), GOOD),
    # §3: request lines
    "two spaces": refused(request(method=b"GET ")),
    "a tab for a space": refused(b"GET\t/@@ HTTP/1.1\r\n" + H + b"\r\n"),
    "a space at the end": refused(request(version=b"HTTP/1.1 ")),
    "a word too many": refused(request(version=b"HTTP/1.1 HTTP/1.1")),
    "a space in the target": refused(request(target=b"/@@ b")),
    "a fragment": refused(request(target=b"/@@#b")),
    "no slash": refused(request(target=b"@@")),
    "no target": refused(b"GET  HTTP/1.1\r\n" + H + b"\r\n"),
    "a backslash first": refused(request(target=b"\\@@")),
    "a target beyond ASCII": refused(request(target=b"/@@\xc3\xa9")),
    "a target with delete": refused(request(target=b"/@@\x7f")),
    "an asterisk for GET": refused(request(target=b"*")),
    "an authority for GET": refused(request(target=b"a.test:443")),
    "another scheme": refused(request(target=b"ftp://a.test/@@")),
    "no authority": refused(request(target=b"https:///@@")),
    "user information": refused(request(target=b"https://u@a.test/@@")),
    "a method with a parenthesis": refused(request(method=b"G(T")),
    "a method with a colon": refused(request(method=b"GET:")),
    "a method of forty letters": refused(request(method=b"G" * 40)),
    "CONNECT": Case(request(method=b"CONNECT", target=b"a.test:443"), (405,)),
    "CONNECT with a path": Case(request(method=b"CONNECT"), (405,)),
    "TRACE": Case(request(method=b"TRACE"), (405,)),
    "a method of one's own": passes(request(method=b"PURGE"), onward(method=b"PURGE")),
    "a method in small letters is another": refused(request(method=b"get")),
    "a method with a small letter": refused(request(method=b"GEt")),
    "a method of one's own in small letters": refused(request(method=b"purge")),
    "a method with a digit": passes(request(method=b"X2"), onward(method=b"X2")),
    "a method with a hyphen": passes(request(method=b"M-SEARCH"), onward(method=b"M-SEARCH")),
    "what browsers leave in a query": passes(
        request(target=b'/@@?a=b|c{d}^"<>'), onward(target=b'/@@?a=b|c{d}^"<>')),
    "a second slash is kept": passes(request(target=b"/@@//b"), onward(target=b"/@@//b")),
    # §3.2: Host and the target's authority
    "no Host": refused(request(host=b"")),
    "no Host in HTTP/1.0": refused(request(host=b"", version=b"HTTP/1.0")),
    "two Hosts": refused(request(host=H + H)),
    "two Hosts that differ": refused(request(host=H + b"Host: b.test\r\n")),
    "two Hosts, apart": refused(request(b"X: y", b"hOST: b.test")),
    "an empty Host": refused(request(host=b"Host:\r\n")),
    "a list for Host": refused(request(host=b"Host: a.test, b.test\r\n")),
    "Host with a slash": refused(request(host=b"Host: a.test/@@\r\n")),
    "Host with a space": refused(request(host=b"Host: a .test\r\n")),
    "Host with user information": refused(request(host=b"Host: u@a.test\r\n")),
    "Host with a high port": refused(request(host=b"Host: a.test:65536\r\n")),
    "Host with a word for a port": refused(request(host=b"Host: a.test:https\r\n")),
    "Host with a percent": refused(request(host=b"Host: a%2etest\r\n")),
    "Host with a fragment": refused(request(host=b"Host: a.test#b\r\n")),
    "Host with two dots": refused(request(host=b"Host: a..test\r\n")),
    "Host with an open bracket": refused(request(host=b"Host: [::1\r\n")),
    "Host with a quote": refused(request(host=b'Host: a.test"\r\n')),
    "Host beyond ASCII": refused(request(host=b"Host: \xc3\xa4.test\r\n")),
    "Host in capitals": passes(
        request(host=b"hOsT: A.TEST\r\n"), onward(host=b"A.TEST")),
    "Host with a trailing dot": passes(
        request(host=b"Host: a.test.\r\n"), onward(host=b"a.test.")),
    "Host with a port": passes(
        request(host=b"Host: a.test:8443\r\n"), onward(host=b"a.test:8443")),
    "Host that the certificate does not cover": Case(
        request(host=b"Host: b.test\r\n"), (421,), stays=True),
    "Host that nobody serves": Case(request(host=b"Host: evil.example\r\n"), (421,), stays=True),
    "absolute-form": passes(request(target=b"https://a.test/@@?b"), onward(target=b"/@@?b")),
    "absolute-form with the usual port": passes(request(target=b"https://a.test:443/@@"), GOOD),
    "absolute-form and Host with the usual port": passes(
        request(target=b"https://a.test/@@", host=b"Host: a.test:443\r\n"),
        onward(host=b"a.test:443")),
    "absolute-form and Host with an empty port": passes(
        request(target=b"HTTPS://A.test/@@", host=b"Host: a.test:\r\n"), onward(host=b"a.test:")),
    "absolute-form and Host with the port of http": refused(
        request(target=b"https://a.test/@@", host=b"Host: a.test:80\r\n")),
    "absolute-form without a path": passes(
        request(target=b"https://a.test?/@@"), onward(target=b"/?/@@")),
    "absolute-form against Host": refused(request(target=b"https://www.a.test/@@")),
    "absolute-form with another port": refused(request(target=b"https://a.test:81/@@")),
    "absolute-form of another scheme": Case(
        request(target=b"http://a.test/@@"), (421,), stays=False),
    "absolute-form without Host": refused(request(target=b"https://a.test/@@", host=b"")),
    "absolute-form with an evil Host": refused(
        request(target=b"https://a.test/@@", host=b"Host: evil.example\r\n")),
    # §5: field lines
    "obs-fold": refused(request(b"X: a\r\n b")),
    "obs-fold with a tab": refused(request(b"X: a\r\n\tb")),
    "obs-fold of Transfer-Encoding": refused(post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n")),
    "obs-fold of Content-Length": refused(post(b"Content-Length:\r\n 3", body=b"abc")),
    "a space before the first field": refused(request(host=b" Host: a.test\r\n")),
    "space before the colon": refused(request(b"X : a")),
    "tab before the colon": refused(request(b"X\t: a")),
    "space before Host's colon": refused(request(host=b"Host : a.test\r\n")),
    "an empty name": refused(request(b": a")),
    "no colon": refused(request(b"X")),
    "a name with a space": refused(request(b"X Y: a")),
    "a name beyond ASCII": refused(request(b"X\xe9: a")),
    "a name with a slash": refused(request(b"X/Y: a")),
    "a name with NUL": refused(request(b"X\0: a")),
    "a name with brackets": refused(request(b"X[Y]: a")),
    "an odd but good name": passes(request(b"!#$%&'*+-.^_`|~: a"), onward(b"!#$%&'*+-.^_`|~: a")),
    "an empty value": passes(request(b"X:"), onward(b"x: ")),
    "space around a value": passes(request(b"X: \t a \t"), onward(b"x: a")),
    "one hundred fields": passes(request(*[b"X: y"] * 99), onward(*[b"x: y"] * 99)),
    "101 fields": refused(request(*[b"X: y"] * 100), 431),
    "a thousand fields": refused(request(*[b"X: y"] * 1000), 431),
    "a head of 40 KiB": refused(request(b"X: " + b"a" * 40_000), 431),
    "a head of 60 KiB": refused(request(b"X: " + b"a" * 60_000), 431),
    "a target of 9 KiB": refused(request(target=b"/@@" + b"a" * 9000), 414),
    "a target without end": refused(b"GET /@@" + b"a" * 70_000, 414),
    # §6.1: Transfer-Encoding
    "chunked": passes(chunked(b"5\r\nhello\r\n0\r\n\r\n"), in_chunks(b"hello")),
    "chunked in capitals": passes(
        post(b"TRANSFER-ENCODING: CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n"), in_chunks(b"hello")),
    "tab before the coding": passes(
        post(b"Transfer-Encoding:\tchunked\t", body=b"0\r\n\r\n"), in_chunks(b"")),
    "CL.TE": refused(post(b"Content-Length: 6", TE[:-2], body=b"0\r\n\r\nG")),
    "TE.CL": refused(post(TE[:-2], b"Content-Length: 4", body=b"5c\r\nGPOST / HTTP/1.1\r\n")),
    "TE.CL of nothing": refused(post(TE[:-2], b"Content-Length: 0", body=b"0\r\n\r\n")),
    "TE.TE, one of them unknown": refused(post(TE[:-2], b"Transfer-Encoding: cow", body=b"0\r\n\r\n")),
    "TE.TE, unknown first": refused(
        post(b"Transfer-Encoding: cow", TE[:-2], body=b"0\r\n\r\n"), 501),
    "TE.TE, the same": refused(post(TE[:-2], TE[:-2], body=b"0\r\n\r\n")),
    "TE list": refused(post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "TE list with parameters": refused(
        post(b'Transfer-Encoding: x;q="1,2" , chunked', body=b"0\r\n\r\n"), 501),
    "TE list of three": refused(
        post(b"Transfer-Encoding: deflate;a=b, gzip, Chunked", body=b"0\r\n\r\n"), 501),
    "TE gzip": refused(post(b"Transfer-Encoding: gzip")),
    "TE list, chunked first": refused(post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n")),
    "TE chunked twice": refused(post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    "TE with a comma": refused(post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n")),
    "TE behind a comma": refused(post(b"Transfer-Encoding: , chunked", body=b"0\r\n\r\n")),
    "TE identity": refused(post(b"Transfer-Encoding: identity")),
    "TE quoted": refused(post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "TE in single quotes": refused(post(b"Transfer-Encoding: 'chunked'", body=b"0\r\n\r\n")),
    "TE unknown": refused(post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "TE empty": refused(post(b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    "TE with a parameter": refused(post(b"Transfer-Encoding: chunked;a=b", body=b"0\r\n\r\n")),
    "TE with a vertical tab": refused(post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    "TE with a no-break space": refused(post(b"Transfer-Encoding: \xa0chunked", body=b"0\r\n\r\n")),
    "TE with a byte order mark": refused(
        post(b"Transfer-Encoding: \xef\xbb\xbfchunked", body=b"0\r\n\r\n")),
    "TE with a long s": refused(post("Transfer-Encoding: chunKed".replace("K", "\u212a").encode())),
    "TE with a bare CR": refused(post(b"Transfer-Encoding: \rchunked", body=b"0\r\n\r\n")),
    "TE behind a space": refused(post(b" Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "TE with a space before the colon": refused(
        post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    "TE in HTTP/1.0": refused(
        request(TE[:-2], method=b"POST", version=b"HTTP/1.0", body=b"0\r\n\r\n")),
    "TE in HTTP/1.0, kept alive": refused(request(
        TE[:-2], b"Connection: keep-alive", method=b"POST", version=b"HTTP/1.0",
        body=b"0\r\n\r\n")),
    # A name of its own to us, and dropped because CGI and its heirs do not tell it from the other.
    "TE with an underscore": passes(
        post(b"Transfer_Encoding: chunked", b"Content-Length: 3", body=b"abc"), counted(b"abc")),
    "TE named in Connection": passes(
        post(TE[:-2], b"Connection: transfer-encoding", body=b"3\r\nabc\r\n0\r\n\r\n"),
        in_chunks(b"abc")),
    "TE for GET": passes(
        request(TE[:-2], body=b"3\r\nabc\r\n0\r\n\r\n"),
        onward(b"transfer-encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n")),
    # §6.2, §6.3: Content-Length
    "counted": passes(post(b"Content-Length: 3", body=b"abc"), counted(b"abc")),
    "CL.0: a body that looks like a request": passes(
        post(b"Content-Length: 41", body=b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\nG"),
        counted(b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\nG")),
    "CL.0 with GET": passes(
        request(b"Content-Length: 40", body=b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        counted(b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n", method=b"GET")),
    "0.CL: a length of nothing": passes(
        post(b"Content-Length: 0") + request(target=b"/@@/2"),
        counted(b""), onward(target=b"/@@/2")),
    "HEAD with a body": passes(
        request(b"Content-Length: 3", method=b"HEAD", body=b"abc"), counted(b"abc", method=b"HEAD")),
    "a number with zeros": passes(post(b"Content-Length: 0003", body=b"abc"), counted(b"abc")),
    "space around the number": passes(post(b"Content-Length: \t3 \t", body=b"abc"), counted(b"abc")),
    "CL twice, the same": refused(post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc")),
    "CL twice, different": refused(post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd")),
    "CL twice, in small letters": refused(
        post(b"Content-Length: 3", b"content-length: 0", body=b"abc")),
    "CL list": refused(post(b"Content-Length: 3, 3", body=b"abc")),
    "CL list, different": refused(post(b"Content-Length: 3, 4", body=b"abcd")),
    "CL with a comma": refused(post(b"Content-Length: 3,", body=b"abc")),
    "CL plus": refused(post(b"Content-Length: +3", body=b"abc")),
    "CL minus": refused(post(b"Content-Length: -3", body=b"abc")),
    "CL hexadecimal": refused(post(b"Content-Length: 0x3", body=b"abc")),
    "CL with an underscore": refused(post(b"Content-Length: 1_0", body=b"abcdefghij")),
    "CL with a space": refused(post(b"Content-Length: 3 0", body=b"abc")),
    "CL with a fraction": refused(post(b"Content-Length: 3.0", body=b"abc")),
    "CL with an exponent": refused(post(b"Content-Length: 3e0", body=b"abc")),
    "CL empty": refused(post(b"Content-Length:", body=b"abc")),
    "CL quoted": refused(post(b'Content-Length: "3"', body=b"abc")),
    "CL of thirty digits": refused(post(b"Content-Length: " + b"9" * 30)),
    "CL of 2**64": refused(post(b"Content-Length: 18446744073709551616")),
    "CL in other digits": refused(post(b"Content-Length: \xd9\xa3", body=b"abc")),
    "CL with NUL": refused(post(b"Content-Length: 3\0", body=b"abc")),
    "CL with a space before the colon": refused(post(b"Content-Length : 3", body=b"abc")),
    "CL with an underscore in its name": passes(
        post(b"Content_Length: 9", b"Content-Length: 3", body=b"abc"), counted(b"abc")),
    "a body that breaks off": Case(
        post(b"Content-Length: 100", body=b"abc"), (),
        begins=onward(b"content-length: 100", method=b"POST"), hangs_up=True),
    "a chunked body that breaks off": Case(
        chunked(b"5\r\nhel"), (), begins=CHUNKED_HEAD, hangs_up=True),
    "a chunked body without its last chunk": Case(
        chunked(b"5\r\nhello\r\n"), (), begins=CHUNKED_HEAD, hangs_up=True),
    "a chunked body without its last line": Case(
        chunked(b"5\r\nhello\r\n0\r\n"), (), begins=CHUNKED_HEAD, hangs_up=True),
    "a head that breaks off": Case(b"GET /@@ HTTP/1.1\r\nHost: a.te", (), hangs_up=True),
    # §7.1: chunks
    "small and large hexadecimal": passes(
        chunked(b"0a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n"), in_chunks(b"0123456789" * 2)),
    "a chunk extension": passes(chunked(b'5;a="b;c";d\r\nhello\r\n0;e\r\n\r\n'), in_chunks(b"hello")),
    "a trailer": passes(
        chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), in_chunks(b"hello", b"x-sum: 1\r\n")),
    "chunk size with a plus": refused_within(chunked(b"+5\r\nhello\r\n0\r\n\r\n")),
    "chunk size with a minus": refused_within(chunked(b"-5\r\nhello\r\n0\r\n\r\n")),
    "chunk size with 0x": refused_within(chunked(b"0x5\r\nhello\r\n0\r\n\r\n")),
    "chunk size with an underscore": refused_within(chunked(b"0_5\r\nhello\r\n0\r\n\r\n")),
    "chunk size behind a space": refused_within(chunked(b" 5\r\nhello\r\n0\r\n\r\n")),
    "chunk size before a space": refused_within(chunked(b"5 \r\nhello\r\n0\r\n\r\n")),
    "chunk size before a tab": refused_within(chunked(b"5\t\r\nhello\r\n0\r\n\r\n")),
    "chunk size with h": refused_within(chunked(b"5h\r\nhello\r\n0\r\n\r\n")),
    "chunk size with a fraction": refused_within(chunked(b"5.0\r\nhello\r\n0\r\n\r\n")),
    "chunk size in other digits": refused_within(chunked(b"\xd9\xa5\r\nhello\r\n0\r\n\r\n")),
    "chunk size of 17 digits": refused_within(chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n")),
    "chunk size of 2**64": refused_within(chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n")),
    "chunk size of 2**64 - 1": refused_within(chunked(b"ffffffffffffffff\r\nhello")),
    "chunk size of 2**32 and 5": Case(
        chunked(b"100000005\r\nhello\r\n0\r\n\r\n"), (), begins=CHUNKED_HEAD, hangs_up=True),
    "empty chunk size": refused_within(chunked(b"\r\nhello\r\n0\r\n\r\n")),
    "chunk line ends in LF": refused_within(chunked(b"5\nhello\r\n0\r\n\r\n")),
    "chunk line ends in CR": refused_within(chunked(b"5\rhello\r\n0\r\n\r\n")),
    "chunk line ends in CR CR LF": refused_within(chunked(b"5\r\r\nhello\r\n0\r\n\r\n")),
    "last chunk line ends in LF": refused_within(chunked(b"5\r\nhello\r\n0\n\n")),
    "chunk data longer than its size": refused_within(chunked(b"5\r\nhello!\r\n0\r\n\r\n")),
    "chunk data shorter than its size": refused_within(chunked(b"6\r\nhello\r\n0\r\n\r\n")),
    "chunk data ends in LF": refused_within(chunked(b"5\r\nhello\n0\r\n\r\n")),
    "chunk data ends in two other bytes": refused_within(chunked(b"5\r\nhelloXX0\r\n\r\n")),
    "chunk extension with CR": refused_within(chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    "chunk extension with LF": refused_within(chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n")),
    "chunk extension with NUL": refused_within(chunked(b"5;a\0\r\nhello\r\n0\r\n\r\n")),
    "chunk extension with an open quote": refused_within(chunked(b'5;a="b\r\nhello\r\n0\r\n\r\n')),
    "chunk extension with a quoted CRLF": refused_within(
        chunked(b'5;a="\r\nhello\r\n0\r\n\r\n"\r\nhello\r\n0\r\n\r\n')),
    "chunk extension without a name": refused_within(chunked(b"5;\r\nhello\r\n0\r\n\r\n")),
    "chunk extensions with white space": passes(
        chunked(b'5 ;a\t= "b" ; c =d\r\nhello\r\n0\t; e\r\n\r\n'), in_chunks(b"hello")),
    "chunk extension before a space": refused_within(chunked(b"5;a \r\nhello\r\n0\r\n\r\n")),
    "chunk extension of 300 bytes": refused_within(
        chunked(b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n")),
    "chunk extension of 15 kB": refused_within(
        chunked(b"5;" + b"a" * 15_000 + b"\r\nhello\r\n0\r\n\r\n")),
    "a flood of tiny chunks": refused_within(chunked(b"1\r\nx\r\n" * 9000)),
    "trailer Content-Length": refused_within(chunked(b"0\r\nContent-Length: 5\r\n\r\n")),
    "trailer Transfer-Encoding": refused_within(chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    "trailer Host": refused_within(chunked(b"0\r\nHost: b.test\r\n\r\n")),
    "trailer Authorization": refused_within(chunked(b"0\r\nAuthorization: Basic x\r\n\r\n")),
    "trailer Cookie": refused_within(chunked(b"0\r\nCookie: a=b\r\n\r\n")),
    "trailer X-Forwarded-For": refused_within(chunked(b"0\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")),
    "trailer X-Forwarded-Prefix": refused_within(chunked(b"0\r\nX-Forwarded-Prefix: /a\r\n\r\n")),
    "trailer Client-Cert": refused_within(chunked(b"0\r\nClient-Cert: :AAAA:\r\n\r\n")),
    "trailer with an underscore": refused_within(chunked(b"0\r\nContent_Length: 5\r\n\r\n")),
    "trailer Connection": refused_within(chunked(b"0\r\nConnection: x\r\n\r\n")),
    "trailer folded": refused_within(chunked(b"0\r\nX: a\r\n b\r\n\r\n")),
    "trailer with a space before the colon": refused_within(chunked(b"0\r\nX : a\r\n\r\n")),
    "trailer with a bare CR": refused_within(chunked(b"0\r\nX: a\rb\r\n\r\n")),
    "trailer with NUL": refused_within(chunked(b"0\r\nX: a\0b\r\n\r\n")),
    "forty trailers": refused_within(chunked(b"0\r\n" + b"X: y\r\n" * 40 + b"\r\n")),
    "trailers of 10 KiB": refused_within(chunked(b"0\r\nX: " + b"y" * 10_240 + b"\r\n\r\n")),
    # §9.3, §9.6, §11.2: what stands behind a message
    "leftovers of a body are the next request": Case(
        post(b"Content-Length: 3", body=b"abc(ef"), (200, 400), (counted(b"abc"),)),
    "leftovers of chunks are the next request": Case(
        chunked(b"3\r\nabc\r\n0\r\n\r\nX"), (200,), (in_chunks(b"abc"),), hangs_up=True),
    "a good one behind a chunked one": passes(
        chunked(b"3\r\nabc\r\n0\r\n\r\n") + request(target=b"/@@/2"),
        in_chunks(b"abc"), onward(target=b"/@@/2")),
    "a bad one behind a good one": Case(
        request() + request(b"X : a"), (200, 400), (GOOD,)),
    "what comes behind close is not read": Case(
        request(b"Connection: close") + request(target=b"/@@/2"), (200,), (GOOD,)),
    "close among others": passes(request(b"Connection: x-y, CLOSE", b"X-Y: 1"), GOOD, stays=False),
    "thirty pipelined": passes(request() * 30, *[GOOD] * 30),
    # RFC 9110 §7.6: one hop only
    "hop-by-hop fields stay behind": passes(
        request(b"Connection: keep-alive, X-Mine", b"Keep-Alive: timeout=9", b"X-Mine: 1",
                b"TE: trailers, gzip", b"Proxy-Authorization: Basic x", b"Proxy-Connection: close",
                b"Trailer: x", b"X-Kept: 1"),
        onward(b"connection: te", b"te: trailers", b"x-kept: 1")),
    "Proxy": passes(request(b"Proxy: http://evil.example:1"), GOOD),
    "Connection names Host": refused(request(b"Connection: host")),
    "Connection names Content-Length": refused(
        post(b"Content-Length: 3", b"Connection: content-length", body=b"abc")),
    "Connection names Authorization": refused(
        request(b"Authorization: Basic x", b"Connection: authorization")),
    "Connection names what we add": passes(
        request(b"Connection: x-forwarded-for, via, x-request-id, forwarded, x-forwarded-proto"), GOOD),
    "Connection is no list": refused(request(b"Connection: a b")),
    "Connection with a quote": refused(request(b'Connection: "close"')),
    "forwarding fields of one's own": passes(
        request(b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: http",
                b"X-Forwarded-Host: evil.example", b"Forwarded: for=10.0.0.1", b"X-Real-IP: 10.0.0.1",
                b"X-Forwarded-Port: 1", b"Client-Cert: :eA==:"), GOOD),
    "forwarding fields with underscores": passes(
        request(b"X_Forwarded_For: 10.0.0.1", b"x-forwarded_proto: http", b"Client_Cert: :eA==:",
                b"X_Real-IP: 10.0.0.1"), GOOD),
    "a request id that is none": passes(request(b"X-Request-Id: a b\xff"), GOOD),
    "a request id of a kilobyte": passes(request(b"X-Request-Id: " + b"a" * 1000), GOOD),
    # RFC 9110 §7.8: Upgrade
    "h2c": passes(
        request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        GOOD),
    "h2c among others": passes(request(b"Connection: Upgrade", b"Upgrade: websocket, h2c"), GOOD),
    "h2c in capitals": passes(request(b"Connection: upgrade", b"Upgrade: H2C"), GOOD),
    "two Upgrade lines": passes(
        request(b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: h2c"), GOOD),
    "Upgrade without Connection": passes(request(b"Upgrade: websocket"), GOOD),
    "Upgrade with a body": passes(
        post(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 3", body=b"abc"),
        counted(b"abc")),
    "Upgrade in HTTP/1.0": passes(
        request(b"Connection: upgrade, keep-alive", b"Upgrade: websocket", version=b"HTTP/1.0"), GOOD),
    # RFC 9110 §10.1.1: Expect
    "another expectation": Case(request(b"Expect: miracles"), (417,), stays=False),
    "two expectations": Case(
        request(b"Expect: 100-continue", b"Expect: 100-continue"), (417,), stays=False),
    "Expect in HTTP/1.0": passes(
        request(b"Expect: 100-continue", b"Content-Length: 3", b"Connection: keep-alive",
                method=b"POST", version=b"HTTP/1.0", body=b"abc"), counted(b"abc")),
}  # fmt: skip
