"""What port 80 and port 443 answer: the rules before any handler is asked, request by request.

A service decides whether a host is one of ours, whether this connection may be used for it, and
whether it must come back over HTTPS. It implements the protocol's `Service` for one kind of
listener; what the services of a worker share is in `context`. Every fault becomes a response here,
and the end of every request a line in the access log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable

from ..errors import Blame, Fault
from ..handlers.http01 import PREFIX as CHALLENGE_PREFIX
from ..handlers.upstream.request_head import passed_here
from ..name_table import covers
from ..protocol.exchange import Exchange
from ..protocol.message import Connection, Handler, Request, RequestBody, Response
from ..sites.filters import Chain
from ..sites.site import Match
from ..tls.contexts import Certificates
from .context import WorkerContext

log = logging.getLogger("treehouse.worker")


class BaseService:
    """The parts of `Service` that do not depend on the port."""

    logs_all = True  # in the access log

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        self.limits = context.limits
        self.clock = context.clock
        self.draining = False
        context.services.append(self)

    def handle(self, exchange: Exchange) -> Response | Awaitable[Response]:
        """The response, or an awaitable of it; never raises. See `protocol.service.Service`."""
        request = exchange.request
        assert request is not None  # noqa: S101 - the contract of `Service`
        self.context.in_flight += 1
        try:
            return self._handle(exchange, request)
        except Exception as error:  # a fault of ours costs one request, and no connection
            return self.failed(exchange, error)

    def failed(self, exchange: Exchange, error: Exception) -> Response:
        """Make the response to whatever has been raised."""
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
            _check_length(request.body)
        if request.upgrade is not None and not exchange.tunnel:
            self.context.limit_reporter.begin_tunnel()
            exchange.tunnel = True
        return handler.handle(request)

    def limited(self, limit: str, connection: Connection) -> None:
        """Report that a connection has reached a limit of its own."""
        self.context.limit_reporter.limit_reached(limit, connection.peer)

    def refuse(self, exchange: Exchange, fault: Fault) -> Response:
        """Make the response to a fault, and log what the operator should know of it."""
        kind = fault.what
        if kind.blame is not Blame.CLIENT and fault.detail:
            # A backend that is down is a line every few seconds here; each request has its own in
            # the access log.
            extra = {"peer": exchange.client}
            if exchange.request is not None:
                extra["site"] = exchange.request.host.decode("latin-1")
                if (trace := getattr(exchange.request, "trace", None)) is not None:
                    extra["trace_id"] = trace.trace_id
            if fault.backend is not None:
                extra["backend"] = fault.backend
            text = f"{fault.kind}: %s"
            self.context.seldom.warning(
                self.clock.now, text, fault.detail, about=fault.backend, extra=extra
            )
        elif log.isEnabledFor(logging.DEBUG):
            why = fault.detail or kind.text
            extra = {"peer": exchange.client}
            log.debug("%s: refused (%s): %s", exchange.client, fault.kind, why, extra=extra)
        page = fault.page
        if isinstance(page, Response):
            return page
        body = f"{kind.status} {kind.text}\n".encode()
        fields = [(b"content-type", b"text/plain; charset=utf-8"), *fault.fields]
        response = Response(
            kind.status, fields, body, handler="error", error=fault.kind, close=kind.closes
        )
        response.backend = fault.backend
        return response

    def finished(self, exchange: Exchange) -> None:
        """Count an exchange that is over, and write its line in the access log."""
        context = self.context
        request, response = exchange.request, exchange.response
        assert response is not None  # noqa: S101 - the contract of `Service`
        context.requests += 1
        if request is not None:
            context.in_flight -= 1
            if exchange.tunnel:
                context.limit_reporter.end_tunnel()
            exchange.duration = time.monotonic() - exchange.started
        if context.counters is not None:
            context.counters.request(exchange)
        ended_by = exchange.error or response.error
        if ended_by is not None:
            context.limit_reporter.fault(ended_by, exchange.client)
        if context.access_log is not None and (self.logs_all or self.logs(exchange)):
            context.access_log.add(exchange)

    def logs(self, exchange: Exchange) -> bool:
        """Whether an exchange gets its line in the access log; not asked where all of them do."""
        return self.logs_all


def _check_length(body: RequestBody) -> None:
    """Refuse a body that is known to be too large, before a byte of it is read."""
    most, length = body.limits.body_size, body.length
    if most is not None and length is not None and length > most:
        raise Fault("body_too_large", f"{length} bytes")


class HttpService(BaseService):
    """Port 80: answers challenges, and sends everybody else to HTTPS."""

    def __init__(self, context: WorkerContext) -> None:
        super().__init__(context)
        self._redirect = ToHttps(context.certificates, context.https_port)
        context.challenges.is_ours = self._is_ours
        context.challenges.may_be_ours = self._may_be_ours

    def _handle(self, exchange: Exchange, request: Request) -> Response | Awaitable[Response]:
        context = self.context
        if request.path.startswith(CHALLENGE_PREFIX):
            return self._ask(exchange, context.challenges)
        match = exchange.match = context.sites.find(request.host)
        if match is None or not match.label:  # the default site is for 443
            return self._after_waiting(exchange, request)
        return self._ask(exchange, self._redirect)

    def _is_ours(self, host: bytes) -> bool:
        match = self.context.sites.find(host)
        return match is not None and bool(match.label)

    def _may_be_ours(self, host: bytes) -> bool:
        return bool(self.context.on_demand) or self._is_ours(host)

    async def _after_waiting(self, exchange: Exchange, request: Request) -> Response:
        """The response for a host that no site names: obtain its certificate on demand first, for
        people type a name without https, and that may be the first time anybody asks for it."""
        on_demand = self.context.on_demand
        outcome = await on_demand.obtain(request.host, request.client) if on_demand else "refused"
        exchange.match = self.context.sites.find(request.host)
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
        if passed_here(request):
            # A client would be sent round and round: to HTTPS, to this port, to HTTPS.
            raise Fault("loop", "the backend is this server's own port for HTTP")
        if self._certificates.find(request.host.decode("ascii")) is None:
            raise Fault("no_certificate")
        # 301 for old clients because 308 is younger than HTTP/1.0; for methods other than GET and
        # HEAD a 301 would be rewritten to GET, so those get the 308 even then.
        old = request.version == b"1.0" and request.method in (b"GET", b"HEAD")
        port = self._port
        host = b"[%s]" % request.host if b":" in request.host else request.host
        authority = host if port == 443 else b"%s:%d" % (host, port)
        # OPTIONS * asks about the server itself, whose URI has no path (RFC 9112 §3.2.4).
        path = b"" if request.target == b"*" else request.target
        location = b"https://%s%s" % (authority, path)
        return Response(301 if old else 308, [(b"location", location)], handler="redirect")


class HttpsService(BaseService):
    """Port 443: the host must belong to the certificate that the connection was opened with
    (RFC 9110 §7.4), then its site chooses the route, with its filters."""

    def handle(self, exchange: Exchange) -> Response | Awaitable[Response]:
        # `BaseService.handle` and `_handle` in one: each frame costs as much as a look-up.
        request, connection = exchange.request, exchange.connection
        assert request is not None  # noqa: S101 - the contract of `Service`
        self.context.in_flight += 1
        chain: Chain | None = None
        try:
            if request.host == connection.authorized_host:
                match: Match = connection.match  # type: ignore[assignment] # `_authorize` set both
            else:
                match = self._authorize(exchange, request.host)
            exchange.match = match
            route = match.site.router.find(request)
            chain = route.chain
            if chain is not None and chain.guards:
                return chain.handle(exchange, route.handler, self._ask, self.failed)
            if request.body is None and request.upgrade is None:
                answer = route.handler.handle(request)  # nearly always
            else:
                answer = self._ask(exchange, route.handler)
        except Exception as error:  # likewise
            answer = self.failed(exchange, error)
        return answer if chain is None else chain.changed(exchange, answer, self.failed)

    def _authorize(self, exchange: Exchange, host: bytes) -> Match:
        """The site of a host that this connection may be used for. Raises `Fault`."""
        connection = exchange.connection
        match = exchange.match = self.context.sites.find(host)
        named = match is not None and bool(match.label)
        if covers(connection.certificate_names, host.decode("ascii")):
            if match is None or not named:
                raise Fault("unknown_host", f"no site is called {host.decode('ascii')}")
        elif match is None or named:
            covered = ", ".join(connection.certificate_names[:8])
            detail = f"{host.decode('ascii')} on a connection whose certificate is for {covered}"
            raise Fault("misdirected", detail)
        request = exchange.request
        if not match.site.config.http2 and request is not None and request.version == b"2":
            # Its certificate is also that of a site which has HTTP/2.
            raise Fault("misdirected", f"{host.decode('ascii')} is served without HTTP/2")
        if connection.mtls_site is not None and connection.mtls_site != match.site.name:
            # A client certificate is for the site that asked, and told to no other backend.
            detail = f"{host.decode('ascii')} on a connection for {connection.mtls_site} alone"
            raise Fault("misdirected", detail)
        connection.match = match
        connection.authorized_host = host
        return match
