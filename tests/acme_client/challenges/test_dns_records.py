"""A record stays while an attempt needs its value or its order may be taken up, and no longer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from acme_client.challenges.dns01_solver import DnsRecords, Proof
from acme_client.challenges.dns_provider import TxtRecord
from acme_client.challenges.dns_resolver import NameServer
from acme_client.errors import NotSet
from acme_client.link import Dns, DnsUpdates, DnsZone
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.store import Store

PROOF = Proof("tok-en", "a.example", "value")


class Provider:
    """A `DnsProvider` that keeps its zone in memory. Removing waits for ``may_clean``."""

    needs_zone = False

    def __init__(self) -> None:
        self.zone: list[str] = []
        self.said: list[str] = []
        self.refuses = False
        self.cleans = threading.Event()
        self.may_clean = threading.Event()
        self.may_clean.set()

    def present(self, record: TxtRecord) -> None:
        if self.refuses:
            raise NotSet("zone", "refused")
        self.said.append(f"set {record.value}")
        if record.value not in self.zone:
            self.zone.append(record.value)

    def cleanup(self, record: TxtRecord) -> None:
        self.cleans.set()
        assert self.may_clean.wait(60)
        self.said.append(f"removed {record.value}")
        if record.value in self.zone:
            self.zone.remove(record.value)

    def name_servers(self) -> list[NameServer]:
        return []


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    made = Provider()
    monkeypatch.setattr(
        "acme_client.challenges.dns_provider.provider", lambda _settings, _context: made
    )
    return made


def records(store: Store, *unfinished: str) -> DnsRecords:
    settings = Dns((DnsZone(DnsUpdates("127.0.0.1", 9), "a.example", 0.0),), (("127.0.0.1", 9),))
    made = DnsRecords(settings, store, threading.Event(), None, unfinished.__contains__)
    made.servers.target = lambda name: name  # type: ignore[method-assign] # no DNS here
    return made


@pytest.fixture
def left(provider: Provider, tmp_path: Path) -> Iterator[None]:
    """A record of a process that died in the middle of an attempt for a.example."""
    store = DirectoryStore(tmp_path)
    attempt = records(store).presented("a.example", [PROOF])
    attempt.__enter__()
    store.close()
    yield
    attempt.__exit__(None, None, None)


@pytest.mark.usefixtures("left")
def test_a_record_that_was_left_is_removed(provider: Provider, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    records(store).clear()
    assert provider.zone == []
    assert store.load("dns-records") == {}


@pytest.mark.usefixtures("left")
def test_it_stays_as_long_as_its_order_may_be_taken_up(provider: Provider, tmp_path: Path) -> None:
    """By this machine or another one, which sets the same value and needs it shown."""
    store = DirectoryStore(tmp_path)
    records(store, "a.example").clear()
    assert provider.zone == ["value"]
    records(store, "b.example").clear()
    assert provider.zone == []


@pytest.mark.usefixtures("left")
def test_the_attempt_that_takes_an_order_up_sets_its_record_anew(
    provider: Provider, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path)
    with records(store, "a.example").presented("a.example", [PROOF]):
        assert provider.zone == ["value"]
        assert provider.said == ["set value", "removed value", "set value"]
    assert provider.zone == []
    assert store.load("dns-records") == {}


@pytest.mark.usefixtures("left")
def test_nothing_is_cleared_away_below_an_attempt(provider: Provider, tmp_path: Path) -> None:
    both = records(DirectoryStore(tmp_path))
    with both.presented("a.example", [PROOF]):
        both.clear()
        assert provider.zone == ["value"]
    assert provider.zone == []


@pytest.mark.usefixtures("left")
def test_a_value_is_set_again_when_it_is_needed_while_it_is_removed(
    provider: Provider, tmp_path: Path
) -> None:
    both = records(DirectoryStore(tmp_path))
    provider.may_clean.clear()
    clearing = threading.Thread(target=both.clear)
    clearing.start()
    assert provider.cleans.wait(60)
    seen: list[list[str]] = []

    def attempt() -> None:
        with both.presented("a.example", [PROOF]):
            seen.append([*provider.zone])

    attempting = threading.Thread(target=attempt)
    attempting.start()
    attempting.join(0.1)
    assert seen == []
    provider.may_clean.set()
    clearing.join()
    attempting.join()
    assert seen == [["value"]]
    assert provider.said == ["set value", "removed value", "set value", "removed value"]


def test_two_orders_that_share_an_authorization_share_its_record(
    provider: Provider, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path)
    both = records(store)
    with both.presented("a.example", [PROOF]):
        with both.presented("b.example", [PROOF]):
            pass
        assert provider.zone == ["value"]
        assert list(store.load("dns-records")) == ["tok-en"]
        provider.refuses = True
        with pytest.raises(NotSet), both.presented("c.example", [PROOF]):
            raise AssertionError("it was presented")
        assert list(store.load("dns-records")) == ["tok-en"]
    assert provider.zone == []
    assert store.load("dns-records") == {}


def test_a_record_of_a_version_that_named_no_certificate_is_removed(
    provider: Provider, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path)
    note = b'{"version": 1, "domain": "a.example", "record": "_acme-challenge.a.example",'
    store.store("dns-records", {"tok-en": note + b' "value": "value", "zone": ""}'})
    provider.zone.append("value")
    records(store, "").clear()
    assert provider.zone == []


@pytest.mark.usefixtures("left")
def test_what_cannot_be_known_of_an_order_leaves_its_record(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(tmp_path)

    def away(_certificate: str) -> bool:
        raise OSError("the disk is away")

    made = records(store)
    monkeypatch.setattr(made, "_is_unfinished", away)
    made.clear()
    assert provider.zone == ["value"]
    assert list(store.load("dns-records")) == ["tok-en"]
