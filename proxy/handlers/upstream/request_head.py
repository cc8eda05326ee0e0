"""Makes the head of a request to a backend: which fields go on, what is said of the client. Pure.

Hop-by-hop fields belong to one connection (RFC 9110 §7.6.1): those named here, and those that the
Connection field of the message names. What the backend is told about the client (X-Forwarded-For
and its kin, RFC 7239, X-Real-IP) comes from us; what a client says of itself (`claims` lists the
names) is dropped, unless it is a proxy that the configuration trusts. A name with "_" for "-" is
dropped where the other spelling is ours, because CGI and its heirs read both alike.

Loops are found by CDN-Loop (RFC 8586), which grows with each pass and which nothing on the way has
a reason to remove. Via would find them as well, but some servers (nginx) stop compressing for
requests that carry it; it is sent where the configuration asks for it.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from itertools import count
from typing import Any

from ...accelerated import Lane, lane
from ...bounded_cache import remember
from ...config.model import Backend, FastCgiAction, ProxyAction
from ...config.schema.rules import RequestFieldRules
from ...config.syntax.field_rules import PLACE
from ...errors import Fault
from ...protocol.claims import CLIENT_CERTIFICATE, is_claim
from ...protocol.claims import NAMES as CLAIMS
from ...protocol.claims import PREFIXES as CLAIM_PREFIXES
from ...protocol.client_address import TrustedProxies
from ...protocol.h1.fast_parser import REMEMBERED
from ...protocol.h1.grammar import HOP_BY_HOP, OWS, connection_options
from ...protocol.h1.serializer import field_lines
from ...protocol.message import Connection, FieldBlock, Fields, Request
from ...protocol.placeholders import filled
from ...protocol.rewritten import Rewritten

# What we say of the client ourselves.
OURS = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        *CLIENT_CERTIFICATE,
    }
)
# Written by the serialiser, from what was parsed.
_FRAMING = frozenset({b"content-length", b"expect", b"host"})
_NOT_COPIED = HOP_BY_HOP | OURS | CLAIMS | _FRAMING | {b"cdn-loop", b"x-request-id"}

# Of an answer: the framing is the protocol's to write.
NOT_ONWARD = HOP_BY_HOP | {b"content-length"}

# Our name in CDN-Loop (RFC 8586 §2) and Via (RFC 9110 §7.6.3): a pseudonym. The random part tells
# this installation from another of its kind in a chain, which is allowed; meeting ourselves is a
# loop. Made before workers are forked.
PSEUDONYM = b"treehouse-" + secrets.token_hex(4).encode("ascii")
_LOOP_LINE = b"cdn-loop: " + PSEUDONYM + b"\r\n"
VIA_LINE = b"via: 1.1 " + PSEUDONYM + b"\r\n"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._=+/-]{1,128}")
_PREFIX = b"x-forwarded-prefix"
_UNDERLINE = ord("_")  # `in` tries a number first
_MOST_KNOWN = 4096
# Each keeps its lines, some kilobytes, in memory; one route's clients are of few kinds.
_MOST_BLOCKS = 256
_LONGEST_KNOWN = 256
# RFC 9110 §10.1.4: whoever sends TE names it in Connection.
_TRAILERS_WELCOME = b"connection: te\r\nte: trailers\r\n"
_PLAIN_OPTIONS = frozenset({b"keep-alive", b"close", b"Keep-Alive"})


def passed_here(request: Request) -> bool:
    """Whether this server has sent the request itself, to one of its own ports."""
    return any(name == b"cdn-loop" and PSEUDONYM in value for name, value in request.fields)


_NO_RULES = RequestFieldRules()


class OwnFields:
    """The fields that the operator gives requests, or takes away: `request_headers`.

    ``replaced`` are the names that a client's request loses by it.
    """

    def __init__(self, rules: RequestFieldRules) -> None:
        self.replaced = frozenset(
            name.encode() for name in (*rules.remove, *(name for name, _ in rules.set))
        )
        self._removed = tuple(b"%b: " % name.encode() for name in rules.remove)
        self._without: dict[bytes, bytes] = {}  # lines, as they are without those; bounded
        # With places to be filled in; names have none.
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in (*rules.set, *rules.add))
        places = set(PLACE.findall(self._lines))
        self._fixed = None if places else self._lines.encode()
        # What is filled in is the same for all requests of a client to a host.
        self._by_client = places <= {"client", "host", "scheme"}
        self._known: dict[tuple[str, bytes, bytes], bytes] = {}  # bounded

    def lines(self, request: Request) -> bytes:
        """Return the lines that a request gets."""
        if self._fixed is not None:
            return self._fixed
        if not self._by_client:
            return filled(self._lines, request)
        connection = request.connection
        client = connection.peer if connection.proxies is None else request.client
        key = client, request.host, connection.scheme
        known = self._known.get(key)
        if known is None:
            known = filled(self._lines, request)
            remember(self._known, key, known, _MOST_KNOWN)
        return known

    def without_removed(self, lines: bytes) -> bytes:
        """Return lines of ours without those that are to be left out."""
        if not self._removed:
            return lines
        known = self._without.get(lines)
        if known is None:
            kept = [line for line in lines.split(b"\r\n") if not line.startswith(self._removed)]
            known = b"\r\n".join(kept)
            remember(self._without, lines, known, _MOST_BLOCKS)
        return known


class Forwarder:
    """Makes the heads of requests to backends. One per route and worker."""

    def __init__(
        self,
        trusted_proxies: tuple[str, ...],
        via: bool = False,
        rules: RequestFieldRules = _NO_RULES,
        told: frozenset[bytes] = frozenset(),
        *,
        traces: bool = False,
    ) -> None:
        """``told``: the fields by which the backend hears of users who have logged in here, on this
        route or on another, so it hears none of them from a client. ``traces``: the fields of W3C
        Trace Context are ours, unless the operator has rules about them."""
        self._trusted = TrustedProxies(trusted_proxies)
        self._via = via
        rules = replace(rules, host=None)  # `head` is told of it
        self._own_fields = OwnFields(rules) if rules != _NO_RULES else None
        self._not_copied = _NOT_COPIED | {b"via"} if via else _NOT_COPIED
        self._replaced: frozenset[bytes] = frozenset()  # what the operator replaces or takes away
        if self._own_fields is not None:
            self._replaced = self._own_fields.replaced
            self._not_copied |= self._replaced
        self._told = told - self._not_copied
        self._not_copied |= told
        self.traces = traces and b"traceparent" not in self._replaced
        if traces:
            self._not_copied |= {b"traceparent", b"tracestate"}
        # Lines of fields that come again; b"" for those that stay here whatever they say.
        self._known: dict[tuple[bytes, bytes], bytes] = {}
        self._blocks: dict[FieldBlock, bytes] = {}
        self._prefix = secrets.token_hex(6).encode("ascii")
        self._serial = count(1)

    def head(
        self, request: Request, host: bytes | None, framing: bytes, prefix: bytes = b""
    ) -> bytes:
        """Return the head for a backend, with its empty line.

        ``host`` replaces what the client sent as Host; ``framing`` are the lines for the body;
        ``prefix`` is put before the path. Raises `Fault` ("loop") for a request that has been here
        already.
        """
        via = loop = b""
        given_id = b""
        before: Fields = []
        fields = request.uncached_fields
        known = self._known
        lines: list[Any] = [known.get(field) for field in fields]
        for place, line in enumerate(lines):
            if line is not None:
                continue
            name, value = field = fields[place]
            line = lines[place] = self._line(field)
            if line:
                continue
            if name == b"connection" and value not in _PLAIN_OPTIONS:
                return self._careful_head(request, host, framing, prefix)
            if name == b"x-request-id":
                given_id = value
            elif name == b"cdn-loop":
                loop += value + b", "
            elif name == b"via":
                via += value + b", "
            elif is_claim(name) or name in self._told:
                before.append(field)
        if request.cached_fields is not None:
            lines.append(self._lines(request.cached_fields))  # of other names
        if self._own_fields is not None:
            lines.append(self._own_fields.lines(request))
        if not loop:
            lines.append(_LOOP_LINE)
        elif PSEUDONYM in loop:
            raise Fault("loop", "CDN-Loop holds our own name")
        else:
            lines.append(b"cdn-loop: %b%b\r\n" % (loop, PSEUDONYM))
        if self._via:
            if PSEUDONYM in via:
                raise Fault("loop", "Via holds our own name")
            lines.append(b"via: %b%b %b\r\n" % (via, request.version, PSEUDONYM))
        return self._finish(request, host, framing, lines, given_id, before, prefix)

    def _lines(self, block: FieldBlock) -> bytes:
        """The lines of a block of fields, which names nothing that `head` has to know of."""
        lines = self._blocks.get(block)
        if lines is None:
            lines = b"".join(map(self._line, block.fields))
            remember(self._blocks, block, lines, _MOST_BLOCKS)
        return lines

    def _line(self, field: tuple[bytes, bytes]) -> bytes:
        """Return the line of a field for the backend; b"" for a field that is not passed on."""
        name, value = field
        line = b""
        if name not in self._not_copied:
            spelt = name.replace(b"_", b"-") if _UNDERLINE in name else name
            if spelt not in self._not_copied and not spelt.startswith(CLAIM_PREFIXES):
                line = b"%b: %b\r\n" % field
        elif name == b"te" and _welcomes_trailers(value):
            line = _TRAILERS_WELCOME
        if len(value) < _LONGEST_KNOWN and (
            value in _PLAIN_OPTIONS
            if name == b"connection"
            else name in REMEMBERED or name == b"host"
        ):
            remember(self._known, field, line, _MOST_KNOWN)
        return line

    def _careful_head(
        self, request: Request, host: bytes | None, framing: bytes, prefix: bytes
    ) -> bytes:
        """The same where Connection names fields: they are left out first."""
        named = _named(request.fields)
        if request.upgrade is None:
            named -= {b"te"}  # `_line` says what of it goes on, with a Connection of our own
        kept = [
            field for field in request.fields if field[0] != b"connection" and field[0] not in named
        ]
        plain = Rewritten(request, request.target, request.stripped)
        plain.fields = plain.uncached_fields = kept
        plain.cached_fields = None
        return self.head(plain, host, framing, prefix)

    def _finish(
        self,
        request: Request,
        host: bytes | None,
        framing: bytes,
        lines: list[bytes],
        given_id: bytes,
        before: Fields,
        prefix: bytes,
    ) -> bytes:
        connection, login = request.connection, request.login
        if login is not None and before:
            ours = {name for name, _ in login.fields}
            before = [field for field in before if field[0] not in ours]
        if self._trusted.trusts(connection.peer):
            client = self._trusted.client(connection.peer, before)
            about = _extended(connection, client, request.authority, before)
        else:
            about = self._about(connection, request.authority)
        if request.stripped:
            about = _told_prefix(about, request.stripped)
        if connection.client_certificate:
            about += connection.client_certificate
        if login is not None:
            about += field_lines([one for one in login.fields if one[0] not in self._replaced])
        if not request.id:
            good = given_id and _REQUEST_ID.fullmatch(given_id)
            request.id = given_id if good else self._next_id()
        if self._own_fields is not None:
            about = self._own_fields.without_removed(about)
        target = request.target
        if prefix and target != b"*":
            target = prefix + target
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%bx-request-id: %b\r\n%b\r\n" % (
            request.method,
            target,
            request.authority if host is None else host,
            b"".join(lines),
            about,
            request.id,
            framing,
        )

    def _next_id(self) -> bytes:
        return b"%b-%x" % (self._prefix, next(self._serial))

    def _about(self, connection: Connection, authority: bytes) -> bytes:
        told = connection.told
        if told is None or told[0] != authority:
            about = _extended(connection, connection.peer, authority, [])
            told = connection.told = authority, about
        return told[1]


# Of these each value is another, and what is done with them depends on their names alone. No name
# here is one that `head` looks at.
_VARYING = (
    b"authorization",
    b"content-length",
    b"cookie",
    b"if-modified-since",
    b"if-none-match",
    b"range",
    b"referer",
)


class AcceleratedForwarder(Forwarder):
    """The same, with usual heads made in C: where no proxy is trusted, nothing that is said of the
    client is left out, and the lines of all fields are known."""

    def __init__(
        self,
        lane: Lane,
        rules: RequestFieldRules = _NO_RULES,
        told: frozenset[bytes] = frozenset(),
        *,
        traces: bool = False,
    ) -> None:
        super().__init__((), rules=rules, told=told, traces=traces)
        made = lane.forwarder(
            self._known,
            self._blocks,
            {name: name not in self._not_copied for name in _VARYING},
            FieldBlock,
            _LOOP_LINE,
            self._prefix,
            self._serial,
        )
        self._usual_head = made.head

    def head(
        self, request: Request, host: bytes | None, framing: bytes, prefix: bytes = b""
    ) -> bytes:
        own = self._own_fields
        return self._usual_head(
            request, host, framing, prefix, b"" if own is None else own.lines(request)
        ) or Forwarder.head(self, request, host, framing, prefix)


def new_forwarder(
    trusted_proxies: tuple[str, ...],
    via: bool,
    rules: RequestFieldRules,
    told: frozenset[bytes],
    *,
    traces: bool,
) -> Forwarder:
    """Return the maker of a route's heads, accelerated where that can be; see `Forwarder`."""
    if lane is None or trusted_proxies or via or rules.remove:
        return Forwarder(trusted_proxies, via, rules, told, traces=traces)
    return AcceleratedForwarder(lane, rules, told, traces=traces)


