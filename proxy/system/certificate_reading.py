"""Reads and examines the certificates that people bring along.

It does not hold the files' bytes but what `own_files` of `acme_client.x509` understood of them,
written anew: the same as was examined, and the same for every worker. What is wrong with one is a
fault of the configuration and reported like any other.

That takes `cryptography`, and puts keys into memory: both stay in the process that reads the
configuration (`config_process`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
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
from .certificate_files import CertificateUnusable, LoadedCertificate, OwnFiles

Tell = Callable[[str], None]


class ReadCertificate(NamedTuple):
    """A certificate that was read from ``files``; ``content`` is chain and key."""

    files: OwnCertificate
    facts: CertificateFacts
    status: CertificateStatus
    content: bytes


def own_files(config: Config, kept: Mapping[OwnCertificate, Bundle]) -> OwnFiles:
    """The certificates of every site that brings its own, in shared memory; the bundles are the
    caller's. ``kept``: what was read before, in place of files that can no longer be read."""
    warnings: list[str] = []
    try:
        return OwnFiles(_packed(read(config, kept, warnings.append), config), None, warnings)
    except (CertificateUnusable, OSError) as error:
        return OwnFiles((), str(error), warnings)


def _packed(found: list[ReadCertificate], config: Config) -> list[LoadedCertificate]:
    """The same in shared memory. Raises `OSError`, and then nothing is left open."""
    made: list[LoadedCertificate] = []
    try:
        for at in range(0, len(found), MOST):
            several = found[at : at + MOST]
            fd, places = packed(one.content for one in several)
            pack = Pack(fd)
            made += [
                LoadedCertificate(one.files, one.facts, one.status, pack.bundle(*place))
                for one, place in zip(several, places, strict=True)
            ]
            if os.geteuid() == 0:
                os.fchown(fd, config.uid, config.gid)  # so that the workers may open it
    except BaseException:
        for one in made:
            one.bundle.release()
        raise
    return made


def read(
    config: Config, kept: Mapping[OwnCertificate, Bundle], tell: Tell
) -> list[ReadCertificate]:
    """The certificates of every site that brings its own. ``kept``: what was read before, in place
    of files that can no longer be read. Faults of certificates that are served all the same are
    told by ``tell``. Raises `CertificateUnusable`."""
    found: list[ReadCertificate] = []
    for site in config.sites:
        kinds: dict[str, OwnCertificate] = {}
        for certificate in site.certificates:
            pair, examined = _examined(site, certificate, kept, tell)
            for fault in examined.faults:
                tell(f"site {site.names[0]}: {fault}")
            if examined.facts is None:
                raise CertificateUnusable(f"{certificate.chain}: it cannot be read")
            facts, status = _facts(site, pair, examined.facts, examined.faults, second=bool(kinds))
            _require_another_kind(kinds, facts.family, certificate)
            found.append(ReadCertificate(certificate, facts, status, pair.chain_pem + pair.key_pem))
    return found


def _examined(
    site: Site, certificate: OwnCertificate, kept: Mapping[OwnCertificate, Bundle], tell: Tell
) -> tuple[CertificateAndKey, Examined]:
    """The pair as it is served, and what is to be said about it. Raises `CertificateUnusable`."""
    chain, key = _contents(certificate, kept, tell)
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
        raise CertificateUnusable(
            f"{certificate.chain}, {certificate.key}: {why} ({loadable.remedy(why)})"
        )
    return examined.pair, examined


def _contents(
    certificate: OwnCertificate, kept: Mapping[OwnCertificate, Bundle], tell: Tell
) -> tuple[bytes, bytes]:
    try:
        return certificate.chain.read_bytes(), certificate.key.read_bytes()
    except OSError as error:
        before = kept.get(certificate)
        if before is not None:
            tell(
                f"{error.filename}: {error.strerror}; the certificate that was read before stays "
                "in use (restart the server as root to have it read again)"
            )
            both = before.content()
            return both, both
        raise CertificateUnusable(
            f"{error.filename}: {error.strerror} (make it readable for the server's user, or "
            "restart the server as root, which reads it before the privileges are dropped)"
        ) from None


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
