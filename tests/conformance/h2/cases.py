"""What RFC 9113 and RFC 7541 say of frames that come at the wrong moment, of the wrong size, or with the
wrong contents: bytes in, and what has to come of them.

``frames`` are sent behind a preface and an empty SETTINGS (unless ``hello`` says otherwise), each as a
read of its own. Streams 1 to 99 belong to the case; afterwards a canary is asked for on stream 101.
"""

from __future__ import annotations

from dataclasses import dataclass

from support.h2_peer import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    GOAWAY,
    HEADERS,
    HELLO,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    PRIORITY_UPDATE,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    data,
    frame,
    headers,
    literal,
    long,
    rst,
    settings,
    string,
    window_update,
)


@dataclass(frozen=True)
class Expected:
    """``what``: connection (ends, with one of ``codes``), stream (is reset, likewise), ignored (nothing
    comes of it), request (a request is seen)."""

    what: str
    codes: frozenset[int] = frozenset()


def connection(*codes: int) -> Expected:
    return Expected("connection", frozenset(codes))


def stream(*codes: int) -> Expected:
    return Expected("stream", frozenset(codes))


IGNORED = Expected("ignored")
REQUEST = Expected("request")


@dataclass(frozen=True)
class Case:
    name: str
    frames: tuple[bytes, ...]
    expected: Expected
    hello: bytes = HELLO
    # The engine's answer to stream 1, once it has been asked: None or a complete one.
    answered: bool = False


BLOCK = literal(GET)
OPEN = headers(1, POST, end=False)
WHOLE = headers(1, GET)


def _frames(*pieces: bytes) -> tuple[bytes, ...]:
    return pieces


