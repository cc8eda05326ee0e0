"""Simulated life on several machines with one set of certificates: the real lifecycle of each on one
shared store, with one CA (`support.simulation.cluster`).

What may never happen: a lapse, a limit of the CA that is hit, more orders or questions than one
machine would make, and two machines that order against each other. `make cluster-years` is a
thousand certificates over three years; its figures stand in docs/decisions/several-machines.md.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from acme_client.agent.pace import BATCH
from acme_client.certificates import recovery
from acme_client.drill.life import ORDER_TAKES, Life
from acme_client.drill.memory_store import MemoryStore
from acme_client.drill.simulated_ca import DAY, START
from acme_client.x509 import loadable, verify
from support.simulation.cheap_ca import CheapCa, cheap_read
from support.simulation.cluster import Cluster

Names = list[tuple[str, ...]]


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(verify, "read", cheap_read)
    monkeypatch.setattr(recovery, "read", cheap_read)
    monkeypatch.setattr(loadable, "fault", lambda _pair: None)
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def sites(count: int) -> Names:
    return [(f"www.d{number}.org",) for number in range(count)]


def cluster_of(nodes: int, names: Names, lifetime: float, *, information: bool = True) -> Cluster:
    ca = CheapCa(lifetime, random.Random(1), information=information)
    cluster = Cluster(ca, random.Random(2))
    for number in range(nodes):
        cluster.add(f"web-{number}", names)
    return cluster


def one_machine(
    names: Names, lifetime: float, days: float, *, information: bool = True
) -> tuple[int, int]:
    """Orders and questions."""
    ca = CheapCa(lifetime, random.Random(1), information=information)
    Life(ca, names, lambda _now, _crash: MemoryStore(), random.Random(2)).run(START + days * DAY)
    return sum(ca.orders_by_hour.values()), ca.questions


def makers(cluster: Cluster) -> Counter[str]:
    """How many of the certificates in use each machine has made."""
    return Counter(
        one.record.made.node
        for one in cluster.lives[0].certificates.values()
        if one.record.made is not None
    )


def demand_peace(cluster: Cluster) -> None:
    assert cluster.lapses == []
    assert cluster.ca.limits_hit == []


@pytest.mark.parametrize("information", [True, False], ids=["ARI", "alone"])
@pytest.mark.parametrize("nodes", [1, 3, 10])
def test_several_machines_order_and_ask_as_often_as_one(nodes: int, information: bool) -> None:
    names, lifetime, days = sites(15), 45 * DAY, 50.0
    cluster = cluster_of(nodes, names, lifetime, information=information)
    cluster.run(START + days * DAY)
    demand_peace(cluster)
    orders, questions = one_machine(names, lifetime, days, information=information)
    assert cluster.orders <= orders * 1.02
    assert cluster.ca.questions <= questions * 1.02
    for life in cluster.lives:
        assert len(life.visitors.served_until) == len(names)
        held = {one.record.serial for one in life.certificates.values()}
        assert held == {one.record.serial for one in cluster.lives[0].certificates.values()}
    assert len(makers(cluster)) >= min(nodes, 3)


# Limits


def test_more_names_of_one_domain_than_the_ca_allows_get_theirs_one_by_one() -> None:
    cluster = cluster_of(3, [(f"{n}.example.org",) for n in range(60)], 90 * DAY)
    cluster.run(START + DAY)
    demand_peace(cluster)
    # 50 in a week, less the one that is left, and those that have come back.
    assert cluster.orders == pytest.approx(49 + 50 / 7, abs=2)


def test_many_certificates_at_once_are_ordered_by_few_at_a_time() -> None:
    """Ten machines at one address and one account: eight attempts at a time, in small batches."""
    cluster = cluster_of(10, sites(30), 90 * DAY)
    cluster.run(START + 600.0)
    demand_peace(cluster)
    assert cluster.orders == 30
    assert max(cluster.ca.orders_by_minute.values()) <= 8 * 60 / ORDER_TAKES
    cluster.ca.incidents.append(START + 5 * DAY)
    cluster.run(START + 6 * DAY)
    demand_peace(cluster)
    assert cluster.orders == 60
    later = [orders for minute, orders in cluster.ca.orders_by_minute.items()
             if minute * 60 > START + DAY]  # fmt: skip
    assert max(later) <= 2 * BATCH
