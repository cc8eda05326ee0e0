"""The reverse proxy: a request goes to one of a route's backends, its answer comes back.

The way of an exchange:

    choose     a backend (`balance`, `member`)
    connect    a kept connection or a new one (`pool`, `connector`); where that fails, another
               backend; where none takes the request, it may wait for one (`held_requests`)
    send       the head made anew (`forwarding`), with the body if it is all there, in one write;
               else the body follows beside the answer (`upload`)
    await      interim answers, which are passed on, and the final head
    answer     the whole body at once if it came with its head; else piece by piece; or a tunnel
    settle     the connection goes back to its pool, or ends

A request is repeated in these cases only. Nothing had been sent, or what was sent provably reached
nobody: any request. The connection ended before a byte of an answer came: an idempotent request
(RFC 9110 §9.2.2, RFC 9112 §9.3.1) whose body, if it has one, is still here; once, on a new
connection, where a kept one had been too old, else at another backend.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from typing import Any

from ...config.model import Backend, ProxyAction
from ...errors import Blame, Fault
from ...ipc.documents import UpstreamStatus
from ...log import Seldom
from ...protocol.h1.client import AnswerBody, BackendConnection, NothingCame
from ...protocol.h1.response_parser import Answer, AnswerLane, has_no_body
from ...protocol.h1.serializer import STATUS_LINES
from ...protocol.message import Fields, Request, Response, Tunnel
from ...transport.stream import READ_SIZE, StreamBroken
from .backend import Member, authority
from .balancing import Policy, cookie, mark, policy
from .connector import tls_context
from .context import Surroundings
from .held_requests import HeldRequests
from .pool import Pool
from .request_body import Payload, Upload
from .request_head import PSEUDONYM, VIA_LINE, Forwarder, end_to_end

log = logging.getLogger("treehouse.upstream")

_VIA = (b"via", b"1.1 " + PSEUDONYM)
# A backend that fails in these ways is left out for a while.
_COUNTS_AGAINST = frozenset({"backend_refused", "backend_timeout", "backend_tls"})


class Upstream:
    def __init__(self, action: ProxyAction, around: Surroundings) -> None:
        self.action = action
        self._around = around
        self._forwarder = Forwarder(around.trusted_proxies, action.via)
        tls = tls_context(action)
        lane = AnswerLane() if around.fast_lane else None
        self._members = [
            Member(backend, Pool(backend, action, tls, around, lane), action)
            for backend in action.backends
        ]
        self._policy: Policy[Member] = policy(action)
        self._marks = {mark(one.backend): one for one in self._members}
        self._sticky = action.sticky_cookie.name.encode("ascii") if action.sticky_cookie else None
        self._seldom = Seldom(log)
        self._held: HeldRequests | None = None
        if action.wait_for_backend:
            self._held = HeldRequests(action.max_queued, around.clock, self._probe)

    # Life

    def start(self) -> None:
        if self.action.health is not None:
            for member in self._members:
                member.watch(self.action.health, self._around)

    def tick(self, now: float) -> None:
        for member in self._members:
            member.tick(now)

    def drain(self) -> None:
        """Nothing to be done: requests under way go on, and kept connections age."""

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
        for member in self._members:
            member.close()

    def status(self) -> list[UpstreamStatus]:
        return [member.status(self._around.clock.now) for member in self._members]

    # An exchange

    def handle(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Return the backend's answer. Raises a `Fault` that says what kept it, and names the
        backend and the request."""
        payload = Payload(request)
        if self._held is None:
            return self._ask(request, payload)
        return self._ask_patiently(request, payload, self._held)

    async def _ask_patiently(
        self, request: Request, payload: Payload, held: HeldRequests
    ) -> Response:
        """`_ask`, and again when a backend takes connections, where none did."""
        until = self._around.clock.look() + self.action.wait_for_backend
        if held:
            await held.wait(until, Fault("backend_refused", "no backend takes connections"))
        while True:
            try:
                return await self._ask(request, payload)
            except Fault as fault:
                # An app that ends takes the connections that it had not accepted yet with it.
                lost = payload.unanswered and payload.repeatable and payload.repeats < 2
                if fault.kind != "backend_refused" and not lost:
                    raise
                payload.repeats += lost
                await held.wait(until, fault)

    async def _ask(self, request: Request, payload: Payload) -> Response:
        tried: list[Member] = []
        fresh = payload.unanswered = False
        member: Member | None = None
        try:
            while True:
                member = self._choose(request, tried)
                tried.append(member)
                connection = None if fresh else member.pool.take(payload.repeatable)
                try:
                    if connection is None:
                        connection = await member.pool.open(fresh)
                except Fault as fault:
                    self._count(request, member, fault)
                    if len(tried) < len(self._members):
                        continue  # nothing has been sent
                    raise
                member.in_flight += 1
                kept = not connection.fresh
                exchange = _Exchange(self, member, connection, request, payload)
                try:
                    response = await exchange.run()
                except NothingCame as nothing:
                    broken = Fault("backend_broke_off", str(nothing))
                    if kept:  # its age, and not the backend's fault
                        if (payload.repeatable or nothing.unseen) and not fresh:
                            tried.pop()
                            fresh = True
                            continue
                        self._name(request, member, broken)
                        self._tally(member, "broke_off")
                        raise broken from None
                    payload.unanswered = True
                    self._count(request, member, broken)
                    member.failed(self._around.clock.now, str(nothing))
                    if payload.repeatable and len(tried) < len(self._members):
                        continue
                    raise broken from None
                except Fault as fault:
                    self._count(request, member, fault)
                    raise
                response.backend = member.backend.url
                if self.action.breaker is not None:
                    member.count(self._around.clock.now, response.status >= 500)
                if self._around.figures is not None:
                    self._tally(member, "error" if response.status >= 500 else "ok")
                if self._sticky is not None:
                    self._stick(request, response, member)
                return response
        except asyncio.CancelledError:  # the client has left (`Timeouts.on_disconnect`)
            if member is not None:
                request.backend = member.backend.url
                self._tally(member, "client_gone")
            raise

    async def _probe(self) -> bool:
        """Whether one of the backends takes connections."""
        for member in self._members:
            if member.backend.drain:
                continue
            try:
                connection = await member.pool.open_another()
            except Fault as fault:
                if fault.kind == "backend_tls":
                    return True  # which the requests shall tell
            else:
                member.pool.give_back(connection)
                return True
        return False

    def _choose(self, request: Request, tried: list[Member]) -> Member:
        members = self._members
        now = self._around.clock.now
        if self.action.breaker is not None:
            self._demand_one_closed(now)
        if len(members) == 1:
            return members[0]
        left = [one for one in members if one not in tried]
        if self._sticky is not None:
            bound = self._marks.get(cookie(request, self._sticky) or b"")
            if bound is not None and bound in left and bound.is_in(now):
                return bound
        # In maintenance beats broken, and broken is tried before giving up.
        wanted = [one for one in left if not one.backend.drain] or left
        return self._policy([one for one in wanted if one.is_in(now)] or wanted, request)

    def _demand_one_closed(self, now: float) -> None:
        """Where every breaker is open, waiting for an answer would only help it to stay so."""
        first = min(one.open_until for one in self._members)
        if now < first:
            wait = b"%d" % math.ceil(first - now)
            detail = "the breakers of all backends are open"
            raise Fault("no_capacity", detail, [(b"retry-after", wait)])

    def _count(self, request: Request, member: Member, fault: Fault) -> None:
        if fault.kind in _COUNTS_AGAINST:
            member.failed(self._around.clock.now, fault.detail or fault.kind)
        if fault.what.blame is Blame.BACKEND:
            member.count(self._around.clock.now, True)
            self._tally(member, fault.kind.removeprefix("backend_"))
        self._name(request, member, fault)

    @staticmethod
    def _name(request: Request, member: Member, fault: Fault) -> None:
        """Say in the log which backend, site and request it was. Without the query, which may hold
        secrets."""
        fault.backend = member.backend.url
        fault.detail = (
            f"{member.backend.url}: {fault.detail or fault.what.text} "
            f"({request.method.decode('latin-1')} {request.host.decode('latin-1')}"
            f"{request.path.decode('latin-1')})"
        )

    def tell(self, request: Request, member: Member, fault: Fault) -> None:
        """Write a fault into the log that ends a response in its body."""
        self._name(request, member, fault)
        now = self._around.clock.now
        self._seldom.warning(now, "%s, within a response: %s", fault.kind, fault.detail)

    def _tally(self, member: Member, outcome: str) -> None:
        if self._around.figures is not None:
            self._around.figures.upstream(member.backend.url, outcome)

    def _stick(self, request: Request, response: Response, member: Member) -> None:
        sticky = self.action.sticky_cookie
        assert self._sticky is not None and sticky is not None  # noqa: S101, PT018 - asked only then
        own = mark(member.backend)
        if cookie(request, self._sticky) != own:
            same_site = sticky.same_site.capitalize().encode("ascii")
            value = b"%b=%b; Path=/; HttpOnly; Secure; SameSite=%b" % (self._sticky, own, same_site)
            response.fields = [*response.fields, (b"set-cookie", value)]
            response.wire = None

    def head(self, request: Request, backend: Backend, framing: bytes) -> bytes:
        host = None if self.action.preserve_host else authority(backend).encode("ascii")
        prefix = backend.prefix.encode("ascii") if backend.prefix else b""
        return self._forwarder.head(request, host, framing, prefix)