def _with(*more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [*GET, *more]


def _priority(parent: int) -> bytes:
    return long(parent) + b"\x10"


# fmt: off
PREFACES = [
    Case("a preface of something else", (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",), connection(PROTOCOL_ERROR), b""),
    Case("a preface with a wrong last byte", (PREFACE[:-1] + b"x" + settings(),), connection(PROTOCOL_ERROR), b""),
    Case("no SETTINGS first but PING", (PREFACE + frame(PING, 0, 0, bytes(8)),), connection(PROTOCOL_ERROR), b""),
    Case("no SETTINGS first but HEADERS", (PREFACE + WHOLE,), connection(PROTOCOL_ERROR), b""),
    Case("the preface byte by byte", (*(bytes([one]) for one in PREFACE + settings()), WHOLE), REQUEST, b""),
]

SIZES = [
    Case("DATA above MAX_FRAME_SIZE", (OPEN, data(1, bytes(16385))), connection(FRAME_SIZE_ERROR)),
    Case("HEADERS above MAX_FRAME_SIZE", (frame(HEADERS, END_HEADERS, 1, bytes(16385)),), connection(FRAME_SIZE_ERROR)),
    Case("a length of 16 MiB", (frame(DATA, 0, 1, b"", length=(1 << 24) - 1),), connection(FRAME_SIZE_ERROR)),
    Case("DATA of just MAX_FRAME_SIZE", (OPEN, data(1, bytes(16384))), REQUEST),
    Case("PRIORITY of 4 bytes", (frame(PRIORITY, 0, 1, bytes(4)),), connection(FRAME_SIZE_ERROR)),
    Case("PRIORITY of 6 bytes", (frame(PRIORITY, 0, 1, bytes(6)),), connection(FRAME_SIZE_ERROR)),
    Case("RST_STREAM of 3 bytes", (OPEN, frame(RST_STREAM, 0, 1, bytes(3))), connection(FRAME_SIZE_ERROR)),
    Case("RST_STREAM of 5 bytes", (OPEN, frame(RST_STREAM, 0, 1, bytes(5))), connection(FRAME_SIZE_ERROR)),
    Case("SETTINGS of 5 bytes", (frame(SETTINGS, 0, 0, bytes(5)),), connection(FRAME_SIZE_ERROR)),
    Case("SETTINGS of 7 bytes", (frame(SETTINGS, 0, 0, bytes(7)),), connection(FRAME_SIZE_ERROR)),
    Case("SETTINGS with ACK and a payload", (frame(SETTINGS, ACK, 0, bytes(6)),), connection(FRAME_SIZE_ERROR)),
    Case("PING of 7 bytes", (frame(PING, 0, 0, bytes(7)),), connection(FRAME_SIZE_ERROR)),
    Case("PING of 9 bytes", (frame(PING, 0, 0, bytes(9)),), connection(FRAME_SIZE_ERROR)),
    Case("GOAWAY of 7 bytes", (frame(GOAWAY, 0, 0, bytes(7)),), connection(FRAME_SIZE_ERROR)),
    Case("WINDOW_UPDATE of 3 bytes", (frame(WINDOW_UPDATE, 0, 0, bytes(3)),), connection(FRAME_SIZE_ERROR)),
    Case("WINDOW_UPDATE of 5 bytes", (frame(WINDOW_UPDATE, 0, 0, bytes(5)),), connection(FRAME_SIZE_ERROR)),
    Case("PRIORITY_UPDATE of 3 bytes", (frame(PRIORITY_UPDATE, 0, 0, bytes(3)),), connection(FRAME_SIZE_ERROR)),
    Case("HEADERS with PRIORITY and 4 bytes", (frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, bytes(4)),), connection(FRAME_SIZE_ERROR, PROTOCOL_ERROR)),
]

STREAM_NUMBERS = [
    Case("DATA on stream 0", (data(0, b"x"),), connection(PROTOCOL_ERROR)),
    Case("HEADERS on stream 0", (headers(0, GET),), connection(PROTOCOL_ERROR)),
    Case("PRIORITY on stream 0", (frame(PRIORITY, 0, 0, bytes(5)),), connection(PROTOCOL_ERROR)),
    Case("RST_STREAM on stream 0", (rst(0),), connection(PROTOCOL_ERROR)),
    Case("CONTINUATION on stream 0", (frame(HEADERS, 0, 1, BLOCK), frame(CONTINUATION, END_HEADERS, 0)), connection(PROTOCOL_ERROR)),
    Case("SETTINGS on stream 1", (frame(SETTINGS, 0, 1),), connection(PROTOCOL_ERROR)),
    Case("PING on stream 1", (frame(PING, 0, 1, bytes(8)),), connection(PROTOCOL_ERROR)),
    Case("GOAWAY on stream 1", (frame(GOAWAY, 0, 1, bytes(8)),), connection(PROTOCOL_ERROR)),
    Case("PRIORITY_UPDATE on stream 1", (frame(PRIORITY_UPDATE, 0, 1, long(1)),), connection(PROTOCOL_ERROR)),
    Case("PRIORITY_UPDATE of stream 0", (frame(PRIORITY_UPDATE, 0, 0, long(0) + b"u=1"),), connection(PROTOCOL_ERROR)),
    Case("HEADERS on an even stream", (headers(2, GET),), connection(PROTOCOL_ERROR)),
    Case("a number below the last one", (headers(5, GET), headers(3, GET)), connection(PROTOCOL_ERROR, STREAM_CLOSED)),
    Case("a number that is used again", (WHOLE, headers(1, GET)), connection(STREAM_CLOSED, PROTOCOL_ERROR), answered=True),
    Case("the reserved bit of a stream", (frame(HEADERS, END_HEADERS | END_STREAM, 1 | 1 << 31, BLOCK),), REQUEST),
    Case("PUSH_PROMISE", (OPEN, frame(PUSH_PROMISE, END_HEADERS, 1, long(2) + BLOCK)), connection(PROTOCOL_ERROR)),
]

PADDING = [
    Case("DATA with padding", (OPEN, frame(DATA, PADDED | END_STREAM, 1, b"\x03abc" + bytes(3))), REQUEST),
    Case("DATA that is all padding", (OPEN, frame(DATA, PADDED | END_STREAM, 1, b"\x03" + bytes(3))), REQUEST),
    Case("DATA with more padding than payload", (OPEN, frame(DATA, PADDED, 1, b"\x04abc")), connection(PROTOCOL_ERROR)),
    Case("DATA with as much padding as payload", (OPEN, frame(DATA, PADDED, 1, b"\x03ab")), connection(PROTOCOL_ERROR)),
    Case("DATA with PADDED and no payload", (OPEN, frame(DATA, PADDED, 1)), connection(FRAME_SIZE_ERROR, PROTOCOL_ERROR)),
    Case("HEADERS with padding", (frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, b"\x05" + BLOCK + bytes(5)),), REQUEST),
    Case("HEADERS with padding and priority", (frame(HEADERS, PADDED | WITH_PRIORITY | END_HEADERS | END_STREAM, 1, b"\x05" + _priority(0) + BLOCK + bytes(5)),), REQUEST),
    Case("HEADERS with more padding than payload", (frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, b"\xff" + BLOCK),), connection(PROTOCOL_ERROR)),
]

