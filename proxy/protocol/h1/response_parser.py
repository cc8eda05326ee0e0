"""Parses the heads of backends' responses: a strict parser with h11, and a fast one. Pure.

A backend is trusted more than a client, as long as what the client gets is canonical. What could
make two responses of one, or have ours end elsewhere than the client's reading of it, is refused,
for an application may build a header from its input (RFC 9112 §11.1, §6.3): bare LF, control bytes,
differing lengths, a length beside a coding. What is merely untidy passes: Content-Length twice with
one value, framing fields where no body can be (204, 304), parameters in Connection, a status beyond
599. A `Fault` of this module names the rule that was broken.

The fast parser follows the same rule as the one for requests: it declines, or says what the strict
parser and h11 would.
"""

from __future__ import annotations

import math
import re

import h11

from acme_client.late_dataclass import dataclass

from ...bounded_cache import remember
from ...errors import Fault
from ..message import Fields
from .body import CHUNKED, UNTIL_CLOSE
from .grammar import (
    BAD,
    CONTENT_LENGTH,
    FIELD_LINE,
    HOP_BY_HOP,
    OWS,
    STATUS_LINE,
    TOKEN,
    VALUE_MARKS,
    connection_options,
)
from .serializer import SerialisedHead

# What a backend may send us as a head: more than we take from a client, for cookies and policies
# add up. nginx gives up at 4 to 8 KiB by default, which is a well-known nuisance.
LARGEST_HEAD = 64 * 1024
_MOST_FIELDS = 200
HEAD_END = b"\r\n\r\n"

# What the fast parser has to look at, in heads of which it otherwise knows all lines.
_MATTERS = frozenset({b"content-length", b"connection", b"keep-alive", b"transfer-encoding"})
_KEEP_ALIVE = re.compile(rb"(?:^|[,; \t])timeout *= *([0-9]{1,6})\b", re.IGNORECASE)

_MOST_LINES = 4096
_LONGEST_LINE = 256
_MOST_STATUSES = 256
# Whole heads: what a backend says again and again within a second, for Date makes another of it.
_MOST_HEADS = 256
_LONGEST_HEAD = 1024
_REMEMBERED = frozenset(
    {
        b"accept-ranges",
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"alt-svc",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-language",
        b"content-length",
        b"content-security-policy",
        b"content-type",
        b"date",
        b"etag",
        b"expires",
        b"keep-alive",
        b"last-modified",
        b"permissions-policy",
        b"pragma",
        b"referrer-policy",
        b"server",
        b"strict-transport-security",
        b"transfer-encoding",
        b"vary",
        b"x-content-type-options",
        b"x-frame-options",
        b"x-powered-by",
        b"x-xss-protection",
    }
)


@dataclass(slots=True)
class ResponseHead:
    """One parsed head.

    ``fields`` are those of the whole message. ``length`` is that of the body that follows on the
    connection: 0 for none, `CHUNKED`, or `UNTIL_CLOSE`. ``close``: the connection is of no use
    afterwards. ``h11_connection`` goes on to read the body, None from the fast parser.
    ``keep_alive`` is for how many seconds the backend says that it keeps an idle connection;
    infinity where it does not.

    From the fast parser only: ``onward``, the fields that concern the client, without
    Content-Length; ``lines``, the same as they are sent; ``dated``, whether Date is among them.
    ``passed_on`` is what the proxy makes of them for the client, fields and head, once it has.
    Nobody changes any of it: a head that comes again is the same object."""

    status: int
    fields: Fields
    length: int
    close: bool
    h11_connection: h11.Connection | None = None
    keep_alive: float = math.inf
    onward: Fields | None = None
    lines: bytes = b""
    dated: bool = False
    passed_on: tuple[Fields, SerialisedHead] | None = None


