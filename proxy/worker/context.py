"""What the services of a worker share: its tables, its limits, its counters."""

from __future__ import annotations

import logging
from dataclasses import field
from typing import Protocol

from acme_client.late_dataclass import dataclass

from ..config.model import Limits
from ..handlers.http01 import Http01Handler
from ..handlers.upstream.context import AttemptTracer
from ..log import Seldom
from ..metrics.counters import Counters
from ..protocol.message import Connection
from ..sites.site import SiteTable
from ..tls.contexts import Certificates
from ..transport.clock import Clock
from .access_log import AccessLog
from .limits import LimitReporter
from .on_demand import OnDemandCertificates

log = logging.getLogger("treehouse.worker")


class Draining(Protocol):
    """A service, as far as its end is concerned."""

    draining: bool


class HandshakeTracer(AttemptTracer, Protocol):
    """Where traces are written, as far as connections and backends are concerned."""

    counters: Counters | None

    def handshake_failed(self, connection: Connection, began: float, why: str) -> None: ...


@dataclass(slots=True, eq=False)
class WorkerContext:
    """``requests`` counts all that have ended, ``in_flight`` those that have not. ``counters`` is
    None until somebody asks for figures; ``tracer`` is None where nobody wants traces. Each service
    adds itself to ``services``."""

    sites: SiteTable
    challenges: Http01Handler
    certificates: Certificates
    limits: Limits
    clock: Clock
    access_log: AccessLog | None
    https_port: int
    limit_reporter: LimitReporter
    on_demand: OnDemandCertificates | None = None
    counters: Counters | None = None
    tracer: HandshakeTracer | None = None
    seldom: Seldom = field(default_factory=lambda: Seldom(log))
    services: list[Draining] = field(default_factory=list)
    requests: int = 0
    in_flight: int = 0

    def drain(self) -> None:
        """Make every response from now on the last of its connection."""
        for service in self.services:
            service.draining = True
