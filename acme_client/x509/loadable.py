"""Whether OpenSSL, which serves certificates, takes a pair: found out by loading it.

What can be read and fits together may still be refused where it is to be served: a key that is too
short for the security level of this machine's OpenSSL, a signature by an algorithm that it has
thrown out, a curve that it does not know. A worker would find that out when the certificate has
taken a good one's place; so it is tried before.

`ssl` loads from paths alone: the pair lies in memory (memfd_create(2)), and no key is on a disk.
"""

from __future__ import annotations

import os
import ssl

from ..errors import IssuanceError
from .verify import CertificateAndKey

# OpenSSL's reasons that people meet, in words; others are told as they are.
_REASONS = {
    "EE_KEY_TOO_SMALL": "the key is too short",
    "CA_KEY_TOO_SMALL": "an issuer's key is too short",
    "CA_MD_TOO_WEAK": "an issuer signed by an algorithm that is broken (MD5 or SHA-1)",
    "EE_MD_TOO_WEAK": "the certificate is signed by an algorithm that is broken (MD5 or SHA-1)",
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "KEY_TYPE_MISMATCH": "the key does not belong to the certificate",
    "UNSUPPORTED": "its kind of key is unknown here",
}

_BETTER_KEY = "have a certificate made with an ECDSA P-256 key, or an RSA key of 2048 bits or more"
_BETTER_ISSUER = (
    "have the certificate made by a CA that signs with SHA-256 and keys of today's size"
)
_REMEDIES = {
    "EE_KEY_TOO_SMALL": _BETTER_KEY,
    "CA_KEY_TOO_SMALL": _BETTER_ISSUER,
    "CA_MD_TOO_WEAK": _BETTER_ISSUER,
    "EE_MD_TOO_WEAK": _BETTER_ISSUER,
    "KEY_VALUES_MISMATCH": "name the key that the certificate was made with",
    "KEY_TYPE_MISMATCH": "name the key that the certificate was made with",
    "UNSUPPORTED": _BETTER_KEY,
}


def remedy(why: str) -> str:
    """Return what to do about what `fault` says, in a clause."""
    known = (reason for reason, words in _REASONS.items() if words == why)
    return _REMEDIES.get(next(known, ""), _BETTER_KEY)


def fault(pair: CertificateAndKey) -> str | None:
    """Return why OpenSSL does not take the pair; None if it does. Raises `OSError` where there is
    no memory or no descriptor left."""
    descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pair.chain_pem + pair.key_pem)
        return fault_of_file(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def fault_of_file(path: str) -> str | None:
    """Return the same for a file that holds chain and key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password=_no_passphrase)
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        return _REASONS.get(reason, reason.replace("_", " ").lower())
    return None


def demand(pair: CertificateAndKey) -> None:
    """Require that OpenSSL takes the pair. Raises `IssuanceError` if it does not."""
    try:
        why = fault(pair)
    except OSError as error:
        raise IssuanceError(
            "internal", f"the certificate cannot be tried: {error.strerror}"
        ) from None
    if why is not None:
        raise IssuanceError("unproven", f"OpenSSL does not take the certificate: {why}")


def _no_passphrase() -> bytes:
    """Answer OpenSSL's question for a passphrase, which it would else ask at the terminal."""
    return b""
