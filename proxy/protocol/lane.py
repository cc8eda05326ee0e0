"""The fast lane: request heads of the plain kind, without asking h11.

The rule that makes it safe: *for every head it either declines, or yields exactly what the strict
layer and h11 would* (`strict.parse`). A lane may therefore be as dull as it likes: it declines
whatever is rare, and never repairs, refuses or guesses. Hypothesis and a coverage-guided fuzzer
compare the two (tests/fuzz).

What it takes: HTTP/1.1, a common method, origin-form, one Host, no body or Content-Length, and no
field that changes what the message or the connection is.

What makes it quick: browsers send the same field lines again and again, so a line that has passed
the grammar once is remembered with its name and value. The table is bounded and holds neither long
lines nor any that could carry a secret.
"""

from __future__ import annotations

from typing import Any

from ..config.model import Limits
from .grammar import CONTENT_LENGTH, OWS, TARGET_BYTES, TOKEN, VALUE_BYTES, normalise_host
from .message import Connection, Request
from .strict import Parsed

# A few thousand lines are those of all browsers in use at once; a thousand bytes each at most.
_MOST_LINES = 4096
_LONGEST_LINE = 256
_MOST_HOSTS = 1024

# Only lines of these names are remembered: they come again, and hold no secret. What an application
# makes of a field of its own (X-Api-Key and its kin) nobody here can know.
REMEMBERED = frozenset(
    {
        b"accept",
        b"accept-charset",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"connection",
        b"content-type",
        b"dnt",
        b"origin",
        b"pragma",
        b"priority",
        b"sec-ch-ua",
        b"sec-ch-ua-mobile",
        b"sec-ch-ua-platform",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"sec-fetch-user",
        b"sec-gpc",
        b"te",
        b"upgrade-insecure-requests",
        b"user-agent",
        b"x-requested-with",
    }
)
# These change what the message or the connection is.
_DECLINED = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})

# How browsers and common clients spell the names of fields whose lines are not remembered.
_NAMES = {
    spelt: spelt.lower()
    for spelt in (
        b"Authorization",
        b"Content-Length",
        b"Cookie",
        b"Host",
        b"If-Modified-Since",
        b"If-None-Match",
        b"Range",
        b"Referer",
        b"authorization",
        b"content-length",
        b"cookie",
        b"host",
        b"if-modified-since",
        b"if-none-match",
        b"range",
        b"referer",
    )
}


def _lower(spelt: bytes) -> bytes | None:
    return spelt.lower() if TOKEN.fullmatch(spelt) else None


_Host = tuple[tuple[bytes, bytes], bytes, bytes]  # the field, the authority, the host


class Lane:
    """The tables of one worker. `parse` takes a complete head, which ends with its empty line."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[bytes, tuple[bytes, bytes]] = {}
        self._hosts: dict[bytes, _Host] = {}

    def parse(self, head: bytes, connection: Connection) -> Parsed | None:
        limits = self._limits
        lines = head[:-4].split(b"\r\n")
        words = lines[0].split(b" ")
        if (
            len(words) != 3
            or words[2] != b"HTTP/1.1"
            or words[0] not in _METHODS
            or len(head) > limits.header_size
            or not 2 <= len(lines) <= limits.header_count + 1
        ):
            return None
        method, target, _version = words
        if (
            target[:1] != b"/"
            or target.translate(None, TARGET_BYTES)
            or len(target) > limits.target_size
        ):
            return None
        del lines[0]
        known = self._known
        fields: list[Any] = [known.get(line) for line in lines]  # None: not known yet
        host = self._hosts.get(lines[0])  # browsers send it first
        if host is not None:
            fields[0] = host[0]
        length = 0
        if None in fields:
            found = self._look_at_new(lines, fields, host)
            if found is None:
                return None
            length, host = found
        if host is None:
            return None
        request = Request(method, target, b"1.1", host[1], host[2], fields, connection)
        return request, length, False, None

    def remembered(self) -> list[bytes]:
        """The lines kept from earlier heads."""
        return [*self._known, *self._hosts]

    def _look_at_new(
        self, lines: list[bytes], fields: list[Any], host: _Host | None
    ) -> tuple[int, _Host] | None:
        """Fill the places of lines not known yet: the body's length and the host, or None to
        decline."""
        length: int | None = None
        for place, field in enumerate(fields):
            if field is not None:
                continue
            line = lines[place]
            spelt, colon, value = line.partition(b":")
            name = _NAMES.get(spelt) or _lower(spelt)
            if not colon or name is None or value.translate(None, VALUE_BYTES):
                return None
            value = value.strip(OWS)
            fields[place] = entry = (name, value)
            if name == b"host":
                if host is not None:
                    return None
                host = self._learn_host(line, value)
                if host is None:
                    return None
            elif name == b"content-length":
                if length is not None or CONTENT_LENGTH.fullmatch(value) is None:
                    return None
                length = int(value)
            elif name in _DECLINED or (name == b"connection" and value.lower() != b"keep-alive"):
                return None
            elif name in REMEMBERED and len(line) <= _LONGEST_LINE:
                if len(self._known) >= _MOST_LINES:
                    self._known.clear()
                self._known[line] = entry
        return None if host is None else (length or 0, host)

    def _learn_host(self, line: bytes, authority: bytes) -> _Host | None:
        found = self._hosts.get(line)
        if found is not None:
            return found
        host = normalise_host(authority)
        if host is None:
            return None
        entry = ((b"host", authority), authority, host)
        if len(line) <= _LONGEST_LINE:
            if len(self._hosts) >= _MOST_HOSTS:
                self._hosts.clear()
            self._hosts[line] = entry
        return entry
