"""Three readers of HTTP/2 and what each makes of the same frames: ours, python-hyper's h2 and libnghttp2.

`compare` runs a script, frame by frame, and raises where two of them differ in a way that is not written
down here. What is written down is only ever one reader that is stricter than another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import ngh2

from proxy.protocol.h2.authority import Authority
from proxy.protocol.h2.engine import Engine, Terms
from proxy.protocol.h2.events import Data, Event, Head, Reset, Room, Trailers
from proxy.protocol.h2.frames import ConnectionFailed
from proxy.protocol.h2.session import Session
from support.h2_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    HELLO,
    PADDED,
    PING,
    POST,
    PRIORITY,
    PRIORITY_UPDATE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    frame,
    literal,
    long,
    settings,
)

# What h2 refuses and we do not.
H2_IS_STRICTER = {
    r"Frame data missing or invalid": "ALTSVC of a client, which is to be ignored (RFC 7838 §4)",
    r"invalid padding": "HEADERS of nothing but padding, which is allowed (RFC 9113 §6.2)",
    r"non-compliant data": "the reserved bit of WINDOW_UPDATE, which is to be ignored (RFC 9113 §6.9)",
}
# What we refuse and h2 does not.
WE_ARE_STRICTER = {
    r"^STREAM_CLOSED": "h2 resets the stream again (RFC 9113 §5.1 allows both)",
    r"NO_RFC7540_PRIORITIES": "h2 does not know the setting (RFC 9218 §2.1)",
    r"CONTINUATION on stream": "behind no HEADERS, on a stream that has ended (RFC 9113 §6.10)",
    r"RST_STREAM on stream": "on an idle stream (RFC 9113 §6.4)",
    r"size changes a third time": "one after the other, without a field (RFC 7541 §4.2: two at most)",
    r"ENABLE_CONNECT_PROTOCOL 0": "taken back, which h2 lets pass (RFC 8441 §3)",
    r"HEADERS without its priority": "which h2 reads out of the padding (RFC 9113 §6.2)",
    r"PUSH_PROMISE": "of a client, on a stream of which h2 knows nothing any more (RFC 9113 §8.4)",
}


@dataclass
class Reader:
    engine: Engine
    failure: str | None = None
    events: list[Event] = field(default_factory=list)

    def read(self, data: bytes) -> None:
        self.events = []
        try:
            for event in self.engine.receive(data, 0.0):
                if not isinstance(event, Room):
                    self.events.append(event)
        except ConnectionFailed as failure:
            self.failure = str(failure)
        self.engine.take()


def known(reason: str, table: dict[str, str]) -> bool:
    return any(re.search(pattern, reason) for pattern in table)


def compare(script: list[bytes], cut: int = 0) -> None:
    """``cut``: read that many bytes at a time, 0: whole frames; the same must come of it."""
    ours, theirs = Reader(Session(Terms(), 0.0)), Reader(Authority(Terms(), 0.0))
    third = Nghttp2()
    told: list[Event] = []
    for one in [HELLO, *script]:
        ours.read(one)
        told += ours.events
        third.read(one)
        if theirs is not None:
            theirs.read(one)
            if not _agree(ours, theirs, one):
                theirs = None  # from here on they are in different states
        third.check(ours, one)
        if ours.failure is not None:
            break
    if cut:
        again = Reader(Session(Terms(), 0.0))
        whole = b"".join([HELLO, *script])
        retold: list[Event] = []
        for at in range(0, len(whole), cut):
            again.read(whole[at : at + cut])
            retold += again.events
            if again.failure is not None:
                break
        assert (retold, again.failure) == (told, ours.failure), "it matters how it is cut"


def _agree(ours: Reader, theirs: Reader, one: bytes) -> bool:
    """Whether they can be compared any further."""
    if ours.failure is not None or theirs.failure is not None:
        if ours.failure is None:
            reset = any(isinstance(event, Reset) and event.by_us for event in ours.events)
            assert reset or known(theirs.failure or "", H2_IS_STRICTER), (
                f"{one!r}: h2 {theirs.failure}"
            )
        elif theirs.failure is None:
            assert known(ours.failure, WE_ARE_STRICTER), f"{one!r}: ours {ours.failure}, h2 nothing"
        return False
    if [_plain(event) for event in ours.events] != [_plain(event) for event in theirs.events]:
        [*_, last] = [*ours.events, None]
        stricter = isinstance(last, Reset) and last.by_us
        assert stricter, f"{one!r}: ours {ours.events}, h2 {theirs.events}"
        return False
    return True


def _plain(event: Event) -> object:
    """Without what is said in other words."""
    return (event.stream, event.code, event.by_us) if isinstance(event, Reset) else event


class Nghttp2:
    """What libnghttp2 tells. It may refuse what we tell; it may not tell it otherwise."""

    def __init__(self) -> None:
        self.connection = ngh2.Connection(ngh2.Role.SERVER)
        self.connection.initiate_connection()
        self.ended = False
        self.events: list[ngh2.Event] = []

    def read(self, data: bytes) -> None:
        self.events = []
        if self.ended:
            return
        try:
            self.connection.receive_data(data)
            self.events = self.connection.events()
            self.connection.data_to_send()
        except ngh2.NGH2Error:
            self.ended = True

    def check(self, ours: Reader, one: bytes) -> None:
        if self.ended or ours.failure is not None:
            return
        seen = {
            event.stream_id: event
            for event in self.events
            if isinstance(event, ngh2.RequestReceived)
        }
        for event in ours.events:
            match event:
                case Head(fault=None) if event.stream in seen:
                    theirs = seen[event.stream]
                    fields = [(bytes(name), bytes(value)) for name, value in theirs.headers]
                    assert _as_ours(fields) == _canonical(event), f"{one!r}: {event} {fields}"
                    assert theirs.end_stream is event.end
                case Data():
                    data = b"".join(
                        e.data for e in self.events
                        if isinstance(e, ngh2.DataReceived) and e.stream_id == event.stream
                    )  # fmt: skip
                    assert data in (event.data, b""), f"{one!r}: {event}, {self.events}"
                case Trailers():
                    for other in self.events:
                        if isinstance(other, ngh2.TrailersReceived):
                            assert [(bytes(n), bytes(v)) for n, v in other.headers] == event.fields


def _canonical(head: Head) -> list[tuple[bytes, bytes]]:
    pseudo = [(b":method", head.method), (b":path", head.target), (b":scheme", head.scheme)]
    return sorted([*pseudo, *head.fields])


def _as_ours(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Host from `:authority`, cookies joined."""
    cookies = [value for name, value in fields if name == b"cookie"]
    kept = [(name, value) for name, value in fields if name not in (b"cookie", b":authority")]
    authority = [value for name, value in fields if name == b":authority"]
    if authority:
        kept = [field for field in kept if field[0] != b"host"] + [(b"host", authority[0])]
    if cookies:
        kept.append((b"cookie", b"; ".join(cookies)))
    return sorted(kept)


