"""Asks a CA when a certificate should be renewed (RFC 9773)."""

from __future__ import annotations

import base64

from cryptography import x509

from ..certificates.renewal import Suggestion
from ..x509 import pem
from . import messages
from .transport import Transport


def certificate_id(chain_pem: bytes) -> str | None:
    """Return the CertID of a chain's leaf (RFC 9773 §4.1): authority key identifier and serial
    number, the latter as the bytes of a DER INTEGER. None if the leaf names no authority key."""
    leaf = x509.load_der_x509_certificate(pem.certificates(chain_pem)[0])
    try:
        authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return None
    if authority.key_identifier is None:
        return None
    serial = leaf.serial_number
    # One bit more than the number has: DER integers are signed, and this one is not negative.
    der = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return f"{_base64url(authority.key_identifier)}.{_base64url(der)}"


def ask(transport: Transport, url: str, chain_pem: bytes) -> Suggestion | None:
    """Return the CA's suggestion; None for a certificate that has no CertID."""
    identifier = certificate_id(chain_pem)
    if identifier is None:
        return None
    response = transport.read(f"{url.rstrip('/')}/{identifier}")
    return Suggestion(messages.window(response.content), transport.retry_after())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
