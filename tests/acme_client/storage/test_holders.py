"""Two certifiers beside each other on one store, as during an upgrade: neither takes back what the
other holds, and they count in one ledger."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from acme_client.challenges.dns01_solver import DnsRecords, Proof
from acme_client.challenges.worker_solver import Challenges
from acme_client.drill.memory_store import MemoryStore
from acme_client.errors import IssuanceError
from acme_client.link import Challenge, Dns, DnsHook, DnsZone
from acme_client.rate_limits.ledger import Ledger
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.store import Store
from support.acme.certifier import FakeServer
from support.threads import run_together

LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
CHALLENGE = Challenge("http-01", "a.example", "tok-en", "tok-en.thumb")


@pytest.fixture(params=["directory", "memory"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, Store]:
    if request.param == "directory":
        return DirectoryStore(tmp_path), DirectoryStore(tmp_path)
    one = MemoryStore()
    return one, one.peer()


def test_a_challenge_is_taken_back_by_another_only_when_its_holder_has_ended(
    two: tuple[Store, Store],
) -> None:
    one, other = two
    with FakeServer() as server, Challenges(one, server).presented("a.example", [CHALLENGE]):
        Challenges(other, server).clear()
        assert server.taken_back == []
        assert one.load("challenges")
        one.close()
        Challenges(other, server).clear()
        (back,) = server.taken_back
        assert (back.host, back.token) == ("a.example", "tok-en")
        assert other.load("challenges") == {}


def test_a_record_is_taken_back_by_another_only_when_its_holder_has_ended(
    two: tuple[Store, Store], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    hook = tmp_path / "hook"
    hook.write_text(f'#!{sys.executable}\nimport sys\nopen({str(calls)!r}, "a").write(sys.argv[1])')
    hook.chmod(0o755)
    settings = Dns((DnsZone(DnsHook(hook, 10.0, tmp_path), "a.example", 0.0),), (("127.0.0.1", 9),))
    one, other = (DnsRecords(settings, store, threading.Event()) for store in two)
    for records in (one, other):
        records.servers.target = lambda name: name  # type: ignore[method-assign] # no DNS here
    with one.presented("a.example", [Proof("tok-en", "a.example", "value")]):
        other.clear()
        assert calls.read_text() == "present"
        two[0].close()
        other.clear()
        assert calls.read_text() == "presentcleanup"
        assert two[1].load("dns-records") == {}


def test_what_a_process_could_not_take_back_it_takes_back_itself(tmp_path: Path) -> None:
    """Its own notes are its own, for as long as it lives."""
    store = DirectoryStore(tmp_path)
    with FakeServer() as server:
        Challenges(store, server)._write(CHALLENGE)
        Challenges(store, server).clear()
        assert [one.token for one in server.taken_back] == ["tok-en"]


def test_two_count_in_one_ledger(two: tuple[Store, Store]) -> None:
    """Of five certificates for the same names, the last is kept: four, whoever orders."""
    books = [Ledger(store, lambda: 1e9) for store in two]
    for turn in range(4):
        reservation = books[turn % 2].reservation(LETSENCRYPT, ("a.example.org",))
        reservation.reserve(exempt=False)
        reservation.finalizing()
        reservation.commit(None)
    for book in books:
        with pytest.raises(IssuanceError, match="5 in 7 days are allowed"):
            book.reservation(LETSENCRYPT, ("a.example.org",)).reserve(exempt=False)


def test_many_threads_of_two_processes_lose_no_count(tmp_path: Path) -> None:
    books = [Ledger(DirectoryStore(tmp_path), lambda: 1e9) for _ in range(2)]
    admitted: list[int] = []

    def order(number: int) -> None:
        book = books[number % 2]
        for turn in range(5):
            reservation = book.reservation(LETSENCRYPT, (f"{number}-{turn}.example.org",))
            try:
                reservation.reserve(exempt=False)
            except IssuanceError:
                continue
            reservation.finalizing()
            reservation.commit(None)
            admitted.append(number)

    run_together(12, order)
    assert len(admitted) == 49, "of fifty for the domain, the last is kept"


def test_a_lock_that_hangs_does_not_keep_anybody_from_ordering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("acme_client.rate_limits.ledger._LOCKED_WITHIN", 0.1)
    book = Ledger(DirectoryStore(tmp_path), lambda: 1e9)
    book.reservation(LETSENCRYPT, ("a.example.org",)).reserve(exempt=False)
    (folder,) = DirectoryStore(tmp_path).list("ledgers")
    held = DirectoryStore(tmp_path).lock(f"ledgers/{folder}", 3600.0)
    assert held is not None
    book.reservation(LETSENCRYPT, ("b.example.org",)).reserve(exempt=False)
    assert "locked by another process" in caplog.text
