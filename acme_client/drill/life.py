"""The certifier in a simulation: the scheduler that runs, with its real attempts, records, store
and ledger, and a clock that leaps from event to event.

What is played here is `agent`: its threads, its mailbox and its clock. An attempt happens at the
moment it begins, and its end is told to the scheduler as much later as it would take.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ..agent.agent import LOOK_EVERY, perform
from ..agent.attempt import Obtainer
from ..agent.ca_requests import CaRequests
from ..agent.keeper import CertificateKeeper
from ..agent.scheduler import Scheduler
from ..agent.tasks import Action, Came, Changed, Event, Finished, LookAround, Run, Scan
from ..certificates.managed import ManagedCertificate, Task
from ..certificates.peers import no_peers
from ..certificates.repository import CertificateRepository
from ..issuers.interface import Issuer
from ..link import Authority, CertificateSpec, Command, Served, Settings, Taken
from ..rate_limits.ledger import Ledger
from ..storage.store import Store
from .memory_store import Crash
from .simulated_ca import DIRECTORY, SimulatedCa

# How long a CA takes, from the order to the certificate, and for a question.
ORDER_TAKES = 20.0
QUESTION_TAKES = 0.3
RESTART_TAKES = 30.0
# Steps on disk of one attempt; a kill may come at any of them.
STEPS = 18
# What stands in for a certificate is looked behind every minute; here, every hour is enough.
LOOK_BEHIND_EVERY = 3600.0
_NEVER = float("inf")

MakeStore = Callable[[Callable[[], float], Callable[[], bool]], Store]


class Visitors:
    """`link.Link` to workers and visitors: keeps which certificates are served, and until when."""

    def __init__(self, ca: SimulatedCa) -> None:
        self.ca = ca
        self.served_until: dict[str, float] = {}
        self.latest: dict[str, Served] = {}
        self.lapses: list[str] = []

    def publish(self, several: Sequence[Served], *, new: bool) -> Taken:
        for served in several:
            until = self.served_until.get(served.name)
            if until is not None and until < self.ca.now:
                self.lapses.append(f"{served.name} for {(self.ca.now - until) / 86400:.2f} days")
            self.served_until[served.name] = served.not_after
            self.latest[served.name] = served
        return Taken(True)

    def report(self, *_: object) -> None:
        pass


class Life:
    """``skews``: (start, end, seconds): when our clock is wrong, and by how much. ``fates``: of the
    attempt that begins now, at which of its steps on disk the process is killed; 0: at none.
    ``restarts``: moments of ordinary ones. ``others``: CAs by their directories; all else is asked
    of ``ca``."""

    def __init__(
        self,
        ca: SimulatedCa,
        sets: Sequence[tuple[str, ...] | CertificateSpec],
        make_store: MakeStore,
        rng: random.Random,
        *,
        skews: list[tuple[float, float, float]] = [],  # noqa: B006 # never changed
        fates: Callable[[float], int] = lambda _now: 0,
        restarts: list[float] = [],  # noqa: B006
        order_takes: float = ORDER_TAKES,
        others: Mapping[str, Issuer] = MappingProxyType({}),
    ) -> None:
        self.ca, self.rng, self.others = ca, rng, others
        self.skews, self.fates, self.restarts = skews, fates, sorted(restarts)
        moments = {one for start, end, _by in skews for one in (start, end)}
        self.interruptions = sorted(moments | set(restarts))
        self.order_takes = order_takes
        self.skew = 0.0
        self.fuse = 0  # steps until the kill; 0: none is planned
        self.deaths: list[float] = []
        self.peers = no_peers()
        ca.clock = self.clock
        self.store = make_store(self.clock, self._burn)
        by = Authority(DIRECTORY)
        self.wanted = [
            one if isinstance(one, CertificateSpec) else CertificateSpec(one, by) for one in sets
        ]
        self.visitors = Visitors(ca)
        self.count = itertools.count()
        self.scheduler: Scheduler | None = None

    @property
    def certificates(self) -> dict[str, ManagedCertificate]:
        return self.scheduler.certificates if self.scheduler else {}

    def clock(self) -> float:
        return self.ca.now + self.skew

    def _burn(self) -> bool:
        if self.fuse:
            self.fuse -= 1
            return not self.fuse
        return False

    def start(self) -> None:
        """Start the certifier's parts as `Agent` does, with what is in the store."""
        self.fuse = 0
        self.store.close()  # as the kernel does for a process that has ended
        self.workers = self._workers()
        self.events: list[tuple[float, int, Event]] = []
        self.look_at = self.notices_at = _NEVER
        self.scheduler = Scheduler(Settings(Path("/"), tuple(self.wanted)), self.peers)
        self._perform(self.scheduler.start(self.clock()))

    def _workers(self) -> tuple[CertificateKeeper, CaRequests, Obtainer]:
        repository, ledger = CertificateRepository(self.store), Ledger(self.store, self.clock)
        keeper = self._keeper(repository)
        return (
            keeper,
            CaRequests(keeper, self._issuer, lambda _: True, ledger, self.clock, self.rng),
            Obtainer(keeper, repository, self._issuer, ledger, self.clock, self.rng),
        )

    def _keeper(self, repository: CertificateRepository) -> CertificateKeeper:
        return CertificateKeeper(
            repository,
            self.visitors,  # type: ignore[arg-type] # as much of it as is used
            self.clock,
            self.rng,
            peers=self.peers,
        )

    def _issuer(self, authority: Authority) -> Issuer:
        other = self.others.get(authority.directory)
        if other is None:
            return self.ca
        if isinstance(other, SimulatedCa):
            other.now, other.clock = self.ca.now, self.clock
        return other

    def run(self, until: float) -> Life:
        self._set_clock()
        if self.scheduler is None:
            self.start()
        while True:
            moment = self._next_moment()
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

    def _next_moment(self) -> float:
        """When something happens, or is due. A clock that was set is noticed after a while only:
        the agent sleeps until the moment that it knew of."""
        assert self.scheduler is not None  # noqa: S101 - `run` has started it
        due = self.scheduler.next_moment()
        sleeps_until = _NEVER if due is None else max(due - self.skew, self.ca.now + 0.001)
        if self.notices_at != _NEVER:
            sleeps_until = self.notices_at
        return min(sleeps_until, self.look_at, self.events[0][0] if self.events else _NEVER)

    def _next_interruption(self, default: float) -> float:
        while self.interruptions and self.interruptions[0] <= self.ca.now:
            self.interruptions.pop(0)  # while the process was starting
            self._set_clock()
        return min(self.interruptions[0], default) if self.interruptions else default

    def ask(self, name: str) -> None:
        """Ask for a renewal by hand, without --force."""
        self._later(0.0, Came(Command("renew", name)))

    def _interrupt(self) -> None:
        self._set_clock()
        if self.restarts and self.restarts[0] <= self.ca.now:
            self.restarts.pop(0)
            self.ca.now += RESTART_TAKES
            self.start()
        self.look_at = self.notices_at = self.ca.now + LOOK_EVERY

    def _set_clock(self) -> None:
        self.skew = sum(by for start, end, by in self.skews if start <= self.ca.now < end)

    def _step(self) -> None:
        assert self.scheduler is not None  # noqa: S101 - `run` has started it
        events: list[Event] = []
        while self.events and self.events[0][0] <= self.ca.now:
            events.append(heapq.heappop(self.events)[2])
        if self.look_at <= self.ca.now:
            self.look_at = _NEVER
            events.append(LookAround())
        self.notices_at = _NEVER
        self._perform(self.scheduler.step(self.clock(), events))
        if self.look_at == _NEVER and self.scheduler.has_stand_ins:
            self.look_at = self.ca.now + LOOK_BEHIND_EVERY

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Run(task):
                    takes = {Task.ATTEMPT: self.order_takes, Task.ASK: QUESTION_TAKES}.get(
                        task, 0.0
                    )
                    if task is Task.ATTEMPT:
                        self.fuse = self.fates(self.ca.now)
                    perform(action, *self.workers)
                    self.fuse = 0
                    self._later(takes, Finished(action))
                case Scan():
                    self._later(0.0, Changed(frozenset()))  # nobody else writes here

    def _later(self, seconds: float, event: Event) -> None:
        heapq.heappush(self.events, (self.ca.now + seconds, next(self.count), event))
