"""Names the record that proves control of a name over dns-01, and its zone (RFC 8555 §8.4). Pure.

Names are lower-case A-labels without a trailing dot, as in the configuration; a wildcard is proven
at the name below its asterisk, so that ``example.org`` and ``*.example.org`` share one record name
and each has a value of its own there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from ..errors import IssuanceError
from ..link import DnsZone

_CHALLENGE = "_acme-challenge"
# A TXT record is made of strings of up to this many bytes (RFC 1035 §3.3).
LONGEST_STRING = 255


def challenge_name(name: str) -> str:
    return f"{_CHALLENGE}.{name.removeprefix('*.')}"


def digest(key_authorization: str) -> str:
    """Return the record's value: the digest of the key authorization, base64url without padding."""
    hashed = hashlib.sha256(key_authorization.encode("ascii")).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode("ascii")


def enclosing(name: str) -> tuple[str, ...]:
    """List the name and all names above it but the root: where its zone may begin, nearest
    first."""
    labels = name.split(".")
    return tuple(".".join(labels[start:]) for start in range(len(labels)))


def within(name: str, zone: str) -> bool:
    return name == zone or name.endswith("." + zone)


def zone_for(record: str, zones: tuple[DnsZone, ...]) -> DnsZone | None:
    """Find the entry for a record: that of the longest zone, or else the one without."""
    fitting = [one for one in zones if one.zone is None or within(record, one.zone)]
    return max(fitting, key=lambda one: len(one.zone or ""), default=None)


def strings(value: str) -> tuple[bytes, ...]:
    """Cut a value into the strings of a TXT record."""
    raw = value.encode("ascii")
    return tuple(raw[at : at + LONGEST_STRING] for at in range(0, len(raw), LONGEST_STRING))


def zone_file_text(value: str) -> str:
    """Quote a value as in a zone file."""
    quoted = (re.sub(rb'(["\\\\])', rb"\\\1", part).decode("ascii") for part in strings(value))
    return " ".join(f'"{part}"' for part in quoted)


_KEY_FILE = re.compile(
    r"key\s+\"?(?P<name>[^\s\"{;]+)\"?\s*\{(?P<body>[^}]*)\}\s*;?", re.ASCII | re.IGNORECASE
)
_SECRET = re.compile(r"secret\s+\"?(?P<secret>[A-Za-z0-9+/=]+)\"?\s*;", re.ASCII | re.IGNORECASE)


def tsig_secret(text: str, name: str) -> str:
    """Read the secret of the key ``name`` from a file's text: base64 alone, or in BIND's notation.

    Raises an `IssuanceError` that says nothing of the secret.
    """
    secret = "".join(text.split())
    statements = [*_KEY_FILE.finditer(text)]
    if statements:
        bodies = [one["body"] for one in statements if one["name"].rstrip(".").lower() == name]
        if not bodies:
            there = ", ".join(one["name"] for one in statements)
            raise IssuanceError(
                "settings", f"no key {name} in it, but {there} (see acme.dns.tsig.name)"
            )
        found = _SECRET.search(bodies[0])
        secret = found["secret"] if found else ""
    try:
        decoded = base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        raise IssuanceError(
            "settings", "it holds no secret in base64, or cannot be read (tsig-keygen makes one)"
        )
    return secret
