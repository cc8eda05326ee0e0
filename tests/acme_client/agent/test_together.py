from __future__ import annotations

import random
from dataclasses import replace
from unittest.mock import Mock

import pytest

from acme_client.agent.keeper import CertificateKeeper
from acme_client.agent.slots import Slots
from acme_client.agent.together import BUSY_AGAIN, Together
from acme_client.certificates import transitions
from acme_client.certificates.lifecycle import READY, State
from acme_client.certificates.managed import ManagedCertificate
from acme_client.certificates.peers import Member, Peers
from acme_client.certificates.record import Record
from acme_client.certificates.repository import folder_of
from acme_client.certificates.shared_repository import SharedRepository
from acme_client.drill.memory_store import MemoryStore
from acme_client.link import Authority, CertificateSpec
from acme_client.text import timestamp
from acme_client.x509.verify import verify_pair
from support.acme.chains import DAY, chain

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


def test_what_a_person_has_asked_for_is_not_forgotten_for_what_is_read_meanwhile() -> None:
    """Another machine writes something between the request and the attempt, and the store is looked
    at: without an attempt, the person would be told that the certificate was renewed."""
    shared, names = MemoryStore(), {NAME: [NAME]}
    peers = Peers("web-1")
    peers.told({"web-1": Member(True, {}), "web-2": Member(True, {})}, away=False)
    here, there = (
        SharedRepository(MemoryStore(), shared.peer(), node, names, lambda: NOW)
        for node in ("web-1", "web-2")
    )
    keeper = CertificateKeeper(here, Mock(), lambda: NOW, random.Random(1), peers=peers)
    managed = ManagedCertificate(CertificateSpec((NAME,), Authority(CA)), Record())

    def obtained_there(begins: float) -> None:
        pair = chain(NAME, now=NOW, begins=begins)
        facts = verify_pair(pair, (NAME,), NOW)
        record = Record(
            state=State.FRESH, serial=facts.serial, not_before=facts.not_before,
            not_after=facts.not_after, renew_at=NOW + DAY, directory=CA, source="acme",
        )  # fmt: skip
        with there.alone(NAME):
            there.keep(NAME, pair, record)

    obtained_there(-DAY)
    keeper.reread(managed)
    first = managed.record.serial
    assert (managed.record.state, bool(first)) == (State.FRESH, True)
    for asked_at in (1.0, 2.0):
        managed.by_hand, managed.record = True, transitions.on_requested(managed.record)
        there.keep_record(NAME, replace(there.load(NAME)[0], ask_at=NOW + asked_at))
        keeper.reread(managed)
        assert managed.record.ask_at == NOW + asked_at
        assert managed.record.state in READY
        assert managed.by_hand
    # One that another machine has obtained meanwhile is what was asked for.
    obtained_there(-DAY / 2)
    keeper.reread(managed)
    assert managed.record.serial != first
    assert (managed.record.state, managed.by_hand) == (State.FRESH, False)


def test_it_is_told_what_another_machine_has_written_before_this_one_had_its_turn() -> None:
    """It has waited for the CA's limits, say: the status of this machine says so as well, whichever
    thread of it has read that first."""
    shared, names, link = MemoryStore(), {NAME: [NAME]}, Mock()
    peers = Peers("web-1")
    peers.told({"web-1": Member(True, {}), "web-2": Member(True, {})}, away=False)
    here, there = (
        SharedRepository(MemoryStore(), shared.peer(), node, names, lambda: NOW)
        for node in ("web-1", "web-2")
    )
    keeper = CertificateKeeper(here, link, lambda: NOW, random.Random(1), peers=peers)
    together = Together(keeper, here, Slots(shared.peer()), peers, lambda: NOW)
    managed = ManagedCertificate(CertificateSpec((NAME,), Authority(CA)), Record())
    waits = Record(
        state=State.WAITING, paused_at=NOW, next_attempt=NOW + DAY, last_error="limits", attempts=1
    )
    there.keep_record(NAME, waits)

    with together.turn(managed, CA) as held:
        assert held is None
    keeper.reread(managed)
    (told,) = link.report.call_args_list
    name, status = told.args
    assert (name, status["state"], status["next_attempt"]) == (
        NAME,
        "waiting",
        timestamp(NOW + DAY),
    )
