"""Several lives (`acme_client.drill.life`) on one shared store, with one clock and one CA.

Real are: scheduler, turns, attempts, records, shared repository, places at the CA and the ledger.
Simulated is the engine: a store in memory whose sessions end when a machine has been silent for
`SESSION_LASTS`, which may be away for all or for some, and tells of changes a moment later. An
attempt takes its time here: it is a greenlet (a thread costs fifty times as much to hand over to), so
locks are held for as long as they are, and a machine may be killed, or lose its lock, in the middle.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from greenlet import greenlet

from acme_client.agent.agent import perform
from acme_client.agent.attempt import Obtainer
from acme_client.agent.ca_requests import CaRequests
from acme_client.agent.keeper import CertificateKeeper
from acme_client.agent.slots import Slots
from acme_client.agent.tasks import (
    Action,
    Changed,
    Event,
    Finished,
    LookAround,
    PeersChanged,
    Run,
    Scan,
)
from acme_client.agent.together import Together
from acme_client.certificates import wishes
from acme_client.certificates.folder_names import FOLDER
from acme_client.certificates.managed import Task
from acme_client.certificates.peers import Member, Peers
from acme_client.certificates.shared_repository import SharedRepository
from acme_client.drill.life import ORDER_TAKES, QUESTION_TAKES, RESTART_TAKES, Life, Visitors
from acme_client.drill.memory_store import Crash, MemoryStore
from acme_client.drill.simulated_ca import DIRECTORY, SimulatedCa
from acme_client.issuers.interface import Issued, Issuer, Order
from acme_client.link import Authority, CertificateSpec, Served, Taken
from acme_client.rate_limits.shared_ledger import SharedLedger
from acme_client.storage.store import Lock, Unreachable

SESSION_LASTS = 15.0
# From a write until the other machines have heard of it.
LAG = 0.05
_NEVER = float("inf")
# What changes the engine.
_STEPS = {"change", "store", "delete", "lock"}

Wanted = Sequence[CertificateSpec | tuple[str, ...]]


class Engine:
    """The shared store as one machine sees it."""

    def __init__(self, life: ClusterLife, store: MemoryStore) -> None:
        self.life = life
        self.store = store
        self.dead = False

    def ask(self) -> MemoryStore:
        if self.dead:
            raise Crash
        if self.life.is_cut_off:
            raise Unreachable("the engine does not answer")
        return self.store

    def __getattr__(self, name: str) -> Any:
        """All that is not below: load, change, delete, mark, …"""
        found = getattr(self.ask(), name)
        return functools.partial(self._step, found) if name in _STEPS else found

    def _step(self, step: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Make a step in the engine, unless it is the machine's fate that it does not."""
        fate = self.life.engine_fates()
        if fate.endswith("before"):
            self._fail(fate)
        result = step(*arguments, **named)
        if fate.endswith("after"):
            self._fail(fate)
        return result

    @staticmethod
    def _fail(fate: str) -> None:
        if fate.startswith("killed"):
            raise Crash
        raise Unreachable("the answer is lost")

    def lock(self, folder: str, lease: float) -> Lock | None:
        lock = self._step(self.ask().lock, folder, lease)
        return None if lock is None else _EngineLock(self, lock)

    def watch(
        self, folder: str, wake: Callable[[], object] | None = None
    ) -> Callable[[], set[str]]:
        changed = self.ask().watch(folder, self.life.wake)

        def names() -> set[str]:
            self.ask()
            return changed()

        return names


class _EngineLock:
    def __init__(self, engine: Engine, lock: Lock) -> None:
        self.token = lock.token
        self._engine = engine
        self._lock = lock

    def holds(self) -> bool:
        """Believed for as long as a lease lasts, as `etcd.lease` does."""
        life = self._engine.life
        silent = life.is_cut_off and life.ca.now > life.cut_off_since + SESSION_LASTS
        return self._lock.holds() and not self._engine.dead and not silent

    def release(self) -> None:
        if not self._engine.dead:
            self._engine.ask()
            self._lock.release()


class Worker:
    """Work that stands still between `pause` and the next `resume`."""

    def __init__(self, action: Run, work: Callable[[], object]) -> None:
        self.action = action
        self.crash: BaseException | None = None
        self.abandoned = False
        self._work = work
        self._own = greenlet(self._run)

    @property
    def over(self) -> bool:
        return self._own.dead

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as crash:  # told to whoever resumes
            self.crash = crash

    def resume(self) -> None:
        self._own.switch()
        if self.crash is not None and not self.abandoned:
            raise self.crash

    def pause(self) -> None:
        assert self._own.parent is not None
        self._own.parent.switch()
        if self.abandoned:
            raise Crash


