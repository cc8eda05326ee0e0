"""Pauses after failures, and Retry-After in all its spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.certificates.retry import (
    PAUSES,
    RETRY_AFTER_LEAST,
    RETRY_AFTER_MOST,
    RUNWAY_PART,
    bounded,
    pause,
    retry_after,
)

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0
NOON = 1_795_521_600.0  # 2026-11-24 12:00:00 UTC


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 60), (2, 600), (3, 6000), (4, DAY), (5, DAY), (1000, DAY)],
)
def test_pauses_grow_to_a_day_and_stay_there(failures: int, seconds: float) -> None:
    assert pause(failures, NOW) == seconds


@pytest.mark.parametrize(
    ("failures", "runway", "lifetime", "seconds"),
    [
        (4, 30 * DAY, 90 * DAY, DAY),  # plenty of time: as ever
        (4, 2 * DAY, 6 * DAY, 2 * DAY / 8),  # a short one: an eighth of what is left
        (4, 3600, 90 * DAY, 900),  # about to end, yet four attempts an hour at most
        (1, 3600, 90 * DAY, 60),  # the runway never makes a pause longer
        (4, 20, 60, 2.5),  # lives for a minute: tests
        (4, 0, 90 * DAY, 900),  # ends now
        (4, -DAY, 90 * DAY, DAY / 8),  # has ended a day ago: visitors are waiting
        (4, -30 * DAY, 90 * DAY, DAY),  # nobody is any more
        (4, 0, 0, DAY),  # there has never been one
    ],
)
def test_a_pause_leaves_room_in_the_runway(
    failures: int, runway: float, lifetime: float, seconds: float
) -> None:
    assert pause(failures, NOW, runway=runway, lifetime=lifetime) == seconds


@given(
    failures=st.integers(1, 50),
    runway=st.floats(3600, 400 * DAY),
    lifetime=st.floats(6 * DAY, 400 * DAY),
)
def test_there_are_at_least_seven_attempts_before_the_end(
    failures: int, runway: float, lifetime: float
) -> None:
    seconds = pause(failures, NOW, runway=runway, lifetime=lifetime)
    assert 0 < seconds <= max(runway * RUNWAY_PART, 900.0)
    assert seconds <= PAUSES[-1]


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (NOW + 7200, 7200),
        (NOW - 7200, RETRY_AFTER_LEAST),  # a moment that is over
        (NOW + 0.01, RETRY_AFTER_LEAST),
        (NOW + 400 * DAY, RETRY_AFTER_MOST),
    ],
)
def test_the_cas_word_wins_within_reason(asked: float, seconds: float) -> None:
    for failures in (1, 4):
        assert pause(failures, NOW, not_before=asked, runway=DAY, lifetime=90 * DAY) == seconds


@pytest.mark.parametrize(
    ("field", "moment"),
    [
        ("120", NOW + 120),
        (" 0 ", NOW),
        ("99999999999999999999", NOW + RETRY_AFTER_MOST),
        ("Tue, 24 Nov 2026 12:00:00 GMT", NOON),
        ("Tuesday, 24-Nov-26 12:00:00 GMT", NOON),  # RFC 850's, obsolete and still about
        ("Tue Nov 24 12:00:00 2026", NOON),  # asctime's: no zone is GMT
        ("Tue, 24 Nov 2026 07:00:00 -0500", NOON),
        ("Tue, 24 Nov 2026 17:30:00 +0530", NOON),
        ("Tue, 24 Nov 2026 12:00:00 -0000", NOON),
    ],
)
def test_retry_after_is_a_moment(field: str, moment: float) -> None:
    assert retry_after(field, NOW) == moment


@pytest.mark.parametrize(
    "field", [None, "", "soon", "-5", "1.5", "١٢", "Tue, 99 Nov 2026 12:00:00 GMT", "Tue, 24 Nov"]
)
def test_what_names_no_moment_is_no_retry_after(field: str | None) -> None:
    assert retry_after(field, NOW) is None


def test_a_date_means_the_same_whatever_zone_this_machine_is_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import time

    for zone in ("UTC", "America/New_York", "Asia/Kolkata"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert retry_after("Tue, 24 Nov 2026 12:00:00 GMT", NOW) == NOON
    monkeypatch.undo()
    time.tzset()


@given(st.text())
def test_no_text_is_a_crash(field: str) -> None:
    moment = retry_after(field, NOW)
    assert moment is None or isinstance(moment, float)


@pytest.mark.parametrize(
    ("named", "runway", "taken"),
    [
        (0.0, 0.0, 1.0),  # a CA may not make us ask without end
        (-5.0, 30 * DAY, 1.0),
        (600.0, 0.0, 600.0),
        (HOUR, 0.0, HOUR),
        (7 * DAY, 0.0, HOUR),  # nothing is served
        (7 * DAY, -DAY, HOUR),
        (7 * DAY, 30 * DAY, DAY),
        (2 * HOUR, 30 * DAY, 2 * HOUR),
        (DAY, 5 * HOUR, 5 * HOUR),  # not beyond the end of what is served
        (DAY, 60.0, HOUR),
    ],
)
def test_how_long_a_ca_is_taken_at_its_word(named: float, runway: float, taken: float) -> None:
    assert bounded(NOW + named, NOW, runway) == NOW + taken
