"""The generations of a server: one configuration each, with its TLS base context and its workers.

A reload makes the next one beside the present one. *starting*: its workers are on their way;
*serving*: the newest of these takes the connections; *draining*: what it has is finished, nothing
new comes. There is always one at least: a generation that cannot start leaves the one before it as
it was.

Only the table is here. Which workers are started, told or ended by what happens to a generation
is the business of `reload`.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import ssl
import time
from collections.abc import Iterator
from dataclasses import field
from typing import Literal

from acme_client.late_dataclass import dataclass

from ...config.model import Config
from ...ipc.connection_counters import CounterMemory
from ...sandbox import Policy, policies
from ...sites.site import SiteTable
from ...system.listeners import Listener
from ...tls.contexts import server_context
from ..roles import AnyRole

# Draining generations beyond this are ended, oldest first: each holds processes and memory.
DRAINING_MOST = 16


@dataclass(slots=True, eq=False)
class Generation:
    """``born`` and ``drains_since`` are monotonic."""

    number: int
    config: Config
    base: ssl.SSLContext
    listeners: tuple[Listener, ...]
    counters: CounterMemory
    counters_fd: int  # of its memory, for workers of other generations
    state: Literal["starting", "serving", "draining"] = "starting"
    born: float = field(default_factory=time.monotonic)
    drains_since: float | None = None
    _sites: SiteTable | None = None
    _policy: Policy | None = None

    @property
    def sites(self) -> SiteTable:
        """What all workers know of the sites, in memory that they share. What a worker changes
        in it, it changes in a copy of its own."""
        if self._sites is None:
            self._sites = SiteTable(self.config.sites)
            _load_for_workers(self.config, self._sites)
            # A worker that looked through the table for garbage would copy the memory it lies in.
            gc.freeze()
        return self._sites

    @property
    def policy(self) -> Policy:
        """What the workers may do."""
        if self._policy is None:
            self._policy = policies(self.config)["worker"]
        return self._policy


def _load_for_workers(config: Config, sites: SiteTable) -> None:
    """Import what each worker would import for itself: here it takes its memory once."""
    rules = [rules for _site, rules in sites.ruled]
    if config.admin is not None and config.admin_site is not None:
        importlib.import_module("proxy.worker.admin.service")
        rules.append(config.admin_site.rules)
    if config.tracing is not None:
        importlib.import_module("proxy.worker.tracing")
    if any(one.basic_auth is not None for one in rules):
        importlib.import_module("proxy.sites.basic_auth")


class Generations:
    """All generations, oldest first. ``before``: the last number that a predecessor used."""

    def __init__(self, config: Config, listeners: tuple[Listener, ...], before: int = 0) -> None:
        self._numbers = itertools.count(before + 1)
        self._all: list[Generation] = []
        self.add(config, listeners)

    def __iter__(self) -> Iterator[Generation]:
        return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    @property
    def serving(self) -> Generation:
        """The newest generation that serves, or the first one while it starts."""
        return next((one for one in reversed(self._all) if one.state == "serving"), self._all[0])

    @property
    def newest(self) -> Generation:
        return self._all[-1]

    @property
    def draining(self) -> list[Generation]:
        return [one for one in self._all if one.state == "draining"]

    @property
    def too_many(self) -> list[Generation]:
        """The oldest draining generations beyond `DRAINING_MOST`."""
        return self.draining[:-DRAINING_MOST]

    def find(self, number: int) -> Generation | None:
        return next((one for one in self._all if one.number == number), None)

    def before(self, generation: Generation) -> list[Generation]:
        """The generations that serve until ``generation`` does."""
        return [one for one in self if one.number < generation.number and one.state == "serving"]

    def add(self, config: Config, listeners: tuple[Listener, ...]) -> Generation:
        """Add the next one. Its ticket keys, and the memory in which its workers count connections,
        are made here, before its workers are forked, and so shared by them."""
        counters, fd = CounterMemory.create(config.workers, config.limits.connections)
        made = Generation(
            next(self._numbers), config, server_context(config.tls), listeners, counters, fd
        )
        self._all.append(made)
        return made

    def remove(self, generation: Generation) -> None:
        self._all.remove(generation)
        generation.counters.close()
        os.close(generation.counters_fd)

    def close_sockets_of(self, generation: Generation, kept_by: Generation) -> list[Listener]:
        """Close the listeners that ``kept_by`` does not have as well, and return them."""
        kept = {one.sock for one in kept_by.listeners}
        closed = [one for one in generation.listeners if one.sock not in kept]
        for listener in closed:
            listener.sock.close()
        return closed

    def close_in_child(self, role: AnyRole, generation: int) -> None:
        """Leave a child the listeners of its own generation, if it has any at all."""
        own = self.find(generation) if "listeners" in role.inherits else None
        kept = {one.sock for one in own.listeners} if own is not None else set()
        for one in self._all:
            os.close(one.counters_fd)  # its workers have inherited the memory itself
            for listener in one.listeners:
                if listener.sock not in kept:
                    listener.sock.close()

    def close_sockets(self) -> None:
        """Close all listeners: no generation accepts from here any more."""
        for generation in self._all:
            for listener in generation.listeners:
                listener.sock.close()
