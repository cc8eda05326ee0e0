"""The certifier in a simulation: the real lifecycle, turns, attempts, records, store and ledger, with
a clock that leaps from event to event.

What is left out of `agent` are its threads: an attempt happens at the moment it begins, and holds
its place at the CA for as long as it would take. `test_years` compares the two.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

from acme_client.agent.attempt import Bench
from acme_client.agent.executors import ATTEMPTS_AT_ONCE
from acme_client.agent.scheduler import Turns, urgency
from acme_client.certificates import transitions
from acme_client.certificates.lifecycle import READY, State
from acme_client.certificates.managed import Holding
from acme_client.certificates.record import Record
from acme_client.certificates.repository import Shelf
from acme_client.link import Authority, Served, Wanted
from acme_client.rate_limits.ledger import Ledgers
from acme_client.storage.store import Store

from ..acme.memory_store import Crash
from .simulated_ca import DIRECTORY, SimulatedCa

# How long a CA takes, from the order to the certificate, and for a question.
ORDER_TAKES = 20.0
QUESTION_TAKES = 0.3
RESTART_TAKES = 30.0
# The agent looks at everything at least this often, and so notices that the clock was set.
LOOK_EVERY = 60.0
# Steps on disk of one attempt; a kill may come at any of them.
STEPS = 14
# Of those who are called for, as many are looked at at once: more than can begin, and than a site
# can have two of.
FIRST = 2 * ATTEMPTS_AT_ONCE + 2

MakeStore = Callable[[Callable[[], float], Callable[[], bool]], Store]


class Visitors:
    """`link.Link`: what is served, which is what counts."""

    def __init__(self, ca: SimulatedCa) -> None:
        self.ca = ca
        self.served_until: dict[str, float] = {}
        self.lapses: list[str] = []

    def publish(self, served: Served) -> bool:
        until = self.served_until.get(served.name)
        if until is not None and until < self.ca.now:
            self.lapses.append(f"{served.name} for {(self.ca.now - until) / 86400:.2f} days")
        self.served_until[served.name] = served.not_after
        return True

    def report(self, *_: object) -> None:
        pass


class Life:
    """``skews``: (start, end, seconds): when our clock is wrong, and by how much. ``fates``: of the
    attempt that begins now, at which of its steps on disk the process is killed; 0: at none. ``restarts``: moments
    of ordinary ones."""

    def __init__(
        self,
        ca: SimulatedCa,
        sets: Sequence[tuple[str, ...] | Wanted],
        make_store: MakeStore,
        dice: random.Random,
        *,
        skews: list[tuple[float, float, float]] = [],  # noqa: B006 # never changed
        fates: Callable[[float], int] = lambda _now: 0,
        restarts: list[float] = [],  # noqa: B006
        order_takes: float = ORDER_TAKES,
    ) -> None:
        self.ca, self.dice = ca, dice
        self.skews, self.fates, self.restarts = skews, fates, sorted(restarts)
        moments = {one for start, end, _by in skews for one in (start, end)}
        self.interruptions = sorted(moments | set(restarts))
        self.order_takes = order_takes
        self.skew = 0.0
        self.fuse = 0  # steps until the kill; 0: none is planned
        self.deaths: list[float] = []
        ca.clock = self.clock
        self.store = make_store(self.clock, self._burn)
        by = Authority(DIRECTORY)
        self.wanted = [one if isinstance(one, Wanted) else Wanted(one, by) for one in sets]
        self.visitors = Visitors(ca)
        self.holdings: dict[str, Holding] = {}
        self.count = itertools.count()

    def clock(self) -> float:
        return self.ca.now + self.skew

    def _burn(self) -> bool:
        if self.fuse:
            self.fuse -= 1
            return not self.fuse
        return False

    def start(self) -> None:
        """As `Agent` does."""
        self.fuse = 0
        self.bench = Bench(
            Shelf(self.store),
            self.visitors,  # type: ignore[arg-type] # as much of it as is used
            lambda _authority: self.ca,
            self.clock,
            self.dice,
            Ledgers(self.store, self.clock),
        )
        self.turns = Turns()
        self.under_way: list[float] = []  # when each attempt is over
        self.asking_until = self.line_until = 0.0
        self.ready: list[tuple[tuple[bool, bool, bool, float], int, Holding]] = []
        self.wake_at = float("inf")
        self.queue: list[tuple[float, int, str]] = []
        for wanted in self.wanted:
            holding = Holding(wanted, Record())
            self.holdings[holding.name] = holding
            self.bench.look(holding)
            if holding.facts is not None:
                self.bench.serve(holding)
            self._again(holding, self.ca.now)

    def run(self, until: float) -> Life:
        self._set_clock()
        if not self.holdings:
            self.start()
        while True:
            moment = min(self.queue[0][0] if self.queue else until, self.wake_at)
            interruption = self._next_interruption(until)
            if min(moment, interruption) >= until:
                self.ca.now = until
                return self
            try:
                if interruption <= moment:
                    self.ca.now = interruption
                    self._interrupt()
                else:
                    self.ca.now = max(self.ca.now, moment)
                    self._step()
            except Crash:
                self.deaths.append(self.ca.now)
                self.ca.now += RESTART_TAKES
                self.start()

    def _next_interruption(self, default: float) -> float:
        while self.interruptions and self.interruptions[0] <= self.ca.now:
            self.interruptions.pop(0)  # while the process was starting
            self._set_clock()
        return min(self.interruptions[0], default) if self.interruptions else default

    def ask(self, name: str) -> None:
        """By hand, without --force."""
        holding = self.holdings[name]
        holding.record = transitions.asked(holding.record)
        self._call(holding)
        self.wake_at = self.ca.now

    def _interrupt(self) -> None:
        self._set_clock()
        if self.restarts and self.restarts[0] <= self.ca.now:
            self.restarts.pop(0)
            self.ca.now += RESTART_TAKES
            self.start()
        self.queue = [
            (self.ca.now + LOOK_EVERY, number, name) for _moment, number, name in self.queue
        ]

    def _set_clock(self) -> None:
        self.skew = sum(by for start, end, by in self.skews if start <= self.ca.now < end)

    def _step(self) -> None:
        if self.queue and self.queue[0][0] <= self.ca.now:
            self._look(self.holdings[heapq.heappop(self.queue)[2]])
        if self.ready:
            self._begin()

    def _look(self, holding: Holding) -> None:
        now = self.clock()
        self.bench.look_behind_stand_in(holding)
        if holding.facts is not None and not holding.served:
            self.bench.serve(holding)
        record = transitions.at(holding.record, now)
        holding.record = record
        if record.state in READY:
            self._call(holding)
            return
        if record.state is State.FRESH and record.ask_at is not None and record.ask_at <= now:
            if self.asking_until > self.ca.now:  # in line, each with a moment of its own
                self.line_until = max(self.line_until, self.asking_until)
                self._again(holding, self.line_until)
                self.line_until += QUESTION_TAKES
                return
            self.asking_until = self.ca.now + QUESTION_TAKES
            self.bench.ask(holding)
        moment = transitions.next_moment(holding.record)
        left = 3600.0 if moment is None else moment - now
        self._again(holding, self.ca.now + max(left, 1.0))

    def _begin(self) -> None:
        """Attempts, as far as there is room."""
        self.under_way = [one for one in self.under_way if one > self.ca.now]
        # Those behind the first few have their turn no sooner: there is one CA.
        first = [heapq.heappop(self.ready) for _ in range(min(FIRST, len(self.ready)))]
        waiting = {holding.name: (key, number, holding) for key, number, holding in first}
        try:
            self._begin_those(waiting)
        finally:
            for one in waiting.values():
                heapq.heappush(self.ready, one)
        self.wake_at = float("inf")
        if self.ready:  # no room, or the batch is full
            self.wake_at = self.ca.now + 3.0
            if len(self.under_way) >= ATTEMPTS_AT_ONCE:
                self.wake_at = min(self.under_way)

    def _begin_those(self, waiting: dict[str, Any]) -> None:
        for _directory, holding in self.turns.attempts(
            [holding for _key, _number, holding in waiting.values()],
            self.clock(),
            lambda _: len(self.under_way) < ATTEMPTS_AT_ONCE,
        ):
            del waiting[holding.name]
            self.under_way.append(self.ca.now + self.order_takes)
            self.fuse = self.fates(self.ca.now)
            self.bench.attempt(holding)
            self.fuse = 0
            self._again(holding, self.ca.now + self.order_takes)

    def _call(self, holding: Holding) -> None:
        heapq.heappush(self.ready, (urgency(holding), next(self.count), holding))

    def _again(self, holding: Holding, moment: float) -> None:
        heapq.heappush(self.queue, (moment, next(self.count), holding.name))
