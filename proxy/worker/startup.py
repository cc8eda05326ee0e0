"""What a worker is forked with: all that it needs to serve is in its memory when it starts."""

from __future__ import annotations

import socket
import ssl

from acme_client.late_dataclass import dataclass

from ..config.model import Config
from ..ipc.connection_counters import CounterMemory
from ..ipc.messages import CertificateFacts, ChallengeFacts
from ..ipc.packs import Bundle
from ..ipc.rate_buckets import Buckets
from ..sandbox import Policy
from ..sites.site import SiteTable
from ..system.listeners import Listener


@dataclass(slots=True, eq=False)
class Announced:
    """A certificate in force: ``facts`` for the workers' tables, ``bundle`` its chain and key,
    which may be moved to another pack."""

    facts: CertificateFacts
    bundle: Bundle


@dataclass(frozen=True, slots=True)
class WorkerInit:
    """What a worker is forked with."""

    number: int
    config: Config
    sites: SiteTable
    policy: Policy
    base: ssl.SSLContext
    listeners: tuple[Listener, ...]
    certificates: tuple[Announced, ...]
    challenges: tuple[tuple[ChallengeFacts, int | None], ...]  # the descriptor is for tls-alpn-01
    access_log: int | None
    buckets: Buckets
    counters: CounterMemory  # of its own generation, in which it is ``number``
    beside: tuple[CounterMemory, ...]  # of the other generations
    drained: frozenset[str]  # URLs of backends that somebody has put into maintenance
    spans: socket.socket | None  # to the exporter, where the configuration has traces
    secret: bytes  # for the hashes of addresses; all workers have the same
