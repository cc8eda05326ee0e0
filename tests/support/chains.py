"""Certificates made for tests: whole chains, broken ones, and ones of any age."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import trustme

from acme_client.proof import Pair

DAY = 86400.0


def chain(
    *names: str,
    now: float,
    begins: float = -DAY,
    ends: float = 89 * DAY,
    ca: trustme.CA | None = None,
) -> Pair:
    """A chain of leaf and intermediate, with its key; ``begins`` and ``ends`` are seconds from
    ``now``."""
    leaf = (ca or trustme.CA().create_child_ca()).issue_cert(
        *names,
        not_before=datetime.fromtimestamp(now + begins, UTC),
        not_after=datetime.fromtimestamp(now + ends, UTC),
        key_type=trustme.KeyType.ECDSA,
    )
    return Pair(joined(one.bytes() for one in leaf.cert_chain_pems), leaf.private_key_pem.bytes())


def joined(pems: Iterable[bytes]) -> bytes:
    return b"".join(pem.rstrip(b"\n") + b"\n" for pem in pems)


def split(chain_pem: bytes) -> list[bytes]:
    """The certificates of a chain, leaf first."""
    end = b"-----END CERTIFICATE-----\n"
    return [one + end for one in chain_pem.split(end) if one.strip()]
