"""What every worker does for the first time when it starts, done once for all of them.

Methods of dataclasses and readers of messages are made when they are used first
(`acme_client.late_dataclass`, `ipc.codec`). What is made in the supervisor, before the first fork,
no worker makes for itself: it starts sooner, and leaves as they are the pages that all share. Only
what every worker uses within its first seconds belongs here, whatever is configured.
"""

from __future__ import annotations

from acme_client.late_dataclass import make_now

from ..handlers.files.document_root import Found
from ..handlers.files.file_cache import FileCache, Representation
from ..handlers.files.listing import Listings
from ..handlers.upstream.context import UpstreamContext
from ..ipc.messages import (
    FROM_WORKER,
    TO_WORKER,
    AskStats,
    Probe,
    ProbeResult,
    Ready,
    Stats,
    Stop,
)
from ..tls.client_hello import Hello
from ..tls.contexts import Held, Served
from .context import WorkerContext
from .startup import Announced, WorkerInit


def warm_up() -> None:
    """Make it all. Once, before the first worker is forked."""
    FROM_WORKER.prepare(Ready, Stats, ProbeResult)
    TO_WORKER.prepare(AskStats, Probe, Stop)
    make_now(
        Announced, FileCache, Found, Held, Hello, Listings, Representation, Served,
        UpstreamContext, WorkerContext, WorkerInit,
    )  # fmt: skip
