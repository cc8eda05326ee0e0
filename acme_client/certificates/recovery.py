"""Chooses what is served: the certificate on the disk, or the certificate before it.

A damaged certificate, or a certificate for other names, is bad whatever the time: the certificate
before it takes its place on the disk. A certificate that is outside its dates may be so by our
clock only: nothing on the disk is changed, and without a better certificate it is served, because
clients whose clock is right may accept it. A certificate that was valid when we obtained it and is
"not yet valid" now means that the clock went back. Then it is served: the certificate before it may
already have expired for clients.
"""

from __future__ import annotations

import contextlib
import logging

from ..errors import IssuanceError
from ..late_dataclass import dataclass
from ..names import covers
from ..x509 import loadable
from ..x509.verify import CertificateAndKey, CertificateInfo, in_its_dates, read
from .record import Proof
from .repository import CertificateRepository

log = logging.getLogger("treehouse.certifier")


@dataclass(frozen=True, slots=True)
class Found:
    pair: CertificateAndKey
    facts: CertificateInfo
    # ``pair`` is the certificate before the newest, which is outside its dates by our clock only.
    is_fallback: bool = False


def find(
    repository: CertificateRepository,
    name: str,
    names: tuple[str, ...],
    pair: CertificateAndKey | None,
    now: float,
    serial: str | None = None,
    proof: Proof | None = None,
) -> Found | None:
    """Find what to serve for ``name``; None if there is nothing. ``pair`` is the newest in the
    repository, ``serial`` is the serial number on record, ``proof`` the one there. Raises
    OSError."""
    if pair is None:
        return None
    try:
        current = examined(pair, names, serial, proof)
    except IssuanceError as problem:
        log.warning("%s: on disk, but not used: %s", name, problem.text)
        return _restored(repository, name, names)
    if in_its_dates(current.facts, now):
        return current
    if current.facts.serial == serial and now < current.facts.not_before:
        log.warning("%s: not valid yet by this clock, which has gone back; served", name)
        return current
    before = _previous(repository, name, names)
    if before is not None and in_its_dates(before.facts, now):
        log.warning("%s: out of its dates by this clock; the one before it is served", name)
        return Found(before.pair, before.facts, is_fallback=True)
    log.warning("%s: out of its dates by this clock, and served for want of a better one", name)
    return current


def examined(
    pair: CertificateAndKey,
    names: tuple[str, ...],
    known: str | None = None,
    proof: Proof | None = None,
) -> Found:
    """Sound, and good for at least one of the names: better than none for all of them. What is
    found is the pair written anew, whatever program or earlier version has written the files.
    Raises `IssuanceError`, and `OSError` where it could not be tried.

    ``known`` is the serial of the certificate that was kept here last. It has been loaded before it
    was kept; with thousands of certificates at a start, to do so again takes seconds.
    ``proof``: that a pair, byte for byte, has been examined; then it is not read either."""
    if proof is not None and proof.holds(pair):
        sound, facts, known = pair, proof.facts, proof.facts.serial
    else:
        sound, facts = read(pair)
    if not any(covers(facts.names, name) for name in names):
        raise IssuanceError("unproven", "the certificate is for other names")
    why = None if facts.serial == known and sound == pair else loadable.fault(sound)
    if why is not None:
        raise IssuanceError("unproven", f"OpenSSL does not take the certificate: {why}")
    return Found(sound, facts)


def _restored(repository: CertificateRepository, name: str, names: tuple[str, ...]) -> Found | None:
    before = _previous(repository, name, names)
    if before is not None:
        log.warning("%s: the certificate before it is used", name)
        with contextlib.suppress(OSError):  # said at the next attempt, if it lasts
            repository.keep_pair(name, before.pair)
    return before


def _previous(repository: CertificateRepository, name: str, names: tuple[str, ...]) -> Found | None:
    pair = repository.previous(name)
    if pair is None:
        return None
    try:
        return examined(pair, names)
    except IssuanceError:
        return None
