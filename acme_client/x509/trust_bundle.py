"""Reads a file of certificate authorities that somebody trusts (`ca_file` in its several places).

OpenSSL has a form of its own for such files, TRUSTED CERTIFICATE, in which a root may be kept and
at the same time distrusted for a purpose, as distributions do with roots that browsers have thrown
out. Python's `ssl` reads that form from files and passes it over in memory; here it is understood
and obeyed.

Pure.
"""

from __future__ import annotations

from typing import Literal

from . import pem

# Extended key usages (RFC 5280 §4.2.1.12) as DER object identifiers: what a root may be for.
_ANY = bytes.fromhex("551d2500")
_PURPOSES = {
    "servers": bytes.fromhex("2b06010505070301"),
    "clients": bytes.fromhex("2b06010505070302"),
}
_SEQUENCE, _OBJECT_IDENTIFIER, _REJECTED = 0x30, 0x06, 0xA0


def authorities(data: bytes, purpose: Literal["servers", "clients"]) -> bytes:
    """Return the certificates of a bundle, one behind the other in DER, each once: what
    `ssl.SSLContext.load_verify_locations` takes as ``cadata``. ``purpose``: whose certificates they
    vouch for. Raises `PemError` for a file that has none."""
    found = pem.blocks(data)
    listed = dict.fromkeys(
        one.certificate for one in found if one.is_certificate and _trusted(one, purpose)
    )
    if not listed:
        pem.certificates(data)  # says what there is instead
        raise pem.PemError(f"it trusts none of its certificates with {purpose}")
    return b"".join(listed)


def _trusted(block: pem.Block, purpose: str) -> bool:
    """Whether a block is trusted for a purpose, by X509_CERT_AUX of OpenSSL: SEQUENCE { trust
    SEQUENCE OF OID OPTIONAL, reject [0] SEQUENCE OF OID OPTIONAL, ... }. A list of what it is
    trusted for rules out the rest."""
    if block.label != pem.TRUSTED_CERTIFICATE:
        return True
    wanted = (_PURPOSES[purpose], _ANY)
    for _tag, auxiliary in pem.elements(block.der[len(block.certificate) :]):
        for tag, uses in pem.elements(auxiliary):
            listed = [use for kind, use in pem.elements(uses) if kind == _OBJECT_IDENTIFIER]
            if tag == _REJECTED and any(use in wanted for use in listed):
                return False
            if tag == _SEQUENCE and listed and not any(use in wanted for use in listed):
                return False
    return True
