"""Whether a chain and a key may be served: proven before every use, whoever made them.

Pure: PEM and the time go in, `Facts` or a `Problem` come out. Trust is no part of it (a client's
root store decides that); that the chain is whole and in order is.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from . import keys
from .errors import Problem

# A CA's clock knows better than ours, and a certificate that "is not valid yet" here is valid for
# everybody whose clock is right. Beyond this, something else is wrong.
CLOCK_BEHIND = 86400.0


# What the library raises for certificates and keys that are damaged, or of a kind that it has not.
UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key: PEM, leaf first; PKCS#8."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a leaf says. ``serial`` is lower-case hex, times are Unix seconds."""

    names: tuple[str, ...]
    serial: str
    not_before: float
    not_after: float
    key_type: str = keys.DEFAULT


def prove(pair: Pair, names: tuple[str, ...], now: float) -> Facts:
    """The facts of a pair that may be served for ``names``; otherwise a `Problem` that says why.

    ``names`` may be empty: then whatever it covers is enough.
    """
    facts = examine(pair)
    missing = [name for name in names if not covers(facts.names, name)]
    if missing:
        raise Problem("unproven", f"the certificate does not cover {', '.join(missing)}")
    if facts.not_after <= now:
        raise Problem("unproven", "the certificate has expired, or this machine's clock is ahead")
    if facts.not_after <= facts.not_before:
        raise Problem("unproven", "the certificate ends before it begins")
    if not in_its_dates(facts, now):
        raise Problem(
            "unproven", "the certificate is not valid yet, or this machine's clock is behind"
        )
    return facts


def in_its_dates(facts: Facts, now: float) -> bool:
    return facts.not_before - CLOCK_BEHIND <= now < facts.not_after


def examine(pair: Pair) -> Facts:
    """What holds whatever the time: it can be read, is for this key, and the chain is whole."""
    try:
        chain = x509.load_pem_x509_certificates(pair.chain_pem)
        key = keys.from_pem(pair.key_pem)
        facts = _facts(chain[0])
        if _public(chain[0]) != _public_of(key):
            raise Problem("unproven", "the certificate is for another key")
        _prove_chain(chain)
    except UNREADABLE as error:
        raise Problem("unproven", f"the certificate cannot be read: {error}") from None
    return facts


def covers(certified: tuple[str, ...], name: str) -> bool:
    """Whether a certificate with these names is one for ``name``. A wildcard stands for exactly one
    label, the leftmost (RFC 9525 §6.3), and never for an address."""
    wanted = canonical(name)
    if wanted in certified:
        return True
    _label, dot, parent = wanted.partition(".")
    return bool(dot) and f"*.{parent}" in certified and not keys.is_address(name)


# The same few names, each time a certificate is looked at.
@functools.lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """The one spelling of a name or address."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def _facts(leaf: x509.Certificate) -> Facts:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("it has no subjectAltName") from None
    return Facts(
        names=tuple(
            canonical(str(one.value))
            for one in found
            if isinstance(one, x509.DNSName | x509.IPAddress)
        ),
        serial=f"{leaf.serial_number:x}",
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
        key_type=keys.type_of(leaf.public_key()),
    )


def _prove_chain(chain: list[x509.Certificate]) -> None:
    """Each certificate is signed by the next one (RFC 8446 §4.4.2, RFC 8555 §9.1). One that comes
    alone was signed by a root itself, or its issuer is missing: then it says where to fetch that
    (RFC 5280 §4.2.2.1), which not every client does."""
    if len(chain) == 1 and _names_its_issuer(chain[0]):
        raise Problem("unproven", "the chain has a gap: the certificate's issuer is missing")
    for signed, signer in itertools.pairwise(chain):
        try:
            signed.verify_directly_issued_by(signer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise Problem(
                "unproven",
                f"the chain has a gap: {_title(signer)} did not sign {_title(signed)}",
            ) from None


def _names_its_issuer(leaf: x509.Certificate) -> bool:
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return False
    return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in access)


def _title(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "the certificate"


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_of(key: keys.PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
