"""Chooses the CA that is asked and the challenge that is tried, by what worked and what failed.

Pure: decided from what is configured and the certificate's record.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection
from dataclasses import astuple

from ..errors import KINDS, Blame
from ..link import Authority, CertificateSpec, Dns
from .record import Record

# Kinds of challenge that use DNS records: the only kinds for a wildcard (RFC 8555 §8.4), and none
# of them is for an address (RFC 8738 §7).
BY_DNS = ("dns-01", "dns-persist-01")
# Outcomes after which another kind of challenge is tried first.
_AGAINST = ("validation", "zone", "hook")
# A fallback CA is another account and perhaps another chain: not for one hiccup …
FALLBACK_AFTER = 3
# … unless nothing is served meanwhile, and the failure was the CA's or on the way to it: clients
# wait.
FALLBACK_AFTER_WITHOUT = 1
# And not while there is plenty of time: half of what is left at renewal by lifetime alone.
FALLBACK_BELOW = 1 / 6


def authority(
    wanted: CertificateSpec, record: Record, now: float, rate_limited: Collection[str] = ()
) -> Authority:
    """Choose the CA: the first one; with little time left and after repeated failures each in turn;
    at once the next, where nothing is served and the CA is what failed. ``rate_limited``:
    directories of those that would make us wait, who lose their turn while another would not."""
    if not wanted.fallback or not _short(record, now):
        return wanted.authority
    turn = (wanted.authority, *wanted.fallback)
    first = max(record.attempts - _patience(record, now) + 1, 0) % len(turn)
    in_order = turn[first:] + turn[:first]
    return next((one for one in in_order if one.directory not in rate_limited), in_order[0])


def challenges(wanted: CertificateSpec, record: Record) -> tuple[str, ...]:
    """Order the kinds of challenge: first the kind that worked last, unless it failed in the
    attempt before."""
    kinds = list(wanted.challenges)
    if record.challenge in kinds:
        kinds.remove(record.challenge)
        kinds.insert(0, record.challenge)
    last = record.history[-1] if record.history else None
    if last is not None and last.outcome in _AGAINST and last.challenge in kinds:
        kinds.remove(last.challenge)
        kinds.append(last.challenge)
    return tuple(kinds)


def kinds(names: tuple[str, ...], configured: tuple[str, ...], records: bool) -> tuple[str, ...]:
    """The kinds to have for a certificate, in order. With a wildcard on it those by DNS come first,
    whether or not they are listed: the other names are in the same zone, most likely, and may be
    out of a CA's reach. ``records``: whether we can set records."""
    if not any(name.startswith("*.") for name in names):
        return configured
    by_dns = tuple(kind for kind in configured if kind in BY_DNS)
    if records and "dns-01" not in by_dns:
        by_dns += ("dns-01",)
    return by_dns + tuple(kind for kind in configured if kind not in BY_DNS)


def suits(kind: str, *, wildcard: bool, address: bool) -> bool:
    """Whether this kind of challenge can prove control of such a name at all."""
    if kind in BY_DNS:
        return not address
    return not wildcard


def issued_by(wanted: CertificateSpec, record: Record) -> Authority | None:
    """Return the CA that issued the certificate on record, if it is still configured."""
    for one in (wanted.authority, *wanted.fallback):
        if one.directory == record.directory:
            return one
    return None


def serves(wanted: CertificateSpec, record: Record) -> bool:
    """Whether the certificate on record comes from a CA that is configured. Without a record,
    assume so."""
    if record.directory is None:
        return True
    return issued_by(wanted, record) is not None


def terms(authority: Authority) -> tuple[str, ...]:
    """Return what a certificate depends on beside names and key: CA, profile, external account. A
    change of profile or account needs a new order."""
    return authority.directory, authority.profile or "", authority.eab.kid if authority.eab else ""


def other_terms(wanted: CertificateSpec, record: Record) -> bool:
    """Whether the CA that was asked last is configured still, and on other terms than then. An
    earlier version has not written down the terms."""
    if record.terms is None:
        return False
    return any(
        one.directory == record.terms[0] and terms(one) != record.terms
        for one in (wanted.authority, *wanted.fallback)
        if record.terms
    )


def has_failed(record: Record, authority: Authority) -> bool:
    """Whether this CA has failed since the last success."""
    for attempt in reversed(record.history):
        if attempt.outcome == "obtained":
            return False
        if attempt.directory == authority.directory:
            return True
    return False


# Asked for each certificate at each start; most differ in their names only.
@functools.lru_cache(maxsize=4096)
def fingerprint(wanted: CertificateSpec, dns: Dns) -> str:
    """Hash the settings that an attempt uses: another hash means that the configuration has
    changed. It is kept on disk and reveals nothing of the secrets that go into it."""
    return hashlib.sha256(repr((astuple(wanted), astuple(dns))).encode()).hexdigest()[:16]


def _patience(record: Record, now: float) -> int:
    """Return after how many failures in a row the next CA is asked."""
    served = record.not_after is not None and now < record.not_after
    last = record.history[-1].outcome if record.history else None
    failed = last in KINDS and KINDS[last].blame in (Blame.CA, Blame.NETWORK)
    return FALLBACK_AFTER_WITHOUT if failed and not served else FALLBACK_AFTER


def _short(record: Record, now: float) -> bool:
    if record.not_after is None or record.not_before is None:
        return True
    return record.not_after - now < (record.not_after - record.not_before) * FALLBACK_BELOW
