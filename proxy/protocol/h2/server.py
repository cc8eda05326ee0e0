"""HTTP/2 on one connection: requests in, answers out, many at a time (RFC 9113).

`serve` is the whole life of a connection and the one place to read it. The parts stand beside it:
`session` (frames, or `authority`), `incoming` (requests), `exchanges` (what becomes of them),
`sender` (what goes out, and when), `body` (requests' bodies), `answer` (heads and pieces of
answers).

Everything that can be done at once is done within the readiness callback: frames are read, requests
handed to the service, answers that are known sent, all in one write. What takes time has a task of
its own for each request.

Two things bound what a connection can cost. Nothing is read while what the client has to take lies
unsent: pings, settings and window updates make output, and a client that does not read it is not
read from. And bodies are pulled, never pushed: a piece is fetched from a file or a backend only
when its stream's turn has come and both windows and the socket have room for it.

A connection ends in two steps (RFC 9113 §6.8): first the client is told to open no more streams
here and a ping is sent; what is on its way until the ping comes back is still taken; then the last
stream that was taken is named. So no request is lost, and none is repeated that was processed."""

from __future__ import annotations

import asyncio
import logging

from ...errors import Fault
from ...transport.deadlines import NEVER, Deadlines, Timeouts
from ...transport.stream import READ_SIZE, ClientStream, StreamBroken, StreamTimeout
from ..message import Connection
from ..service import Service
from . import frames
from .engine import Engine, Terms
from .events import Data, Ended, Event, Head, Pong, Prioritised, Reset, Room, Trailers
from .exchanges import Exchanges
from .frames import ConnectionFailed
from .incoming import Incoming
from .sender import LEAST_RATE, Sender
from .session import Session
from .shared import Shared
from .work import Work

log = logging.getLogger("treehouse.worker")

# How long a client has to answer the ping before the last stream is named.
_PING_WITHIN = 5.0
_PING = b"draining"
# How long, at the end, it is listened to so that what was sent reaches it before a reset would take
# it away: while it reads it sends window updates. As in HTTP/1.1 (`h1.lingering`); longer where it
# has much to take yet (`_linger`).
_LINGER = 30.0
_LINGER_SILENT = 5.0
# And whom we have ended, for what it did.
_LINGER_FAILED = 2.0
_LINGER_BYTES = 1024 * 1024


async def serve(
    stream: ClientStream,
    connection: Connection,
    service: Service,
    deadlines: Deadlines,
    shared: Shared,
) -> None:
    """Answer requests until the client or we have had enough. The caller closes the stream."""
    server = _Server(stream, connection, service, deadlines, shared)
    shared.add(server)
    shared.count("connection")
    try:
        await server.run()
    finally:
        shared.remove(server)
        await server.end()


def _engine(service: Service, connection: Connection, shared: Shared) -> Engine:
    limits = service.limits
    terms = Terms(
        header_size=limits.header_size,
        header_count=limits.header_count,
        target_size=limits.target_size,
        streams=limits.streams,
        scheme=connection.scheme,
        extended_connect=shared.websocket,
    )
    now = service.clock.now
    if shared.own_engine:
        return Session(terms, now, pool=shared.pool)
    from .authority import Authority  # it costs memory, and few choose it

    return Authority(terms, now)


