"""Machines of a cluster in one process, on a real etcd: each orders, every certificate is ordered
once, and what one has the others have. The certifier is the real one; the CA is played."""

from __future__ import annotations

import copy
import math
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acme_client.agent import together
from acme_client.agent.agent import Agent
from acme_client.certificates import ranks
from acme_client.certificates.repository import CHAIN, KEY, META
from acme_client.cluster import recollection
from acme_client.cluster.node import FORMAT, FORMAT_FILE, Node
from acme_client.cluster.settings import ClusterSettings
from acme_client.drill.memory_store import MemoryStore
from acme_client.errors import IssuanceError
from acme_client.issuers.interface import Issued, Order
from acme_client.link import (
    HEARD,
    INTERNAL,
    Authority,
    CertificateSpec,
    Challenge,
    OnDemandRule,
    Settings,
)
from acme_client.status import ClusterStatus
from acme_client.storage.etcd.api import EtcdApi, encoded
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from acme_client.storage.etcd.store import EtcdStore
from acme_client.x509.verify import CertificateAndKey
from support.acme.certifier import FakeServer
from support.acme.chains import DAY, chain
from support.etcd import Etcd
from support.http.name_app import NameApp

pytestmark = pytest.mark.program

NAME = "a.example"
FOLDER = f"certificates/{NAME}"
SECRET = new_secret()
BY = Authority("https://ca.example/directory")
NOW = time.time()


class Quick(ClusterSettings):
    """A machine that is known to be gone after two seconds, the least that etcd can."""

    __slots__ = ()

    def store(self) -> EtcdStore:
        return EtcdStore(self.api(), self.prefix, Seals(read_secrets(self.secret)), lasts=2)


