from __future__ import annotations

import random
import time
from dataclasses import replace
from unittest.mock import Mock

import pytest

from acme_client.agent import keeper as keepers
from acme_client.agent.keeper import CertificateKeeper
from acme_client.certificates import transitions
from acme_client.certificates.lifecycle import State
from acme_client.certificates.managed import ManagedCertificate
from acme_client.certificates.peers import Member, Peers
from acme_client.certificates.record import Record
from acme_client.certificates.repository import folder_of
from acme_client.certificates.shared_repository import SharedRepository
from acme_client.drill.memory_store import MemoryStore
from acme_client.link import Authority, CertificateSpec
from acme_client.x509 import verify
from support.acme.chains import chain

NAME = "a.example"
REVOKED = Record(wanted_anew=True)


def test_a_request_waits_for_the_machine_that_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what that machine writes would be all that is known."""
    shared = MemoryStore()
    repository = SharedRepository(MemoryStore(), shared.peer())
    keeper = CertificateKeeper(repository, Mock(), time.time, random.Random(1))
    managed = ManagedCertificate(
        CertificateSpec((NAME,), Authority("https://ca.test/dir")), REVOKED
    )
    lock = shared.peer().lock(folder_of(NAME), 60.0)
    assert lock is not None
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        assert not repository.load(NAME)[0].wanted_anew
        if len(waited) == 3:
            lock.release()

    monkeypatch.setattr(keepers.time, "sleep", wait)
    keeper.keep_request(managed)
    assert len(waited) == 3
    assert repository.load(NAME)[0].wanted_anew
    other = SharedRepository(MemoryStore(), shared.peer())
    other.refresh(NAME)
    assert other.load(NAME)[0].wanted_anew


@pytest.mark.parametrize("revoked", [False, True], ids=["renew", "revoke"])
def test_what_a_person_asks_for_outlives_what_other_machines_write(revoked: bool) -> None:
    """Else the person would be told of a success, and nothing be ordered."""
    now, directory = time.time(), "https://ca.test/dir"
    shared = MemoryStore()
    repository = SharedRepository(MemoryStore(), shared.peer())
    other = SharedRepository(MemoryStore(), shared.peer())
    peers = Peers("web-1")
    peers.told({"web-1": Member(), "web-2": Member()}, away=False)
    keeper = CertificateKeeper(repository, Mock(), lambda: now, random.Random(1), peers=peers)
    managed = ManagedCertificate(CertificateSpec((NAME,), Authority(directory)), Record())

    def made_by_the_other(begins: float) -> None:
        pair = chain(NAME, now=now, begins=begins)
        facts = verify.read(pair)[1]
        record = transitions.on_found(Record(), facts, "acme", directory, now, random.Random(1))
        with other.alone(NAME):
            other.keep(NAME, pair, record)

    made_by_the_other(-7200.0)
    keeper.reread(managed)
    assert managed.record.state is State.FRESH
    if revoked:
        managed.revoked = managed.serial
    else:
        managed.by_hand = True
    managed.record = transitions.on_requested(managed.record)
    other.keep_record(NAME, replace(other.load(NAME)[0], ask_at=now + 60))
    keeper.reread(managed)
    assert managed.record.state is State.DUE
    # Another machine has obtained what was asked for.
    made_by_the_other(-3600.0)
    keeper.reread(managed)
    assert managed.record.state is State.FRESH
