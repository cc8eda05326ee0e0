"""The generations of a server: one configuration each, with its TLS base context and its workers.

A reload makes the next one beside the present one. *starting*: its workers are on their way;
*serving*: the newest of these takes the connections; *draining*: what it has is finished, nothing
new comes. There is always one at least: a generation that cannot start leaves the one before it as
it was.

Only the table is here. Who is started, told or ended by what happens to a generation is the
business of `turnover`.
"""

from __future__ import annotations

import itertools
import os
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from ...config.model import Config
from ...ipc.connection_counters import Census
from ...system.listeners import Listener
from ...tls.contexts import server_context
from ..process_table import Role

# Draining generations beyond this are ended, oldest first: each holds processes and memory.
DRAINING_MOST = 16


@dataclass(slots=True, eq=False)
class Generation:
    number: int
    config: Config
    base: ssl.SSLContext
    listeners: tuple[Listener, ...]
    census: Census
    state: Literal["starting", "serving", "draining"] = "starting"
    born: float = field(default_factory=time.monotonic)


class Generations:
    """All that live, oldest first. ``before``: the last number that a predecessor has used.
    ``on_census`` is told of each that is added, with the descriptor of its counts, before it has a
    worker: those that live already see them too."""

    def __init__(self, config: Config, listeners: tuple[Listener, ...], before: int = 0) -> None:
        self._numbers = itertools.count(before + 1)
        self._all: list[Generation] = []
        self.on_census: Callable[[Census, int], None] = lambda _census, _fd: None
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
        """Those that have drained for longer than there is room for."""
        return self.draining[:-DRAINING_MOST]

    def find(self, number: int) -> Generation | None:
        return next((one for one in self._all if one.number == number), None)

    def before(self, generation: Generation) -> list[Generation]:
        """Those that serve until ``generation`` does."""
        return [one for one in self if one.number < generation.number and one.state == "serving"]

    def add(self, config: Config, listeners: tuple[Listener, ...]) -> Generation:
        """Its ticket keys are made here, before its workers are forked, and so shared by them; and
        the memory that they count in."""
        census, fd = Census.made(config.workers, config.limits.connections)
        made = Generation(
            next(self._numbers), config, server_context(config.tls), listeners, census
        )
        self._all.append(made)
        self.on_census(census, fd)
        os.close(fd)
        return made

    def remove(self, generation: Generation) -> None:
        self._all.remove(generation)
        generation.census.close()

    def close_sockets_of(self, generation: Generation, kept_by: Generation) -> list[Listener]:
        """Close the listeners that ``kept_by`` does not have as well; gives those."""
        kept = {one.sock for one in kept_by.listeners}
        closed = [one for one in generation.listeners if one.sock not in kept]
        for listener in closed:
            listener.sock.close()
        return closed

    def close_in_child(self, role: Role, number: int) -> None:
        """In a forked child: only a worker has listeners, and only those of its generation."""
        own = self.find(number) if role == "worker" else None
        kept = {one.sock for one in own.listeners} if own is not None else set()
        for generation in self._all:
            for listener in generation.listeners:
                if listener.sock not in kept:
                    listener.sock.close()

    def close_sockets(self) -> None:
        """Nobody new comes to any of them from here."""
        for generation in self._all:
            for listener in generation.listeners:
                listener.sock.close()
