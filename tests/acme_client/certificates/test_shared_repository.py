"""Certificates that several machines keep together, in memory and on a real etcd: one at a time is at
work on each, and what it writes is refused when it has lost the lock."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from acme_client.agent.slots import SLOTS, Slots
from acme_client.certificates import unfinished_order
from acme_client.certificates.folder_names import folder_name
from acme_client.certificates.peers import Member, Peers
from acme_client.certificates.record import Made, Record, Revoked
from acme_client.certificates.repository import CertificateRepository, folder_of
from acme_client.certificates.shared_repository import Busy, SharedRepository
from acme_client.certificates.unfinished_order import UnfinishedOrder
from acme_client.drill.memory_store import MemoryStore
from acme_client.errors import IssuanceError
from acme_client.rate_limits.ledger import Claim, LedgerReservation
from acme_client.rate_limits.published import OrderKind, costs, failures
from acme_client.rate_limits.shared_ledger import SharedLedger
from acme_client.storage.etcd.api import EtcdApi
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from acme_client.storage.etcd.store import EtcdStore
from acme_client.storage.store import Conflict, Fenced, Files, Store
from acme_client.x509 import loadable, verify
from acme_client.x509.verify import CertificateAndKey
from support.etcd import Etcd
from support.simulation.cheap_ca import cheap_read

CA = "https://acme-v02.api.letsencrypt.org/directory"
NAME = "a.example"
SEALS = Seals(read_secrets(new_secret()))

Open = Callable[[], Store]


ORDER = UnfinishedOrder(
    "https://ca.example/order/1", CA, "https://ca.example/account/1", (NAME,), "ecdsa-p256", None,
    None, 1.8e9, b"the key",
)  # fmt: skip


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with Etcd() as running:
        yield running


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.program)])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """A function that opens the shared store for one machine more."""
    monkeypatch.setattr(verify, "read", cheap_read)
    stores: list[EtcdStore] = []
    if request.param == "memory":
        shared = MemoryStore()
        yield shared.peer
        return
    endpoints = request.getfixturevalue("etcd").endpoints
    prefix = f"/treehouse/{request.node.name}/"

    def make() -> Store:
        stores.append(EtcdStore(EtcdApi(endpoints, answers_within=5.0), prefix, SEALS))
        return stores[-1]

    yield make
    for one in stores:
        one.close()


def pair(begins: float, serial: str = "1", names: tuple[str, ...] = (NAME,)) -> CertificateAndKey:
    said = {"names": names, "serial": serial, "not_before": begins, "not_after": begins + 100.0}
    return CertificateAndKey(json.dumps(said).encode(), b"key " + serial.encode())


def record(serial: str = "1", *, attempts: int = 0, unshared: bool = False) -> Record:
    return Record(serial=serial, attempts=attempts, unshared=unshared)


def test_what_one_keeps_the_others_have(opened: Open) -> None:
    one, other = (SharedRepository(MemoryStore(), opened()) for _ in range(2))
    with one.alone(NAME):
        one.keep(NAME, pair(1.0), record())
    assert not other.refresh(NAME)
    assert other.load(NAME) == (record(), pair(1.0))
    with other.alone(NAME):
        other.keep_record(NAME, record(attempts=3))
    assert not one.refresh(NAME)
    assert one.load(NAME)[0].attempts == 3


def test_one_at_a_time_is_at_work_and_the_next_sees_what_was_made(opened: Open) -> None:
    one, other = (SharedRepository(MemoryStore(), opened()) for _ in range(2))
    with one.alone(NAME):
        with pytest.raises(Busy), other.alone(NAME):
            raise AssertionError
        with pytest.raises(Busy):
            other.keep_record(NAME, record())
        one.keep(NAME, pair(1.0), record())
    with other.alone(NAME):
        assert other.load(NAME) == (record(), pair(1.0))


def test_who_has_lost_the_lock_writes_nothing(opened: Open) -> None:
    mine = opened()
    one, other = SharedRepository(MemoryStore(), mine), SharedRepository(MemoryStore(), opened())
    with one.alone(NAME):
        mine.close()  # its session ends, as that of a machine that was paused for long
        with other.alone(NAME):
            other.keep(NAME, pair(2.0, "2"), record("2"))
        with pytest.raises(Fenced):
            one.keep(NAME, pair(1.0), record())
        with pytest.raises(Fenced):
            one.keep_record(NAME, record())
    assert one.load(NAME)[1] is None
    one.refresh(NAME)
    assert one.load(NAME) == (record("2"), pair(2.0, "2"))


def test_the_order_of_one_is_taken_up_and_erased_by_another(opened: Open) -> None:
    mine, disk = opened(), MemoryStore()
    one = SharedRepository(disk, mine)
    other = SharedRepository(MemoryStore(), opened())
    with one.alone(NAME):
        one.keep_order(NAME, ORDER)
        assert one.unfinished_order(NAME) == ORDER
        mine.close()  # it is killed
        with other.alone(NAME):
            assert other.unfinished_order(NAME) == ORDER
            again = replace(ORDER, failures=1)
            other.keep_order(NAME, again)
            with pytest.raises(Fenced):
                one.keep_order(NAME, ORDER)
            assert other.unfinished_order(NAME) == again
            other.keep(NAME, pair(2.0, "2"), record("2"))
            other.erase_order(NAME)
    assert other.unfinished_order(NAME) is None
    assert CertificateRepository(disk).unfinished_order(NAME) == ORDER
    one.refresh(NAME)  # it hears of the certificate: its own note is of no use any more
    assert CertificateRepository(disk).unfinished_order(NAME) is None
    assert one.unfinished_order(NAME) is None


def test_an_order_that_nobody_could_be_told_of_is_noted_on_the_disk(opened: Open) -> None:
    disk, shared = MemoryStore(), opened()
    one = SharedRepository(disk, shared)
    one.keep_order(NAME, ORDER)  # without the lock, which the engine that is away did not give
    assert shared.load(f"orders/{NAME}") == {}
    with one.alone(NAME):
        assert one.unfinished_order(NAME) == ORDER
        one.erase_order(NAME)
    assert one.unfinished_order(NAME) is None


def test_a_revocation_and_who_forgets_a_name_forget_its_order(opened: Open) -> None:
    shared = opened()
    one = SharedRepository(MemoryStore(), shared)
    for forget in (one.revoke_order, lambda name: one.forget(name, ())):
        with one.alone(NAME):
            one.keep(NAME, pair(1.0), record())
            one.keep_order(NAME, ORDER)
        forget(NAME)
        assert one.unfinished_order(NAME) is None
        assert shared.load(f"orders/{NAME}") == {}


def test_who_starts_hears_of_attempts_that_have_failed(opened: Open) -> None:
    """What was read from its disk before knows nothing of them."""
    shared = opened()
    one = SharedRepository(MemoryStore(), shared)
    names = [NAME, "b.example"]
    other = SharedRepository(MemoryStore(), opened(), "web-2", {name: [name] for name in names})
    for attempts in (1, 2):
        one.keep_record(NAME, Record(attempts=attempts))
        found = [(folder_name(name), shared.load(folder_of(name))) for name in names]
        other.catch_up(found)
        assert other.watch()() == {NAME}
        assert other.load(NAME)[0].attempts == attempts
        other.catch_up(found)
        assert other.watch()() == set()


def test_what_was_not_looked_at_and_what_is_not_taken_is_behind(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadable, "fault", lambda _pair: None)
    disk = MemoryStore()
    one = SharedRepository(MemoryStore(), opened())
    wanted = {name: [name] for name in (NAME, "b.example")}
    other = SharedRepository(disk, opened(), "web-2", wanted, lambda: 50.0)
    changed = other.watch()
    assert (changed(), other.behind()) == (set(), set())
    for name in (NAME, "b.example", "unwanted.example"):
        with one.alone(name):
            one.keep(name, pair(1.0, names=(name,)), record())
    heard: set[str] = set()
    while len(heard) < 3:
        heard |= changed()
        time.sleep(0.01)  # a watch that nobody is woken by
    assert other.behind() == {NAME, "b.example"}
    other.refresh(NAME)
    assert other.behind() == {"b.example"}
    disk.full = lambda: True
    with pytest.raises(OSError, match="No space left"):
        other.refresh("b.example")
    assert other.behind() == {"b.example"}
    disk.full = lambda: False
    other.refresh("b.example")
    assert other.behind() == set()
    with one.alone(NAME):
        one.keep(NAME, pair(2.0, "2", ("c.example",)), record("2"))
    other.refresh(NAME)
    assert NAME in other.refused
    assert other.behind() == {NAME}
    with one.alone(NAME):
        one.keep(NAME, pair(3.0, "3"), record("3"))
    other.refresh(NAME)
    assert other.behind() == set()


def test_a_record_of_another_certificate_is_not_written(opened: Open) -> None:
    one, other = (SharedRepository(MemoryStore(), opened()) for _ in range(2))
    with one.alone(NAME):
        one.keep(NAME, pair(1.0, "2"), record("2"))
    with pytest.raises(Conflict):
        other.keep_record(NAME, record("1"))


def test_who_has_not_heard_that_another_one_was_asked_for_does_not_undo_it(opened: Open) -> None:
    """As a machine that has asked the CA when to renew, while a person has revoked on another."""
    one, other = (SharedRepository(MemoryStore(), opened()) for _ in range(2))
    with one.alone(NAME):
        one.keep(NAME, pair(1.0), record())
    other.refresh(NAME)
    asked_before, _pair = other.load(NAME)
    one.keep_record(NAME, replace(record(), wanted_anew=True))
    with pytest.raises(Conflict):
        other.keep_record(NAME, replace(asked_before, ask_at=7.0))
    assert other.load(NAME)[0].wanted_anew
    assert NAME in other.watch()()
    with one.alone(NAME):
        assert one.load(NAME)[0].wanted_anew
        one.keep(NAME, pair(2.0, "2"), record("2"))  # the request is met
    other.refresh(NAME)
    other.keep_record(NAME, replace(record("2"), ask_at=7.0))
    assert not one.refresh(NAME)
    assert one.load(NAME)[0].ask_at == 7.0


@pytest.mark.parametrize(("here", "there", "wins"), [(2.0, 1.0, "here"), (1.0, 2.0, "there")])
def test_of_two_the_one_that_was_issued_later_wins(
    opened: Open, here: float, there: float, wins: str
) -> None:
    one, other = (SharedRepository(MemoryStore(), opened()) for _ in range(2))
    with other.alone(NAME):
        other.keep(NAME, pair(there, "there"), record("there"))
    one.keep_here(NAME, pair(here, "here"), record("here", unshared=True))
    one.share(NAME)
    other.refresh(NAME)
    for repository in (one, other):
        kept, had = repository.load(NAME)
        assert kept == record(wins)
        assert had == pair(max(here, there), wins)


def test_what_cannot_be_read_takes_nobodys_place(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = opened()
    one = SharedRepository(MemoryStore(), shared)
    with one.alone(NAME):
        one.keep(NAME, pair(1.0), record())
    monkeypatch.undo()  # from here on a certificate is one
    other = SharedRepository(MemoryStore(), shared)
    other.refresh(NAME)
    assert other.load(NAME)[1] is None


@pytest.mark.parametrize("is_ordered", [True, False], ids=["ordered", "put there"])
def test_what_serves_less_is_taken_if_a_machine_has_ordered_it_and_written_over_by_nobody(
    opened: Open, monkeypatch: pytest.MonkeyPatch, *, is_ordered: bool
) -> None:
    monkeypatch.setattr(loadable, "fault", lambda _pair: None)
    wide, narrow = (NAME, "www.a.example"), (NAME,)
    one, other = (
        SharedRepository(MemoryStore(), opened(), node, {NAME: names}, lambda: 50.0)
        for node, names in (("web-1", wide), ("web-2", narrow))
    )
    made = Made("web-1", "wide", None, (1.0,))
    with one.alone(NAME):
        one.keep(NAME, pair(1.0, "1", wide), replace(record("1"), made=made))
    later = replace(made, node="web-2", wishes="narrow") if is_ordered else None
    with other.alone(NAME):
        other.keep(NAME, pair(2.0, "2", narrow), replace(record("2"), made=later))
    for _again in range(2):
        assert not one.refresh(NAME), "it would be written over"
        assert not other.refresh(NAME)
    assert one.load(NAME)[1] == (pair(2.0, "2", narrow) if is_ordered else pair(1.0, "1", wide))
    assert ("www.a.example" in one.refused.get(NAME, "")) is not is_ordered


def test_changes_of_others_are_named(opened: Open) -> None:
    one, other = (SharedRepository(MemoryStore(), opened()) for _ in range(2))
    changed = other.watch()
    changed()
    with one.alone(NAME):
        one.keep(NAME, pair(1.0), record())
    found: set[str] = set()
    for _ in range(1000):
        found |= changed()
        if found:
            break
        other.refresh("nobody.example")  # takes a moment where the store is elsewhere
    assert found == {NAME}


def test_so_many_attempts_are_under_way_at_a_ca_and_no_more(opened: Open) -> None:
    slots = [Slots(opened()) for _ in range(3)]
    held = [slots[number % 3].one(CA) for number in range(SLOTS)]
    for one in held:
        one.__enter__()
    with pytest.raises(Busy), slots[0].one(CA):
        raise AssertionError
    with slots[0].one("https://other.example/directory"):
        pass
    held[0].__exit__(None, None, None)
    with slots[2].one(CA):
        pass
    for one in held[1:]:
        one.__exit__(None, None, None)


def test_machines_count_orders_together(opened: Open) -> None:
    ledgers = []
    for number in range(2):
        peers = Peers(f"web-{number}")
        peers.told({f"web-{one}": Member() for one in range(2)}, away=False)
        ledgers.append(SharedLedger(MemoryStore(), opened(), peers, lambda: 1e9))
    for number in range(6):
        ledgers[number % 2].reservation(CA, (f"{number}.example.org",)).reserve(exempt=False)
    many = tuple(f"www.d{number}.org" for number in range(100))
    ledgers[0].reservation(CA, many).reserve(exempt=False)
    said = " ".join(ledgers[1].costs(CA, [("x.example.org",), ("x.d99.org",)]))
    assert "1 of 44 left" in said
    assert "1 of 49 left" in said


def test_who_has_lost_the_lock_takes_no_note_away(opened: Open) -> None:
    """Also where a damaged one was put aside, which stays."""
    late, other = Orderer(opened()), Orderer(opened())
    folder = unfinished_order.folder_of(NAME)
    other.shared.store(folder, {unfinished_order.DAMAGED: b"{"})
    with late.attempt() as reservation:
        late.repository.keep_order(NAME, ORDER, reservation.beside_note())
        late.shared.close()
        with other.attempt():
            with pytest.raises(Fenced):
                late.repository.erase_order(NAME)
            assert other.repository.unfinished_order(NAME) == ORDER
            other.repository.erase_order(NAME)
    assert other.shared.load(folder) == {unfinished_order.DAMAGED: b"{"}


@pytest.mark.parametrize("in_an_attempt", [False, True])
def test_a_record_is_not_shared_without_its_certificate(opened: Open, in_an_attempt: bool) -> None:
    """Another machine that starts in that moment would order what is there."""
    one, other = (SharedRepository(MemoryStore(), opened()) for _ in range(2))
    one.keep_here(NAME, pair(1.0), record(unshared=True))
    with one.alone(NAME) if in_an_attempt else contextlib.nullcontext():
        one.keep_record(NAME, record(attempts=1, unshared=True))
    other.refresh(NAME)
    assert other.load(NAME) == (record(attempts=1), pair(1.0))
    one.refresh(NAME)
    assert one.load(NAME) == (record(attempts=1), pair(1.0))


def test_a_revocation_that_the_others_have_not_heard_of_stays(opened: Open) -> None:
    """Until there is another certificate, whatever they write."""
    one = SharedRepository(MemoryStore(), opened(), "web-1")
    other = SharedRepository(MemoryStore(), opened(), "web-2")
    with one.alone(NAME):
        one.keep(NAME, pair(1.0), record())
    other.refresh(NAME)
    revoked = Revoked("web-1", "1")
    one.keep_record_here(NAME, replace(record(), wanted_anew=True, revoked=revoked))
    with other.alone(NAME):
        other.keep_record(NAME, record(attempts=1))
    for _ in range(2):
        one.refresh(NAME)
        assert one.load(NAME)[0] == replace(record(attempts=1), revoked=revoked)
    # Of another machine nobody keeps it in this way.
    other.keep_record_here(NAME, replace(record(), revoked=revoked))
    other.refresh(NAME)
    assert other.load(NAME)[0].revoked is None
    with other.alone(NAME):
        other.keep(NAME, pair(2.0, "2"), record("2"))
    one.refresh(NAME)
    assert one.load(NAME)[0] == record("2")


class Orderer:
    """A machine that orders the certificate, as far as its lock, its note and the counts go.
    ``shared`` is its session in the shared store, which ends when it is killed."""

    def __init__(self, shared: Store) -> None:
        self.shared = shared
        self.repository = SharedRepository(MemoryStore(), shared)
        peers = Peers("web-1")
        peers.told({"web-1": Member(), "web-2": Member()}, away=False)
        self.ledger = SharedLedger(MemoryStore(), shared, peers, lambda: 1.8e9)

    @contextlib.contextmanager
    def attempt(self, names: tuple[str, ...] = (NAME,)) -> Iterator[LedgerReservation]:
        with self.repository.alone(NAME) as lock:
            claim = Claim(NAME, lock)
            reservation = self.ledger.reservation(CA, names, claim=claim)
            reservation.reserve(exempt=False)
            yield reservation

    def left(self, names: tuple[str, ...] = (NAME,)) -> dict[str, int]:
        now, limits, buckets = self.ledger._seen(CA, names)
        several = (*costs(names, limits, OrderKind.NEW), *failures(names, limits))
        return {one.key: buckets.left(one, now) for one in several}


FULL = {"orders": 300, f"names {NAME}": 5, f"domain {NAME}": 50, f"failures {NAME}": 5}


def without(**tokens: int) -> dict[str, int]:
    return {key: many - tokens.get(key.partition(" ")[0], 0) for key, many in FULL.items()}


def test_what_a_killed_machine_has_taken_is_given_back_but_for_the_order(opened: Open) -> None:
    """The order may have been placed: the CA counts that."""
    for turn in range(1, 7):
        killed = Orderer(opened())
        with killed.attempt():
            left = killed.left()
            killed.shared.close()
        assert left == without(orders=turn, names=1, domain=1, failures=1)
    last = Orderer(opened())
    with last.attempt() as reservation:
        last.repository.keep_order(NAME, ORDER, reservation.beside_note())
        reservation.finalizing()
        reservation.commit(None)
    assert last.left() == without(orders=7, names=1, domain=1)


def test_what_is_noted_is_not_given_back_by_who_finds_no_note_any_more(opened: Open) -> None:
    killed, later = Orderer(opened()), Orderer(opened())
    with killed.attempt() as reservation:
        killed.repository.keep_order(NAME, ORDER, reservation.beside_note())
        killed.shared.close()
    later.repository.revoke_order(NAME)
    with later.attempt():
        assert later.left() == without(orders=2, names=2, domain=2, failures=2)


def test_who_has_lost_the_lock_gives_nothing_back(opened: Open) -> None:
    """The next machine has done so, and counts its own."""
    late, other = Orderer(opened()), Orderer(opened())
    with late.attempt() as reservation:
        late.shared.close()
        with other.attempt():
            left = other.left()
            reservation.commit(IssuanceError("busy", "the lock was lost"))
            assert other.left() == left == without(orders=2, names=1, domain=1, failures=1)
            with pytest.raises(Fenced):
                late.repository.keep_order(NAME, ORDER, reservation.beside_note())
            with pytest.raises(IssuanceError):
                reservation.reserve(exempt=False)
        assert other.left() == left


def test_what_the_ca_says_to_who_has_lost_the_lock_is_told(opened: Open) -> None:
    late, other = Orderer(opened()), Orderer(opened())
    with late.attempt() as reservation:
        late.shared.close()
        said = "too many: https://ca/#new-orders-per-account"
        problem = IssuanceError("rate_limited", said, not_before=1.8e9 + 60)
        reservation.commit(problem)
    assert other.ledger.must_wait(CA, (NAME,), renewal=False)


def test_an_attempt_that_fails_before_its_note_gives_back_once(opened: Open) -> None:
    one, other = Orderer(opened()), Orderer(opened())
    with one.attempt() as reservation:
        reservation.commit(IssuanceError("refused", "no"))
    assert other.left() == without(orders=1)
    with other.attempt():
        assert other.left() == without(orders=2, names=1, domain=1, failures=1)


def test_an_order_that_is_placed_anew_in_an_attempt_is_counted_once(opened: Open) -> None:
    one = Orderer(opened())
    with one.attempt() as reservation:
        reservation.reserve(exempt=False)
        assert one.left() == without(orders=2, names=1, domain=1, failures=1)
        one.shared.close()
    other = Orderer(opened())
    with other.attempt():
        assert other.left()[f"names {NAME}"] == 4


MANY = tuple(f"www.d{number}.org" for number in range(70))


def test_what_was_taken_of_many_domains_and_for_other_names_is_given_back(opened: Open) -> None:
    """It takes several steps in the shared store."""
    killed, other = Orderer(opened()), Orderer(opened())
    with killed.attempt(MANY):
        killed.shared.close()
    full = other.left(MANY)
    assert [many for key, many in full.items() if key.startswith("domain ")] == [49] * 70
    with other.attempt():
        found = other.left(MANY)
    assert [many for key, many in found.items() if key.startswith("domain ")] == [50] * 70
    assert other.left() == without(orders=2, names=1, domain=1, failures=1)


class Held(MemoryStore):
    """Has read a certificate's folder, and does not say so before it is let: ``go``."""

    def __init__(self, shared: MemoryStore) -> None:
        super().__init__()
        self._shared = shared.peer()
        self.has_read, self.go = threading.Event(), threading.Event()
        self.holds = True

    def load(self, folder: str) -> Files:
        found = self._shared.load(folder)
        if self.holds:
            self.holds = False
            self.has_read.set()
            assert self.go.wait(60)
        return found


def test_what_was_read_earlier_is_not_written_over_what_was_read_later() -> None:
    """A machine that starts reads what all have while it hears of changes, in two threads. It would
    believe for half an hour that another machine is at work, which has ended long ago."""
    shared = MemoryStore()
    other = SharedRepository(MemoryStore(), shared.peer())
    held = Held(shared)
    one = SharedRepository(MemoryStore(), held, wanted={NAME: [NAME]})
    other.keep_record(NAME, record(attempts=1))
    held.holds = False
    one.refresh(NAME)
    held.holds = True
    first = threading.Thread(target=one.catch_up_with, args=([NAME], []))
    first.start()
    assert held.has_read.wait(60)
    other.keep_record(NAME, record(attempts=2))
    second = threading.Thread(target=one.refresh, args=(NAME,))
    second.start()
    second.join(0.5)  # it would be done by then
    held.go.set()
    for thread in (first, second):
        thread.join(60)
    assert one.load(NAME)[0].attempts == 2
