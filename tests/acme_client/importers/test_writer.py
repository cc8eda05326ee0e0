"""What is written, and what is rather not."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from acme_client.certificates.lifecycle import State
from acme_client.certificates.record import Record
from acme_client.certificates.repository import CertificateRepository
from acme_client.importers.findings import Account
from acme_client.importers.selection import Place
from acme_client.importers.writer import Outcome, Writer
from acme_client.issuers.account_files import LEASE
from acme_client.storage.directory import DirectoryStore
from acme_client.x509 import keys
from acme_client.x509.verify import CertificateAndKey, verify_pair
from support.acme.chains import DAY, chain

NOW = 1_795_554_500.0
CA = "https://ca.example/dir"
KEY = keys.to_pem(keys.generate("ecdsa-p256"))
ACCOUNT = Account("there", CA, f"{CA}/1", ("mailto:a@example.org",), KEY)


def place(*names: str, days: float = 60, of: tuple[str, ...] | None = None) -> Place:
    pair = chain(*names, now=NOW, ends=days * DAY)
    return Place(of or names, pair, verify_pair(pair, (), NOW), "there", CA)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path, now=lambda: NOW)


def arrive(store: DirectoryStore, one: Place, *, rehearsal: bool = False) -> Outcome:
    return Writer(store, NOW, random.Random(1), rehearsal=rehearsal).certificate(one)


def kept(store: DirectoryStore) -> tuple[Record, CertificateAndKey | None]:
    return CertificateRepository(store).load("a.example")


def test_it_is_kept_as_if_it_had_been_ordered(store: DirectoryStore) -> None:
    one = place("a.example")
    arrived = arrive(store, one)
    assert (arrived.taken, arrived.said) == (True, "valid until 2027-01-23T21:08:20Z, from there")
    record, pair = kept(store)
    assert pair == one.pair
    assert (record.state, record.directory, record.source) == (State.FRESH, CA, "acme")
    assert record.serial == one.facts.serial
    assert record.not_before is not None
    assert record.renew_at is not None
    assert record.not_before < record.renew_at < one.facts.not_after
    assert [past.outcome for past in record.history] == ["imported"]


def test_failures_of_before_count_no_longer(store: DirectoryStore) -> None:
    repository = CertificateRepository(store)
    failed = Record(state=State.FAILED, attempts=4, last_error="no", next_attempt=NOW + 9.0)
    repository.keep_record("a.example", failed)
    assert arrive(store, place("a.example")).taken
    record, _ = kept(store)
    assert (record.state, record.attempts, record.last_error) == (State.FRESH, 0, None)


@pytest.mark.parametrize(
    ("present", "coming", "taken"),
    [
        (place("a.example", days=60), place("a.example", days=61), True),
        (place("a.example", days=61), place("a.example", days=60), False),
        # That it covers what is wanted counts more.
        (place("a.example", days=61), place("a.example", "b.example", days=5), True),
        (place("a.example", "b.example", days=5), place("a.example", days=61, of=("a.example", "b.example")), False),
        # What cannot be served is no certificate.
        (place("a.example", days=0.5), place("a.example", days=60), True),
    ],
)  # fmt: skip
def test_nothing_better_is_replaced(
    store: DirectoryStore, present: Place, coming: Place, taken: bool
) -> None:
    arrive(store, present)
    arrived = arrive(store, coming)
    assert (arrived.taken, arrived.present) == (taken, not taken)
    assert kept(store)[1] == (coming.pair if taken else present.pair)


def test_a_damaged_one_makes_way(store: DirectoryStore) -> None:
    one = place("a.example")
    CertificateRepository(store).keep_pair("a.example", CertificateAndKey(b"nonsense", b"nonsense"))
    assert arrive(store, one).taken
    assert kept(store)[1] == one.pair


def test_twice_is_once(store: DirectoryStore) -> None:
    one = place("a.example")
    arrive(store, one)
    again = arrive(store, one)
    assert (again.present, again.said) == (True, "it is here already")


def test_what_lacks_a_name_says_so(store: DirectoryStore) -> None:
    arrived = arrive(store, place("a.example", of=("a.example", "b.example", "c.example")))
    assert "without b.example, c.example, so another one will be ordered" in arrived.said


def test_an_attempt_under_way_is_not_disturbed(store: DirectoryStore) -> None:
    lock = CertificateRepository(store).lock("a.example", 100.0)
    assert lock is not None
    arrived = arrive(store, place("a.example"))
    assert (arrived.taken, arrived.present) == (False, False)
    assert "an attempt for it is under way" in arrived.said
    assert kept(store)[1] is None
    lock.release()
    assert arrive(store, place("a.example")).taken
    assert CertificateRepository(store).lock("a.example", 100.0) is not None, (
        "it has been given back"
    )


def test_a_rehearsal_writes_nothing(store: DirectoryStore) -> None:
    assert arrive(store, place("a.example"), rehearsal=True).taken
    writer = Writer(store, NOW, random.Random(1), rehearsal=True)
    assert writer.account(ACCOUNT, replacing=False).taken
    assert list(store.root.iterdir()) == []


def bring(store: DirectoryStore, account: Account, *, replacing: bool = False) -> Outcome:
    return Writer(store, NOW, random.Random(1)).account(account, replacing=replacing)


def test_an_account_with_all_that_is_known_of_it(store: DirectoryStore) -> None:
    arrived = bring(store, ACCOUNT)
    assert arrived.taken
    assert arrived.said == f"{CA}/1 (mailto:a@example.org), from there"
    files = store.load("accounts/ca.example")
    assert files["key.pem"] == KEY
    document = json.loads(files["account.json"])
    assert document == {
        "version": 1, "directory": CA, "uri": f"{CA}/1", "contact": ["mailto:a@example.org"],
    }  # fmt: skip
    assert bring(store, ACCOUNT).said == "it is here already"


def test_an_account_whose_address_or_contact_is_not_known(store: DirectoryStore) -> None:
    bring(store, replace(ACCOUNT, contact=None))
    assert "contact" not in json.loads(store.load("accounts/ca.example")["account.json"])
    other = replace(ACCOUNT, directory="https://other.example/dir", uri=None)
    assert bring(store, other).said == "its key (mailto:a@example.org), from there"
    assert store.load("accounts/other.example") == {"key.pem": KEY}


def test_an_account_that_is_there_stays_unless_asked(store: DirectoryStore) -> None:
    bring(store, ACCOUNT)
    key = keys.to_pem(keys.generate("rsa-2048"))
    other = replace(ACCOUNT, key_pem=key, uri=None)
    kept_here = bring(store, other)
    assert (kept_here.taken, "--replace-account" in kept_here.said) == (False, True)
    assert store.load("accounts/ca.example")["key.pem"] == KEY
    assert bring(store, other, replacing=True).taken
    # Never the old one's address with the new one's key; and the old key is not lost.
    assert store.load("accounts/ca.example") == {"key.pem": key, "key-replaced.pem": KEY}


def test_another_directory_of_the_same_host_has_its_own(store: DirectoryStore) -> None:
    bring(store, ACCOUNT)
    other = replace(ACCOUNT, directory="https://ca.example/other")
    assert bring(store, other).taken
    assert len(store.list("accounts")) == 2


def test_an_account_in_the_making_is_not_disturbed(store: DirectoryStore) -> None:
    lock = store.lock("accounts/ca.example", LEASE)
    assert lock is not None
    assert "is making one at this moment" in bring(store, ACCOUNT).said
    lock.release()
    store.store("accounts/ca.example", {"key.pem": b"x"})
    store.store("accounts/ca.example", {"key-next.pem": b"y"})
    assert "about to change its key" in bring(store, ACCOUNT, replacing=True).said
    assert store.load("accounts/ca.example")["key.pem"] == b"x"