# Scripts out of bytes: each is a sequence of frames, most of them plausible, with numbers that collide.

_FIELDS: list[list[tuple[bytes, bytes]]] = [
    GET,
    POST,
    [*POST, (b"content-length", b"5")],
    [*GET, (b"cookie", b"a=1"), (b"cookie", b"b=2")],
    [*GET, (b"host", b"A.example")],
    [*GET[:2], GET[3], (b"host", b"b.example")],
    [*GET, (b"host", b"b.example")],
    [*GET, (b"te", b"trailers")],
    [*GET, (b"connection", b"close")],
    [*GET, (b"X", b"y")],
    [*GET, (b"x", b"y\r\nz: w")],
    [(b"checksum", b"1")],
    [(b":method", b"CONNECT"), (b":authority", b"a.example:1")],
    [*GET[:3], (b":path", b"/a b")],
    [*GET[1:], GET[0]],
    [],
]
_EXTRA = [
    b"",
    b"\x40\x01a\x01b",
    b"\xbe",
    b"\x20",
    b"\x3f\xe1\x1f",
    b"\xbf\xbe",
    b"\x10\x01s\x01t",
    b"\x80",
    b"\x7f",
]
_WINDOWS = [0, 1, 5, 65535, 1 << 20, (1 << 31) - 1]


