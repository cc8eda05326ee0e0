"""When the note about an order goes, and what is not gone on with (`agent.stored_note`)."""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from acme_client.agent.attempt import Obtainer
from acme_client.agent.keeper import CertificateKeeper
from acme_client.agent.stored_note import FAILURES_MOST, StoredNote
from acme_client.certificates.managed import ManagedCertificate
from acme_client.certificates.record import Record
from acme_client.certificates.repository import CertificateRepository
from acme_client.certificates.shared_repository import SharedRepository
from acme_client.certificates.unfinished_order import UnfinishedOrder
from acme_client.drill.memory_store import MemoryStore
from acme_client.errors import KINDS, IssuanceError
from acme_client.link import Authority, CertificateSpec
from acme_client.rate_limits.ledger import Claim, Ledger, LedgerReservation
from acme_client.rate_limits.published import OrderKind, costs
from acme_client.storage import insistence
from acme_client.storage.store import Edit, Lock, Unreachable
from acme_client.x509 import keys
from acme_client.x509.verify import verified
from support.acme.chains import DAY, chain

NAME, NOW = "a.example", 1.8e9
CA = "https://acme-v02.api.letsencrypt.org/directory"
ORDER = UnfinishedOrder(
    url="https://ca.example/order/1",
    directory=CA,
    account="https://ca.example/account/1",
    names=(NAME,),
    key_type=keys.DEFAULT,
    profile=None,
    replaces=None,
    placed_at=NOW - 60,
    key_pem=b"a key",
)


class Attempt:
    """One attempt, as far as its note is concerned, on a store that may be another one's too."""

    def __init__(self, store: MemoryStore | None = None, *, anew: bool = False) -> None:
        self.store = store or MemoryStore()
        self.repository = CertificateRepository(self.store)
        self.managed = ManagedCertificate(CertificateSpec((NAME,), Authority(CA)), Record())
        self.ledger = Ledger(self.store, lambda: NOW)
        self.reservation = self.ledger.reservation(CA, (NAME,), claim=Claim(NAME))
        self.unwritten: list[OSError] = []
        self.note = StoredNote(
            self.repository,
            self.managed,
            CA,
            self.reservation,
            lambda: NOW,
            self.unwritten.append,
            anew=anew,
        )

    def order(self) -> LedgerReservation:
        assert self.note.read() is None
        self.reservation.reserve(exempt=False)
        self.note.write(ORDER)
        return self.reservation

    def fail(self, kind: str, status: int | None = None) -> None:
        problem = IssuanceError(kind, "no", status=status)
        self.note.failed(problem)
        self.reservation.commit(problem)

    @property
    def noted(self) -> UnfinishedOrder | None:
        return self.repository.unfinished_order(NAME)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_before_the_csr_is_sent_a_failure_takes_the_note_along(kind: str) -> None:
    attempt = Attempt()
    attempt.order()
    attempt.fail(kind)
    assert attempt.noted is None


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_afterwards_it_stays_unless_the_ca_has_refused(kind: str) -> None:
    attempt = Attempt()
    attempt.order().finalizing()
    attempt.fail(kind)
    assert (attempt.noted is None) is (kind in ("refused", "validation", "unproven"))


def test_a_certificate_that_cannot_be_found_yet_may_be_found_later() -> None:
    attempt = Attempt()
    attempt.order().finalizing()
    attempt.fail("refused", 404)
    assert attempt.noted is not None


def test_what_stays_stuck_is_ordered_anew_and_who_does_not_answer_is_borne_with() -> None:
    first = Attempt()
    first.order().finalizing()
    for failures in range(1, FAILURES_MOST + 1):
        first.fail("stuck")
        assert first.noted == replace(ORDER, failures=failures)
        for _ in range(10):
            later = Attempt(first.store)
            assert later.note.read() == first.noted
            later.fail("unreachable")
            assert later.noted == first.noted
        first = Attempt(first.store)
        first.note.read()
        first.reservation.take_up(ORDER, is_issuing=True)
    first.fail("internal")
    assert first.noted is None


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, names=(NAME, "b.example")),
        replace(ORDER, names=("b.example",)),
        replace(ORDER, key_type="rsa-2048"),
        replace(ORDER, directory="https://ca.example/directory"),
    ],
    ids=["more names", "another name", "another key", "another CA"],
)
def test_an_order_for_something_else_is_not_gone_on_with(other: UnfinishedOrder) -> None:
    attempt = Attempt()
    attempt.repository.keep_order(NAME, other)
    assert attempt.note.read() is None
    assert attempt.noted is None


def test_names_in_another_order_are_the_same() -> None:
    attempt = Attempt()
    attempt.managed.wanted = CertificateSpec(("b.example", NAME), Authority(CA))
    attempt.repository.keep_order(attempt.managed.name, replace(ORDER, names=(NAME, "b.example")))
    assert attempt.note.read() is not None


def test_an_order_whose_certificate_is_there_already_goes_without_a_word() -> None:
    attempt = Attempt()
    attempt.managed.pair = chain(NAME, now=NOW)
    attempt.repository.keep_order(NAME, replace(ORDER, key_pem=attempt.managed.pair.key_pem))
    assert attempt.note.read() is None
    assert attempt.noted is None


