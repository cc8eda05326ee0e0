"""The frames of RFC 9113 §4 and §6: how they are packed, and which of them may exist at all.

A frame is nine bytes and a payload: length, type, flags, stream. This module knows layouts, numbers
and the rules that need no state (which length, stream 0 or not). What a frame means at a certain
moment is the business of `session`.

Pure: values in, bytes or `ConnectionFailed` out.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4

# Types, RFC 9113 §6 and RFC 9218 §7.1
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = 0, 1, 2, 3, 4, 5
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION, PRIORITY_UPDATE = 6, 7, 8, 9, 16

# Flags
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, HAS_PRIORITY = 0x4, 0x8, 0x20

# Error codes, RFC 9113 §7
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT = 0, 1, 2, 3, 4
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 5, 6, 7, 8, 9
CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, HTTP_1_1_REQUIRED = 10, 11, 12, 13

# Settings, RFC 9113 §6.5.2, RFC 8441 §3, RFC 9218 §2.1
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 2, 3, 4
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 5, 6, 8, 9

HEADER_SIZE = 9
LARGEST_FRAME = 16384  # the payload that every endpoint must take (RFC 9113 §4.2)
LARGEST_WINDOW = LAST_STREAM = 2**31 - 1
FIRST_WINDOW = 65535  # RFC 9113 §6.9.2

# Length in two parts, type, flags, stream with its reserved bit.
_HEADER = struct.Struct(">HBBBL")
unpack_header = _HEADER.unpack_from
_SETTING = struct.Struct(">HL")
_LONG = struct.Struct(">L")
_TWO_LONGS = struct.Struct(">LL")


class ConnectionFailed(Exception):
    """The peer broke a rule in a way that ends the connection (RFC 9113 §5.4.1).

    ``code`` goes into GOAWAY; ``detail`` is for the log.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code_name(code)}: {detail}")
        self.code = code
        self.detail = detail


class _Rule(NamedTuple):
    """``on_connection``: whether the frame belongs to stream 0; None: to either."""

    name: str
    on_connection: bool | None
    exact: int | None = None
    least: int = 0


_RULES = {
    DATA: _Rule("DATA", False),
    HEADERS: _Rule("HEADERS", False),
    PRIORITY: _Rule("PRIORITY", False, exact=5),
    RST_STREAM: _Rule("RST_STREAM", False, exact=4),
    SETTINGS: _Rule("SETTINGS", True),
    PUSH_PROMISE: _Rule("PUSH_PROMISE", False, least=4),
    PING: _Rule("PING", True, exact=8),
    GOAWAY: _Rule("GOAWAY", True, least=8),
    WINDOW_UPDATE: _Rule("WINDOW_UPDATE", None, exact=4),
    CONTINUATION: _Rule("CONTINUATION", False),
    PRIORITY_UPDATE: _Rule("PRIORITY_UPDATE", True, least=4),
}

_CODE_NAMES = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
]


def code_name(code: int) -> str:
    """The name of an error code; unknown codes are treated like INTERNAL_ERROR (RFC 9113 §7) and
    shown as a number."""
    return _CODE_NAMES[code] if code < len(_CODE_NAMES) else f"error {code}"


def check(kind: int, flags: int, stream: int, length: int, largest: int = LARGEST_FRAME) -> None:
    """Raise `ConnectionFailed` unless a frame of this header may exist.

    A wrong length of PRIORITY or RST_STREAM is a stream error in the RFC; a stream error may always
    be taken for a connection error (RFC 9113 §5.4.2), and no honest sender writes either.
    """
    if length > largest:
        raise ConnectionFailed(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
    rule = _RULES.get(kind)
    if rule is None:
        return  # unknown types are ignored (RFC 9113 §5.5)
    if rule.on_connection is not None and rule.on_connection is not (stream == 0):
        raise ConnectionFailed(PROTOCOL_ERROR, f"{rule.name} on stream {stream}")
    if rule.exact is not None and length != rule.exact:
        raise ConnectionFailed(FRAME_SIZE_ERROR, f"{rule.name} of {length} bytes")
    if length < rule.least:
        raise ConnectionFailed(FRAME_SIZE_ERROR, f"{rule.name} of {length} bytes")
    if kind == SETTINGS and (length if flags & ACK else length % 6):
        raise ConnectionFailed(FRAME_SIZE_ERROR, f"SETTINGS of {length} bytes")


def unpadded(payload: bytes) -> bytes:
    """The payload of a frame with PADDED set, without its padding (RFC 9113 §6.1)."""
    if not payload:
        raise ConnectionFailed(FRAME_SIZE_ERROR, "PADDED without a length of the padding")
    end = len(payload) - payload[0]
    if end < 1:
        raise ConnectionFailed(PROTOCOL_ERROR, "more padding than payload")
    return payload[1:end]


def unpack_long(payload: bytes, at: int = 0) -> int:
    """31 bits; the reserved bit before them is ignored."""
    number: int = _LONG.unpack_from(payload, at)[0]
    return number & LAST_STREAM


def unpack_code(payload: bytes, at: int = 0) -> int:
    """An error code, which has all of the 32 bits."""
    number: int = _LONG.unpack_from(payload, at)[0]
    return number


def unpack_settings(payload: bytes) -> list[tuple[int, int]]:
    """In the order in which they stand: that is the order in which they apply."""
    return [(key, value) for key, value in _SETTING.iter_unpack(payload)]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame. ``payload`` is at most 16,384 bytes or what the peer has allowed."""
    length = len(payload)
    return _HEADER.pack(length >> 8, length & 255, kind, flags, stream) + payload


def data_header(length: int, flags: int, stream: int) -> bytes:
    """The head of a DATA frame whose payload follows."""
    return _HEADER.pack(length >> 8, length & 255, DATA, flags, stream)


def whole_answer(stream: int, block: bytes, body: bytes) -> bytes:
    """A head and the body behind it, both of at most one frame."""
    length, size = len(block), len(body)
    return b"%b%b%b%b" % (
        _HEADER.pack(length >> 8, length & 255, HEADERS, END_HEADERS, stream),
        block,
        _HEADER.pack(size >> 8, size & 255, DATA, END_STREAM, stream),
        body,
    )


def settings(values: dict[int, int]) -> bytes:
    pairs = b"".join(_SETTING.pack(key, value) for key, value in values.items())
    return frame(SETTINGS, 0, 0, pairs)


SETTINGS_ACK = frame(SETTINGS, ACK, 0)


def ping(opaque: bytes, ack: bool = False) -> bytes:
    return frame(PING, ACK if ack else 0, 0, opaque)


def goaway(last: int, code: int, detail: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, _TWO_LONGS.pack(last, code) + detail)


def rst_stream(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, _LONG.pack(code))


def window_update(stream: int, more: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _LONG.pack(more))


def header_block(stream: int, block: bytes, end: bool, largest: int = LARGEST_FRAME) -> bytes:
    """HEADERS, and CONTINUATION where the block is longer than one frame may be."""
    flags = END_STREAM if end else 0
    if len(block) <= largest:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    pieces = [frame(HEADERS, flags, stream, block[:largest])]
    for at in range(largest, len(block), largest):
        last = END_HEADERS if at + largest >= len(block) else 0
        pieces.append(frame(CONTINUATION, last, stream, block[at : at + largest]))
    return b"".join(pieces)
