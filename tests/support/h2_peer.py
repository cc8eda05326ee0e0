"""The other end of an HTTP/2 engine: frames written byte by byte, answers read by other people's code.

Frames are built here from numbers, so that a test can say what no library would. What the engine sends
is read by hyperframe and hpack, so that a mistake of ours cannot cancel itself out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import hpack
from hyperframe.frame import Frame

from proxy.protocol.h2.engine import Engine
from proxy.protocol.h2.events import Event, Head
from proxy.protocol.h2.frames import ConnectionFailed

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)
PRIORITY_UPDATE = 16
END_STREAM = ACK = 1
END_HEADERS, PADDED, WITH_PRIORITY = 4, 8, 32
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT = range(5)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(5, 10)
ENHANCE_YOUR_CALM = 11

Fields = list[tuple[bytes, bytes]]
GET: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"a.example"),
    (b":path", b"/"),
]
POST: Fields = [(b":method", b"POST"), *GET[1:]]


def frame(
    kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None
) -> bytes:
    """``length`` may lie."""
    count = len(payload) if length is None else length
    return struct.pack(">HBBBL", count >> 8, count & 255, kind, flags, stream) + payload


def literal(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block that needs no table: literals, never indexed names spelt out."""
    return b"".join(b"\x00" + string(name) + string(value) for name, value in fields)


def string(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, made = len(text) - 127, b"\x7f"
    while rest >= 128:
        made += bytes([rest & 127 | 128])
        rest >>= 7
    return made + bytes([rest]) + text


def headers(stream: int, fields: Fields, end: bool = True, flags: int = 0) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0) | flags, stream, literal(fields))


def data(stream: int, payload: bytes, end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, payload)


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *pair) for pair in pairs))


def long(number: int) -> bytes:
    return struct.pack(">L", number)


def rst(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, long(code))


def window_update(stream: int, more: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, long(more))


HELLO = PREFACE + settings()


@dataclass
class Sent:
    """What an engine has sent, read frame by frame; header blocks decoded with one table."""

    decoder: hpack.Decoder = field(default_factory=hpack.Decoder)
    rest: bytes = b""

    def read(self, data: bytes) -> list[Frame]:
        data = self.rest + data
        frames = []
        while len(data) >= 9:
            one, length = Frame.parse_frame_header(memoryview(data[:9]))
            if len(data) < 9 + length:
                break
            one.parse_body(memoryview(data[9 : 9 + length]))
            frames.append(one)
            data = data[9 + length :]
        self.rest = data
        return frames

    def fields(self, one: Frame) -> Fields:
        return [(bytes(k), bytes(v)) for k, v in self.decoder.decode(one.data, raw=True)]


class Peer:
    """Talks to one engine. Events are kept, and so is the failure that ended the connection."""

    def __init__(self, engine: Engine, hello: bytes = HELLO) -> None:
        self.engine = engine
        self.now = 0.0
        self.sent = Sent()
        self.failure: ConnectionFailed | None = None
        self.frames: list[Frame] = []
        if hello:
            self.say(hello)

    def say(self, *pieces: bytes) -> list[Event]:
        """Send them, each as one read; what the engine makes of them."""
        events: list[Event] = []
        for piece in pieces:
            try:
                events.extend(self.engine.receive(piece, self.now))
            except ConnectionFailed as failure:
                self.failure = failure
        self.heard()
        return events

    def heard(self) -> list[Frame]:
        """What the engine has sent since; also kept in ``frames``."""
        new = self.sent.read(self.engine.take())
        self.frames += new
        return new

    def of_type(self, name: str, stream: int | None = None) -> list[Frame]:
        return [
            one
            for one in self.frames
            if type(one).__name__ == name and stream in (None, one.stream_id)
        ]

    def ask(self, stream: int, fields: Fields = GET, end: bool = True) -> Head:
        """A request that has to be told."""
        [head] = self.say(headers(stream, fields, end))
        assert isinstance(head, Head)
        return head

    @property
    def resets(self) -> dict[int, int]:
        return {one.stream_id: one.error_code for one in self.of_type("RstStreamFrame")}

    @property
    def goaways(self) -> list[int]:
        return [one.error_code for one in self.of_type("GoAwayFrame")]
