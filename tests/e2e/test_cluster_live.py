"""Machines and members of etcd are killed in turns, while certificates live for a minute and a half.

    CLUSTER_SECONDS=300 pytest tests/e2e/test_cluster_live.py      (make cluster)

All three machines order, each certificate once. Each handshake is verified by the client, so that an
expired certificate would be a failure; a machine that is killed is not visited while it is gone.
"""

from __future__ import annotations

import collections
import os
import threading
import time

import pytest
from cryptography import x509

from acme_client.certificates import renewal
from support.program.cluster import NAME, Cluster, Node, clustered, start

SECONDS = float(os.environ.get("CLUSTER_SECONDS", "0"))
VALIDITY = 90
# Between two deaths; a machine is gone for half of it.
EVERY = 30.0

pytestmark = [
    pytest.mark.program,
    pytest.mark.pebble,
    pytest.mark.skipif(not SECONDS, reason="make cluster"),
]


class Visitors:
    """Visit every living machine, ten times a second."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.living: set[str] = {node.name for node in cluster.nodes}
        self.serials: dict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )
        self.failures: list[str] = []
        self.over = threading.Event()
        self.threads = [
            threading.Thread(target=self._visit, args=(node,)) for node in cluster.nodes
        ]

    def __enter__(self) -> Visitors:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _visit(self, node: Node) -> None:
        while not self.over.wait(0.1):
            if node.name not in self.living:
                continue
            try:
                serial = node.served()
            except OSError as error:
                serial = None
                why: object = error
            else:
                why = "refused, or expired"
            if serial is not None:
                self.serials[node.name][serial] += 1
            elif node.name in self.living:
                self.failures.append(f"{time.time():.1f} {node.name}: {why}")


# Of which a twelfth is left when the first machine orders alone, a quarter of that for the third.
LIVES = 240


@pytest.mark.timeout(LIVES + 300)
def test_while_the_engine_is_away_no_machine_orders_before_it_must() -> None:
    # The CA would come for a challenge to one machine only, and the others cannot be told.
    with clustered(validity=LIVES, authz_reuse=100) as cluster:
        nodes = [cluster.node(number, order=True) for number in (1, 2, 3)]
        cluster.led_to(nodes[0])
        start(nodes[0])
        first = nodes[0].await_served()
        began = time.time()
        start(nodes[1], nodes[2])
        for node in nodes[1:]:
            node.await_served(first)
        cluster.etcd.kill_all()
        with Visitors(cluster) as visitors:
            # Time itself is awaited: the certificate became due at half of its life.
            time.sleep(began + LIVES * 0.85 - time.time())
            assert {*visitors.serials[nodes[0].name], *visitors.serials[nodes[2].name]} == {first}
            assert orders(cluster) == 1
            time.sleep(began + LIVES + 5 - time.time())
            assert visitors.failures == []
            assert 2 <= orders(cluster) <= 4
            for node in nodes:
                assert node.metrics()["treehouse_cluster_alone"] == 1
            cluster.etcd.start_all()
            deadline = time.monotonic() + 90
            while len({node.served() for node in nodes}) > 1:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert visitors.failures == []


def orders(cluster: Cluster) -> int:
    return cluster.ca.log().count("Added order")


def is_ordering(cluster: Cluster) -> bool:
    """Whether a machine makes an attempt, as soon as a member of etcd can say so."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return bool(cluster.lock_of())
        except OSError:  # there is no leader yet, and nobody tells when there is one
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.timeout(SECONDS + 240)
def test_nobody_meets_an_expired_certificate() -> None:
    with clustered(validity=VALIDITY) as cluster:
        for number in (1, 2, 3):
            cluster.node(number, order=True)
        cluster.led_to(cluster.nodes[0])
        for node in cluster.nodes:
            node.start()
            node.await_served(within=60)
        before = orders(cluster)
        chain = cluster.nodes[0].state / "certificates" / NAME / "fullchain.pem"
        leaf = x509.load_pem_x509_certificate(chain.read_bytes())
        first = leaf.not_valid_before_utc.timestamp()
        # No certificate is renewed earlier; and their dates are whole seconds.
        lasts = renewal.first_moment(first, leaf.not_valid_after_utc.timestamp()) - first - 1.0
        begun, deaths, cut_short = time.monotonic(), 0, 0
        with Visitors(cluster) as visitors:
            while time.monotonic() < begun + SECONDS:
                node = cluster.nodes[deaths % 3]
                # The DNS leads to machines that are there.
                cluster.led_to(cluster.nodes[(deaths + 1) % 3])
                visitors.living.discard(node.name)
                node.kill()
                cut_short += is_ordering(cluster)  # its lock stays until its session ends
                # Time itself is awaited: visitors look at the machines that are left.
                time.sleep(EVERY / 2)
                node.start()
                node.await_served(within=60)
                visitors.living.add(node.name)
                cluster.etcd.kill(deaths % 3)
                cut_short += is_ordering(cluster)
                time.sleep(EVERY / 2)  # and here, while a member of etcd is gone
                cluster.etcd.start_all()
                deaths += 1
        ended = time.time()
        ordered = orders(cluster) - before
        seen = set().union(*map(set, visitors.serials.values()))
        took = time.monotonic() - begun
        print(
            f"\n{took:.0f} s, certificates of {VALIDITY} s, {deaths} machines and {deaths} members "
            f"killed, {cut_short} of them in an order: {ordered} orders, {len(seen)} certificates seen in "
            f"{sum(one.total() for one in visitors.serials.values())} handshakes, "
            f"{len(visitors.failures)} failures"
        )
        assert visitors.failures == []
        assert len(seen) >= took / VALIDITY
        # One order at most for each such time that is over since the first certificate, and none for
        # one that is not; and what a death has cut short may be ordered again.
        assert ordered <= (ended - first) // lasts + cut_short
