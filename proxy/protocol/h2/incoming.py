"""What the frames of a client bring: requests, their bodies, and streams that are given up.

A request is handed to the service within the callback that brought its head. Whether its answer is
sent at once or takes time is decided here; what becomes of it is `exchanges`' affair.
"""

from __future__ import annotations

import time

from ...errors import Fault
from ..exchange import LOGGED, Exchange, PartialHead
from ..message import Connection, Fields, FileBody, Request, Response, Tunnel
from ..service import Service
from . import frames, websocket
from .body import RequestBody
from .engine import Engine
from .events import Head, Reset
from .exchanges import Exchanges
from .shared import Shared
from .work import Given, Informer, Work

_ALLOWED = [(b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH")]


class Incoming:
    """The client's side of one connection."""

    __slots__ = (
        "_connection",
        "_engine",
        "_exchanges",
        "_leftovers",
        "_service",
        "_shared",
        "_works",
    )

    def __init__(
        self,
        connection: Connection,
        service: Service,
        shared: Shared,
        engine: Engine,
        exchanges: Exchanges,
    ) -> None:
        self._connection = connection
        self._service = service
        self._shared = shared
        self._engine = engine
        self._exchanges = exchanges
        self._works = exchanges.works
        self._leftovers = exchanges.leftovers

    def on_head(self, head: Head) -> None:
        """Hand a request to the service, and answer it if that can be done at once."""
        number, exchanges = head.stream, self._exchanges
        if head.fault is not None:
            detail = _ALLOWED if head.fault == "method_not_allowed" else None
            exchange = Exchange(self._connection)
            exchange.partial = head.partial or _partial(head)
            response = self._service.refuse(exchange, Fault(head.fault, fields=detail))
            exchanges.respond(Work(exchanges, number, exchange), response)
            return
        connection, service = self._connection, self._service
        request = Request(
            head.method,
            head.target,
            b"2",
            head.authority,
            head.host,
            head.fields,
            connection,
        )
        exchange = Exchange(connection, request, time.monotonic())
        if head.protocol is not None:
            self._on_extended_connect(head, exchange, request)
            return
        work: Work | None = None
        request.expects_continue = head.expects_continue
        if not head.end:
            work = Work(exchanges, number, exchange)
            work.priority = head.priority
            work.body = RequestBody(work, request, head.length, service.limits, service.clock)
            request.body = work.body
        answer = service.handle(exchange)
        if work is None:
            if type(answer) is Response and exchanges.answer_now(number, exchange, answer):
                return
            work = Work(exchanges, number, exchange)
            work.priority = head.priority
        self._works[number] = work
        work.answer = answer
        if isinstance(answer, Response) and isinstance(answer.body, bytes | FileBody | Tunnel):
            self._exchanges.respond(work, answer)
            return
        request.inform = Informer(exchanges, number, request)  # nothing of the work has run yet
        if isinstance(answer, Response):
            answer = Given(answer)  # whose pieces may have to be waited for
        self._exchanges.begin(work, answer)

    def _on_extended_connect(self, head: Head, exchange: Exchange, request: Request) -> None:
        """RFC 8441 §4. A backend is asked as HTTP/1.1 asks."""
        work = Work(self._exchanges, head.stream, exchange)
        work.priority = head.priority
        self._works[head.stream] = work
        if head.protocol != b"websocket":
            fault = Fault("protocol_not_implemented", f":protocol {head.protocol!r}")
            exchange.request = None  # it was never handed on
            exchange.partial = _partial(head)
            self._exchanges.respond(work, self._service.refuse(exchange, fault))
            return
        limits, clock = self._service.limits, self._service.clock
        work.key = websocket.ask_as_http1(request)
        work.body = RequestBody(work, request, None, limits, clock, endless=True)
        answer = self._service.handle(exchange)
        work.answer = answer
        if isinstance(answer, Response):
            answer = Given(answer)
        self._exchanges.begin(work, answer)

    def on_data(self, number: int, data: bytes, end: bool) -> None:
        work = self._works.get(number)
        if work is not None and work.body is not None:
            work.body.feed(data, end)
            return
        self._engine.consumed(number, len(data))
        if not self._leftovers.take(number, len(data), end):
            self._engine.reset(number, frames.NO_ERROR)

    def on_trailers(self, number: int, fields: Fields) -> None:
        work = self._works.get(number)
        if work is not None and work.body is not None:
            work.body.feed_trailers(fields)
        self._leftovers.forget(number)

    def on_reset(self, reset: Reset) -> None:
        self._leftovers.forget(reset.stream)
        self._shared.count("reset by us" if reset.by_us else "reset by client")
        work = self._works.get(reset.stream)
        if work is not None:
            self._exchanges.cancel(work, "malformed_request" if reset.by_us else "client_gone")
        elif reset.by_us and reset.code == frames.REFUSED_STREAM:
            self._service.limited("streams", self._connection)
        elif reset.by_us and reset.stream > 0:
            self.refuse(Fault("malformed_request", reset.detail), reset.partial)

    def refuse(self, fault: Fault, partial: PartialHead | None = None) -> None:
        """A line in the log for what never became a request; ``partial`` could be read of it."""
        exchange = Exchange(self._connection)
        exchange.partial = partial
        exchange.response = self._service.refuse(exchange, fault)
        self._service.finished(exchange)


def _partial(head: Head) -> PartialHead:
    """What the log tells of a request that is understood and never handed on."""
    return PartialHead(head.method, head.target[:LOGGED] or None, head.authority)
