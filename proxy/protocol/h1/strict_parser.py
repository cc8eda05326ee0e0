"""Parses request heads strictly, in front of h11: which heads are let in at all.

h11 parses leniently by design, and a proxy must not: whatever two readers can understand in two
ways is how a request is smuggled past one of them (RFC 9112 §11.2). So everything that h11 would
repair, merge or guess is refused here, before h11 is asked. Then h11 is the authority on what the
head says, and its events, not the bytes received, are what the rest of the program sees.

This is the slow and complete parser. `fast_parser` must agree with it about every head that it does
not decline. A refusal names the rule that was broken, for the log.

Pure: it takes a complete head and returns a value or raises `Fault`.
"""

from __future__ import annotations

import re

import h11

from ...config.model import Limits
from ...errors import Fault
from ..exchange import LOGGED, PartialHead
from ..message import Connection, Fields, Request
from .body import CHUNKED
from .grammar import (
    ABSOLUTE_FORM,
    CONTENT_LENGTH,
    DEFAULT_PORTS,
    FIELD_LINE,
    METHOD,
    OWS,
    REQUEST_LINE,
    TOKEN,
    TRANSFER_CODING,
    normalise_host,
    split_authority,
    tokens,
)

# What a head says: the request, the length of its body (`CHUNKED`, or 0 for none), whether the
# connection ends after it, and the h11 connection that goes on to judge the body. A plain tuple,
# because one is made for every request.
Parsed = tuple[Request, int, bool, h11.Connection | None]

HEAD_END = b"\r\n\r\n"
# What a request line holds beside its target: a method of 32 bytes at most, a version, two spaces.
_ROOM = 42

# RFC 9110 §9.3.6, §9.3.8: CONNECT would make us an open proxy, TRACE an echo of credentials.
_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})
_ALLOWED = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"
# RFC 9110 §7.6.1: a sender must not list these, for they concern more than one hop. Whoever dropped
# them as told would send a different message on.
_NEVER_HOP_BY_HOP = frozenset({b"host", b"content-length", b"content-type", b"authorization"})


def parse(head: bytes, connection: Connection, limits: Limits) -> Parsed:
    """The request of a complete head, which ends with its empty line."""
    lines = head[: -len(HEAD_END)].split(b"\r\n")
    method, target, version = _request_line(lines[0], limits)
    if len(head) > limits.header_size:
        raise _head_too_large(limits)
    if len(lines) - 1 > limits.header_count:
        detail = f"{len(lines) - 1} fields are more than limits.header_count, {limits.header_count}"
        raise Fault("head_too_large", detail)
    fields = [_field(line) for line in lines[1:]]
    authority, host = _host(fields)
    length = _framing(fields, version)
    options = _connection_options(fields)
    expects_continue = _expectation(fields, version)
    if not target.startswith(b"/"):
        target = _other_form(method, target, authority, connection)

    h11_connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_size + 1)
    fields = _h11_fields(h11_connection, head)
    request = Request(method, target, version, authority, host, fields, connection)
    request.expects_continue = expects_continue
    if version == b"1.1" and length == 0 and b"upgrade" in options:
        request.upgrade = _upgrade(fields)
    close = b"close" in options or (version == b"1.0" and b"keep-alive" not in options)
    return request, length, close, h11_connection


def _h11_fields(h11_connection: h11.Connection, head: bytes) -> Fields:
    """What h11 makes of the head; its refusal is final."""
    try:
        h11_connection.receive_data(head)
        event = h11_connection.next_event()
    except h11.RemoteProtocolError as error:
        raise Fault("malformed_request", f"h11: {error}") from None
    if not isinstance(event, h11.Request):
        raise Fault("malformed_request", "h11 sees no request")
    return list(event.headers)


def too_large(data: bytes, limits: Limits) -> Fault:
    """What is wrong with a head that has not ended within ``limits.header_size``."""
    line = data.find(b"\r\n")
    longest = limits.target_size + _ROOM
    return _head_too_large(limits) if 0 <= line <= longest else _target_too_long(limits)


def _head_too_large(limits: Limits) -> Fault:
    return Fault("head_too_large", f"more than limits.header_size, {limits.header_size} bytes")


def _target_too_long(limits: Limits) -> Fault:
    return Fault("target_too_long", f"more than limits.target_size, {limits.target_size} bytes")


