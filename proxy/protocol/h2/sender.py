"""What a connection sends: frames that wait, and pieces of answers, when the client takes them.

Bodies are pulled, never pushed: a piece is fetched from a file or a backend only when its stream's
turn has come (`schedule`) and both windows and the socket have room for it. What the kernel does
not take at once a task writes, of which there is at most one; everything else happens in the
callback that caused it.

It also says when the connection is choked: while much of what the client has caused lies unsent,
nothing more is read from it, for pings and settings make output as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...errors import Fault
from ...transport.deadlines import NEVER
from ...transport.stream import Stream, StreamBroken
from ..service import Service
from .engine import Engine
from .schedule import Schedule
from .work import Work

# So much is gathered for one write. The kernel keeps some 128 KiB that it has not sent
# (NOTSENT_LOWAT), so at most 192 KiB stand before an answer that is more urgent.
GATHER = 64 * 1024
# With so much unsent, nothing more is read.
_MOST_UNSENT = 128 * 1024
# Bytes sent without a pause before other connections have a turn.
_TURN = 512 * 1024
# Passes of the loop after a turn. Until the answer to a request that has come meanwhile is in the
# schedule, the descriptor is polled, the reader's task wakes, and it takes the request. In fewer
# passes another turn's bytes would stand before that answer, however urgent it is.
_PASSES = 3
_FRAME = 16 * 1024
# Bytes per second at which an answer must be taken on average, after `limits.write_timeout`; as for
# requests' bodies.
LEAST_RATE = 500.0


class Sender:
    """``works`` are the requests under way by stream. ``rest`` is what the kernel has not taken,
    ``stalled_since`` since when. ``on_written`` is called when the kernel has taken more, with True
    when that was all."""

    __slots__ = (
        "_engine",
        "_loop",
        "_on_written",
        "_released",
        "_schedule",
        "_service",
        "_shut",
        "_stream",
        "_works",
        "rest",
        "stalled_since",
        "writer",
    )

    def __init__(
        self,
        stream: Stream,
        engine: Engine,
        service: Service,
        works: dict[int, Work],
        on_written: Callable[[bool], None],
    ) -> None:
        self._stream = stream
        self._engine = engine
        self._service = service
        self._works = works
        self._on_written = on_written
        self._loop = asyncio.get_running_loop()
        self._schedule = Schedule()
        self._shut: set[int] = set()  # streams that wait for a window
        self._released: asyncio.Future[None] | None = None
        self.rest: bytes | memoryview = b""
        self.stalled_since = NEVER
        self.writer: asyncio.Task[None] | None = None

    # The brake

    def is_choked(self) -> bool:
        """Whether the client has much to take before it is read from again."""
        return len(self.rest) + self._engine.unsent > _MOST_UNSENT

    async def has_room(self) -> None:
        """Return when the client has taken enough, or `release` was called."""
        self._released = self._loop.create_future()
        await self._released

    def release(self) -> None:
        """Have the reader look again."""
        released = self._released
        if released is not None and not released.done():
            released.set_result(None)

    # Whose turn it is

    def add(self, work: Work) -> None:
        """It has a piece to send, from now on."""
        self._schedule.add(work.number, work.priority)

    def remove(self, number: int) -> None:
        """It has none, for good."""
        self._schedule.remove(number)
        self._shut.discard(number)

    def prioritise(self, work: Work) -> None:
        self._schedule.change(work.number, work.priority)

    def on_room(self, number: int) -> None:
        """A stream's window has grown, or (0) all of them."""
        self.wake_tunnels()
        if number == 0:
            for one in self._shut:
                self._reopen(one)
            self._shut.clear()
        elif number in self._shut:
            self._shut.discard(number)
            self._reopen(number)

    def wake_tunnels(self) -> None:
        for work in self._works.values():
            if work.tunnel is not None:
                work.tunnel.has_room()

    def _reopen(self, number: int) -> None:
        work = self._works.get(number)
        if work is not None and work.pieces is not None:
            if work.write_deadline != NEVER:
                work.stalled += self._service.clock.now - work.shut_since
                work.write_by(NEVER)
            self._schedule.add(number, work.priority)

    # Writing

    def flush(self) -> bool:
        """Send what can be sent without waiting; whether there is more, which the writer sends."""
        if self.rest:
            return True
        sent = 0
        try:
            while True:
                self._gather()
                data = self._engine.take()
                if not data:
                    return False
                self.rest = self._send(data)
                sent += len(data)
                if self.rest or sent > _TURN:
                    break
        except StreamBroken:
            self.rest = b""
            self._stream.abort()
            return False
        self.stalled_since = self._service.clock.now
        if self.writer is None:
            self.writer = self._loop.create_task(self._write())
        return True

    def _send(self, data: bytes) -> bytes | memoryview:
        """Send records until the kernel refuses; what is left."""
        rest: bytes | memoryview = self._stream.write_now(data)
        left = len(data)
        while rest and len(rest) < left:
            left = len(rest)
            rest = self._stream.write_now(rest)
        return rest

    async def _write(self) -> None:
        """Go on where the kernel took no more, or where others had to have a turn."""
        try:
            more = True
            while more:
                if self.rest:
                    await self._stream.write(self.rest)
                    self.rest = b""
                else:
                    for _ in range(_PASSES):
                        await asyncio.sleep(0)
                more = self.flush()
                self._on_written(False)
        except StreamBroken:
            self.rest = b""
            self._stream.abort()
        finally:
            self.writer = None
            self.wake_tunnels()
            self._on_written(True)

    def _gather(self) -> None:
        """Fetch pieces of answers, in their order, until there is enough for one write."""
        schedule, engine = self._schedule, self._engine
        while schedule and engine.unsent < GATHER:
            number = schedule.next()
            assert number is not None  # noqa: S101 - there is one
            self._advance(self._works[number])

    def _advance(self, work: Work) -> None:
        """Send the next piece of an answer."""
        number, pieces, engine = work.number, work.pieces, self._engine
        assert pieces is not None  # noqa: S101 - else it were not in the schedule
        if not engine.is_open(number):
            self._schedule.remove(number)  # its end, or the connection's, is under way
            return
        window = engine.window(number)
        if not window and not pieces.is_done():
            self._shuts(work)
            return
        try:
            piece = pieces.next(min(window, _FRAME))
        except Fault as fault:
            work.break_off(fault.kind)
            return
        if piece is None:
            self._schedule.remove(number)
            work.ask()
            return
        end = pieces.is_done()
        trailers = pieces.trailers if end else []
        if piece or (end and not trailers):
            engine.data(number, piece, end and not trailers)
            work.exchange.sent += len(piece)
        if end:
            work.complete(trailers)

    def _shuts(self, work: Work) -> None:
        """Its window is used up: it waits for room, though not for ever. On the whole it is taken
        no slower than at a least rate, so that a client which opens its window byte by byte does
        not hold a backend for ever. Only time with the window shut counts."""
        self._schedule.remove(work.number)
        self._shut.add(work.number)
        now, patience = self._service.clock.now, self._service.limits.write_timeout
        left = patience + work.exchange.sent / LEAST_RATE - work.stalled
        work.shut_since = now
        work.write_by(now + min(patience, max(left, 0.0)))

    def part(self) -> None:
        """Let go of the connection, which has ended."""
        self._on_written = _nobody


def _nobody(_all_of_it: bool) -> None:
    """The connection has ended."""
