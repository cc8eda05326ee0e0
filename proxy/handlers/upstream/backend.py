"""One backend of a route: its connections, its health, and what is said of it.

Passive health: a backend that cannot be reached, or answers no request in time, is left out for a
pause that grows while it goes on failing; then it is tried again by a real request. Active health:
a request of our own at an interval, where the configuration asks for it. A backend that is out gets
requests only when all the others are out too: trying is better than refusing.

Circuit breaking: a backend that answers, but too often with a failure, is left out as well. Slow
start: what comes back gets its share of new requests little by little.
"""

from __future__ import annotations

import asyncio
import logging

from ...config.model import Backend, Health, ProxyAction
from ...errors import Blame, Fault
from ...ipc.documents import UpstreamStatus
from ...protocol.h1.client import AnswerBody, NothingCame
from ...transport.stream import StreamBroken
from .context import Surroundings
from .pool import Pool

log = logging.getLogger("treehouse.upstream")

_PAUSE_FIRST = 1.0
_PAUSE_MOST = 30.0
# A backend that warms up begins with this part of its share.
_COLD = 0.05


class Member:
    __slots__ = (
        "_answered",
        "_breaker",
        "_checking",
        "_counted_since",
        "_failed",
        "_failures_in_a_row",
        "_out_until",
        "_passing",
        "_slow_start",
        "_warm_since",
        "backend",
        "credit",
        "failures",
        "in_flight",
        "open_until",
        "pool",
        "weight",
    )

    def __init__(self, backend: Backend, pool: Pool, action: ProxyAction) -> None:
        self.backend = backend
        self.pool = pool
        self.weight = float(backend.weight)
        self._slow_start = action.slow_start
        self._warm_since = float("-inf")  # since when it is in; one that was never out is warm
        self._breaker = action.breaker
        self._answered = self._failed = 0  # since `_counted_since`, for the breaker
        self._counted_since = float("-inf")
        self.open_until = float("-inf")  # the breaker's: no request at all until then
        self.in_flight = 0
        self.failures = 0
        self.credit = 0.0
        self._failures_in_a_row = 0
        self._out_until = 0.0
        self._passing = True  # what the last active check said
        self._checking: asyncio.Task[None] | None = None

    def is_in(self, now: float) -> bool:
        return self._passing and now >= self._out_until and now >= self.open_until

    def tick(self, now: float) -> None:
        self.pool.tick(now)
        if not self._slow_start:
            return
        if not self.is_in(now):
            self._warm_since = now
        warmth = (now - self._warm_since) / self._slow_start
        self.weight = self.backend.weight * min(max(warmth, _COLD), 1.0)

    def count(self, now: float, failed: bool) -> None:
        """One request more, for the breaker."""
        breaker = self._breaker
        if breaker is None:
            return
        if now - self._counted_since > breaker.window:
            self._counted_since = now
            self._answered = self._failed = 0
        self._answered += 1
        self._failed += failed
        if (
            self._answered < breaker.requests
            or self._failed < breaker.failure_ratio * self._answered
        ):
            return
        if now >= self.open_until:
            log.warning(
                "%s is left out for %g s: %d of %d requests failed",
                self.backend.url,
                breaker.pause,
                self._failed,
                self._answered,
            )
        self.open_until = now + breaker.pause
        self._counted_since = float("-inf")

    def failed(self, now: float, why: str) -> None:
        self.failures += 1
        pause = min(_PAUSE_FIRST * 2**self._failures_in_a_row, _PAUSE_MOST)
        self._failures_in_a_row = min(self._failures_in_a_row + 1, 16)
        if now >= self._out_until:
            log.warning("%s is left out for %g s: %s", self.backend.url, pause, why)
        self._out_until = now + pause

    def succeeded(self) -> None:
        if self._failures_in_a_row:
            log.info("%s answers again", self.backend.url)
            self._failures_in_a_row = 0
            self._out_until = 0.0

    def status(self, now: float) -> UpstreamStatus:
        return {
            "url": self.backend.url,
            "healthy": "yes" if self.is_in(now) else "no",
            "last_error": None,
            "draining": self.backend.drain,
            "in_flight": self.in_flight,
            "failures": self.failures,
        }

    # Active checks

    def watch(self, health: Health, around: Surroundings) -> None:
        self._checking = around.loop.create_task(self._check_for_ever(health, around))

    def close(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        self.pool.close()

    async def _check_for_ever(self, health: Health, around: Surroundings) -> None:
        while True:
            why = await self._check(health)
            if (why is None) != self._passing:
                self._passing = why is None
                if why is None:
                    log.info("%s passes its check again", self.backend.url)
                else:
                    log.warning("%s fails its check: %s", self.backend.url, why)
            await asyncio.sleep(health.interval)

    async def _check(self, health: Health) -> str | None:
        """Why the backend is not well; None when it is. What keeps us from asking says nothing."""
        backend = self.backend
        host = backend.host or "localhost"
        authority = f"[{host}]" if ":" in host else host
        request = (
            f"GET {health.path} HTTP/1.1\r\nhost: {authority}\r\n"
            "user-agent: treehouse-proxy\r\nconnection: close\r\n\r\n"
        )
        try:
            async with asyncio.timeout(health.timeout):
                connection = await self.pool.open_another()
                try:
                    await connection.send(request.encode("ascii"), health.timeout)
                    found = await connection.head(b"GET", health.timeout)
                    body = AnswerBody(connection, found, health.timeout)
                    while await body.read():
                        pass
                finally:
                    connection.usable = False
                    self.pool.end(connection)
        except TimeoutError:
            return f"no answer within {health.timeout:g} s"
        except Fault as fault:
            unasked = fault.what.blame is Blame.OURS
            return None if unasked and self._passing else str(fault)
        except (NothingCame, StreamBroken) as error:
            return str(error)
        except Exception:
            log.exception("the check of %s failed inside the server", backend.url)
            return None if self._passing else "it could not be asked"
        return None if 200 <= found.status < 400 else f"status {found.status}"
