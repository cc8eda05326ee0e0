"""Certificates made for tests: whole chains, broken ones, and ones of any age."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from acme_client.x509 import keys
from acme_client.x509.verify import CertificateAndKey

DAY = 86400.0


def chain(
    *names: str,
    now: float,
    begins: float = -DAY,
    ends: float = 89 * DAY,
    ca: trustme.CA | None = None,
) -> CertificateAndKey:
    """A chain of leaf and intermediate, with its key; ``begins`` and ``ends`` are seconds from
    ``now``."""
    leaf = (ca or trustme.CA().create_child_ca()).issue_cert(
        *names,
        not_before=datetime.fromtimestamp(now + begins, UTC),
        not_after=datetime.fromtimestamp(now + ends, UTC),
        key_type=trustme.KeyType.ECDSA,
    )
    key = keys.from_pem(leaf.private_key_pem.bytes())
    return CertificateAndKey(joined(one.bytes() for one in leaf.cert_chain_pems), keys.to_pem(key))


def certified(
    key: Any, *names: str, now: float, begins: float = -DAY, ends: float = 89 * DAY
) -> bytes:
    """The chain of a leaf for a public key that somebody else has, and its intermediate. The leaf
    says where to fetch that, as public CAs' do."""
    issuer = ec.generate_private_key(ec.SECP256R1())
    title = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA of the test's")])
    first = datetime.fromtimestamp(now - 365 * DAY, UTC)
    last = datetime.fromtimestamp(now + 365 * DAY, UTC)
    middle = (
        x509.CertificateBuilder(title, title, issuer.public_key(), 7, first, last)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(issuer, hashes.SHA256())
    )
    where = x509.UniformResourceIdentifier("http://ca.example/issuer.der")
    access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
    leaf = (
        x509.CertificateBuilder(
            title,
            x509.Name([]),
            key,
            x509.random_serial_number(),
            datetime.fromtimestamp(now + begins, UTC),
            datetime.fromtimestamp(now + max(begins, ends), UTC),
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), True)
        .add_extension(x509.AuthorityInformationAccess([access]), False)
        .sign(issuer, hashes.SHA256())
    )
    return joined(one.public_bytes(Encoding.PEM) for one in (leaf, middle))


def joined(pems: Iterable[bytes]) -> bytes:
    return b"".join(pem.rstrip(b"\n") + b"\n" for pem in pems)


def split(chain_pem: bytes) -> list[bytes]:
    """The certificates of a chain, leaf first."""
    end = b"-----END CERTIFICATE-----\n"
    return [one + end for one in chain_pem.split(end) if one.strip()]
