"""Parses plain request heads without asking h11.

The rule that makes it safe: *for every head it either declines, or yields exactly what
`strict_parser.parse` would*. So it may be simple: it declines whatever is rare, and never repairs,
refuses or guesses. Hypothesis and a coverage-guided fuzzer compare the two (tests/fuzz).

It takes HTTP/1.1, a common method, origin-form, one Host, no body or Content-Length, and no field
that changes what the message or the connection is.

What makes it fast: browsers send the same field lines again and again, so a line that has passed
the grammar once is remembered with its name and value. The table is bounded and holds neither long
lines nor any that could carry a secret. And from one request of a connection to the next nearly all
lines are the same: see `head_cache`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ...accelerated import Lane, lane
from ...bounded_cache import remember
from ...config.model import Limits
from ..message import Connection, Request
from .grammar import (
    BAD,
    CONTENT_LENGTH,
    OWS,
    TARGET_MARKS,
    TOKEN,
    VALUE_MARKS,
    normalise_host,
)
from .head_cache import MAX_PER_CONNECTION, MAX_SIZE, HeadTemplate
from .strict_parser import Parsed

# A few thousand lines are those of all browsers in use at once; a thousand bytes each at most.
_MOST_LINES = 4096
_LONGEST_LINE = 256
_MOST_HOSTS = 1024
_MOST_TEMPLATES = 512
_VERSION = b" HTTP/1.1\r\n"
_SLASH = ord("/")

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


# Of these, the ones that mean nothing to this parser.
_OF_NO_CONCERN = {
    spelt: name for spelt, name in _NAMES.items() if name not in (b"content-length", b"host")
}


def _lower(spelt: bytes) -> bytes | None:
    return spelt.lower() if TOKEN.fullmatch(spelt) else None


_Host = tuple[tuple[bytes, bytes], bytes, bytes]  # the field, the authority, the host


class FastParser:
    """The tables of one worker. `parse` takes a complete head, which ends with its empty line."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[bytes, tuple[bytes, bytes]] = {}
        self._hosts: dict[bytes, _Host] = {}
        self._templates: dict[tuple[bytes, bytes, bytes], HeadTemplate] = {}

    def parse(self, head: bytes, connection: Connection) -> Parsed | None:
        """The request of a complete head, or None to decline. What has an empty line before its
        end is declined, too: it is a head and more."""
        limits = self._limits
        end = head.find(_VERSION)
        method, _, target = head[:end].partition(b" ")
        if (
            end < 0
            or method not in _METHODS
            or not target
            or target[0] != _SLASH
            or BAD in target.translate(TARGET_MARKS)
            or len(target) > limits.target_size
            or len(head) > limits.header_size
        ):
            return None
        begin = end + len(_VERSION)
        for template in connection.protocol_state or ():
            middle, last = begin + template.before_size, len(head) - template.after_size
            if (
                head[begin:middle] == template.before
                and head[last:] == template.after
                and middle <= last
            ):
                # Nearly always a single line varies: a cookie.
                spelt, _, value = head[middle:last].partition(b": ")
                value, ended, more = value.partition(b"\r\n")
                name = _OF_NO_CONCERN.get(spelt)
                if (
                    name is not None
                    and ended
                    and not more
                    and not template.between
                    and name not in template.names
                    and BAD not in value.translate(VALUE_MARKS)
                    and template.count < limits.header_count
                ):
                    varied = [(name, value.strip(OWS))]
                    host = template.host
                    request = Request(
                        method, target, b"1.1", host[1], host[2],
                        [*template.before_fields, *varied, *template.after_fields], connection,
                    )  # fmt: skip
                    request.uncached_fields = varied
                    request.cached_fields = template.block
                    return request, 0, False, None
                parsed = self._as_usual(method, target, head[middle:last], template, connection)
                if parsed is not None:
                    return parsed
        return self._line_by_line(method, target, head[begin:], connection)

    def _as_usual(
        self,
        method: bytes,
        target: bytes,
        varying: bytes,
        template: HeadTemplate,
        connection: Connection,
    ) -> Parsed | None:
        """The request of a head that has the lines of a template with ``varying`` among them; None
        to decline, or to parse it line by line."""
        if not template.between:
            found = self._look_at_varying(varying, template)
            if found is None:
                return None
            varied, length = found
            fields = [*template.before_fields, *varied, *template.after_fields]
        else:
            first, between, second = varying.partition(template.between)
            found = self._look_at_varying(first, template)
            then = self._look_at_varying(second, template)
            if not between or found is None or then is None:
                return None
            if found[1] is not None and then[1] is not None:
                return None  # two lengths
            varied = [*found[0], *then[0]]
            length = found[1] if then[1] is None else then[1]
            fields = [
                *template.before_fields, *found[0], *template.between_fields, *then[0],
                *template.after_fields,
            ]  # fmt: skip
        if len(fields) > self._limits.header_count:
            return None
        host = template.host
        request = Request(method, target, b"1.1", host[1], host[2], fields, connection)
        request.uncached_fields = varied
        request.cached_fields = template.block
        return request, length or 0, False, None

    def _look_at_varying(
        self, varying: bytes, template: HeadTemplate
    ) -> tuple[list[tuple[bytes, bytes]], int | None] | None:
        """The fields of whole lines, and the body's length if it is among them. None for what is
        not whole lines, is to be declined, or has a name of the template's: the order of those two
        would matter."""
        if not varying:
            return [], None
        if varying[-2:] != b"\r\n":
            return None
        spelt, _, value = varying.partition(b": ")
        name = _OF_NO_CONCERN.get(spelt)
        value = value[:-2]
        # One line only, or the mark of its CRLF would be found.
        if name is not None and BAD not in value.translate(VALUE_MARKS):
            return None if name in template.names else ([(name, value.strip(OWS))], None)
        if spelt == b"Content-Length" and CONTENT_LENGTH.fullmatch(value):
            return [(b"content-length", value)], int(value)
        lines = varying[:-2].split(b"\r\n")
        known = self._known
        varied: list[Any] = [known.get(line) for line in lines]
        found = self._look_at_new(lines, varied, template.host)
        if found is None or not template.names.isdisjoint([name for name, _ in varied]):
            return None
        lengths = [value for name, value in varied if name == b"content-length"]
        return varied, found[0] if lengths else None

    def _line_by_line(
        self, method: bytes, target: bytes, rest: bytes, connection: Connection
    ) -> Parsed | None:
        lines = rest[:-4].split(b"\r\n")
        if len(lines) > self._limits.header_count:
            return None
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
        if connection.protocol_state is None:
            connection.protocol_state = []  # many ask once and go
        else:
            self._learn_template(connection.protocol_state, lines, fields, host)
        return request, length, False, None

    def _learn_template(
        self, templates: list[HeadTemplate], lines: list[bytes], fields: list[Any], host: _Host
    ) -> None:
        """Make a template of the lines that are remembered: those before the first that is not,
        those after the last, and the longest run in between."""
        known, hosts = self._known, self._hosts
        varying = [
            place for place, line in enumerate(lines) if line not in known and line not in hosts
        ]
        first = varying[0] if varying else len(lines)
        last = varying[-1] + 1 if varying else first
        runs = [(after - before, before + 1) for before, after in pairwise(varying)]
        size, begin = max(runs, default=(1, first + 1))
        end = begin + size - 1

        def joined(some: list[bytes]) -> bytes:
            return b"".join([line + b"\r\n" for line in some])

        texts = joined(lines[:first]), joined(lines[begin:end]), joined(lines[last:]) + b"\r\n"
        if sum(map(len, texts)) > MAX_SIZE:
            return
        template = self._templates.get(texts)
        if template is None:
            template = HeadTemplate(texts, (fields[:first], fields[begin:end], fields[last:]), host)
            if host[0] not in template.block.fields:
                return
            remember(self._templates, texts, template, _MOST_TEMPLATES)
        templates.insert(0, template)
        del templates[MAX_PER_CONNECTION:]

    def remembered(self) -> list[bytes]:
        """Return all lines kept from earlier heads; for tests."""
        templates = [text for texts in self._templates for text in texts]
        return [*self._known, *self._hosts, *templates]

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
            if not colon or name is None or BAD in value.translate(VALUE_MARKS):
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
                remember(self._known, line, entry, _MOST_LINES)
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
            remember(self._hosts, line, entry, _MOST_HOSTS)
        return entry


class AcceleratedParser(FastParser):
    """The same, with the usual cases in C: a head for which its connection has a template, and the
    first head of a connection, where its lines are known from others."""

    def __init__(self, limits: Limits, lane: Lane) -> None:
        super().__init__(limits)
        self._plain_head = lane.plain_head
        bounds = limits.header_count, limits.target_size, limits.header_size
        self._bounds = *bounds, self._known, self._hosts
        lane.bind_templates(HeadTemplate, _OF_NO_CONCERN)

    def parse(self, head: bytes, connection: Connection) -> Parsed | None:
        return self._plain_head(head, connection, *self._bounds) or FastParser.parse(
            self, head, connection
        )


def new_parser(limits: Limits) -> FastParser:
    """The parser of a worker: accelerated where the lane is there."""
    return FastParser(limits) if lane is None else AcceleratedParser(limits, lane)
