"""When a certificate is due: by its lifetime, by the CA's window."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.certificates.renewal import (
    ASK_LEAST,
    ASK_MOST,
    ASK_USUALLY,
    Window,
    ask_again,
    moment,
    moment_in,
)

NOW = 1_800_000_000.0
DAY = 86400.0


class Latest(random.Random):
    """Dice that always spread by the least."""

    def uniform(self, a: float, b: float) -> float:
        return a


@pytest.mark.parametrize(
    ("days", "left"),
    [
        (90, 30),
        (64, 64 / 3),
        (45, 15),
        (10, 10 / 3),
        (9.99, 9.99 / 2),
        (160 / 24, 160 / 48),
        (1, 0.5),
    ],
)
def test_a_third_of_the_lifetime_is_left_or_half_of_a_short_one(days: float, left: float) -> None:
    renew_at = moment(NOW, NOW + days * DAY, Latest())
    catching_up = min(DAY, days * DAY / 12) / 8
    assert NOW + days * DAY - renew_at == pytest.approx(left * DAY + catching_up)


@given(lifetime=st.floats(1, 400 * DAY), seed=st.integers())
def test_it_lies_within_the_lifetime_and_the_spread(lifetime: float, seed: int) -> None:
    renew_at = moment(NOW, NOW + lifetime, random.Random(seed))
    assert NOW < renew_at < NOW + lifetime
    latest = moment(NOW, NOW + lifetime, Latest())
    assert latest - min(DAY, lifetime / 12) - 1e-3 <= renew_at <= latest + 1e-3


def test_a_thousand_made_in_one_minute_come_due_over_the_day() -> None:
    rng = random.Random(1)
    hours = {int(moment(NOW, NOW + 90 * DAY, rng) // 3600) for _ in range(1000)}
    assert len(hours) >= 21


def test_a_certificate_that_ends_before_it_begins_is_due_at_once() -> None:
    assert moment(NOW, NOW - DAY, Latest()) == NOW - DAY


@given(start=st.floats(0, 4e9), length=st.floats(0, 90 * DAY), seed=st.integers())
def test_a_window_gives_a_moment_inside_it(start: float, length: float, seed: int) -> None:
    window = Window(start, start + length)
    assert window.start <= moment_in(window, 0.0, 1e11, random.Random(seed)) <= window.end


@given(start=st.floats(-DAY, 200 * DAY), length=st.floats(0, 90 * DAY), seed=st.integers())
def test_no_window_leads_past_the_last_tenth_of_the_lifetime(
    start: float, length: float, seed: int
) -> None:
    """A CA's mistake must not lead to a lapse."""
    window = Window(NOW + start, NOW + start + length)
    assert moment_in(window, NOW, NOW + 90 * DAY, random.Random(seed)) <= NOW + 81 * DAY


def test_moments_in_a_window_are_spread_evenly() -> None:
    rng = random.Random(2)
    tenths = [0] * 10
    for _ in range(10_000):
        tenths[int(moment_in(Window(0.0, 10.0), 0.0, 1e9, rng)) % 10] += 1
    assert min(tenths) > 800


@pytest.mark.parametrize(
    ("retry_at", "pause"),
    [
        (None, ASK_USUALLY),
        (NOW + 3600, 3600),
        (NOW, ASK_LEAST),
        (NOW - DAY, ASK_LEAST),
        (NOW + 30 * DAY, ASK_MOST),
    ],
)
def test_the_window_is_asked_for_at_least_twice_a_day(retry_at: float | None, pause: float) -> None:
    assert ask_again(NOW, retry_at) == NOW + pause
    assert pause <= DAY / 2
