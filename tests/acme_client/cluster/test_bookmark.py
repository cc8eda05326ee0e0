"""A machine that is started again reads what has changed in the engine, and what its disk has not as
it was: never more, and never less."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from acme_client.certificates.copies import Copies
from acme_client.certificates.folder_names import FOLDER
from acme_client.certificates.repository import CHAIN, KEY, META, files_of, folder_of
from acme_client.cluster import bookmark
from acme_client.cluster.bookmark import FILE, Bookmark
from acme_client.cluster.bookmark import FOLDER as OWN
from acme_client.cluster.node import Node
from acme_client.cluster.replica import Replica
from acme_client.cluster.settings import ClusterSettings
from acme_client.drill.memory_store import MemoryStore
from acme_client.link import Authority, CertificateSpec
from acme_client.storage.etcd.api import Answer, Body, EtcdApi, decoded
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from acme_client.storage.etcd.store import EtcdStore
from acme_client.storage.store import Edit, Unreachable
from acme_client.x509.verify import CertificateAndKey
from support.acme.certifier import FakeServer
from support.acme.chains import DAY, chain
from support.etcd import Etcd

pytestmark = pytest.mark.program

NOW = time.time()
SECRET = new_secret()
NAMES = ("a.example", "b.example", "c.example")
BY = Authority("https://ca.example/directory")
LONG = bool(os.environ.get("CLUSTER_SECONDS"))


@functools.cache
def pair(name: str, newer: int = 0) -> CertificateAndKey:
    return chain(name, now=NOW, begins=3600.0 * newer - DAY)


class Counted(EtcdApi):
    """Notes which certificates are read in the engine."""

    def __init__(self, endpoints: tuple[str, ...]) -> None:
        super().__init__(endpoints)
        self.read: set[str] = set()

    def call(self, path: str, body: Body) -> Answer:
        answer = super().call(path, body)
        if path == "/v3/kv/range" and not body.get("keys_only"):
            for one in answer.get("kvs") or ():
                *_before, top, name, _last = decoded(one["key"]).decode().split("/")
                # What lies under one key alone is a witness, and no certificate's folder.
                if top == FOLDER and "range_end" in body:
                    self.read.add(name)
        return answer


class Counting(ClusterSettings):
    __slots__ = ()

    def store(self) -> EtcdStore:
        seals = Seals(read_secrets(self.secret))
        return EtcdStore(Counted(self.endpoints), self.prefix, seals)


class Machine:
    """One whose disk outlives its processes."""

    def __init__(self, settings: Counting, names: tuple[str, ...] = NAMES) -> None:
        self.settings, self.names = settings, names
        self.disk = MemoryStore()
        self.to_offer: set[str] = set()
        self.met: set[str] = set()

    def run(self, until: Callable[[], object] = lambda: True, noted: int | None = None) -> set[str]:
        """Start a process, and end it when it has what the engine has, and has noted so many
        certificates, or all; returns those that it has read in the engine."""
        wanted = [CertificateSpec((name,), BY) for name in self.names]
        number = len(self.names) if noted is None else noted
        self.to_offer.clear()
        self.met.clear()
        with FakeServer() as server:
            node = Node(self.settings, self.disk, server, wanted, lambda status: None)
            looks = node.shared.repository.watch() if node.shared is not None else set
            node.start(lambda: None, lambda: None)
            deadline = time.monotonic() + 60
            try:
                while not (until() and self._has_noted(node) == number):
                    assert time.monotonic() < deadline, (self._has_noted(node), self.disk.load(OWN))
                    self._look(node, looks)
                    node._stir.set()
                    time.sleep(0.01)  # a thread that tells nobody how far it is
            finally:
                node.close()
                for thread in threading.enumerate():  # what it has begun to write is written
                    if thread.name == "cluster-certificates":
                        thread.join(60)
            assert node._shared is not None
            assert isinstance(node._shared.api, Counted)
            return node._shared.api.read

    def _look(self, node: Node, looks: Callable[[], set[str]]) -> None:
        """As the scheduler does."""
        for name in looks():
            if node.shared is None or name not in self.names:
                self.met.add(name)
                continue
            with contextlib.suppress(Unreachable):  # it is named again
                if node.shared.repository.refresh(name):
                    self.to_offer.add(name)

    def _has_noted(self, node: Node) -> int | None:
        if node._bookmark is None or node._bookmark._edition is None:
            return None
        noted = json.loads(self.disk.load(OWN)[FILE])["certificates"]
        outdated = Copies(self.disk, noted).verify()  # since the note that was written before
        return len(noted) - len(outdated)

    def serial(self, name: str) -> bytes | None:
        return self.disk.load(folder_of(name)).get(CHAIN)

    def has(self, name: str, newer: int = 0) -> bool:
        return self.serial(name) == pair(name, newer).chain_pem


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with Etcd(members=1) as running:
        yield running


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookmark, "_PAUSE", 0.0)
    monkeypatch.setattr(bookmark, "_BYTES_A_SECOND", 1e9)


@pytest.fixture(params=[True, False], ids=["orders", "takes"])
def machine(etcd: Etcd, request: pytest.FixtureRequest) -> Machine:
    cluster = f"t{zlib.crc32(request.node.name.encode())}"
    return Machine(Counting(cluster, "web-1", etcd.endpoints, SECRET, order=request.param))


only_one_that_orders = pytest.mark.parametrize("machine", [True], ids=["orders"], indirect=True)


@pytest.fixture
def engine(machine: Machine) -> Iterator[EtcdStore]:
    store = machine.settings.store()
    put(store, *NAMES)
    yield store
    store.close()


def put(engine: EtcdStore, *names: str, newer: int = 0) -> None:
    # In one step: of two, the second is perhaps heard of after it was read, and read once more.
    for name in names:
        folder = folder_of(name)
        record = {META: b'{"version": 1}'}
        engine.change([Edit(folder, files_of(pair(name, newer))), Edit(folder, record)])


def test_nothing_is_read_where_nothing_has_changed(machine: Machine, engine: EtcdStore) -> None:
    assert machine.run() == set(NAMES)
    assert all(map(machine.has, NAMES))
    for _start in range(2):
        assert machine.run() == set()
    assert all(map(machine.has, NAMES))


def test_what_has_changed_is_read_and_nothing_else(machine: Machine, engine: EtcdStore) -> None:
    machine.run()
    put(engine, "b.example", newer=1)
    assert machine.run(lambda: machine.has("b.example", 1)) == {"b.example"}
    put(engine, "c.example", newer=1)
    put(engine, "a.example", newer=2)
    read = machine.run(lambda: machine.has("c.example", 1) and machine.has("a.example", 2))
    assert read == {"a.example", "c.example"}
    assert machine.run() == set()


def test_what_has_changed_before_a_compaction_is_read(machine: Machine, engine: EtcdStore) -> None:
    machine.run()
    put(engine, "b.example", newer=1)
    latest = engine.put_while_here("challenges", "x", b"")
    engine.api.call("/v3/kv/compaction", {"revision": str(latest)})
    assert machine.run(lambda: machine.has("b.example", 1)) == {"b.example"}


def lost(machine: Machine) -> None:
    machine.disk.delete(folder_of("b.example"))


def damaged(machine: Machine) -> None:
    machine.disk.store(folder_of("b.example"), {CHAIN: b"x", KEY: b"y"})


def replaced(machine: Machine) -> None:
    machine.disk.store(folder_of("b.example"), files_of(pair("b.example", -5)))


def without_its_key(machine: Machine) -> None:
    machine.disk.delete(folder_of("b.example"), KEY)


@pytest.mark.parametrize("befalls", [lost, damaged, replaced, without_its_key])
def test_what_the_disk_has_not_as_it_was_is_taken_again(
    machine: Machine, engine: EtcdStore, befalls: Callable[[Machine], None]
) -> None:
    machine.run()
    befalls(machine)
    assert machine.run(lambda: machine.has("b.example")) == {"b.example"}


def test_a_note_that_is_ahead_of_the_disk_is_not_believed(
    machine: Machine, engine: EtcdStore
) -> None:
    machine.run()
    before = machine.disk.load(folder_of("b.example"))
    put(engine, "b.example", newer=1)
    machine.run(lambda: machine.has("b.example", 1))
    machine.disk.store(folder_of("b.example"), before)
    assert machine.run(lambda: machine.has("b.example", 1)) == {"b.example"}


def test_a_certificate_that_is_wanted_by_now_is_read(machine: Machine, engine: EtcdStore) -> None:
    put(engine, "d.example")
    machine.run()
    machine.names = (*NAMES, "d.example")
    assert machine.run(lambda: machine.has("d.example")) == {"d.example"}
    machine.names = NAMES
    assert machine.run(noted=4) == set()


def test_what_nobody_wants_here_is_told_to_the_lifecycle(
    machine: Machine, engine: EtcdStore
) -> None:
    put(engine, "d.example")
    machine.run()
    read = machine.run(lambda: not machine.settings.order or "d.example" in machine.met)
    assert read == set()


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"garbage",
        b"[]",
        b'{"version": 99}',
        {"node": "web-2"},
        {"cluster": "another"},
        {"secret": "another"},
        {"orders": None},
        {"place": None},
        {"place": {}},
        {"certificates": []},
    ],
    ids=str,
)
def test_without_a_note_of_its_own_everything_is_read(
    machine: Machine, engine: EtcdStore, note: bytes | dict[str, Any]
) -> None:
    machine.run()
    if isinstance(note, dict):
        known = json.loads(machine.disk.load(OWN)[FILE])
        note = json.dumps({**known, **note}).encode()
    machine.disk.store(OWN, {FILE: note})
    assert machine.run() == set(NAMES)
    assert machine.run() == set()


def test_what_a_newer_program_has_noted_is_kept(machine: Machine, engine: EtcdStore) -> None:
    newer = b'{"version": 99}'
    machine.disk.store(OWN, {FILE: newer})
    machine.run()
    assert machine.disk.load(OWN)["engine.version-99.json"] == newer


def test_what_was_not_taken_is_looked_at_again(machine: Machine, engine: EtcdStore) -> None:
    engine.store(folder_of("b.example"), files_of(pair("a.example", 7)))
    machine.run(noted=2)
    assert machine.serial("b.example") is None
    assert machine.run(noted=2) == {"b.example"}
    put(engine, "b.example", newer=1)
    assert machine.run(lambda: machine.has("b.example", 1)) == {"b.example"}


@only_one_that_orders
def test_what_is_gone_or_older_in_the_engine_is_offered(
    machine: Machine, engine: EtcdStore
) -> None:
    machine.run()
    engine.delete(folder_of("b.example"))
    machine.disk.store(folder_of("c.example"), files_of(pair("c.example", 3)))
    wanted = {"b.example", "c.example"}
    machine.run(lambda: wanted <= machine.to_offer, noted=1)
    assert machine.has("c.example", 3)
    assert machine.has("b.example")


@only_one_that_orders
def test_a_record_by_a_newer_program_is_looked_at_again(
    machine: Machine, engine: EtcdStore
) -> None:
    engine.store(folder_of("b.example"), {META: b'{"version": 99}'})
    machine.run(noted=2)
    assert machine.run(noted=2) == {"b.example"}


@only_one_that_orders
def test_an_engine_that_has_been_lost_is_given_everything(
    machine: Machine, engine: EtcdStore
) -> None:
    machine.run()
    with Etcd(members=1) as another:
        machine.settings = replace(machine.settings, endpoints=another.endpoints)
        machine.run(lambda: set(NAMES) <= machine.to_offer, noted=0)


class Start:
    """The first steps of a machine that takes certificates, without what it tells of itself."""

    def __init__(self, settings: Counting, disk: MemoryStore, names: Mapping[str, Any]) -> None:
        self.shared = settings.store()
        self.note = Bookmark(disk, settings, self.shared.fingerprint())
        self.replica = Replica(self.shared, disk, names, time.time, self.note.noted)

    def run(self) -> None:
        self.watch = self.shared.watch_from(FOLDER, lambda: None, self.note.place)
        doubtful = self.replica.doubtful_folders()
        if not self.watch.goes_on:
            self.replica.take_all()
            doubtful = set()
        for folder in doubtful:
            self.replica.take(folder)
        self.note.keep(self.watch, self.replica.copies)

    def close(self) -> int:
        self.shared.close()
        assert isinstance(self.shared.api, Counted)
        return len(self.shared.api.read)


def copied(disk: MemoryStore) -> MemoryStore:
    """Another disk with the same content. Python 3.12 warns of copies of its counter."""
    return copy.deepcopy(disk, {id(disk._count): itertools.count(next(disk._count))})


@pytest.mark.parametrize(
    ("machines", "certificates"),
    [
        (100, 10),
        pytest.param(100, 1000, marks=pytest.mark.skipif(not LONG, reason="make cluster")),
    ],
)
def test_a_hundred_that_start_at_once_read_what_has_changed(
    machines: int, certificates: int
) -> None:
    """Prints what that costs, for docs/decisions/several-machines.md."""
    names = {f"{number}.example": (f"{number}.example",) for number in range(certificates)}
    with Etcd() as etcd:
        settings = Counting("shop", "web-1", etcd.endpoints, SECRET, order=False)
        engine = settings.store()
        put(engine, *names)
        first = MemoryStore()
        figures: dict[str, tuple[int, float, int]] = {}

        def all_start(what: str, several: list[MemoryStore]) -> None:
            starts = [Start(settings, disk, names) for disk in several]
            before, began = etcd.bytes_out(), time.monotonic()
            threads = [threading.Thread(target=one.run) for one in starts]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            took, sent = time.monotonic() - began, etcd.bytes_out() - before
            figures[what] = (sum([one.close() for one in starts]), took, sent)

        all_start("first", [first])
        # The same disk for each, as they all have the same.
        disks = [copied(first) for _ in range(machines)]
        for disk in disks:
            disk.delete(OWN)
        all_start("without a note", disks)
        all_start("nothing has changed", disks)
        put(engine, "0.example", newer=1)
        all_start("one has changed", disks)
        engine.close()
    for what, (read, took, sent) in figures.items():
        print(f"\n{what}: {read} read, {took:.1f} s, {sent >> 10} KiB")
    assert figures["without a note"][0] == machines * certificates
    assert figures["nothing has changed"][0] == 0
    assert figures["nothing has changed"][2] < figures["without a note"][2] / 2
