"""Counts orders against the limits of all CAs, on disk and between threads.

Tokens for an order are taken before it is placed, and given back when it has certainly led to
nothing: four orders under way at once must not all count on the same token. An order whose end
nobody has seen (the process died, the answer was lost) may have led to a certificate or to a failed
validation, so that it keeps its tokens.

Another process may count in the same ledger (two certifiers during an upgrade): a change is made
under the folder's lock, after a look at what is on disk.

When the disk cannot be written, orders go on: the count in memory goes on, and after a restart the
CA still knows what we have forgotten.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from ..certificates.folder_names import folder_name
from ..certificates.unfinished_order import UnfinishedOrder
from ..errors import IssuanceError
from ..storage.journal import Journal
from ..storage.store import Edit, Lock, Store
from .buckets import VERSION, Buckets, Refusal, moment
from .published import Cost, Limits, OrderKind, costs, failures, failures_key, limits_of

log = logging.getLogger("treehouse.certifier")

T = TypeVar("T")

_FOLDER = "ledgers"
FILE = "ledger.json"
# Outcomes of an order after which the CA may still be validating, although nobody answers any more.
_UNSEEN = frozenset({"unreachable", "nonsense", "stuck", "stopped", "internal"})
# A change takes milliseconds; whoever has the lock for longer hangs, and nobody waits for them.
_LOCK_LASTS = 30.0
_LOCKED_WITHIN = 5.0
_TRY_AGAIN = 0.02


class Claim(NamedTuple):
    """For which ``certificate`` tokens are taken, of which one order is under way at a time; ""
    where nobody is to know. ``lock``: the certificate's, where several machines have one."""

    certificate: str = ""
    lock: Lock | None = None


NOBODYS = Claim()


