"""What the supervisor makes of containers: their process, their file, and reloads for their sake.

The process (`proxy.containers.watcher`) says which containers there are. That is kept in the state
directory, which every reading of the configuration takes into account, so that a start without
Docker serves what was served before. Where sites change by it, a reload is due: it is begun like
that for a changed file, when nothing else is under way. One that changes nothing (a container that
ends and is awaited) is none.

Containers that crash and start again all the time must not keep the server reloading, and end long
connections by it: after a few reloads in a row there is one every ten seconds.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from acme_client.storage.atomic import Disk

from ..config.model import Config
from ..config.sources import known_containers
from ..config.sources.known_containers import FILE, Container
from ..containers.door import Door
from ..containers.startup import WatcherInit
from ..ipc.documents import ProviderStatus
from ..ipc.messages import ContainersSeen
from .backoff import Backoff
from .lifecycle import Lifecycle
from .process_table import Child, Processes, describe_exit
from .roles import DOCKER, AnyRole
from .timers import Timers

if TYPE_CHECKING:
    from ..config.sources.containers import Entry
    from ..config.syntax.faults import Fault

log = logging.getLogger("treehouse.docker")

# So many reloads at once, and then one in so many seconds.
_BURST = 6
_EVERY = 10.0
_TEXT = 200  # characters of a reason, for the log


class ContainerFeed:
    """``door`` opens the engine's socket; None where none was made at the start."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        processes: Processes,
        timers: Timers,
        door: Door | None,
        config: Config,
    ) -> None:
        self._lifecycle = lifecycle
        self._processes = processes
        self._timers = timers
        self.door = door
        self._state = config.state
        self._child: Child | None = None
        self._backoff = Backoff()
        self._not_before = 0.0
        self._error: str | None = None
        self._heard = False
        follows = config.providers.docker is not None
        self._known = known_containers.read(config.state) if follows else []
        self._in_force = self._known
        self._unwritten = False
        self._reloads: deque[float] = deque(maxlen=_BURST)

    # The process

    def look(self, config: Config, generation: int) -> None:
        """Start the process where one is wanted and there is none. Call it every second."""
        docker = config.providers.docker
        if docker is None or self._lifecycle.stopping or self._lifecycle.retired:
            self.stop()
            return
        if self._unwritten:
            self._write()
        if self._child is not None or time.monotonic() < self._not_before:
            return
        door = self.door if docker.url.startswith("unix:") else None
        try:
            self._child = self._processes.fork(
                DOCKER, WatcherInit(config, docker.url, door), generation
            )
        except OSError as error:
            log.error("the process for %s cannot be started: %s", docker.url, error.strerror)

    def stop(self) -> None:
        if self._child is not None:
            self._processes.kill(self._child)

    def ended(self, child: Child, how: int) -> None:
        if child is not self._child:
            return
        self._child, self._heard = None, False
        now = time.monotonic()
        pause = self._backoff.pause("docker", now - child.born, child.took_to_serve)
        self._not_before = now + pause
        if not (self._lifecycle.stopping or self._lifecycle.retired):
            log.error("%s (pid %d) %s", child.title, child.pid, describe_exit(how))

    def close_in_child(self, role: AnyRole, _generation: int) -> None:
        if self.door is not None and "docker_door" not in role.inherits:
            self.door.close()

    # What it says

    def seen(self, child: Child, message: ContainersSeen) -> None:
        self._error, self._heard = message.error, True
        child.served = child.served or time.monotonic()
        if message.containers is None:
            return
        known = known_containers.understood(message.containers)
        if known != self._known:
            self._tell_of_health(known)
            self._known = known
            self._write()

    def _tell_of_health(self, known: Sequence[Container]) -> None:
        """Log which container falls ill and which recovers, also where another serves its site."""
        before = {one.name: one.condition for one in self._known}
        for one in known:
            if one.condition == "unwell" != before.get(one.name):
                log.warning("container %s is unhealthy, or paused", one.name)
            elif one.condition == "well" and before.get(one.name) == "unwell":
                log.info("container %s does well again", one.name)

    def _write(self) -> None:
        try:
            Disk().write(self._state / FILE, known_containers.written(self._known))
        except OSError as error:
            if not self._unwritten:
                log.warning("%s cannot be written: %s", self._state / FILE, error.strerror)
            self._unwritten = True
        else:
            self._unwritten = False

    def changed(self) -> str | None:
        """Return why a reload is due; None where none is. Each change is reported once."""
        if self._known == self._in_force or self._unwritten:
            return None
        before, after = (_sites(one) for one in (self._in_force, self._known))
        if before == after:
            self._in_force = self._known
            return None
        now = time.monotonic()
        often = len(self._reloads) == _BURST and now < self._reloads[0] + _BURST * _EVERY
        if often and now < self._reloads[-1] + _EVERY:
            return None
        self._reloads.append(now)
        why = _difference(self._in_force, self._known)
        self._in_force = self._known
        return f"containers: {why}"

    def status(self, config: Config) -> list[ProviderStatus]:
        docker = config.providers.docker
        if docker is None:
            return []
        left_out = [str(one) for one in _entries(self._known)[1]]
        left_out += [one for one in config.notices if one.startswith("container")]
        return [
            {
                "kind": "docker",
                "url": docker.url,
                "connected": self._heard and self._error is None,
                "last_error": self._error,
                "containers": sorted(one.name for one in self._known if one.condition != "gone"),
                "left_out": list(dict.fromkeys(left_out)),
            }
        ]


def _entries(known: Sequence[Container]) -> tuple[list[Entry], list[Fault]]:
    from ..config.sources import containers  # it reads YAML; without Docker nobody needs that here

    return containers.entries(known)


def _sites(known: Sequence[Container]) -> object:
    found, told = _entries(known)
    return [(one.site, one.origin) for one in found], [str(one) for one in told]


def _difference(before: Sequence[Container], after: Sequence[Container]) -> str:
    old = {one.name: one for one in before if one.condition != "gone"}
    new = {one.name: one for one in after if one.condition != "gone"}
    parts = [f"{name} is new" for name in sorted(new.keys() - old.keys())]
    parts += [f"{name} has ended" for name in sorted(old.keys() - new.keys())]
    parts += [
        f"{name} {_of_one(old[name], new[name])}"
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]
    return (", ".join(parts) or "one that has ended does not come back")[:_TEXT]


def _of_one(before: Container, after: Container) -> str:
    if before.condition != after.condition:
        words = {
            "well": "does well",
            "starting": "starts",
            "unwell": "is unhealthy",
            "gone": "ended",
        }
        return words[after.condition]
    return "has changed"
