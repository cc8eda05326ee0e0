"""Requests that no backend takes, held until one does: an app that restarts.

While an app restarts, its port refuses connections, or its unix socket is missing. With
``wait_for_backend`` such requests wait here instead of failing, in the order in which they came;
``max_queued`` bounds their number. Beside them one probe at a time tries to connect, to each
backend in turn. When it succeeds they are all let go, the oldest first, and find the connection in
the pool.

A request that comes while others are held joins them at the end without trying: otherwise it could
overtake those who have waited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from ...errors import Fault
from ...transport.clock import Clock

# Seconds between two probes. A refused connection costs some fifty microseconds, and a client waits
# that much longer at worst.
_INTERVAL = 0.05


class HeldRequests:
    """``most`` of them at a time. ``probe`` says whether a backend takes connections."""

    def __init__(self, most: int, clock: Clock, probe: Callable[[], Awaitable[bool]]) -> None:
        self._most = most
        self._clock = clock
        self._probe = probe
        self._held: deque[asyncio.Future[None]] = deque()
        self._probing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    async def wait(self, until: float, fault: Fault) -> None:
        """Return when a backend takes connections. Raises ``fault``, which says why none does, when
        that lasts until the monotonic time ``until``, or `Fault` "no_capacity" at once when too
        many wait already."""
        if len(self._held) >= self._most:
            raise Fault("no_capacity", f"{self._most} requests wait for a backend already")
        left = until - self._clock.look()
        if left <= 0:
            raise fault
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held.append(waiter)
        if self._probing is None:
            self._probing = asyncio.ensure_future(self._probe_until_taken())
        try:
            async with asyncio.timeout(left):
                await waiter
        except TimeoutError:
            raise fault from None
        finally:
            if waiter in self._held:
                self._held.remove(waiter)

    def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()

    async def _probe_until_taken(self) -> None:
        try:
            while self._held:
                await asyncio.sleep(_INTERVAL)
                if self._held and await self._probe():
                    while self._held:
                        waiter = self._held.popleft()
                        if not waiter.done():
                            waiter.set_result(None)
        finally:
            self._probing = None
