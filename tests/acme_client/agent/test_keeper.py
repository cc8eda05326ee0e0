from __future__ import annotations

import random
import time
from unittest.mock import Mock

import pytest

from acme_client.agent import keeper as keepers
from acme_client.agent.keeper import CertificateKeeper
from acme_client.certificates.managed import ManagedCertificate
from acme_client.certificates.record import Record
from acme_client.certificates.repository import folder_of
from acme_client.certificates.shared_repository import SharedRepository
from acme_client.drill.memory_store import MemoryStore
from acme_client.link import Authority, CertificateSpec

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
