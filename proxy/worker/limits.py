"""Limits that were reached: a figure for each, and a line in the log that cannot become a flood.
Also what is counted here: handshakes, of this worker, and tunnels, of all (`census`).

Every limit has a name, the key of the configuration where there is one. Whoever enforces it says
`reached`; a fault that a limit causes says so by its kind. What a limit does to the client is
decided where it is enforced, never here.
"""

from __future__ import annotations

import logging
from typing import Protocol

from ..config.model import Limits
from ..errors import Fault
from ..ipc.connection_counters import TUNNELS, Counts
from ..log import Seldom
from ..metrics.counters import Figures
from ..transport.clock import Clock

log = logging.getLogger("treehouse.worker")

# Faults that a limit causes, and which.
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
# In the ordinary run of things these are reached all day: a figure, and no line.
_ORDINARY = frozenset({"requests_per_connection"})


class Expiring(Protocol):
    """What is known of a stream whose handshake is under way."""

    def expire(self) -> None: ...


class Bounds:
    """Of one worker. ``counts`` are everybody's; of the handshakes it has ``1/share``, because only
    its own can be ended for a new one."""

    def __init__(
        self, limits: Limits, share: int, clock: Clock, figures: Figures | None, counts: Counts
    ) -> None:
        self._clock = clock
        self._figures = figures
        self._seldom = Seldom(log)
        self._most_tunnels = limits.tunnels
        self._counts = counts
        self.handshakes = Handshakes(-(-limits.handshakes // share), self)

    def reached(self, limit: str, peer: str) -> None:
        if self._figures is not None:
            self._figures.limited(limit)
        if limit not in _ORDINARY:
            self._seldom.warning(self._clock.now, f"the limit {limit} was reached by %s", peer)

    def fault(self, kind: str, peer: str) -> None:
        """A request ended in that fault."""
        limit = _BY_FAULT.get(kind)
        if limit is not None:
            self.reached(limit, peer)

    def begin_tunnel(self) -> None:
        """For a request that asks for one. Raises `Fault`; else `end_tunnel` must follow."""
        if not self._counts.come(TUNNELS, self._most_tunnels):
            raise Fault("too_many_tunnels")

    def end_tunnel(self) -> None:
        self._counts.go(TUNNELS)


class Handshakes:
    """Those under way, in the order in which they began. One too many ends the oldest: it has had
    its time, and in a flood of handshakes that never end it is one of the flood."""

    def __init__(self, most: int, bounds: Bounds) -> None:
        self._most = most
        self._bounds = bounds
        self._under_way: dict[int, Expiring] = {}

    def begin(self, key: int, stream: Expiring, peer: str) -> None:
        """``key`` tells it from all others. A second time: the stream has become another."""
        self._under_way[key] = stream
        if len(self._under_way) > self._most:
            oldest = next(iter(self._under_way))
            self._under_way.pop(oldest).expire()
            self._bounds.reached("handshakes", peer)

    def end(self, key: int) -> None:
        self._under_way.pop(key, None)

    def late(self, key: int, peer: str) -> None:
        """It ran out of time; if it was not to make room, its own."""
        if self._under_way.pop(key, None) is not None:
            self._bounds.reached("handshake_timeout", peer)