class Ca:
    """A CA for all machines. ``held``: names whose orders do not come to an end before they are
    let go; ``begun`` has each order's machine and name."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []
        self.issued: list[tuple[str, CertificateAndKey]] = []
        self.revoked: list[bytes] = []
        self.refused: list[str] = []  # machines that had lost their lock
        self.news = threading.Condition()
        self.held: set[str] = set()

    def of(self, node: str) -> Any:
        return _Door(self, node)

    def orders(self, name: str = NAME) -> list[str]:
        return [node for node, one in self.begun if one == name]


class _Door:
    def __init__(self, ca: Ca, node: str) -> None:
        self.ca, self.node = ca, node

    def issue(self, order: Order) -> Issued:
        ca, name = self.ca, order.names[0]
        order.reservation.reserve(exempt=False)
        with ca.news:
            ca.begun.append((self.node, name))
            ca.news.notify_all()
            assert ca.news.wait_for(lambda: name not in ca.held, 30)
        try:
            order.reservation.finalizing()
        except IssuanceError:
            ca.refused.append(self.node)
            raise
        # In the order in which they come, so that the later one is later in whole seconds too.
        pair = chain(*order.names, now=NOW, begins=len(ca.begun) - DAY)
        ca.issued.append((self.node, pair))
        return Issued(pair, "http-01")

    def suggestion(self, _chain_pem: bytes) -> None:
        return None

    def revoke(self, chain_pem: bytes, _key_pem: bytes, _reason: int) -> None:
        self.ca.revoked.append(chain_pem)


class Machine:
    """``local`` outlives the process that uses it."""

    def __init__(
        self, cluster: str, etcd: Etcd, ca: Ca, name: str, wants: Any, by: Authority, order: bool
    ) -> None:
        self.ca, self.name = ca, name
        self.settings = Quick(cluster, name, etcd.endpoints, SECRET, order=order)
        self.local = MemoryStore()
        self.wants = [CertificateSpec(names, by) for names in wants]
        self.on_demand: tuple[OnDemandRule, ...] = ()
        self.status: ClusterStatus | None = None
        self.clock = 0.0  # seconds ahead
        self.server = FakeServer()
        self.thread: threading.Thread | None = None

    def start(self) -> Machine:
        self.status = None
        self.server.forget()
        self.node = Node(self.settings, self.local, self.server, self.wants, self._told, self.now)
        self.agent = Agent(
            Settings(Path("/"), tuple(self.wants), on_demand=self.on_demand),
            self.server, self.local, self.now,
            random.Random(zlib.crc32(self.name.encode())), issuer=self._issuer, cluster=self.node,
        )  # fmt: skip
        self.thread = threading.Thread(target=self._serve, args=(self.agent,))
        self.thread.start()
        return self

    def clock_of(self, node: str) -> float:
        """By how much another machine's clock is ahead, as far as is known."""
        members = self.status["members"] if self.status else []
        return next((float(one["clock"]) for one in members if one["node"] == node), math.inf)

    def _issuer(self, authority: Authority) -> Any:
        if authority.directory == INTERNAL:
            return self.agent._internal
        return self.ca.of(self.name)

    def _serve(self, agent: Agent) -> None:
        try:
            agent.serve()
        except Exception as error:
            self.error = error

    def now(self) -> float:
        return time.time() + self.clock

    def _told(self, status: ClusterStatus) -> None:
        self.status = status

    def until(self, seen: Callable[[], object], within: float = 60.0) -> None:
        self.server.until(seen, within)

    def told(self, verb: str, value: dict[str, str]) -> None:
        """Have it obey. One that reads what the others have still refuses, and says so."""
        self.until(lambda: self.status and self.status["orders"])
        answer = self.server.ask(verb, value)
        assert answer["ok"], answer

    def put(self, pair: CertificateAndKey, name: str = NAME) -> None:
        folder = f"certificates/{name}"
        self.local.store(folder, {CHAIN: pair.chain_pem, KEY: pair.key_pem})

    def look(self) -> None:
        self.server.ask("look")

    def has(self, name: str = NAME) -> bytes | None:
        return self.local.load(f"certificates/{name}").get(CHAIN)

    def serves(self, name: str = NAME) -> bytes | None:
        one = self.server.served.get(name)
        return None if one is None else one.chain_pem

    def contested(self, name: str = NAME) -> str:
        return str(self.server.reports.get(name, {}).get("contested") or "")

    def meets(self, number: int) -> None:
        self.until(lambda: self.status and len(self.status["members"]) == number)

    def recalls(self) -> set[str]:
        """The machines that order, as far as this one's disk has it."""
        found = recollection.recall(self.local, self.settings, {})
        return {node for node, one in found.items() if one.orders}

    def stop(self) -> None:
        if self.thread is not None and self.thread.is_alive():
            self.server.tell("stop")
            self.thread.join(30)

    def die(self) -> None:
        """Nothing more is said to the engine, and nothing given back."""
        shared = self.node._shared
        assert shared is not None
        lease = shared._sessions._lease
        if lease is not None:
            lease._over.set()
        self.server.vanish()
        assert self.thread is not None
        self.thread.join(30)
        shared.api.close()


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with Etcd(members=1) as running:
        yield running


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places, and pauses after another machine was met at work, are seconds here."""
    monkeypatch.setattr(ranks, "STEP_WITHOUT", 1.0)
    monkeypatch.setattr(ranks, "STEP", 1.0)
    monkeypatch.setattr(together, "BUSY_AGAIN", 1.0)


@pytest.fixture
def ca() -> Ca:
    return Ca()


Make = Callable[..., Machine]


@pytest.fixture
def machine(etcd: Etcd, ca: Ca, request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[Machine] = []
    cluster = f"t{zlib.crc32(request.node.name.encode())}"

    def make(
        name: str,
        *wants: tuple[str, ...],
        order: bool = True,
        by: Authority = BY,
        start: bool = True,
    ) -> Machine:
        one = Machine(cluster, etcd, ca, name, wants or ((NAME,),), by, order)
        made.append(one)
        one.server.__enter__()
        return one.start() if start else one

    yield make
    ca.held.clear()
    with ca.news:
        ca.news.notify_all()
    for one in made:
        one.stop()
        one.server.__exit__()


def test_every_certificate_is_ordered_once_and_by_several_machines(machine: Make, ca: Ca) -> None:
    names = [(f"{number}.example",) for number in range(12)]
    machines = [machine(f"web-{number}", *names) for number in (1, 2, 3)]
    machines.append(machine("web-4", *names, order=False))
    for one in machines:
        one.until(lambda one=one: len(one.server.served) == len(names))
    assert sorted(name for _node, name in ca.begun) == sorted(name for (name,) in names)
    assert len({node for node, _name in ca.begun}) > 1
    for one in machines[1:]:
        for (name,) in names:
            one.until(lambda one=one, name=name: one.serves(name) == machines[0].serves(name))
    machines[-1].until(lambda: "web-1, web-2, web-3 do" in machines[-1].node.refusal())


def test_another_goes_on_when_one_dies_in_an_order_and_the_late_one_is_not_issued(
    machine: Make, ca: Ca
) -> None:
    ca.held.add(NAME)
    first, second = machine("web-1"), machine("web-2")
    first.until(ca.orders)
    (name,) = ca.orders()
    dies, lives = (first, second) if name == "web-1" else (second, first)
    dies.die()
    ca.held.clear()
    lives.until(lambda: lives.serves() is not None)
    with ca.news:
        ca.news.notify_all()  # the first order goes on: its machine was only paused
    lives.until(lambda: ca.refused == [dies.name])
    assert [node for node, _pair in ca.issued] == [lives.name]
    dies.start()
    dies.until(lambda: dies.serves() == lives.serves())
    assert len(ca.begun) == 2


def test_who_has_certificates_gives_them_and_nothing_is_ordered(machine: Make, ca: Ca) -> None:
    first = machine("web-1", start=False)
    pair = chain(NAME, now=NOW)
    first.put(pair)
    first.start()
    store = first.settings.store()
    first.until(lambda: CHAIN in store.load(FOLDER))
    store.close()
    second, third = machine("web-2"), machine("web-3", order=False)
    for one in (second, third):
        one.until(lambda one=one: one.serves() == pair.chain_pem)
    newer = chain(NAME, now=NOW, begins=-DAY / 2)
    second.put(newer)
    second.look()
    for one in (first, second, third):
        one.until(lambda one=one: one.serves() == newer.chain_pem, within=70)
    assert not ca.begun


def test_what_is_renewed_by_hand_anywhere_is_had_everywhere(machine: Make, ca: Ca) -> None:
    machines = [machine(f"web-{number}") for number in (1, 2, 3)]
    for one in machines:
        one.until(lambda one=one: one.serves() is not None)
    before = machines[0].serves()
    for number, one in enumerate(machines, 2):
        one.told("renew", {"name": NAME})
        assert ca.orders()[number - 1] == one.name
        newest = one.serves()
        assert newest not in (None, before)
        for other in machines:
            other.until(lambda other=other, newest=newest: other.serves() == newest)


def test_a_revoked_one_is_replaced_once(machine: Make, ca: Ca) -> None:
    first, second = machine("web-1"), machine("web-2")
    for one in (first, second):
        one.until(lambda one=one: one.serves() is not None)
    second.told("revoke", {"name": NAME, "reason": "superseded"})
    assert ca.revoked == [ca.issued[0][1].chain_pem]
    first.until(lambda: len(ca.issued) == 2)
    for one in (first, second):
        one.until(lambda one=one: one.serves() == ca.issued[-1][1].chain_pem)
    assert len(ca.begun) == 2


def acquainted(machine: Make) -> tuple[Machine, Machine]:
    """Two machines that serve, each of which has noted that the other orders as well."""
    several = machine("web-1"), machine("web-2")
    for one in several:
        one.meets(2)
        one.until(lambda one=one: one.serves() is not None)
        one.until(lambda one=one: one.recalls() == {"web-1", "web-2"})
    return several


def test_a_revoked_one_is_replaced_at_once_without_the_engine_and_however_often(
    machine: Make, ca: Ca, etcd: Etcd
) -> None:
    first, second = acquainted(machine)
    etcd.kill_all()
    try:
        for one in (first, second):
            one.until(lambda one=one: one.status and not one.status["connected"], within=40)
        # Neither would order before little of its life is left.
        second.told("revoke", {"name": NAME, "reason": "superseded"})
        second.until(lambda: len(ca.issued) == 2 and second.serves() == ca.issued[-1][1].chain_pem)
        assert [node for node, _pair in ca.issued][1:] == ["web-2"]
    finally:
        etcd.start_all()
    first.until(lambda: first.serves() == second.serves(), within=100)
    # Of four within a day no machine orders unasked.
    for number, one in enumerate((first, second, first), 3):
        one.until(lambda one=one: one.status and one.status["orders"])
        one.told("revoke", {"name": NAME, "reason": "superseded"})
        for each in (first, second):
            each.until(
                lambda each=each, number=number: (
                    len(ca.issued) == number and each.serves() == ca.issued[-1][1].chain_pem
                )
            )
    assert len(ca.begun) == len(ca.issued) == 5
    assert len(ca.revoked) == 4


@pytest.mark.parametrize("away", [True, False], ids=["away still", "back"])
def test_a_machine_that_is_started_again_after_a_revocation_orders_at_once_and_once(
    machine: Make, ca: Ca, etcd: Etcd, away: bool
) -> None:
    first, second = acquainted(machine)
    before = second.serves()
    etcd.kill_all()
    try:
        for one in (first, second):
            one.until(lambda one=one: one.status and not one.status["connected"], within=40)
        ca.held.add(NAME)
        second.told("revoke", {"name": NAME, "reason": "superseded"})
        second.until(lambda: len(ca.begun) == 2)
        second.die()
        # What it has begun comes to nothing: nobody is there to write its certificate to the disk.
        second.local = copy.deepcopy(second.local)
        with ca.news:
            ca.held.clear()
            ca.news.notify_all()
        second.server.until(lambda: len(ca.issued) == 2)
        if not away:
            etcd.start_all()
            first.until(lambda: first.status and first.status["connected"], within=100)
        second.start()
        second.until(lambda: second.serves() not in (None, before), within=100)
        assert second.serves() == ca.issued[2][1].chain_pem
        assert [node for node, _pair in ca.issued][1:] == ["web-2", "web-2"]
        second.stop()
        second.start()
        second.until(lambda: second.serves() == ca.issued[2][1].chain_pem, within=100)
    finally:
        etcd.start_all()
    first.until(lambda: first.serves() == second.serves(), within=100)
    assert len(ca.begun) == len(ca.issued) == 3
    assert len(ca.revoked) == 1


def test_wishes_that_differ_are_told_and_a_person_decides(machine: Make, ca: Ca) -> None:
    first = machine("web-1", (NAME,))
    first.until(lambda: first.serves() is not None)
    second = machine("web-2", (NAME, f"www.{NAME}"))
    second.until(
        lambda: "web-1 and this node (web-2) are configured differently" in second.contested()
    )
    assert second.serves() == first.serves()
    second.until(
        lambda: second.status and [one["differs"] for one in second.status["members"]] == [1, 0]
    )
    assert len(ca.begun) == 1
    second.told("renew", {"name": NAME})
    second.until(lambda: not second.contested())
    # It is more than the first one wants, and so enough.
    first.until(lambda: first.serves() == second.serves())
    assert not first.contested()
    assert ca.orders() == ["web-1", "web-2"]


def test_a_challenge_is_answered_by_all_before_the_ca_is_told(machine: Make, ca: Ca) -> None:
    ca.held.add(NAME)
    first = machine("web-1")
    first.until(first.node.orders)  # else web-3 may claim it first
    others = [machine("web-2", order=False), machine("web-3")]
    for one in (first, *others):
        one.meets(3)
    challenge = Challenge("http-01", NAME, "token", "token.thumbprint")
    assert first.node.link.present(challenge)
    for one in others:
        assert [(shown.token, shown.key_authorization) for shown in one.server.shown] == [
            (HEARD, ""), ("token", "token.thumbprint"),
        ]  # fmt: skip
    assert [shown.token for shown in first.server.shown] == [HEARD, "token"]
    first.node.link.retract(challenge)
    for one in others:
        one.until(lambda one=one: one.server.taken_back)


def test_without_the_engine_the_only_one_goes_on_and_of_several_none(
    machine: Make, ca: Ca, etcd: Etcd
) -> None:
    first, follower = machine("web-1"), machine("web-2", order=False)
    for one in (first, follower):
        one.until(lambda one=one: one.serves() is not None)
    etcd.kill_all()
    try:
        first.told("renew", {"name": NAME})
        first.until(lambda: first.status and not first.status["connected"], within=40)
        assert follower.serves() != first.serves()
        # It is remembered across a restart that nobody else orders.
        first.stop()
        first.wants.append(CertificateSpec(("b.example",), BY))
        first.start()
        first.until(lambda: first.serves("b.example") is not None)
    finally:
        etcd.start_all()
    follower.until(lambda: follower.serves() == first.serves(), within=90)


def test_of_several_that_order_each_waits_without_the_engine(
    machine: Make, ca: Ca, etcd: Etcd
) -> None:
    first, second = acquainted(machine)
    etcd.kill_all()
    try:
        first.stop()
        second.stop()
        for one in (first, second):
            one.wants.append(CertificateSpec(("b.example",), BY))
            one.start()
            one.until(lambda one=one: one.status and not one.status["connected"])
            one.until(lambda one=one: one.serves() is not None)
            assert one.node.peers.away
            assert not one.node.peers.is_only
        time.sleep(2.0)  # twice a place; nothing that happens could be awaited
        assert ca.orders("b.example") == []
        # A person decides otherwise.
        first.told("renew", {"name": "b.example"})
        assert second.serves("b.example") is None
    finally:
        etcd.start_all()
    second.until(lambda: second.serves("b.example") == first.serves("b.example"), within=100)
    assert ca.orders("b.example") == ["web-1"]


def test_what_cannot_be_used_is_told_and_put_right_by_its_maker(machine: Make, ca: Ca) -> None:
    first = machine("web-1")
    first.until(lambda: first.serves() is not None)
    first.stop()
    second = machine("web-2")
    second.until(lambda: second.serves() is not None)
    sound = second.serves()
    api = EtcdApi(second.settings.endpoints)
    key = f"{second.settings.prefix}{FOLDER}/:together"
    api.call("/v3/kv/put", {"key": encoded(key), "value": encoded(b"garbage")})
    second.until(lambda: second.status and second.status["refused"], within=40)
    assert second.status is not None
    assert "nobody of this cluster has sealed it" in second.status["refused"][NAME]
    assert second.status["behind"] == 1
    assert second.serves() == sound
    first.start()
    second.until(lambda: second.status and not second.status["refused"], within=100)
    second.until(lambda: second.status and not second.status["behind"])
    store = second.settings.store()
    assert store.load(FOLDER)[CHAIN] == sound
    store.close()
    api.close()
    assert len(ca.begun) == 1


def test_what_serves_less_is_not_taken_while_what_is_here_is_valid(machine: Make, ca: Ca) -> None:
    second = machine("web-2", (NAME, f"www.{NAME}"), start=False)
    both = chain(NAME, f"www.{NAME}", now=NOW, begins=-2 * DAY)
    second.put(both)
    store = second.settings.store()
    less = chain(NAME, now=NOW)
    store.store(FOLDER, {CHAIN: less.chain_pem, KEY: less.key_pem})
    other = chain("b.example", now=NOW)
    second.start()
    second.until(lambda: second.status and second.status["refused"])
    assert second.status is not None
    assert f"it is not for www.{NAME}, which what is here is for" in second.status["refused"][NAME]
    store.store(FOLDER, {CHAIN: other.chain_pem, KEY: other.key_pem})
    second.until(lambda: "other names" in str(second.status and second.status["refused"]), 70)
    assert second.serves() == second.has() == both.chain_pem
    store.close()


def test_beside_a_newer_program_it_takes_and_orders_nothing(machine: Make, ca: Ca) -> None:
    first = machine("web-1")
    first.until(lambda: first.serves() is not None)
    store = first.settings.store()
    before = store.load(FORMAT)
    store.store(FORMAT, {FORMAT_FILE: b'{"version": 2}'})
    first.until(lambda: first.status and not first.status["connected"], within=40)
    assert first.status is not None
    assert "a newer version of this program (format 2)" in str(first.status["fault"])
    assert not first.status["orders"]
    newer = chain(NAME, now=NOW, begins=-DAY / 2)
    record = b'{"version": 99, "serial": "1"}'
    store.store(FOLDER, {CHAIN: newer.chain_pem, KEY: newer.key_pem})
    store.store(FOLDER, {META: record})
    first.until(lambda: first.serves() == newer.chain_pem, within=70)
    assert store.load(FOLDER)[META] == record
    store.store(FORMAT, before)
    first.until(lambda: first.status and first.status["connected"], within=40)
    # One record by a newer program is left alone too.
    answer = first.server.ask("renew", {"name": NAME})
    assert "its record is by a newer version of this program" in answer["error"]
    assert store.load(FOLDER)[META] == record
    assert len(ca.begun) == 1
    store.close()


def test_a_clock_that_is_wrong_keeps_its_machine_from_ordering(
    machine: Make, ca: Ca, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    machines = [machine("web-1"), machine("web-2")]
    for one in machines:
        one.meets(2)  # of two clocks that are apart neither is known to be right
    wrong = machine("web-3", start=False)
    wrong.clock = 3600.0
    wrong.start()
    wrong.until(lambda: "clock is" in str(wrong.status and wrong.status["fault"]), within=60)
    told = [one.message for one in caplog.records if "clock" in one.message]
    assert len(told) == 1
    assert "so it orders nothing: set the clock (NTP)" in told[0]
    assert not wrong.node.orders()
    for one in machines:
        one.until(
            lambda one=one: one.status and abs(one.clock_of("web-3") - 3600) < 30,
            within=60,
        )
        assert one.node.orders()
    wrong.until(lambda: wrong.serves() is not None)
    assert not any(node == "web-3" for node, _name in ca.begun)
    # Set right, it orders again as soon as it has noticed that, and the others know it.
    wrong.clock = 0.0
    wrong.until(lambda: wrong.status and wrong.status["orders"])
    for one in machines:
        one.until(lambda one=one: one.status and abs(one.clock_of("web-3")) < 30)
    # One that is set wrong while it runs is told the clocks of the others when it asks.
    machines[0].clock = -600.0
    machines[0].until(lambda: "clock is" in str(machines[0].status and machines[0].status["fault"]))
    own, *others = [one["clock"] for one in machines[0].status["members"]]
    assert own == 0
    assert all(abs(one - 600) < 30 for one in others)
    machines[0].clock = 0.0
    machines[0].until(lambda: machines[0].status and machines[0].status["orders"])


def test_the_built_in_root_is_made_once(machine: Make) -> None:
    by = Authority(INTERNAL)
    first, second = machine("web-1", by=by), machine("web-2", ("b.example",), by=by)
    first.until(lambda: first.serves() is not None)
    second.until(lambda: second.serves("b.example") is not None)
    assert (
        first.local.load("internal-ca")["root.pem"] == second.local.load("internal-ca")["root.pem"]
    )
    third = machine("web-3", by=by, order=False)
    third.until(lambda: third.serves() == first.serves())
    assert third.local.list("internal-ca") == []
    assert not third.local.load("internal-ca")


@pytest.fixture
def app() -> Iterator[NameApp]:
    with NameApp() as made:
        yield made


def on_demand(machine: Make, app: NameApp, *names: str, **options: Any) -> list[Machine]:
    """Start machines that have a site on demand, and are known to each other."""
    made = [machine(name, start=False) for name in names]
    for one in made:
        wanted = CertificateSpec((NAME,), BY)
        one.on_demand = (OnDemandRule(NAME, wanted, ask=app.url, **options),)
        one.start()
    for one in made:
        one.meets(len(made))
        one.until(lambda one=one: one.serves() is not None)
    return made


def come(one: Machine, name: str) -> dict[str, Any]:
    """A client comes for a name; what the worker is told."""
    return one.server.ask("want", {"name": name})


def test_a_name_on_demand_is_asked_about_and_ordered_once(
    machine: Make, ca: Ca, app: NameApp
) -> None:
    app.allowed = {"shop.example", "other.example"}
    machines = on_demand(machine, app, "web-1", "web-2", "web-3")
    first, second, third = machines
    ca.held.add("shop.example")
    tickets = [one.server.tell("want", {"name": "shop.example"}) for one in machines]
    first.until(lambda: ca.orders("shop.example"))
    ca.held.clear()
    with ca.news:
        ca.news.notify_all()
    for one, ticket in zip(machines, tickets, strict=True):
        one.until(lambda one=one, ticket=ticket: ticket in one.server.answers)
        assert one.server.answers[ticket]["ok"], one.server.answers[ticket]
        assert one.serves("shop.example") == first.serves("shop.example")
    assert len(ca.orders("shop.example")) == app.asked.count("shop.example") == 1
    # The others have it though no client has come to them.
    assert come(second, "other.example")["ok"]
    for one in machines:
        one.until(lambda one=one: one.serves("other.example") is not None)
    assert len(ca.orders("other.example")) == app.asked.count("other.example") == 1
    # What one machine is refused, the others are.
    assert [come(one, "no.example")["ok"] for one in machines] == [False] * 3
    assert app.asked.count("no.example") == 1
    # A machine that was away has what came meanwhile, and what it had.
    third.stop()
    app.allowed.add("late.example")
    assert come(first, "late.example")["ok"]
    third.start()
    for name in ("shop.example", "late.example"):
        third.until(lambda name=name: third.serves(name) == first.serves(name))
    assert len(ca.orders("late.example")) == app.asked.count("late.example") == 1


def test_the_allowance_of_names_on_demand_is_the_clusters(
    machine: Make, ca: Ca, app: NameApp
) -> None:
    names = [f"{number}.shop.example" for number in range(4)]
    app.allowed = set(names)
    first, second = on_demand(machine, app, "web-1", "web-2", per_hour=2)
    assert come(first, names[0])["ok"]
    assert come(second, names[1])["ok"]
    for one in (first, second):
        refused = come(one, names[2])
        assert not refused["ok"]
        assert "2 new names in an hour" in refused["error"]
    assert len(ca.begun) == 3  # of which one is the site's own


def test_without_the_engine_no_new_name_is_ordered(
    machine: Make, ca: Ca, app: NameApp, etcd: Etcd
) -> None:
    app.allowed = {"old.example", "new.example"}
    first, second = on_demand(machine, app, "web-1", "web-2")
    assert come(first, "old.example")["ok"]
    second.until(lambda: second.serves("old.example") is not None)
    etcd.kill_all()
    try:
        for one in (first, second):
            one.until(lambda one=one: one.status and not one.status["connected"], within=40)
            refused = come(one, "new.example")
            assert "the cluster cannot be asked" in refused["error"]
            assert come(one, "old.example")["ok"]
    finally:
        etcd.start_all()
    assert ca.orders("new.example") == []
