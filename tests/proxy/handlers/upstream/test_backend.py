"""One backend's standing: breaker, slow start, maintenance."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.config import model
from proxy.config.model import Breaker, ProxyAction
from proxy.handlers.upstream.backend import Backend


class Idle:
    """A pool that is never asked."""

    def tick(self, now: float) -> None:
        pass


def made(**settings: Any) -> Backend:
    config = model.Backend("http://b:1", "http", "b", 1, weight=4)
    return Backend(config, Idle(), ProxyAction((config,), **settings))  # type: ignore[arg-type]


def test_the_breaker_opens_at_its_share_and_closes_after_its_pause() -> None:
    one = made(breaker=Breaker(0.5, requests=4, window=10.0, pause=3.0))
    for failed in (True, False, True):
        one.count(100.0, failed)
    assert one.is_available(100.0), "three requests decide nothing"
    one.count(100.0, False)
    assert not one.is_available(100.0)
    assert not one.is_available(102.9)
    assert one.is_available(103.0)
    for _ in range(3):
        one.count(103.0, False)
    one.count(103.0, True)
    assert one.is_available(103.0), "it counts anew"


def test_the_breaker_forgets_what_is_older_than_its_window() -> None:
    one = made(breaker=Breaker(0.5, requests=4, window=10.0, pause=3.0))
    for _ in range(3):
        one.count(100.0, True)
    one.count(111.0, True)
    assert one.is_available(111.0)


def test_slow_start_gives_the_share_little_by_little() -> None:
    one = made(slow_start=10.0)
    one.tick(100.0)
    assert one.weight == 4.0, "one that was never out is warm"
    one.failed(100.0, "refused")
    one.tick(100.5)
    assert one.weight == pytest.approx(0.2)
    one.tick(101.0)  # its pause of a second is over
    one.tick(105.5)
    assert one.weight == pytest.approx(2.0)
    one.tick(120.0)
    assert one.weight == 4.0


def test_without_slow_start_a_share_is_a_share() -> None:
    one = made()
    one.failed(100.0, "refused")
    one.tick(100.5)
    assert one.weight == 4.0


def test_health_has_three_values_and_a_pause_that_is_over_mends_nothing() -> None:
    one = made()
    assert (one.healthy(100.0), one.last_error) == ("untried", None)
    one.failed(100.0, "Connection refused")
    assert (one.healthy(100.0), one.last_error) == ("no", "Connection refused")
    assert one.is_available(150.0), "it may be tried again …"
    assert one.healthy(150.0) == "no", "… but nobody has"
    one.succeeded()
    assert (one.healthy(150.0), one.last_error) == ("yes", None)
    one.checked("status 500")
    one.succeeded()
    assert (one.healthy(150.0), one.last_error) == ("no", "status 500")
    one.checked(None)
    assert (one.healthy(150.0), one.last_error) == ("yes", None)
