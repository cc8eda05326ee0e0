"""What all HTTP/2 connections of a worker have in common: memory for windows, counts, the drain."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from ..message import Connection
from .windows import Pool

# Within so many seconds all clients are told to come back on a new connection: ten thousand new
# handshakes at once would keep the next generation busy for seconds.
DRAIN_SPREAD = 5.0


class Draining(Protocol):
    def drain(self) -> None: ...


class Tally(Protocol):
    """Where the events of HTTP/2 are counted: `metrics.counters.Counters`."""

    def http2(self, event: str) -> None: ...


class Shared:
    """``streams_per_address`` is this worker's share of the limit; ``fairness`` says which address
    a client counts for."""

    def __init__(
        self,
        streams_per_address: int,
        fairness: Callable[[str], str] = str,
        tally: Tally | None = None,
        *,
        own_engine: bool = True,
        websocket: bool = False,
    ) -> None:
        self.websocket = websocket  # offered (RFC 8441)
        self.own_engine = own_engine
        self._fairness = fairness
        self.pool = Pool()
        self.tally = tally
        self._most = streams_per_address
        self._streams: Counter[str] = Counter()
        self._servers: set[Draining] = set()

    def count(self, event: str) -> None:
        if self.tally is not None:
            self.tally.http2(event)

    def begin(self, connection: Connection) -> bool:
        """One more stream whose work takes time; `end` must follow, unless it is one too many. The
        streams of a trusted proxy are those of many clients, and are not counted."""
        if connection.proxies is not None:
            return True
        address = self._fairness(connection.peer)
        if self._streams[address] >= self._most:
            return False
        self._streams[address] += 1
        return True

    def end(self, connection: Connection) -> None:
        if connection.proxies is not None:
            return
        address = self._fairness(connection.peer)
        left = self._streams[address] - 1
        if left:
            self._streams[address] = left
        else:
            del self._streams[address]

    @property
    def connections(self) -> int:
        """Those that still take requests, or have some under way."""
        return len(self._servers)

    def add(self, server: Draining) -> None:
        self._servers.add(server)

    def remove(self, server: Draining) -> None:
        self._servers.discard(server)

    def drain(self, loop: asyncio.AbstractEventLoop, spread: float = DRAIN_SPREAD) -> None:
        """Tell the clients of all connections, one after the other, to open a new one."""
        for server in list(self._servers):
            loop.call_later(random.random() * spread, server.drain)  # noqa: S311 - no secret
