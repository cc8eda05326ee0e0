"""Private keys, and the requests made with them.

A key is made for one certificate and never used again; account keys are another kind of thing and
live in `issuers.accounts`.
"""

from __future__ import annotations

import ipaddress

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from . import pem

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

DEFAULT = "ecdsa-p256"


def generate(key_type: str) -> PrivateKey:
    match key_type:
        case "ecdsa-p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ecdsa-p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "rsa-2048":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "rsa-4096":
            return rsa.generate_private_key(public_exponent=65537, key_size=4096)
    raise ValueError(f"{key_type} is no type of key")


def family(key_type: str) -> str:
    """Return the family of a key type, which clients tell apart: "ecdsa" or "rsa"."""
    return key_type.partition("-")[0]


def type_of(key: object) -> str:
    """Return the type of a public key, spelled as in `generate`, also for types that are not made
    here."""
    match key:
        case ec.EllipticCurvePublicKey():
            return f"ecdsa-p{key.curve.key_size}"
        case rsa.RSAPublicKey():
            return f"rsa-{key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").lower()


def to_pem(key: PrivateKey) -> bytes:
    """Write a key as PKCS#8, without a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def from_pem(text: bytes) -> PrivateKey:
    """Return the first private key of a text in PEM. Raises ValueError for anything but an EC or
    RSA key without a passphrase."""
    try:
        key = serialization.load_pem_private_key(pem.keys(text)[0].pem, None)
    except UnsupportedAlgorithm as error:
        raise ValueError(f"the key is of an unknown kind: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("the key is neither ECDSA nor RSA")
    return key


def alternative_names(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    """Return names and addresses as a certificate spells them (RFC 5280 §4.2.1.6)."""
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def signing_request(key: PrivateKey, names: tuple[str, ...]) -> bytes:
    """Make a CSR in PEM with subjectAltName and nothing else: CAs ignore or refuse the rest."""
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(alternative_names(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM)