class Slow:
    """A CA that takes its time."""

    def __init__(self, life: ClusterLife, issuer: Issuer) -> None:
        self._life, self._issuer = life, issuer

    def issue(self, order: Order) -> Issued:
        self._life.sleep(self._life.order_takes / 2)
        issued = self._issuer.issue(order)
        self._life.sleep(self._life.order_takes / 2)
        return issued

    def __getattr__(self, name: str) -> Any:
        return getattr(self._issuer, name)


class ClusterVisitors(Visitors):
    """What was served when the machine was killed counts no more."""

    def publish(self, several: Sequence[Served], *, new: bool) -> Taken:
        taken = super().publish(several, new=new)
        for served in several:
            if served.not_after <= self.ca.now:
                del self.served_until[served.name]
        return taken


class ClusterLife(Life):
    """One machine. ``order``: whether it orders."""

    def __init__(
        self,
        cluster: Cluster,
        node: str,
        wanted: Wanted,
        rng: random.Random,
        *,
        order: bool = True,
        order_takes: float = ORDER_TAKES,
        others: Mapping[str, Issuer] = MappingProxyType({}),
    ) -> None:
        super().__init__(
            cluster.ca,
            wanted,
            lambda _now, crash: MemoryStore(crash=crash),
            rng,
            order_takes=order_takes,
            others=others,
        )
        self.cluster = cluster
        self.configure(wanted)
        self.node = node
        self.orders = order
        self.visitors = ClusterVisitors(cluster.ca)
        self.peers = Peers(node, orders=order)
        self.is_cut_off = False
        self.cut_off_since = 0.0
        self.running = False
        self.is_removed = False
        self._known: dict[str, Member] = {}
        self._working: list[Worker] = []
        self._current: Worker | None = None
        self._woken = False
        self._caught_up = False  # whether what the engine has was read once
        self._due = _NEVER
        self.made_alone = 0
        # Asked at each step in the engine: "", "killed before" or "after" it, "unheard before" or
        # "after" it.
        self.engine_fates: Callable[[], str] = lambda: ""

    @property
    def is_attempting(self) -> bool:
        return self._current is not None

    @property
    def due(self) -> float:
        """When something happens here next."""
        return self._due

    @due.setter
    def due(self, moment: float) -> None:
        if moment != self._due:
            self._due = moment
            self.cluster.put(moment, self)

    # Started and killed by the cluster

    def start(self) -> None:
        self.engine = self.make_engine()
        self.running = True
        self._woken = self._caught_up = False
        self.meet()
        super().start()
        self._plan()

    def make_engine(self) -> Engine:
        return Engine(self, self.cluster.shared.peer())

    def folders(self) -> list[str]:
        """Where in the engine certificates may be that this machine wants."""
        return [f"{FOLDER}/{one}" for one in self.engine.store.list(FOLDER)]

    def stop(self) -> Engine:
        """The process is gone; whoever hears of its engine's session ends it."""
        self.running = False
        self.due = _NEVER
        self.engine.dead = True
        working, self._working = self._working, []
        for worker in working:
            self.cluster.cut_short += not worker.over
            worker.abandoned = True
            if not worker.over:
                worker.resume()
        self.visitors.served_until.clear()
        return self.engine

    def cut_off(self, *, away: bool) -> None:
        self.is_cut_off, self.cut_off_since = away, self.ca.now
        self.meet()
        if not away and self.running:
            self._catch_up()
            self._woken = False
            self.wake()

    def meet(self) -> None:
        """Hear of the members, unless nothing can be heard."""
        if not self.is_cut_off:
            self._known = self.cluster.members(self)
        if self._known:
            self.peers.told(self._known, away=self.is_cut_off)
        if self.running and self.scheduler is not None:
            self._later(LAG, PeersChanged())

    def configure(self, wanted: Wanted) -> None:
        by = Authority(DIRECTORY)
        self.wanted = [
            one if isinstance(one, CertificateSpec) else CertificateSpec(one, by) for one in wanted
        ]
        self.wishes = {one.name: wishes.of(one) for one in self.wanted}

    def wake(self) -> None:
        if not self._woken and self.running:
            self._woken = True
            self._later(LAG, LookAround())

    # The certifier

    def _workers(self) -> tuple[CertificateKeeper, CaRequests, Obtainer]:
        engine: Any = self.engine
        names = {one.name: one.names for one in self.wanted}
        repository = SharedRepository(self.store, engine, self.node, names, self.clock)
        self.repository = repository
        self._catch_up()
        self._changes = repository.watch()
        ledger = SharedLedger(self.store, engine, self.peers, self.clock)
        keeper = self._keeper(repository)
        together = Together(keeper, repository, Slots(engine), self.peers, self.clock)
        return (
            keeper,
            CaRequests(
                keeper, self._issuer, lambda _: True, ledger, self.clock, self.rng, shared=True
            ),
            Obtainer(keeper, repository, self._issuer, ledger, self.clock, self.rng, together),
        )

    def _catch_up(self) -> None:
        """Take what the engine has, once, as a machine does that has reached it (`cluster.node`)."""
        if self._caught_up or self.is_cut_off:
            return
        self._caught_up = True
        store = self.engine.store
        self.repository.hear()
        self.repository.catch_up((one.split("/")[1], store.load(one)) for one in self.folders())

    def _issuer(self, authority: Authority) -> Issuer:
        issuer: Any = Slow(self, super()._issuer(authority))
        return issuer

    def sleep(self, seconds: float) -> None:
        worker = self._current
        assert worker is not None
        self._later(seconds, worker)  # type: ignore[arg-type] # in the place of an event
        worker.pause()

    def act(self) -> None:
        """Do what is due."""
        self.ca.clock = self.clock
        self._step()
        self._plan()

    def _plan(self) -> None:
        self.due = self._next_moment()

    def _later(self, seconds: float, event: Event) -> None:
        super()._later(seconds, event)
        self.due = min(self.due, self.ca.now + seconds)

    def _step(self) -> None:
        due = []
        while self.events and self.events[0][0] <= self.ca.now:
            due.append(heapq.heappop(self.events))
        for entry in due:
            if isinstance(entry[2], Worker):
                self._resume(entry[2])
        for entry in due:
            if not isinstance(entry[2], Worker):
                heapq.heappush(self.events, entry)
        super()._step()

    def _resume(self, worker: Worker) -> None:
        self._current = worker
        if worker not in self._working:
            self._working.append(worker)
        worker.resume()
        self._current = None
        if worker.over:
            self._working.remove(worker)
            self.made_alone += worker.action.managed.record.unshared
            self._later(0.0, Finished(worker.action))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Run(task):
                    if task is Task.ATTEMPT:
                        self.fuse = self.fates(self.ca.now)
                        self._resume(
                            Worker(action, functools.partial(perform, action, *self.workers))
                        )
                        continue
                    perform(action, *self.workers)
                    self._later(QUESTION_TAKES if task is Task.ASK else 0.0, Finished(action))
                case Scan():
                    self._woken = False
                    self._later(0.0, Changed(frozenset(self._changes())))


