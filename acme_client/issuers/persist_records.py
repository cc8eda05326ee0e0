"""Finds out which records of dns-persist-01 our account at a CA needs, and which of them stand.

An operator sets these records once (that is what this kind of challenge is for). An order whose
records are missing would be spent for nothing, so they are looked for first, at the zone's own name
servers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..challenges import dns_persist
from ..challenges.dns01_solver import DnsRecords
from ..challenges.dns_persist import Customer, PersistRecord, Subject, Terms
from ..errors import IssuanceError
from ..link import Authority
from .accounts import Accounts
from .transport import Transport


class PersistRecords:
    """The standing records of one account. ``now`` gives Unix seconds."""

    def __init__(
        self,
        authority: Authority,
        accounts: Accounts,
        records: DnsRecords,
        now: Callable[[], float],
    ) -> None:
        self._authority = authority
        self._accounts = accounts
        self._records = records
        self._now = now

    def wanted(
        self, transport: Transport, subjects: Iterable[Subject], terms: Terms
    ) -> tuple[PersistRecord, ...]:
        """Return the records that the transport's account needs, and whether each stands."""
        if transport.account_url is None:
            raise IssuanceError("internal", "no account has been chosen")
        thumbprints = self._accounts.thumbprints(self._authority, transport)
        customer = Customer(transport.account_url, thumbprints)
        found = []
        for subject in subjects:
            record = dns_persist.record_name(subject)
            texts = self._records.servers.seen(record)
            stands = dns_persist.stands(texts, subject, terms, customer, self._now())
            value = dns_persist.value(subject, terms, customer)
            found.append(PersistRecord(record, value, stands))
        return tuple(found)

    def demand(self, transport: Transport, subjects: Iterable[Subject], terms: Terms) -> None:
        """Require all of the records. Raises `IssuanceError`, which lists the records to be set."""
        missing = [str(one) for one in self.wanted(transport, subjects, terms) if not one.stands]
        if missing:
            raise IssuanceError(
                "zone",
                f"for dns-persist-01, set in the DNS: {' and '.join(missing)} "
                "(treehouse-proxy certs dns-persist shows what stands, certs renew tries again)",
                challenge=dns_persist.KIND,
            )
