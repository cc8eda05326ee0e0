"""The one place that writes what was brought along: into certificates/ and accounts/.

It may run beside a server. Each folder is locked as by an attempt, looked at again, and changed in
one step, so a certifier sees the old certificate or the new one. The record says what an attempt
would have said; one that is about to begin finds a certificate that somebody else has obtained.

Nothing better is replaced: a certificate only by one that covers more names, or as many for longer;
an account never, unless that is asked for.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from ..certificates import transitions
from ..certificates.record import Record
from ..certificates.repository import Shelf
from ..certificates.verify import Pair, prove
from ..errors import Problem
from ..issuers import account_files
from ..issuers.account_files import ACCOUNT, KEY, NEXT_KEY
from ..storage.store import Store
from ..timestamps import timestamp
from .findings import Account
from .selection import Place, better

# For a few files; a certifier that comes meanwhile waits a minute, as for any other.
LEASE = 60.0
# The key of an account that had to make way: nobody else has it.
REPLACED = "key-replaced.pem"


@dataclass(frozen=True, slots=True)
class Arrived:
    """What has become of one thing. ``taken``: it is in; ``present``: it, or better, was."""

    what: str
    said: str
    taken: bool = False
    present: bool = False


class Arrival:
    """``rehearsal``: everything but the writing."""

    def __init__(
        self, store: Store, now: float, dice: random.Random, *, rehearsal: bool = False
    ) -> None:
        self._store = store
        self._shelf = Shelf(store)
        self._now = now
        self._dice = dice
        self._rehearsal = rehearsal

    # Certificates

    def certificate(self, place: Place) -> Arrived:
        name = place.names[0]
        if self._rehearsal:
            return self._certificate(place)
        lock = self._shelf.lock(name, LEASE)
        if lock is None:
            return Arrived(name, "an attempt for it is under way; import again when it is over")
        try:
            return self._certificate(place)
        finally:
            lock.release()

    def _certificate(self, place: Place) -> Arrived:
        name = place.names[0]
        record, pair = self._shelf.load(name)
        until = timestamp(place.facts.not_after)
        present = self._present(place, pair, record)
        if present is not None and not better(place, present):
            same = present.facts.serial == place.facts.serial
            until = timestamp(present.facts.not_after)
            said = "it is here already" if same else f"the one that is here is valid until {until}"
            return Arrived(name, said, present=True)
        if not self._rehearsal:
            self._shelf.keep_pair(name, place.pair)
            self._shelf.keep_record(
                name,
                transitions.brought(record, place.facts, place.directory, self._now, self._dice),
            )
        lacking = [one for one in place.names if not replace(place, names=(one,)).covered]
        said = f"valid until {until}, from {place.where}"
        if lacking:
            said += f"; without {', '.join(lacking)}, so another one will be ordered"
        return Arrived(name, said, taken=True)

    def _present(self, place: Place, pair: Pair | None, record: Record) -> Place | None:
        try:
            if pair is None:
                return None
            facts = prove(pair, (), self._now)
        except Problem:
            return None
        return Place(place.names, pair, facts, "", record.directory)

    # Accounts

    def account(self, account: Account, *, replacing: bool) -> Arrived:
        what = f"account with {account.directory}"
        where = account_files.folder(self._store, account.directory)
        if self._rehearsal:
            return self._account(account, what, where, replacing)
        lock = self._store.lock(where, LEASE)
        if lock is None:
            return Arrived(what, "the server is making one at this moment; import again")
        try:
            return self._account(account, what, where, replacing)
        finally:
            lock.release()

    def _account(self, account: Account, what: str, where: str, replacing: bool) -> Arrived:
        files = self._store.load(where)
        if files.get(KEY) == account.key_pem:
            return Arrived(what, "it is here already", present=True)
        if KEY in files and not replacing:
            said = "there is one already; --replace-account takes this one instead"
            return Arrived(what, said, present=True)
        if NEXT_KEY in files:
            said = "the one that is here is about to change its key; start the server once, first"
            return Arrived(what, said, present=True)
        if not self._rehearsal:
            self._keep(account, where, files.get(KEY))
        whose = f" ({', '.join(account.contact)})" if account.contact else ""
        return Arrived(what, f"{account.uri or 'its key'}{whose}, from {account.where}", taken=True)

    def _keep(self, account: Account, where: str, replaced: bytes | None) -> None:
        """In steps after each of which the CA knows whose key it is: a key without its address
        is asked about, an address with another one's key would be refused."""
        if replaced is not None:
            self._store.store(where, {REPLACED: replaced})
        account_files.set_aside(self._store, where)
        self._store.delete(where, ACCOUNT)
        self._store.store(where, {KEY: account.key_pem})
        if account.uri is not None:
            contact = None if account.contact is None else list(account.contact)
            account_files.keep_document(self._store, where, account.directory, account.uri, contact)
