"""A thousand machines with ten thousand certificates: more than can be lived through whole.

Every machine is a real certifier (`ClusterLife`) that knows of all others. But it holds only those
certificates for which it is among the first `HOLDERS` in the order of machines: the others would
order one days later, when the first have failed. For all other certificates it is an observer: the
engine's revision that it has reached, and how long it takes until it serves what it has heard of.

The cluster begins in the middle of its life: its certificates are there, made at any moment of the
last two thirds of a lifetime.
"""

from __future__ import annotations

import bisect
import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from acme_client.certificates import ca_choice, ranks, transitions, wishes
from acme_client.certificates import record as records
from acme_client.certificates.folder_names import FOLDER, name_of
from acme_client.certificates.peers import Member
from acme_client.certificates.record import Record
from acme_client.certificates.repository import META, files_of, folder_of, pair_of
from acme_client.drill.memory_store import MemoryStore
from acme_client.drill.simulated_ca import ACCOUNT, DIRECTORY, START
from acme_client.link import Authority, CertificateSpec
from acme_client.storage.store import Lock

from .cheap_ca import CheapCa
from .cluster import Cluster, ClusterLife, Engine, Wanted

HOLDERS = 3
# From a write until a machine that hears of it serves it: cluster.md measured milliseconds.
SERVED_WITHIN = 5.0
# The machines begin one after the other.
START_TAKES = 600.0


class CountingStore(MemoryStore):
    """Counts what an engine would have to write, by the kind of folder and by the minute."""

    def __init__(self, minute: Callable[[], int]) -> None:
        super().__init__()
        self.minute = minute
        self.writes: Counter[str] = Counter()
        self.by_minute: Counter[int] = Counter()

    def lock(self, folder: str, lease: float) -> Lock | None:
        lock = super().lock(folder, lease)
        if lock is not None:
            self._count_write("locks")
        return lock

    def _changed(self, folder: str) -> None:
        self._count_write(folder.split("/")[0])
        super()._changed(folder)

    def _count_write(self, kind: str) -> None:
        self.writes[kind] += 1
        self.by_minute[self.minute()] += 1


class HolderEngine(Engine):
    """Tells only of what this machine holds."""

    def __init__(self, life: Holder, store: MemoryStore) -> None:
        super().__init__(life, store)
        self.changed: set[str] = set()

    def watch(
        self, folder: str, wake: Callable[[], object] | None = None
    ) -> Callable[[], set[str]]:
        assert folder == FOLDER

        def names() -> set[str]:
            self.ask()
            changed, self.changed = self.changed, set()
            return changed

        return names


class Holder(ClusterLife):
    cluster: Crowd
    engine: HolderEngine

    def configure(self, wanted: Wanted) -> None:
        super().configure(wanted)
        self.wishes = self.cluster.wishes  # it wants all of them

    def make_engine(self) -> HolderEngine:
        return HolderEngine(self, self.cluster.shared.peer())

    def folders(self) -> list[str]:
        return [folder_of(one.name) for one in self.wanted]


