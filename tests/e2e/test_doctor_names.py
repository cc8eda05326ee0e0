"""Names as a real name server (Knot) has them: addresses, aliases, CAA up the tree, and servers of one
zone that do not agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.doctor.probes.dns import Names
from proxy.doctor.rules.dns import CaaFacts, CaaRecord, NameFacts
from support.acme.knot import Knot
from support.program.ports import free_address

ZONE = """\
a A 192.0.2.1
a AAAA 2001:db8::1
alias CNAME a
empty TXT "nothing"
deep.below A 192.0.2.2
free CAA 0 issue ";"
@ CAA 0 issue "ca.test"
@ CAA 128 iodef "mailto:ops@example.test"
"""


@pytest.fixture(scope="module")
def knot() -> Iterator[Knot]:
    with Knot({"example.test": ZONE}) as server:
        yield server


@pytest.fixture
def names(knot: Knot) -> Names:
    return Names((knot.address, 53))


def test_addresses_as_the_resolver_and_the_zone_have_them(names: Names) -> None:
    assert names.name("a.example.test", authoritative=True) == NameFacts(
        "a.example.test", ("192.0.2.1", "2001:db8::1"), servers=1
    )


def test_an_alias_is_followed_to_its_end(names: Names) -> None:
    assert names.name("alias.example.test", authoritative=True) == NameFacts(
        "alias.example.test", ("192.0.2.1", "2001:db8::1"), alias="a.example.test", servers=1
    )


def test_a_name_without_addresses_and_none_at_all(names: Names) -> None:
    assert names.name("empty.example.test", authoritative=False) == NameFacts("empty.example.test")
    assert not names.name("gone.example.test", authoritative=True).exists


def test_a_server_that_refuses(names: Names) -> None:
    facts = names.name("elsewhere.invalid", authoritative=False)
    assert facts.error is not None
    assert "error" in facts.error


def test_caa_of_the_name_itself_or_of_the_nearest_above(names: Names) -> None:
    above = (
        CaaRecord(0, "issue", "ca.test"),
        CaaRecord(128, "iodef", "mailto:ops@example.test"),
    )
    for name in (
        "a.example.test",
        "deep.below.example.test",
        "*.below.example.test",
        "example.test",
    ):
        found = names.caa(name)
        assert (found.at, set(found.records)) == ("example.test", set(above))
    assert names.caa("free.example.test") == CaaFacts(
        "free.example.test", "free.example.test", (CaaRecord(0, "issue", ";"),)
    )
    assert names.caa("gone.invalid").error is not None


def test_servers_of_one_zone_that_do_not_agree() -> None:
    one, other = free_address(53), free_address(53)
    with (
        Knot(
            {"two.test": "a A 192.0.2.1\n"}, address=one, name_servers=(one, other), notifies=False
        ),
        Knot(
            {"two.test": "a A 192.0.2.9\n"},
            address=other,
            name_servers=(one, other),
            notifies=False,
        ),
    ):
        facts = Names((one, 53)).name("a.two.test", authoritative=True)
    assert facts.addresses == ("192.0.2.1",)
    assert facts.servers == 2
    ((_server, said),) = facts.elsewhere
    assert said == ("192.0.2.9",)
