"""One backend of a route: its connections, its load, its health and its status.

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

from ...config import model
from ...ipc.documents import Health, UpstreamStatus
from .health_check import Unasked, check
from .pool import Pool
from .request_head import host_for

log = logging.getLogger("treehouse.upstream")

_PAUSE_FIRST = 1.0
_PAUSE_MOST = 30.0
# A backend that warms up begins with this part of its share.
_COLD = 0.05


class Backend:
    __slots__ = (
        "_answered",
        "_breaker",
        "_checking",
        "_counted_since",
        "_failed",
        "_failures_in_a_row",
        "_fields",
        "_out_until",
        "_passing",
        "_reports_pauses",
        "_slow_start",
        "_tried",
        "_warm_since",
        "config",
        "credit",
        "draining",
        "failures",
        "host",
        "in_flight",
        "last_error",
        "open_until",
        "pool",
        "prefix",
        "weight",
    )

    def __init__(
        self,
        config: model.Backend,
        pool: Pool,
        action: model.ProxyAction,
        *,
        reports_pauses: bool = True,
    ) -> None:
        self.config = config
        self._reports_pauses = reports_pauses
        self._fields = {"backend": config.url}  # of its log records
        self.pool = pool
        given = host_for(action, config)
        self.host = None if given is None else given.encode("ascii")  # in place of the client's
        self.prefix = config.prefix.encode("ascii")  # of the paths that it is asked for
        self.weight = float(config.weight)
        self.draining = config.drain  # in maintenance; somebody may say so while it serves
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
        self._tried = False  # a request or a check has told how it is
        self.last_error: str | None = None  # of the last request or check, None where it succeeded
        self._checking: asyncio.Task[None] | None = None

    def is_available(self, now: float) -> bool:
        return self._passing and now >= self._out_until and now >= self.open_until

    def tick(self, now: float) -> None:
        self.pool.tick(now)
        if not self._slow_start:
            return
        if not self.is_available(now):
            self._warm_since = now
        warmth = (now - self._warm_since) / self._slow_start
        self.weight = self.config.weight * min(max(warmth, _COLD), 1.0)

    def count(self, now: float, failed: bool) -> None:
        """Count a request for the circuit breaker."""
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
                self.config.url,
                breaker.pause,
                self._failed,
                self._answered,
                extra=self._fields,
            )
        self.open_until = now + breaker.pause
        self._counted_since = float("-inf")

    def failed(self, now: float, why: str) -> None:
        """A request could not be sent, or no answer came."""
        self._tried = True
        self.last_error = why
        self.failures += 1
        pause = min(_PAUSE_FIRST * 2**self._failures_in_a_row, _PAUSE_MOST)
        self._failures_in_a_row = min(self._failures_in_a_row + 1, 16)
        if now >= self._out_until and self._reports_pauses:
            text = "%s is left out for %g s: %s"
            log.warning(text, self.config.url, pause, why, extra=self._fields)
        self._out_until = now + pause

    def succeeded(self) -> None:
        """An answer has come."""
        self._tried = True
        if self._passing:
            self.last_error = None
        if self._failures_in_a_row:
            log.info("%s answers again", self.config.url, extra=self._fields)
            self._failures_in_a_row = 0
            self._out_until = 0.0

    def healthy(self, now: float) -> Health:
        """Return how the last request or check went. The end of a pause changes nothing: the
        backend has to answer first."""
        if not self._tried:
            return "untried"
        well = self._passing and not self._failures_in_a_row and now >= self.open_until
        return "yes" if well else "no"

    def status(self, now: float) -> UpstreamStatus:
        return {
            "url": self.config.url,
            "healthy": self.healthy(now),
            "last_error": self.last_error,
            "draining": self.draining,
            "in_flight": self.in_flight,
            "failures": self.failures,
        }

    # Active checks

    def start_checks(self, health: model.Health, loop: asyncio.AbstractEventLoop) -> None:
        self._checking = loop.create_task(self._check_for_ever(health))

    def close(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        self.pool.close()

    async def _check_for_ever(self, health: model.Health) -> None:
        while True:
            try:
                self.checked(await check(self.pool, health))
            except Unasked as error:
                if not self._passing:
                    self.last_error = str(error)
            except Exception:  # checks go on as long as the server does
                log.exception("the check of %s failed inside the server", self.config.url)
            await asyncio.sleep(health.interval)

    def checked(self, why: str | None) -> None:
        """Note the result of a health check: ``why`` it failed, None if it passed."""
        self._tried = True
        if why is not None or not self._failures_in_a_row:
            self.last_error = why
        if (why is None) == self._passing:
            return
        self._passing = why is None
        if why is None:
            log.info("%s passes its check again", self.config.url, extra=self._fields)
        else:
            log.warning("%s fails its check: %s", self.config.url, why, extra=self._fields)
