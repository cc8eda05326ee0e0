"""The records of FastCGI 1.0: what a responder is sent, and what it answers. Pure.

A connection carries records, each with a type, the number of a request and up to 65,535 bytes. The
numbers are there so that requests can share a connection; no server that people use does that, so
every request here has the number 1, and a record with another one is a fault.

>>> Decoder().feed(record(STDOUT, b"hello"))
[Output(data=b'hello')]
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from acme_client.late_dataclass import dataclass

# §8, "Types and Constants"
BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR = range(1, 8)
GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE = 9, 10, 11
_RESPONDER = 1
_KEEP_CONN = 1
# §5.5: protocolStatus of FCGI_END_REQUEST
REQUEST_COMPLETE, CANT_MULTIPLEX, OVERLOADED, UNKNOWN_ROLE = range(4)

_VERSION = 1
_OURS = 1  # the number of every request
_HEADER = struct.Struct("!BBHHBx")
_MOST = 65_535  # bytes in a record
# What a record other than STDOUT and STDERR may hold; it is collected before it is read.
_MOST_COLLECTED = 4096

Pairs = Iterable[tuple[bytes, bytes]]


class Malformed(Exception):
    """The peer does not speak FastCGI 1.0; the text says what is wrong."""


def record(kind: int, content: bytes = b"", number: int = _OURS) -> bytes:
    """One record. ``content`` has 65,535 bytes at most."""
    return _HEADER.pack(_VERSION, kind, number, len(content), 0) + content


def stream(kind: int, data: bytes | memoryview) -> bytes:
    """``data`` in as many records of a stream as it takes; none for b"", which would end it."""
    view = memoryview(data)
    return b"".join(
        record(kind, bytes(view[start : start + _MOST])) for start in range(0, len(view), _MOST)
    )


def begin(pairs: Pairs, keep: bool) -> bytes:
    """The beginning of a request: its role and its parameters. ``keep``: the server is asked not to
    close the connection afterwards."""
    role = struct.pack("!HB5x", _RESPONDER, _KEEP_CONN if keep else 0)
    spelt = b"".join([_pair(name, value) for name, value in pairs])
    return record(BEGIN_REQUEST, role) + stream(PARAMS, spelt) + record(PARAMS)


def question(names: Iterable[bytes]) -> bytes:
    """A question about the server itself (§4.1), which belongs to no request."""
    spelt = b"".join([_pair(name, b"") for name in names])
    return record(GET_VALUES, spelt, 0)


def _pair(name: bytes, value: bytes) -> bytes:
    """§3.4: lengths of one byte up to 127, else of four with the highest bit set."""
    first, second = len(name), len(value)
    if first < 128 and second < 128:
        return b"%c%c%b%b" % (first, second, name, value)
    lengths = [
        bytes([one]) if one < 128 else struct.pack("!I", one | 1 << 31) for one in (first, second)
    ]
    return b"".join([*lengths, name, value])


def values(content: bytes) -> dict[bytes, bytes]:
    """The pairs of a FCGI_GET_VALUES_RESULT. Raises `Malformed`."""
    found = {}
    at = 0

    def length() -> int:
        nonlocal at
        if at < len(content) and content[at] < 128:
            at += 1
            return content[at - 1]
        if at + 4 > len(content):
            raise Malformed("a pair of values that is cut off")
        at += 4
        return int(struct.unpack_from("!I", content, at - 4)[0]) & ~(1 << 31)

    while at < len(content):
        name, value = length(), length()
        if at + name + value > len(content):
            raise Malformed("a pair of values that is cut off")
        found[content[at : at + name]] = content[at + name : at + name + value]
        at += name + value
    return found


@dataclass(frozen=True, slots=True)
class Output:
    """What the script has written for the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Complaint:
    """What the script or the server has written for the log."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The end of the request. ``status`` is protocolStatus, `REQUEST_COMPLETE` where all is
    well."""

    status: int


@dataclass(frozen=True, slots=True)
class Values:
    """What the server says of itself."""

    pairs: dict[bytes, bytes]


Event = Output | Complaint | End | Values


class Decoder:
    """Reads what a server sends. A piece of a long record is given on as soon as it is here."""

    __slots__ = ("_collected", "_held", "_kind", "_left", "_padding")

    def __init__(self) -> None:
        self._held = b""  # of a record's header
        self._kind = 0
        self._left = 0  # of the record's content
        self._padding = 0
        self._collected = b""

    @property
    def between_records(self) -> bool:
        """Whether nothing of a record is outstanding."""
        return not (self._held or self._left or self._padding)

    def feed(self, data: bytes) -> list[Event]:
        """The events in ``data``. Raises `Malformed`."""
        return list(self._events(data))

    def _events(self, data: bytes) -> Iterator[Event]:
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield from self._content(piece)
            elif self._padding:
                skipped = min(self._padding, len(data) - at)
                self._padding -= skipped
                at += skipped
            else:
                missing = _HEADER.size - len(self._held)
                self._held += data[at : at + missing]
                at += missing
                if len(self._held) == _HEADER.size:
                    self._header()

    def _header(self) -> None:
        version, kind, number, length, padding = _HEADER.unpack(self._held)
        self._held = b""
        if version != _VERSION:
            raise Malformed(f"a record of version {version} instead of {_VERSION}")
        if kind not in (END_REQUEST, STDOUT, STDERR, GET_VALUES_RESULT, UNKNOWN_TYPE):
            raise Malformed(f"a record of type {kind}, which a server does not send")
        of_request = kind in (END_REQUEST, STDOUT, STDERR)
        if number != (_OURS if of_request else 0):
            raise Malformed(f"a record of type {kind} for request {number}, which there is not")
        if kind not in (STDOUT, STDERR) and length > _MOST_COLLECTED:
            raise Malformed(f"a record of type {kind} with {length} bytes")
        if kind == END_REQUEST and length != 8:
            raise Malformed(f"an end of the request with {length} bytes instead of 8")
        self._kind, self._left, self._padding = kind, length, padding
        self._collected = b""

    def _content(self, piece: bytes) -> Iterator[Event]:
        match self._kind:
            case 6:  # STDOUT
                yield Output(piece)
                return
            case 7:  # STDERR
                yield Complaint(piece)
                return
        self._collected += piece
        if self._left:
            return
        if self._kind == END_REQUEST:
            yield End(self._collected[4])
        elif self._kind == GET_VALUES_RESULT:
            yield Values(values(self._collected))
