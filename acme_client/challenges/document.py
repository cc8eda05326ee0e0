"""A challenge as a document: on the disk until it is taken back, and in what machines share.

A certificate for TLS-ALPN-01 is not written: whoever answers makes it of the key authorization.
"""

from __future__ import annotations

from ..link import Challenge
from ..storage import documents

FOLDER = "challenges"  # by token
VERSION = 1


def write(challenge: Challenge, holder: str | None = None) -> bytes:
    """Encode a challenge. ``holder``: the session of the process that takes it back."""
    document = {
        "kind": challenge.kind,
        "host": challenge.host,
        "key_authorization": challenge.key_authorization,
    }
    if holder is not None:
        document["holder"] = holder
    return documents.write(document, VERSION)


def read(token: str, data: bytes) -> Challenge | None:
    """Decode a challenge; None for a document that is none, or a newer version's."""
    document = documents.read(data, VERSION)
    try:
        return Challenge(
            kind="tls-alpn-01" if document["kind"] == "tls-alpn-01" else "http-01",
            host=str(document["host"]),
            token=token,
            key_authorization=str(document["key_authorization"]),
        )
    except KeyError:
        return None
