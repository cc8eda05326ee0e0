"""Heads on their way out: status lines and field lines from values, never from received bytes.

What a serialiser must never do is let a value end its line: a CR, LF or NUL in a name or value is
how one answer becomes two (RFC 9110 §5.5, RFC 9112 §11.1). They are refused here, whoever made
them, and not repaired, for a repaired field would hide the mistake that let them through.
"""

from __future__ import annotations

from http import HTTPStatus

from ...errors import Fault
from ..message import CachedHead, Fields

REASONS: dict[int, bytes] = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}

# RFC 9112 §4: the space before an unknown status' empty reason-phrase stays.
STATUS_LINES: dict[int, bytes] = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b""))
    for status in range(100, 1000)
}

CONTINUE = STATUS_LINES[100] + b"\r\n"


def field_lines(fields: Fields) -> bytes:
    """The lines of ``fields``, each with its CRLF. Raises `Fault` ("internal")."""
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    # One look at the whole is enough: an ending too many belongs to a value.
    count = len(fields)
    if lines.count(b"\r") != count or lines.count(b"\n") != count or b"\0" in lines:
        raise Fault("internal", "a field to be sent holds CR, LF or NUL")
    return lines


class SerialisedHead:
    """A response's head in HTTP/1.1, ready but for Date, Connection and framing: what
    `message.Response.cached` is to this protocol.

    ``wire`` are the status line and the field lines, as `serialise` makes them. Where the body is
    bytes, Content-Length must be among them. ``dated``: Date is, too.
    """

    __slots__ = ("_vary", "dated", "kept", "wire")

    def __init__(self, wire: bytes, dated: bool = False) -> None:
        self.wire = wire
        self.dated = dated
        self.kept: dict[object, tuple[int, Fields, CachedHead | None]] | None = None
        self._vary: tuple[bytes, SerialisedHead] | None = None

    def plus(self, name: bytes, value: bytes) -> SerialisedHead:
        if name != b"vary":
            return SerialisedHead(self.wire + field_lines([(name, value)]), self.dated)
        # Which most responses get that could have been compressed: the same one each time.
        known = self._vary
        if known is None or known[0] != value:
            made = SerialisedHead(self.wire + field_lines([(name, value)]), self.dated)
            known = self._vary = value, made
        return known[1]

    def remade(self, status: int, fields: Fields) -> SerialisedHead:
        wire = serialise(status, fields)
        return SerialisedHead(wire, b"\r\ndate: " in wire)


def serialise(status: int, fields: Fields) -> bytes:
    """Status line and field lines, each with its CRLF, without the empty line that ends a head.

    Date, Connection and the framing fields are appended by the protocol. Raises `Fault`
    ("internal") for a field that would break the head apart or a status outside 100 to 999.
    """
    line = STATUS_LINES.get(status)
    if line is None:
        raise Fault("internal", f"a status of {status} cannot be sent")
    return line + field_lines(fields)