def test_with_force_another_one_is_placed() -> None:
    attempt = Attempt(anew=True)
    attempt.repository.keep_order(NAME, ORDER)
    assert attempt.note.read() is None


@pytest.mark.parametrize(
    ("begins", "why"),
    [
        (-DAY, ""),
        (-59 * DAY, "due for renewal already"),
        (-90 * DAY, "has expired"),
        (-3 * DAY, "is newer"),  # that in use has begun two days ago
        (-2 * DAY, ""),  # in the same second: CAs tell no less, and both may be of this moment
    ],
    ids=["good", "found after weeks", "expired", "older", "of the same second"],
)
def test_which_certificate_of_an_order_is_of_use(begins: float, why: str) -> None:
    attempt = Attempt()
    if begins in (-3 * DAY, -2 * DAY):
        pair = chain(NAME, now=NOW, begins=-2 * DAY, ends=88 * DAY)
        attempt.managed.pair, attempt.managed.facts = verified(pair, (NAME,), NOW)
    found = attempt.note.objection(chain(NAME, now=NOW, begins=begins, ends=begins + 90 * DAY))
    assert why in found
    assert bool(found) is bool(why)


def test_a_certificate_for_other_names_is_of_no_use() -> None:
    assert "does not cover" in Attempt().note.objection(chain("b.example", now=NOW))


def test_a_ca_whose_limits_are_reached_is_asked_for_an_order_that_it_has_already() -> None:
    """Although there is another CA: going on with an order costs nothing more."""
    store, other = MemoryStore(), Authority("https://ca.example/directory")
    attempt = Attempt(store)
    managed = attempt.managed
    managed.wanted = CertificateSpec((NAME,), Authority(CA), fallback=(other,))
    for _ in range(4):
        attempt.ledger.reservation(CA, (NAME,)).reserve(exempt=False)
    repository = attempt.repository
    link: Any = None  # nothing is served here
    keeper = CertificateKeeper(repository, link, lambda: NOW, random.Random(1))
    obtainer = Obtainer(
        keeper, repository, lambda _: pytest.fail("asked"), attempt.ledger, lambda: NOW,
        random.Random(1),
    )  # fmt: skip
    assert obtainer._avoided(managed) == {CA}
    repository.keep_order(NAME, ORDER)
    assert obtainer._avoided(managed) == set()
    repository.keep_order(NAME, replace(ORDER, directory=other.directory))
    assert obtainer._avoided(managed) == {CA}


class FullDisk(MemoryStore):
    def store(self, folder: str, files: object) -> None:
        if folder.startswith("orders/"):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().store(folder, files)  # type: ignore[arg-type]


def test_an_order_that_cannot_be_noted_keeps_what_it_has_taken_if_its_process_is_killed() -> None:
    attempt = Attempt(FullDisk())
    attempt.order()
    assert attempt.unwritten
    killed = Attempt(attempt.store)
    before = attempt.ledger.must_wait(CA, (NAME,), renewal=False)
    for _ in range(3):  # with the killed one's: four of five
        again = Attempt(attempt.store)
        again.order()
    assert not before
    assert killed.ledger.must_wait(CA, (NAME,), renewal=False)


def test_what_was_killed_before_its_note_gives_back_what_it_has_taken() -> None:
    store = MemoryStore()
    for _ in range(20):
        attempt = Attempt(store)
        assert attempt.note.read() is None
        attempt.reservation.reserve(exempt=False)
    assert not attempt.ledger.must_wait(CA, (NAME,), renewal=False)


class Sticky(MemoryStore):
    """A disk on which the note stays."""

    def delete(self, folder: str, file: str | None = None) -> None:
        if folder.startswith("orders/"):
            raise OSError(errno.EROFS, "Read-only file system")
        super().delete(folder, file)


def test_an_order_whose_note_stays_keeps_what_it_has_taken() -> None:
    """The next attempt goes on with it, and the CA may issue."""
    attempt = Attempt(Sticky())
    attempt.order()
    attempt.fail("validation")
    assert attempt.noted is not None
    again = Attempt(attempt.store)
    again.note.read()
    again.reservation.take_up(ORDER, is_issuing=False)
    again.reservation.finalizing()
    again.reservation.commit(None)
    now, limits, buckets = again.ledger._seen(CA, (NAME,))
    left = {one.key: buckets.left(one, now) for one in costs((NAME,), limits, OrderKind.NEW)}
    assert left == {"orders": 299, f"names {NAME}": 4, f"domain {NAME}": 49}


class Away(MemoryStore):
    """A store that several machines share, and that takes no note any more."""

    def change(self, edits: Sequence[Edit], by: Lock | None = None) -> None:
        raise Unreachable(errno.EHOSTUNREACH, "no answer")


def test_an_order_that_the_others_cannot_be_told_of_ends_before_anything_is_proven(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(insistence, "PAUSES", (0.0,))
    attempt = Attempt()
    repository = SharedRepository(attempt.store, Away())
    attempt.repository = attempt.note._repository = repository
    with repository.alone(NAME), pytest.raises(IssuanceError, match="cannot be told") as problem:
        attempt.order()
    assert problem.value.kind == "busy"
    assert attempt.noted is None
    assert attempt.unwritten == []
