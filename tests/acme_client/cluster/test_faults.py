"""Which faults of an engine are told, and how often."""

from __future__ import annotations

import pytest

from acme_client.cluster.faults import Faults
from acme_client.storage.store import Unreachable

AWAY = Unreachable(113, "no answer in time")
DENIED = OSError(13, "permission denied")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one.message.removeprefix("cluster shop: ") for one in caplog.records]
    caplog.clear()
    return [one.partition("; what")[0] for one in found]


def test_an_engine_that_cannot_be_reached_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    faults = Faults("shop")
    for _ in range(3):
        faults.begun("certificates", AWAY)
        faults.begun("members", AWAY)
    assert told(caplog) == ["certificates: no answer in time"]
    assert faults.text == "no answer in time"
    assert faults.ended("members")
    assert told(caplog) == []
    assert faults.ended("certificates")
    assert told(caplog) == ["certificates: done again"]
    assert not faults.ended("certificates")
    faults.begun("members", AWAY)
    assert told(caplog) == ["members: no answer in time"]


def test_what_is_refused_is_told_for_each_part_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    faults = Faults("shop")
    faults.begun("certificates", AWAY)
    faults.begun("members", AWAY)
    faults.begun("members", DENIED)  # reached, and another fault than what was told
    faults.begun("members", DENIED)
    assert told(caplog) == ["certificates: no answer in time", "members: permission denied"]
    assert faults.ended("certificates")
    faults.begun("certificates", DENIED)
    assert told(caplog) == ["certificates: done again", "certificates: permission denied"]
    assert faults.text == "permission denied"
    assert faults.of("members")
    assert faults.ended("members")
    assert not faults.of("members")


def test_a_part_that_is_still_away_is_told_when_the_one_that_told_it_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = Faults("shop")
    faults.begun("certificates", AWAY)
    faults.begun("members", AWAY)
    faults.ended("certificates")
    caplog.clear()
    faults.begun("members", AWAY)
    assert told(caplog) == ["members: no answer in time"]