class Crowd(Cluster):
    def __init__(self, ca: CheapCa, rng: random.Random, names: Sequence[str], nodes: int) -> None:
        super().__init__(ca, rng)
        self.store = self.shared = CountingStore(lambda: int(ca.now // 60))
        by = Authority(DIRECTORY)
        self.specs = {name: CertificateSpec((name,), by) for name in names}
        self.wishes = {name: wishes.of(spec) for name, spec in self.specs.items()}
        self.held: dict[str, list[Holder]] = {name: [] for name in names}
        self.expires: dict[str, float] = {}  # of what the observers serve
        self.off: dict[str, tuple[int, dict[str, float]]] = {}  # node: revision, what it missed
        self.revision = 0
        self.most_behind = 0
        self.observers_lapses: list[str] = []
        self.least_left = float("inf")
        self._table: dict[float, dict[str, Member]] = {}
        self._firsts: dict[str, list[tuple[bytes, str]]] = {name: [] for name in names}
        self._seed(rng)
        self._heard = self.shared.watch(FOLDER, self._tell_holders)
        self._found([f"web-{number}" for number in range(nodes)], rng)
        self.store.writes.clear()
        self.store.by_minute.clear()

    # The beginning

    def _seed(self, rng: random.Random) -> None:
        ca = self.ca
        for name, spec in self.specs.items():
            ca.now = START - rng.uniform(0.0, 2 / 3) * ca.lifetime
            pair = ca.certificate(spec.names, spec.key_type)
            facts = ca.facts(pair.chain_pem)
            record = transitions.on_started(
                Record(), spec.names, spec.key_type, "", ca_choice.terms(spec.authority)
            )
            record = transitions.on_obtained(
                record, facts, "acme", DIRECTORY, "http-01", ca.now, rng, 20.0, ACCOUNT
            )
            record = transitions.on_made(record, "web-0", self.wishes[name], ca.now)
            folder = folder_of(name)
            self.shared.store(folder, files_of(pair))
            self.shared.store(folder, {META: records.to_json(record)})
            ca.issued_at[facts.serial] = ca.now
            ca.known.add(frozenset(spec.names))
            self.expires[name] = facts.not_after
        ca.now = START

    def _found(self, nodes: Sequence[str], rng: random.Random) -> None:
        self._nodes = set(nodes)
        wanted: dict[str, list[CertificateSpec]] = {node: [] for node in nodes}
        for name, spec in self.specs.items():
            weighed = heapq.nsmallest(HOLDERS, ((ranks.weight(node, name), node) for node in nodes))
            self._firsts[name] = weighed
            for _weight, node in weighed:
                wanted[node].append(spec)
        for node in nodes:
            life = Holder(self, node, wanted[node], random.Random(rng.random()))
            self._take_on(life)
            self._members[node] = life
            self.at(START + rng.uniform(0.0, START_TAKES), lambda life=life: self._begin(life))

    def _take_on(self, life: Holder) -> None:
        self.lives.append(life)
        for spec in life.wanted:
            self.held[spec.name].append(life)

    def _begin(self, life: Holder) -> None:
        """Start a machine that the others know of already. Its places are known from above: to work
        them out anew on each of a thousand machines takes longer than all that follows."""
        life.start()
        if set(self._members) == self._nodes:
            for spec in life.wanted:
                nodes = [node for _weight, node in self._firsts[spec.name]]
                before = (ranks.weight(life.node, spec.name), nodes.index(life.node))
                life.peers._order._before[spec.name] = before
        self.started.append(self.ca.now)

    def join(self, node: str) -> None:
        """Add a machine, which comes among the first for its part of the certificates."""
        wanted = []
        for name, spec in self.specs.items():
            weighed = self._firsts[name]
            entry = (ranks.weight(node, name), node)
            if entry < weighed[-1]:
                bisect.insort(weighed, entry)
                weighed.pop()
                wanted.append(spec)
        life = Holder(self, node, wanted, random.Random(self.rng.random()))
        life.is_cut_off = self.is_away
        self._take_on(life)
        self.at(self.ca.now, lambda: self.start(life))

    # What machines hear

    def _tell(self) -> None:
        self._table.clear()
        for life in self.lives:
            if life.is_removed:
                self.off.pop(life.node, None)
        gone = self.off.keys() - {
            one.node for one in self.lives if not one.running or one.is_cut_off
        }
        for node in gone:
            self._has_come_back(node)
        for life in self.lives:
            if (not life.running or life.is_cut_off) and not life.is_removed:
                self.off.setdefault(life.node, (self.revision, {}))
        super()._tell()

    def members(self, of: ClusterLife) -> dict[str, Member]:
        table = self._table.get(of.skew)
        if table is None:
            table = self._table[of.skew] = super().members(of)
        return table

    def kill(self, life: ClusterLife, back_after: float = 30.0) -> None:
        self.off.setdefault(life.node, (self.revision, {}))
        super().kill(life, back_after)

    def cut_off(self, life: ClusterLife, seconds: float) -> None:
        self.off.setdefault(life.node, (self.revision, {}))
        super().cut_off(life, seconds)

    def lose_engine(self, seconds: float) -> None:
        for life in self.lives:
            self.off.setdefault(life.node, (self.revision, {}))
        super().lose_engine(seconds)

    def _has_come_back(self, node: str) -> None:
        revision, missed = self.off.pop(node)
        self.most_behind = max(self.most_behind, self.revision - revision)
        for name, until in missed.items():
            self._observe(node, name, until)

    def _observe(self, node: str, name: str, until: float) -> None:
        left = until - self.ca.now - SERVED_WITHIN
        self.least_left = min(self.least_left, left)
        if left < 0.0:
            self.observers_lapses.append(f"{node}: {name}")

    def _tell_holders(self) -> None:
        for folder in self._heard():
            name = name_of(folder)
            self.revision += 1
            for life in self.held[name]:
                if life.running:
                    life.engine.changed.add(folder)
                    life.wake()
            self._tell_observers(name, folder)

    def _tell_observers(self, name: str, folder: str) -> None:
        pair = pair_of(self.shared.load(f"{FOLDER}/{folder}"))
        assert pair is not None
        until, before = self.ca.facts(pair.chain_pem).not_after, self.expires[name]
        if until > before:
            self.expires[name] = until
            self._observe("all", name, before)
            for _revision, missed in self.off.values():
                missed.setdefault(name, before)

    @property
    def makers(self) -> set[str]:
        """Name the machines that have made the certificates in use."""
        made = [one.record.made for life in self.lives for one in life.certificates.values()]
        return {one.node for one in made if one is not None}

    @property
    def figures(self) -> dict[str, Any]:
        writes = self.store.writes
        days = (self.ca.now - START) / 86400
        per_order = sum(writes.values()) / max(self.orders, 1)
        return {
            "orders a day": round(self.orders / days, 1),
            "writes an order": round(per_order, 1),
            "writes by kind": dict(writes),
            "writes a second": round(sum(writes.values()) / days / 86400, 4),
            "writes in the busiest minute": max(self.store.by_minute.values(), default=0),
            "events a second to watchers": round(
                sum(writes.values()) / days / 86400 * len(self._members), 2
            ),
            "most revisions behind": self.most_behind,
            "least time left at an observer (d)": round(self.least_left / 86400, 2),
        }
