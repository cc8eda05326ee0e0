"""HTTP/1.1 on one connection: a head, an answer, and again (RFC 9112).

`serve` is the whole life of a connection and the one place to read it. The parts stand beside it:
`inlet` (bytes in), `lane` and `strict` (heads), `outlet` (bytes out), `tunnel`. Every request ends
in ``service.finished``, whatever happened to it.

A connection is used again only when both messages have ended where their framing says. In doubt it
ends, and it is said beforehand: ``Connection: close`` goes with an answer, never instead of one.
"""

from __future__ import annotations

import asyncio
import time

from ...errors import Fault
from ...transport.deadlines import NEVER
from ...transport.stream import Stream, StreamBroken
from ..message import Body, Connection, Fields, Request, Response, Tunnel
from ..service import Service
from . import strict_parser
from .inline import FrontDesk
from .reader import WORTH_READING, Inlet, RequestBody, send_interim
from .serializer import serialise
from .tunnel import relay
from .writer import Outlet, ends_with_connection, was_given_up

# A client that pipelines without end gives others a turn after so many answers.
_TURN = 32
# How long, and for how many bytes, we listen to a client that has been refused, so that the answer
# reaches it before a reset would take it away (RFC 9112 §9.6). nginx: lingering_timeout 5s.
_LINGER = 2.0
_LINGER_BYTES = 1024 * 1024


async def serve(stream: Stream, connection: Connection, service: Service) -> None:
    """Answer requests until the client or we have had enough. The caller closes the stream."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    stream.give_up = task.cancel
    inlet = Inlet(stream, service)
    outlet = Outlet(stream, service)
    informer = Informer(inlet)
    lane = service.lane
    desk = FrontDesk(inlet, outlet, connection, service, lane) if lane is not None else None
    answered = 0
    most = service.limits.requests_per_connection - 1
    while True:
        close = begun = False
        given: Request | None = None
        response: Response | None = None
        try:
            head = await inlet.head(desk)
            if not head:
                return
            if desk is not None:
                answered = desk.answered
                given, response, begun = desk.hand_over()
            if given is None:
                request, close = _read(head, connection, inlet)
            else:
                request = given
        except Fault as fault:
            await _refuse(inlet, outlet, connection, fault)
            return
        if request.version == b"1.1":
            request.inform = informer.of(request)
        if response is None:
            stream.asked = service.clock.now
            try:
                response = await service.answer(request)
            except asyncio.CancelledError:
                if not was_given_up(stream):
                    raise
                _give_up(inlet, connection, request)
                return
            stream.asked = NEVER
        body = request.body
        close = not begun and (
            close
            or response.close
            or service.draining
            or answered >= most
            or (body is not None and not _ends(body, request))
            or (request.version == b"1.0" and ends_with_connection(response))
        )
        if answered == most:
            service.limited("requests_per_connection", connection)
        if isinstance(response.body, Tunnel):
            await _tunnel(inlet, connection, request, response, response.body)
            return
        data = None if close or begun else outlet.prepared(request, response)
        if begun:
            whole = await outlet.send_rest()
        elif data is None:
            whole = await outlet.send(request, response, close)
        else:
            sent = outlet.send_now(data, len(response.body))  # type: ignore[arg-type] # bytes
            whole = await outlet.send_rest() if sent is None else sent
        service.finished(connection, request, response, outlet.sent, outlet.error)
        _part(request)
        if not whole:
            return
        if close:
            if body is not None and not body.at_end:
                await _linger(inlet)
            return
        if body is not None and not body.at_end and not await _read_over(body):
            return
        answered += 1
        if desk is not None:
            desk.answered = answered
        if answered % _TURN == 0 and inlet.at_hand:
            await asyncio.sleep(0)


async def refuse(stream: Stream, connection: Connection, service: Service, fault: Fault) -> None:
    """One answer to something that never became a request."""
    await _refuse(Inlet(stream, service), Outlet(stream, service), connection, fault)


def _read(head: bytes, connection: Connection, inlet: Inlet) -> tuple[Request, bool]:
    """The request of a head, with its body, and whether the connection ends after it."""
    service = inlet.service
    lane = service.lane
    parsed = lane.parse(head, connection) if lane is not None else None
    if parsed is None:
        parsed = strict_parser.parse(head, connection, service.limits)
    request, length, close, judge = parsed
    request.started = time.monotonic()
    if length:
        request.body = RequestBody(inlet, request, length, judge)
    return request, close


def _part(request: Request) -> None:
    """Both know the request, and through the inlet its connection: until the garbage collector came
    to it, an ended connection would keep its TLS object, some 30 KiB."""
    request.inform = request.body = None


class Informer:
    """Sends interim answers (RFC 9110 §15.2); what `Request.inform` is."""

    __slots__ = ("_inlet", "_request")

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet
        self._request: Request | None = None

    def of(self, request: Request) -> Informer:
        """The same one for each request of the connection."""
        self._request = request
        return self

    async def __call__(self, status: int, fields: Fields) -> None:
        if status == 100:
            request = self._request
            if request is None or not request.expects_continue:
                return  # not asked for, or sent already
            request.expects_continue = False
        await send_interim(self._inlet, serialise(status, fields) + b"\r\n")


def _ends(body: Body, request: Request) -> bool:
    """Whether the request's end is, or can cheaply be, reached."""
    if body.at_end:
        return True
    remaining = body.remaining
    return not request.expects_continue and remaining is not None and remaining <= WORTH_READING


def _give_up(inlet: Inlet, connection: Connection, request: Request) -> None:
    """The client has left, and its answer does not come."""
    service = inlet.service
    fault = Fault("client_gone", "the answer was still awaited")
    fault.backend = request.backend
    inlet.stream.abort()
    service.finished(connection, request, service.refuse(fault, request), 0, fault.kind)
    _part(request)


async def _read_over(body: Body) -> bool:
    try:
        while await body.read():
            pass
    except Fault:
        return False
    return True


async def _refuse(inlet: Inlet, outlet: Outlet, connection: Connection, fault: Fault) -> None:
    response = inlet.service.refuse(fault, None)
    if fault.kind == "client_gone":
        outlet.error = fault.kind
    elif await outlet.send(None, response, True):
        await _linger(inlet)
    inlet.service.finished(connection, None, response, outlet.sent, outlet.error)


async def _linger(inlet: Inlet) -> None:
    """End our side, and listen until the client has ended his, within bounds."""
    stream = inlet.stream
    stream.deadline = inlet.service.clock.now + _LINGER
    heard = 0
    try:
        await stream.send_eof()
        while heard < _LINGER_BYTES:
            data = await stream.read()
            if not data:
                return
            heard += len(data)
    except StreamBroken:
        return


async def _tunnel(
    inlet: Inlet, connection: Connection, request: Request, response: Response, tunnel: Tunnel
) -> None:
    service = inlet.service
    sent, error = 0, None
    try:
        upgrade = [(b"connection", b"Upgrade")]
        await send_interim(inlet, serialise(101, [*upgrade, *response.fields]) + b"\r\n")
    except Fault as fault:
        error = fault.kind
        tunnel.close(False)
    else:
        sent = await relay(inlet.stream, inlet.take(inlet.at_hand), tunnel, service.clock)
    service.finished(connection, request, response, sent, error)
    _part(request)
