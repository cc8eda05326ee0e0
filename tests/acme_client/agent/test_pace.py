"""Small batches."""

from __future__ import annotations

import pytest

from acme_client.agent.pace import BATCH, BATCH_WITHIN, Pace, in_hurry

DAY = 86400.0


def begun(pace: Pace, now: float, wanted: int) -> int:
    """How many of so many may begin at once."""
    for number in range(wanted):
        if pace.wait(now):
            return number
        pace.begin(now)
    return wanted


def test_a_thousand_at_once_begin_in_batches() -> None:
    pace, now, left, minutes = Pace(), 1e9, 1000, 0
    while left:
        batch = begun(pace, now, left)
        assert batch <= BATCH
        left -= batch
        now += BATCH_WITHIN
        minutes += 1
    assert minutes == 1000 / BATCH


def test_they_come_back_one_by_one() -> None:
    pace = Pace()
    assert begun(pace, 1e9, 100) == BATCH
    assert begun(pace, 1e9 + BATCH_WITHIN / BATCH, 100) == 1
    assert begun(pace, 1e9 + BATCH_WITHIN / 2, 100) == BATCH / 2 - 1


def test_a_clock_that_ran_ahead_holds_nothing_up() -> None:
    pace = Pace()
    begun(pace, 1e9 + 365 * DAY, 100)
    assert begun(pace, 1e9, 100) == BATCH


@pytest.mark.parametrize(
    ("left", "hurry"), [(30.0, False), (15.1, False), (14.9, True), (-1.0, True)]
)
def test_what_is_in_a_hurry(left: float, hurry: bool) -> None:
    assert in_hurry(0.0, 90 * DAY, (90 - left) * DAY) is hurry
