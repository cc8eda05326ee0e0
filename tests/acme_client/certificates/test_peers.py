"""What a machine knows of those that keep the same certificates, and whether they want the same."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from acme_client.certificates import ca_choice, wishes
from acme_client.certificates.peers import Member, Peers, no_peers
from acme_client.certificates.ranks import places
from acme_client.certificates.record import Made, Record, from_json, to_json
from acme_client.certificates.transitions import braked_until, on_made
from acme_client.link import Authority, CertificateSpec
from acme_client.x509.verify import CertificateInfo

CA = Authority("https://ca.example/directory")
WANTED = CertificateSpec(("a.example", "b.example"), CA)
FACTS = CertificateInfo(("a.example", "b.example"), "1", 0.0, 100.0)
DAY = 86400.0


def of_three(**wish: str) -> Peers:
    peers = Peers("web-1")
    members = {f"web-{number}": Member(wishes={"a": "one"}) for number in range(3)}
    members |= {node: Member(wishes={"a": what}) for node, what in wish.items()}
    peers.told(members, away=False)
    return peers


def test_a_machine_alone_is_first_and_shares_nothing() -> None:
    peers = no_peers()
    assert (peers.place("a"), peers.ordering(), peers.clock_fault()) == (0, 1, "")
    assert not peers.are_shared


def test_who_never_heard_of_the_others_does_not_order() -> None:
    assert Peers("web-1").place("a") is None


def test_who_does_not_order_has_no_place_and_takes_none() -> None:
    peers = Peers("web-1", orders=False)
    peers.told({"web-1": Member(orders=False), "web-2": Member()}, away=False)
    assert peers.place("a") is None
    other = Peers("web-2")
    other.told({"web-1": Member(orders=False), "web-2": Member()}, away=False)
    assert (other.place("a"), other.ordering()) == (0, 1)


def test_places_of_all_members_are_different() -> None:
    members = {f"web-{number}": Member() for number in range(5)}
    places = []
    for node in members:
        peers = Peers(node)
        peers.told(members, away=False)
        places.append(peers.place("a.example"))
    assert sorted(one for one in places if one is not None) == [0, 1, 2, 3, 4]


def test_who_wants_the_certificate_as_it_is_comes_first() -> None:
    peers = of_three(**{"web-0": "two", "web-2": "two"})
    assert peers.place("a", "one") == 0
    assert peers.place("a", "two") == 2
    assert peers.holders("a", "two") == ["web-0", "web-2"]
    assert peers.holders("a", "one") == []


@pytest.mark.parametrize(("clocks", "fault"), [((0, 30), ""), ((-300, -310), "ahead of"),
                                               ((300, 310), "behind")])  # fmt: skip
def test_a_clock_far_from_the_middle_of_all_is_told(clocks: tuple[int, int], fault: str) -> None:
    peers = Peers("web-1")
    members = {f"web-{number}": Member(clock=clock) for number, clock in enumerate(clocks, 2)}
    peers.told({"web-1": Member(), **members}, away=False)
    assert fault in peers.clock_fault()
    assert bool(peers.clock_fault()) == bool(fault)


# Wishes


@pytest.mark.parametrize(
    ("wanted", "is_enough"),
    [
        (WANTED, True),
        (replace(WANTED, names=("a.example",)), True),
        (replace(WANTED, names=("a.example", "c.example")), False),
        (replace(WANTED, key_type="rsa-2048"), False),
        (replace(WANTED, authority=replace(CA, profile="shortlived")), False),
        (replace(WANTED, authority=Authority("https://other.example/")), False),
        (replace(WANTED, authority=Authority("https://other.example/"), fallback=(CA,)), True),
    ],
    ids=["the same", "fewer", "others", "other key", "other profile", "other CA", "fallback"],
)
def test_a_certificate_that_covers_what_is_wanted_is_enough(
    wanted: CertificateSpec, is_enough: bool
) -> None:
    made = Made("web-2", wishes.of(WANTED), ca_choice.terms(CA))
    record = Record(directory=CA.directory, made=made)
    assert wishes.satisfied(wanted, record, FACTS) is is_enough
    assert (wishes.of(wanted) == wishes.of(WANTED)) is (wanted == WANTED)


def test_a_wildcard_covers_a_name_below_it() -> None:
    facts = replace(FACTS, names=("*.example", "a.example"))
    assert wishes.satisfied(WANTED, Record(directory=CA.directory), facts)


# The record


def test_the_record_names_its_maker_and_keeps_the_last_moments() -> None:
    record = Record(terms=("ca", "", ""), not_before=0.0, not_after=90 * DAY, tried_by="web-1")
    for moment in (1.0, 2.0, 3.0, 4.0):
        record = on_made(record, "web-1", "wish", moment)
    assert record.made == Made("web-1", "wish", ("ca", "", ""), (2.0, 3.0, 4.0))
    assert from_json(to_json(record)) == record


def test_after_three_certificates_in_a_day_no_other_is_made_for_a_while() -> None:
    record = Record(not_before=0.0, not_after=90 * DAY)
    for moment in (0.0, 100.0):
        record = on_made(record, "web-1", "wish", moment)
        assert braked_until(record, moment) is None
    record = on_made(record, "web-1", "wish", 200.0)
    assert braked_until(record, 300.0) == DAY
    assert braked_until(record, DAY) is None
    short = replace(record, not_after=90.0)  # and many are needed of those that live for seconds
    assert braked_until(short, 300.0) is None


def test_both_certificates_of_a_site_have_one_order() -> None:
    members = {f"web-{number}": Member() for number in range(5)}
    for node in members:
        peers = Peers(node)
        peers.told(members, away=False)
        assert peers.place("a.example") == peers.place("a.example/rsa")


def test_who_knows_of_no_other_that_orders_is_the_only_one() -> None:
    peers = Peers("web-1")
    assert not peers.is_only, "nobody has told yet"
    peers.told({"web-1": Member(), "web-2": Member(orders=False)}, away=True)
    assert peers.is_only
    peers.told({"web-1": Member(), "web-2": Member()}, away=True)
    assert not peers.is_only


def test_a_place_is_right_whoever_comes_and_goes() -> None:
    rng = random.Random(1)
    peers = Peers("web-0")
    sites = [f"d{number}.org" for number in range(20)]
    for _change in range(30):
        nodes = rng.sample([f"web-{number}" for number in range(1, 12)], rng.randrange(12))
        members = {node: Member(orders=rng.random() < 0.8) for node in nodes}
        peers.told({**members, "web-0": Member()}, away=False)
        ordering = {"web-0", *(node for node, one in members.items() if one.orders)}
        assert peers.ordering() == len(ordering)
        for site in sites:
            turn = rng.randrange(3)
            assert peers.place(site, turn=turn) == places(site, ordering, turn).index("web-0")
