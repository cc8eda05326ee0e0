"""The ledger of a CA's limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.errors import Problem
from acme_client.ledger import (
    LETSENCRYPT,
    Cost,
    Ledger,
    Limits,
    costs,
    limits_of,
    registered_domain,
)
from acme_client.ledgers import Ledgers
from acme_client.store import DirectoryStore

LE = "https://acme-v02.api.letsencrypt.org/directory"
DAY = 86400.0


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
    assert limits_of(LE) == LETSENCRYPT
    assert limits_of("https://acme-staging-v02.api.letsencrypt.org/directory") == LETSENCRYPT
    for other in ("https://ca.example/dir", "https://letsencrypt.org.evil.example/", "internal"):
        assert limits_of(other) == Limits()


def test_the_last_token_is_left_and_comes_back_at_its_time() -> None:
    ledger, names = Ledger(), ("a.example.org",)
    for _ in range(4):
        assert ledger.refusal(names, LETSENCRYPT, 1000.0, replaces=False) is None
        ledger.ordered(LETSENCRYPT, 1000.0)
        ledger.issued(names, LETSENCRYPT, 1000.0)
    refusal = ledger.refusal(names, LETSENCRYPT, 1000.0, replaces=False)
    assert refusal is not None
    assert refusal.until == pytest.approx(1000.0 + 7 * DAY / 5)
    assert refusal.why == "certificates for exactly these names: 5 in 7 days are allowed"
    assert ledger.refusal(names, LETSENCRYPT, 1000.0, replaces=True) is None
    assert ledger.refusal(("b.example.org",), LETSENCRYPT, 1000.0, replaces=False) is None
    assert ledger.refusal(names, LETSENCRYPT, refusal.until, replaces=False) is None


def test_a_domain_is_counted_over_all_its_names() -> None:
    ledger = Ledger()
    for number in range(49):
        ledger.issued((f"{number}.example.org",), LETSENCRYPT, 0.0)
    refusal = ledger.refusal(("new.example.org",), LETSENCRYPT, 0.0, replaces=False)
    assert refusal is not None
    assert "the domain example.org" in refusal.why
    assert ledger.refusal(("new.example.net",), LETSENCRYPT, 0.0, replaces=False) is None


def test_failures_are_counted_by_name() -> None:
    ledger = Ledger()
    for _ in range(4):
        ledger.failed("a.example.org", LETSENCRYPT, 0.0)
    refusal = ledger.refusal(("b.example.org", "a.example.org"), LETSENCRYPT, 0.0, replaces=False)
    assert refusal is not None
    assert refusal.until == pytest.approx(720.0)
    assert "failed validations of a.example.org" in refusal.why


@given(st.lists(st.floats(0, 5 * DAY), min_size=1, max_size=80), st.booleans())
def test_never_more_than_the_ca_allows(pauses: list[float], reread: bool) -> None:
    """Against a bucket of the CA's own, which is counted another way."""
    assert LETSENCRYPT.names is not None
    names, now, tokens, at = ("a.example.org",), 1e9, 5.0, 1e9
    ledger = Ledger()
    for pause in pauses:
        now += pause
        tokens, at = min(5.0, tokens + (now - at) / (7 * DAY / 5)), now
        if ledger.refusal(names, LETSENCRYPT, now, replaces=False) is None:
            assert tokens >= 1.9
            tokens -= 1
            ledger.ordered(LETSENCRYPT, now)
            ledger.issued(names, LETSENCRYPT, now)
        if reread:
            ledger = Ledger.from_json(ledger.to_json())
        ledger.tidy(now)
        left = ledger.left(Cost("names a.example.org", LETSENCRYPT.names), now)
        assert left == pytest.approx(tokens, abs=1.01)


def test_a_clock_that_ran_ahead_does_no_lasting_harm() -> None:
    ledger, names = Ledger(), ("a.example.org",)
    for _ in range(5):
        ledger.issued(names, LETSENCRYPT, 4e9)
    refusal = ledger.refusal(names, LETSENCRYPT, 1e9, replaces=False)
    assert refusal is not None
    assert refusal.until <= 1e9 + 7 * DAY


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"due": 5}', b'{"due": {"orders": "x", "a": true}}', b"\xff"]
)
def test_what_cannot_be_read_begins_anew(data: bytes) -> None:
    assert Ledger.from_json(data) == Ledger()


def test_an_exempt_order_costs_nothing() -> None:
    assert costs(("a.example.org",), LETSENCRYPT, replaces=True) == ()
    assert len(costs(("a.example.org", "b.example.net"), LETSENCRYPT, replaces=False)) == 4


def test_on_disk_and_over_restarts(tmp_path: Path) -> None:
    now = 1e9
    for _ in range(4):
        book = Ledgers(DirectoryStore(tmp_path), lambda: now)
        book.admit(LE, ("a.example.org",), replaces=False, force=False)
        book.issued(LE, ("a.example.org",), replaces=False)
    book = Ledgers(DirectoryStore(tmp_path), lambda: now)
    with pytest.raises(Problem, match="one of the last orders") as caught:
        book.admit(LE, ("a.example.org",), replaces=False, force=False)
    assert caught.value.not_before == pytest.approx(now + 7 * DAY / 5)
    book.admit(LE, ("a.example.org",), replaces=False, force=True)
    book.admit(LE, ("a.example.org",), replaces=True, force=False)
    book.admit("https://ca.example/dir", ("a.example.org",), replaces=False, force=False)