class _Server:
    """One connection. ``_over``: nothing more is read; ``_draining``: the step that was taken."""

    __slots__ = (
        "_connection",
        "_deadlines",
        "_draining",
        "_engine",
        "_exchanges",
        "_heard",
        "_idle_since",
        "_incoming",
        "_loop",
        "_over",
        "_scheduled",
        "_sender",
        "_service",
        "_shared",
        "_stream",
        "_taken",
        "_timeouts",
        "_works",
    )

    def __init__(
        self,
        stream: ClientStream,
        connection: Connection,
        service: Service,
        deadlines: Deadlines,
        shared: Shared,
    ) -> None:
        self._stream = stream
        self._connection = connection
        self._service = service
        self._deadlines = deadlines
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        engine = self._engine = _engine(service, connection, shared)
        works = self._works = dict[int, Work]()
        sender = self._sender = Sender(stream, engine, service, works, self._on_written)
        self._exchanges = Exchanges(
            stream, connection, service, deadlines, shared, engine, sender, works, self
        )
        self._incoming = Incoming(connection, service, shared, engine, self._exchanges)
        self._scheduled = False
        self._taken = False
        self._over = False
        self._heard = False
        self._idle_since = service.clock.now
        self._draining = 0
        self._timeouts = Timeouts(stream, _nothing)
        deadlines.register(self._timeouts)

    # Reading

    async def run(self) -> None:
        stream, sender = self._stream, self._sender
        sender.flush()
        self._set_deadline()
        while not self._over:
            self._taken = False
            try:
                data = await stream.read(READ_SIZE, self)
            except StreamTimeout:
                if not self._over:
                    self._on_silence()
                return
            except StreamBroken:
                return
            if not self._taken:
                if not data:
                    return  # nothing can be asked for or allowed any more
                self(data)
            while sender.is_choked() and not self._over:
                await sender.has_room()

    def __call__(self, data: bytes) -> bool:
        """Deal with what came; whether more may come."""
        self._heard = True
        on_head = self._incoming.on_head
        try:
            for event in self._engine.receive(data, self._service.clock.now):
                if type(event) is Head:
                    on_head(event)
                else:
                    self._on_event(event)
        except ConnectionFailed as failure:
            self._failed(failure)
        self._sender.flush()
        self._set_deadline()
        self._close_if_done()
        if self._over or self._sender.is_choked():
            self._taken = True
            return False
        return True

    def _on_event(self, event: Event) -> None:
        match event:
            case Data(number, data, end):
                self._incoming.on_data(number, data, end)
            case Trailers(number, fields):
                self._incoming.on_trailers(number, fields)
            case Room(number):
                self._sender.on_room(number)
            case Reset():
                self._incoming.on_reset(event)
            case Prioritised(number, priority):
                work = self._works.get(number)
                if work is not None:
                    work.priority = priority
                    self._sender.prioritise(work)
            case Pong(opaque):
                if opaque == _PING and self._draining == 1:
                    self._name_last()
            case Ended():
                log.debug("%s: the client ends its HTTP/2 connection", self._connection.peer)

    def _failed(self, failure: ConnectionFailed) -> None:
        self._over = True
        if failure.code == frames.ENHANCE_YOUR_CALM:
            self._service.limited("http2_waste", self._connection)
        self._shared.count(f"goaway {frames.code_name(failure.code)}")
        log.debug("%s: HTTP/2: %s", self._connection.peer, failure)

    # Time

    def _set_deadline(self) -> None:
        """Of the reader and the writer together: what is next to end the connection."""
        limits, sender = self._service.limits, self._sender
        deadline = NEVER
        since = self._engine.block_since
        if since is not None:
            deadline = since + limits.header_timeout
        if sender.rest:
            deadline = min(deadline, sender.stalled_since + limits.write_timeout)
        idle = not self._works and not sender.rest
        if idle:
            patience = limits.keepalive_timeout if self._heard else limits.header_timeout
            deadline = min(deadline, self._idle_since + patience)
        self._timeouts.idle = idle and since is None
        self._stream.deadline = deadline

    def _on_silence(self) -> None:
        """The transport's deadline has passed."""
        since = self._engine.block_since
        now, limits = self._service.clock.now, self._service.limits
        if since is not None and now >= since + limits.header_timeout:
            self._incoming.refuse(Fault("header_timeout"))
        elif self._sender.rest:
            for work in list(self._works.values()):
                self._exchanges.cancel(work, "client_stalled")
            self._stream.abort()
            return
        self._engine.goaway(self._engine.highest, frames.NO_ERROR)
        self._shared.count("goaway idle")
        self._sender.flush()

    # Writing, see `exchanges.Link`

    def soon(self) -> None:
        """Write at the end of this turn of the loop, once for all who have something."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self._sender.flush()
        self._set_deadline()
        self._close_if_done()
        if self._over:
            self._sender.release()
            self._stream.expire()  # the reader is to see it

    def _on_written(self, all_of_it: bool) -> None:
        if all_of_it:
            self._sender.release()
            if self._draining:
                self.soon()
            return
        self._set_deadline()
        if not self._sender.is_choked():
            self._sender.release()

    def on_idle(self) -> None:
        self._idle_since = self._service.clock.now
        if self._draining:
            self.soon()

    # The end

    def drain(self) -> None:
        if self._draining or self._over:
            return
        self._draining = 1
        self._engine.goaway(frames.LAST_STREAM, frames.NO_ERROR)
        self._engine.ping(_PING)
        self._shared.count("goaway drain")
        self._loop.call_later(_PING_WITHIN, self._name_last)
        self.soon()

    def _name_last(self) -> None:
        """The second step: what came until now is taken, and nothing else."""
        if self._draining != 1 or self._over:
            return
        self._draining = 2
        self._engine.goaway(self._engine.highest, frames.NO_ERROR)
        self.soon()

    def _close_if_done(self) -> None:
        """The last stream has been named, and nothing is under way any more."""
        if self._draining == 2 and not (self._works or self._sender.rest or self._engine.unsent):
            self._over = True

    async def end(self) -> None:
        """Nothing more is read: end what is under way, say why, and see to it that it is heard."""
        self._over = True
        await self._exchanges.end_all("client_gone")
        sender = self._sender
        sender.flush()
        if sender.rest and sender.writer is not None:
            self._stream.deadline = self._service.clock.now + _LINGER_FAILED
            await asyncio.gather(sender.writer, return_exceptions=True)
        self._engine.close()
        try:
            await self._linger()
        finally:
            self._deadlines.release(self._timeouts)
            self._timeouts.idle = False
            # Both know this object: until the garbage collector came to the circle, an ended
            # connection would keep its TLS object, some 30 KiB.
            self._exchanges.part()
            sender.part()

    async def _linger(self) -> None:
        """End our side, and listen until the client has ended its own, within bounds. Nothing of it
        is under way any more, so that it may be ended for others.

        The kernel may still hold much of the last answers for a client that reads slowly, and the
        next window update after a `close` would be answered by a reset, which takes that away. So
        such a client is listened to for as long as it takes its bytes as an answer must be taken.
        Where that ends before all is taken, it is a limit that was reached."""
        stream, service = self._stream, self._service
        clock, failed = service.clock, self._engine.failed
        left = 0 if failed else stream.unacknowledged()
        silent, slow = _LINGER_SILENT, False
        since = clock.now  # of the last sign that it reads
        end = since + (_LINGER_FAILED if failed else _LINGER + left / LEAST_RATE)
        heard = 0
        self._timeouts.idle = not left
        try:
            await stream.send_eof()
            while clock.now < min(end, since + silent):
                if failed and heard >= _LINGER_BYTES:
                    return
                stream.deadline = min(end, since + silent)
                if left:
                    stream.deadline = min(stream.deadline, clock.now + _LINGER_SILENT)
                try:
                    data = await stream.read()
                    if not data:
                        return
                    heard += len(data)
                    since = clock.now
                except StreamTimeout:
                    if not left:
                        return
                if left:
                    before, left = left, max(stream.unacknowledged() - 1, 0)  # a FIN counts as one
                    if left and not slow:
                        silent, slow = service.limits.write_timeout, True
                    if left < before and slow:
                        since = clock.now
                    self._timeouts.idle = not left
        except StreamBroken:
            return
        if left:
            service.limited("write_timeout", self._connection)


def _nothing() -> None:
    """A connection without streams loses nothing when it ends."""
