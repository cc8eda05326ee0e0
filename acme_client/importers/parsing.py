"""Converts chains, keys and JSON of other programs into our own form.

Input that cannot be converted raises a ValueError that says why.

Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from ..errors import IssuanceError
from ..x509 import keys, pem
from ..x509.verify import CertificateAndKey, read

# A CA's chains have two to four; cross-signed ones one more.
LONGEST_CHAIN = 10
# What CAs take for account keys (Let's Encrypt: 2048 to 4096), and Traefik's largest.
RSA_BITS = range(2048, 8193)
_CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}


def pair(chain: bytes, key: bytes) -> CertificateAndKey:
    """Return the chain in order and the key as PKCS#8, whatever else the files hold."""
    try:
        listed = pem.certificates(chain)
    except pem.PemError as error:
        raise ValueError(f"there is no certificate in it: {error}") from None
    if len(listed) > LONGEST_CHAIN:
        raise ValueError(f"more than {LONGEST_CHAIN} certificates in a chain")
    alone = b"".join(pem.written(pem.CERTIFICATE, one) for one in listed)
    try:
        return read(CertificateAndKey(alone, key))[0]
    except IssuanceError as problem:
        raise ValueError(problem.text) from None


def with_issuers(chain: bytes, issuers: bytes | None) -> bytes:
    """Append the issuers, which some programs keep in a file of their own, to a leaf alone."""
    try:
        alone = len(pem.certificates(chain)) == 1
    except pem.PemError:
        alone = False
    if issuers is None or not alone:
        return chain
    return chain.rstrip() + b"\n" + issuers


def account_key(data: bytes) -> bytes:
    """Return an account's key, PEM or DER, as PKCS#8. Raises ValueError for a kind of key that
    ACME requests are not signed with here."""
    try:
        if data.startswith(b"\x30"):  # DER (X.690 §8.9): a SEQUENCE
            return _signing(serialization.load_der_private_key(data, None))
        return _signing(serialization.load_pem_private_key(pem.keys(data)[0].pem, None))
    except TypeError:
        raise ValueError("the key needs a password") from None
    except UnsupportedAlgorithm as error:
        raise ValueError(f"the key is of an unknown kind: {error}") from None


def _signing(key: object) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey(curve=curve):
            if not isinstance(curve, ec.SECP256R1 | ec.SECP384R1):
                raise ValueError(f"the key is on {curve.name}; P-256, P-384 and RSA can be used")
            return keys.to_pem(key)
        case rsa.RSAPrivateKey(key_size=bits):
            if bits not in RSA_BITS:
                raise ValueError(f"the RSA key has {bits} bits; no CA takes it")
            return keys.to_pem(key)
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            raise ValueError("the key is an Edwards curve's; P-256, P-384 and RSA can be used")
    raise ValueError("the key is neither ECDSA nor RSA")


def account_key_of_jwk(jwk: dict[str, Any]) -> bytes:
    """Return a private JWK (RFC 7518 §6) as PKCS#8."""
    match jwk.get("kty"):
        case "RSA":
            public = rsa.RSAPublicNumbers(_number(jwk, "e"), _number(jwk, "n"))
            if public.n.bit_length() not in RSA_BITS:
                raise ValueError(f"the RSA key has {public.n.bit_length()} bits; no CA takes it")
            p, q, d, dp, dq, qi = (_number(jwk, name) for name in ("p", "q", "d", "dp", "dq", "qi"))
            private = rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public)
            return _signing(private.private_key())
        case "EC":
            curve = _CURVES.get(str(jwk.get("crv")))
            if curve is None:
                raise ValueError(f"the key is on {jwk.get('crv')}; P-256, P-384, RSA can be used")
            point = ec.EllipticCurvePublicNumbers(_number(jwk, "x"), _number(jwk, "y"), curve)
            return _signing(ec.EllipticCurvePrivateNumbers(_number(jwk, "d"), point).private_key())
        case "OKP":
            raise ValueError("the key is an Edwards curve's; P-256, P-384 and RSA can be used")
    raise ValueError("it is no JSON Web Key of a known kind")


def _number(jwk: dict[str, Any], name: str) -> int:
    value = jwk.get(name)
    if not isinstance(value, str) or len(value) > 4096:
        raise ValueError(f"the JSON Web Key has no {name!r}")
    padded = value + "=" * (-len(value) % 4)
    try:
        return int.from_bytes(base64.b64decode(padded, b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise ValueError(f"the JSON Web Key's {name!r} is not base64url") from None


def base64_bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("a text in base64 is missing")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it is not base64") from None


def json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def assignments(data: bytes) -> dict[str, str]:
    """Read ``NAME='value'`` lines as a shell would, without a shell."""
    found = re.findall(rb"(?m)^\s*([A-Za-z_]\w*)=(['\"]?)([^\n]*?)\2[ \t\r]*$", data)
    return {name.decode(): value.decode("utf-8", "replace") for name, _quote, value in found}


def https(value: object) -> str | None:
    """Return an https URL with a host; None for anything else."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > 2000:
        return None
    try:
        parts = urlsplit(value)
        fine = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return value if fine and not parts.username else None


def contacts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    return tuple(value)


def mailbox(email: object) -> tuple[str, ...] | None:
    return (f"mailto:{email}",) if isinstance(email, str) and "@" in email else None
