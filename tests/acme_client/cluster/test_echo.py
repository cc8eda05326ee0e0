"""What a machine has written of itself, and has not heard back."""

from __future__ import annotations

from acme_client.cluster.echo import Echo


def test_what_comes_back_within_seconds_is_no_news() -> None:
    echo = Echo()
    assert echo.behind(0, 0.0) == 0
    for second in range(100):  # the answer to each write is awaited still when the next is made
        echo.written = 10 * (second + 1)
        assert echo.behind(10 * second, float(second)) == 0


def test_a_watch_that_is_stuck_is_told_until_it_is_heard_again() -> None:
    echo = Echo()
    echo.written = 40
    assert [echo.behind(25, now) for now in (0.0, 4.9, 5.0)] == [0, 0, 15]
    echo.written = 50
    assert echo.behind(25, 6.0) == 25
    assert echo.behind(44, 7.0) == 0  # it runs again, and what is left has come just now
    assert echo.behind(60, 8.0) == 0
    assert echo.behind(60, 60.0) == 0


def test_an_engine_from_a_backup_is_awaited_at_what_it_is() -> None:
    echo = Echo()
    echo.written = 40
    assert echo.behind(25, 0.0) == 0
    echo.written = 30  # it was taken back, and nothing of what was awaited will come
    assert echo.behind(31, 60.0) == 0
    assert echo.behind(31, 90.0) == 0
    echo.written = 35
    assert [echo.behind(31, now) for now in (91.0, 96.0)] == [0, 4]
