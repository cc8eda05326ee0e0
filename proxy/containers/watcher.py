"""The process that follows containers: it lists them, hears of changes, and tells the supervisor.

It is a child of the supervisor without any privilege; the connections that it asks over come from
the `door`, or are plain TCP to a proxy in front of the socket. It reads what the engine says, and
writes to nobody but the supervisor. What labels mean is not its business.

An event is only a reason to look: what counts is the listing after it, so that a lost event, or one
that is not understood, costs a moment and no truth. Where the engine is away, what was known stays.
A container that ends stays for a while, because one that is started again is back by then, and its
clients would find no site in between.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from urllib.parse import urlsplit

from acme_client.late_dataclass import dataclass
from acme_client.readable import readable

from .. import log as logs
from .. import sandbox
from ..config.sources.known_containers import PREFIX, Container, spelt
from ..ipc.channel import Channel, ChannelClosed
from ..ipc.codec import encode
from ..ipc.messages import Alive, ContainersSeen
from ..system.privileges import confine_process
from .docker_api import Api, ApiFailed, Events, NotThere
from .door import Door, Refused
from .inspection import container, labels_of
from .reachability import near
from .startup import WatcherInit

log = logging.getLogger("treehouse.docker")

# What happens together is looked at together.
_GATHER = 0.2
# A look without any event: what the engine does not tell of is found then.
_LOOK_EVERY = 30.0
_ALIVE_EVERY = 5.0
# How long a container that has ended is waited for.
GONE_FOR = 10.0
# Until an engine that is away is asked again; the last one repeats.
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
_MOST = 5000  # containers with labels of ours
_TCP_WITHIN = 5.0
# Between two looks, however many events there are.
_LOOKS_APART = 1.0
# Health checks run in the container by these, every few seconds. Docker tells of a container's
# health by itself; Podman 4 does not, and its exec_died may be the end of a check.
_NOTHING_NEW = frozenset(
    {"exec", "exec_create", "exec_start", "exec_die", "top", "attach", "resize", "archive-path"}
)


def run(init: WatcherInit, channel: Channel) -> int:
    """The life of the process; returns its exit status."""
    logs.set_up("docker", init.config.log.format, init.config.log.level)
    confine_process()
    sandbox.apply(sandbox.policies(init.config)["docker"], init.config.sandbox)
    watcher = Watcher(init.url, opener(init.url, init.door), channel)
    try:
        watcher.serve()
    except ChannelClosed:
        return 0
    return 1


def opener(url: str, door: Door | None) -> Callable[[], socket.socket]:
    """Return what makes connections to the engine, and raises `Refused` and OSError."""
    if door is not None:
        return door.connect
    if url.startswith("unix:"):

        def refuse() -> socket.socket:
            raise Refused(errno.EPIPE)

        return refuse
    parts = urlsplit(url)
    at = (parts.hostname or "", parts.port or 2375)
    return lambda: socket.create_connection(at, _TCP_WITHIN)


@dataclass(slots=True)
class _Known:
    """The containers of the last listing by id, and those that have ended since, with the
    (monotonic) time until which they are waited for."""

    present: dict[str, Container] = field(default_factory=dict)
    gone: dict[str, tuple[Container, float]] = field(default_factory=dict)

    def list(self, now: float) -> list[Container]:
        names = {one.name for one in self.present.values()}
        waited = [
            replace(one, condition="gone")
            for one, until in self.gone.values()
            if until > now and one.name not in names
        ]
        return [*self.present.values(), *waited]

    def take(self, listed: Mapping[str, Container], now: float) -> None:
        # One that is being started has no address for a moment: as if it were still to come.
        found = {
            key: one for key, one in listed.items()
            if _has_address(one) or not (key in self.present or key in self.gone)
        }  # fmt: skip
        for key, one in self.present.items():
            if key not in found:
                self.gone[key] = one, now + GONE_FOR
        self.gone = {
            key: (one, until) for key, (one, until) in self.gone.items()
            if until > now and key not in found
        }  # fmt: skip
        self.present = dict(found)


def _has_address(one: Container) -> bool:
    return bool(one.networks or one.published or one.shares_host)


class Watcher:
    def __init__(self, url: str, open_: Callable[[], socket.socket], channel: Channel) -> None:
        self._url = url
        self._open = open_
        self._channel = channel
        self._known = _Known()
        self._images: dict[str, dict[str, str]] = {}
        self._api: Api | None = None
        self._events: Events | None = None
        self._told: tuple[list[Container], str | None] | None = None
        self._trouble: str | None = None  # told once, until it is another one
        self._failures = 0
        self._look_at = self._looked = 0.0  # monotonic
        self._alive_at = 0.0

    def serve(self) -> None:
        """Follow the containers; never returns, and raises `ChannelClosed` when the supervisor is
        gone."""
        while True:
            now = time.monotonic()
            if now >= self._alive_at:
                self._channel.send(encode(Alive()))
                self._alive_at = now + _ALIVE_EVERY
            if now >= self._look_at:
                self._look()
            self._wait()

    def _wait(self) -> None:
        now = time.monotonic()
        ends = [until for _one, until in self._known.gone.values()]
        until = min(self._look_at, self._alive_at, *ends)
        readers: list[Channel | Events] = [self._channel]
        if self._events is not None:
            readers.append(self._events)
        ready = readable(readers, until - now)
        if self._channel in ready:
            self._channel.receive()  # nothing is said to this process but its end
        if self._events is not None and self._events in ready:
            self._hear(self._events)
        if any(until <= time.monotonic() for until in ends):
            self._known.take(self._known.present, time.monotonic())
            self._tell()

    def _hear(self, events: Events) -> None:
        try:
            for event in events.read():
                action = str(event.get("Action") or event.get("status") or "")
                if action.partition(":")[0] not in _NOTHING_NEW:
                    soon = max(time.monotonic() + _GATHER, self._looked + _LOOKS_APART)
                    self._look_at = min(self._look_at, soon)
        except ApiFailed as error:
            self._lose(str(error))

    def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            if self._events is None:
                self._events = Events(self._open(), time.time() - 1)
            if self._api is None:
                self._api = Api(self._open())
            found = self._listing(self._api)
        except ApiFailed as error:
            self._lose(str(error))
        except Refused as error:
            self._lose(_reason(error.number, self._url))
        except OSError as error:
            self._lose(_reason(error.errno or 0, self._url))
        else:
            self._failures = 0
            self._look_at = time.monotonic() + _LOOK_EVERY
            self._known.take(found, time.monotonic())
            if self._trouble is not None:
                log.info("%s answers again", self._url)
                self._trouble = None
            self._tell()

    def _listing(self, api: Api) -> dict[str, Container]:
        listed = api.get("/containers/json")
        ids = [
            str(one.get("Id")) for one in (listed if isinstance(listed, list) else ())
            if isinstance(one, dict)
            and any(str(name).startswith(PREFIX) for name in one.get("Labels") or ())
        ]  # fmt: skip
        if len(ids) > _MOST:
            log.warning("%d containers have labels; the first %d are taken", len(ids), _MOST)
        found = {}
        for key in ids[:_MOST]:
            with contextlib.suppress(NotThere):
                said = api.get(f"/containers/{key}/json")
                made = container(said, self._image_labels(api, said), near)
                if made is not None:
                    found[key] = made
        return found

    def _image_labels(self, api: Api, said: object) -> dict[str, str]:
        image = str(said.get("Image", "")) if isinstance(said, dict) else ""
        if image not in self._images:
            labels: dict[str, str] = {}
            with contextlib.suppress(NotThere):
                labels = labels_of(api.get(f"/images/{image}/json"))
            if len(self._images) > _MOST:
                self._images.clear()
            self._images[image] = labels
        return self._images[image]

    def _lose(self, why: str) -> None:
        """Keep what is known, and ask again after a while."""
        for one in (self._api, self._events):
            if one is not None:
                one.close()
        self._api = self._events = None
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._failures += 1
        self._look_at = time.monotonic() + pause
        # One that hangs up is restarted, and is back with the first try.
        if self._failures > 1 and why != self._trouble:
            self._trouble = why
            log.warning("%s: %s; what is known of its containers stays in force", self._url, why)
            self._tell()

    def _tell(self) -> None:
        containers = self._known.list(time.monotonic())
        if self._told is None and not containers and self._trouble is not None:
            # Nothing has been heard yet: what the server knew before it started stays.
            self._channel.send(encode(ContainersSeen(None, self._trouble)))
            return
        if self._told != (containers, self._trouble):
            same = self._told is not None and self._told[0] == containers
            spelt_out = None if same else tuple(map(spelt, containers))
            self._channel.send(encode(ContainersSeen(spelt_out, self._trouble)))
            self._told = containers, self._trouble


def _reason(number: int, url: str) -> str:
    path = url.removeprefix("unix:")
    if number == errno.EACCES:
        return (
            f"the server may not open it; it is opened by the group that {path} has when the "
            f"server starts as root (sudo chgrp docker {path}; sudo chmod g+rw {path}; restart)"
        )
    if number == errno.EPIPE:
        return "the process that opens it is not there (restart the server)"
    if number == errno.ENOENT:
        return "it is not there"
    if number == errno.ECONNREFUSED:
        return "nobody answers there"
    return os.strerror(number).lower() if number else "it cannot be reached"
