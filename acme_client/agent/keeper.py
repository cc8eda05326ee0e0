"""Keeps certificates: takes them from the store, has them served, writes them and their records.

Every method works on one certificate that nobody else works on meanwhile (see `Managed.task`), in a
thread that may wait for the store and for the workers. None of them asks a CA anything. A disk that
fails is reported and never ends the process: what is in memory goes on being served.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace

from ..certificates import ca_choice, recovery, transitions
from ..certificates.lifecycle import PAUSED
from ..certificates.managed import TELL_AGAIN, Holding
from ..certificates.recovery import Found
from ..certificates.repository import Shelf
from ..errors import IssuanceError
from ..link import INTERNAL, Dns, Link
from ..names import covers
from ..text import spell, timestamp
from ..x509.verify import CertificateAndKey, in_its_dates

log = logging.getLogger("treehouse.certifier")


class CertificateKeeper:
    """``now`` gives Unix seconds; ``dns`` is how records are set, which is part of what a failed
    attempt was made with."""

    def __init__(
        self,
        shelf: Shelf,
        link: Link,
        now: Callable[[], float],
        dice: random.Random,
        dns: Dns | None = None,
    ) -> None:
        self._shelf = shelf
        self._link = link
        self._now = now
        self._dice = dice
        self._dns = dns or Dns()
        self._unservable: dict[str, str] = {}  # what was logged last, by name

    # What is in the store

    def load(self, holding: Holding) -> None:
        """Look for the first time."""
        try:
            self.look(holding)
        except OSError as error:
            log.error("%s: the state directory cannot be read: %s", holding.name, error)
        if holding.facts is not None:
            log.info(
                "%s: certificate at hand, valid %s, renews about %s",
                holding.name,
                spell(holding.facts.not_after - self._now()),
                timestamp(holding.record.renew_at),
            )
        self.report(holding)

    def reread(self, holding: Holding) -> None:
        """Look again: the folder has changed, by ourselves or by somebody who knew better."""
        serial = holding.facts.serial if holding.facts else None
        kept = holding.record
        try:
            _record, pair = self._shelf.load(holding.name)
            if pair is None or pair == holding.pair:
                return
            self.look(holding)
        except OSError as error:
            holding.record = kept
            log.warning("%s: cannot be read: %s", holding.name, error)
            return
        if holding.facts is not None and holding.facts.serial != serial:
            log.info("%s: another certificate was put on disk", holding.name)
            self.report(holding)

    def recheck(self, holding: Holding) -> None:
        """Where the certificate before is served because of the clock, and the clock has been set
        right since: take the certificate that it stands in for."""
        if not holding.stands_in:
            return
        try:
            if self.usable(holding, self._shelf.load_pair(holding.name)) is not None:
                log.info("%s: in its dates again by this clock, and served", holding.name)
                self.look(holding)
                self.report(holding)
        except OSError as error:
            log.warning("%s: cannot be read: %s", holding.name, error)

    def look(self, holding: Holding) -> None:
        """Take from the shelf what is there: the certificate if it may be served, or the one
        before it, and the record."""
        kept, pair = self._shelf.load(holding.name)
        now, names = self._now(), holding.wanted.names
        found = recovery.find(self._shelf, holding.name, names, pair, now, kept.serial)
        if found is None:
            holding.pair = holding.facts = None
            holding.stands_in = False
            record = transitions.gone(transitions.recovered(kept, now))
        else:
            self.hold(holding, found)
            facts, record = found.facts, kept
            if facts.serial == record.serial:
                record = transitions.recovered(record, now)
            directory = record.directory or holding.wanted.authority.directory
            record = transitions.found(
                record, facts, source_of(directory), directory, now, self._dice
            )
            if not all(covers(facts.names, name) for name in names):
                record = transitions.not_enough(record)
            elif facts.not_after <= now:
                record = transitions.lost(record)
        changed = (
            record.names not in ((), names)
            or record.key_type not in (None, holding.wanted.key_type)
            or ca_choice.other_terms(holding.wanted, record)
        )
        if record.terms is None and holding.facts is not None:
            # By an earlier version: from here on a change is noticed.
            issuer = ca_choice.issued_by(holding.wanted, record)
            record = replace(record, terms=ca_choice.terms(issuer) if issuer else None)
        if changed or not ca_choice.serves(holding.wanted, record):
            record = transitions.asked(record)
        elif record.state in PAUSED:
            record = transitions.configured_anew(record, self.fingerprint(holding))
        holding.record = record
        if record.renew_at != kept.renew_at:  # drawn just now, once and for all
            self.keep_record(holding)

    def _fingerprint(self, holding: Holding) -> str:
        return ca_choice.fingerprint(holding.wanted, self._dns)

    def hold(self, holding: Holding, found: Found) -> None:
        if holding.facts is None or holding.facts.serial != found.facts.serial:
            holding.served = False
        holding.pair, holding.facts, holding.stands_in = found.pair, found.facts, found.stands_in

    def put_back(self, holding: Holding, before: Found | None) -> None:
        """Take back a certificate that cannot be served. The workers serve the one before it still,
        or nothing, if there was none."""
        holding.pair = holding.facts = None
        holding.stands_in = False
        if before is not None:
            self.hold(holding, before)
            holding.served = True
            self.keep_pair(holding)
            return
        try:
            self._shelf.discard_pair(holding.name)
        except OSError as error:
            log.warning("%s: its files cannot be taken away: %s", holding.name, words(error))

    def usable(self, holding: Holding, pair: CertificateAndKey | None) -> Found | None:
        """What may be served of a pair that was just read; None if nothing."""
        if pair is None:
            return None
        try:
            found = recovery.examined(pair, holding.wanted.names)
        except IssuanceError:
            return None
        return found if in_its_dates(found.facts, self._now()) else None

    def fingerprint(self, holding: Holding) -> str:
        return ca_choice.fingerprint(holding.wanted, self._dns)

    # What goes out

    def serve_or_log(self, holding: Holding) -> None:
        """The same for a certificate from the store, where nobody waits for the outcome."""
        try:
            self.serve(holding)
        except IssuanceError as problem:
            holding.tell_at = self._now() + TELL_AGAIN
            if self._unservable.get(holding.name) != problem.text:
                self._unservable[holding.name] = problem.text
                log.error("%s: %s", holding.name, problem.text)
        else:
            self._unservable.pop(holding.name, None)

    def serve(self, holding: Holding) -> None:
        """Have the certificate at hand served by all workers. Raises `IssuanceError` when one
        cannot."""
        holding.served = self._link.publish(holding.as_served())
        if not holding.served:
            holding.tell_at = self._now() + TELL_AGAIN
            log.warning("%s: not all workers have taken the certificate yet", holding.name)

    def report(self, holding: Holding) -> None:
        self._link.report(holding.name, holding.status())

    def keep_record(self, holding: Holding) -> bool:
        """On disk if the disk takes it; what is not there is only forgotten at the next start."""
        try:
            self._shelf.keep_record(holding.name, holding.record)
        except OSError as error:
            log.warning("%s: its record cannot be written: %s", holding.name, words(error))
            return False
        return True

    def keep_pair(self, holding: Holding) -> None:
        if holding.pair is None:
            return
        try:
            self._shelf.keep_pair(holding.name, holding.pair)
            holding.saved = True
        except OSError as error:
            if holding.saved:
                log.error(
                    "%s: the certificate cannot be written (%s); it is served from memory and "
                    "lost at the next start unless the disk takes it before",
                    holding.name,
                    words(error),
                )
            holding.saved = False


def words(error: OSError) -> str:
    return error.strerror or str(error)


def source_of(directory: str) -> str:
    return "internal" if directory == INTERNAL else "acme"