UNKNOWN = [
    Case("an unknown type on stream 0", (frame(99, 255, 0, b"whatever"),), IGNORED),
    Case("an unknown type on an open stream", (OPEN, frame(99, 255, 1, b"whatever")), REQUEST),
    Case("unknown flags", (frame(HEADERS, END_HEADERS | END_STREAM | 0xD2 & ~(PADDED | WITH_PRIORITY), 1, BLOCK),), REQUEST),
    Case("unknown settings", (settings((0xFFFF, 5), (0x99, 1)),), IGNORED),
    Case("a PING with an ACK that nobody asked for", (frame(PING, ACK, 0, bytes(8)),), IGNORED),
    Case("GOAWAY with text", (frame(GOAWAY, 0, 0, long(0) + long(0) + b"bye"),), IGNORED),
    Case("GOAWAY with an unknown code", (frame(GOAWAY, 0, 0, long(0) + long(0xFFFFFFFF)),), IGNORED),
    Case("RST_STREAM with an unknown code", (OPEN, rst(1, 0xFFFFFFFF)), REQUEST),
]

STATES = [
    Case("DATA on an idle stream", (data(1, b"x"),), connection(PROTOCOL_ERROR)),
    Case("RST_STREAM on an idle stream", (rst(1),), connection(PROTOCOL_ERROR)),
    Case("WINDOW_UPDATE on an idle stream", (window_update(1, 1),), connection(PROTOCOL_ERROR)),
    Case("PRIORITY on an idle stream", (frame(PRIORITY, 0, 3, _priority(0)),), IGNORED),
    Case("CONTINUATION on an idle stream", (frame(CONTINUATION, END_HEADERS, 1, BLOCK),), connection(PROTOCOL_ERROR)),
    Case("DATA on a half-closed stream", (WHOLE, data(1, b"x")), stream(STREAM_CLOSED)),
    Case("HEADERS on a half-closed stream", (WHOLE, headers(1, GET)), stream(STREAM_CLOSED)),
    Case("CONTINUATION on a half-closed stream", (WHOLE, frame(CONTINUATION, END_HEADERS, 1, BLOCK)), connection(PROTOCOL_ERROR)),
    Case("WINDOW_UPDATE on a half-closed stream", (WHOLE, window_update(1, 5)), REQUEST),
    Case("PRIORITY on a half-closed stream", (WHOLE, frame(PRIORITY, 0, 1, _priority(0))), REQUEST),
    Case("RST_STREAM on a half-closed stream", (WHOLE, rst(1)), REQUEST),
    Case("DATA on an ended stream", (WHOLE, data(1, b"x")), connection(STREAM_CLOSED), answered=True),
    Case("HEADERS on an ended stream", (WHOLE, headers(1, GET)), connection(STREAM_CLOSED, PROTOCOL_ERROR), answered=True),
    Case("CONTINUATION on an ended stream", (WHOLE, frame(CONTINUATION, END_HEADERS, 1, BLOCK)), connection(STREAM_CLOSED, PROTOCOL_ERROR), answered=True),
    Case("WINDOW_UPDATE on an ended stream", (WHOLE, window_update(1, 5)), REQUEST, answered=True),
    Case("RST_STREAM on an ended stream", (WHOLE, rst(1)), REQUEST, answered=True),
    Case("PRIORITY on an ended stream", (WHOLE, frame(PRIORITY, 0, 1, _priority(0))), REQUEST, answered=True),
    Case("DATA behind a RST_STREAM of the client", (OPEN, rst(1), data(1, b"x")), stream(STREAM_CLOSED)),
    Case("HEADERS behind a RST_STREAM of the client", (OPEN, rst(1), headers(1, GET)), stream(STREAM_CLOSED)),
    Case("a second RST_STREAM of the client", (OPEN, rst(1), rst(1)), REQUEST),
    Case("WINDOW_UPDATE behind a RST_STREAM of the client", (OPEN, rst(1), window_update(1, 9)), REQUEST),
    Case("a stream that depends on itself", (frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, _priority(1) + BLOCK),), stream(PROTOCOL_ERROR)),
    Case("trailers that depend on themselves", (headers(1, POST, end=False), frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, _priority(1) + literal([(b"sum", b"1")]))), stream(PROTOCOL_ERROR)),
    Case("PRIORITY that depends on itself", (frame(PRIORITY, 0, 1, _priority(1)),), connection(PROTOCOL_ERROR)),
    Case("numbers that are passed over", (headers(1, GET), headers(99, GET)), REQUEST),
    Case("DATA on a number that was passed over", (headers(9, GET), data(3, b"x")), connection(STREAM_CLOSED, PROTOCOL_ERROR)),
]

