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
from itertools import count

from ..config.model import Limits, Tls
from ..errors import Blame, Fault
from ..handlers.http01 import PREFIX as CHALLENGE_PREFIX
from ..handlers.http01 import Challenges
from ..log import Seldom
from ..metrics.counters import Figures
from ..protocol.exchange import Exchange
from ..protocol.h1.fast_parser import Lane
from ..protocol.message import Connection, Request, Response
from ..sites.access import Gates
from ..sites.router import Router
from ..tls.contexts import Certificates, covers
from ..transport.clock import Clock
from .access_log import AccessLog
from .limits import Bounds
from .on_demand import WaitingRoom

log = logging.getLogger("treehouse.worker")


@dataclass(slots=True, eq=False)
class Room:
    """What both doors of a worker share."""

    router: Router
    challenges: Challenges
    certificates: Certificates
    limits: Limits
    clock: Clock
    access_log: AccessLog | None
    tls: Tls
    https_port: int
    default_site: bool
    lane: Lane | None
    gates: Gates
    bounds: Bounds
    request_id_prefix: bytes
    waiting: WaitingRoom | None = None
    figures: Figures | None = None  # counted only where somebody can ask
    seldom: Seldom = field(default_factory=lambda: Seldom(log))
    doors: list[Door] = field(default_factory=list)
    requests: int = 0
    in_flight: int = 0
    serial: count[int] = field(default_factory=count)

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
        self.lane = room.lane
        self.draining = False
        room.doors.append(self)

    def handle(self, exchange: Exchange) -> Response | Awaitable[Response]:
        request = exchange.request
        assert request is not None  # noqa: S101 - the contract of `Service`
        self.room.in_flight += 1
        try:
            if request.body is not None:
                self._check_length(request.body.length)
            if request.upgrade is not None:
                self._begin_tunnel(request)
            answer = self._handle(request)
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

    def _handle(self, request: Request) -> Response | Awaitable[Response]:
        """The response, or an awaitable of it; either may raise `Fault`."""
        raise NotImplementedError

    def _begin_tunnel(self, request: Request) -> None:
        try:
            self.room.bounds.begin_tunnel()
        except Fault:
            request.upgrade = None  # nothing to be ended
            raise

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
            self.room.seldom.warning(self.clock.now, "%s: %s", fault.kind, fault.detail)
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
            if request.upgrade is not None:
                room.bounds.end_tunnel()
            if not request.id and room.access_log is not None:
                request.id = b"%s%x" % (room.request_id_prefix, next(room.serial))
            exchange.duration = time.monotonic() - exchange.started
        if room.figures is not None:
            room.figures.request(exchange)
        ended_by = exchange.error or response.error
        if ended_by is not None:
            room.bounds.fault(ended_by, exchange.connection.peer)
        if room.access_log is not None:
            room.access_log.add(exchange)


class PlainDoor(Door):
    """Port 80: answers challenges, and sends everybody else to HTTPS."""

    def _handle(self, request: Request) -> Response | Awaitable[Response]:
        room = self.room
        if request.path.startswith(CHALLENGE_PREFIX):
            return room.challenges.handle(request)
        if not room.router.knows(request.host):
            return self._after_waiting(request)
        return self._to_https(request)

    async def _after_waiting(self, request: Request) -> Response:
        """People type a name without https first, and that may be the first time it is heard."""
        waiting = self.room.waiting
        answer = (
            await waiting.obtain(request.host, request.connection.peer) if waiting else "refused"
        )
        if answer == "late":
            raise Fault("no_certificate")
        if answer == "refused":
            raise Fault("unknown_host")
        return self._to_https(request)

    def _to_https(self, request: Request) -> Response:
        if self.room.certificates.find(request.host.decode("ascii")) is None:
            raise Fault("no_certificate")
        # 301 for old clients because 308 is younger than HTTP/1.0; for methods other than GET and
        # HEAD a 301 would be rewritten to GET, so those get the 308 even then.
        old = request.version == b"1.0" and request.method in (b"GET", b"HEAD")
        port = self.room.https_port
        host = b"[%s]" % request.host if b":" in request.host else request.host
        authority = host if port == 443 else b"%s:%d" % (host, port)
        location = b"https://%s%s" % (authority, request.target)
        return Response(301 if old else 308, [(b"location", location)], handler="redirect")


class SecureDoor(Door):
    """Port 443: the host must belong to the certificate that the connection was opened with
    (RFC 9110 §7.4), then the router chooses."""

    def __init__(self, room: Room) -> None:
        super().__init__(room)
        self._gates = room.gates or None
        hsts = room.tls.hsts
        self._hsts = b"max-age=%d" % int(hsts.max_age) if hsts else None

    def _handle(self, request: Request) -> Response | Awaitable[Response]:
        connection = request.connection
        if request.host != connection.covered_host:
            self._check(connection, request.host)
            connection.covered_host = request.host
        if self._gates is not None:
            self._gates.check(request)
        answer = self.room.router.route(request).handle(request)
        if self._hsts is None:
            return answer
        if isinstance(answer, Response):
            return _with_hsts(answer, self._hsts)
        return self._awaited_with_hsts(answer, self._hsts)

    @staticmethod
    async def _awaited_with_hsts(answer: Awaitable[Response], hsts: bytes) -> Response:
        return _with_hsts(await answer, hsts)

    def _check(self, connection: Connection, host: bytes) -> None:
        if covers(connection.certificate_names, host.decode("ascii")):
            if not self.room.router.knows(host):
                raise Fault("unknown_host")
            return
        if not (self.room.default_site and not self.room.router.knows(host)):
            raise Fault("misdirected")


def _with_hsts(response: Response, hsts: bytes) -> Response:
    if response.shared:
        kept = response.kept
        if kept is None:
            kept = response.kept = {"hsts": _with_hsts(response.copy(), hsts)}
        return kept["hsts"]
    # The handler's list may be shared with later answers.
    response.fields = [*response.fields, (b"strict-transport-security", hsts)]
    if response.wire is not None:
        response.wire += b"strict-transport-security: %b\r\n" % hsts
    return response
