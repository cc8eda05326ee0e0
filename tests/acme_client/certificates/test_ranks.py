"""Which of several machines orders a certificate, and when each of the others would."""

from __future__ import annotations

from collections import Counter

import pytest

from acme_client.certificates.ranks import STEP, alone_from, places, step, within

DAY = 86400.0
NODES = [f"web-{number}" for number in range(10)]


def test_the_first_places_are_spread_evenly_over_the_nodes() -> None:
    first = Counter(places(f"{number}.example", NODES)[0] for number in range(2000))
    assert set(first) == set(NODES)
    assert max(first.values()) < 1.5 * 200


def test_who_leaves_moves_only_what_was_its_own() -> None:
    for number in range(200):
        before = places(f"{number}.example", NODES)
        assert places(f"{number}.example", NODES[1:]) == [one for one in before if one != NODES[0]]


def test_the_order_does_not_depend_on_how_the_nodes_are_listed() -> None:
    assert places("a.example", reversed(NODES)) == places("a.example", NODES)


def test_after_a_failure_the_next_node_is_first() -> None:
    usual = places("a.example", NODES)
    assert places("a.example", NODES, 1) == [*usual[1:], usual[0]]
    assert places("a.example", NODES, 10) == usual
    assert places("a.example", [], 3) == []


@pytest.mark.parametrize(
    ("lifetime", "seconds"), [(90 * DAY, STEP), (6 * DAY, STEP), (90.0, 0.18), (None, 5.0)]
)
def test_steps_are_as_long_as_the_lifetime_allows(lifetime: float | None, seconds: float) -> None:
    assert step(lifetime) == pytest.approx(seconds)


def test_alone_three_nodes_order_before_the_end_and_no_others() -> None:
    left = [100 * DAY - (alone_from(place, 0.0, 100 * DAY) or 0.0) for place in range(3)]
    assert left == [10 * DAY, 5 * DAY, 2.5 * DAY]
    assert alone_from(3, 0.0, 100 * DAY) is None
    assert alone_from(0, 0.0, 6 * DAY) == pytest.approx(5.5 * DAY)
    assert alone_from(0, 0.0, 100 * DAY, 0.2) == pytest.approx(80 * DAY)
    assert alone_from(0, 0.0, 6 * DAY, 0.2) == pytest.approx(5 * DAY)


def test_pauses_are_parts_of_lives_that_are_short() -> None:
    assert within(60.0, None, 1 / 30) == 60.0
    assert within(60.0, 90.0, 1 / 30) == 3.0
    assert within(60.0, 6 * 86400.0, 1 / 30) == 60.0