CONTINUATIONS = [
    Case("a block in three frames", (frame(HEADERS, END_STREAM, 1, BLOCK[:5]), frame(CONTINUATION, 0, 1, BLOCK[5:9]), frame(CONTINUATION, END_HEADERS, 1, BLOCK[9:])), REQUEST),
    Case("an empty CONTINUATION at the end", (frame(HEADERS, END_STREAM, 1, BLOCK), frame(CONTINUATION, END_HEADERS, 1)), REQUEST),
    Case("another stream's CONTINUATION", (frame(HEADERS, END_STREAM, 1, BLOCK[:5]), frame(CONTINUATION, END_HEADERS, 3, BLOCK[5:])), connection(PROTOCOL_ERROR)),
    Case("HEADERS within a block", (frame(HEADERS, END_STREAM, 1, BLOCK[:5]), headers(3, GET)), connection(PROTOCOL_ERROR)),
    Case("PRIORITY within a block", (frame(HEADERS, END_STREAM, 1, BLOCK[:5]), frame(PRIORITY, 0, 1, _priority(0))), connection(PROTOCOL_ERROR)),
    Case("PING within a block", (frame(HEADERS, END_STREAM, 1, BLOCK[:5]), frame(PING, 0, 0, bytes(8))), connection(PROTOCOL_ERROR)),
    Case("an unknown frame within a block", (frame(HEADERS, END_STREAM, 1, BLOCK[:5]), frame(99, 0, 1)), connection(PROTOCOL_ERROR)),
    Case("GOAWAY within a block", (frame(HEADERS, END_STREAM, 1, BLOCK[:5]), frame(GOAWAY, 0, 0, bytes(8))), connection(PROTOCOL_ERROR)),
    Case("PRIORITY_UPDATE within a block", (frame(HEADERS, END_STREAM, 1, BLOCK[:5]), frame(PRIORITY_UPDATE, 0, 0, long(1))), connection(PROTOCOL_ERROR)),
    Case("CONTINUATION behind END_HEADERS", (OPEN, frame(CONTINUATION, END_HEADERS, 1, BLOCK)), connection(PROTOCOL_ERROR)),
    Case("CONTINUATION behind DATA", (OPEN, data(1, b"x"), frame(CONTINUATION, END_HEADERS, 1, BLOCK)), connection(PROTOCOL_ERROR)),
    Case("nine CONTINUATIONs", (frame(HEADERS, END_STREAM, 1, BLOCK), *[frame(CONTINUATION, 0, 1, literal([(b"a", b"b")]))] * 9), connection(ENHANCE_YOUR_CALM)),
]

SETTING = [
    Case("ENABLE_PUSH 2", (settings((2, 2)),), connection(PROTOCOL_ERROR)),
    Case("INITIAL_WINDOW_SIZE 2**31", (settings((4, 1 << 31)),), connection(FLOW_CONTROL_ERROR)),
    Case("MAX_FRAME_SIZE 16383", (settings((5, 16383)),), connection(PROTOCOL_ERROR)),
    Case("MAX_FRAME_SIZE 2**24", (settings((5, 1 << 24)),), connection(PROTOCOL_ERROR)),
    Case("ENABLE_CONNECT_PROTOCOL 2", (settings((8, 2)),), connection(PROTOCOL_ERROR)),
    Case("the extremes that are allowed", (settings((1, 0), (1, (1 << 32) - 1), (2, 0), (2, 1), (3, 0), (4, (1 << 31) - 1), (5, (1 << 24) - 1), (6, 0)),), IGNORED),
    Case("a table of nothing, then a request", (settings((1, 0)), WHOLE), REQUEST),
    Case("a setting twice: the last counts", (settings((4, 1), (4, 65535)), WHOLE), REQUEST),
]

