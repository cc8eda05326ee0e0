"""Sets records for dns-01, waits until every name server of the zone shows them, removes them.

Before a record is set it is written down (``dns-records/<token>`` in the state directory), and the
note goes only when the record has been taken back. So whatever happens in between, a kill or a name
server that is down for a day, is made good by the next certifier or after the next validation, and
nothing but our own values is ever removed, and none that another living process holds. How a
record is set is the provider's business (`dns_provider`).

It is hard because several values stand at one name: ``example.org`` and ``*.example.org`` share it,
on one certificate or on two that are being validated at the same moment. Each value is set and
removed by itself. And a value may be needed once more: whoever takes up an order that was cut off,
this machine or another, has its authorizations, and so its values. A record that was left is
therefore removed by `clear` only when its order is not there any more, by the attempt that takes
the order up before it sets the record anew (hooks are not asked to set a record twice), and by
nobody while an attempt needs it (`holders`).

The CA asks authoritative name servers, so all of them are asked until each shows the record
(`dns_propagation`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import IssuanceError, NotSet
from ..late_dataclass import dataclass
from ..link import Dns, DnsZone, ProviderSettings
from ..storage import documents
from ..storage.store import Store, is_anothers
from . import dns_provider
from .dns_names import challenge_name, zone_for
from .dns_provider import DnsProvider, Outside, ProviderContext, TxtRecord
from .holders import Holders

if TYPE_CHECKING:
    from .dns_resolver import NameServer, Servers

log = logging.getLogger("treehouse.certifier")

_FOLDER = "dns-records"
VERSION = 1
# Until all records of a certificate are shown everywhere: what an attempt's lease (`attempt.LEASE`)
# leaves beside the CA's own time.
ALL_WITHIN = 840.0


@dataclass(frozen=True, slots=True)
class Proof:
    """The value that proves to the CA that we control ``name``."""

    token: str
    name: str
    value: str
    key_authorization: str = ""


class DnsRecords:
    """May be used by several threads. ``stopping`` ends every wait; ``outside`` is how providers
    leave this process; ``is_unfinished`` tells of a certificate whether its order may be taken up
    again, by any machine."""

    def __init__(
        self,
        settings: Dns,
        store: Store,
        stopping: threading.Event,
        outside: Outside | None = None,
        is_unfinished: Callable[[str], bool] = lambda _certificate: False,
    ) -> None:
        self._context = ProviderContext(stopping, outside or Outside())
        self._providers: dict[ProviderSettings, DnsProvider] = {}
        self._settings = settings
        self._store = store
        self._stopping = stopping
        self._is_unfinished = is_unfinished
        self._lock = threading.Lock()
        self._holders = Holders()  # of tokens
        self._servers: Servers | None = None

    @property
    def possible(self) -> bool:
        return bool(self._settings.zones)

    @property
    def servers(self) -> Servers:
        """The resolvers; loaded with the first question."""
        with self._lock:
            if self._servers is None:
                from .dns_resolver import Servers

                self._servers = Servers(self._settings.resolvers)
            return self._servers

    @contextlib.contextmanager
    def presented(self, certificate: str, proofs: Iterable[Proof]) -> Iterator[None]:
        """Inside, every name server shows all records; afterwards they are removed, whatever
        happens. ``certificate`` is what they are for. Raises `IssuanceError`."""
        attempt: dict[str, TxtRecord | None] = {}
        try:
            try:
                self._present(certificate, tuple(proofs), attempt)
            except IssuanceError as problem:
                problem.challenge = "dns-01"
                raise
            yield
        finally:
            gone = [self._release(*one, id(attempt)) for one in attempt.items()]
            if gone and all(gone):
                self.clear()  # whoever is to remove records can do so now

    def _present(
        self, certificate: str, proofs: tuple[Proof, ...], attempt: dict[str, TxtRecord | None]
    ) -> None:
        """``attempt`` grows by each token that is held, with the record that may have been set."""
        deadline = time.monotonic() + ALL_WITHIN
        # Of an order that is taken up, a record may be there, or half set.
        tokens = {proof.token for proof in proofs}
        for record, _certificate in self._left() if tokens else ():
            if record.token in tokens:
                self._remove_left(record)
        names = tuple(proof.name.removeprefix("*.") for proof in proofs)
        for number, proof in enumerate(proofs, 1):
            if time.monotonic() > deadline:
                raise IssuanceError(
                    "zone", f"setting the records takes longer than {ALL_WITHIN:g} s"
                )
            record = replace(
                self._located(proof), remaining=len(proofs) - number, all_domains=names
            )
            self._holders.take(record.token, id(attempt))
            attempt[record.token] = record
            self._note(record, certificate)
            try:
                self._provider(self._entry(record.name, record.name)).present(record)
            except NotSet:
                attempt[record.token] = None
                raise
            log.debug("%s: record %s set for %s", certificate, record.name, record.domain)
        for record in filter(None, attempt.values()):
            self._await_shown(record, deadline)

    def _release(self, token: str, record: TxtRecord | None, attempt: int) -> bool:
        """Need a record no more; ``record`` None: it was not set. Returns False where it was not
        set, or may still be there."""
        with self._holders.leave(token, attempt) as is_last:
            if is_last and record is None:
                self._erase(token)
            elif is_last and record is not None:
                return self._take_back(record)
        return record is not None

    def clear(self) -> None:
        """Remove records that earlier validations have left, but for those whose orders may be
        taken up."""
        for record, certificate in self._left():
            self._remove_left(record, unless_for=certificate)

    def _remove_left(self, record: TxtRecord, unless_for: str = "") -> None:
        """Remove a record that is still noted and that no attempt needs. With ``unless_for``, the
        record stays as long as the order for this certificate may be taken up."""
        with self._holders.leave(record.token, None) as is_last:
            if not is_last:
                return
            try:
                is_needed = bool(unless_for) and self._is_unfinished(unless_for)
                is_left = not is_needed and record.token in self._store.load(_FOLDER)
            except OSError as error:
                log.info("the record %s is left for now: %s", record.name, error)
                return
            if is_left and self._take_back(record):
                log.info("record %s of an earlier validation removed", record.name)

    # Where

    def _located(self, proof: Proof) -> TxtRecord:
        domain = proof.name.removeprefix("*.")
        named = challenge_name(proof.name)
        record = self.servers.target(named)
        if record != named:
            log.debug("%s leads to %s", named, record)
        entry = self._entry(record, named)
        zone = entry.zone or ""
        if not zone and self._provider(entry).needs_zone:
            zone = self.servers.zone(record)
        return TxtRecord(proof.token, domain, record, proof.value, zone, proof.key_authorization)

    def _provider(self, entry: DnsZone) -> DnsProvider:
        with self._lock:
            if entry.via not in self._providers:
                self._providers[entry.via] = dns_provider.provider(entry.via, self._context)
            return self._providers[entry.via]

    def _entry(self, record: str, named: str) -> DnsZone:
        entry = zone_for(record, self._settings.zones)
        if entry is None:
            zones = ", ".join(one.zone or "" for one in self._settings.zones) or "none"
            where = record if record == named else f"{record} (where {named} leads)"
            raise IssuanceError(
                "settings",
                f"nobody is configured to set the record {where}; zones in acme.dns: {zones}",
                challenge="dns-01",
            )
        return entry

    # Setting and removing

    def _take_back(self, record: TxtRecord) -> bool:
        """Remove a record; returns False where it may still be there, with its note."""
        try:
            provider = self._provider(self._entry(record.name, record.name))
            if provider.needs_zone and not record.zone:
                record = replace(record, zone=self.servers.zone(record.name))
            provider.cleanup(record)
        except Exception as error:  # the note stays, and with it the next try
            if not isinstance(error, IssuanceError):
                log.exception("%s: a fault in the certifier itself", record.name)
            log.warning(
                "the record %s TXT %s could not be removed, and is tried again later: %s",
                record.name,
                record.value,
                error,
            )
            return False
        self._erase(record.token)
        return True

    # Who is asked

    def _await_shown(self, record: TxtRecord, deadline: float) -> None:
        entry = self._entry(record.name, record.name)
        if entry.propagation:
            from . import dns_propagation

            dns_propagation.await_shown(
                record.name,
                record.value,
                self._name_servers(record, self._provider(entry)),
                max(min(entry.propagation, deadline - time.monotonic()), 1.0),
                self._stopping,
            )

    def _name_servers(self, record: TxtRecord, provider: DnsProvider) -> list[NameServer]:
        """List the servers of the record's zone, and those of the provider, which may be hidden. An
        address that both have is asked at the provider's port."""
        from .dns_resolver import NameServer

        serving = list(self.servers.serving(self.servers.zone(record.name)))
        own = provider.name_servers()
        taken = {address for one in own for address, _port in one.addresses}
        return [
            NameServer(one.name, tuple(at for at in one.addresses if at[0] not in taken))
            for one in serving
        ] + own

    # Notes

    def _note(self, record: TxtRecord, certificate: str) -> None:
        try:
            document = {
                "token": record.token,
                "domain": record.domain,
                "record": record.name,
                "value": record.value,
                "zone": record.zone,
                "key_authorization": record.key_authorization,
                "all_domains": list(record.all_domains),
                "certificate": certificate,
                "holder": self._store.session(),
            }
            note = documents.write(document, VERSION)
            self._store.store(_FOLDER, {record.token: note})
        except OSError as error:
            log.warning("the record %s cannot be written down: %s", record.name, error)

    def _erase(self, token: str) -> None:
        try:
            self._store.delete(_FOLDER, token)
        except OSError as error:
            log.warning("dns-records/%s cannot be taken off the disk: %s", token, error)

    def _left(self) -> list[tuple[TxtRecord, str]]:
        """Return the records that no living process but this one has noted, each with the
        certificate that it was set for; "" where the note does not say."""
        try:
            notes = self._store.load(_FOLDER)
        except OSError as error:
            log.warning("records that were set cannot be read from the disk: %s", error)
            return []
        found = (_read(token, data, self._store) for token, data in notes.items())
        return [one for one in found if one is not None]


def _read(token: str, data: bytes, store: Store) -> tuple[TxtRecord, str] | None:
    document = documents.read(data, VERSION)
    if is_anothers(store, document.get("holder")):
        return None
    try:
        domain, name, value, zone = (
            str(document[key]) for key in ("domain", "record", "value", "zone")
        )
    except KeyError:
        if documents.newer(data, VERSION):
            log.info("dns-records/%s: left to the newer version that has written it", token)
        else:
            log.warning("the note dns-records/%s is not understood; delete it", token)
        return None
    # A version before these has not written them.
    authorization = str(document.get("key_authorization") or "")
    names = document.get("all_domains")
    all_domains = tuple(map(str, names)) if isinstance(names, list) else ()
    record = TxtRecord(token, domain, name, value, zone, authorization, 0, all_domains)
    return record, str(document.get("certificate") or "")
