"""Decides which attempts begin now: the most urgent first, as far as there is room at their CA.

Certificates that call for an attempt stand in one queue for each CA. Renewals that have time begin
in small batches (`pace`). Of a site's two certificates one is attempted after the other: the CA may
ask for the same names' challenges, and there is one answer to TLS-ALPN-01 for a name.

Pure: the time is a parameter (Unix seconds).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator

from ..certificates import ca_choice
from ..certificates.lifecycle import State
from ..certificates.managed import ManagedCertificate
from ..link import INTERNAL, attempts_at_once
from .pace import Pace, in_hurry

# Of those who stand in one CA's queue and must wait (for their site's other certificate, or for the
# next batch), so many more than two for each attempt under way are passed over before the rest of
# the queue waits with them.
_PASSED_OVER = 2

# A moment further ahead was set by a clock that ran ahead.
_HELD_MOST = 60.0

Urgency = tuple[bool, bool, bool, float]


class AttemptQueue:
    """CAs go by their directory. ``is_busy`` tells whether a thread is at work on a certificate of
    the same site; ``ordering`` how many machines order, which share a CA's batches."""

    def __init__(
        self,
        is_busy: Callable[[ManagedCertificate], bool],
        ordering: Callable[[], int] = lambda: 1,
    ) -> None:
        self._is_busy = is_busy
        self._ordering = ordering
        # An entry counts while it is the certificate's last.
        self._queues: dict[str, list[tuple[Urgency, int, ManagedCertificate]]] = {}
        self._last: dict[str, int] = {}
        self._count = 0
        self._paces: dict[str, Pace] = {}
        self._under_way: Counter[str] = Counter()
        self._held: dict[str, float] = {}  # until when nothing begins at a CA
        self.next_batch: float | None = None  # when the next batch of renewals begins somewhere

    def put(self, managed: ManagedCertificate, now: float) -> None:
        """Have a certificate wait for its attempt, by its present urgency."""
        self._count += 1
        self._last[managed.name] = self._count
        queue = self._queues.setdefault(_asked_next(managed, now), [])
        heapq.heappush(queue, (urgency(managed), self._count, managed))

    def drop(self, name: str) -> None:
        """Have it wait no longer."""
        self._last.pop(name, None)

    def begun(self, directory: str) -> None:
        self._under_way[directory] += 1

    def ended(self, directory: str) -> None:
        self._under_way[directory] -= 1

    def hold(self, directory: str, until: float) -> None:
        """Begin nothing at a CA for a while: other machines have all places there."""
        self._held[directory] = until

    def take(self, now: float) -> Iterator[tuple[str, ManagedCertificate]]:
        """Take out those whose attempt begins now, each with its CA. Each must have begun when the
        next is asked for."""
        self.next_batch = None
        for directory in list(self._queues):
            until = self._held.get(directory, 0.0)
            if now < until <= now + _HELD_MOST:
                if self._queues[directory]:
                    self.next_batch = min(self.next_batch or until, until)
                continue
            yield from self._take_at(directory, now)

    def _take_at(self, directory: str, now: float) -> Iterator[tuple[str, ManagedCertificate]]:
        queue = self._queues[directory]
        at_once = attempts_at_once(directory)
        passed_over = []
        while queue and self._under_way[directory] < at_once:
            entry = heapq.heappop(queue)
            _urgency, number, managed = entry
            if self._last.get(managed.name) != number:
                continue
            if _asked_next(managed, now) != directory:
                self.put(managed, now)
                continue
            if self._is_busy(managed) or not self._has_turn(managed, directory, now):
                passed_over.append(entry)
                if len(passed_over) == 2 * at_once + _PASSED_OVER:
                    break
                continue
            self.drop(managed.name)
            yield directory, managed
        for entry in passed_over:
            heapq.heappush(queue, entry)

    def _has_turn(self, managed: ManagedCertificate, directory: str, now: float) -> bool:
        """Whether it may begin now; if so, that is counted."""
        if not has_time(managed, now):
            return True
        pace = self._paces.setdefault(directory, Pace())
        pace.among = self._ordering()
        wait = pace.wait(now)
        if wait:
            self.next_batch = min(self.next_batch or now + wait, now + wait)
            return False
        pace.begin(now)
        return True


def _asked_next(managed: ManagedCertificate, now: float) -> str:
    return ca_choice.authority(managed.wanted, managed.record, now).directory


def urgency(managed: ManagedCertificate) -> Urgency:
    """What takes no time first, then what somebody waits for, then what has nothing to serve, then
    what ends soonest."""
    return (
        managed.wanted.authority.directory != INTERNAL,
        not managed.tickets,
        managed.facts is not None,
        managed.facts.not_after if managed.facts else 0.0,
    )


def has_time(managed: ManagedCertificate, now: float) -> bool:
    """Whether its renewal may wait for others; none by the built-in CA has to."""
    facts = managed.facts
    return (
        facts is not None
        and managed.record.state is State.DUE
        and not managed.tickets
        and managed.wanted.authority.directory != INTERNAL
        and not in_hurry(facts.not_before, facts.not_after, now)
    )
