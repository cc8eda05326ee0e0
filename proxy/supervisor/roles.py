"""The process table as data: the kinds of children that the supervisor has.

A role says what a child does, what the sandbox calls it, how long it may be silent before it is
taken for hung, who starts it again, and what it keeps of the supervisor's descriptors. Everything
that depends on the kind of a child reads this table.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Generic, Literal, Never, TypeVar

from acme_client.late_dataclass import dataclass

from ..alerts.policy import Delivery
from ..certifier import process as certifier
from ..config.model import Config
from ..containers.startup import WatcherInit
from ..ipc.channel import Channel
from ..worker import worker
from ..worker.startup import WorkerInit

RoleName = Literal["worker", "certifier", "messenger", "exporter", "docker"]
# What a child may keep. Everything else that the supervisor has open is closed in it first.
Inherited = Literal[
    "listeners", "certificates", "access_log", "spans out", "spans in", "docker_door"
]
Restart = Literal["with its generation", "always", "never"]
Init = TypeVar("Init", contravariant=True)

# Seconds of silence. A worker's loop turns within milliseconds; a large file on a slow disk may
# hold one turn up for a second or two.
WORKER_SILENT_FOR = 10.0
# Before a worker serves, it reads all certificates in one go: some thousands on a slow machine.
WORKER_STARTING_FOR = 30.0
# The certifier's main loop writes to the disk: an fsync on a worn SD card takes ten seconds. Nobody
# waits for the certifier within a minute.
CERTIFIER_SILENT_FOR = 60.0
# Two questions to an engine that does not answer, each with its own bound.
WATCHER_SILENT_FOR = 60.0
# The exporter waits for a collector, but not longer than its own bound; nobody waits for it.
EXPORTER_SILENT_FOR = 60.0
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Role(Generic[Init]):
    """``entry`` is all that the child does, and returns its exit status. ``policy``: the name in
    `sandbox.policies`. ``silent_for`` and ``starting_for``: seconds without a sign of life until
    the child counts as hung, while it serves and before. ``restart``: when another one follows a
    child that has ended."""

    name: RoleName
    entry: Callable[[Init, Channel], int]
    policy: str
    silent_for: float
    starting_for: float
    restart: Restart
    inherits: frozenset[Inherited] = frozenset()

    def patience(self, *, starting: bool) -> float:
        """Seconds of silence that are not taken for a hang."""
        return self.starting_for if starting else self.silent_for


def _deliver(delivery: Delivery, channel: Channel) -> int:
    from ..alerts import messenger  # mail and HTTP: no other process needs them

    return messenger.run(delivery, channel)


def _export(init: tuple[Config, socket.socket], channel: Channel) -> int:
    from ..exporter import process  # OpenTelemetry: no other process needs it

    return process.run(init, channel)


def _watch(init: WatcherInit, channel: Channel) -> int:
    from ..containers import watcher  # Docker's API: no other process needs it

    return watcher.run(init, channel)


WORKER: Role[WorkerInit] = Role(
    "worker",
    worker.run,
    policy="worker",
    silent_for=WORKER_SILENT_FOR,
    starting_for=WORKER_STARTING_FOR,
    restart="with its generation",
    inherits=frozenset({"listeners", "certificates", "access_log", "spans out"}),
)
CERTIFIER: Role[Config] = Role(
    "certifier",
    certifier.run,
    policy="certifier",
    silent_for=CERTIFIER_SILENT_FOR,
    starting_for=CERTIFIER_SILENT_FOR,
    restart="always",
)
MESSENGER: Role[Delivery] = Role(
    "messenger",
    _deliver,
    policy="messenger",
    # Nobody listens to it: its whole life has a bound (`alerts`).
    silent_for=_NEVER,
    starting_for=_NEVER,
    restart="never",
)
DOCKER: Role[WatcherInit] = Role(
    "docker",
    _watch,
    policy="docker",
    # It waits for an engine that does not answer; between two questions it is heard.
    silent_for=WATCHER_SILENT_FOR,
    starting_for=WATCHER_SILENT_FOR,
    restart="never",  # `containers` starts another one
    inherits=frozenset({"docker_door"}),
)
EXPORTER: Role[tuple[Config, socket.socket]] = Role(
    "exporter",
    _export,
    policy="exporter",
    silent_for=EXPORTER_SILENT_FOR,
    starting_for=EXPORTER_SILENT_FOR,
    restart="always",
    inherits=frozenset({"spans in"}),
)
AnyRole = Role[Never]
ROLES: tuple[AnyRole, ...] = (WORKER, CERTIFIER, MESSENGER, EXPORTER, DOCKER)