class _Exchange:
    """One request on one connection, until the answer's head is there."""

    __slots__ = (
        "_connection",
        "_member",
        "_patience",
        "_payload",
        "_request",
        "_route",
        "_upload",
    )

    def __init__(
        self,
        route: Upstream,
        member: Member,
        connection: BackendConnection,
        request: Request,
        payload: Payload,
    ) -> None:
        self._route = route
        self._member = member
        self._connection = connection
        self._request = request
        self._payload = payload
        self._patience = route.action.response_timeout
        self._upload: Upload | None = None

    async def run(self) -> Response:
        """Raises `Fault`, or `NothingCame` when the connection ended before a byte of an answer."""
        connection, payload = self._connection, self._payload
        try:
            data = self._route.head(self._request, self._member.backend, payload.framing)
        except Fault:  # a loop; nothing has been sent
            self.settle()
            raise
        data += payload.whole
        sent = len(data)
        try:
            rest = connection.send_now(data, self._patience)
            data = b""  # else it would be held while the answer is waited for
            if rest:
                await connection.send(rest, self._patience)
            if payload.follows is not None:
                self._upload = Upload(self._request, payload.follows, connection, self._patience)
            else:
                connection.request_sent = True
            while True:
                found = await connection.head(
                    self._request.method, self._patience, self._request.upgrade
                )
                if found.status >= 200 or found.status == 101:
                    break
                await self._pass_on(found)
            if found.status == 101:
                self._check_upgrade(found)
        except BaseException as error:
            unseen = payload.follows is None and (bool(data) or connection.stream.never_read(sent))
            if self._upload is not None:
                await self._upload.stop()
            self.settle(whole=False)
            if self._upload is not None and self._upload.fault is not None:
                raise self._upload.fault from None  # the client's doing, whatever came of it
            if isinstance(error, NothingCame | StreamBroken):
                raise NothingCame(str(error), unseen) from None
            raise
        self._member.succeeded()
        return self._answer(found)

    async def _pass_on(self, interim: Answer) -> None:
        if interim.status == 100:
            if self._upload is not None:
                self._upload.invited.set()
        elif self._request.inform is not None:
            await self._request.inform(interim.status, end_to_end(interim.fields))

    def _check_upgrade(self, found: Answer) -> None:
        """A 101 that nobody asked for, or to another protocol, is no tunnel."""
        asked = self._request.upgrade
        given = [value for name, value in found.fields if name == b"upgrade"]
        if asked is None:
            raise Fault("backend_protocol", "a 101 that nobody asked for (RFC 9110 §15.2.2)")
        if len(given) != 1 or given[0].lower() not in _protocols(asked):
            detail = "a 101 to another protocol than was asked for (RFC 9110 §7.8)"
            raise Fault("backend_protocol", detail)

    def _answer(self, found: Answer) -> Response:
        status, connection = found.status, self._connection
        if status == 101:
            return self._tunnel(found, end_to_end(found.fields))
        bodiless = has_no_body(status, self._request.method)
        whole = connection.whole(found)
        if whole and (found.judge is not None or self._upload is not None):
            # h11 has to see it, or the request is still on its way: piece by piece then.
            connection.put_back(whole + connection.leftover())
            whole = None
        fields: Fields
        wire: bytes | None = None
        if found.passed_on is not None:
            fields, wire = found.passed_on
        else:
            fields = end_to_end(found.fields) if found.onward is None else [*found.onward]
            fields.append(_VIA)
            if not bodiless:
                length = b"" if found.length < 0 else b"%d" % found.length
            else:
                # What a GET would have had is news to the client.
                given = [value for name, value in found.fields if name == b"content-length"]
                length = given[0] if given else b""
                if not given and self._request.method == b"HEAD":
                    whole = None  # a length that nobody knows, which no bytes would say
            if length:
                fields.append((b"content-length", length))
            if found.onward is not None:
                line = b"content-length: %b\r\n" % length if length else b""
                wire = b"%b%b%b%b" % (STATUS_LINES[status], found.lines, VIA_LINE, line)
                if not bodiless:
                    found.passed_on = fields, wire
        body: bytes | _Body
        if whole is None or self._upload is not None:
            body = _Body(self, AnswerBody(connection, found, self._route.action.idle_timeout))
        else:
            self.settle()
            body = whole
        return Response(status, fields, body, handler="upstream", wire=wire, dated=found.dated)

    def _tunnel(self, found: Answer, fields: Fields) -> Response:
        fields += [one for one in found.fields if one[0] == b"upgrade"]
        tunnel = Tunnel(
            self._connection.stream,
            self._connection.leftover(),
            lambda _complete: self.settle(whole=False),
            self._route.action.idle_timeout,
        )
        return Response(101, fields, tunnel, handler="tunnel")

    def settle(self, whole: bool = True) -> None:
        """The exchange is over: the connection goes back, or ends if its answer was not read."""
        if self._upload is not None and not self._upload.complete:
            self._upload.abandon()
        self._member.in_flight -= 1
        if whole:
            self._member.pool.give_back(self._connection)
        else:
            self._member.pool.end(self._connection)

    def fault_of_client(self) -> Fault | None:
        return self._upload.fault if self._upload is not None else None

    def name(self, fault: Fault) -> Fault:
        """The same fault, once it says whose it is. Its response is under way, so that nobody else
        tells the log why it ends."""
        if fault.backend is None and fault.what.blame is Blame.BACKEND:
            self._route.tell(self._request, self._member, fault)
        return fault


class _Body:
    """The answer's body; a `StreamBody`."""

    __slots__ = ("_body", "_exchange", "length")

    def __init__(self, exchange: _Exchange, body: AnswerBody) -> None:
        self._exchange = exchange
        self._body = body
        self.length = body.length

    @property
    def trailers(self) -> Fields:
        return self._body.trailers

    @property
    def at_end(self) -> bool:
        return self._body.ended

    def read_now(self, most: int = READ_SIZE) -> bytes | None:
        try:
            return self._body.read_now(most)
        except Fault as fault:
            raise self._exchange.fault_of_client() or self._exchange.name(fault) from None

    async def read(self, most: int = READ_SIZE) -> bytes:
        try:
            return await self._body.read(most)
        except Fault as fault:
            raise self._exchange.fault_of_client() or self._exchange.name(fault) from None

    def close(self, complete: bool) -> None:
        self._exchange.settle(whole=complete and self._body.ended)


def _protocols(upgrade: bytes) -> list[bytes]:
    return [one.strip().lower() for one in upgrade.split(b",")]