def parse(head: bytes, method: bytes, upgrade: bytes | None = None) -> ResponseHead:
    """Parse a complete head; ``method`` and ``upgrade`` are the request's. Raises `Fault`."""
    lines = head[: -len(HEAD_END)].split(b"\r\n")
    match = STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise _broken(f"the status line {lines[0][:64]!r} (RFC 9112 §4)")
    version, status = match[1], int(match[2])
    if version not in (b"1.1", b"1.0"):
        raise _broken(f"HTTP/{version.decode()}, where HTTP/1.1 was asked for (RFC 9112 §2.3)")
    if len(head) > LARGEST_HEAD:
        raise _broken(f"a head of more than {LARGEST_HEAD} bytes")
    if len(lines) - 1 > _MOST_FIELDS:
        raise _broken(f"more than {_MOST_FIELDS} fields")
    fields = [_field(line) for line in lines[1:]]
    options, sound = connection_options([value for name, value in fields if name == b"connection"])
    # Where Connection cannot be read, it may mean that the backend is about to close.
    close = b"close" in options or (version == b"1.0" and b"keep-alive" not in options)
    length, framed = _framing(fields, status, version, method)
    head, odd = _canonical(lines, fields, framed)
    h11_connection = _h11_connection(method, upgrade)
    judged = _read_by_h11(h11_connection, head)
    close = close or odd or not sound or length == UNTIL_CLOSE
    return ResponseHead(status, judged, length, close, h11_connection, keep_alive(fields))


def _canonical(lines: list[bytes], fields: Fields, framed: bool) -> tuple[bytes, bool]:
    """The head as h11 gets it, and whether something is out of order on the connection behind it:
    where no body can be, the fields that announce one are left out."""
    if framed:
        return b"\r\n".join(lines) + HEAD_END, False
    kept = [lines[0]]
    odd = False
    for line, (name, value) in zip(lines[1:], fields, strict=True):
        if name == b"transfer-encoding" or (name == b"content-length" and int(value)):
            odd = True  # a body may come nevertheless, and would be taken for the next answer
        elif name != b"content-length":
            kept.append(line)
    return b"\r\n".join(kept) + HEAD_END, odd


def keep_alive(fields: Fields) -> float:
    """Seconds of ``Keep-Alive: timeout=`` (RFC 2068 §19.7.1.1), infinity without."""
    for name, value in fields:
        if name == b"keep-alive":
            match = _KEEP_ALIVE.search(value)
            if match is not None:
                return float(match[1])
    return math.inf


def _h11_connection(method: bytes, upgrade: bytes | None) -> h11.Connection:
    """An h11 connection on which the request has been sent."""
    h11_connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD + 1)
    headers = [(b"host", b"backend")]
    if upgrade is not None:
        headers += [(b"connection", b"upgrade"), (b"upgrade", upgrade)]
    h11_connection.send(h11.Request(method=method, target=b"/", headers=headers))
    h11_connection.send(h11.EndOfMessage())
    return h11_connection


def _read_by_h11(h11_connection: h11.Connection, head: bytes) -> Fields:
    try:
        h11_connection.receive_data(head)
        event = h11_connection.next_event()
    except h11.RemoteProtocolError as error:
        raise _broken(f"what h11 refuses: {error}") from None
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise _broken("what h11 does not take for a response")
    return list(event.headers)


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        raise _broken(f"the field line {line[:64]!r} (RFC 9112 §5)")
    return match[1].lower(), match[2].strip(OWS)


def _framing(fields: Fields, status: int, version: bytes, method: bytes) -> tuple[int, bool]:
    """The body's length by RFC 9112 §6.3, with every ambiguity refused, and whether the framing
    fields mean something: in a 204 or 304 they do not, whatever they say."""
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(set(lengths)) > 1:
        raise _broken("two Content-Length fields that differ (RFC 9112 §6.3)")
    if lengths and CONTENT_LENGTH.fullmatch(lengths[0]) is None:
        raise _broken(f"Content-Length {lengths[0][:64]!r} (RFC 9110 §8.6)")
    if codings:
        if lengths:
            raise _broken("Content-Length beside Transfer-Encoding (RFC 9112 §6.3)")
        if len(codings) > 1 or codings[0].lower() != b"chunked" or version == b"1.0":
            raise _broken(f"Transfer-Encoding {codings[0][:64]!r} (RFC 9112 §6.1)")
    if status in (204, 304):
        return 0, False
    if has_no_body(status, method):
        if codings and status < 200:
            raise _broken(f"Transfer-Encoding in a {status} (RFC 9112 §6.1)")
        return 0, True
    if codings:
        return CHUNKED, True
    return (int(lengths[0]) if lengths else UNTIL_CLOSE), True


def has_no_body(status: int, method: bytes) -> bool:
    return status < 200 or status in (204, 304) or method == b"HEAD"


def _broken(detail: str) -> Fault:
    return Fault("backend_protocol", detail)


def beginning_is_bad(data: bytes) -> bool:
    """Whether an incomplete head is known to be none: HTTP/0.9, another protocol, a bare LF."""
    return (
        not data.startswith(b"HTTP/1."[: len(data)])
        or data.count(b"\n") != data.count(b"\r\n")
        or b"\0" in data
    )


