"""Writes imported certificates and accounts into the state directory; nothing else does.

It may run beside a server. It locks each folder as an attempt does, looks again, and changes the
folder in one step, so a certifier sees the old certificate or the new one. The record is the same
that an attempt would have written; an attempt that begins later finds the imported certificate.

A certificate is replaced only by one that covers more names, or as many for longer; an account only
if the operator asks for that. What OpenSSL does not load is not written.
"""

from __future__ import annotations

import random
from dataclasses import replace

from ..certificates import transitions
from ..certificates.record import Record
from ..certificates.repository import CertificateRepository
from ..errors import IssuanceError
from ..issuers import account_files
from ..issuers.account_files import ACCOUNT, KEY, NEXT_KEY
from ..late_dataclass import dataclass
from ..storage.store import Store
from ..text import timestamp
from ..x509 import loadable
from ..x509.verify import CertificateAndKey, verify_pair
from .findings import Account
from .selection import Place, better

# Seconds, for a few files. A certifier that wants the folder meanwhile waits a minute.
LEASE = 60.0
# The key of an account that was replaced: there is no other copy of it.
REPLACED = "key-replaced.pem"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one certificate or account. ``taken``: it was written; ``present``: the same, or
    a better one, was there already."""

    what: str
    said: str
    taken: bool = False
    present: bool = False


class Writer:
    """``now`` in Unix seconds. ``rehearsal``: do everything but write."""

    def __init__(
        self, store: Store, now: float, rng: random.Random, *, rehearsal: bool = False
    ) -> None:
        self._store = store
        self._repository = CertificateRepository(store)
        self._now = now
        self._rng = rng
        self._rehearsal = rehearsal

    # Certificates

    def certificate(self, place: Place) -> Outcome:
        name = place.names[0]
        if self._rehearsal:
            return self._certificate(place)
        lock = self._repository.lock(name, LEASE)
        if lock is None:
            return Outcome(name, "an attempt for it is under way; import again when it is over")
        try:
            return self._certificate(place)
        finally:
            lock.release()

    def _certificate(self, place: Place) -> Outcome:
        name = place.names[0]
        record, pair = self._repository.load(name)
        until = timestamp(place.facts.not_after)
        present = self._present(place, pair, record)
        if present is not None and not better(place, present):
            same = present.facts.serial == place.facts.serial
            until = timestamp(present.facts.not_after)
            said = "it is here already" if same else f"the one that is here is valid until {until}"
            return Outcome(name, said, present=True)
        why = loadable.fault(place.pair)
        if why is not None:
            return Outcome(name, f"OpenSSL does not take it: {why}")
        if not self._rehearsal:
            self._repository.keep_pair(name, place.pair)
            self._repository.keep_record(
                name,
                transitions.on_imported(record, place.facts, place.directory, self._now, self._rng),
            )
        lacking = [one for one in place.names if not replace(place, names=(one,)).covered]
        said = f"valid until {until}, from {place.where}"
        if lacking:
            said += f"; without {', '.join(lacking)}, so another one will be ordered"
        return Outcome(name, said, taken=True)

    def _present(
        self, place: Place, pair: CertificateAndKey | None, record: Record
    ) -> Place | None:
        try:
            if pair is None:
                return None
            facts = verify_pair(pair, (), self._now)
        except IssuanceError:
            return None
        return Place(place.names, pair, facts, "", record.directory)

    # Accounts

    def account(self, account: Account, *, replacing: bool) -> Outcome:
        what = f"account with {account.directory}"
        where = account_files.folder(self._store, account.directory)
        if self._rehearsal:
            return self._account(account, what, where, replacing)
        lock = self._store.lock(where, LEASE)
        if lock is None:
            return Outcome(what, "the server is making one at this moment; import again")
        try:
            return self._account(account, what, where, replacing)
        finally:
            lock.release()

    def _account(self, account: Account, what: str, where: str, replacing: bool) -> Outcome:
        files = self._store.load(where)
        if files.get(KEY) == account.key_pem:
            return Outcome(what, "it is here already", present=True)
        if KEY in files and not replacing:
            said = "there is one already; --replace-account takes this one instead"
            return Outcome(what, said, present=True)
        if NEXT_KEY in files:
            said = "the one that is here is about to change its key; start the server once, first"
            return Outcome(what, said, present=True)
        if not self._rehearsal:
            self._keep(account, where, files.get(KEY))
        whose = f" ({', '.join(account.contact)})" if account.contact else ""
        return Outcome(what, f"{account.uri or 'its key'}{whose}, from {account.where}", taken=True)

    def _keep(self, account: Account, where: str, replaced: bytes | None) -> None:
        """Write the account in steps, after each of which the account can be found: a key without
        the account's URL is asked about at the CA; a URL with the key of another account would be
        refused."""
        if replaced is not None:
            self._store.store(where, {REPLACED: replaced})
        account_files.set_aside(self._store, where)
        self._store.delete(where, ACCOUNT)
        self._store.store(where, {KEY: account.key_pem})
        if account.uri is not None:
            contact = None if account.contact is None else list(account.contact)
            account_files.keep_document(self._store, where, account.directory, account.uri, contact)
