"""Certificates that people bring along: read, examined, and put into shared memory (`ipc.packs`).

It does not hold the files' bytes but what `own_files` of `acme_client.certificates` understood
of them, written anew: the same as was examined, and the same for every worker.

They are read at boot while the process may still be root, because such keys are usually root's
alone; and again at each reload, as the user that the server has become. What is wrong with one is a
fault of the configuration and reported like any other.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import NamedTuple

from acme_client.names import covers
from acme_client.status import CertificateStatus, certificate_status
from acme_client.x509 import loadable
from acme_client.x509.keys import family
from acme_client.x509.own_files import Examined, Fault, examine_files
from acme_client.x509.verify import CertificateAndKey, CertificateInfo, digest_of

from ..config.model import Config, OwnCertificate, Site
from ..ipc.messages import CertificateFacts
from ..ipc.packs import MOST, Bundle, Pack, packed

log = logging.getLogger("treehouse.certificates")


class CertificateUnusable(Exception):
    """A file of a site's own certificate cannot be used; the text says which and why."""


class LoadedCertificate(NamedTuple):
    """``bundle``: the chain and the key."""

    facts: CertificateFacts
    status: CertificateStatus
    bundle: Bundle


class _Read(NamedTuple):
    """A certificate that was read; ``content`` is chain and key."""

    files: OwnCertificate
    facts: CertificateFacts
    status: CertificateStatus
    content: bytes


class OwnCertificates:
    """What was read, kept for a reload that may not read it again: a key that only root can read
    was read once at boot, and stays in use until the program is restarted. ``warn``: faults of
    certificates that are served all the same are told in the log."""

    def __init__(
        self, inherited: Mapping[OwnCertificate, Bundle] | None = None, *, warn: bool = True
    ) -> None:
        self._warn = warn
        self._present: dict[OwnCertificate, Bundle] = dict(inherited or {})
        self.names: frozenset[str] = frozenset()  # of the certificates that were read last

    @property
    def present(self) -> Mapping[OwnCertificate, Bundle]:
        """What was read, for a successor; it stays ours."""
        return self._present

    def close_in_child(self, *_: object) -> None:
        """A worker has been given the certificates that it serves; no child reads these."""
        for bundle in self._present.values():
            bundle.release()
        self._present = {}

    def read(self, config: Config) -> list[LoadedCertificate]:
        """The certificates of every site that brings its own; the bundles are the caller's. Raises
        `CertificateUnusable`, and then nothing has changed."""
        read: list[_Read] = []
        for site in config.sites:
            kinds: dict[str, OwnCertificate] = {}
            for certificate in site.certificates:
                one = self._load(site, certificate, second=bool(kinds))
                _require_another_kind(kinds, one.facts.family, certificate)
                read.append(one)
        loaded = _packed(read, config)
        present: dict[OwnCertificate, Bundle] = {}
        for one, made in zip(read, loaded, strict=True):
            if one.files not in present:  # two sites may have the same files
                present[one.files] = made.bundle.again()
        for bundle in self._present.values():
            bundle.release()
        self._present = present
        self.names = frozenset(one.facts.name for one in loaded)
        return loaded

    def examine(self, config: Config) -> None:
        """Raises `CertificateUnusable` where `read` would, and changes nothing."""
        for site in config.sites:
            for certificate in site.certificates:
                self._examined(site, certificate)

    def _load(self, site: Site, certificate: OwnCertificate, *, second: bool) -> _Read:
        pair, examined = self._examined(site, certificate)
        for fault in examined.faults if self._warn else ():
            log.warning("site %s: %s", site.names[0], fault)
        if examined.facts is None:
            raise CertificateUnusable(f"{certificate.chain}: it cannot be read")
        facts, status = _facts(site, pair, examined.facts, examined.faults, second=second)
        return _Read(certificate, facts, status, pair.chain_pem + pair.key_pem)

    def _examined(
        self, site: Site, certificate: OwnCertificate
    ) -> tuple[CertificateAndKey, Examined]:
        """The pair as it is served, and what is to be said about it. Raises
        `CertificateUnusable`."""
        chain, key = self._contents(certificate)
        examined = examine_files(
            chain,
            key,
            site.names,
            time.time(),
            chain_path=str(certificate.chain),
            key_path=str(certificate.key),
        )
        if examined.pair is None:
            raise CertificateUnusable("; ".join(map(str, examined.faults)))
        why = loadable.fault(examined.pair)
        if why is not None:
            raise CertificateUnusable(f"{certificate.chain}, {certificate.key}: {why}")
        return examined.pair, examined

    def _contents(self, certificate: OwnCertificate) -> tuple[bytes, bytes]:
        try:
            return certificate.chain.read_bytes(), certificate.key.read_bytes()
        except OSError as error:
            kept = self._present.get(certificate)
            if kept is not None:
                log.warning(
                    "%s: %s; the certificate that was read before stays in use (restart the "
                    "server as root to have it read again)",
                    error.filename,
                    error.strerror,
                )
                both = kept.content()
                return both, both
            raise CertificateUnusable(
                f"{error.filename}: {error.strerror} (make it readable for the server's user, or "
                "restart the server as root, which reads it before the privileges are dropped)"
            ) from None


def _packed(read: list[_Read], config: Config) -> list[LoadedCertificate]:
    """The same in shared memory. Raises `OSError`, and then nothing is left open."""
    made: list[LoadedCertificate] = []
    try:
        for at in range(0, len(read), MOST):
            several = read[at : at + MOST]
            fd, places = packed(one.content for one in several)
            pack = Pack(fd)
            made += [
                LoadedCertificate(one.facts, one.status, pack.bundle(*place))
                for one, place in zip(several, places, strict=True)
            ]
            if os.geteuid() == 0:
                os.fchown(fd, config.uid, config.gid)  # so that the workers may open it
    except BaseException:
        for one in made:
            one.bundle.release()
        raise
    return made


def _require_another_kind(
    kinds: dict[str, OwnCertificate], family: str, certificate: OwnCertificate
) -> None:
    """A client takes the one that it can verify; of two such ones nobody could say which."""
    before = kinds.setdefault(family, certificate)
    if before is not certificate:
        raise CertificateUnusable(
            f"{before.chain}, {certificate.chain}: both are for {family.upper()} keys (leave one "
            "out, or give one of each kind)"
        )


def _facts(
    site: Site,
    pair: CertificateAndKey,
    about: CertificateInfo,
    faults: tuple[Fault, ...],
    *,
    second: bool,
) -> tuple[CertificateFacts, CertificateStatus]:
    """``faults`` are such that the certificate is served all the same."""
    # Without names of its own it is served for the site's: some clients look at nothing else.
    names = about.names or site.names
    expired = any(fault.kind == "expired" for fault in faults)
    name = f"{site.names[0]}/{family(about.key_type)}" if second else site.names[0]
    facts = CertificateFacts(
        name=name,
        site=site.names[0],
        names=names,
        not_after=about.not_after,
        serial=about.serial,
        family=family(about.key_type),
        digest=digest_of(pair),
    )
    # The status is about the site: its names are found there, also those that are not covered.
    missing = tuple(one for one in site.names if not covers(names, one))
    status = certificate_status(
        name=name,
        names=(*names, *missing),
        source="file",
        key_type=about.key_type,
        serial=about.serial,
        not_before=about.not_before,
        not_after=about.not_after,
        state="failed" if expired else "fresh",
        last_error="; ".join(fault.text for fault in faults) or None,
    )
    return facts, status
