"""Decides whether a chain and a key may be served, before every use, whoever made them.

A chain is read once, by `pem`, put in order and written anew; that text is what is proven here,
kept on disk, loaded by workers and sent to clients. The bytes of a CA go no further: two readers of
PEM need not agree on them. Trust is no part of the proof (a client's root store decides that); that
the chain leads from the leaf upwards without a gap is.

Pure: PEM and the time go in, `CertificateInfo` or an `IssuanceError` come out.
"""

from __future__ import annotations

import hashlib
from dataclasses import field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from ..errors import IssuanceError
from ..late_dataclass import dataclass
from ..names import canonical, covers
from . import keys, pem
from .chain_order import issued_by, ordered

# A CA's clock knows better than ours, and a certificate that "is not valid yet" here is valid for
# everybody whose clock is right. Beyond this, something else is wrong.
CLOCK_BEHIND = 86400.0
# CAs' chains have two to four, with roots and duplicates some more.
MOST_CERTIFICATES = 20

# What the library raises for certificates and keys that are damaged, or of a kind that it has not.
UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class CertificateAndKey:
    """A certificate and its key: PEM, leaf first; PKCS#8."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What a leaf says. ``serial`` is lower-case hex, times are Unix seconds."""

    names: tuple[str, ...]
    serial: str
    not_before: float
    not_after: float
    key_type: str = keys.DEFAULT


def digest_of(pair: CertificateAndKey) -> str:
    """Return what identifies a pair as it is served: the SHA-256 of its chain, in hex. The key
    follows from the leaf, and is no part of it."""
    return hashlib.sha256(pair.chain_pem).hexdigest()


def verify_pair(pair: CertificateAndKey, names: tuple[str, ...], now: float) -> CertificateInfo:
    """Return the facts of a pair that may be served for ``names``; raises `IssuanceError`, which
    says why, for any other.

    ``names`` may be empty: then whatever it covers is enough.
    """
    return verified(pair, names, now)[1]


def verified(
    pair: CertificateAndKey, names: tuple[str, ...], now: float
) -> tuple[CertificateAndKey, CertificateInfo]:
    """Return the same, with the pair as it is to be kept and served."""
    pair, facts = read(pair)
    missing = [name for name in names if not covers(facts.names, name)]
    if missing:
        raise IssuanceError("unproven", f"the certificate does not cover {', '.join(missing)}")
    if facts.not_after <= now:
        raise IssuanceError(
            "unproven", "the certificate has expired, or this machine's clock is ahead"
        )
    if facts.not_after <= facts.not_before:
        raise IssuanceError("unproven", "the certificate ends before it begins")
    if not in_its_dates(facts, now):
        raise IssuanceError(
            "unproven", "the certificate is not valid yet, or this machine's clock is behind"
        )
    return pair, facts


def in_its_dates(facts: CertificateInfo, now: float) -> bool:
    return facts.not_before - CLOCK_BEHIND <= now < facts.not_after


def examine(pair: CertificateAndKey) -> CertificateInfo:
    """Return the facts that hold whatever the time: it can be read, is for this key, and the chain
    is whole."""
    return read(pair)[1]


def read(pair: CertificateAndKey) -> tuple[CertificateAndKey, CertificateInfo]:
    """Return the pair as it is to be kept and served, written anew and in order, and its facts.
    Raises `IssuanceError`. Anything but certificates in a chain has it refused (RFC 8555 §11.4): a
    CA that sends a private key has made a mistake that nobody should repeat."""
    try:
        blocks = pem.blocks(pair.chain_pem)
        strange = [one.label for one in blocks if not one.is_certificate]
        if strange:
            raise IssuanceError(
                "unproven",
                f"the chain holds something else than certificates: {strange[0]} "
                "(RFC 8555 §11.4 has such a chain refused)",
            )
        if len(blocks) > MOST_CERTIFICATES:
            raise IssuanceError(
                "unproven", f"the chain has more than {MOST_CERTIFICATES} certificates"
            )
        key = keys.from_pem(pair.key_pem)
        certificates = [x509.load_der_x509_certificate(one.certificate) for one in blocks]
        leaf = leaf_for(certificates, key.public_key())
        if leaf is None:
            raise IssuanceError("unproven", "the certificate is for another key")
        facts = facts_of(leaf)
        chain, left_out = ordered(leaf, certificates)
        gap = gap_in(chain, left_out)
        if gap is not None:
            raise IssuanceError("unproven", gap)
    except UNREADABLE as error:
        raise IssuanceError("unproven", f"the certificate cannot be read: {error}") from None
    return CertificateAndKey(to_pem(chain), keys.to_pem(key)), facts


def to_pem(chain: list[x509.Certificate]) -> bytes:
    return b"".join(pem.written(pem.CERTIFICATE, one.public_bytes(Encoding.DER)) for one in chain)


def leaf_for(certificates: list[x509.Certificate], key: PublicKeyTypes) -> x509.Certificate | None:
    """Return the certificate of this key: the first one if it is, as every server takes it; else of
    all that are, the one that lasts longest. Raises one of `UNREADABLE` where the first one's key
    is of an unknown kind."""
    wanted = _spki(key)
    certificates[0].public_key()  # a kind of key that is not known is worth its own words
    suited = [one for one in certificates if _spki_of(one) == wanted]
    if suited and suited[0] is certificates[0]:
        return suited[0]
    return max(suited, key=lambda one: one.not_valid_after_utc, default=None)


def facts_of(leaf: x509.Certificate, *, named: bool = True) -> CertificateInfo:
    """Return what a leaf says. Raises ValueError and the others of `UNREADABLE`; also for a
    certificate without subjectAltName, unless it need not be ``named``."""
    found: x509.SubjectAlternativeName | tuple[()] = ()
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        if named:
            raise ValueError("it has no subjectAltName") from None
    return CertificateInfo(
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


def gap_in(chain: list[x509.Certificate], left_out: list[x509.Certificate]) -> str | None:
    """Say what is missing between the leaf and a root; None for a chain without a gap (RFC 8446
    §4.4.2, RFC 8555 §9.1). A leaf that comes alone was signed by a root itself, or its issuer is
    missing: then it says where to fetch that (RFC 5280 §4.2.2.1), which not every client does, or
    something else came in the issuer's place."""
    if len(chain) > 1:
        return None
    if left_out and not issued_by(chain[0], chain[0]):
        return f"the chain has a gap: {_title(left_out[0])} did not sign {_title(chain[0])}"
    if _names_its_issuer(chain[0]):
        return "the chain has a gap: the certificate's issuer is missing"
    return None


def _names_its_issuer(leaf: x509.Certificate) -> bool:
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return False
    return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in access)


def _title(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "the certificate"


def _spki_of(certificate: x509.Certificate) -> bytes | None:
    """Return a certificate's public key; None for a key of a kind that the library does not know:
    an issuer's may be of such."""
    try:
        return _spki(certificate.public_key())
    except UNREADABLE:
        return None


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
