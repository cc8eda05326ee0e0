"""The reverse proxy: a request goes to one of a route's backends, its answer comes back.

The way of an exchange:

    choose     a backend (`balance`, `member`)
    connect    a kept connection or a new one (`pool`); where that fails, another backend
    send       the head made anew (`forwarding`), with the body if it is all there, in one write;
               else the body follows beside the answer (`upload`)
    await      interim answers, which are passed on, and the final head
    answer     the whole body at once if it came with its head; else piece by piece; or a tunnel
    settle     the connection goes back to its pool, or ends

It repeats a request in two cases only. Nothing had been sent: any request, to another backend. The
connection ended before a byte of an answer came: a request without a body whose repetition does no
harm (RFC 9110 §9.2.2, RFC 9112 §9.3.1), on a new connection where a kept one had been too old, else
to another backend.
"""

from __future__ import annotations

import asyncio
import math
import ssl

from ...config.model import Backend, ProxyAction
from ...errors import Blame, Fault
from ...ipc.documents import UpstreamStatus
from ...protocol.h1.client import AnswerBody, BackendConnection, NothingCame
from ...protocol.h1.response_parser import Answer, AnswerLane, has_no_body
from ...protocol.h1.serializer import STATUS_LINES
from ...protocol.message import Body, Fields, Request, Response, Tunnel
from ...tls.trust import client_context
from ...transport.stream import READ_SIZE, StreamBroken
from .backend import Member
from .balancing import Policy, cookie, mark, policy
from .context import Surroundings
from .pool import Pool
from .request_body import Upload
from .request_head import PSEUDONYM, VIA_LINE, Forwarder, end_to_end

_VIA = (b"via", b"1.1 " + PSEUDONYM)
# RFC 9110 §9.2.2
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
# A backend that fails in these ways is left out for a while.
_COUNTS_AGAINST = frozenset({"backend_refused", "backend_timeout", "backend_tls"})


class Upstream:
    def __init__(self, action: ProxyAction, around: Surroundings) -> None:
        self.action = action
        self._around = around
        self._forwarder = Forwarder(around.trusted_proxies)
        tls = _tls_context(action)
        lane = AnswerLane() if around.fast_lane else None
        self._members = [
            Member(backend, Pool(backend, action, tls, around, lane), action)
            for backend in action.backends
        ]
        self._policy: Policy[Member] = policy(action)
        self._marks = {mark(one.backend): one for one in self._members}
        self._sticky = action.sticky_cookie.encode("ascii") if action.sticky_cookie else None

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
        for member in self._members:
            member.close()

    def status(self) -> list[UpstreamStatus]:
        return [member.status(self._around.clock.now) for member in self._members]

    # An exchange

    async def handle(self, request: Request) -> Response:
        """The backend's answer, or a `Fault` that says what kept it."""
        tried: list[Member] = []
        try:
            while True:
                member = self._choose(request, tried)
                tried.append(member)
                connection = member.pool.take()
                try:
                    if connection is None:
                        connection = await member.pool.open()
                except Fault as fault:
                    self._count(member, fault)
                    if len(tried) < len(self._members):
                        continue  # nothing has been sent
                    raise
                member.in_flight += 1
                exchange = _Exchange(self, member, connection, request)
                try:
                    response = await exchange.run()
                except NothingCame as nothing:
                    if exchange.repeatable:
                        tried.pop()  # not the backend's fault, but the connection's age
                        continue
                    broken = Fault("backend_broke_off", f"{member.backend.url}: {nothing}")
                    self._count(member, broken)
                    member.failed(self._around.clock.now, broken.detail)
                    if exchange.harmless and len(tried) < len(self._members):
                        continue
                    raise broken from None
                except Fault as fault:
                    self._count(member, fault)
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
            request.backend = tried[-1].backend.url
            self._tally(tried[-1], "client_gone")
            raise

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

    def _count(self, member: Member, fault: Fault) -> None:
        fault.backend = member.backend.url
        if fault.what.blame is Blame.BACKEND:
            member.count(self._around.clock.now, True)
            self._tally(member, fault.kind.removeprefix("backend_"))
        if fault.kind in _COUNTS_AGAINST:
            member.failed(self._around.clock.now, fault.detail or fault.kind)

    def _tally(self, member: Member, outcome: str) -> None:
        if self._around.figures is not None:
            self._around.figures.upstream(member.backend.url, outcome)

    def _stick(self, request: Request, response: Response, member: Member) -> None:
        assert self._sticky is not None  # noqa: S101 - asked only then
        own = mark(member.backend)
        if cookie(request, self._sticky) != own:
            value = b"%b=%b; Path=/; HttpOnly; Secure; SameSite=Lax" % (self._sticky, own)
            response.fields = [*response.fields, (b"set-cookie", value)]
            response.wire = None

    def head(self, request: Request, backend: Backend, framing: bytes) -> bytes:
        host = None if self.action.preserve_host else _authority(backend)
        return self._forwarder.head(request, host, framing)


