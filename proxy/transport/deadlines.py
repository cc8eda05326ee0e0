"""Deadlines, resets and clients that leave, for all transports of a worker and what runs on them.

A transport has a deadline for whoever waits on it. What runs on it, an exchange, has `Timeouts` of
its own: one exchange at a time on an HTTP/1.1 connection, many on an HTTP/2 connection. A transport
knows nothing of them.

One sweep per tick looks at all deadlines, instead of a timer for each wait. One epoll beside the
event loop's own tells errors and ends, once each, and costs nothing while there are none. Of a
client's first bytes it tells as well (`early`), for a descriptor is in it from the beginning: what
a client sends in a handshake and one request needs no place in the event loop's own.

Time is what the peer has had, not what has passed: a worker that the machine did not let run (no
CPU, stopped, suspended) finds deadlines over and, in the kernel's buffers, what came in time. So a
transport for which something is there is served before its deadline is honoured, once for each
deadline; and when the worker itself was away for long, that time is added to all deadlines, though
no more than once a minute: who keeps a server busy must not keep their own slow connections alive
with it.

A client that leaves while its response is awaited is told by its FIN (EPOLLRDHUP), even behind
bytes that nobody reads yet: no read, no system call, no flag in the path of a request that is
answered soon. `docs/decisions/clients-that-leave.md` says why a FIN counts as leaving and
close_notify alone does not.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ..accelerated import Lane, copies, lane

NEVER = float("inf")

# For how long a response may be silent, in seconds, once its client has ended its side. Clients of
# the HTTP/1.0 kind do so and wait on; a backend that is well answers them within that time.
SILENT_WITHOUT_CLIENT = 1.0
# A worker that was away for longer was kept from running; a turn of its loop takes milliseconds.
_AWAY = 1.0
_AWAY_EVERY = 60.0
# Level-triggered: whoever reads need not read all that is there.
_EARLY = select.EPOLLIN | select.EPOLLRDHUP
_EPOLLIN = select.EPOLLIN


class Watched(Protocol):
    """A transport as it is seen here.

    ``deadline`` (monotonic seconds) bounds its waits. ``awaits`` is what its waiters wait for, as
    `select.poll` spells it; 0: nobody waits.
    """

    deadline: float

    @property
    def awaits(self) -> int: ...

    def expire(self) -> None: ...

    def fail(self) -> None: ...


class Descriptor(Watched, Protocol):
    """A transport on its descriptor. While ``early`` is not 0, ``came_early`` is called for what
    has come, as often as something is there; until ``end_early``, which says that the descriptor
    is in error, or a time that it chooses."""

    early: int

    def came_early(self) -> None: ...

    def end_early(self) -> None: ...


class Timeouts:
    """How long an exchange on a connection may take, and what ends it early.

    ``deadline`` (monotonic seconds) is the exchange's own, for a protocol with several of them on
    one transport; ``on_timeout`` is called once when it has passed. HTTP/1.1 uses the transport's.
    ``waiting_since`` is since when the client waits for the next piece of a response, of which
    nothing is here; NEVER while it does not. If it has ended its side by then, and nothing comes
    for a while, ``disconnected`` becomes true and ``on_disconnect`` is called, once.
    ``idle`` is true while a protocol waits for a request: nothing is lost if the connection ends.
    """

    __slots__ = (
        "deadline",
        "disconnected",
        "idle",
        "on_disconnect",
        "on_timeout",
        "transport",
        "waiting_since",
    )

    def __init__(
        self,
        transport: Watched,
        on_disconnect: Callable[[], object],
        on_timeout: Callable[[], object] | None = None,
    ) -> None:
        self.transport = transport
        self.on_disconnect = on_disconnect
        self.on_timeout = on_timeout
        self.deadline = NEVER
        self.waiting_since = NEVER
        self.disconnected = False
        self.idle = False


def in_c(lane: Lane) -> Callable[[Watched, Callable[[], object]], Timeouts]:
    """Return what a lane has in place of `Timeouts`."""
    nothing: Any = None
    return copies(lane, Timeouts(nothing, nothing), "transport", "on_disconnect")


new_timeouts = Timeouts if lane is None else in_c(lane)


class Deadlines:
    """All transports of a worker, and the exchanges on them."""

    def __init__(self) -> None:
        self.streams: set[Watched] = set()
        self.exchanges: set[Timeouts] = set()
        self._by_fd: dict[int, Descriptor] = {}
        self._fds: dict[Watched, int] = {}
        self._left: dict[Watched, float] = {}  # since when their peers have ended their side
        # Deadlines that were let pass because something was there to be read, or room to write.
        self._extended: dict[Watched | Timeouts, float] = {}
        self._events: select.epoll | None = None
        self._forgiven = float("-inf")

    def add(
        self, stream: Descriptor, fd: int, loop: asyncio.AbstractEventLoop, client: bool = False
    ) -> None:
        """``client``: its leaving matters, too, and its first bytes are told.

        uvloop (libuv) says of a descriptor in error once that it is readable, and never a word
        again; what the peer sent before its reset is read then, and whoever reads on would wait for
        the deadline. So errors are heard of here."""
        self.streams.add(stream)
        if self._events is None:
            self._events = select.epoll()
            loop.add_reader(self._events.fileno(), self._on_events)
        self._by_fd[fd] = stream
        self._fds[stream] = fd
        # EPOLLERR and EPOLLHUP come unasked.
        self._events.register(fd, _EARLY if client else select.EPOLLET)

    def tell_no_bytes(self, fd: int) -> None:
        """Tell of errors and ends only from now on, and once each."""
        if self._events is not None:
            self._events.modify(fd, select.EPOLLET | select.EPOLLRDHUP)

    def remove(self, stream: Watched, fd: int, closes: bool = False) -> None:
        """Before the descriptor is given away; or ``closes``, which is the end of it here, for
        nobody else has it."""
        self.streams.discard(stream)
        self._fds.pop(stream, None)
        self._left.pop(stream, None)
        self._extended.pop(stream, None)
        if self._by_fd.pop(fd, None) is not None and self._events is not None and not closes:
            self._events.unregister(fd)

    def register(self, exchange: Timeouts) -> None:
        """Watch over an exchange until it is released."""
        self.exchanges.add(exchange)

    def release(self, exchange: Timeouts) -> None:
        self.exchanges.discard(exchange)
        self._extended.pop(exchange, None)

    def idle(self) -> list[Watched]:
        """The transports on which a request is waited for, those that expire first at the front."""
        found = [one.transport for one in self.exchanges if one.idle]
        return sorted(found, key=lambda stream: stream.deadline)

    def _on_events(self) -> None:
        if TYPE_CHECKING:
            assert self._events is not None  # it is what called
        by_fd = self._by_fd
        told = self._events.poll(0)
        if len(told) == 1:
            ((fd, events),) = told
            stream = by_fd.get(fd)
            if stream is not None:
                if events != _EPOLLIN:
                    self._on_end(stream, events)
                elif stream.early:
                    stream.came_early()
            return
        # What is called may end others, whose numbers are given to new ones at once.
        for stream, events in [(by_fd.get(fd), events) for fd, events in told]:
            if stream is None:
                continue
            if events != select.EPOLLIN:
                if stream in self.streams:
                    self._on_end(stream, events)
            elif stream.early:
                stream.came_early()

    def _on_end(self, stream: Descriptor, events: int) -> None:
        """Take in that a peer has ended its side, or that the descriptor is in error."""
        failed = bool(events & ~_EARLY)
        if failed:
            stream.end_early()
        elif stream.early:
            stream.came_early()  # what came before
            if stream not in self.streams:
                return
        self._left.setdefault(stream, time.monotonic())
        if failed:
            stream.fail()

    # Time

    def was_away(self, seconds: float, now: float) -> None:
        """The worker did not run for so long: it counts against nobody."""
        if seconds > _AWAY and now - self._forgiven > _AWAY_EVERY:
            self._forgiven = now
            for stream in self.streams:
                stream.deadline += seconds
            for exchange in self.exchanges:
                exchange.deadline += seconds

    def sweep(self, now: float) -> None:
        late = [stream for stream in self.streams if stream.deadline < now]
        if late:
            ready = self.served_by_turn(late)
            for stream in late:
                if stream not in ready or not self._extend(stream):
                    stream.expire()
        overdue = [exchange for exchange in self.exchanges if exchange.deadline < now]
        if overdue:
            ready = self.served_by_turn({exchange.transport for exchange in overdue})
            for exchange in overdue:
                if exchange.transport not in ready or not self._extend(exchange):
                    exchange.deadline = NEVER
                    if exchange.on_timeout is not None:
                        exchange.on_timeout()
        if self._left:
            self._tell_of_clients_that_left(now)

    def _extend(self, late: Watched | Timeouts) -> bool:
        """Let a deadline pass, unless that has been done once; whether it was."""
        if self._extended.get(late) == late.deadline:
            return False
        self._extended[late] = late.deadline
        return True

    def _tell_of_clients_that_left(self, now: float) -> None:
        left = self._left
        for exchange in [
            exchange
            for exchange in self.exchanges
            if (since := left.get(exchange.transport)) is not None
            and not exchange.disconnected
            and now - max(since, exchange.waiting_since) > SILENT_WITHOUT_CLIENT
            # Else it is not the response that is slow.
            and not exchange.transport.awaits & select.POLLOUT
        ]:
            exchange.disconnected = True
            exchange.on_disconnect()

    def served_by_turn(self, streams: Iterable[Watched]) -> set[Watched]:
        """Those of them for which the kernel has what they wait for: the loop's next turn serves
        them."""
        poll = select.poll()
        for stream in streams:
            events = stream.awaits
            if events:
                poll.register(self._fds[stream], events)
        return {self._by_fd[fd] for fd, _events in poll.poll(0)}

    def expire_silent(self, streams: Iterable[Watched]) -> None:
        """End those that wait for a request and of whose next one not a byte has come."""
        chosen = list(streams)
        for stream in set(chosen) - self.served_by_turn(chosen):
            stream.expire()
