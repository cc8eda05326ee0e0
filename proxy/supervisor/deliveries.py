"""Messages that every worker must take in: sent, acknowledged, and sent again where they were not.

A delivery is done when every worker that it went to has acknowledged it or has ended; a worker may
acknowledge that it cannot do what it is told, and say why (a certificate that it cannot serve). A
worker that could not take a message in (it had no descriptor left to receive one) says so and is
sent the message again, at once the first time and after a pause each further time. What is sent is
composed anew each time, so that it is never older than what the supervisor knows.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType

from acme_client.late_dataclass import dataclass

from ..ipc.messages import ToWorker
from .process_table import Child, Processes
from .timers import Timers

log = logging.getLogger("treehouse.supervisor")

# A message for a ticket, and its descriptors (which stay the sender's); None: it is out of date.
Compose = Callable[[int], tuple[ToWorker, tuple[int, ...]] | None]
# What workers cannot serve of a message, by the certificate's name, and why.
Refusals = Mapping[str, str]
# Seconds until a message that was not taken in is sent again; the last one repeats.
_PAUSES = (0.0, 0.25, 1.0, 5.0)
_NONE: Refusals = MappingProxyType({})


@dataclass(slots=True, eq=False)
class _Delivery:
    compose: Compose
    done: Callable[[Refusals], None]
    waiting: set[int]  # pids
    refusals: dict[str, str] = field(default_factory=dict)  # what a worker cannot do, and why
    refused: dict[int, int] = field(default_factory=dict)  # how often, by pid


class Deliveries:
    def __init__(self, processes: Processes, timers: Timers) -> None:
        self._processes = processes
        self._timers = timers
        self._tickets = itertools.count(1)
        self._open: dict[int, _Delivery] = {}

    def to_all(
        self, compose: Compose, done: Callable[[Refusals], None] = lambda _refusals: None
    ) -> None:
        """Send every worker a message; ``done`` is called when all have acknowledged it, with what
        they had against it."""
        self._send(self._processes.workers(), compose, done)

    def to_one(self, child: Child, compose: Compose) -> None:
        self._send([child], compose, lambda _refusals: None)

    def _send(
        self, workers: list[Child], compose: Compose, done: Callable[[Refusals], None]
    ) -> None:
        ticket = next(self._tickets)
        delivery = _Delivery(compose, done, {one.pid for one in workers})
        self._open[ticket] = delivery
        for child in workers:
            self._tell(child, ticket, delivery)
        self._settle(ticket, delivery)

    def _tell(self, child: Child, ticket: int, delivery: _Delivery) -> None:
        composed = delivery.compose(ticket)
        if composed is None:
            delivery.waiting.discard(child.pid)
        else:
            self._processes.tell_worker(child, *composed)

    def acknowledged(self, child: Child, ticket: int, refusals: Refusals = _NONE) -> None:
        delivery = self._open.get(ticket)
        if delivery is not None:
            delivery.refusals |= refusals
            delivery.waiting.discard(child.pid)
            self._settle(ticket, delivery)

    def not_taken(self, child: Child, ticket: int) -> None:
        """A worker asks for a message again."""
        delivery = self._open.get(ticket)
        if delivery is None or child.pid not in delivery.waiting:
            return
        times = delivery.refused.get(child.pid, 0)
        delivery.refused[child.pid] = times + 1
        pause = _PAUSES[min(times, len(_PAUSES) - 1)]
        if times == 1:
            log.warning("%s cannot take in what it is told; it is told again", child.title)
        self._timers.at(time.monotonic() + pause, lambda: self._again(child, ticket))

    def _again(self, child: Child, ticket: int) -> None:
        delivery = self._open.get(ticket)
        if delivery is not None and child.pid in delivery.waiting:
            self._tell(child, ticket, delivery)
            self._settle(ticket, delivery)

    @property
    def under_way(self) -> int:
        """Return how many deliveries have not been acknowledged by all workers."""
        return len(self._open)

    def ended(self, child: Child) -> None:
        """A worker has ended: nothing waits for it any more."""
        for ticket, delivery in list(self._open.items()):
            delivery.waiting.discard(child.pid)
            self._settle(ticket, delivery)

    def _settle(self, ticket: int, delivery: _Delivery) -> None:
        if not delivery.waiting and self._open.pop(ticket, None) is not None:
            delivery.done(delivery.refusals)