def _request_line(line: bytes, limits: Limits) -> tuple[bytes, bytes, bytes]:
    if len(line) > limits.target_size + _ROOM:
        raise _target_too_long(limits)
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Fault("malformed_request", f"{_rule_of_request_lines(line)}: {line[:64]!r}")
    method, target, version = match.groups()
    if version not in (b"1.1", b"1.0"):
        raise Fault("unsupported_version", f"HTTP/{version.decode()}")
    if len(target) > limits.target_size:
        raise _target_too_long(limits)
    if method in _REFUSED_METHODS:
        detail = f"{method.decode()} is never served (RFC 9110 §9.3.6, §9.3.8)"
        raise Fault("method_not_allowed", detail, [(b"allow", _ALLOWED)])
    return method, target, version


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        raise Fault("malformed_request", f"{_rule_of_field_lines(line)}: {line[:64]!r}")
    return match[1].lower(), match[2].strip(OWS)


def _rule_of_request_lines(line: bytes) -> str:
    """Which rule the request line breaks (RFC 9112 §3), in words for a log."""
    if line.count(b"\r") or line.count(b"\n"):
        return "the request line ends in CR or LF alone"
    words = line.split(b" ")
    method = words[0]
    if METHOD.fullmatch(method) is None:
        if METHOD.fullmatch(method.upper()):
            return "the method has lower-case letters"
        return "the request does not begin with a method"
    if len(words) < 3 or not re.fullmatch(rb"HTTP/[0-9]\.[0-9]", words[-1]):
        return "the request line does not end with a version of HTTP"
    if len(words) > 3:
        return "the request line has more than its two spaces"
    if b"#" in words[1]:
        return "the target has a fragment"
    return "the target holds bytes that a URL encodes with %"


def _rule_of_field_lines(line: bytes) -> str:
    """Which rule the field line breaks (RFC 9112 §5), in words for a log."""
    name, colon, value = line.partition(b":")
    if line[:1] in (b" ", b"\t"):
        return "a field line is folded"
    if not colon:
        return "a field line has no colon"
    if name.endswith((b" ", b"\t")):
        return "a field name has white space before its colon"
    if TOKEN.fullmatch(name) is None:
        return "a field name is no token"
    if b"\n" in value or b"\r" in value:
        return "a field line ends in CR or LF alone"
    return "a field value holds control bytes"


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for key, value in fields if key == name]


def _host(fields: Fields) -> tuple[bytes, bytes]:
    values = _values(fields, b"host")
    if len(values) != 1:
        raise Fault("bad_host", f"{len(values)} Host fields")
    host = normalise_host(values[0])
    if host is None:
        raise Fault("bad_host", f"Host {values[0][:64]!r}")
    return values[0], host


def _other_form(method: bytes, target: bytes, authority: bytes, connection: Connection) -> bytes:
    """asterisk-form and absolute-form (RFC 9112 §3.2.2, §3.2.4), the latter reduced to origin-form.

    The RFC lets the authority of an absolute-form win over Host. Two that differ have no honest
    sender, so they are refused.
    """
    if target == b"*" and method == b"OPTIONS":
        return target
    match = ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise Fault("malformed_request", f"target {target[:64]!r}")
    scheme, absolute_authority, rest = match.groups()
    usual = DEFAULT_PORTS[scheme.lower()]
    meant = _with_port(absolute_authority, usual)
    if meant is None or meant != _with_port(authority, usual):
        raise Fault("bad_host", "the target's authority is not Host")
    if scheme.lower() != connection.scheme:
        raise Fault("misdirected", f"a target of scheme {scheme.decode()}")
    origin: bytes = rest if rest.startswith(b"/") else b"/" + rest
    return origin


def _with_port(authority: bytes, usual: int) -> tuple[bytes, int] | None:
    """Host and port, the scheme's usual one where none is written (RFC 3986 §6.2.3)."""
    parts = split_authority(authority)
    if parts is None:
        return None
    host, port = parts
    return host, usual if port is None else port


