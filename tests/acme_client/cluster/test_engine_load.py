"""What a cluster asks of its engine: counted by a real etcd of three members, with many machines of
the real class in one process, each of which has certificates of which some are renewed.

    CLUSTER_SECONDS=60 pytest -s tests/acme_client/cluster/test_engine_load.py      (make cluster)
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from acme_client.agent.agent import Agent
from acme_client.certificates.copies import Copies
from acme_client.certificates.repository import CHAIN, KEY
from acme_client.cluster import bookmark
from acme_client.cluster.node import Node
from acme_client.cluster.settings import ClusterSettings
from acme_client.drill.memory_store import MemoryStore
from acme_client.issuers.interface import Issued, Order
from acme_client.link import Authority, CertificateSpec, Challenge, Settings
from acme_client.status import ClusterStatus
from acme_client.storage.etcd.sealing import new_secret
from support.acme.certifier import FakeServer
from support.acme.chains import DAY, chain
from support.etcd import Etcd

pytestmark = pytest.mark.program

BY = Authority("https://ca.example/directory")
SECRET = new_secret()
NAMES = [f"{number}.example" for number in range(10)]
NOW = time.time()
# For so long nothing happens. A hundred machines tell their clocks once in 300 seconds.
SECONDS = float(os.environ.get("CLUSTER_SECONDS", "0"))


class Machine:
    """``ca`` counts the certificates that it has issued, for all machines."""

    def __init__(self, etcd: Etcd, number: int, ca: Counter[str]) -> None:
        self.ca = ca
        self.local = MemoryStore()
        self.settings = ClusterSettings("shop", f"web-{number}", etcd.endpoints, SECRET)
        self.wants = tuple(CertificateSpec((name,), BY) for name in NAMES)
        self.server = FakeServer()
        self.status: ClusterStatus | None = None

    def start(self) -> None:
        self.server.forget()
        self.status = None
        self.node = Node(self.settings, self.local, self.server, self.wants, self._told)
        self.agent = Agent(
            Settings(Path("/"), self.wants), self.server, self.local, time.time,
            random.Random(3), issuer=lambda authority: self, cluster=self.node,
        )  # fmt: skip
        self.thread = threading.Thread(target=self.agent.serve)
        self.thread.start()

    def _told(self, status: ClusterStatus) -> None:
        self.status = status

    def serves(self, name: str) -> bytes:
        return self.server.served[name].chain_pem

    def stop(self) -> None:
        self.server.tell("stop")
        self.thread.join(60)

    def is_there_with(self, number: int) -> bool:
        """Whether it serves everything, orders, and knows so many machines."""
        status = self.status
        has_met = status is not None and status["orders"] and len(status["members"]) == number
        return has_met and len(self.server.served) == len(NAMES)

    def has_noted(self) -> bool:
        """Whether it has written down that it has everything as the engine has it."""
        note = self.local.load(bookmark.FOLDER).get(bookmark.FILE, b"{}")
        copies = Copies(self.local, json.loads(note).get("certificates", {}))
        return not copies.verify() and all(name in copies for name in NAMES)

    # As the CA

    def issue(self, order: Order) -> Issued:
        (name,) = order.names
        order.reservation.reserve(exempt=False)
        token = f"{name}-{self.ca[name]}"
        challenge = Challenge("http-01", name, token, f"{token}.thumbprint")
        assert self.node.link.present(challenge)
        self.node.link.retract(challenge)
        order.reservation.finalizing()
        self.ca[name] += 1
        pair = chain(name, now=NOW, begins=60 * sum(self.ca.values()) - DAY)
        return Issued(pair, "http-01")

    def suggestion(self, _chain_pem: bytes) -> None:
        return None


def counted(etcd: Etcd) -> Counter[str]:
    """What the members have done, each thing once or by whichever member did it."""
    found: Counter[str] = Counter()
    for number in range(3):
        figures = etcd.figures(number)
        found["writes"] = max(found["writes"], int(figures["etcd_mvcc_put_total"]))
        found["deletions"] = max(found["deletions"], int(figures["etcd_mvcc_delete_total"]))
        proposals = int(figures["etcd_server_proposals_committed_total"])
        found["proposals"] = max(found["proposals"], proposals)
        found["watches"] += int(figures["etcd_debugging_mvcc_watcher_total"])
        found["events"] += int(figures["etcd_debugging_mvcc_events_total"])
        for name, value in figures.items():
            if name.startswith("grpc_server_started_total"):
                if '"LeaseKeepAlive"' in name:
                    found["keepalives"] += int(value)
                elif '"Range"' in name:
                    found["reads"] += int(value)
                elif '"Watch"' in name:
                    found["streams begun"] += int(value)
            if name.startswith("etcd_network_client_grpc_sent_bytes_total"):
                found["bytes out"] += int(value)
        found["database"] = max(found["database"], int(figures["etcd_mvcc_db_total_size_in_bytes"]))
    return found


def until(what: Any, within: float = 300.0) -> None:
    deadline = time.monotonic() + within
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # many machines in one process, whose threads say nothing to this one


def restarted(machines: list[Machine], etcd: Etcd, *, noted: bool) -> dict[str, float]:
    """What it costs that all machines are started again at once."""
    if noted:
        until(lambda: all(one.has_noted() for one in machines))
    for one in machines:
        one.stop()
        if not noted:
            one.local.delete(bookmark.FOLDER, bookmark.FILE)
    before, begun = counted(etcd), time.monotonic()
    for one in machines:
        one.start()
    until(lambda: all(one.is_there_with(len(machines)) for one in machines))
    took, found = time.monotonic() - begun, counted(etcd)
    found.subtract(before)
    costs = {what: found[what] for what in ("reads", "writes", "events", "bytes out")}
    return {"seconds": round(took, 1), **costs}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        (3, 0.0),
        pytest.param(10, SECONDS, marks=pytest.mark.skipif(not SECONDS, reason="make cluster")),
        pytest.param(100, SECONDS, marks=pytest.mark.skipif(not SECONDS, reason="make cluster")),
    ],
)
def test_what_an_order_asks_of_the_engine(number: int, seconds: float) -> None:
    ca: Counter[str] = Counter()
    with Etcd() as etcd, contextlib.ExitStack() as servers:
        machines = [Machine(etcd, each, ca) for each in range(number)]
        for one in machines:
            servers.enter_context(one.server)
        for name in NAMES:
            pair = chain(name, now=NOW, begins=-2 * DAY)
            machines[0].local.store(
                f"certificates/{name}", {CHAIN: pair.chain_pem, KEY: pair.key_pem}
            )
        begun = time.monotonic()
        try:
            machines[0].start()
            shared = machines[0].settings.store()
            until(lambda: len(list(shared.load_all("certificates"))) == len(NAMES))
            shared.close()
            for one in machines[1:]:
                one.start()
            until(lambda: all(one.is_there_with(number) for one in machines))
            started, all_there = counted(etcd), time.monotonic() - begun
            assert not ca  # because of joining nothing is ordered
            before = counted(etcd)
            idle = Counter[str]()
            if seconds:
                time.sleep(seconds)  # time itself is awaited: what is done where nothing happens
                idle = counted(etcd)
                idle.subtract(before)
                before = counted(etcd)
            began = time.monotonic()
            for each, name in enumerate(NAMES):
                asked = machines[each % number].server.ask("renew", {"name": name})
                assert asked["ok"], asked
                newest = machines[each % number].serves(name)
                for one in machines:
                    until(lambda one=one, name=name, new=newest: one.serves(name) == new)
            took = time.monotonic() - began
            orders = counted(etcd)
            restarts = {
                how: restarted(machines, etcd, noted=noted)
                for how, noted in (("without its note", False), ("with it", True))
                if seconds
            }
        finally:
            for one in machines:
                one.stop()
        database = orders["database"]
        orders.subtract(before)
        assert sum(ca.values()) == len(NAMES)
        each_order = {
            what: (orders[what] - (idle[what] / seconds * took if seconds else 0)) / len(NAMES)
            for what in ("writes", "deletions", "events", "reads", "proposals", "bytes out")
        }
        print(f"\n{number} machines there after {all_there:.0f} s: {dict(started)}")
        if seconds:
            print(f"a second: { {what: round(idle[what] / seconds, 2) for what in idle} }")
        print(f"an order: { {what: round(value, 1) for what, value in each_order.items()} }")
        for how, restart in restarts.items():
            print(f"each started again at once, {how}: {restart}")
        print(f"{took / len(NAMES):.2f} s an order; database {database >> 20} MiB")
        # Each machine that is there says once that it answers a challenge, and no more often.
        assert each_order["writes"] <= 10 + 1.5 * number
