"""What port 80 and port 443 say: the rules of the front door, request by request.

A *door* decides before any handler is asked: whether the host is ours, whether this connection may
be used for it, whether it must come back over HTTPS. It implements the protocol's `Service` for one
kind of listener and shares everything else with the other kind. Every fault becomes an answer here,
and every request's end a log line and a figure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field

from ..config.model import Limits
from ..errors import Blame, Fault
from ..handlers.http01 import PREFIX as CHALLENGE_PREFIX
from ..handlers.http01 import Challenges
from ..log import Seldom
from ..metrics.counters import Figures
from ..name_table import covers
from ..protocol.exchange import Exchange
from ..protocol.message import Connection, Handler, Request, Response
from ..sites.site import Match, SiteTable
from ..tls.contexts import Certificates
from ..transport.clock import Clock
from .access_log import AccessLog
from .limits import Bounds
from .on_demand import WaitingRoom

log = logging.getLogger("treehouse.worker")


@dataclass(slots=True, eq=False)
class Room:
    """What both doors of a worker share."""

    sites: SiteTable
    challenges: Challenges
    certificates: Certificates
    limits: Limits
    clock: Clock
    access_log: AccessLog | None
    https_port: int
    bounds: Bounds
    waiting: WaitingRoom | None = None
    figures: Figures | None = None  # counted only where somebody can ask
    seldom: Seldom = field(default_factory=lambda: Seldom(log))
    doors: list[Door] = field(default_factory=list)
    requests: int = 0
    in_flight: int = 0

    def drain(self) -> None:
        """Every answer from now on is the last of its connection."""
        for door in self.doors:
            door.draining = True


class Door:
    """The parts of `Service` that do not depend on the port."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.limits = room.limits
        self.clock = room.clock
        self.draining = False
        room.doors.append(self)

    def handle(self, exchange: Exchange) -> Response | Awaitable[Response]:
        request = exchange.request
        assert request is not None  # noqa: S101 - the contract of `Service`
        self.room.in_flight += 1
        try:
            answer = self._handle(exchange, request)
        except Exception as error:
            return self._failed(exchange, error)
        return answer if isinstance(answer, Response) else self._awaited(exchange, answer)

    async def _awaited(self, exchange: Exchange, answer: Awaitable[Response]) -> Response:
        try:
            return await answer
        except Exception as error:
            return self._failed(exchange, error)

    def _failed(self, exchange: Exchange, error: Exception) -> Response:
        if isinstance(error, Fault):
            return self.refuse(exchange, error)
        log.error("a request failed inside the server", exc_info=error)
        return self.refuse(exchange, Fault("internal"))

    def _handle(self, exchange: Exchange, request: Request) -> Response | Awaitable[Response]:
        """The response, or an awaitable of it; either may raise `Fault`."""
        raise NotImplementedError

    def _ask(self, exchange: Exchange, handler: Handler) -> Response | Awaitable[Response]:
        """The handler's response, if the request is within the limits. Raises `Fault`."""
        request = exchange.request
        assert request is not None  # noqa: S101 - the contract of `Service`
        if request.body is not None:
            self._check_length(request.body.length)
        if request.upgrade is not None and not exchange.tunnel:
            self.room.bounds.begin_tunnel()
            exchange.tunnel = True
        return handler.handle(request)

    def limited(self, limit: str, connection: Connection) -> None:
        self.room.bounds.reached(limit, connection.peer)

    def _check_length(self, length: int | None) -> None:
        """A body known to be too large is refused before a byte of it is read."""
        most = self.limits.body_size
        if most is not None and length is not None and length > most:
            raise Fault("body_too_large", f"{length} bytes")

    def refuse(self, exchange: Exchange, fault: Fault) -> Response:
        kind = fault.what
        if kind.blame is not Blame.CLIENT and fault.detail:
            # A backend that is down is a line every few seconds here; each request has its own in
            # the access log.
            self.room.seldom.warning(self.clock.now, f"{fault.kind}: %s", fault.detail)
        elif log.isEnabledFor(logging.DEBUG):
            log.debug("%s: refused (%s): %s", exchange.client, fault.kind, fault.detail)
        body = f"{kind.status} {kind.text}\n".encode()
        fields = [(b"content-type", b"text/plain; charset=utf-8"), *fault.fields]
        response = Response(
            kind.status, fields, body, handler="error", error=fault.kind, close=kind.closes
        )
        response.backend = fault.backend
        return response

    def finished(self, exchange: Exchange) -> None:
        room = self.room
        request, response = exchange.request, exchange.response
        assert response is not None  # noqa: S101 - the contract of `Service`
        room.requests += 1
        if request is not None:
            room.in_flight -= 1
            if exchange.tunnel:
                room.bounds.end_tunnel()
            exchange.duration = time.monotonic() - exchange.started
        if room.figures is not None:
            room.figures.request(exchange)
        ended_by = exchange.error or response.error
        if ended_by is not None:
            room.bounds.fault(ended_by, exchange.client)
        if room.access_log is not None and self.logs(exchange):
            room.access_log.add(exchange)

    def logs(self, exchange: Exchange) -> bool:
        """Whether an exchange gets its line in the access log."""
        return True


