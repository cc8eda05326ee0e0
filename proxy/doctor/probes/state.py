"""What is kept of certificates, accounts and a CA's limits: by the server that runs, or else on the
disk, as far as this user may read it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from acme_client.certificates.managed import ManagedCertificate
from acme_client.certificates.repository import CertificateRepository
from acme_client.errors import IssuanceError
from acme_client.late_dataclass import dataclass
from acme_client.link import INTERNAL, Authority, CertificateSpec
from acme_client.status import CertificateStatus
from acme_client.storage.directory import open_store
from acme_client.storage.store import Store
from acme_client.x509.verify import verify_pair

from ...certifier import settings as certifier
from ...config.model import Config, Site
from ...system import certificate_reading
from ...system.certificate_files import CertificateUnusable
from . import cas
from .server import Server


@dataclass(frozen=True, slots=True)
class Records:
    """What the state directory, or the server, has of certificates and CAs. ``accounts``: whether
    there is one, and its URL, by directory; ``costs`` of another order, by certificate."""

    statuses: dict[str, CertificateStatus]
    wanted: dict[str, CertificateSpec]
    accounts: dict[str, tuple[bool | None, str | None]]
    costs: dict[str, tuple[str, ...]]

    def customers(self, sites: list[Site]) -> dict[str, Authority]:
        """The CAs that certify these sites, by directory."""
        asked: dict[str, Authority] = {}
        for site in sites:
            wanted = self.wanted.get(site.names[0])
            for authority in (wanted.authority, *wanted.fallback) if wanted else ():
                if authority.directory != INTERNAL:
                    asked.setdefault(authority.directory, authority)
        return asked


def look_up(config: Config, server: Server) -> Records:
    store = open_store(config.state)
    try:
        wanted = certifier.settings(config).wanted
    except OSError:  # a CA bundle or key that this user may not read
        wanted = ()
    listed = (
        server.status["certificates"]
        if server.status is not None
        else [*_on_disk(store, wanted), *_own(config)]
    )
    statuses = {one["name"]: one for one in listed}
    issued = {name for name, one in statuses.items() if one["serial"]}
    accounts = {
        authority.directory: cas.account(store, authority)
        for one in wanted
        for authority in (one.authority, *one.fallback)
    }
    costs = {
        one.name: cas.costs(store, one.authority, one.names, one.name in issued)
        for one in wanted
        if one.authority.directory != INTERNAL
    }
    return Records(statuses, {one.name: one for one in wanted}, accounts, costs)


def _on_disk(store: Store, listed: Iterable[CertificateSpec]) -> Iterator[CertificateStatus]:
    shelf = CertificateRepository(store)
    for wanted in listed:
        try:
            record, pair = shelf.load(wanted.name)
        except OSError:
            continue
        holding = ManagedCertificate(wanted, record)
        if pair is not None:
            with contextlib.suppress(IssuanceError):
                holding.facts = verify_pair(pair, (), time.time())
        yield holding.status()


def _own(config: Config) -> Iterator[CertificateStatus]:
    for site in config.sites:
        if site.certificates:
            try:
                found = certificate_reading.read(
                    Config((site,), Path(config.state)), {}, lambda _text: None
                )
            except CertificateUnusable:
                continue  # the configuration's checks have said so, or it is root's alone
            for one in found:
                yield one.status
