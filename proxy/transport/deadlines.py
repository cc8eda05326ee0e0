"""What befalls a connection meanwhile: its time runs out, it is reset, its peer leaves.

One sweep per tick over all streams instead of a timer for each wait, and one epoll beside the event
loop's own, which tells errors and ends only, once each, and costs nothing while there is none.

Time is what the peer has had, not what has passed: a worker that the machine did not let run (no
CPU, stopped, suspended) finds deadlines over and, in the kernel's buffers, what came in time. So a
stream for which something is there is served before its deadline is honoured, once for each
deadline; and when the worker itself was away for long, that time is added to everybody's, though no
more than once a minute: who keeps a server busy must not keep his own slow connections alive with
it.

A client that leaves while its answer is awaited is told by its FIN (EPOLLRDHUP), even behind bytes
that nobody reads yet: no read, no system call, no flag in the path of a request that is answered
soon. `docs/decisions/clients-that-leave.md` says why a FIN counts as leaving and close_notify alone
does not.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Iterable
from typing import Protocol

NEVER = float("inf")

# For how long an answer may be silent, in seconds, once its client has ended its side. Clients of
# the HTTP/1.0 kind do so and wait on; a backend that is well answers them within that time.
SILENT_WITHOUT_CLIENT = 1.0
# A worker that was away for longer was kept from running; a turn of its loop takes milliseconds.
_AWAY = 1.0
_AWAY_EVERY = 60.0


class Watched(Protocol):
    """What is known of a stream here; see `stream.Stream` for what the others mean.

    ``excused`` is the deadline that was let pass because something was there to be read, or room to
    write. ``awaits`` is what its waiters wait for, as `select.poll` spells it; 0: nobody waits.
    """

    deadline: float
    excused: float
    asked: float
    idle: bool

    @property
    def awaits(self) -> int: ...

    def expire(self) -> None: ...

    def fail(self) -> None: ...

    def abandon(self) -> None: ...


class Deadlines:
    """All streams of a worker."""

    def __init__(self) -> None:
        self.streams: set[Watched] = set()
        self._by_fd: dict[int, Watched] = {}
        self._fds: dict[Watched, int] = {}
        self._left: dict[Watched, float] = {}  # since when their peers have ended their side
        self._events: select.epoll | None = None
        self._forgiven = float("-inf")

    def add(
        self, stream: Watched, fd: int, loop: asyncio.AbstractEventLoop, client: bool = False
    ) -> None:
        """``client``: its leaving matters, too. uvloop (libuv) says of a descriptor in error once
        that it is readable, and never a word again; what the peer sent before its reset is read
        then, and whoever reads on would wait for the deadline. So errors are heard of here."""
        self.streams.add(stream)
        if self._events is None:
            self._events = select.epoll()
            loop.add_reader(self._events.fileno(), self._on_events)
        self._by_fd[fd] = stream
        self._fds[stream] = fd
        # EPOLLERR and EPOLLHUP come unasked.
        self._events.register(fd, select.EPOLLET | (select.EPOLLRDHUP if client else 0))

    def remove(self, stream: Watched, fd: int) -> None:
        """Before the descriptor is closed or given away."""
        self.streams.discard(stream)
        self._fds.pop(stream, None)
        self._left.pop(stream, None)
        if self._by_fd.pop(fd, None) is not None and self._events is not None:
            self._events.unregister(fd)

    def _on_events(self) -> None:
        assert self._events is not None  # noqa: S101 - it is what called
        for fd, events in self._events.poll(0):
            stream = self._by_fd.get(fd)
            if stream is None:
                continue
            self._left.setdefault(stream, time.monotonic())
            if events & ~select.EPOLLRDHUP:
                stream.fail()

    # Time

    def was_away(self, seconds: float, now: float) -> None:
        """The worker did not run for so long: it counts against nobody."""
        if seconds > _AWAY and now - self._forgiven > _AWAY_EVERY:
            self._forgiven = now
            for stream in self.streams:
                stream.deadline += seconds

    def sweep(self, now: float) -> None:
        late = [stream for stream in self.streams if stream.deadline < now]
        if late:
            ready = self.served_by_turn(one for one in late if one.excused != one.deadline)
            for stream in late:
                if stream in ready:
                    stream.excused = stream.deadline
                else:
                    stream.expire()
        if self._left:
            for stream in [
                stream
                for stream, since in self._left.items()
                if now - max(since, stream.asked) > SILENT_WITHOUT_CLIENT
                and not stream.awaits & select.POLLOUT  # it is not the answer that is slow
            ]:
                del self._left[stream]
                stream.abandon()

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