class Ledger:
    """May be used by several threads; ``now`` gives Unix seconds."""

    def __init__(
        self,
        store: Store,
        now: Callable[[], float],
        limits: Callable[[str], Limits] = limits_of,
    ) -> None:
        self._store = store
        self._now = now
        self._limits = limits
        self._kept: dict[str, Buckets] = {}
        self._journals: dict[str, Journal] = {}
        self._lock = threading.Lock()

    def reservation(
        self,
        directory: str,
        names: tuple[str, ...],
        *,
        renewal: bool = False,
        force: bool = False,
        claim: Claim = NOBODYS,
    ) -> LedgerReservation:
        """Return the reservation for one order. ``renewal``: the CA has issued for exactly these
        names before."""
        return LedgerReservation(self, directory, names, renewal, force, claim)

    def reserve_account(self, directory: str) -> None:
        """Take what a new account costs. Raises `IssuanceError` ("limits") for one that had better
        wait."""

        def take(now: float, limits: Limits, ledger: Buckets) -> None:
            refusal = ledger.account_refusal(limits, now)
            if refusal is not None:
                raise _waits(refusal)
            ledger.registered(limits, now)

        self._change(directory, (), take)

    def costs(
        self, directory: str, orders: list[tuple[str, ...]], *, renewal: bool = False
    ) -> list[str]:
        """Describe what these orders, each a set of names, would take of the CA's limits.
        ``renewal``: the CA has issued for them before."""
        kind = OrderKind.RENEWAL if renewal else OrderKind.NEW
        with self._lock:
            every_name = tuple(name for names in orders for name in names)
            now, limits, ledger = self._seen(directory, every_name)
            every = [cost for names in orders for cost in costs(names, limits, kind)]
            said = [
                f"{cost}: {number} of {ledger.left(cost, now)} left ({cost.limit.count} in all)"
                for cost, number in collections.Counter(every).items()
                # A set of names that is really new is not worth a line.
                if cost.limit is not limits.names or ledger.left(cost, now) < cost.limit.count
            ]
            return said + list(ledger.foresee(orders, limits, now, kind))

    def must_wait(self, directory: str, names: tuple[str, ...], *, renewal: bool) -> bool:
        """Whether an order for these names would have to wait there."""
        kind = OrderKind.RENEWAL if renewal else OrderKind.NEW
        with self._lock:
            now, limits, ledger = self._seen(directory, names)
            return any(ledger.foresee([names], limits, now, kind))

    # For `LedgerReservation`

    def reserve(
        self,
        directory: str,
        names: tuple[str, ...],
        kind: OrderKind,
        before: tuple[Cost, ...],
        force: bool,
        claim: Claim,
        gives_back: bool,
    ) -> tuple[Cost, ...]:
        """Take what the order costs and return it; ``before``: what an earlier try of it has
        taken. ``gives_back``: return what an order for this certificate has taken whose process was
        killed."""
        take = self._taking(names, kind, before, force, claim.certificate, gives_back)
        return self._change(directory, names, take, claim)

    @staticmethod
    def _taking(
        names: tuple[str, ...],
        kind: OrderKind,
        before: tuple[Cost, ...],
        force: bool,
        certificate: str,
        gives_back: bool,
    ) -> Callable[[float, Limits, Buckets], tuple[Cost, ...]]:
        def take(now: float, limits: Limits, ledger: Buckets) -> tuple[Cost, ...]:
            if gives_back:
                ledger.give_back(_of_certificates(ledger.taken_for(certificate, limits, now) or ()))
                ledger.end(certificate)
            ledger.give_back(before)
            refusal = ledger.refusal(names, limits, now, kind)
            if refusal is not None and not force:
                raise _waits(refusal)
            if refusal is not None:
                log.warning("%s: ordered all the same: %s", names[0], refusal.why)
            taken = (*costs(names, limits, kind), *failures(names, limits))
            ledger.spend(taken, now)
            if certificate:
                ledger.begin(certificate, taken, now)
            return taken

        return take

    def beside_note(self, directory: str, claim: Claim) -> tuple[Edit, ...]:
        """Return what is to be written in one step with the note of an order: from then on, what it
        has taken is not given back because there is no note."""
        return ()

    def is_counted_alone(self, directory: str, names: tuple[str, ...], claim: Claim) -> bool:
        """Whether other machines should know of what an order has taken, and do not."""
        return False

    def taken(
        self, directory: str, names: tuple[str, ...], kind: OrderKind, claim: Claim
    ) -> tuple[Cost, ...]:
        """Return the tokens of an order that was placed before. Where an attempt for it came to an
        end, or this is not told, those of failed validations are left out: they may have been given
        back."""
        with self._lock:
            now, limits, ledger = self._seen(directory, names)
            told = ledger.taken_for(claim.certificate, limits, now)
        return costs(names, limits, kind) if told is None else told

    def end(
        self, directory: str, names: tuple[str, ...], claim: Claim, several: tuple[Cost, ...]
    ) -> None:
        """An order that was placed before is under way no more: give back these tokens."""

        def end(_now: float, _limits: Limits, ledger: Buckets) -> None:
            ledger.give_back(several)
            ledger.end(claim.certificate)

        self._change(directory, names, end, claim)

    def commit(
        self,
        directory: str,
        names: tuple[str, ...],
        give_back: tuple[Cost, ...],
        problem: IssuanceError | None,
        claim: Claim = NOBODYS,
    ) -> None:
        """An order has ended: give back its tokens, and keep what the CA has said."""

        def end(now: float, limits: Limits, ledger: Buckets) -> None:
            ledger.give_back(give_back)
            ledger.end(claim.certificate)
            if problem is None:
                ledger.served(names)
            elif problem.kind == "rate_limited" and problem.not_before is not None:
                ledger.told(problem.text, problem.not_before, names, limits, now)
            elif problem.kind == "unavailable" and problem.not_before is not None:
                ledger.told_to_leave_alone(problem.text, problem.not_before, now)

        self._change(directory, names, end, claim)

    # Memory and disk

    def _change(
        self,
        directory: str,
        names: tuple[str, ...],
        change: Callable[[float, Limits, Buckets], T],
        claim: Claim = NOBODYS,
    ) -> T:
        """Change what is counted for an order for these names, while nobody else does."""
        with self._changing(directory) as (now, limits, ledger):
            return change(now, limits, ledger)

    def _seen(self, directory: str, names: tuple[str, ...]) -> tuple[float, Limits, Buckets]:
        """Return the time, the limits, and what is counted for orders for these names."""
        return self._open(directory)

    @contextlib.contextmanager
    def _changing(self, directory: str) -> Iterator[tuple[float, Limits, Buckets]]:
        """Inside, nobody else changes the ledger; it is written afterwards, whatever happens."""
        with self._lock, self._locked(directory):
            now, limits, ledger = self._open(directory)
            try:
                yield now, limits, ledger
            finally:
                self._keep(directory, ledger)

    @contextlib.contextmanager
    def _locked(self, directory: str) -> Iterator[None]:
        """Hold the folder's lock, if it can be had."""
        lock, deadline = None, time.monotonic() + _LOCKED_WITHIN
        with contextlib.suppress(OSError):  # told when the ledger cannot be written
            while (lock := self._store.lock(folder_of(directory), _LOCK_LASTS)) is None:
                if time.monotonic() > deadline:
                    log.warning("the ledger for %s is locked by another process", directory)
                    break
                time.sleep(_TRY_AGAIN)  # a lock that is let go tells nobody
        try:
            yield
        finally:
            if lock is not None:
                with contextlib.suppress(OSError):  # a lease ends by itself
                    lock.release()

    def _open(self, directory: str) -> tuple[float, Limits, Buckets]:
        """The ledger as it is now: what is in memory, unless another process has written since."""
        now, limits = self._now(), self._limits(directory)
        ledger, journal = self._kept.get(directory), self._journal(directory)
        try:
            if ledger is None or not journal.is_current():
                ledger = self._kept[directory] = Buckets.of_document(journal.read())
        except OSError as error:
            log.warning("the ledger for %s cannot be read: %s", directory, error)
            if ledger is None:
                ledger = self._kept[directory] = Buckets()
        if ledger.advance(limits, now):
            log.warning("the clock was set back; the ledger for %s goes with it", directory)
        return now, limits, ledger

    def _journal(self, directory: str) -> Journal:
        journal = self._journals.get(directory)
        if journal is None:
            journal = Journal(self._store, folder_of(directory), FILE, VERSION)
            self._journals[directory] = journal
        return journal

    def _keep(self, directory: str, ledger: Buckets) -> None:
        """Write what has changed, unless nothing but the time has."""
        changes = ledger.take_changes()
        if not changes:
            return
        try:
            self._journal(directory).write({"at": ledger.at, **changes}, ledger.document)
        except OSError as error:
            log.warning("the ledger for %s cannot be written: %s", directory, error)


