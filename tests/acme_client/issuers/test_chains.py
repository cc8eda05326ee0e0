"""Of the chains that a CA offers for one certificate, the one that was asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from acme_client.errors import IssuanceError
from acme_client.issuers.chains import choose, root_of
from acme_client.x509 import keys
from acme_client.x509.keys import PrivateKey as Key
from acme_client.x509.verify import CertificateAndKey


def certificate(issuer: str, subject: str, key: Key, signer: Key) -> bytes:
    now = datetime.now(UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (issuer, subject)]
    made = (
        x509.CertificateBuilder(names[0], names[1], key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


LEAF_KEY, MIDDLE, ROOT_KEY, OTHER_KEY = (keys.generate("ecdsa-p256") for _ in range(4))
LEAF = certificate("Middle", "a.example", LEAF_KEY, MIDDLE)
OLD, YOUNG = (LEAF + certificate(root, "Middle", MIDDLE, ROOT_KEY) for root in ("Old", "Young"))
FOREIGN = certificate("Young", "a.example", OTHER_KEY, ROOT_KEY)
GAP = LEAF + certificate("Young", "Else", OTHER_KEY, ROOT_KEY)
FIRST = CertificateAndKey(OLD, keys.to_pem(LEAF_KEY))


def unreachable() -> bytes:
    raise IssuanceError("unreachable", "cut off")


def test_roots_have_names() -> None:
    assert [root_of(one) for one in (OLD, YOUNG, LEAF)] == ["Old", "Young", "Middle"]
    assert root_of(b"nonsense") is None


@pytest.mark.parametrize(
    ("preferred", "others", "chosen", "roots"),
    [
        ("Old", [YOUNG], OLD, []),
        ("Young", [YOUNG], YOUNG, []),
        ("Young", [unreachable, b"nonsense", YOUNG], YOUNG, []),
        ("Nobody's", [YOUNG], OLD, ["Old", "Young"]),
        ("Nobody's", [unreachable], OLD, ["Old"]),
        # For another key, or with a gap: none that could be served.
        ("Young", [FOREIGN, GAP], OLD, ["Old"]),
        ("Young", [GAP, YOUNG], YOUNG, []),
    ],
)
def test_the_preferred_one_or_the_cas_own(
    preferred: str,
    others: list[bytes | Callable[[], bytes]],
    chosen: bytes,
    roots: list[str],
) -> None:
    fetching = [one if callable(one) else functools.partial(bytes, one) for one in others]
    assert choose(preferred, FIRST, fetching) == (CertificateAndKey(chosen, FIRST.key_pem), roots)