# A field, its line for the client (empty where it is not for him), whether it concerns framing, and
# whether it may be remembered.
_Entry = tuple[tuple[bytes, bytes], bytes, bool, bool]


_DECLINED: tuple[None, bool] = (None, False)


class FastResponseParser:
    """Parses plain heads without h11, with the help of lines and heads that came before.

    One for a route and worker; its tables are bounded and hold no cookies and other secrets."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Entry] = {}
        self._statuses: dict[bytes, int] = {}
        self._heads: dict[bytes, ResponseHead] = {}

    def parse(self, head: bytes, method: bytes) -> ResponseHead | None:
        """The head, or None to decline."""
        if method == b"HEAD":
            return self._parse(head, method)[0]
        found = self._heads.get(head)
        if found is None:
            found, again = self._parse(head, method)
            if found is not None and again and len(head) <= _LONGEST_HEAD:
                remember(self._heads, head, found, _MOST_HEADS)
        return found

    def remembered(self) -> list[bytes]:
        """The lines and the heads kept from earlier responses."""
        return [*self._statuses, *self._known, *self._heads]

    def _parse(self, head: bytes, method: bytes) -> tuple[ResponseHead | None, bool]:
        """The head, or None to decline, and whether it may be remembered as a whole."""
        if len(head) > LARGEST_HEAD:
            return _DECLINED
        lines = head[:-4].split(b"\r\n")
        status = self._statuses.get(lines[0]) or self._learn_status(lines[0])
        if status < 200 or len(lines) > _MOST_FIELDS:
            return _DECLINED
        del lines[0]
        known = self._known
        entries: list[_Entry] = [
            known.get(line) or self._learn(line)  # type: ignore[misc] # None declines, just below
            for line in lines
        ]
        if None in entries:
            return _DECLINED
        length: int | None = None
        close = False
        again = True
        kept_for = math.inf
        for (name, value), _wire, matters, remembered in entries:
            again = again and remembered
            if not matters:
                continue
            if name == b"content-length":
                if length is not None:
                    return _DECLINED
                length = int(value)
            elif name == b"transfer-encoding":
                if length is not None:
                    return _DECLINED
                length = CHUNKED
            elif name == b"keep-alive":
                match = _KEEP_ALIVE.search(value)
                if match is not None and kept_for == math.inf:
                    kept_for = float(match[1])
            else:
                if value.lower() not in (b"keep-alive", b"close") or close:
                    return _DECLINED
                close = value.lower() == b"close"
        if length and status in (204, 304):
            return _DECLINED
        if has_no_body(status, method):
            length = 0
        elif length is None:
            return _DECLINED
        fields = [entry[0] for entry in entries]
        if status in (204, 304):  # a length of 0 means nothing there
            fields = [field for field in fields if field[0] != b"content-length"]
        onward = [entry[0] for entry in entries if entry[1]]
        lines_onward = b"".join([entry[1] for entry in entries])
        dated = any(name == b"date" for name, _ in onward)
        return ResponseHead(
            status, fields, length, close, None, kept_for, onward, lines_onward, dated
        ), again

    def _learn_status(self, line: bytes) -> int:
        """The status of a status line, 0 to decline."""
        match = STATUS_LINE.fullmatch(line)
        if match is None or match[1] != b"1.1":
            return 0
        if len(line) <= _LONGEST_LINE:
            remember(self._statuses, line, int(match[2]), _MOST_STATUSES)
        return int(match[2])

    def _learn(self, line: bytes) -> _Entry | None:
        spelt, colon, value = line.partition(b":")
        if not colon or BAD in value.translate(VALUE_MARKS) or TOKEN.fullmatch(spelt) is None:
            return None
        name, value = field = (spelt.lower(), value.strip(OWS))
        if name == b"upgrade" or (name == b"transfer-encoding" and value != b"chunked"):
            return None
        if name == b"content-length" and CONTENT_LENGTH.fullmatch(value) is None:
            return None
        matters = name in _MATTERS
        again = name in _REMEMBERED and len(line) <= _LONGEST_LINE
        wire = b"" if name == b"content-length" or name in HOP_BY_HOP else b"%b: %b\r\n" % field
        entry = (field, wire, matters, again)
        if again:
            remember(self._known, line, entry, _MOST_LINES)
        return entry
