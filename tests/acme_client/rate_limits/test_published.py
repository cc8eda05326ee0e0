"""What CAs allow, and what an order takes of it."""

from __future__ import annotations

import pytest

from acme_client.rate_limits.published import (
    LETSENCRYPT,
    LETSENCRYPT_STAGING,
    Limits,
    OrderKind,
    costs,
    limits_of,
    registered_domain,
)
from acme_client.text import spell_exactly


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("example.org", "example.org"),
        ("a.b.example.org", "example.org"),
        ("*.example.org", "example.org"),
        ("www.example.co.uk", "example.co.uk"),
        ("somebody.github.io", "somebody.github.io"),
        ("github.io", "github.io"),
        ("localhost", "localhost"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("www.xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_whom_a_name_counts_for(name: str, domain: str) -> None:
    assert registered_domain(name) == domain


def test_only_known_cas_have_limits() -> None:
    assert limits_of("https://acme-v02.api.letsencrypt.org/directory") == LETSENCRYPT
    staging = "https://acme-staging-v02.api.letsencrypt.org/directory"
    assert limits_of(staging) == LETSENCRYPT_STAGING
    assert LETSENCRYPT_STAGING.domain is None, "30,000 a second are none"
    for other in ("https://ca.example/dir", "https://letsencrypt.org.evil.example/", "internal"):
        assert limits_of(other) == Limits()


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (
            OrderKind.NEW,
            {"orders", "names a.example.org,b.example.net", "domain example.org",
             "domain example.net"},
        ),
        (OrderKind.RENEWAL, {"names a.example.org,b.example.net"}),
        (OrderKind.EXEMPT, set()),
    ],
)  # fmt: skip
def test_what_an_order_takes(kind: OrderKind, keys: set[str]) -> None:
    taken = costs(("b.example.net", "a.example.org"), LETSENCRYPT, kind)
    assert {one.key for one in taken} == keys
    assert costs(("a.example.org",), Limits(), kind) == ()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(604800.0, "7 days"), (10800.0, "3 hours"), (3600.0, "an hour"), (60.0, "1 minutes")],
)
def test_lengths_in_words(seconds: float, said: str) -> None:
    assert spell_exactly(seconds) == said
