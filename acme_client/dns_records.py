"""Records for dns-01: set, seen at every name server of the zone, and taken back.

Before a record is set it is written down (``dns-records/<token>`` in the state directory), and the
note goes only when the record has been taken back. So whatever happens in between, a kill or a name
server that is down for a day, is made good by the next certifier or after the next validation, and
nothing but our own values is ever removed.

It is hard because several values stand at one name: ``example.org`` and ``*.example.org`` share it,
on one certificate or on two that are being validated at the same moment. Each value is set and
removed by itself. Hooks run one at a time: a program that reads a provider's record set and writes
it back would lose what another one does meanwhile.

The CA asks authoritative name servers, so all of them are asked until each shows the record
(`dns_propagation`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from . import dns_hook, documents
from .dns_names import challenge_name, provider_for
from .errors import NotSet, Problem
from .link import Dns, DnsHook, DnsProvider, DnsUpdates
from .store import Store

if TYPE_CHECKING:
    from .dns_servers import NameServer, Servers

log = logging.getLogger("treehouse.certifier")

_FOLDER = "dns-records"
VERSION = 1
# For all records of a certificate, until they are shown everywhere: what an attempt's lease
# (`attempt.LEASE`) leaves beside the CA's own time.
ALL_WITHIN = 840.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows the CA that we control ``name``: ``value``, at its record name."""

    token: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class _Record:
    """A proof at its place. ``zone`` is where an update goes."""

    token: str
    domain: str
    record: str
    value: str
    zone: str


