"""The reverse proxy: a request goes to one of a route's backends, and its response comes back.

The stages of a request:

    choose     a backend (`balancing`, `sticky`, `backend`)
    connect    a kept connection or a new one (`pool`, `connector`); where that fails, another
               backend; where none takes the request, it may wait for one (`held_requests`)
    send       the head made anew (`request_head`), with the body if it is all there, in one write;
               else the body follows beside the response (`request_body`)
    await      interim responses, which are passed on, and the final head (`attempt`)
    respond    the whole body at once if it came with its head; else piece by piece; or a tunnel
    settle     the connection goes back to its pool, or ends

A request is repeated in these cases only. Nothing had been sent, or what was sent provably reached
nobody: any request. The connection ended before a byte of a response came: an idempotent request
(RFC 9110 §9.2.2, RFC 9112 §9.3.1) whose body, if it has one, is still here; once, on a new
connection, where a kept one had been too old, else at another backend.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Awaitable, Coroutine
from typing import Any

from ...config import model
from ...config.model import ProxyAction
from ...errors import Blame, Fault
from ...ipc.documents import UpstreamStatus
from ...log import Seldom
from ...protocol.h1.client import NoResponse
from ...protocol.h1.response_parser import FastResponseParser
from ...protocol.message import Request, Response
from .attempt import Attempt, new_attempt
from .backend import Backend
from .balancing import Policy, policy
from .connector import NotAllowed, speaks_http2, tls_context
from .context import UpstreamContext
from .early import new_backend_answer
from .h2_pool import H2Pool
from .held_requests import HeldRequests
from .pool import Connection, Pool
from .request_body import Payload
from .request_head import new_forwarder
from .sticky import StickyCookie

log = logging.getLogger("treehouse.upstream")

# A backend that fails in these ways is left out for a while.
_COUNTS_AGAINST = frozenset({"backend_refused", "backend_timeout", "backend_tls"})


class Upstream:
    def __init__(
        self,
        action: ProxyAction,
        context: UpstreamContext,
        told: frozenset[bytes] = frozenset(),
        *,
        reports_pauses: bool = True,
    ) -> None:
        """``told`` as `Forwarder` has it; ``reports_pauses``: the log tells of a backend that is
        left out, beside the requests that fail."""
        self.purpose = "backend attempt"  # what traces call a request of its
        self.action = action
        self.patience = action.response_timeout
        self.context = context
        self.forwarder = new_forwarder(
            context.trusted_proxies,
            action.via,
            action.request_headers,
            told,
            traces=context.tracer is not None,
        )
        tls = tls_context(action)
        parser = FastResponseParser() if context.fast_lane else None
        self._backends = [
            Backend(config, self.pool(config, tls, parser), action, reports_pauses=reports_pauses)
            for config in action.backends
        ]
        # The one that is always chosen.
        alone = len(self._backends) == 1 and action.breaker is None
        self._alone = self._backends[0] if alone else None
        self._policy: Policy[Backend] = policy(action)
        sticky = action.sticky_cookie
        self._sticky = StickyCookie(sticky, self._backends) if sticky is not None else None
        self._seldom = Seldom(log)
        self._held: HeldRequests | None = None
        if action.wait_for_backend:
            self._held = HeldRequests(action.max_queued, context.clock, self._probe)
        self._begins_early = (
            self._held is None
            and context.tracer is None
            and not any(isinstance(one.pool, H2Pool) for one in self._backends)
        )
        # Somebody takes note of each answer.
        self._noted = not (
            context.tracer is None
            and context.counters is None
            and action.breaker is None
            and self._sticky is None
        )

    def pool(
        self, config: model.Backend, tls: ssl.SSLContext | None, parser: FastResponseParser | None
    ) -> Pool:
        """Return the connections to a backend."""
        kind = H2Pool if speaks_http2(config, self.action) else Pool
        return kind(config, self.action, tls, self.context, parser)

    # Life

    def start(self) -> None:
        if self.action.health is not None:
            for backend in self._backends:
                backend.start_checks(self.action.health, self.context.loop)

    def tick(self, now: float) -> None:
        for backend in self._backends:
            backend.tick(now)

    def drain(self) -> None:
        """Do nothing: requests under way go on, and kept connections age."""

    def drain_backend(self, url: str, on: bool) -> None:
        """Give this backend no new clients, or (``on`` False) its share again."""
        for backend in self._backends:
            if backend.config.url == url:
                backend.draining = on or backend.config.drain

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
        for backend in self._backends:
            backend.close()

    def status(self) -> list[UpstreamStatus]:
        return [backend.status(self.context.clock.now) for backend in self._backends]

    # An exchange

    def handle(self, request: Request) -> Awaitable[Response]:
        """Return the backend's response. Raises `Fault`; its detail names the backend, the site and
        the request."""
        payload = Payload(request)
        if self._begins_early:
            return new_backend_answer(self, request, payload)
        return self.send(request, payload)

    def send(self, request: Request, payload: Payload) -> Coroutine[Any, Any, Response]:
        """`handle`, for a request whose body has been looked at."""
        if self._held is None:
            return self.ask(request, payload)
        return self._ask_patiently(request, payload, self._held)

    async def _ask_patiently(
        self, request: Request, payload: Payload, held: HeldRequests
    ) -> Response:
        """`ask`, and again when a backend takes connections, where none did."""
        until = self.context.clock.look() + self.action.wait_for_backend
        if held:
            await held.wait(until, Fault("backend_refused", "no backend takes connections"))
        while True:
            try:
                return await self.ask(request, payload)
            except Fault as fault:
                # When an app ends, connections that it had not accepted yet are reset.
                lost = payload.lost and payload.repeats < 2
                refused = fault.kind == "backend_refused" and not isinstance(fault, NotAllowed)
                if not refused and not lost:
                    raise
                payload.repeats += lost
                payload.lost = False
                await held.wait(until, fault)

    async def ask(
        self,
        request: Request,
        payload: Payload,
        backend: Backend | None = None,
        attempt: Attempt | None = None,
    ) -> Response:
        """As `handle`, with what is sent behind the head. ``backend`` has been chosen already, and
        ``attempt`` been begun with it."""
        tried: list[Backend] = []
        tracer = self.context.tracer
        fresh = False
        try:
            while True:
                if backend is None:
                    backend = self._choose(request, tried)
                tried.append(backend)
                if tracer is not None:
                    tracer.attempt(request, self.purpose, backend.config.url)
                if attempt is None:
                    connection = None if fresh else backend.pool.take(payload.repeatable)
                    try:
                        if connection is None:
                            connection = await backend.pool.open(fresh)
                    except Fault as fault:
                        self._count(request, backend, fault)
                        if len(tried) < len(self._backends):
                            backend = None
                            continue  # nothing has been sent
                        raise
                    attempt = self._begun(request, payload, backend, connection)
                try:
                    response = await attempt.run()
                except NoResponse as nothing:
                    broken = Fault("backend_broke_off", str(nothing))
                    again = payload.repeatable or nothing.unseen
                    if attempt.kept:  # its age, and not the backend's fault
                        if again and not fresh:
                            tried.pop()
                            fresh = True
                            backend = attempt = None
                            continue
                        self._name(request, backend, broken)
                        self.context.count(backend.config.url, "broke_off")
                        raise broken from None
                    payload.lost = again
                    self._count(request, backend, broken)
                    backend.failed(self.context.clock.now, str(nothing))
                    if again and len(tried) < len(self._backends):
                        backend = attempt = None
                        continue
                    raise broken from None
                except Fault as fault:
                    self._count(request, backend, fault)
                    raise
                self.answered(request, response, attempt)
                return response
        except asyncio.CancelledError:  # the client has left (`Timeouts.on_disconnect`)
            if backend is not None:
                request.backend = backend.config.url
                self.context.count(backend.config.url, "client_gone")
            raise

    # Begun early

    def choose(self, request: Request) -> Backend | None:
        """Return the backend whose turn it is; None where no one may be asked."""
        if self._alone is not None:
            return self._alone
        try:
            return self._choose(request, [])
        except Fault:
            return None  # which `ask` tells

    def attempt(self, request: Request, payload: Payload, backend: Backend) -> Attempt | None:
        """Send the request on a kept connection; None where there is none, or it may not be
        sent."""
        connection = backend.pool.take(payload.repeatable)
        if connection is None:
            return None
        attempt = self._begun(request, payload, backend, connection)
        try:
            attempt.send()
        except Fault:
            return None  # likewise
        return attempt

    def _begun(
        self, request: Request, payload: Payload, backend: Backend, connection: Connection
    ) -> Attempt:
        backend.in_flight += 1
        began = time.monotonic() if self.context.counters is not None else 0.0
        return new_attempt(self, backend, connection, request, payload, not connection.fresh, began)

    def answered(self, request: Request, response: Response, attempt: Attempt) -> None:
        """Note that an attempt has led to a response."""
        backend, context = attempt.backend, self.context
        response.backend = backend.config.url
        if not self._noted:
            return
        if context.tracer is not None:
            context.tracer.answered(request, response.status)
        if self.action.breaker is not None:
            backend.count(context.clock.now, response.status >= 500)
        if context.counters is not None:
            outcome = "error" if response.status >= 500 else "ok"
            context.counters.upstream(backend.config.url, outcome, time.monotonic() - attempt.began)
        if self._sticky is not None:
            self._sticky.bind(request, response, backend)

    async def _probe(self) -> bool:
        """Whether one of the backends takes connections."""
        for backend in self._backends:
            if backend.draining:
                continue
            try:
                connection = await backend.pool.open_another()
            except Fault as fault:
                if fault.kind == "backend_tls":
                    return True  # which the requests shall tell
            else:
                backend.pool.give_back(connection)
                return True
        return False

    def _choose(self, request: Request, tried: list[Backend]) -> Backend:
        backends = self._backends
        now = self.context.clock.now
        if self.action.breaker is not None:
            self._demand_one_closed(now)
        if len(backends) == 1:
            return backends[0]
        left = [one for one in backends if one not in tried]
        if self._sticky is not None:
            bound = self._sticky.bound(request)
            if bound is not None and bound in left and bound.is_available(now):
                return bound
        # In maintenance beats broken, and broken is tried before giving up.
        wanted = [one for one in left if not one.draining] or left
        return self._policy([one for one in wanted if one.is_available(now)] or wanted, request)

    def _demand_one_closed(self, now: float) -> None:
        """Raise `Fault` ("no_capacity") while the breakers of all backends are open: more requests
        would keep them open."""
        first = min(one.open_until for one in self._backends)
        if now < first:
            wait = b"%d" % math.ceil(first - now)
            detail = "the breakers of all backends are open"
            raise Fault("no_capacity", detail, [(b"retry-after", wait)])

    def _count(self, request: Request, backend: Backend, fault: Fault) -> None:
        if self.context.tracer is not None:
            self.context.tracer.failed(request, fault.kind)
        if fault.kind in _COUNTS_AGAINST:
            backend.failed(self.context.clock.now, fault.detail or fault.kind)
        if fault.what.blame is Blame.BACKEND:
            backend.count(self.context.clock.now, True)
            self.context.count(backend.config.url, fault.kind.removeprefix("backend_"))
        self._name(request, backend, fault)

    @staticmethod
    def _name(request: Request, backend: Backend, fault: Fault) -> None:
        """Name the backend, the site and the request in a fault's detail, for the log. The query is
        left out, because it may hold secrets."""
        fault.backend = backend.config.url
        sent = request.original
        fault.detail = (
            f"{backend.config.url}: {fault.detail or fault.what.text} "
            f"({sent.method.decode('latin-1')} {sent.host.decode('latin-1')}"
            f"{sent.path.decode('latin-1')})"
        )

    def tell(self, request: Request, backend: Backend, fault: Fault) -> None:
        """Write a fault into the log that ends a response in its body."""
        self._name(request, backend, fault)
        now = self.context.clock.now
        text = f"{fault.kind}, within a response: %s"
        url = backend.config.url
        extra = {"backend": url, "peer": request.client, "site": request.host.decode("latin-1")}
        self._seldom.warning(now, text, fault.detail, about=url, extra=extra)

    def message(
        self, request: Request, backend: Backend, _connection: Connection, payload: Payload
    ) -> bytes:
        """Return the head for a backend, and the body if it is all here. Raises `Fault`."""
        framing = payload.framing
        if self.forwarder.traces and self.context.tracer is not None:
            framing += self.context.tracer.lines(request)
        return self.forwarder.head(request, backend.host, framing, backend.prefix) + payload.whole