class Cluster:
    """``rng`` seeds each machine's own."""

    def __init__(self, ca: SimulatedCa, rng: random.Random) -> None:
        self.ca = ca
        self.rng = rng
        self.shared = MemoryStore()
        self.lives: list[ClusterLife] = []
        self.is_away = False
        self._members: dict[str, ClusterLife] = {}
        self._plan: list[tuple[float, int, Callable[[], object]]] = []
        self._moments: list[tuple[float, int, ClusterLife]] = []
        self._count = itertools.count()
        self.deaths: list[float] = []
        self.cut_short = 0  # attempts that ended with their machine
        self.started: list[float] = []

    def add(self, node: str, wanted: Wanted, **how: Any) -> ClusterLife:
        """Add a machine that starts now."""
        life = ClusterLife(self, node, wanted, random.Random(self.rng.random()), **how)
        life.is_cut_off = self.is_away
        self.lives.append(life)
        self.at(self.ca.now, lambda: self.start(life))
        return life

    def at(self, moment: float, what: Callable[[], object]) -> None:
        heapq.heappush(self._plan, (moment, next(self._count), what))

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        self.at(self.ca.now + seconds, what)

    # What happens to machines and to the engine

    def start(self, life: ClusterLife) -> None:
        if not life.running and not life.is_removed:
            if not life.is_cut_off:
                self._members[life.node] = life
            self.ca.clock = life.clock
            self.started.append(self.ca.now)
            life.start()
            self._tell()

    def kill(self, life: ClusterLife, back_after: float = RESTART_TAKES) -> None:
        """Kill the machine; the others learn of that when its session ends."""
        if not life.running:
            return
        self.deaths.append(self.ca.now)
        engine = life.stop()
        self.after(min(SESSION_LASTS, back_after / 2), lambda: self._gone(life, engine))
        self.after(back_after, lambda: self.start(life))

    def remove(self, life: ClusterLife) -> None:
        """Kill the machine for good."""
        life.is_removed = True
        self.kill(life)

    def remove_and_add(self, life: ClusterLife, wanted: Wanted, after: float) -> None:
        """Kill the machine for good, and add another one later."""
        if not life.is_removed:
            self.remove(life)
            self.after(after, lambda: self.add(f"web-new-{len(self.lives)}", wanted))

    def restart(self, life: ClusterLife, wanted: Wanted | None = None) -> None:
        """Stop and start the machine in order, perhaps with another configuration."""
        if not life.running:
            return
        engine = life.stop()
        engine.store.close()
        if wanted is not None:
            life.configure(wanted)
        self.start(life)

    def set_clock(self, life: ClusterLife, skew: float) -> None:
        life.skew = skew
        self._tell()
        if life.running:
            life.due = min(life.due, self.ca.now)

    def cut_off(self, life: ClusterLife, seconds: float) -> None:
        """Keep one machine from the engine; its session ends if that lasts."""
        if life.is_cut_off or not life.running:
            return
        life.cut_off(away=True)
        engine = life.engine
        if seconds > SESSION_LASTS:
            self.after(SESSION_LASTS, lambda: self._gone(life, engine))
        self.after(seconds, lambda: self._healed(life))

    def lose_engine(self, seconds: float) -> None:
        """Keep all machines from the engine; no session ends meanwhile."""
        self.is_away = True
        for life in self.lives:
            life.cut_off(away=True)
        self.after(seconds, self._found_engine)

    def _found_engine(self) -> None:
        self.is_away = False
        for life in self.lives:
            self._healed(life)

    def _healed(self, life: ClusterLife) -> None:
        if self.is_away:
            return
        if life.running:
            self._members[life.node] = life
        life.cut_off(away=False)
        self._tell()

    def _gone(self, life: ClusterLife, engine: Engine) -> None:
        engine.store.close()
        if self.is_away or (life.running and not life.is_cut_off):
            return
        if self._members.pop(life.node, None) is not None:
            self._tell()

    def _tell(self) -> None:
        for life in self.lives:
            if life.running and not life.is_cut_off:
                life.meet()

    def members(self, of: ClusterLife) -> dict[str, Member]:
        """Return what this machine knows of each member."""
        return {
            node: Member(life.orders, life.wishes, life.skew - of.skew)
            for node, life in self._members.items()
        }

    # Time

    def put(self, moment: float, life: ClusterLife) -> None:
        """Note when something happens on a machine; the last note counts."""
        if moment != _NEVER:
            heapq.heappush(self._moments, (moment, next(self._count), life))

    def _first(self) -> tuple[float, ClusterLife | None]:
        moments = self._moments
        while moments:
            moment, _number, life = moments[0]
            if moment == life.due:
                return moment, life
            heapq.heappop(moments)
        return _NEVER, None

    def run(self, until: float) -> Cluster:
        while True:
            moment, life = self._first()
            planned = self._plan[0][0] if self._plan else _NEVER
            if min(moment, planned) >= until:
                self.ca.now = until
                return self
            if planned <= moment:
                self.ca.now = max(self.ca.now, planned)
                heapq.heappop(self._plan)[2]()
                continue
            assert life is not None
            self.ca.now = max(self.ca.now, moment)
            try:
                life.act()
            except Crash:
                self.kill(life)

    # What came of it

    @property
    def lapses(self) -> list[str]:
        now = self.ca.now
        found = [f"{one.node}: {lapse}" for one in self.lives for lapse in one.visitors.lapses]
        return found + [
            f"{life.node}: {name} now"
            for life in self.lives
            for name, until in life.visitors.served_until.items()
            if until < now
        ]

    @property
    def orders(self) -> int:
        return sum(self.ca.orders_by_hour.values())