def _told_prefix(about: bytes, stripped: bytes) -> bytes:
    """Return the forwarding lines with X-Forwarded-Prefix: what we have left out of the path,
    behind what a trusted proxy before us has."""
    kept, outer = [], b""
    for line in about.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name == _PREFIX:
            outer = value.rstrip(b"/")
        else:
            kept.append(line)
    return b"\r\n".join(kept) + b"%b: %b%b\r\n" % (_PREFIX, outer, stripped)


def _extended(connection: Connection, client: str, authority: bytes, before: Fields) -> bytes:
    """Return the forwarding lines. ``before`` is what a trusted proxy has said already; it is kept,
    and the peer added where a list grows with each hop. ``client`` is whom that proxy names."""
    said: dict[bytes, list[bytes]] = {}
    for name, value in before:
        said.setdefault(name, []).append(value)
    peer = connection.peer.encode("ascii")
    real = client.encode("ascii")
    if client == connection.peer and b"x-forwarded-for" not in said:
        real = said.get(b"x-real-ip", [real])[-1]  # the only word that some proxies say
    # A trusted proxy may have seen a client certificate; a certificate that we saw replaces it.
    vouched = [] if connection.client_certificate else before
    node = b'"[%b]"' % peer if b":" in peer else peer
    element = b'for=%b;host="%b";proto=%b' % (node, authority, connection.scheme)
    return field_lines(
        [
            (b"x-forwarded-for", b", ".join([*said.get(b"x-forwarded-for", []), peer])),
            (b"x-forwarded-proto", said.get(b"x-forwarded-proto", [connection.scheme])[-1]),
            (b"x-forwarded-host", said.get(b"x-forwarded-host", [authority])[-1]),
            (b"forwarded", b", ".join([*said.get(b"forwarded", []), element])),
            *(field for field in before if field[0] not in OURS),
            (b"x-real-ip", real),
            *(field for field in vouched if field[0] in CLIENT_CERTIFICATE),
        ]
    )


def host_for(action: ProxyAction, backend: Backend) -> str | None:
    """Return the Host that a backend is told; None: the client's."""
    given = action.request_headers.host
    if given is not None or action.preserve_host or isinstance(action, FastCgiAction):
        return given
    return authority(backend)


def authority(backend: Backend) -> str:
    """Return the Host of the backend itself (RFC 9110 §7.2), with the port unless that is the
    scheme's default."""
    if backend.scheme == "unix":
        return "localhost"
    host = f"[{backend.host}]" if ":" in backend.host else backend.host
    usual = 443 if backend.scheme == "https" else 80
    return host if backend.port == usual else f"{host}:{backend.port}"


def _welcomes_trailers(te: bytes) -> bool:
    return any(one.partition(b";")[0].strip(OWS).lower() == b"trailers" for one in te.split(b","))


def _named(fields: Fields) -> frozenset[bytes]:
    """What the Connection fields name, lower-case."""
    return connection_options([value for name, value in fields if name == b"connection"])[0]


def end_to_end(fields: Fields) -> Fields:
    """The fields of an answer that concern the client; Content-Length is left to the framing."""
    named = NOT_ONWARD | _named(fields)
    return [field for field in fields if field[0] not in named]
