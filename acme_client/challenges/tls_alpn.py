"""Makes the certificate that answers a TLS-ALPN-01 challenge (RFC 8737 §3)."""

from __future__ import annotations

import datetime
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ..x509 import keys
from ..x509.verify import CertificateAndKey

# id-pe-acmeIdentifier (RFC 8737 §6.1)
_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
# CAs do not check its dates, and it is gone within minutes.
_LIFETIME = datetime.timedelta(days=1)


def certificate(name: str, key_authorization: str, now: float) -> CertificateAndKey:
    """Self-signed, for this name only, with the digest of the key authorization."""
    digest = hashlib.sha256(key_authorization.encode()).digest()
    key = keys.generate(keys.DEFAULT)
    subject = x509.Name([])
    moment = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _LIFETIME)
        .not_valid_after(moment + _LIFETIME)
        .add_extension(keys.alternative_names((name,)), critical=True)
        # An OCTET STRING of 32 bytes, as DER.
        .add_extension(x509.UnrecognizedExtension(_IDENTIFIER, b"\x04\x20" + digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return CertificateAndKey(certificate.public_bytes(Encoding.PEM), keys.to_pem(key))