class LedgerReservation:
    """`order.Reservation` for one order; used by the one thread that has it made."""

    def __init__(
        self,
        ledger: Ledger,
        directory: str,
        names: tuple[str, ...],
        renewal: bool,
        force: bool,
        claim: Claim,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._names = names
        self._kind = OrderKind.RENEWAL if renewal else OrderKind.NEW
        self._force = force
        self._claim = claim
        self._taken: tuple[Cost, ...] = ()
        self._reserved = False
        self._may_be_issued = False
        self._may_be_taken_up = False
        self._gives_back = False

    @property
    def is_taken(self) -> bool:
        """Whether an order is under way that counts."""
        return self._reserved

    @property
    def is_out(self) -> bool:
        """Whether an order is under way for which the CA may issue."""
        return self._reserved and self._may_be_issued

    def nothing_was_sent(self) -> None:
        """The attempt before, if it was killed, has had no CSR to send: no certificate came of what
        it has taken."""
        self._gives_back = True

    def beside_note(self) -> tuple[Edit, ...]:
        """Return what is to be written in one step with the note of the order."""
        return self._ledger.beside_note(self._directory, self._claim)

    @property
    def is_counted_alone(self) -> bool:
        """Whether other machines should know of what the order has taken, and do not."""
        return self._ledger.is_counted_alone(self._directory, self._names, self._claim)

    def cannot_be_taken_up(self) -> None:
        """Nobody can go on with this order if the process is killed, and it may lead to a
        certificate."""
        self._ledger.end(self._directory, self._names, self._claim, ())

    def may_be_taken_up(self) -> None:
        """The note of this order stays, or may stay, though its attempt has failed: the next one
        goes on with it, and with what it has taken."""
        self._may_be_taken_up = True

    def reserve(self, *, exempt: bool) -> None:
        """Before an order is placed, each time. Raises `IssuanceError` ("limits")."""
        kind = OrderKind.EXEMPT if exempt else self._kind
        before = _of_certificates(self._taken)
        self._taken = ()
        self._reserved = True
        gives_back, self._gives_back = self._gives_back, False
        self._taken = self._ledger.reserve(
            self._directory, self._names, kind, before, self._force, self._claim, gives_back
        )

    def finalizing(self) -> None:
        """The CSR is on its way: from now on, the CA may issue."""
        self._may_be_issued = True

    def take_up(self, order: UnfinishedOrder, *, is_issuing: bool) -> None:
        """Go on with an order that was placed before. What it costs is taken: its attempt was
        killed, or has failed when the CA had the CSR."""
        self._taken = self._of_unfinished(order)
        self._reserved = True
        self._may_be_issued = is_issuing

    def come_to_nothing(self, order: UnfinishedOrder) -> None:
        """Give back what the certificate would have cost. Why the CA has given the order up is not
        known: most likely a validation has failed, so that these are counted still."""
        given = [
            cost
            for cost in _of_certificates(self._of_unfinished(order))
            if not cost.key.startswith(failures_key(""))
        ]
        self._ledger.end(self._directory, self._names, self._claim, tuple(given))

    def _of_unfinished(self, order: UnfinishedOrder) -> tuple[Cost, ...]:
        if order.counted_alone:  # what is given back now would be other orders'
            return ()
        kind = OrderKind.EXEMPT if order.replaces is not None else self._kind
        return self._ledger.taken(self._directory, self._names, kind, self._claim)

    def commit(self, problem: IssuanceError | None) -> None:
        """The order has come to its end; ``problem``: without a certificate."""
        if problem is None and not self._reserved:  # the built-in CA counts nothing
            return
        give_back = tuple(cost for cost in self._taken if not self._is_spent(cost, problem))
        claim = self._claim if self._reserved else NOBODYS
        if self._may_be_taken_up:
            give_back, claim = (), NOBODYS
        if give_back or problem is None or problem.kind != "limits":
            self._ledger.commit(
                self._directory,
                self._names,
                give_back,
                problem,
                claim,
            )

    def _is_spent(self, cost: Cost, problem: IssuanceError | None) -> bool:
        if cost.key == "orders":
            return True
        if not cost.key.startswith(failures_key("")):
            return problem is None or self._may_be_issued
        if problem is None or self._may_be_issued:
            return False  # all names have been validated
        if problem.kind == "validation":
            return cost.key in map(failures_key, problem.names)
        return problem.kind in _UNSEEN


def _of_certificates(taken: tuple[Cost, ...]) -> tuple[Cost, ...]:
    """Leave out what counts when an order is placed, whatever comes of it."""
    return tuple(cost for cost in taken if cost.key != "orders")


def _waits(refusal: Refusal) -> IssuanceError:
    return IssuanceError(
        "limits",
        f"it waits until {moment(refusal.until)} rather than spend what the CA allows to the last "
        f"({refusal.why}); renew --force orders all the same",
        not_before=refusal.until,
    )


def folder_of(directory: str) -> str:
    host = folder_name(urlsplit(directory).hostname or "unknown")
    mark = hashlib.sha256(directory.encode()).hexdigest()[:8]
    return f"{_FOLDER}/{host}_{mark}"
