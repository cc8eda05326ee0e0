"""Request and Response: the seam between a protocol and the handlers.

A protocol (HTTP/1.1, HTTP/2) turns bytes into a `Request` and a `Response` into bytes. A handler
takes a request and returns a response, and never sees a socket, a protocol version's framing, or
another request of the same connection.

Field names are lower-case bytes, field values are bytes without surrounding white space, exactly
as the grammar of RFC 9110 §5 admits them; both have been validated before a `Request` exists.
A handler may rely on that, and must keep to it in a `Response`: serialisers refuse CR, LF and NUL
(RFC 9110 §5.5) rather than repair them.

Why `__slots__` classes and not frozen dataclasses: one of each is made per request, and a frozen
dataclass costs four times as much to make.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from acme_client.late_dataclass import dataclass

from ..accelerated import Lane, copies, lane
from ..config.model import Limits
from ..transport.stream import READ_SIZE, Stream
from .client_address import TrustedProxies

if TYPE_CHECKING:
    from .trace_context import Trace

Fields = list[tuple[bytes, bytes]]
Inform = Callable[[int, Fields], Awaitable[None]]


class HostMatch:
    """The site that a host has found: ``site_name`` is the first of its names, ``label`` the name
    that it was found by, ``counted`` what its requests are counted under."""

    __slots__ = ("counted", "label", "site_name")

    def __init__(self, site_name: str, label: bytes, counted: bytes | None = None) -> None:
        self.site_name = site_name
        self.label = label
        self.counted = label if counted is None else counted


@dataclass(slots=True)
class Connection:
    """What is known of an accepted connection; the same object for all of its requests."""

    # The address of who connected, or of whom a PROXY header names: text without port, IPv4-mapped
    # ones as IPv4; "unix" for a unix socket. Whose a request is says `Request.client`.
    peer: str
    peer_port: int
    local: str
    local_port: int
    scheme: bytes = b"http"  # b"https" once TLS stands
    tls_version: str | None = None  # "TLSv1.3", as the ssl module spells it
    server_name: str | None = None  # SNI, lower-case
    certificate_names: tuple[str, ...] = ()  # names of the certificate that was served
    mtls_site: str | None = None  # the site whose rules on client certificates were applied
    client_certificate: bytes = b""  # the line that tells a backend of it, RFC 9440
    # The trusted proxies, where the peer is one of them: what it says of its client is believed.
    proxies: TrustedProxies | None = None
    # The last host that this connection may be used for (RFC 9110 §7.4), and what it has found.
    authorized_host: bytes | None = None
    match: HostMatch | None = None
    counted_as: str = ""  # among the connections of an address; "" where it is not
    # When the TLS handshake began and ended (monotonic), and whether it resumed a session: for the
    # first trace of the connection, where there are traces.
    handshake: tuple[float, float, bool] | None = None
    protocol_state: Any = None  # what the protocol keeps of it, for itself alone
    told: tuple[bytes, bytes] | None = None  # an authority, and what a backend is told of it
    # A host, and what the access log says of it and the connection.
    named_in_log: tuple[bytes, str, str] | None = None


def in_c(lane: Lane) -> Callable[[str, int, str, int], Connection]:
    """Return what a lane has in place of `Connection`."""
    nobody = Connection("", 0, "", 0)
    return copies(lane, nobody, "peer", "peer_port", "local", "local_port")


# Makes the connection of a peer, its port, our address and our port.
new_connection: Callable[[str, int, str, int], Connection] = Connection
if lane is not None:
    new_connection = in_c(lane)


class Body(Protocol):
    """A request's or a backend response's body, read once, front to back.

    ``length`` is the Content-Length, or None where the framing does not tell (chunked, or until
    close). ``read`` gives the next piece (1 byte to 64 KiB) and b"" at the end, for ever after;
    it raises `Fault` when the peer breaks the framing, stalls or leaves early, so that a body
    cut short can never be taken for a whole one. ``trailers`` is complete after the end.
    """

    length: int | None
    trailers: Fields

    async def read(self) -> bytes: ...

    @property
    def remaining(self) -> int | None:
        """Bytes still to be read, where the framing tells."""
        ...

    @property
    def received(self) -> int:
        """Bytes that have been read."""
        ...

    def buffered(self) -> bytes | None:
        """The whole body if it has arrived and nothing was read yet, else None; consumes it."""
        ...

    @property
    def at_end(self) -> bool:
        """True once everything has been read: the connection behind may be used again."""
        ...


class RequestBody(Body, Protocol):
    """The body of a request. ``limits``: how large and how slow it may be; a filter may give it
    others before anything is read."""

    limits: Limits


class FieldBlock:
    """Fields that many requests have in common: each of them holds the same object, so that what
    somebody makes of these fields can be kept by it. A protocol that recognises none makes none.

    ``names`` are theirs. ``accept_encoding`` is the last value of that field, if it is among them.
    None of the fields names a secret, a condition, a range, or what changes the message's framing.
    """

    __slots__ = ("accept_encoding", "fields", "names")

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.names = frozenset(name for name, _ in fields)
        accepted = [value for name, value in fields if name == b"accept-encoding"]
        self.accept_encoding = accepted[-1] if accepted else None


@dataclass(frozen=True, slots=True)
class Login:
    """Who has logged in here, by a password or with a login service.

    ``user``: the name, of visible characters and blanks; b"" where nobody has told it. ``fields``
    tell a backend of it: whoever sends the request on sends them, and nothing of these names from a
    client. ``password``: each request carries the secret itself (Authorization).
    """

    user: bytes
    fields: Fields
    password: bool = False

    @staticmethod
    def visible(name: bytes) -> bytes:
        """A name without control characters, as ``user`` has it."""
        return bytes(byte for byte in name if byte >= 0x20 and byte != 0x7F)


class Request:
    """One request, after validation, in origin form.

    ``target`` is what goes to a backend: path and query as received (absolute-form reduced,
    RFC 9112 §3.2.2). ``path`` is the target up to "?", still percent-encoded. ``authority`` is
    Host as the client spelt it, ``host`` the same in lower case without port and trailing dot.
    ``body`` is None when the request has none. ``upgrade`` is the Upgrade field of a request that
    asks for a tunnel (Connection: upgrade), else None. ``trace`` is set where the configuration has
    ``tracing``, and nowhere else, not even to None.
    """

    # What was left out of the path for a backend; `rewritten.Rewritten` says otherwise.
    stripped: bytes = b""

    __slots__ = (
        "authority",
        "backend",
        "body",
        "cached_fields",
        "connection",
        "expects_continue",
        "fields",
        "host",
        "id",
        "inform",
        "login",
        "matched",
        "method",
        "path",
        "query",
        "sent_fields",
        "target",
        "trace",
        "uncached_fields",
        "upgrade",
        "version",
    )

    trace: Trace
    sent_fields: Fields  # see `set_fields`

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version: bytes,
        authority: bytes,
        host: bytes,
        fields: Fields,
        connection: Connection,
        body: RequestBody | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition(b"?")
        self.version = version  # b"1.1" or b"1.0"
        self.authority = authority
        self.host = host
        self.fields = fields  # all fields as received, Host among them
        # Those that are not in ``cached_fields``, where there are such; else all.
        self.uncached_fields = fields
        self.cached_fields: FieldBlock | None = None
        self.connection = connection
        self.body = body
        self.matched = b"/"  # the prefix of the route that was chosen, decoded
        self.upgrade: bytes | None = None
        self.expects_continue = False
        self.inform: Inform | None = None  # sends a 1xx to the client; None where HTTP/1.0
        self.backend: str | None = None  # the backend that was asked when the client left
        self.id = b""  # X-Request-Id; a handler that needs one makes it
        self.login: Login | None = None

    @property
    def original(self) -> Request:
        """The request as the client sent it, where a site changes its path; else this one."""
        return self

    @property
    def client(self) -> str:
        """The address of the client: the peer, or whom a trusted proxy names. For limits, rates,
        hashing, logs and fields alike."""
        connection = self.connection
        proxies = connection.proxies
        return connection.peer if proxies is None else proxies.client(connection.peer, self.fields)

    @property
    def fields_as_sent(self) -> Fields:
        """The fields as the client sent them, whatever filters have made of them since."""
        try:
            return self.sent_fields
        except AttributeError:  # no filter has changed any
            return self.fields

    def set_fields(self, fields: Fields) -> None:
        """Put these fields in place of all that there are. What the client sent stays known as
        ``sent_fields``, which requests that no filter changes do not have."""
        self.sent_fields = self.fields_as_sent
        self.fields = self.uncached_fields = fields
        self.cached_fields = None

    def replace_fields(self, names: frozenset[bytes], given: Fields) -> None:
        """Put the ``given`` fields in place of all that a client has sent under these names. CGI
        reads "_" and "-" alike, so what is spelt with the former goes as well."""
        self.sent_fields = self.fields_as_sent
        cached = self.cached_fields
        if cached is not None and not names.isdisjoint(cached.names):
            self.cached_fields = None
            self.uncached_fields = self.fields
        alone = self.uncached_fields is self.fields
        self.fields = _without(self.fields, names) + given
        self.uncached_fields = (
            self.fields if alone else _without(self.uncached_fields, names) + given
        )

    def field(self, name: bytes) -> bytes | None:
        """The first value of a field, by lower-case name."""
        for key, value in self.fields:
            if key == name:
                return value
        return None


def _without(fields: Fields, names: frozenset[bytes]) -> Fields:
    return [
        one
        for one in fields
        if one[0] not in names and (b"_" not in one[0] or one[0].replace(b"_", b"-") not in names)
    ]


class FileBody:
    """A range of an open file. ``release`` is called exactly once, sent or not."""

    __slots__ = ("fd", "length", "offset", "release")

    def __init__(self, fd: int, offset: int, length: int, release: Callable[[], None]) -> None:
        self.fd = fd
        self.offset = offset
        self.length = length
        self.release = release


class StreamBody(Protocol):
    """A response body that arrives piece by piece; a `Body` that must also be closed, and of which
    at most ``most`` bytes are asked for at a time (what is buffered already may be more).

    ``read_now`` gives the next piece, b"" at the end, and None where it must be waited for: then
    ``read`` does.

    ``close(complete)`` is called exactly once, whatever happened: with True when the client has
    taken everything, with False otherwise; the handler puts its backend connection back or ends it.
    """

    length: int | None

    @property
    def trailers(self) -> Fields: ...

    @property
    def at_end(self) -> bool:
        """Whether nothing but b"" is left to be read, as far as is known."""
        ...

    def read_now(self, most: int = READ_SIZE) -> bytes | None: ...

    async def read(self, most: int = READ_SIZE) -> bytes: ...

    def close(self, complete: bool) -> None: ...


class Tunnel:
    """After a 101: bytes both ways between the client and ``stream`` until both sides have ended.

    ``leftover`` are bytes the backend sent behind its 101 head. ``close`` as in `StreamBody`.
    ``idle_timeout`` is how many seconds both directions together may be silent. ``received`` counts
    the bytes that came from the client.
    """

    __slots__ = ("close", "idle_timeout", "leftover", "received", "stream")

    def __init__(
        self,
        stream: Stream,
        leftover: bytes,
        close: Callable[[bool], None],
        idle_timeout: float = 300.0,
    ) -> None:
        self.stream = stream
        self.idle_timeout = idle_timeout
        self.leftover = leftover
        self.close = close
        self.received = 0


ResponseBody = bytes | FileBody | StreamBody | Tunnel


class CachedHead(Protocol):
    """A head as one protocol sends it, made once for responses with the same status and fields.
    Nobody but that protocol looks into it; any other makes its own from the fields.

    ``kept``: what filters that always do the same make of these status and fields, by filters.
    """

    kept: dict[object, tuple[int, Fields, CachedHead | None]] | None

    def plus(self, name: bytes, value: bytes) -> CachedHead:
        """The same head with one field more, or another such object."""
        ...

    def remade(self, status: int, fields: Fields) -> CachedHead:
        """The head of another status and other fields, in the same protocol."""
        ...


class Response:
    """What a handler answers.

    ``fields`` hold no Date, no Connection, no Transfer-Encoding: those belong to the protocol.
    Content-Length is the handler's only where the body does not tell (a HEAD answer, a 304);
    for bytes, FileBody and a StreamBody with a length the protocol writes it unless present.
    ``cached`` may hold what a protocol has made of status and fields; whoever changes these does it
    by `set_field` and `add_field`, or sets ``cached`` to None. ``shared``: the same object answers
    many requests, and whoever wants it otherwise changes a `copy`.
    """

    __slots__ = (
        "backend",
        "block",
        "body",
        "cached",
        "close",
        "error",
        "fields",
        "handler",
        "kept",
        "shared",
        "status",
    )

    def __init__(
        self,
        status: int,
        fields: Fields,
        body: ResponseBody = b"",
        handler: str = "",
        cached: CachedHead | None = None,
        *,
        error: str | None = None,
        close: bool = False,
        shared: bool = False,
    ) -> None:
        self.status = status
        self.fields = fields
        self.body = body
        self.handler = handler  # for log and metrics: static, upstream, redirect, challenge, error
        self.cached = cached
        self.error = error  # why it is not the answer hoped for; one word of errors.FAULTS
        self.backend: str | None = None  # which backend was asked
        self.close = close  # end the connection after this answer
        self.shared = shared
        # Of a shared response: its head over HTTP/2, made once, and whether Date is in it.
        self.block: tuple[bytes, bool] | None = None
        # Of a shared response: what filters that always do the same have made of it, by filters.
        self.kept: dict[object, Response | None] | None = None

    def copy(self) -> Response:
        """The same response, for one request alone."""
        made = Response(
            self.status,
            self.fields,
            self.body,
            handler=self.handler,
            cached=self.cached,
            error=self.error,
            close=self.close,
        )
        made.backend = self.backend
        return made

    def keep(self, key: object, made: Response | None) -> None:
        """Keep what a filter has made of this shared response; ``key`` begins with the filter."""
        if self.kept is None:
            self.kept = {}
        self.kept[key] = made

    def changed_once(self, key: object, change: Callable[[Response], Response]) -> Response:
        """What ``change`` makes of a copy of this shared response: made once, kept and shared."""
        made = None if self.kept is None else self.kept.get(key)
        if made is None:
            made = change(self.copy())
            made.shared = True
            self.keep(key, made)
        return made

    def set_field(self, name: bytes, value: bytes) -> None:
        """Give the response this field once, in place of all of that name."""
        # The handler's list may be shared with later responses.
        if any(present == name for present, _ in self.fields):
            self.fields = [field for field in self.fields if field[0] != name]
            self.cached = None
        self.add_field(name, value)

    def add_field(self, name: bytes, value: bytes) -> None:
        """Give the response one field more."""
        self.fields = [*self.fields, (name, value)]
        if self.cached is not None:
            self.cached = self.cached.plus(name, value)

    def discard(self) -> None:
        """End a body of which nothing will be sent: its file, its backend connection."""
        body = self.body
        if isinstance(body, bytes):
            return
        if isinstance(body, FileBody):
            body.release()
        else:
            body.close(False)


class Handler(Protocol):
    """``handle`` returns the response, or an awaitable of it where something must be waited for.
    Either raises `Fault` where there is none, which then becomes the response."""

    def handle(self, request: Request) -> Response | Awaitable[Response]: ...
