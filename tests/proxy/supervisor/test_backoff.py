"""Pauses before a crashed child is replaced."""

from proxy.supervisor.backoff import Backoff


def test_the_first_crash_costs_next_to_nothing() -> None:
    assert Backoff().pause("worker 1", lived=0.1) < 0.1


def test_who_keeps_crashing_waits_longer_up_to_a_bound() -> None:
    backoff = Backoff()
    pauses = [backoff.pause("worker 1", lived=0.1) for _ in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[1] > pauses[0]
    assert pauses[-1] == pauses[-2] == 10.0


def test_a_long_life_is_forgiven() -> None:
    backoff = Backoff()
    for _ in range(12):
        backoff.pause("worker 1", lived=0.1)
    assert backoff.pause("worker 1", lived=6.0) < 0.1


def test_each_child_has_its_own() -> None:
    backoff = Backoff()
    for _ in range(12):
        backoff.pause("worker 1", lived=0.1)
    assert backoff.pause("worker 2", lived=0.1) < 0.1
