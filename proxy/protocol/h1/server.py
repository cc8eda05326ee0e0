"""HTTP/1.1 on one connection: a head, an answer, and again (RFC 9112).

`serve` is the whole life of a connection and the one place to read it; `listening` begins it with
no task. The parts stand beside it: `reader` (bytes in), `fast_parser` and `strict_parser` (heads),
`writer` (bytes out), `tunnel`.

Many requests on a kept-alive connection are one plain head whose response is known at once: a small
file that was asked for a moment ago. Waking the connection's task for such a one (a future, a turn
of the loop, frames that are entered again) costs as much as answering it. So a head is parsed and
handed to the service in the readiness callback, where it arrives. A response that can be sent in
one write is sent there; whatever must be waited for (an awaitable, a body, a client that does not
read) is left to the task, which goes on from there. There is one way through, and two places to
stand on it.

Every request is an `Exchange`, and ends in ``service.finished``, whatever happened to it.

A connection is used again only when both messages have ended where their framing says. In doubt it
ends, and it is said beforehand: ``Connection: close`` goes with an answer, never instead of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable

from ...errors import Fault
from ...transport.deadlines import NEVER, Deadlines, Timeouts
from ...transport.stream import ClientStream, StreamBroken
from ..early_answer import EarlyAnswer
from ..exchange import Exchange, new_exchange
from ..message import Connection, Request, Response, Tunnel
from ..service import Service
from . import strict_parser
from .fast_parser import FastParser
from .interim import Informer, send_interim
from .lingering import ends_soon, linger, read_over
from .reader import RequestReader, new_reader
from .request_body import RequestBody
from .serializer import serialise
from .strict_parser import HEAD_END, Parsed
from .tunnel import relay
from .writer import ResponseWriter, client_left, ends_with_connection, new_writer

# A client that pipelines without end gives others a turn after so many answers.
_TURN = 32
_CR = ord("\r")
_P = ord("P")  # POST, PUT, PATCH


async def serve(
    stream: ClientStream,
    connection: Connection,
    service: Service,
    deadlines: Deadlines,
    fast_parser: FastParser | None = None,
) -> None:
    """Answer requests until the client or we have had enough. The caller closes the stream.
    Without a ``fast_parser`` every head goes through h11."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    timeouts = Timeouts(stream, task.cancel)
    deadlines.register(timeouts)
    try:
        await _server(stream, connection, service, timeouts, fast_parser).live()
    finally:
        deadlines.release(timeouts)


async def refuse(
    stream: ClientStream, connection: Connection, service: Service, fault: Fault, seen: bytes = b""
) -> None:
    """Answer something that never became a request, and begins with ``seen``, with ``fault``."""
    server = _server(stream, connection, service, Timeouts(stream, _nobody_waits))
    try:
        await server.refuse(fault, seen)
    finally:
        server.finish()


def _nobody_waits() -> None:
    """The response is here at once."""