FLOW = [
    Case("WINDOW_UPDATE of 0 on the connection", (window_update(0, 0),), connection(PROTOCOL_ERROR)),
    Case("WINDOW_UPDATE of 0 on a stream", (OPEN, window_update(1, 0)), stream(PROTOCOL_ERROR)),
    Case("the connection's window overflows", (window_update(0, (1 << 31) - 1),), connection(FLOW_CONTROL_ERROR)),
    Case("a stream's window overflows", (OPEN, window_update(1, (1 << 31) - 1)), stream(FLOW_CONTROL_ERROR)),
    Case("INITIAL_WINDOW_SIZE makes a stream's window overflow", (OPEN, window_update(1, (1 << 31) - 1 - 65535), settings((4, 65536))), connection(FLOW_CONTROL_ERROR)),
    Case("the reserved bit of an update", (frame(WINDOW_UPDATE, 0, 0, long(1 << 31 | 5)),), IGNORED),
    Case("DATA beyond the stream's window", (OPEN, *[data(1, bytes(16384))] * 4), stream(FLOW_CONTROL_ERROR)),
    Case("padding counts against the window", (OPEN, *[frame(DATA, PADDED, 1, b"\xff" + bytes(255))] * 1, *[data(1, bytes(16384))] * 3, data(1, bytes(16384 - 255))), stream(FLOW_CONTROL_ERROR)),
    Case("DATA beyond the connection's window", (headers(1, POST, False), headers(3, POST, False), headers(5, POST, False), *[data(n, bytes(16384)) for n in (1, 3, 5) for _ in range(3)]), connection(FLOW_CONTROL_ERROR)),
]

