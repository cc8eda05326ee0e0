"""Reports limits that were reached: a count for each, and a line in the log that cannot become a
flood. Handshakes under way (of this worker) and tunnels (of all workers) are counted here too.

Every limit has a name, the key of the configuration where there is one. Whoever enforces a limit
calls `LimitReporter.limit_reached`; a fault that a limit causes names it by its kind. What a limit
does to the client is decided where it is enforced, never here.
"""

from __future__ import annotations

import logging
from typing import Protocol

from ..config.model import Limits
from ..errors import Fault
from ..ipc.connection_counters import TUNNELS, ConnectionCounters
from ..log import Seldom
from ..metrics.counters import Counters
from ..transport.clock import Clock

log = logging.getLogger("treehouse.worker")

# The limit that causes a fault, by the fault's kind.
_BY_FAULT = {
    "header_timeout": "header_timeout",
    "body_timeout": "body_timeout",
    "client_stalled": "write_timeout",
    "head_too_large": "header_size",
    "target_too_long": "target_size",
    "body_too_large": "body_size",
    "tiny_chunks": "tiny_chunks",
    "rate_limited": "rate_limit",
    "no_capacity": "backend_capacity",
    "too_many_tunnels": "tunnels",
}
# These are reached all day in the ordinary run of things: they are counted, and not logged.
_ORDINARY = frozenset({"requests_per_connection"})


class Expiring(Protocol):
    """What is known of a stream whose handshake is under way."""

    def expire(self) -> None: ...


class LimitReporter:
    """The limits of one worker. ``counts`` are those of all workers. A worker may have ``1/share``
    of all handshakes, because it can end only its own to make room for a new one. ``counters`` is
    None while nobody asks for figures."""

    def __init__(
        self,
        limits: Limits,
        share: int,
        clock: Clock,
        counters: Counters | None,
        counts: ConnectionCounters,
    ) -> None:
        self._clock = clock
        self.counters = counters
        self._seldom = Seldom(log)
        self._most_tunnels = limits.tunnels
        self._counts = counts
        self.handshakes = Handshakes(-(-limits.handshakes // share), self)

    def limit_reached(self, limit: str, peer: str) -> None:
        if self.counters is not None:
            self.counters.limited(limit)
        if limit not in _ORDINARY:
            text = f"the limit {limit} was reached by %s"
            self._seldom.warning(self._clock.now, text, peer, extra={"peer": peer})

    def fault(self, kind: str, peer: str) -> None:
        """Report the limit that caused a fault of this kind, if one did."""
        limit = _BY_FAULT.get(kind)
        if limit is not None:
            self.limit_reached(limit, peer)

    def begin_tunnel(self) -> None:
        """Count a request that asks for a tunnel. `end_tunnel` must follow. Raises `Fault` where
        there are too many already."""
        if not self._counts.acquire(TUNNELS, self._most_tunnels):
            raise Fault("too_many_tunnels")

    def end_tunnel(self) -> None:
        self._counts.release(TUNNELS)


class Handshakes:
    """The handshakes under way, in the order in which they began. One too many ends the oldest: it
    has had its time, and in a flood of handshakes that never end it is one of the flood."""

    def __init__(self, most: int, limit_reporter: LimitReporter) -> None:
        self._most = most
        self._reporter = limit_reporter
        self._under_way: dict[int, Expiring] = {}

    def begin(self, key: int, stream: Expiring, peer: str) -> None:
        """Add a handshake, known by ``key``; a second time with the same key replaces its
        stream."""
        self._under_way[key] = stream
        if len(self._under_way) > self._most:
            oldest = next(iter(self._under_way))
            self._under_way.pop(oldest).expire()
            self._reporter.limit_reached("handshakes", peer)

    def end(self, key: int) -> None:
        self._under_way.pop(key, None)

    def late(self, key: int, peer: str) -> None:
        """Report a handshake that ran out of time, unless it was ended to make room."""
        if self._under_way.pop(key, None) is not None:
            self._reporter.limit_reached("handshake_timeout", peer)