def _framing(fields: Fields, version: bytes) -> int:
    """The body's length (RFC 9112 §6.3), with every ambiguity refused."""
    lengths = _values(fields, b"content-length")
    codings = _values(fields, b"transfer-encoding")
    if codings:
        if lengths:
            raise Fault("bad_framing", "Content-Length with Transfer-Encoding")
        if version == b"1.0":
            raise Fault("bad_framing", "Transfer-Encoding in HTTP/1.0")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise _wrong_codings(b", ".join(codings))
        return CHUNKED
    if not lengths:
        return 0
    if len(lengths) > 1 or CONTENT_LENGTH.fullmatch(lengths[0]) is None:
        raise Fault("bad_framing", f"Content-Length {lengths[0][:64]!r}")
    return int(lengths[0])


def _wrong_codings(value: bytes) -> Fault:
    """What is wrong with transfer codings other than chunked alone. 501 for those that we do not
    know; 400 where the body's end could not be found even if we did (RFC 9112 §6.1, §6.3)."""
    said = f"Transfer-Encoding {value[:64]!r}"
    codings, at, ended = [], 0, False
    while not ended and (match := TRANSFER_CODING.match(value, at)):
        codings.append((match[1].lower(), match[0].lower()))
        at = match.end()
        ended = value[at : at + 1] != b","
        at += not ended
    if not ended or at < len(value) or codings[-1][0] != b"chunked":
        return Fault("unsupported_coding", f"chunked is not the last coding: {said}")
    if codings[-1][1].strip(OWS) != b"chunked":
        return Fault("unsupported_coding", f"chunked has no parameters: {said}")
    if any(name == b"chunked" for name, _ in codings[:-1]):
        return Fault("unsupported_coding", f"chunked is applied twice: {said}")
    return Fault("coding_not_implemented", said)


def _connection_options(fields: Fields) -> list[bytes]:
    options = tokens(_values(fields, b"connection"))
    if options is None:
        raise Fault("malformed_request", "Connection is no list of tokens")
    if not _NEVER_HOP_BY_HOP.isdisjoint(options):
        raise Fault("malformed_request", "Connection names a field of the whole message")
    return options


def _expectation(fields: Fields, version: bytes) -> bool:
    """RFC 9110 §10.1.1. An HTTP/1.0 client cannot know 100, so its Expect is ignored."""
    values = _values(fields, b"expect")
    if not values or version == b"1.0":
        return False
    if len(values) > 1 or values[0].lower() != b"100-continue":
        raise Fault("expectation_failed", f"Expect {values[0][:64]!r}")
    return True


def _upgrade(fields: Fields) -> bytes | None:
    """The protocol asked for, if it is one that a tunnel can carry.

    h2c is not (RFC 9113 §3.1 dropped it): behind it, requests would pass unseen.
    """
    values = _values(fields, b"upgrade")
    if len(values) != 1 or not values[0] or b"h2c" in values[0].lower():
        return None
    return values[0]


def what_could_be_read(data: bytes) -> PartialHead:
    """Method, target and Host of bytes that are no request: whatever stands in their places, cut to
    a length for the log."""
    lines = data.replace(b"\r\n", b"\n").split(b"\n")
    words = lines[0].split(b" ")
    method = words[0] if METHOD.fullmatch(words[0].upper()) else None
    if method is None:
        return PartialHead()
    target = b" ".join(words[1:-1] if words[-1].startswith(b"HTTP/") else words[1:])
    host = None
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if colon and name.strip().lower() == b"host":
            host = value.strip()[:LOGGED]
            break
    return PartialHead(method, target[:LOGGED] or None, host or None)


def rule_of_beginnings(data: bytes) -> str:
    """Which rule bytes break that `beginning_is_bad` says cannot become a head, in words."""
    if not 0x21 <= data[0] <= 0x7E:
        return "the request does not begin with a method"
    if b"\0" in data:
        return "the head holds NUL"
    return "a line of the head ends in CR or LF alone"


def beginning_is_bad(data: bytes) -> bool:
    """Whether an incomplete head can be known to be malformed, so that nobody waits for the rest:
    a line that ends in LF alone, a CR in a line, NUL, or a start that is no method (TLS, say)."""
    return (
        not 0x21 <= data[0] <= 0x7E
        or b"\0" in data
        or data.count(b"\n") != data.count(b"\r\n")
        or data.count(b"\r") - data.endswith(b"\r") != data.count(b"\r\n")
    )
