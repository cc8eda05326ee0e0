"""What HTTP/2 can say, and what of it may reach a backend that speaks HTTP/1.1.

The table of requests of HTTP/1.1 (`conformance.requests`), as far as HTTP/2 has words for it, and what
only HTTP/2 can say: line ends in names, lengths that are said twice, cookies in crumbs. ``@@`` stands
for the case's tag.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from conformance.h2.cases import MALFORMED
from conformance.requests import CHUNKED_HEAD, counted, in_chunks, onward
from support.h2_peer import data, frame, headers, literal

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Case:
    """``fields`` and then ``body``, frames made with the stream's number. ``reaches``: what a backend
    must hear, and nothing else; ``begins``: the head that it may hear begin, and never whole.
    ``status`` 0: the stream is reset."""

    fields: Fields
    reaches: bytes | None = None
    status: int = 0
    body: tuple[tuple[bytes, bool] | Fields, ...] = ()
    begins: bytes = b""

    def frames(self, stream: int, tag: int) -> list[bytes]:
        fields = [(name, tagged(value, tag)) for name, value in self.fields]
        made = [headers(stream, fields, end=not self.body)]
        for piece in self.body:
            if isinstance(piece, list):
                made.append(frame(1, 5, stream, literal(piece)))
            else:
                made.append(data(stream, tagged(piece[0], tag), piece[1]))
        return made


def tagged(text: bytes, tag: int) -> bytes:
    return text.replace(b"@@", b"@%d@" % tag)


def get(
    *more: tuple[bytes, bytes],
    method: bytes = b"GET",
    target: bytes = b"/@@",
    authority: bytes = b"a.test",
) -> Fields:
    return [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", authority),
        (b":path", target),
        *more,
    ]


def post(*more: tuple[bytes, bytes]) -> Fields:
    return get(*more, method=b"POST")


def passes(fields: Fields, reaches: bytes, *body: tuple[bytes, bool] | Fields) -> Case:
    return Case(fields, reaches, 200, body)


def _of_a_test(fields: Fields) -> Fields:
    """A case of `cases`, so that it could reach a backend."""
    spelt = {b"a.example": b"a.test", b"/": b"/@@"}
    return [
        (name, spelt.get(value, value.replace(b"a.example", b"a.test"))) for name, value in fields
    ]


SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"

CASES: dict[str, Case] = {
    name: Case(_of_a_test(fields), None, 0, () if end else ((b"hello", True),))
    for name, (fields, end) in MALFORMED.items()
}
CASES |= {
    # What passes, and in which form
    "a plain request": passes(get(), onward()),
    "a query as browsers leave it": passes(get(target=b'/@@?a=b|c{d}^"<>'), onward(target=b'/@@?a=b|c{d}^"<>')),
    "a second slash is kept": passes(get(target=b"/@@//b"), onward(target=b"/@@//b")),
    "percent-encoding is kept": passes(get(target=b"/@@%2F%0d%0a"), onward(target=b"/@@%2F%0d%0a")),
    "a method of one's own": passes(get(method=b"PURGE"), onward(method=b"PURGE")),
    "HEAD": passes(get(method=b"HEAD"), onward(method=b"HEAD")),
    "bytes beyond ASCII in a value": passes(get((b"x", b"\xc3\xa9")), onward(b"x: \xc3\xa9")),
    "a tab within a value": passes(get((b"x", b"a\tb")), onward(b"x: a\tb")),
    "an empty value": passes(get((b"x", b"")), onward(b"x: ")),
    "a name twice": passes(get((b"x", b"1"), (b"x", b"2")), onward(b"x: 1", b"x: 2")),
    "cookies in crumbs": passes(get((b"cookie", b"a=1"), (b"cookie", b"b=2")), onward(b"cookie: a=1; b=2")),
    "Host beside :authority": passes(get((b"host", b"a.test")), onward()),
    "Host in other letters": passes(get((b"host", b"A.TEST")), onward()),
    "Host alone": passes([get()[0], get()[1], get()[3], (b"host", b"a.test")], onward()),
    "TE: trailers": passes(get((b"te", b"trailers")), onward(b"connection: te", b"te: trailers")),
    "Expect of a client that does not wait": passes(
        post((b"content-length", b"3"), (b"expect", b"100-continue")), counted(b"abc", b"expect: 100-continue"), (b"abc", True)),
    # Bodies: what the backend hears has the length that it says
    "a body with its length": passes(post((b"content-length", b"3")), counted(b"abc"), (b"abc", True)),
    "a body without": passes(post(), counted(b"abc"), (b"abc", True)),
    "an empty body": passes(post(), counted(b""), (b"", True)),
    "a body that looks like a request": passes(post(), counted(SMUGGLED), (SMUGGLED, True)),
    "a body that looks like a chunk, with its length": passes(
        post((b"content-length", b"%d" % len(SMUGGLED))), counted(SMUGGLED), (SMUGGLED, True)),
    "a body with trailers": passes(post(), in_chunks(b"abc", b"sum: 1\r\n"), (b"abc", False), [(b"sum", b"1")]),
    "GET with a body": passes(get(), counted(b"abc", method=b"GET"), (b"abc", True)),
    "a body longer than it says": Case(post((b"content-length", b"3")), None, 0, ((b"abcGET /@@/smuggled HTTP/1.1\r\n\r\n", True),), begins=counted(b"")),
    "a body shorter than it says": Case(post((b"content-length", b"5")), None, 0, ((b"abc", True),), begins=counted(b"")),
    "trailers with line ends": Case(post(), None, 0, ((b"abc", False), [(b"a", b"b\r\n\r\nGET /@@/smuggled HTTP/1.1")]), begins=CHUNKED_HEAD),
    "trailers that frame": Case(post(), None, 0, ((b"abc", False), [(b"content-length", b"0")]), begins=CHUNKED_HEAD),
    # What is answered here
    "CONNECT": Case([(b":method", b"CONNECT"), (b":authority", b"a.test:443")], None, 405),
    "TRACE": Case(get(method=b"TRACE"), None, 405),
    "another site's host": Case(get(authority=b"b.test"), None, 421),
    "nobody's host": Case(get(authority=b"nobody.test"), None, 421),
    "a target too long": Case(get(target=b"/@@" + b"x" * 9000), None, 414),
    "too many fields": Case(get(*[(b"x", b"y")] * 101), None, 431),
    "Expect of something else": Case(get((b"expect", b"99")), None, 417),
}  # fmt: skip
# The body of a request whose length is not known beforehand goes on as it comes.
for _name in ("a body longer than it says", "a body shorter than it says"):
    _length = dict(CASES[_name].fields)[b"content-length"]
    CASES[_name] = replace(
        CASES[_name], begins=onward(b"content-length: " + _length, method=b"POST")
    )
