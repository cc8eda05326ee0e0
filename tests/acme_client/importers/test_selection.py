"""Which certificate goes where: a table of sites, certificates and what comes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.importers.findings import Account, Certificate
from acme_client.importers.selection import Site, accounts, places
from acme_client.names import covers
from acme_client.x509.keys import generate, to_pem
from acme_client.x509.verify import CertificateAndKey
from support.acme.chains import DAY, chain

NOW = 1_795_554_500.0
PAIRS: dict[tuple[tuple[str, ...], int], CertificateAndKey] = {}


def certificate(where: str, *names: str, days: int = 60, title: str = "") -> Certificate:
    if (names, days) not in PAIRS:
        PAIRS[names, days] = chain(*names, now=NOW, ends=days * DAY)
    return Certificate(where, title or names[0], PAIRS[names, days], None)


def went(
    found: list[Certificate], sites: tuple[Site, ...] | None
) -> tuple[dict[str, str], dict[str, str]]:
    going, left = places(found, sites, NOW)
    return {one.names[0]: one.where for one in going}, {one.where: one.why for one in left}


A, B, WWW = Site(("a.example", "www.a.example")), Site(("b.example",)), Site(("www.a.example",))


@pytest.mark.parametrize(
    ("found", "sites", "expected"),
    [
        # As they are called, where no site is known; the title is the folder if it is a name.
        ([certificate("x", "a.example", "www.a.example")], None, {"a.example": "x"}),
        ([certificate("x", "a.example", "b.example", title="b.example")], None, {"b.example": "x"}),
        ([certificate("x", "a.example", title="my-sites")], None, {"a.example": "x"}),
        # By the site's first name, whatever the certificate's is.
        ([certificate("x", "www.a.example", "a.example")], (A, B), {"a.example": "x"}),
        # More names win over more time, more time over less.
        ([certificate("x", "a.example", days=90), certificate("y", "a.example", "www.a.example", days=5)], (A,), {"a.example": "y"}),
        ([certificate("x", "a.example", days=5), certificate("y", "a.example", days=9)], (A,), {"a.example": "y"}),
        ([certificate("x", "a.example", days=9), certificate("y", "a.example", days=5)], (A,), {"a.example": "x"}),
        # One for several sites, also by a wildcard.
        ([certificate("x", "a.example", "b.example")], (A, B), {"a.example": "x", "b.example": "x"}),
        ([certificate("x", "*.a.example")], (A, WWW), {"a.example": "x", "www.a.example": "x"}),
        # An address, however it is written.
        ([certificate("x", "2001:db8::1")], (Site(("2001:DB8:0::1",)),), {"2001:DB8:0::1": "x"}),
        ([], (A,), {}),
    ],
)  # fmt: skip
def test_where_certificates_go(
    found: list[Certificate], sites: tuple[Site, ...] | None, expected: dict[str, str]
) -> None:
    assert went(found, sites)[0] == expected


@pytest.mark.parametrize(
    ("one", "sites", "why"),
    [
        (certificate("x", "c.example"), (A,), "no site is called c.example"),
        (certificate("x", "a.example"), (Site(("a.example",), "it has its own"),), "a.example: it has its own"),
        (certificate("x", "a.example", days=0), (A,), "has expired"),
        (Certificate("x", "", CertificateAndKey(b"", b""), None), (A,), "cannot be read"),
        (Certificate("x", "", CertificateAndKey(PAIRS[("a.example",), 60].chain_pem, to_pem(generate("ecdsa-p256"))), None), (A,), "for another key"),
    ],
)  # fmt: skip
def test_what_goes_nowhere_and_why(one: Certificate, sites: tuple[Site, ...], why: str) -> None:
    going, left = went([one], sites)
    assert going == {}
    assert why in left["x"]


def test_names_that_may_have_one_on_demand() -> None:
    """Each by itself; but not what is configured, and no wildcard."""
    found = [
        certificate("x", "shop.customers.example", "www.customers.example", "*.customers.example"),
        certificate("y", "a.example", "c.example"),
        certificate("z", "d.example"),
    ]
    going, left = places(
        found, (A,), NOW, lambda name: name.endswith(".customers.example") or name == "a.example"
    )
    assert {one.names: one.where for one in going} == {
        ("shop.customers.example",): "x",
        ("www.customers.example",): "x",
        A.names: "y",
    }
    assert [one.where for one in left] == ["z"]


def test_thousands_are_looked_up_and_not_compared() -> None:
    """Of certificates and of sites: every one of each against the other would take minutes."""
    one = certificate("x", "a.example")
    sites = tuple(Site((f"{number}.example",)) for number in range(20_000))
    found = [replace(one, where=str(number)) for number in range(300)]
    going, left = places(found, (*sites, A), NOW)
    assert len(going) == 1
    assert len(left) == 299


def test_the_lesser_of_two_is_left_with_the_reason() -> None:
    going, left = went([certificate("x", "a.example"), certificate("y", "a.example", days=5)], (A,))
    assert going == {"a.example": "x"}
    assert left == {"y": "another certificate covers more of a.example, or lasts longer"}


NAMES = ["a.example", "www.a.example", "b.example", "*.a.example", "c.example"]


@given(
    found=st.lists(
        st.tuples(st.sets(st.sampled_from(NAMES), min_size=1, max_size=2), st.sampled_from([0, 5, 60])),
        max_size=5,
    ),
    sites=st.one_of(st.none(), st.just((A, B)), st.just((WWW, Site(("b.example",), "no")))),
)  # fmt: skip
def test_each_goes_somewhere_or_is_accounted_for(
    found: list[tuple[set[str], int]], sites: tuple[Site, ...] | None
) -> None:
    certificates = [
        certificate(str(number), *sorted(names), days=days)
        for number, (names, days) in enumerate(found)
    ]
    going, left = places(certificates, sites, NOW)
    assert {one.where for one in certificates} == {one.where for one in going} ^ {
        one.where for one in left
    }
    assert len({one.names[0] for one in going}) == len(going)
    for one in going:
        assert one.facts.not_after > NOW
        assert any(covers(one.facts.names, name) for name in one.names)
        assert sites is None or one.names in [site.names for site in sites if not site.refusal]


def account(where: str, directory: str, used: int = 0) -> Account:
    return Account(where, directory, None, None, b"", used)


def test_one_account_for_each_ca_that_is_used() -> None:
    one, other = "https://ca.example/dir", "https://other.example/dir"
    found = [account("x", one), account("y", one, used=2), account("z", other)]
    taken, left = accounts(found, None)
    assert [each.where for each in taken] == ["y", "z"]
    assert [(each.where, each.why) for each in left] == [("x", "the CA has an account: y")]
    taken, left = accounts(found, frozenset({one}))
    assert [each.where for each in taken] == ["y"]
    assert ("z", f"no site's CA is {other}") in [(each.where, each.why) for each in left]
