"""The record for dns-persist-01: one that stays, and says that an account may have certificates.

draft-ietf-acme-dns-persist. Pure. Two generations of CAs are about; their directory tells which:

- since -02 its ``meta`` has ``accountHashPrefix`` and ``issuerDomainNames``; the record names the
  account by a digest over the domain, the account's key and its URL, so that nobody can tell from
  two records that they are one account's;
- before that the account's URL itself stands in the record, and the CA's name is among its
  ``caaIdentities``; the challenge, once there is one, may say otherwise (``issuer-domain-names``,
  ``accounturi``).

A record is an issue-value as in CAA (RFC 8659 §4.2): ``ca.example; accounturi=…; policy=wildcard``.
Without that policy it is for its very name alone. Whoever holds the account's key can have
certificates for as long as the record stands; so the key never leaves the certifier.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..late_dataclass import dataclass
from .dns_names import zone_file_text

KIND = "dns-persist-01"
_LABEL = "_validation-persist"
_MOST_ISSUERS = 10  # §3.1: a challenge with more is malformed
_LONGEST_NAME = 253
_ALGORITHM = "sha-256"  # the one that every CA has to take

# RFC 8659 §4.2; the value without white space and semicolon.
_ISSUER = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_PARAMETER = re.compile(r"([A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*)[ \t]*=[ \t]*([\x21-\x3a\x3c-\x7e]*)")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a CA wants to see: one of its ``issuers``, and the account by its URL or, with
    ``prefix``, by a digest. ``account``: the URL that the CA has named for ours, if it did.
    ``identities``: what it goes by in CAA records; empty where it does not tell."""

    issuers: tuple[str, ...]
    prefix: str | None = None
    account: str | None = None
    identities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Customer:
    """Our account. ``thumbprints``: RFC 7638, base64url; of its key now, then of earlier ones,
    which records may still name."""

    url: str
    thumbprints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A name to be certified, without its asterisk."""

    name: str
    wildcard: bool


@dataclass(frozen=True, slots=True)
class PersistRecord:
    """A record to set, and whether it, or another that does as well, stands already."""

    record: str
    value: str
    stands: bool

    def __str__(self) -> str:
        return f"{self.record}. IN TXT {zone_file_text(self.value)}"


def subjects(names: Iterable[str]) -> tuple[Subject, ...]:
    """Of a certificate: one record serves a name and its wildcard."""
    found: dict[str, bool] = {}
    for name in names:
        bare = name.removeprefix("*.")
        found[bare] = found.get(bare, False) or bare != name
    return tuple(Subject(name, wildcard) for name, wildcard in found.items())


def record_name(subject: Subject) -> str:
    return f"{_LABEL}.{subject.name}"


# What a CA says


def of_directory(meta: Mapping[str, Any]) -> Terms:
    """Its ``issuers`` are empty where the directory does not tell them."""
    prefix = meta.get("accountHashPrefix")
    if isinstance(prefix, str) and prefix.isascii() and prefix.isprintable() and ";" not in prefix:
        identities = _issuers(meta.get("caaIdentities"))
        return Terms(_issuers(meta.get("issuerDomainNames")), prefix, identities=identities)
    return Terms(_issuers(meta.get("caaIdentities")))


def of_challenge(challenge: Mapping[str, Any], directory: Terms) -> Terms | None:
    """What this challenge wants, which goes before what the directory says; None: it is
    malformed, and no more to be answered than one of an unknown kind (§3.1, §3.2)."""
    issuers = _issuers(challenge.get("issuerDomainNames", challenge.get("issuer-domain-names")))
    if not issuers:
        return None
    if directory.prefix is not None:
        if not set(directory.issuers) <= set(issuers):
            return None
        if directory.identities and not set(issuers) <= set(directory.identities):
            return None
        return replace(directory, issuers=issuers)
    account = challenge.get("accounturi")
    return Terms(issuers, account=account if isinstance(account, str) else None)


def _issuers(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not 1 <= len(given) <= _MOST_ISSUERS:
        return ()
    for one in given:
        sound = isinstance(one, str) and len(one) <= _LONGEST_NAME and _ISSUER.fullmatch(one)
        if not sound:
            return ()
    return tuple(given)


# The record


def hashed(prefix: str, name: str, thumbprint: str, url: str) -> str:
    """§4.1: the account without its URL in the open."""
    over = bytes([len(name)]) + name.encode() + thumbprint.encode() + url.encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(over).digest()).rstrip(b"=").decode()
    return f"{prefix}{_ALGORITHM}/{digest}"


def value(subject: Subject, terms: Terms, customer: Customer) -> str:
    """What to set. The directory's first name is as good as any other."""
    account = next(iter(_accounts(subject, terms, customer)))
    policy = "; policy=wildcard" if subject.wildcard else ""
    return f"{terms.issuers[0]}; accounturi={account}{policy}"


def _accounts(subject: Subject, terms: Terms, customer: Customer) -> dict[str, None]:
    """All ways in which a record may name our account; the one to write first."""
    if terms.prefix is None:
        return {terms.account or customer.url: None}
    return {
        hashed(terms.prefix, name, thumbprint, customer.url): None
        for name in (subject.name, "*")  # the latter is for those who use one value everywhere
        for thumbprint in customer.thumbprints
    }


def stands(
    texts: Iterable[str], subject: Subject, terms: Terms, customer: Customer, now: float
) -> bool:
    """Whether one of the records lets this CA certify the subject for our account."""
    accounts = _accounts(subject, terms, customer)
    for text in texts:
        issuer, parameters = _parsed(text)
        until = parameters.get("persistuntil")
        if (
            issuer in terms.issuers
            and parameters.get("accounturi") in accounts
            and (not subject.wildcard or parameters.get("policy", "").lower() == "wildcard")
            and (until is None or (until.isascii() and until.isdigit() and int(until) > now))
        ):
            return True
    return False


def _parsed(text: str) -> tuple[str | None, dict[str, str]]:
    """Issuer and parameters; neither, where it is no issue-value or has a parameter twice."""
    issuer, *rest = (part.strip(" \t") for part in text.split(";"))
    if rest and not rest[-1]:
        rest.pop()
    parameters: dict[str, str] = {}
    for part in rest:
        found = _PARAMETER.fullmatch(part)
        if found is None or found[1].lower() in parameters:
            return None, {}
        parameters[found[1].lower()] = found[2]
    return issuer.lower().removesuffix("."), parameters
