"""The note of one attempt about its order (`certificates.unfinished_order`), and when it goes.

Here it is decided whether an order that was left may be gone on with, whether the certificate that
it has led to is of use still, and when the note goes:

- with the certificate on disk;
- when the attempt fails before the CSR is sent: nothing is lost with such an order, and the ledger
  has its tokens back;
- when the CA has refused, or the order can come to no good end;
- when going on with it has failed so often that another order is the better way.

So a note that is there means that the ledger still has what the order costs: its attempt was
killed, or nobody knows what the CA has made of the CSR. And where there is none, no CSR was sent:
if an attempt was killed, the ledger gets its tokens back.

Of several machines another one may be the next. So nothing is proven before all can read the note:
an attempt that cannot tell the others of its order ends there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from ..certificates import renewal
from ..certificates.managed import ManagedCertificate
from ..certificates.repository import CertificateRepository
from ..certificates.shared_repository import LOST
from ..certificates.unfinished_order import UnfinishedOrder
from ..errors import IssuanceError
from ..rate_limits.ledger import LedgerReservation
from ..storage.insistence import insist
from ..storage.store import Unreachable
from ..text import timestamp
from ..x509.verify import CertificateAndKey, verified
from .keeper import words

log = logging.getLogger("treehouse.certifier")

# So often a CA may fail to bring an order that was taken up to its end. Then it is ordered anew:
# what is stuck there might stay so for as long as an order lives.
FAILURES_MOST = 3
# These kinds of problem say nothing about the order: the CA has not answered, or the fault is ours.
_UNANSWERED = frozenset({"unreachable", "stopped", "busy", "disk", "clock"})
# After these the order can come to no good end.
_HOPELESS = frozenset({"refused", "validation", "unproven"})
_NOT_FOUND = 404


class StoredNote:
    """An `issuers.interface.OrderNote`. ``directory`` is that of the CA that this attempt asks;
    ``anew``: whether a person wants another order, whatever there is; ``unwritten`` is told of a
    disk that does not take the note, and raises `IssuanceError` where nothing is to be ordered
    then. ``now`` gives Unix seconds."""

    def __init__(
        self,
        repository: CertificateRepository,
        managed: ManagedCertificate,
        directory: str,
        reservation: LedgerReservation,
        now: Callable[[], float],
        unwritten: Callable[[OSError], None],
        *,
        anew: bool = False,
    ) -> None:
        self._repository = repository
        self._managed = managed
        self._directory = directory
        self._reservation = reservation
        self._now = now
        self._unwritten = unwritten
        self._anew = anew
        self._order: UnfinishedOrder | None = None  # noted, and this attempt's

    @property
    def _name(self) -> str:
        return self._managed.name

    def read(self) -> UnfinishedOrder | None:
        try:
            found = self._repository.unfinished_order(self._name)
        except OSError as error:
            log.info("%s: no order is taken up again: %s", self._name, words(error))
            return None
        if found is None:
            self._reservation.nothing_was_sent()
            return None
        self._order = found
        why = self._mismatch(found)
        if why is None:
            return found
        self.refuse(why)
        return None

    def _mismatch(self, found: UnfinishedOrder) -> str | None:
        """Say why this attempt cannot go on with an order; empty: nothing is left of it to do."""
        managed, wanted = self._managed, self._managed.wanted
        if managed.pair is not None and managed.pair.key_pem == found.key_pem:
            return ""  # killed when the certificate was on disk already
        if self._anew:
            return "another one is asked for"
        if found.directory != self._directory:
            return f"it was placed with {found.directory}"
        if set(found.names) != set(wanted.names):
            return f"it was for {', '.join(found.names)}"
        if found.key_type != wanted.key_type:
            return f"it was for a key of type {found.key_type}"
        return None

    def refuse(self, why: str) -> None:
        if self._order is not None and why:
            log.info(
                "%s: the order of %s is not taken up again: %s",
                self._name, timestamp(self._order.placed_at), why,
            )  # fmt: skip
        self.erase()

    def write(self, order: UnfinishedOrder) -> None:
        self._order = replace(order, counted_alone=self._reservation.is_counted_alone)
        order, beside = self._order, self._reservation.beside_note()
        try:
            insist(lambda: self._repository.keep_order(self._name, order, beside))
        except LOST as fault:
            raise IssuanceError("busy", words(fault)) from None
        except Unreachable as fault:
            why = f"the other machines cannot be told of the order: {words(fault)}"
            raise IssuanceError("busy", why) from None
        except OSError as error:
            self._unwritten(error)
            self._reservation.cannot_be_taken_up()

    def objection(self, pair: CertificateAndKey) -> str:
        now, held = self._now(), self._managed.facts
        try:
            _pair, facts = verified(pair, self._managed.wanted.names, now)
        except IssuanceError as problem:
            return problem.text
        if held is not None and facts.not_before < held.not_before:
            return "the certificate in use is newer than the one that it has led to"
        if now >= renewal.first_moment(facts.not_before, facts.not_after):
            return "the certificate that it has led to is due for renewal already"
        return ""

    def failed(self, problem: IssuanceError) -> None:
        """The attempt has failed at the CA; called before its reservation is committed."""
        order, reservation = self._order, self._reservation
        if order is None:
            return
        if reservation.is_taken and not reservation.is_out:
            if not self.erase():  # nothing would be lost with it
                reservation.may_be_taken_up()
            return
        lost_on_the_way = problem.kind == "refused" and problem.status == _NOT_FOUND
        failures = order.failures + (problem.kind not in _UNANSWERED)
        if (problem.kind in _HOPELESS and not lost_on_the_way) or failures > FAILURES_MOST:
            self.erase()
            return
        if failures != order.failures:
            try:
                self._repository.keep_order(self._name, replace(order, failures=failures))
            except OSError as error:  # then the note is as it was
                log.debug("%s: its order cannot be noted: %s", self._name, words(error))

    def erase(self) -> bool:
        """Forget the order; returns whether the note is gone."""
        self._order = None
        try:
            self._repository.erase_order(self._name)
        except OSError as error:  # the next attempt finds it
            log.info("%s: the note about its order stays: %s", self._name, words(error))
            return False
        return True
