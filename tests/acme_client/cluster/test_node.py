"""Machines of a cluster in one process, on a real etcd: who orders, who takes over, what is taken."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from acme_client.certificates.repository import CHAIN, KEY
from acme_client.cluster import node as nodes
from acme_client.cluster.node import ORDERER, Node
from acme_client.cluster.settings import ClusterSettings
from acme_client.drill.memory_store import MemoryStore
from acme_client.link import Challenge
from acme_client.status import ClusterStatus
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from acme_client.storage.etcd.store import EtcdStore
from acme_client.storage.store import Edit, Fenced
from acme_client.x509.verify import CertificateAndKey
from support.acme.chains import DAY, chain
from support.etcd import Etcd

pytestmark = [
    pytest.mark.program,
    # A machine that dies in this process leaves its connections behind.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NAME = "a.example"
FOLDER = f"certificates/{NAME}"
ACCOUNT = "accounts/ca.example"
SECRET = new_secret()
NOW = time.time()


class Quick(ClusterSettings):
    """A machine that is known to be gone after two seconds, the least that etcd can."""

    __slots__ = ()

    def store(self) -> EtcdStore:
        return EtcdStore(self.api(), self.prefix, Seals(read_secrets(self.secret)), lasts=2)


class Workers:
    """As much of a `link.Link` as a node uses."""

    def __init__(self) -> None:
        self.answers: dict[str, Challenge] = {}

    def present(self, challenge: Challenge) -> bool:
        self.answers[challenge.token] = challenge
        return True

    def retract(self, challenge: Challenge) -> None:
        self.answers.pop(challenge.token, None)


class Machine:
    """``local`` outlives the process that uses it."""

    def __init__(self, cluster: str, etcd: Etcd, name: str, *, order: bool, wants: Any) -> None:
        self.etcd = etcd
        self.settings = Quick(cluster, name, etcd.endpoints, SECRET, order=order)
        self.local = MemoryStore()
        self.wants = wants
        self.changed = threading.Condition()
        self.status: ClusterStatus | None = None

    def start(self) -> Machine:
        self.workers = Workers()
        link: Any = self.workers
        self.node = Node(self.settings, self.local, link, {NAME: self.wants}, self._told)
        self.node.start(self._stirred, self._stirred)
        return self

    def _told(self, status: ClusterStatus) -> None:
        self.status = status
        self._stirred()

    def _stirred(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def until(self, seen: Callable[[], object], within: float = 30.0) -> None:
        deadline = time.monotonic() + within
        while not seen():
            assert time.monotonic() < deadline, (self.status, self.node.refusal())
            with self.changed:
                self.changed.wait(0.1)

    def keep(self, pair: CertificateAndKey) -> None:
        self.local.store(FOLDER, {CHAIN: pair.chain_pem, KEY: pair.key_pem})
        self.node.changed({NAME})

    @property
    def has(self) -> bytes | None:
        return self.local.load(FOLDER).get(CHAIN)

    def die(self) -> None:
        """Nothing more is said to the engine, and nothing given back."""
        self.node._closing.set()
        shared, company = self.node._shared, self.node._company
        assert shared is not None
        assert company is not None
        company.close()
        self.node._stir.set()
        if shared._lease is not None:
            shared._lease._over.set()
        for watch in shared._watches:
            watch.close()
        shared.api.close()


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with Etcd(members=1) as running:
        yield running


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_TAKES_OVER_AFTER", 0.5)


Make = Callable[..., Machine]


@pytest.fixture
def machine(etcd: Etcd, request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[Machine] = []
    cluster = f"t{zlib.crc32(request.node.name.encode())}"

    def make(name: str, *, order: bool = True, wants: tuple[str, ...] = (NAME,)) -> Machine:
        made.append(Machine(cluster, etcd, name, order=order, wants=wants))
        return made[-1].start()

    yield make
    for one in made:
        one.node.close()


def test_the_first_orders_and_the_second_takes_over_when_it_is_gone(machine: Make) -> None:
    first = machine("web-1")
    first.until(first.node.orders)
    second = machine("web-2")
    second.until(lambda: "web-1 orders" in second.node.refusal())
    pair = chain(NAME, now=NOW)
    first.keep(pair)
    second.until(lambda: second.has == pair.chain_pem)

    shared, claim = first.node._shared, first.node._claim
    assert shared is not None
    assert claim is not None
    first.die()
    second.until(second.node.orders)
    # What it would still have written is refused.
    with pytest.raises(Fenced):
        shared.change([Edit(FOLDER, {"meta.json": b"{}"})], by=claim)
    first.start()
    first.until(lambda: "web-2 orders" in first.node.refusal())
    newer = chain(NAME, now=NOW, begins=-DAY / 2)
    second.keep(newer)
    first.until(lambda: first.has == newer.chain_pem)


def test_who_restarts_keeps_its_claim_and_who_only_takes_never_has_it(machine: Make) -> None:
    first, second = machine("web-1"), machine("web-2", order=False)
    first.until(first.node.orders)
    first.die()
    first.start()
    first.until(first.node.orders)
    first.die()
    # Nobody else may order, so for all of the time nobody does.
    second.until(lambda: second.status and not second.status["members"][1:])
    time.sleep(1.0)  # twice the patience; nothing that happens could be awaited
    assert "this node orders no certificates (cluster.order: false)" in second.node.refusal()
    store = second.settings.store()
    assert store.owner(ORDERER) == "web-1"
    store.close()


def test_a_challenge_is_answered_by_all_before_the_ca_is_told(machine: Make) -> None:
    first = machine("web-1")
    first.until(first.node.orders)  # else web-3 may claim it first
    others = [machine("web-2", order=False), machine("web-3")]
    first.until(lambda: first.status and len(first.status["members"]) == 3)
    challenge = Challenge("http-01", NAME, "token", "token.thumbprint")
    assert first.node.link.present(challenge)
    for one in others:
        assert one.workers.answers["token"].key_authorization == "token.thumbprint"
    first.node.link.retract(challenge)
    for one in others:
        one.until(lambda one=one: not one.workers.answers)


def test_a_machine_of_which_a_rival_may_order_waits_without_the_engine(
    machine: Make, etcd: Etcd
) -> None:
    first = machine("web-1")
    first.until(first.node.orders)
    second = machine("web-2")
    second.until(lambda: "web-1 orders" in second.node.refusal())
    first.until(lambda: first.node._has_rivals)
    etcd.kill_all()
    first.node.changed({NAME})  # else it looks in half a minute
    try:
        first.until(lambda: first.node.peers.away)
        assert first.node.orders()
        # It is remembered across a restart, and nobody takes anything over.
        first.die()
        first.start()
        first.until(lambda: first.node.peers.away)
        assert first.node.orders()
        assert not second.node.orders()
    finally:
        etcd.start_all()
    first.until(lambda: not first.node.peers.away)


def test_alone_it_goes_on_without_the_engine(machine: Make, etcd: Etcd) -> None:
    first = machine("web-1")
    machine("web-2", order=False)
    first.until(first.node.orders)
    etcd.kill_all()
    first.node.changed({NAME})
    try:
        first.until(lambda: first.status and not first.status["connected"])
        assert first.node.orders()
        assert not first.node.peers.away
    finally:
        etcd.start_all()
    first.until(lambda: first.status and first.status["connected"])


def test_only_what_is_newer_and_covers_as_much_is_taken(machine: Make) -> None:
    both = (NAME, f"www.{NAME}")
    first = machine("web-1", wants=both)
    first.until(first.node.orders)
    second = machine("web-2", order=False, wants=both)
    here = chain(*both, now=NOW)
    second.local.store(FOLDER, {CHAIN: here.chain_pem, KEY: here.key_pem})

    first.keep(chain(*both, now=NOW, begins=-2 * DAY))  # older: it stays there, and here what is
    first.keep(chain(NAME, now=NOW, begins=-DAY / 2))
    second.until(lambda: second.status and second.status["refused"])
    assert second.status is not None
    assert second.status["refused"][NAME] == (
        f"it is not for www.{NAME}, which what is here is for"
    )
    assert second.has == here.chain_pem
    first.keep(chain("b.example", now=NOW, begins=-DAY / 3))
    second.until(lambda: "other names" in str(second.status and second.status["refused"]))
    assert second.has == here.chain_pem
    better = chain(*both, now=NOW, begins=-DAY / 4)
    first.keep(better)
    second.until(lambda: second.has == better.chain_pem)
    second.until(lambda: second.status and not second.status["refused"])


def test_who_is_to_order_no_more_gives_the_claim_back(machine: Make) -> None:
    first = machine("web-1")
    first.until(first.node.orders)
    first.node.close()
    machine("web-1", order=False)
    second = machine("web-2")
    second.until(second.node.orders)


def account(machine: Machine, uri: str, key: bytes) -> None:
    machine.local.store(ACCOUNT, {"key.pem": key})
    machine.local.store(ACCOUNT, {"account.json": b'{"version": 1, "uri": "%s"}' % uri.encode()})
    machine.node.changed({NAME})


def test_the_account_and_the_root_are_those_of_who_orders(machine: Make) -> None:
    first = machine("web-1")
    first.until(first.node.orders)
    first.local.store("internal-ca", {"root.pem": b"root", "root.key": b"its key"})
    account(first, "https://ca/1", b"key 1")
    second, third = machine("web-2"), machine("web-3", order=False)
    second.until(lambda: second.local.load(ACCOUNT).get("account.json"))
    assert second.local.load(ACCOUNT)["key.pem"] == b"key 1"
    second.until(lambda: second.local.load("internal-ca"))
    assert second.local.load("internal-ca")["root.key"] == b"its key"
    # Another key of the same account is taken.
    first.local.store(ACCOUNT, {"key.pem": b"key 2"})
    first.node.changed({NAME})
    second.until(lambda: second.local.load(ACCOUNT)["key.pem"] == b"key 2")
    # Who never orders has none, and who has its own keeps it.
    third.until(lambda: third.status and third.status["connected"])
    assert third.local.list("accounts") == []
    fourth = Machine(first.settings.name, first.etcd, "web-4", order=True, wants=(NAME,))
    fourth.local.store(ACCOUNT, {"key.pem": b"own", "account.json": b'{"uri": "https://ca/4"}'})
    fourth.start()
    fourth.until(lambda: "web-1 orders" in fourth.node.refusal())
    fourth.until(lambda: fourth.status and len(fourth.status["members"]) == 4)
    assert fourth.local.load(ACCOUNT)["key.pem"] == b"own"
    fourth.node.close()
    # A machine that was made anew under the old name takes what the cluster has.
    first.node.close()
    first.local = MemoryStore()
    first.start()
    first.until(first.node.orders)
    first.until(lambda: first.local.load(ACCOUNT).get("key.pem") == b"key 2")
