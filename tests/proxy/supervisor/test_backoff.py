"""Pauses before a crashed child is replaced."""

import pytest

from proxy.supervisor.backoff import Backoff

AT_ONCE = 0.1  # seconds, at most


def test_the_first_crash_costs_next_to_nothing() -> None:
    assert Backoff().pause("worker 1", lived=0.1, start=None) < AT_ONCE


@pytest.mark.parametrize(
    ("lived", "start"),
    [
        (0.1, None),  # it never served
        (9.0, None),  # nor did this one, however long it tried
        (0.3, 0.25),  # it served, and fell at once
        (5.0, 3.0),  # a slow machine: it lived for shorter than its start took
    ],
)
def test_who_dies_young_waits_longer_each_time_up_to_a_bound(
    lived: float, start: float | None
) -> None:
    backoff = Backoff()
    pauses = [backoff.pause("worker 1", lived, start) for _ in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[1] > pauses[0]
    assert pauses[-1] == pauses[-2] == 10.0


@pytest.mark.parametrize(("lived", "start"), [(0.5, 0.05), (6.0, 0.2), (7.0, 3.0)])
def test_who_served_well_is_replaced_at_once_each_time(lived: float, start: float) -> None:
    backoff = Backoff()
    assert max(backoff.pause("worker 1", lived, start) for _ in range(12)) < AT_ONCE


def test_serving_well_once_forgives_what_was_before() -> None:
    backoff = Backoff()
    for _ in range(12):
        backoff.pause("worker 1", lived=0.1, start=None)
    assert backoff.pause("worker 1", lived=6.0, start=0.1) < AT_ONCE
    assert backoff.pause("worker 1", lived=0.1, start=None) < 1.0


def test_each_child_has_its_own() -> None:
    backoff = Backoff()
    for _ in range(12):
        backoff.pause("worker 1", lived=0.1, start=None)
    assert backoff.pause("worker 2", lived=0.1, start=None) < AT_ONCE
