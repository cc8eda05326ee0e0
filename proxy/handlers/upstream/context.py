"""What the handlers of backends need of their worker."""

from __future__ import annotations

import asyncio
from typing import Protocol

from acme_client.late_dataclass import dataclass

from ...protocol.message import Request
from ...transport.clock import Clock
from ...transport.deadlines import Deadlines


class BackendCounters(Protocol):
    """Where requests to backends are counted, for the metrics."""

    def upstream(self, backend: str, outcome: str, duration: float | None = None) -> None: ...


class AttemptTracer(Protocol):
    """Where attempts at backends are written down, of requests that have a ``trace``; of others
    nothing is."""

    def attempt(self, request: Request, name: str, url: str) -> None:
        """An attempt begins; one that is open has come to nothing."""
        ...

    def lines(self, request: Request) -> bytes:
        """The fields that tell the backend of the trace."""
        ...

    def answered(self, request: Request, status: int) -> None: ...

    def failed(self, request: Request, kind: str) -> None: ...


@dataclass(slots=True)
class UpstreamContext:
    """``trusted_proxies`` in CIDR notation; ``fast_lane`` as in the configuration. ``counters`` is
    set when somebody begins to ask for figures."""

    loop: asyncio.AbstractEventLoop
    deadlines: Deadlines
    clock: Clock
    trusted_proxies: tuple[str, ...]
    fast_lane: bool
    counters: BackendCounters | None = None
    tracer: AttemptTracer | None = None

    def count(self, backend: str, outcome: str) -> None:
        if self.counters is not None:
            self.counters.upstream(backend, outcome)
