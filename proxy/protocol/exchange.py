"""One request and its answer, from the complete head to the line in the access log.

A protocol makes an `Exchange` as soon as it knows a request, or has to refuse something that never
became one, and hands it to its `Service` twice: to `Service.handle` for the answer, and to
`Service.finished` when nothing more will be sent. Everything that is known only of one request
lies here, so that a connection may have many of them at the same time (HTTP/2), and so that
filters, counters and the log all read the same facts.

An `Exchange` never decides anything and never does I/O.
"""

from __future__ import annotations

from collections.abc import Callable

from acme_client.late_dataclass import dataclass

from ..accelerated import Lane, lane
from .message import Connection, Fields, HostMatch, Request, Response

# Bytes of a refused head's target and Host that are logged.
LOGGED = 4096


@dataclass(frozen=True, slots=True)
class PartialHead:
    """What could be read of a head that never became a request, for the log: not validated, each
    None where nothing stands in its place."""

    method: bytes | None = None
    target: bytes | None = None
    host: bytes | None = None


# Shared by all exchanges: nobody changes it.
_NONE: Fields = []


class Exchange:
    """``request`` is None for what never became a request; ``partial`` is what could be read of it.
    ``response`` is the answer, as soon as it is known; it is set before `Service.finished`.
    ``sent`` counts body bytes. ``error`` is what ended the sending early (a key of FAULTS), else
    None; then ``response.error`` still tells why the answer is what it is. ``started`` is when the
    head was complete (monotonic seconds, 0.0 without a request), ``duration`` how many seconds have
    passed since then at the end. ``match`` is the site of its host, None where no site has that
    name. ``tunnel``: it counts as a tunnel. ``user``: who has logged in.
    ``cookies``: the fields Set-Cookie that a login service gives the client with the answer.
    ``for_filters``: the request as filters of users see it (`sites.own_messages`).
    """

    __slots__ = (
        "connection",
        "cookies",
        "duration",
        "error",
        "for_filters",
        "match",
        "partial",
        "request",
        "response",
        "sent",
        "started",
        "tunnel",
        "user",
    )

    def __init__(
        self, connection: Connection, request: Request | None = None, started: float = 0.0
    ) -> None:
        self.connection = connection
        self.request = request
        self.started = started
        self.match: HostMatch | None = None
        self.partial: PartialHead | None = None
        self.tunnel = False
        self.user: str | None = None
        self.for_filters: object = None
        self.cookies: Fields = _NONE
        self.response: Response | None = None
        self.sent = 0
        self.error: str | None = None
        self.duration = 0.0

    @property
    def client(self) -> str:
        """The address that limits and the log know the client by."""
        return self.connection.peer if self.request is None else self.request.client


def bind(lane: Lane) -> None:
    """Let a lane know the classes of messages, and how Python makes them."""
    nobody = Connection("", 0, "", 0)
    request = Request(b"GET", b"/", b"1.1", b"", b"", [], nobody)
    lane.bind_messages(Exchange(nobody, request), Connection, Response)


# Makes the exchange of a connection, a request and the moment of its head.
new_exchange: Callable[[Connection, Request, float], Exchange] = Exchange
if lane is not None:
    bind(lane)
    new_exchange = lane.exchange
