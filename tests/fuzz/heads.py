"""Request heads for the comparison of the lane with the strict layer and h11: how they are made,
and what "the same" means."""

from __future__ import annotations

from hypothesis import strategies as st

from proxy.config.model import Limits
from proxy.errors import Fault
from proxy.protocol.h1 import strict_parser
from proxy.protocol.h1.fast_parser import FastParser
from proxy.protocol.message import Connection, Request

LIMITS = Limits(header_size=4096, target_size=512, header_count=20)

_METHODS = st.sampled_from(
    [b"GET", b"HEAD", b"POST", b"PUT", b"get", b"OPTIONS", b"TRACE", b"CONNECT", b"PURGE", b"G(T"]
)
_TARGETS = st.one_of(
    st.sampled_from([b"/", b"/a?b", b"*", b"http://x.test/", b"//x", b"/a#b", b"a", b"", b"/a b"]),
    st.binary(min_size=0, max_size=30).map(lambda tail: b"/" + tail),
    st.integers(500, 520).map(lambda n: b"/" + b"a" * n),
)
_VERSIONS = st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.1", b"1.0", b"0.9", b"2.0", b"1.10", b""])
_SPACES = st.sampled_from([b"", b" ", b"  ", b"\t", b" \t "])
_NAMES = st.one_of(
    st.sampled_from(
        [b"Accept", b"User-Agent", b"COOKIE", b"Cookie", b"Authorization", b"Connection", b"Range",
         b"Content-Length", b"Transfer-Encoding", b"Expect", b"Upgrade", b"Host", b"TE", b"X-Y",
         b"X_Y", b"Accept-Encoding", b"Trailer", b"X Y", b"X\tY", b"", b"X:", b"Proxy"]
    ),
    st.binary(min_size=0, max_size=6),
)  # fmt: skip
_VALUES = st.one_of(
    st.sampled_from(
        [b"", b"a", b"0", b"3", b"03", b"+3", b"3, 3", b"9" * 18, b"9" * 19, b"chunked", b"Chunked",
         b"gzip", b"close", b"keep-alive", b"Keep-Alive", b"upgrade", b"keep-alive, close", b"host",
         b"100-continue", b"websocket", b"h2c", b"x.test", b"X.Test:443", b"x.test,y", b"[::1]",
         b"caf\xc3\xa9", b"a\x7f", b"a\0b", b"a\rb", b"a\nb", b"a\tb", b"a" * 300]
    ),
    st.binary(max_size=20),
)  # fmt: skip
_ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n", b"\r\n "])
_LINE = st.tuples(_NAMES, st.just(b":"), _SPACES, _VALUES, _SPACES, _ENDS).map(b"".join)
_GOOD_LINE = st.sampled_from(
    [b"Accept: */*\r\n", b"User-Agent: hypothesis\r\n", b"accept: */*\r\n", b"Cookie: a=b\r\n",
     b"Content-Length: 3\r\n", b"Connection: keep-alive\r\n", b"Cache-Control: no-cache\r\n",
     b"Range: bytes=0-1\r\n", b"DNT:1\r\n", b"Accept-Encoding: gzip \r\n"]
)  # fmt: skip
_HOST_LINE = st.sampled_from(
    [b"Host: x.test\r\n", b"HOST: X.test:8443\r\n", b"Host: [::1]\r\n", b"Host:x.test\r\n",
     b"Host: \r\n", b"Host: x test\r\n", b"Host: x.test.\r\n", b""]
)  # fmt: skip


def _head(method: bytes, target: bytes, version: bytes, host: bytes, lines: list[bytes]) -> bytes:
    return b"%b %b HTTP/%b\r\n%b%b\r\n" % (method, target, version, host, b"".join(lines))


structured = st.builds(
    _head,
    _METHODS,
    _TARGETS,
    _VERSIONS,
    _HOST_LINE,
    st.lists(st.one_of(_GOOD_LINE, _GOOD_LINE, _LINE), max_size=22),
)
plain = st.builds(
    _head,
    st.sampled_from([b"GET", b"POST"]),
    st.sampled_from([b"/", b"/a?b=c", b"/%41"]),
    st.just(b"1.1"),
    st.just(b"Host: x.test\r\n"),
    st.lists(_GOOD_LINE, max_size=8),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good head with a few bytes changed, put in or taken out."""
    head = bytearray(draw(plain))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(head) - 1))
        match draw(st.sampled_from(["set", "insert", "delete", "repeat"])):
            case "set":
                head[at] = draw(st.integers(0, 255))
            case "insert":
                head.insert(at, draw(st.sampled_from(list(b"\r\n\t :,;\0\x7f\x80a0"))))
            case "delete" if len(head) > 1:
                del head[at]
            case _:
                head[at:at] = head[at : at + 10]
    return bytes(head)


@st.composite
def kindred(draw: st.DrawFn) -> list[bytes]:
    """Heads of one client: the same lines, but for those in two places that vary."""
    before, between, after = (draw(st.lists(_GOOD_LINE, max_size=3)) for _ in range(3))
    vary = st.lists(st.one_of(_GOOD_LINE, _GOOD_LINE, _HOST_LINE, _LINE), max_size=2)
    host = b"Host: x.test\r\n"
    return [
        _head(b"GET", target, b"1.1", host, [*before, *draw(vary), *between, *draw(vary), *after])
        for target in draw(st.lists(_TARGETS, min_size=3, max_size=6))
    ]


def cut(data: bytes) -> bytes | None:
    """The first complete head of ``data``, as the reader would cut it off."""
    end = data.find(strict_parser.HEAD_END)
    return None if end < 0 else data[: end + 4]


Outcome = tuple[object, ...]


def strictly(head: bytes, connection: Connection) -> Outcome:
    """What the strict layer and h11 make of a head, in a form that can be compared."""
    try:
        request, length, close, _judge = strict_parser.parse(head, connection, LIMITS)
    except Fault as fault:
        return ("refused", fault.kind)
    return _facts(request, length, close)


def quickly(lane: FastParser, head: bytes, connection: Connection) -> Outcome | None:
    """The same of the lane; None when it declines."""
    parsed = lane.parse(head, connection)
    if parsed is None:
        return None
    request, length, close, judge = parsed
    assert judge is None
    return _facts(request, length, close)


def _facts(request: Request, length: int, close: bool) -> Outcome:
    return (
        request.method,
        request.target,
        request.path,
        request.query,
        request.version,
        request.authority,
        request.host,
        tuple(request.fields),
        request.upgrade,
        request.expects_continue,
        length,
        close,
    )
