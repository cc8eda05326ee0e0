"""A machine of several is killed at one step in the engine of an attempt, at each of them in turn; and at
any steps many are, while others are not heard of. No kill costs a certificate that the CA has issued, or a
token of what the machines count together; and whatever happens, they never count less than the CA."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Sequence

import pytest

from acme_client.agent import attempt
from acme_client.certificates import unfinished_order
from acme_client.drill.simulated_ca import DAY, DIRECTORY, HOUR, START
from acme_client.rate_limits.ledger import Claim
from acme_client.rate_limits.published import LETSENCRYPT, Cost, OrderKind, costs, failures
from acme_client.storage import insistence
from acme_client.storage.store import Lock
from support.simulation.cheap_ca import CheapCa
from support.simulation.cheap_ca import cheap as cheap  # in force for each test
from support.simulation.cluster import Cluster

NAMES = ("www.example.org",)
NAME = NAMES[0]


def every_cost(names: tuple[str, ...]) -> set[Cost]:
    kinds = {one for kind in OrderKind for one in costs(names, LETSENCRYPT, kind)}
    return {*kinds, *failures(names, LETSENCRYPT)}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait by a clock that is not the simulation's."""
    monkeypatch.setattr(insistence, "PAUSES", (0.0,))


class Machines:
    """Of one cluster. ``fates``: asked at each step in the engine of an attempt, on any machine."""

    def __init__(
        self,
        nodes: int,
        fates: Callable[[], str],
        wanted: Sequence[tuple[str, ...]] = (NAMES,),
        lifetime: float = 90 * DAY,
    ) -> None:
        self.ca = CheapCa(lifetime, random.Random(1), information=False)
        self.cluster = Cluster(self.ca, random.Random(2))
        self.steps = 0
        for number in range(nodes):
            life = self.cluster.add(f"web-{number}", wanted)
            life.engine_fates = lambda life=life: self._fate(fates) if life.is_attempting else ""

    def _fate(self, fates: Callable[[], str]) -> str:
        self.steps += 1
        return fates()

    def has_left_an_order(self) -> bool:
        """Whether an order is noted that has not led to the certificate in use."""
        order = unfinished_order.load(self.cluster.shared, NAME)
        running = next(life for life in self.cluster.lives if life.running)
        pair = running.certificates[NAME].pair
        return order is not None and (pair is None or pair.key_pem != order.key_pem)

    def left(self, cost: Cost, names: tuple[str, ...] = NAMES) -> int:
        """How many tokens the machines count together."""
        running = next(life for life in self.cluster.lives if life.running and not life.is_cut_off)
        ledger = running.workers[2]._ledger
        _now, _limits, buckets = ledger._seen(DIRECTORY, names)
        return buckets.left(cost, running.clock())

    def left_at_ca(self, cost: Cost) -> float:
        bucket = self.ca.buckets.get(cost.key)
        if bucket is None:
            return cost.limit.count
        bucket.has_one(self.ca.now)  # as many have come back by now
        return bucket.tokens


def lived(nodes: int, fates: Callable[[], str], *, renewal: bool) -> Machines:
    """Machines that have lived until the first certificate is there, or the second."""
    lifetime = 6 * HOUR
    machines = Machines(nodes, fates, lifetime=lifetime)
    machines.cluster.run(START + (0.5 if renewal else 0.2) * lifetime)
    return machines


@pytest.mark.parametrize("nodes", [1, 3], ids=["alone", "among others"])
@pytest.mark.parametrize("renewal", [False, True], ids=["the first", "its renewal"])
def test_a_kill_costs_neither_a_certificate_nor_a_token(nodes: int, renewal: bool) -> None:
    undisturbed = lived(nodes, lambda: "", renewal=renewal)
    assert undisturbed.ca.serial == 1 + renewal
    before = lived(nodes, lambda: "", renewal=False).steps if renewal else 0
    assert undisturbed.steps - before > 5
    taken_up = 0
    for step, when in itertools.product(range(before, undisturbed.steps), ("before", "after")):
        steps = itertools.count()
        killed = lived(
            nodes,
            lambda steps=steps, step=step, when=when: (
                f"killed {when}" if next(steps) == step else ""
            ),
            renewal=renewal,
        )
        assert len(killed.cluster.deaths) == 1
        assert killed.ca.serial == undisturbed.ca.serial, f"killed {when} {step}"
        assert killed.cluster.lapses == killed.ca.limits_hit == []
        assert not killed.has_left_an_order(), f"killed {when} {step}"
        for cost in every_cost(NAMES):
            if cost.key != "orders":
                found = killed.left(cost)
                assert found >= undisturbed.left(cost), f"killed {when} {step}: {cost}"
                assert found <= killed.left_at_ca(cost) + 0.01, f"killed {when} {step}: {cost}"
        taken_up += killed.ca.taken_up
    assert taken_up > 0


SITES = [(f"www{number}.example.org",) for number in range(6)]
FATES = ("killed before", "killed after", "unheard before", "unheard after")


@pytest.fixture
def ordered_alone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Certificates that a machine has ordered without the lock: only that machine counts them."""
    found: list[str] = []

    def claim(name: str, lock: Lock | None) -> Claim:
        if lock is None:
            found.append(name)
        return Claim(name, lock)

    monkeypatch.setattr(attempt, "Claim", claim)
    return found


@pytest.mark.parametrize("seed", range(int(os.environ.get("CLUSTER_EXAMPLES", "12"))))
def test_the_ca_never_counts_more_than_the_machines(seed: int, ordered_alone: list[str]) -> None:
    """Machines are killed, and answers of the engine are lost, at any steps of attempts; sessions end
    in the middle of orders, and validations fail for a while."""
    rng = random.Random(seed)
    machines = Machines(
        3, lambda: rng.choice(FATES) if rng.random() < 0.06 else "", SITES, lifetime=4 * HOUR
    )
    cluster, ca = machines.cluster, machines.ca
    begins = START + rng.uniform(0.0, 3.0) * HOUR
    ca.broken[SITES[0][0]] = (begins, begins + rng.uniform(0.0, 2.0) * HOUR)
    looked = 0
    at = START
    while at < START + 9 * HOUR and not ordered_alone:
        at += rng.expovariate(1 / 300.0)
        if rng.random() < 0.3:
            cluster.cut_off(rng.choice(cluster.lives), rng.choice((5.0, 40.0)))
        cluster.run(at)
        if ordered_alone or not any(one.running and not one.is_cut_off for one in cluster.lives):
            continue
        for names in SITES:
            for cost in every_cost(names):
                found = machines.left(cost, names)
                assert found <= machines.left_at_ca(cost) + 0.02, f"{cost} after {at - START:.0f} s"
                looked += 1
    assert ca.limits_hit == []
    assert looked > 100
