"""Keeps certificates: takes them from the store, has them served, writes them and their records.

Every method works on one certificate that nobody else works on meanwhile (see
`ManagedCertificate.task`), in a thread that may wait for the store and for the workers. None of
them asks a CA anything. A disk that fails is reported and never ends the process: what is in memory
goes on being served.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..certificates import ca_choice, recovery, transitions, wishes
from ..certificates.lifecycle import PAUSED, State
from ..certificates.managed import TELL_AGAIN, ManagedCertificate
from ..certificates.peers import Peers, no_peers
from ..certificates.record import Proof, Record, Revoked
from ..certificates.recovery import Found
from ..certificates.repository import CertificateRepository
from ..certificates.shared_repository import LOST, Busy
from ..errors import IssuanceError
from ..gathering import Gathering
from ..late_dataclass import dataclass
from ..link import INTERNAL, PUBLISHED_AT_ONCE, PUBLISHED_TOGETHER, Dns, Link, Served
from ..names import covers
from ..storage.store import Unreachable
from ..text import spell, timestamp
from ..x509.verify import CertificateAndKey, in_its_dates

log = logging.getLogger("treehouse.certifier")

_NAMED = 3  # names in a line of the log about many
# Seconds: how long a request waits for another machine, and how often it tries.
_REQUEST_WAITS = 30.0
_TRIED_EVERY = 0.2


@dataclass(slots=True)
class _New:
    """A new certificate that workers are told of, and what they said."""

    served: Served
    acknowledged: bool = False
    refusal: str | None = None


class CertificateKeeper:
    """``now`` gives Unix seconds; ``dns`` is how records are set, which is part of what a failed
    attempt was made with; ``tells_each``: the log has a line for each certificate at hand;
    ``peers``: machines that have the same certificates."""

    def __init__(
        self,
        repository: CertificateRepository,
        link: Link,
        now: Callable[[], float],
        rng: random.Random,
        dns: Dns | None = None,
        *,
        tells_each: bool = True,
        peers: Peers | None = None,
    ) -> None:
        self._repository = repository
        self._peers = peers or no_peers()
        self._link = link
        self._now = now
        self._rng = rng
        self._dns = dns or Dns()
        self._tells_each = tells_each
        self._unservable: dict[str, str] = {}  # what was logged last, by name
        self._publishing = Gathering(
            self._publish_new, most=PUBLISHED_TOGETHER, at_once=PUBLISHED_AT_ONCE
        )

    # What is in the store

    def load(self, managed: ManagedCertificate) -> None:
        """Look for the first time."""
        try:
            self.look(managed)
        except OSError as error:
            log.error("%s: the state directory cannot be read: %s", managed.name, error)
        if managed.facts is not None:
            if self._tells_each:
                log.info(
                    "%s: certificate at hand, valid %s, renews about %s",
                    managed.name,
                    spell(managed.facts.not_after - self._now()),
                    timestamp(managed.record.renew_at),
                )
        else:  # those at hand are reported when they are served
            self.report(managed)

    def reread(self, managed: ManagedCertificate) -> None:
        """Look again: the folder has changed, by ourselves or by somebody who knew better."""
        serial = managed.serial
        kept = managed.record
        try:
            if self._peers.are_shared:
                self._catch_up(managed)
                return
            _record, pair = self._repository.load(managed.name)
            if pair is None or pair == managed.pair:
                return
            self.look(managed)
        except OSError as error:
            managed.record = kept
            log.warning("%s: cannot be read: %s", managed.name, error)
            return
        if managed.facts is not None and managed.facts.serial != serial:
            log.info("%s: another certificate was put on disk", managed.name)
            self.report(managed)

    def _catch_up(self, managed: ManagedCertificate) -> None:
        """Take what other machines have written: the certificate, and its record."""
        before, serial = managed.record, managed.serial
        is_ahead = False
        with contextlib.suppress(Unreachable):
            is_ahead = self._repository.refresh(managed.name)
        self.look(managed)
        if is_ahead and managed.facts is not None:
            managed.record = replace(managed.record, unshared=True)  # until it is shared
        if managed.facts is not None and managed.facts.serial != serial:
            log.info("%s: another machine has obtained the certificate", managed.name)
        if managed.record != before:
            self.report(managed)

    def recheck(self, managed: ManagedCertificate) -> None:
        """Where the certificate before is served because of the clock, and the clock has been set
        right since: take the certificate that it stands in for."""
        if not managed.is_fallback:
            return
        try:
            if self.usable(managed, self._repository.load_pair(managed.name)) is not None:
                log.info("%s: in its dates again by this clock, and served", managed.name)
                self.look(managed)
                self.report(managed)
        except OSError as error:
            log.warning("%s: cannot be read: %s", managed.name, error)

    def look(self, managed: ManagedCertificate) -> None:
        """Take from the repository what is there: the certificate if it may be served, or the one
        before it, and the record."""
        kept, pair = self._repository.load(managed.name)
        now, names = self._now(), managed.wanted.names
        found = recovery.find(
            self._repository, managed.name, names, pair, now, kept.serial, kept.proof
        )
        if found is None:
            managed.pair = managed.facts = None
            managed.is_fallback = False
            record = transitions.on_lost(self._after_interruption(kept, now))
        else:
            self.hold(managed, found)
            facts, record = found.facts, kept
            if kept.state is State.ISSUING and not self._peers.are_shared:
                self._erase_finished_order(managed)
            if facts.serial == record.serial:
                record = self._after_interruption(record, now)
            directory = record.directory or managed.wanted.authority.directory
            record = transitions.on_found(
                record, facts, source_of(directory), directory, now, self._rng
            )
            covered = all(covers(facts.names, name) for name in names)
            if not covered and not self._peers.are_shared:
                record = transitions.on_names_missing(record)
            elif facts.not_after <= now:
                record = transitions.on_expired(record)
        if self._peers.are_shared:
            self._take_over(managed, record, kept)
            return
        changed = (
            record.names not in ((), names)
            or record.key_type not in (None, managed.wanted.key_type)
            or ca_choice.other_terms(managed.wanted, record)
        )
        if record.terms is None and managed.facts is not None:
            # By an earlier version: from here on a change is noticed.
            issuer = ca_choice.issued_by(managed.wanted, record)
            record = replace(record, terms=ca_choice.terms(issuer) if issuer else None)
        if changed or not ca_choice.serves(managed.wanted, record):
            record = transitions.on_requested(record)
        elif record.state in PAUSED:
            record = transitions.on_reconfigured(record, self.fingerprint(managed))
        managed.record = record
        if record.renew_at != kept.renew_at:  # drawn just now, once and for all
            self.keep_record(managed)

    def revoke_order(self, managed: ManagedCertificate) -> None:
        try:
            self._repository.revoke_order(managed.name)
        except OSError as error:
            log.warning("%s: the note about its order stays: %s", managed.name, words(error))

    def _erase_finished_order(self, managed: ManagedCertificate) -> None:
        """Forget the order of an attempt that was killed when the certificate was on disk."""
        with contextlib.suppress(OSError):
            order = self._repository.unfinished_order(managed.name)
            if order is not None and managed.pair and managed.pair.key_pem == order.key_pem:
                self._repository.erase_order(managed.name)

    def _after_interruption(self, record: Record, now: float) -> Record:
        """Lead out of an attempt that this process knows nothing of: the process before made it, or
        another machine makes it."""
        if self._peers.are_shared and record.tried_by != self._peers.node:
            return transitions.on_heard(record)
        return transitions.on_start(record, now)

    def _take_over(self, managed: ManagedCertificate, record: Record, kept: Record) -> None:
        """Take over the record of several machines. That this one wants another certificate is not
        written there."""
        facts = managed.facts
        managed.satisfies = facts is None or wishes.satisfied(managed.wanted, record, facts)
        asked = managed.record
        if (asked.serial, asked.window) == (record.serial, record.window):
            # Asked since, and told nothing new, which is not written down.
            record = replace(record, ask_at=max(asked.ask_at or 0.0, record.ask_at or 0.0) or None)
        if record.state in PAUSED and record.tried_by == self._peers.node:
            record = transitions.on_reconfigured(record, self.fingerprint(managed))
        if record.revoked == Revoked(self._peers.node, managed.serial):
            managed.revoked = managed.serial  # before this process was started, perhaps
        if managed.by_hand and asked.serial == record.serial:
            # A person waits for another one, of which nothing is written yet.
            record = transitions.on_requested(record)
        elif managed.by_hand:
            managed.by_hand = managed.force = False  # another machine has obtained it
        elif managed.is_revoked and record.state is State.FRESH:
            # The others could not be told.
            record = transitions.on_revoked(record, self._peers.node)
        managed.record = record
        managed.under_way = (
            kept.tried_by or ""
            if kept.state is State.ISSUING and kept.tried_by != self._peers.node
            else ""
        )
        if kept.renew_at is None and record.renew_at is not None:
            self.keep_record(managed)

    def hold(self, managed: ManagedCertificate, found: Found) -> None:
        if managed.facts is None or managed.facts.serial != found.facts.serial:
            managed.served = False
        managed.pair, managed.facts, managed.is_fallback = (
            found.pair,
            found.facts,
            found.is_fallback,
        )

    def put_back(self, managed: ManagedCertificate, before: Found | None) -> None:
        """Take back a certificate that cannot be served. The workers serve the one before it still,
        or nothing, if there was none."""
        managed.pair = managed.facts = None
        managed.is_fallback = False
        if before is not None:
            self.hold(managed, before)
            managed.served = True
            self.keep_pair(managed)
            return
        try:
            self._repository.discard_pair(managed.name)
        except OSError as error:
            log.warning("%s: its files cannot be taken away: %s", managed.name, words(error))

    def usable(self, managed: ManagedCertificate, pair: CertificateAndKey | None) -> Found | None:
        """What may be served of a pair that was just read; None if nothing."""
        if pair is None:
            return None
        try:
            found = recovery.examined(pair, managed.wanted.names)
        except IssuanceError:
            return None
        return found if in_its_dates(found.facts, self._now()) else None

    def fingerprint(self, managed: ManagedCertificate) -> str:
        return ca_choice.fingerprint(managed.wanted, self._dns)

    # What goes out

    def serve_again(self, several: Sequence[ManagedCertificate]) -> None:
        """Have all workers serve certificates from the store, sent together. A refusal is logged,
        because nobody waits for the outcome."""
        taken = self._link.publish([one.as_served() for one in several], new=False)
        for managed in several:
            refusal = taken.refusals.get(managed.name)
            managed.served = taken.acknowledged and refusal is None
            if not managed.served:
                managed.republish_at = self._now() + TELL_AGAIN
            if refusal is None:
                self._unservable.pop(managed.name, None)
            elif self._unservable.get(managed.name) != refusal:
                self._unservable[managed.name] = refusal
                log.error("%s: %s", managed.name, _unservable(refusal))
        if not taken.acknowledged:
            names = ", ".join(one.name for one in several[:_NAMED])
            more = f" and {len(several) - _NAMED} others" if len(several) > _NAMED else ""
            log.warning("%s%s: not all workers have taken the certificates yet", names, more)

    def serve(self, managed: ManagedCertificate) -> None:
        """Have all workers serve a new certificate. Raises `IssuanceError` when a worker cannot."""
        new = _New(managed.as_served())
        self._publishing.do(new)
        if new.refusal is not None:
            managed.served = False
            raise IssuanceError("unproven", _unservable(new.refusal))
        managed.served = new.acknowledged
        if not managed.served:
            managed.republish_at = self._now() + TELL_AGAIN
            log.warning("%s: not all workers have taken the certificate yet", managed.name)

    def _publish_new(self, several: list[_New]) -> None:
        taken = self._link.publish([one.served for one in several], new=True)
        for one in several:
            one.acknowledged = taken.acknowledged
            one.refusal = taken.refusals.get(one.served.name)

    def report(self, managed: ManagedCertificate) -> None:
        self._link.report(managed.name, managed.status())

    def keep_record(self, managed: ManagedCertificate) -> bool:
        """On disk if the disk takes it; what is not there is only forgotten at the next start."""
        try:
            self._write(managed)
        except LOST as fault:
            log.debug("%s: its record is another machine's: %s", managed.name, words(fault))
            return False
        except OSError as error:
            log.warning("%s: its record cannot be written: %s", managed.name, words(error))
            return False
        return True

    def keep_request(self, managed: ManagedCertificate) -> None:
        """Do as `keep_record` with the record of a certificate after which another one was asked
        for. Wait for a machine that is at work on the record: what it writes would undo the
        request."""
        deadline = time.monotonic() + _REQUEST_WAITS
        while time.monotonic() < deadline:
            try:
                self._write(managed)
            except Busy:
                time.sleep(_TRIED_EVERY)
            except OSError:
                break
            else:
                return
        self.keep_record(managed)

    def _write(self, managed: ManagedCertificate) -> None:
        self.prove(managed)
        self._repository.keep_record(managed.name, managed.record)

    def prove(self, managed: ManagedCertificate) -> None:
        """Note in the record that the certificate has been examined."""
        if managed.pair is not None and managed.facts is not None:
            proof = Proof.of(managed.pair, managed.facts)
            if proof != managed.record.proof:
                managed.record = replace(managed.record, proof=proof)

    def keep_pair(self, managed: ManagedCertificate) -> None:
        if managed.pair is None:
            return
        try:
            self._repository.keep_pair(managed.name, managed.pair)
            if not managed.saved:  # the note about its order has had to stay
                self._repository.erase_order(managed.name)
            managed.saved = True
        except OSError as error:
            self.not_saved(managed, error)

    def not_saved(self, managed: ManagedCertificate, error: OSError) -> None:
        """The disk has not taken the certificate."""
        if managed.saved:
            log.error(
                "%s: the certificate cannot be written (%s); it is served from memory and "
                "lost at the next start unless the disk takes it before",
                managed.name,
                words(error),
            )
        managed.saved = False


def _unservable(refusal: str) -> str:
    return f"the certificate cannot be served: {refusal}"


def words(error: OSError) -> str:
    return error.strerror or str(error)


def source_of(directory: str) -> str:
    return "internal" if directory == INTERNAL else "acme"
