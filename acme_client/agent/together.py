"""An attempt on one of several machines: its turn, and what is kept of it for all.

A turn is a place at the CA and the certificate's lock; then the shared store is read, because
another machine may have been faster. The certificate that the attempt yields goes there in one step
that is refused when the lock has been lost meanwhile (a machine that was paused for long wakes up
and does not know that its lock has ended). Without the shared store there is no lock: then the
certificate is kept on this machine's disk, marked as unknown to the other machines, and shared
later.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from ..certificates import ranks, transitions, wishes
from ..certificates.lifecycle import PAUSED, READY
from ..certificates.managed import ManagedCertificate
from ..certificates.peers import Peers
from ..certificates.shared_repository import LOST, Busy, SharedRepository
from ..certificates.unfinished_order import UnfinishedOrder
from ..errors import IssuanceError
from ..issuers.interface import Reservation
from ..storage.store import Lock, Unreachable
from .keeper import CertificateKeeper, words
from .slots import Slots

log = logging.getLogger("treehouse.certifier")

# When a machine tries again that has found another one at work, or no place at the CA. The other
# may only be writing the record, by which this machine has heard that the certificate is due: so
# the first times are short.
BUSY_AGAIN = 60.0
_BUSY_FIRST, _BUSY_GROWS = 2.0, 4
_BUSY_PART = 1 / 30  # of a life that is short
SLOT_AGAIN = 5.0
# How long clients of this machine wait for another one that orders the same.
_CLIENTS_WAIT = 30.0
_LOOKED_EVERY = 0.2


class Together:
    """``now`` gives Unix seconds."""

    def __init__(
        self,
        keeper: CertificateKeeper,
        repository: SharedRepository,
        slots: Slots,
        peers: Peers,
        now: Callable[[], float],
    ) -> None:
        self._keeper = keeper
        self._repository = repository
        self._slots = slots
        self._peers = peers
        self._now = now

    @property
    def node(self) -> str:
        return self._peers.node

    @contextlib.contextmanager
    def turn(self, managed: ManagedCertificate, directory: str) -> Iterator[Lock | None]:
        """Let this machine alone attempt the certificate inside; None: it must not attempt it."""
        before = managed.record
        with contextlib.ExitStack() as stack:
            lock = self._turn(stack, managed, directory)
            if lock is None and managed.record != before:
                # This machine has read on the way what another machine has written. When the store
                # tells of that change, the record is no news here any more, and nobody is told.
                self._keeper.report(managed)
            yield lock

    def _turn(
        self, stack: contextlib.ExitStack, managed: ManagedCertificate, directory: str
    ) -> Lock | None:
        lock: Lock
        managed.hindered = ""
        clients_wait = bool(managed.wanted.on_demand_for and managed.tickets)
        try:
            if not clients_wait:
                stack.enter_context(self._slots.one(directory))
        except Busy as busy:
            managed.hindered = f"it waits: {words(busy)}"
            managed.no_place_until = self._now() + SLOT_AGAIN
            return None
        try:
            lock = self._lock(stack, managed, _CLIENTS_WAIT if clients_wait else 0.0)
        except Busy as busy:
            managed.hindered = f"it waits: {words(busy)}"
            soon = _BUSY_FIRST * _BUSY_GROWS**managed.found_locked
            managed.found_locked = min(managed.found_locked + 1, 9)
            managed.postponed_until = min(self._now() + soon, self._later(managed))
            return None
        except Unreachable as fault:
            # An order that a person asks for does not wait until this machine knows for certain
            # that the shared store is away.
            asked = managed.by_hand or (managed.tickets and not managed.wanted.on_demand_for)
            if not (self._peers.away or asked):
                managed.hindered = f"it waits: {words(fault)}"
                managed.postponed_until = self._later(managed)
                return None
            lock = Unlocked()
        except OSError as error:
            log.warning("%s: cannot be looked at: %s", managed.name, words(error))
            managed.postponed_until = self._later(managed)
            return None
        managed.found_locked = 0
        if not self._is_needed(managed):
            return None
        try:
            if clients_wait:  # only a machine that orders takes a place, not one that waits
                stack.enter_context(self._slots.one(directory))
        except Busy as busy:
            managed.hindered = f"it waits: {words(busy)}"
            managed.no_place_until = self._now() + SLOT_AGAIN
            return None
        return lock

    def _lock(
        self, stack: contextlib.ExitStack, managed: ManagedCertificate, patience: float
    ) -> Lock:
        """Take the certificate's lock. Where clients wait on several machines for one name, those
        that do not order it wait until it is there. Raises `Busy`, OSError."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return stack.enter_context(self._repository.alone(managed.name))
            except Busy:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_LOOKED_EVERY)  # in a thread of attempts

    def _later(self, managed: ManagedCertificate) -> float:
        """When to look again whether another machine is at work still."""
        facts = managed.facts
        lifetime = facts.not_after - facts.not_before if facts is not None else None
        return self._now() + ranks.within(BUSY_AGAIN, lifetime, _BUSY_PART)

    def _is_needed(self, managed: ManagedCertificate) -> bool:
        """Whether the certificate, as the shared store has it now, still calls for an attempt. If
        it does, its record is brought to a state in which an attempt can begin."""
        by_hand = managed.by_hand or bool(managed.tickets and not managed.wanted.on_demand_for)
        revoked = managed.record.wanted_anew and managed.satisfies
        serial = managed.record.serial
        self._look(managed)
        revoked = revoked and managed.record.serial == serial
        now = self._now()
        record = managed.record = transitions.after_time(managed.record, now)
        if not by_hand:
            usable = managed.usable(now)
            due = record.state in READY and (not usable or now >= (record.renew_at or 0.0))
            if record.state in PAUSED or not (
                due or record.wanted_anew or revoked or self.may_replace(managed)
            ):
                return False
            braked = transitions.braked_until(record, now)
            if braked is not None and not managed.is_revoked:
                self._brake(managed, braked)
                return False
        if record.state not in READY:
            managed.record = transitions.on_requested(record)
        return True

    def may_replace(self, managed: ManagedCertificate) -> bool:
        """Whether this machine's configuration wants a different certificate, and no other member's
        configuration wants the present one."""
        if managed.satisfies or managed.wanted.on_demand_for:
            return False
        made = managed.record.made
        return made is None or not self._peers.holders(managed.name, made.wishes)

    def _brake(self, managed: ManagedCertificate, until: float) -> None:
        managed.postponed_until = until
        managed.braked = wishes.told_to_wait(managed.name, until)
        log.warning("%s", managed.braked)

    def _look(self, managed: ManagedCertificate) -> None:
        serial = managed.serial
        try:
            self._keeper.look(managed)
        except OSError as error:
            log.warning("%s: cannot be read: %s", managed.name, words(error))
            return
        if managed.facts is not None and managed.facts.serial != serial:
            log.info("%s: another machine has obtained the certificate", managed.name)
            self._keeper.serve_again([managed])
            self._keeper.report(managed)

    def keep(self, managed: ManagedCertificate, now: float) -> None:
        """Keep a certificate that the CA has just issued, for all machines. Raises an error of
        `LOST` when the lock was lost meanwhile."""
        wish = wishes.of(managed.wanted)
        managed.record = transitions.on_made(managed.record, self.node, wish, now)
        self._keeper.prove(managed)
        if managed.pair is None:
            return
        try:
            if self._repository.holds(managed.name):
                try:
                    self._repository.keep(managed.name, managed.pair, managed.record)
                    return
                except Unreachable as error:
                    log.warning("%s: the others cannot be told: %s", managed.name, words(error))
            managed.record = replace(managed.record, unshared=True)
            self._repository.keep_here(managed.name, managed.pair, managed.record)
        except LOST:
            raise
        except OSError as error:
            self._keeper.not_saved(managed, error)

    def lost(self, managed: ManagedCertificate, fault: OSError) -> None:
        """Give up an attempt whose lock was lost: another machine has the lock, or had it. The
        certificate that the other machine has stored is kept, and loaded here."""
        log.warning("%s: attempt given up: %s", managed.name, words(fault))
        managed.postponed_until = self._later(managed)
        with contextlib.suppress(OSError):
            self._repository.refresh(managed.name)
        managed.pair = managed.facts = None
        self._look(managed)
        self._keeper.report(managed)

    def share(self, managed: ManagedCertificate) -> None:
        """Give the other machines a certificate that was made while they could not be told, or take
        the certificate that they have made later."""
        try:
            self._repository.share(managed.name)
        except OSError as error:
            log.info("%s: not shared yet: %s", managed.name, words(error))
            return
        self._look(managed)


class Unlocked:
    """Stands in for a `store.Lock` while the shared store, which gives locks, is unreachable."""

    token = 0

    def holds(self) -> bool:
        return True

    def release(self) -> None:
        pass


class WhileHeld:
    """An `interface.Reservation` under a lock: nothing is ordered, and no certificate asked for,
    once another machine may have the lock."""

    def __init__(self, reservation: Reservation, lock: Lock) -> None:
        self._reservation = reservation
        self._lock = lock

    def reserve(self, *, exempt: bool) -> None:
        self._demand_lock()
        self._reservation.reserve(exempt=exempt)

    def finalizing(self) -> None:
        self._demand_lock()
        self._reservation.finalizing()

    def take_up(self, order: UnfinishedOrder, *, is_issuing: bool) -> None:
        self._reservation.take_up(order, is_issuing=is_issuing)

    def come_to_nothing(self, order: UnfinishedOrder) -> None:
        self._reservation.come_to_nothing(order)

    def _demand_lock(self) -> None:
        if not self._lock.holds():
            raise IssuanceError("busy", "the lock was lost during the attempt")