class DnsRecords:
    """May be used by several threads. ``stopping`` ends every wait; ``confine`` is what a hook does
    before it runs."""

    def __init__(
        self,
        settings: Dns,
        store: Store,
        stopping: threading.Event,
        confine: Callable[[], None] | None = None,
    ) -> None:
        self._confine = confine
        self._settings = settings
        self._store = store
        self._stopping = stopping
        self._lock = threading.Lock()
        self._one_hook = threading.Lock()
        self._standing: set[str] = set()  # tokens of records that are in use
        self._servers: Servers | None = None

    @property
    def possible(self) -> bool:
        return bool(self._settings.providers)

    @property
    def servers(self) -> Servers:
        """Loaded with the first question."""
        with self._lock:
            if self._servers is None:
                from .dns_servers import Servers

                self._servers = Servers(self._settings.resolvers)
            return self._servers

    @contextlib.contextmanager
    def presented(self, certificate: str, proofs: Iterable[Proof]) -> Iterator[None]:
        """Inside, every name server shows all of them; afterwards none does, whatever happened.
        ``certificate`` is for the log."""
        proofs = tuple(proofs)
        tokens = {proof.token for proof in proofs}
        standing: list[_Record] = []
        with self._lock:
            self._standing |= tokens
        try:
            try:
                self._present(certificate, proofs, standing)
            except Problem as problem:
                problem.challenge = "dns-01"
                raise
            yield
        finally:
            gone = [self._take_back(record) for record in standing]
            with self._lock:
                self._standing -= tokens
            if gone and all(gone):
                self.clear()  # whoever is to remove records can do so now

    def _present(
        self, certificate: str, proofs: tuple[Proof, ...], standing: list[_Record]
    ) -> None:
        """``standing`` grows by each record that may have been set."""
        deadline = time.monotonic() + ALL_WITHIN
        for proof in proofs:
            if time.monotonic() > deadline:
                raise Problem("zone", f"setting the records takes longer than {ALL_WITHIN:g} s")
            record = self._located(proof)
            standing.append(record)
            self._note(record)
            try:
                self._set(record)
            except NotSet:
                self._erase(standing.pop())
                raise
            log.debug("%s: record %s set for %s", certificate, record.record, record.domain)
        for record in standing:
            self._await_shown(record, deadline)

    def clear(self) -> None:
        """Take back what earlier validations have left."""
        for record in self._left():
            if self._take_back(record):
                log.info("record %s of an earlier validation removed", record.record)

    # Where

    def _located(self, proof: Proof) -> _Record:
        domain = proof.name.removeprefix("*.")
        named = challenge_name(proof.name)
        record = self.servers.target(named)
        if record != named:
            log.debug("%s leads to %s", named, record)
        provider = self._provider(record, named)
        zone = provider.zone or ""
        if isinstance(provider.via, DnsUpdates) and not zone:
            zone = self.servers.zone(record)
        return _Record(proof.token, domain, record, proof.value, zone)

    def _provider(self, record: str, named: str) -> DnsProvider:
        provider = provider_for(record, self._settings.providers)
        if provider is None:
            zones = ", ".join(one.zone or "" for one in self._settings.providers) or "none"
            where = record if record == named else f"{record} (where {named} leads)"
            raise Problem(
                "settings",
                f"nobody is configured to set the record {where}; zones in acme.dns: {zones}",
                challenge="dns-01",
            )
        return provider

    # Setting and removing

    def _set(self, record: _Record) -> None:
        via = self._provider(record.record, record.record).via
        if isinstance(via, DnsHook):
            with self._one_hook:
                if self._stopping.is_set():
                    raise Problem("stopped", "the program is being stopped")
                self._run(via, "present", record)
            return
        from . import dns_update

        dns_update.add(via, record.zone, record.record, record.value)

    def _run(self, hook: DnsHook, action: dns_hook.Action, record: _Record) -> None:
        dns_hook.run(
            hook,
            action,
            record.domain,
            record.record,
            record.value,
            self._stopping,
            self._confine,
        )

    def _take_back(self, record: _Record) -> bool:
        """False: it may still be there, and so may the note."""
        try:
            via = self._provider(record.record, record.record).via
            if isinstance(via, DnsHook):
                with self._one_hook:
                    self._run(via, "cleanup", record)
            else:
                from . import dns_update

                zone = record.zone or self.servers.zone(record.record)
                dns_update.remove(via, zone, record.record, record.value)
        except Exception as error:
            if not isinstance(error, Problem):
                log.exception("%s: a fault in the certifier itself", record.record)
            log.warning(
                "the record %s TXT %s could not be removed, and is tried again later: %s",
                record.record,
                record.value,
                error,
            )
            return False
        self._erase(record)
        return True

    # Who is asked

    def _await_shown(self, record: _Record, deadline: float) -> None:
        provider = self._provider(record.record, record.record)
        if provider.propagation:
            from . import dns_propagation

            dns_propagation.await_shown(
                record.record,
                record.value,
                self._name_servers(record, provider),
                max(min(provider.propagation, deadline - time.monotonic()), 1.0),
                self._stopping,
            )

    def _name_servers(self, record: _Record, provider: DnsProvider) -> list[NameServer]:
        """All that serve the record's zone; and the one that took the update, which may be hidden.
        One at that one's address is asked at its port."""
        from .dns_servers import NameServer, resolved

        serving = list(self.servers.serving(self.servers.zone(record.record)))
        via = provider.via
        if isinstance(via, DnsUpdates):
            own = resolved(via.host, via.port)
            serving = [
                NameServer(one.name, tuple(at for at in one.addresses if at[0] not in own))
                for one in serving
            ]
            serving.append(NameServer(via.host, tuple((address, via.port) for address in own)))
        return serving

    # Notes

    def _note(self, record: _Record) -> None:
        note = documents.write(asdict(record), VERSION)
        try:
            self._store.store(_FOLDER, {record.token: note})
        except OSError as error:
            log.warning("the record %s cannot be written down: %s", record.record, error)

    def _erase(self, record: _Record) -> None:
        try:
            self._store.delete(_FOLDER, record.token)
        except OSError as error:
            log.warning("the note on %s cannot be taken off the disk: %s", record.record, error)

    def _left(self) -> list[_Record]:
        try:
            notes = self._store.load(_FOLDER)
        except OSError as error:
            log.warning("records that were set cannot be read from the disk: %s", error)
            return []
        with self._lock:
            standing = set(self._standing)
        found = (_read(token, data) for token, data in notes.items() if token not in standing)
        return [one for one in found if one is not None]


def _read(token: str, data: bytes) -> _Record | None:
    try:
        document = documents.read(data, VERSION)
        facts = {key: str(document[key]) for key in ("domain", "record", "value", "zone")}
    except KeyError:
        if documents.newer(data, VERSION):
            log.info("dns-records/%s: left to the newer version that has written it", token)
        else:
            log.warning("the note dns-records/%s is not understood; delete it", token)
        return None
    return _Record(token, **facts)