class PlainDoor(Door):
    """Port 80: answers challenges, and sends everybody else to HTTPS."""

    def __init__(self, room: Room) -> None:
        super().__init__(room)
        self._redirect = ToHttps(room.certificates, room.https_port)

    def _handle(self, exchange: Exchange, request: Request) -> Response | Awaitable[Response]:
        room = self.room
        if request.path.startswith(CHALLENGE_PREFIX):
            return self._ask(exchange, room.challenges)
        match = exchange.match = room.sites.find(request.host)
        if match is None or not match.label:  # the default site is for 443
            return self._after_waiting(exchange, request)
        return self._ask(exchange, self._redirect)

    async def _after_waiting(self, exchange: Exchange, request: Request) -> Response:
        """People type a name without https first, and that may be the first time it is heard."""
        waiting = self.room.waiting
        outcome = await waiting.obtain(request.host, request.client) if waiting else "refused"
        exchange.match = self.room.sites.find(request.host)
        if outcome == "late":
            raise Fault("no_certificate")
        if outcome == "refused":
            raise Fault("unknown_host")
        answer = self._ask(exchange, self._redirect)
        return answer if isinstance(answer, Response) else await answer


class ToHttps:
    """Redirects to the same address on the HTTPS port, if its site can be served there."""

    def __init__(self, certificates: Certificates, port: int) -> None:
        self._certificates = certificates
        self._port = port

    def handle(self, request: Request) -> Response:
        if self._certificates.find(request.host.decode("ascii")) is None:
            raise Fault("no_certificate")
        # 301 for old clients because 308 is younger than HTTP/1.0; for methods other than GET and
        # HEAD a 301 would be rewritten to GET, so those get the 308 even then.
        old = request.version == b"1.0" and request.method in (b"GET", b"HEAD")
        port = self._port
        host = b"[%s]" % request.host if b":" in request.host else request.host
        authority = host if port == 443 else b"%s:%d" % (host, port)
        location = b"https://%s%s" % (authority, request.target)
        return Response(301 if old else 308, [(b"location", location)], handler="redirect")


class SecureDoor(Door):
    """Port 443: the host must belong to the certificate that the connection was opened with
    (RFC 9110 §7.4), then its site chooses the route, with its filters."""

    def handle(self, exchange: Exchange) -> Response | Awaitable[Response]:
        # `Door.handle` and `_handle` in one: each frame costs as much as a look-up.
        request, connection = exchange.request, exchange.connection
        assert request is not None  # noqa: S101 - the contract of `Service`
        self.room.in_flight += 1
        try:
            match = connection.match
            if request.host != connection.authorized_host or not isinstance(match, Match):
                match = self._authorize(exchange, request.host)
            exchange.match = match
            route = match.site.router.find(request)
            handler, chain = route.handler, route.chain
            if chain is not None:
                return chain.handle(exchange, handler, self._ask, self._failed)
            if request.body is None and request.upgrade is None:
                answer = handler.handle(request)  # nearly always
            else:
                answer = self._ask(exchange, handler)
        except Exception as error:
            return self._failed(exchange, error)
        return answer if isinstance(answer, Response) else self._awaited(exchange, answer)

    def _authorize(self, exchange: Exchange, host: bytes) -> Match:
        """The site of a host that this connection may be used for. Raises `Fault`."""
        connection = exchange.connection
        match = exchange.match = self.room.sites.find(host)
        named = match is not None and bool(match.label)
        if covers(connection.certificate_names, host.decode("ascii")):
            if match is None or not named:
                raise Fault("unknown_host")
        elif match is None or named:
            raise Fault("misdirected")
        connection.match = match
        connection.authorized_host = host
        return match