class Server:
    """One connection: at most one exchange at a time. For this package alone. ``most``: the request
    after so many is the last; ``patience``: seconds that it may be idle."""

    __slots__ = (
        "_answer",
        "_answered",
        "_close",
        "_connection",
        "_exchange",
        "_fast_parser",
        "_informer",
        "_most",
        "_patience",
        "_reader",
        "_service",
        "_stream",
        "_timeouts",
        "_writer",
    )

    def __init__(
        self,
        stream: ClientStream,
        connection: Connection,
        service: Service,
        timeouts: Timeouts,
        fast_parser: FastParser | None,
        reader: RequestReader,
        writer: ResponseWriter,
        most: int,
        patience: float,
    ) -> None:
        self._stream = stream
        self._connection = connection
        self._service = service
        self._timeouts = timeouts
        self._fast_parser = fast_parser
        self._reader = reader
        self._writer = writer
        self._most = most
        self._patience = patience
        self._informer: Informer | None = None
        self._answered = 0
        self._close = False
        self._exchange: Exchange | None = None
        self._answer: Response | Awaitable[Response] | None = None

    # Where a head arrives

    @property
    def begun(self) -> bool:
        """Whether a request has been read that is not finished yet."""
        return self._exchange is not None

    def arrived(self, data: bytes) -> bool:
        """Whether ``data`` has been dealt with: a whole head, whose response is sent. A head whose
        response cannot be sent at once is begun, and `one` goes on with it. Raises `Fault`."""
        if self._exchange is not None:
            self._reader.hold(data)  # more than was asked for, while an early answer is under way
            return False
        # Else a piece of a head, or more than one: `RequestReader.head` takes it apart.
        if data[-4:] != HEAD_END or data[0] == _CR:
            return data[0] == _P and self._arrived_with_body(data)
        parsed = None
        if self._fast_parser is not None:
            parsed = self._fast_parser.parse(data, self._connection)
        if parsed is None:
            if data.find(HEAD_END) + 4 != len(data):
                return False
            parsed = self._parse_strictly(data)
        return self._ask(parsed) or self._begin_early()

    def _arrived_with_body(self, data: bytes) -> bool:
        """The same for a plain head with a body, or its beginning."""
        end = data.find(HEAD_END) + 4
        if self._fast_parser is None or end < 4:
            return False
        parsed = self._fast_parser.parse(data[:end], self._connection)
        if parsed is None or not parsed[1]:
            return False
        self._reader.hold(data[end:])
        return self._ask(parsed) or self._begin_early()

    def _begin(self, head: bytes) -> bool:
        """Parse a complete head and ask the service, as `_ask` does. Raises `Fault` for what is no
        request."""
        fast_parser = self._fast_parser
        parsed = fast_parser.parse(head, self._connection) if fast_parser is not None else None
        return self._ask(self._parse_strictly(head) if parsed is None else parsed)

    def _parse_strictly(self, head: bytes) -> Parsed:
        try:
            return strict_parser.parse(head, self._connection, self._service.limits)
        except Fault:
            self._reader.partial = head
            raise

    def _ask(self, parsed: Parsed) -> bool:
        """Ask the service for the response to a request; whether it was sent at once, which ends
        the exchange."""
        service = self._service
        request, length, close, h11_connection = parsed
        if length:
            request.body = RequestBody(self._reader, request, length, h11_connection)
        exchange = self._exchange = new_exchange(self._connection, request, time.monotonic())
        answer = service.handle(exchange)
        if type(answer) is Response:
            exchange.response = answer
            if not (
                length
                or close
                or answer.close
                or service.draining
                or self._answered >= self._most
                or self._writer.send_plain(exchange, request, answer) is None
            ):
                self._exchange = None
                service.finished(exchange)
                self._answered += 1
                self._stream.deadline = service.clock.now + self._patience
                return True
        self._close = close
        self._answer = answer
        return False

    # Answers that are begun where their requests arrive

    def _begin_early(self) -> bool:
        """Begin the answer that is awaited, if it can be begun without the task."""
        answer, service = self._answer, self._service
        if (
            not isinstance(answer, EarlyAnswer)
            or self._close
            or service.draining
            or self._reader.buffered
            or not answer.begin(self._answered_early)
        ):
            return False
        # The task goes on waiting for the next request. It is not idle meanwhile.
        self._stream.deadline = NEVER
        timeouts = self._timeouts
        timeouts.idle = False
        timeouts.waiting_since = service.clock.now
        return True

    def _answered_early(self, response: Response | None) -> None:
        """Send the response that was begun early, within the readiness callback of the backend. The
        task is woken where that cannot be, and where ``response`` is None."""
        exchange, stream = self._exchange, self._stream
        if exchange is None:
            return
        if response is not None:
            exchange.response = self._answer = response
        if not stream.reading:
            return  # the task is on its way
        try:
            if response is not None and self._sent_early(exchange, response):
                return
        except Exception as error:
            stream.interrupt(error)  # which fails as it would have without being early
        else:
            stream.interrupt()

    def _sent_early(self, exchange: Exchange, response: Response) -> bool:
        service, request = self._service, exchange.request
        assert request is not None  # noqa: S101 - it was handed to the service
        body = request.body
        if (
            response.close
            or service.draining
            or self._answered >= self._most
            or (body is not None and not body.at_end)
            or self._writer.send_plain(exchange, request, response) is None
        ):
            return False
        self._exchange = self._answer = None
        service.finished(exchange)
        if body is not None:
            request.body = None  # see `finish`
        self._answered += 1
        self._stream.deadline = service.clock.now + self._patience
        timeouts = self._timeouts
        timeouts.idle = True
        timeouts.waiting_since = NEVER
        return True

    # The connection's task

    async def live(self, said: bytes | BaseException | None = None) -> None:
        """Answer requests until somebody has had enough. ``said``: what has come before the task
        began and was not dealt with, as `ClientStream.listen` gives it."""
        going = True
        while going:
            try:
                going = await self.one(said)
                said = None
            except Exception:
                self.failed()
                raise
            finally:
                if self.begun:
                    self.finish()

    async def _head(self, said: bytes | BaseException | None) -> bytes:
        """As `RequestReader.head`, after what was said."""
        if isinstance(said, StreamBroken):
            return b""  # nothing is lost
        if isinstance(said, BaseException):
            raise said
        if said is not None:
            if self.begun or not said:
                return said
            self._reader.hold(said)
        return await self._reader.head(self)

    async def one(self, said: bytes | BaseException | None = None) -> bool:
        """Read a request and answer it; whether the connection goes on."""
        try:
            head = await (self._reader.head(self) if said is None else self._head(said))
            if not head and not self.begun:
                return False
            answered = not self.begun and self._begin(head)
        except Fault as fault:
            await self.refuse(fault)
            return False
        except asyncio.CancelledError:
            if not self.begun:
                raise
            # Of an answer that was begun early: whoever waits for it is to be told.
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - a coroutine runs in one
            task.uncancel()
            task.cancel()
            answered = False
        if not answered and not await self._go_on():
            return False
        if self._answered % _TURN == 0 and self._reader.buffered:
            await asyncio.sleep(0)
        return True

    async def _go_on(self) -> bool:
        """Answer the request that was begun; whether the connection goes on."""
        exchange = self._exchange
        assert exchange is not None and exchange.request is not None  # noqa: S101, PT018 - begun
        request, response = exchange.request, exchange.response
        body = request.body
        if response is None:  # else it was known at once
            answer, self._answer = self._answer, None
            assert isinstance(answer, Awaitable)  # noqa: S101 - or it would be in the exchange
            if request.version == b"1.1":
                if self._informer is None:
                    self._informer = Informer(self._reader)
                request.inform = self._informer.of(request)
            timeouts = self._timeouts
            timeouts.waiting_since = self._service.clock.now
            try:
                response = await answer
            except asyncio.CancelledError:
                if not client_left(timeouts):
                    raise
                fault = Fault("client_gone", "the answer was still awaited")
                fault.backend = request.backend
                response = self._service.refuse(exchange, fault)
            except Exception as error:
                response = self._service.failed(exchange, error)
            timeouts.waiting_since = NEVER
            exchange.response = response
            if response.error == "client_gone":  # nobody is there to be answered
                exchange.error = response.error
                self._stream.abort()
                return False
        if not await self._send(exchange, request, response):
            return False
        self.finish()
        if self._close:
            if body is not None and not body.at_end:
                await linger(self._reader)
            return False
        if body is not None and not body.at_end and not await read_over(body):
            return False
        self._answered += 1
        return True

    async def _send(self, exchange: Exchange, request: Request, response: Response) -> bool:
        """Whether the response has been sent whole, and the connection is still HTTP/1.1."""
        writer = self._writer
        self._answer = None
        if not writer.unsent:
            self._decide_close(request, response)
            sent = None if self._close else writer.send_plain(exchange, request, response)
            if sent is not None:
                return sent
        if writer.unsent:
            return await writer.send_rest(exchange)
        if isinstance(response.body, Tunnel):
            await self._tunnel(exchange, response, response.body)
            return False
        return await writer.send(exchange, response, self._close)

    def _decide_close(self, request: Request, response: Response) -> None:
        """Decide what the connection is worth after this response."""
        body = request.body
        self._close = (
            self._close
            or response.close
            or self._service.draining
            or self._answered >= self._most
            or (body is not None and not ends_soon(body, request))
            or (request.version == b"1.0" and ends_with_connection(response))
        )
        if self._answered == self._most:
            self._service.limited("requests_per_connection", self._connection)

    async def refuse(self, fault: Fault, seen: bytes = b"") -> None:
        """Answer what never became a request, and listen until the client has heard it."""
        exchange = self._exchange = Exchange(self._connection)
        seen = seen or self._reader.partial
        if seen:
            exchange.partial = strict_parser.what_could_be_read(seen)
        response = exchange.response = self._service.refuse(exchange, fault)
        if fault.kind == "client_gone":
            exchange.error = fault.kind
            return
        whole = await self._writer.send(exchange, response, True)
        self.finish()
        if whole:
            await linger(self._reader)

    async def _tunnel(self, exchange: Exchange, response: Response, tunnel: Tunnel) -> None:
        reader, service = self._reader, self._service
        try:
            upgrade = [(b"connection", b"Upgrade")]
            await send_interim(reader, serialise(101, [*upgrade, *response.fields]) + b"\r\n")
        except Fault as fault:
            exchange.error = fault.kind
            tunnel.close(False)
        else:
            held = reader.take(reader.buffered)
            exchange.sent = await relay(self._stream, held, tunnel, service.clock)

    def failed(self) -> None:
        """Blame this program for what is open."""
        if self._exchange is not None:
            self._exchange.error = "internal"

    def finish(self) -> None:
        """Close the exchange, if one is open, however far it came."""
        exchange = self._exchange
        if exchange is None:
            return
        self._exchange = None
        if self._answer is not None or exchange.response is None:
            self._break_off(exchange)
        self._service.finished(exchange)
        request = exchange.request
        if request is not None and (request.body is not None or request.inform is not None):
            # Both know the request, and through the reader its connection: until the garbage
            # collector came to it, an ended connection would keep its TLS object, some 30 KiB.
            request.inform = request.body = None

    def _break_off(self, exchange: Exchange) -> None:
        """Give an exchange its end that has none: the connection ended first."""
        answer, self._answer = self._answer, None
        error = exchange.error = exchange.error or "client_gone"
        if isinstance(answer, Response):
            answer.discard()
        elif answer is not None:
            # Nobody has begun to await it. What it holds is ended only where it ends by itself.
            task = asyncio.ensure_future(_discarded(answer))
            _abandoned.add(task)
            task.add_done_callback(_abandoned.discard)
        if exchange.response is None:
            fault = Fault(error, "the connection ended before the answer")
            exchange.response = self._service.refuse(exchange, fault)


def _server(
    stream: ClientStream,
    connection: Connection,
    service: Service,
    timeouts: Timeouts,
    fast_parser: FastParser | None = None,
) -> Server:
    limits = service.limits
    reader = new_reader(stream, service, timeouts, limits)
    writer = new_writer(stream, service, timeouts)
    most, patience = limits.requests_per_connection - 1, limits.keepalive_timeout
    return Server(
        stream, connection, service, timeouts, fast_parser, reader, writer, most, patience
    )


# Answers whose connection ended before anybody awaited them; the loop keeps no tasks.
_abandoned: set[asyncio.Task[None]] = set()


async def _discarded(answer: Awaitable[Response]) -> None:
    with contextlib.suppress(Exception):  # a service's awaitable raises nothing but cancellation
        (await answer).discard()
