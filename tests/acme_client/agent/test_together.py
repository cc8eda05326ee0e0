from __future__ import annotations

import random
from unittest.mock import Mock

import pytest

from acme_client.agent.keeper import CertificateKeeper
from acme_client.agent.slots import Slots
from acme_client.agent.together import BUSY_AGAIN, Together
from acme_client.certificates.managed import ManagedCertificate
from acme_client.certificates.peers import Member, Peers
from acme_client.certificates.record import Record
from acme_client.certificates.repository import folder_of
from acme_client.certificates.shared_repository import SharedRepository
from acme_client.drill.memory_store import MemoryStore
from acme_client.link import Authority, CertificateSpec

NAME, CA, NOW = "a.example", "https://ca.test/dir", 1_800_000_000.0


def test_a_lock_that_was_only_to_write_a_record_is_tried_again_soon() -> None:
    """A machine hears of a request by the very record whose writer has the lock still."""
    shared, now = MemoryStore(), [NOW]
    repository = SharedRepository(MemoryStore(), shared.peer())
    peers = Peers("web-1")
    peers.told({"web-1": Member(True, {}), "web-2": Member(True, {})}, away=False)
    keeper = CertificateKeeper(repository, Mock(), lambda: now[0], random.Random(1), peers=peers)
    together = Together(keeper, repository, Slots(shared.peer()), peers, lambda: now[0])
    managed = ManagedCertificate(CertificateSpec((NAME,), Authority(CA)), Record())
    lock = shared.peer().lock(folder_of(NAME), 60.0)
    assert lock is not None

    waits = []
    for _ in range(5):
        with together.turn(managed, CA) as held:
            assert held is None
        waits.append(managed.postponed_until - now[0])
        now[0] = managed.postponed_until
    assert waits == [pytest.approx(one) for one in (2.0, 8.0, 32.0, BUSY_AGAIN, BUSY_AGAIN)]

    lock.release()
    with together.turn(managed, CA) as held:
        assert held is not None
    lock = shared.peer().lock(folder_of(NAME), 60.0)
    with together.turn(managed, CA) as held:
        assert held is None
    assert managed.postponed_until == pytest.approx(now[0] + 2.0)
