"""Heads of backends' answers: the strict layer, the fast lane, and h11, in the other direction.

A backend is trusted more than a client, and its answers are read as strictly: whoever can write
into one (a header that an application builds from its input) must not be able to make two answers
of it, or to have ours end elsewhere than the client's reading of it (RFC 9112 §11.1, §6.3).

The lane follows the same rule as the one for requests: it declines, or says what the strict layer
and h11 would.
"""

from __future__ import annotations

from dataclasses import dataclass

import h11

from ...bounded_cache import remember
from ...errors import Fault
from ..message import Fields
from .grammar import (
    BAD,
    CONTENT_LENGTH,
    FIELD_LINE,
    HOP_BY_HOP,
    OWS,
    STATUS_LINE,
    TOKEN,
    VALUE_MARKS,
    tokens,
)

# What a backend may send us as a head: more than we take from a client, for cookies and policies
# add up. nginx gives up at 4 to 8 KiB by default, which is a well-known nuisance.
LARGEST_HEAD = 64 * 1024
_MOST_FIELDS = 200
HEAD_END = b"\r\n\r\n"

CHUNKED = -1
UNTIL_CLOSE = -2

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
class Answer:
    """``length`` is that of the body that follows on the connection: 0 for none, `CHUNKED`, or
    `UNTIL_CLOSE`. ``close``: the connection is of no use afterwards. ``judge`` is the h11
    connection that goes on to judge the body, None from the lane.

    ``fields`` are those of the whole message. From the lane only: ``onward``, the ones that concern
    the client, Content-Length left out, ``lines``, the same as they are sent, and ``dated``,
    whether Date is among them. ``passed_on`` is what the proxy makes of them for the client, fields
    and head, once it has. Nobody changes any of it: an answer that comes again is the same one."""

    status: int
    fields: Fields
    length: int
    close: bool
    judge: h11.Connection | None = None
    onward: Fields | None = None
    lines: bytes = b""
    dated: bool = False
    passed_on: tuple[Fields, bytes] | None = None


def parse(head: bytes, method: bytes, upgrade: bytes | None = None) -> Answer:
    """The answer that a complete head begins; ``method`` and ``upgrade`` are the request's.
    Raises `Fault`."""
    lines = head[: -len(HEAD_END)].split(b"\r\n")
    match = STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise _broken(f"status line {lines[0][:64]!r}")
    version, status = match[1], int(match[2])
    if version not in (b"1.1", b"1.0"):
        raise _broken(f"HTTP/{version.decode()}")
    if len(head) > LARGEST_HEAD or len(lines) - 1 > _MOST_FIELDS:
        raise _broken("the head is too large")
    fields = [_field(line) for line in lines[1:]]
    options = tokens([value for name, value in fields if name == b"connection"])
    if options is None:
        raise _broken("Connection is no list of tokens")
    close = b"close" in options or (version == b"1.0" and b"keep-alive" not in options)
    length = _framing(fields, status, version, method)
    judge = _judge(method, upgrade)
    return Answer(status, _judged(judge, head), length, close or length == UNTIL_CLOSE, judge)


def _judge(method: bytes, upgrade: bytes | None) -> h11.Connection:
    """A connection on which the request has been sent."""
    judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD + 1)
    headers = [(b"host", b"backend")]
    if upgrade is not None:
        headers += [(b"connection", b"upgrade"), (b"upgrade", upgrade)]
    judge.send(h11.Request(method=method, target=b"/", headers=headers))
    judge.send(h11.EndOfMessage())
    return judge


def _judged(judge: h11.Connection, head: bytes) -> Fields:
    try:
        judge.receive_data(head)
        event = judge.next_event()
    except h11.RemoteProtocolError as error:
        raise _broken(f"h11: {error}") from None
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise _broken("h11 sees no answer")
    return list(event.headers)


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        raise _broken(f"field line {line[:64]!r}")
    return match[1].lower(), match[2].strip(OWS)


def _framing(fields: Fields, status: int, version: bytes, method: bytes) -> int:
    """RFC 9112 §6.3, with every ambiguity refused."""
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(lengths) > 1 or (lengths and CONTENT_LENGTH.fullmatch(lengths[0]) is None):
        raise _broken(f"Content-Length {lengths[0][:64]!r}")
    if codings:
        if lengths:
            raise _broken("Content-Length with Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked" or version == b"1.0":
            raise _broken(f"Transfer-Encoding {codings[0][:64]!r}")
    if has_no_body(status, method):
        if codings and (status < 200 or status == 204):
            raise _broken(f"a {status} with Transfer-Encoding")
        return 0
    if codings:
        return CHUNKED
    return int(lengths[0]) if lengths else UNTIL_CLOSE


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


class AnswerLane:
    """The table of one worker's backends; bounded, without cookies and other secrets."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Entry] = {}
        self._statuses: dict[bytes, int] = {}
        self._heads: dict[bytes, Answer] = {}

    def parse(self, head: bytes, method: bytes) -> Answer | None:
        """The answer, or None to decline."""
        if method == b"HEAD":
            return self._parse(head, method)[0]
        found = self._heads.get(head)
        if found is None:
            found, again = self._parse(head, method)
            if found is not None and again and len(head) <= _LONGEST_HEAD:
                remember(self._heads, head, found, _MOST_HEADS)
        return found

    def remembered(self) -> list[bytes]:
        """The lines and the heads kept from earlier answers."""
        return [*self._statuses, *self._known, *self._heads]

    def _parse(self, head: bytes, method: bytes) -> tuple[Answer | None, bool]:
        """The answer and whether it may be remembered as a whole."""
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
        for (name, value), _wire, matters, remembered in entries:
            again = again and remembered
            if not matters:
                continue
            if name == b"content-length":
                if length is not None:
                    return _DECLINED
                length = int(value)
            elif name == b"transfer-encoding":
                if length is not None or status == 204:
                    return _DECLINED
                length = CHUNKED
            else:
                if value.lower() not in (b"keep-alive", b"close") or close:
                    return _DECLINED
                close = value.lower() == b"close"
        if has_no_body(status, method):
            length = 0
        elif length is None:
            return _DECLINED
        fields = [entry[0] for entry in entries]
        onward = [entry[0] for entry in entries if entry[1]]
        lines_onward = b"".join([entry[1] for entry in entries])
        dated = any(name == b"date" for name, _ in onward)
        return Answer(status, fields, length, close, None, onward, lines_onward, dated), again

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
        matters = name in (b"content-length", b"connection", b"transfer-encoding")
        again = name in _REMEMBERED and len(line) <= _LONGEST_LINE
        wire = b"" if matters or name in HOP_BY_HOP else b"%b: %b\r\n" % field
        entry = (field, wire, matters, again)
        if again:
            remember(self._known, line, entry, _MOST_LINES)
        return entry