class Bytes:
    """A source of choices."""

    def __init__(self, data: bytes, host: bytes) -> None:
        self.data = data
        self.host = host
        self.at = 0

    def block(self) -> bytes:
        """A header block of one of the lists of fields."""
        fields = _FIELDS[self.number(len(_FIELDS))]
        return literal([(name, value.replace(b"a.example", self.host)) for name, value in fields])

    @property
    def left(self) -> bool:
        return self.at < len(self.data)

    def number(self, below: int) -> int:
        byte = self.data[self.at] if self.left else 0
        self.at += 1
        return byte % below

    def some(self, most: int) -> bytes:
        count = self.number(most)
        found = self.data[self.at : self.at + count]
        self.at += count
        return found


def script(source: bytes, host: bytes = b"a.example") -> list[bytes]:
    """``host``: whom the requests are for."""
    choices = Bytes(source, host)
    frames: list[bytes] = []
    highest = -1
    while choices.left and len(frames) < 40:
        if choices.number(4) == 0:
            highest += 2
            stream = highest
        else:
            stream = max(0, highest - choices.number(6) + 1)
        frames.append(_one(choices, stream))
    return frames


def _one(choices: Bytes, stream: int) -> bytes:
    match choices.number(16):
        case 0 | 1 | 2 | 3:
            extra = _EXTRA[choices.number(len(_EXTRA))]
            block = choices.block()
            block = extra + block if extra[:1] in (b"\x20", b"\x3f") else block + extra
            flags = (END_HEADERS, END_HEADERS | END_STREAM)[choices.number(2)]
            match choices.number(8):
                case 0:
                    block, flags = b"\x03" + block + bytes(3), flags | PADDED
                case 1:
                    block, flags = long(choices.number(8)) + b"\x10" + block, flags | WITH_PRIORITY
                case 2:
                    middle = len(block) // 2
                    first = frame(HEADERS, flags & ~END_HEADERS, stream, block[:middle])
                    return first + frame(CONTINUATION, END_HEADERS, stream, block[middle:])
                case 3:
                    flags &= ~END_HEADERS
            return frame(HEADERS, flags, stream, block)
        case 4 | 5:
            flags = choices.number(2)
            payload = choices.some(12)
            if choices.number(6) == 0:
                flags, payload = flags | PADDED, bytes([choices.number(6)]) + payload
            return frame(DATA, flags, stream, payload)
        case 6:
            return frame(PRIORITY, 0, stream, long(choices.number(8)) + b"\x01")
        case 7:
            return frame(RST_STREAM, 0, stream, long(choices.number(14)))
        case 8:
            return settings((choices.number(10), _WINDOWS[choices.number(len(_WINDOWS))]))
        case 9:
            return frame(PING, choices.number(2), 0, bytes(8))
        case 10:
            return frame(
                WINDOW_UPDATE,
                0,
                (0, stream)[choices.number(2)],
                long(_WINDOWS[choices.number(len(_WINDOWS))]),
            )
        case 11:
            return frame(
                CONTINUATION,
                (0, END_HEADERS)[choices.number(2)],
                stream,
                choices.block(),
            )
        case 12:
            return frame(PRIORITY_UPDATE, 0, 0, long(choices.number(10)) + b"u=1")
        case 13:
            return frame(SETTINGS, ACK, 0)
        case 14:
            kind = (GOAWAY, PUSH_PROMISE, 99, DATA)[choices.number(4)]
            return frame(
                kind, choices.number(256), (0, stream)[choices.number(2)], choices.some(12)
            )
        case _:
            # Anything at all.
            return frame(choices.number(18), choices.number(256), stream, choices.some(40))