HPACK = [
    Case("index 0", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x80"),), connection(COMPRESSION_ERROR)),
    Case("index 62 of an empty table", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\xbe"),), connection(COMPRESSION_ERROR)),
    Case("a name's index beyond the table", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x7f\x20\x01a"),), connection(COMPRESSION_ERROR)),
    Case("a string beyond the block", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x00\x05ab"),), connection(COMPRESSION_ERROR)),
    Case("an integer without end", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\xff" + b"\xff" * 9 + b"\x01"),), connection(COMPRESSION_ERROR)),
    Case("a block that is cut off", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK[:-3]),), connection(COMPRESSION_ERROR)),
    Case("a larger table than was allowed", (frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xe2\x1f" + BLOCK),), connection(COMPRESSION_ERROR)),
    Case("the table's size at the block's end", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x20"),), connection(COMPRESSION_ERROR)),
    Case("two changes of size at the beginning", (frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x20\x3f\xe1\x1f" + BLOCK),), REQUEST),
    Case("Huffman: padding of eight bits", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x00\x01a\x82\x1f\xff"),), connection(COMPRESSION_ERROR)),
    Case("Huffman: padding of zeros", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x00\x01a\x81\x18"),), connection(COMPRESSION_ERROR)),
    Case("Huffman: EOS", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x00\x01a\x84\xff\xff\xff\xff"),), connection(COMPRESSION_ERROR)),
    Case("Huffman: good padding", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x00\x01a\x81\x1f"),), REQUEST),
    Case("an entry larger than the table", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x40\x01a" + string(b"v" * 5000)), frame(HEADERS, END_HEADERS | END_STREAM, 3, BLOCK)), REQUEST),
    Case("and then what it has evicted", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x40\x01b\x01c\x40\x01a" + string(b"v" * 5000)), frame(HEADERS, END_HEADERS | END_STREAM, 3, BLOCK + b"\xbe")), connection(COMPRESSION_ERROR)),
    Case("a block for a stream that was refused is decoded all the same", (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"\x40\x01B\x01c\x40\x01d\x01e"), frame(HEADERS, END_HEADERS | END_STREAM, 3, BLOCK + b"\xbe")), stream(PROTOCOL_ERROR)),
]

# RFC 9113 §8: what makes a request malformed. To each table of fields, whether it ends the stream.
MALFORMED: dict[str, tuple[list[tuple[bytes, bytes]], bool]] = {
    "an upper-case name": (_with((b"Accept", b"x")), True),
    "an empty name": (_with((b"", b"x")), True),
    "a space in a name": (_with((b"a b", b"x")), True),
    "a colon in a name": (_with((b"a:b", b"x")), True),
    "CRLF in a name": (_with((b"a\r\nb", b"x")), True),
    "LF in a name": (_with((b"a\nb", b"x")), True),
    "NUL in a name": (_with((b"a\0b", b"x")), True),
    "obs-text in a name": (_with((b"a\xffb", b"x")), True),
    "DEL in a name": (_with((b"a\x7fb", b"x")), True),
    "a name that begins with a space": (_with((b" a", b"x")), True),
    "CRLF in a value": (_with((b"a", b"x\r\nb: y")), True),
    "CR in a value": (_with((b"a", b"x\ry")), True),
    "LF in a value": (_with((b"a", b"x\ny")), True),
    "NUL in a value": (_with((b"a", b"x\0y")), True),
    "another control character in a value": (_with((b"a", b"x\x01y")), True),
    "DEL in a value": (_with((b"a", b"x\x7fy")), True),
    "a value with leading space": (_with((b"a", b" x")), True),
    "a value with trailing space": (_with((b"a", b"x ")), True),
    "a value with a tab around": (_with((b"a", b"\tx\t")), True),
    "Connection": (_with((b"connection", b"close")), True),
    "Keep-Alive": (_with((b"keep-alive", b"x")), True),
    "Proxy-Connection": (_with((b"proxy-connection", b"x")), True),
    "Transfer-Encoding": (_with((b"transfer-encoding", b"chunked")), True),
    "Upgrade": (_with((b"upgrade", b"h2c")), True),
    "HTTP2-Settings": (_with((b"http2-settings", b"x")), True),
    "TE: gzip": (_with((b"te", b"gzip")), True),
    "TE: trailers, gzip": (_with((b"te", b"trailers, gzip")), True),
    "no :method": (GET[1:], True),
    "no :scheme": ([GET[0], *GET[2:]], True),
    "no :path": (GET[:3], True),
    "no field at all": ([], True),
    ":method twice": ([GET[0], *GET], True),
    ":scheme twice": ([GET[1], *GET], True),
    ":authority twice": ([GET[2], *GET], True),
    ":path twice": ([GET[3], *GET], True),
    ":status": ([*GET, (b":status", b"200")], True),
    "an unknown pseudo-field": ([*GET, (b":x", b"y")], True),
    "a pseudo-field with no name": ([*GET, (b":", b"y")], True),
    "an upper-case pseudo-field": ([(b":METHOD", b"GET"), *GET[1:]], True),
    "a pseudo-field behind a regular one": ([*GET[:3], (b"a", b"b"), GET[3]], True),
    ":protocol that was not offered": ([(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]], True),
    ":protocol with GET": ([*GET, (b":protocol", b"websocket")], True),
    "an empty :method": ([(b":method", b""), *GET[1:]], True),
    "a method in lower case": ([(b":method", b"get"), *GET[1:]], True),
    "a method with a space": ([(b":method", b"GET /x HTTP/1.1"), *GET[1:]], True),
    "a method with CRLF": ([(b":method", b"GET\r\n"), *GET[1:]], True),
    "a method of 33 bytes": ([(b":method", b"M" * 33), *GET[1:]], True),
    "an empty :path": ([*GET[:3], (b":path", b"")], True),
    ":path without a slash": ([*GET[:3], (b":path", b"x")], True),
    ":path in absolute-form": ([*GET[:3], (b":path", b"https://a.example/")], True),
    ":path * with GET": ([*GET[:3], (b":path", b"*")], True),
    ":path with a space": ([*GET[:3], (b":path", b"/a b")], True),
    ":path that would be a request line": ([*GET[:3], (b":path", b"/ HTTP/1.1\r\nHost: b\r\n\r\nGET /x")], True),
    ":path with CRLF": ([*GET[:3], (b":path", b"/a\r\nb")], True),
    ":path with LF": ([*GET[:3], (b":path", b"/a\nb")], True),
    ":path with NUL": ([*GET[:3], (b":path", b"/a\0b")], True),
    ":path with a tab": ([*GET[:3], (b":path", b"/a\tb")], True),
    ":path with a fragment": ([*GET[:3], (b":path", b"/a#b")], True),
    ":path with obs-text": ([*GET[:3], (b":path", b"/\xc3\xbc")], True),
    ":path with DEL": ([*GET[:3], (b":path", b"/\x7f")], True),
    "an empty :scheme": ([GET[0], (b":scheme", b""), *GET[2:]], True),
    ":scheme of another connection": ([GET[0], (b":scheme", b"http"), *GET[2:]], True),
    ":scheme with a space": ([GET[0], (b":scheme", b"ht tp"), *GET[2:]], True),
    ":scheme with more": ([GET[0], (b":scheme", b"https://evil/?"), *GET[2:]], True),
    "an empty :authority": ([*GET[:2], (b":authority", b""), GET[3]], True),
    ":authority with userinfo": ([*GET[:2], (b":authority", b"u:p@a.example"), GET[3]], True),
    ":authority with a path": ([*GET[:2], (b":authority", b"a.example/x"), GET[3]], True),
    ":authority with CRLF": ([*GET[:2], (b":authority", b"a.example\r\nx: y"), GET[3]], True),
    ":authority with a space": ([*GET[:2], (b":authority", b"a.example b"), GET[3]], True),
    ":authority with port 99999": ([*GET[:2], (b":authority", b"a.example:99999"), GET[3]], True),
    ":authority and another Host": (_with((b"host", b"b.example")), True),
    ":authority and an empty Host": (_with((b"host", b"")), True),
    ":authority and Host twice": (_with((b"host", b"a.example"), (b"host", b"a.example")), True),
    "Host twice": ([*GET[:2], GET[3], (b"host", b"a.example"), (b"host", b"a.example")], True),
    "neither :authority nor Host": ([*GET[:2], GET[3]], True),
    "an empty Host alone": ([*GET[:2], GET[3], (b"host", b"")], True),
    "Content-Length twice": ([*POST, (b"content-length", b"5"), (b"content-length", b"5")], False),
    "Content-Length twice, unlike": ([*POST, (b"content-length", b"5"), (b"content-length", b"6")], False),
    "Content-Length as a list": ([*POST, (b"content-length", b"5, 5")], False),
    "Content-Length +5": ([*POST, (b"content-length", b"+5")], False),
    "Content-Length -5": ([*POST, (b"content-length", b"-5")], False),
    "Content-Length 0x5": ([*POST, (b"content-length", b"0x5")], False),
    "an empty Content-Length": ([*POST, (b"content-length", b"")], False),
    "Content-Length of 19 digits": ([*POST, (b"content-length", b"1" * 19)], False),
    "Content-Length 5 and no body": (_with((b"content-length", b"5")), True),
    "CONNECT with :path and :scheme": ([(b":method", b"CONNECT"), *GET[1:]], True),
}
REQUESTS = [
    Case(name, (headers(1, fields, end),), stream(PROTOCOL_ERROR)) for name, (fields, end) in MALFORMED.items()
]  # fmt: skip

GOOD = [
    Case("a plain request", (WHOLE,), REQUEST),
    Case("TE: trailers", (headers(1, _with((b"te", b"trailers"))),), REQUEST),
    Case("Host alone", (headers(1, [*GET[:2], GET[3], (b"host", b"a.example")]),), REQUEST),
    Case("Host that is :authority in other letters", (headers(1, _with((b"host", b"A.Example"))),), REQUEST),
    Case("OPTIONS *", (headers(1, [(b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")]),), REQUEST),
    Case("obs-text in a value", (headers(1, _with((b"a", b"\xc3\xbc"))),), REQUEST),
    Case("a tab within a value", (headers(1, _with((b"a", b"b\tc"))),), REQUEST),
    Case("an empty value", (headers(1, _with((b"a", b""))),), REQUEST),
    Case("Content-Length 0 and no body", (headers(1, _with((b"content-length", b"0"))),), REQUEST),
]

BODIES = [
    Case("a body as long as it says", (headers(1, [*POST, (b"content-length", b"5")], False), data(1, b"hello", True)), REQUEST),
    Case("a body that is too short", (headers(1, [*POST, (b"content-length", b"5")], False), data(1, b"hell", True)), stream(PROTOCOL_ERROR)),
    Case("a body that is too long", (headers(1, [*POST, (b"content-length", b"5")], False), data(1, b"hello!", True)), stream(PROTOCOL_ERROR)),
    Case("a body that is too long in its second frame", (headers(1, [*POST, (b"content-length", b"5")], False), data(1, b"hello"), data(1, b"!")), stream(PROTOCOL_ERROR)),
    Case("no body where five bytes were said", (headers(1, [*POST, (b"content-length", b"5")], False), data(1, b"", True)), stream(PROTOCOL_ERROR)),
    Case("trailers behind a body that is too short", (headers(1, [*POST, (b"content-length", b"5")], False), data(1, b"hell"), headers(1, [(b"a", b"b")])), stream(PROTOCOL_ERROR)),
    Case("trailers", (OPEN, data(1, b"x"), headers(1, [(b"checksum", b"1")])), REQUEST),
    Case("trailers alone", (OPEN, headers(1, [(b"checksum", b"1")])), REQUEST),
    Case("trailers without END_STREAM", (OPEN, data(1, b"x"), headers(1, [(b"a", b"b")], False)), stream(PROTOCOL_ERROR)),
    Case("a pseudo-field in trailers", (OPEN, data(1, b"x"), headers(1, [(b":path", b"/")])), stream(PROTOCOL_ERROR)),
    Case("an upper-case name in trailers", (OPEN, data(1, b"x"), headers(1, [(b"A", b"b")])), stream(PROTOCOL_ERROR)),
    Case("CRLF in a trailer", (OPEN, data(1, b"x"), headers(1, [(b"a", b"b\r\nc: d")])), stream(PROTOCOL_ERROR)),
    Case("Content-Length in trailers", (OPEN, data(1, b"x"), headers(1, [(b"content-length", b"1")])), stream(PROTOCOL_ERROR)),
    Case("Transfer-Encoding in trailers", (OPEN, data(1, b"x"), headers(1, [(b"transfer-encoding", b"chunked")])), stream(PROTOCOL_ERROR)),
    Case("Host in trailers", (OPEN, data(1, b"x"), headers(1, [(b"host", b"b.example")])), stream(PROTOCOL_ERROR)),
    Case("Authorization in trailers", (OPEN, data(1, b"x"), headers(1, [(b"authorization", b"x")])), stream(PROTOCOL_ERROR)),
    Case("X-Forwarded-For in trailers, with an underline", (OPEN, data(1, b"x"), headers(1, [(b"x_forwarded_for", b"1.2.3.4")])), stream(PROTOCOL_ERROR)),
    Case("DATA behind trailers", (OPEN, headers(1, [(b"a", b"b")]), data(1, b"x")), stream(STREAM_CLOSED)),
]

PRIORITIES = [
    Case("PRIORITY_UPDATE for a stream to come", (frame(PRIORITY_UPDATE, 0, 0, long(1) + b"u=1"), WHOLE), REQUEST),
    Case("PRIORITY_UPDATE that is malformed", (frame(PRIORITY_UPDATE, 0, 0, long(1) + b"\xff\0u=;,=="), WHOLE), REQUEST),
    Case("a priority field that is malformed", (headers(1, _with((b"priority", b"u=9,,;i=?7"))),), REQUEST),
]

# What follows does not depend on how soon a request is answered.
TIMELESS = [*PREFACES, *SIZES, *STREAM_NUMBERS, *PADDING, *UNKNOWN, *CONTINUATIONS, *SETTING, *HPACK]
CASES = [
    *PREFACES,
    *SIZES,
    *STREAM_NUMBERS,
    *PADDING,
    *UNKNOWN,
    *STATES,
    *CONTINUATIONS,
    *SETTING,
    *FLOW,
    *HPACK,
    *REQUESTS,
    *GOOD,
    *BODIES,
    *PRIORITIES,
]