class _Exchange:
    """One request on one connection, until the answer's head is there."""

    __slots__ = (
        "_body_follows",
        "_connection",
        "_fresh",
        "_member",
        "_patience",
        "_request",
        "_route",
        "_upload",
        "harmless",
        "repeatable",
    )

    def __init__(
        self, route: Upstream, member: Member, connection: BackendConnection, request: Request
    ) -> None:
        self._route = route
        self._member = member
        self._connection = connection
        self._request = request
        self._fresh = connection.fresh
        self._patience = route.action.response_timeout
        self._body_follows: Body | None = None
        self._upload: Upload | None = None
        # Nothing of an answer has come, and nothing is lost by sending it again: at another
        # backend (`harmless`), or at the same where only the connection was too old.
        self.harmless = self.repeatable = False

    async def run(self) -> Response:
        connection = self._connection
        try:
            rest = connection.send_now(self._first_bytes(), self._patience)
            if rest:
                await connection.send(rest, self._patience)
            if self._body_follows is not None:
                self._upload = Upload(self._request, self._body_follows, connection, self._patience)
            while True:
                found = await connection.head(
                    self._request.method, self._patience, self._request.upgrade
                )
                self.harmless = self.repeatable = False
                if found.status >= 200 or found.status == 101:
                    break
                await self._pass_on(found)
            if found.status == 101:
                self._check_upgrade(found)
        except BaseException as error:
            connection.usable = False
            if self._upload is not None:
                await self._upload.stop()
            self.settle()
            if self._upload is not None and self._upload.fault is not None:
                raise self._upload.fault from None  # the client's doing, whatever came of it
            if isinstance(error, StreamBroken):
                raise NothingCame(str(error)) from None
            raise
        self._member.succeeded()
        return self._answer(found)

    def _first_bytes(self) -> bytes:
        """The head, and the body if it is all there; else ``_body_follows``."""
        request, route = self._request, self._route
        body = request.body
        backend = self._member.backend
        if body is None:
            self.harmless = request.method in _IDEMPOTENT
            self.repeatable = self.harmless and not self._fresh
            framing = b"" if request.upgrade is None else _upgrade_lines(request.upgrade)
            return route.head(request, backend, framing)
        whole = body.buffered() if not request.expects_continue else None
        if whole is not None:
            return route.head(request, backend, b"content-length: %d\r\n" % len(whole)) + whole
        if body.length is None:
            framing = b"transfer-encoding: chunked\r\n"
        else:
            framing = b"content-length: %d\r\n" % body.length
        if request.expects_continue:
            framing += b"expect: 100-continue\r\n"
        self._body_follows = body
        return route.head(request, backend, framing)

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
        if asked is None or len(given) != 1 or given[0].lower() not in _protocols(asked):
            self._connection.usable = False
            raise Fault("backend_protocol", "a 101 that does not answer the request's Upgrade")

    def _answer(self, found: Answer) -> Response:
        status, connection = found.status, self._connection
        if status == 101:
            return self._tunnel(found, end_to_end(found.fields))
        bodiless = has_no_body(status, self._request.method)
        whole = b"" if bodiless else connection.whole(found)
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
                # What a GET would have had is news to the client; a 204 has nothing to tell.
                given = [value for name, value in found.fields if name == b"content-length"]
                length = given[0] if given and status != 204 else b""
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
        self._connection.usable = False
        tunnel = Tunnel(
            self._connection.stream,
            self._connection.leftover(),
            lambda _complete: self.settle(),
            self._route.action.idle_timeout,
        )
        return Response(101, fields, tunnel, handler="tunnel")

    def settle(self, whole: bool = True) -> None:
        """The exchange is over: the connection goes back, or ends if its answer was not read."""
        upload = self._upload
        if upload is not None and not upload.complete:
            upload.abandon()
            whole = False
        if not whole:
            self._connection.usable = False
        self._member.in_flight -= 1
        self._member.pool.give_back(self._connection)

    def fault_of_client(self) -> Fault | None:
        return self._upload.fault if self._upload is not None else None


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
            raise self._exchange.fault_of_client() or fault from None

    async def read(self, most: int = READ_SIZE) -> bytes:
        try:
            return await self._body.read(most)
        except Fault as fault:
            raise self._exchange.fault_of_client() or fault from None

    def close(self, complete: bool) -> None:
        self._exchange.settle(whole=complete and self._body.ended)


def _upgrade_lines(upgrade: bytes) -> bytes:
    return b"connection: upgrade\r\nupgrade: %b\r\n" % upgrade


def _protocols(upgrade: bytes) -> list[bytes]:
    return [one.strip().lower() for one in upgrade.split(b",")]


def _authority(backend: Backend) -> bytes:
    if backend.scheme == "unix":
        return b"localhost"
    host = f"[{backend.host}]" if ":" in backend.host else backend.host
    usual = {"http": 80, "https": 443}[backend.scheme]
    return (host if backend.port == usual else f"{host}:{backend.port}").encode("ascii")


def _tls_context(action: ProxyAction) -> ssl.SSLContext | None:
    if not any(backend.scheme == "https" for backend in action.backends):
        return None
    tls = action.tls
    context = client_context(tls.ca_file)
    context.set_alpn_protocols(["http/1.1"])
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
