"""What machines say of themselves: read whatever it is, and clocks judged by when they were
heard."""

from __future__ import annotations

import pytest

from acme_client.certificates.peers import Member
from acme_client.cluster.members import (
    WRITTEN_EVERY,
    Clocks,
    Said,
    differences,
    digest,
    read,
    recalled,
    remembered,
)

OURS = {"a.example": "1", "b.example": "2"}


def test_what_is_said_is_read() -> None:
    said = Said("web-1", "1.2", "2027-01-15T08:00:00Z", True, 7, 1, "ab", "thumb", 1.8e9, "cd")
    assert read("web-1", said.document()) == said


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"seen": -1, "behind": true, "clock": "x", "since": [], "orders": "yes"}',
        b'{"clock": 1e400}',
        b'{"clock": NaN}',
    ],
)
def test_nonsense_says_nothing(data: bytes) -> None:
    said = read("web-1", data)
    assert (said.node, said.orders, said.seen, said.clock) == ("web-1", False, 0, None)


def test_who_speaks_a_newer_form_may_order_and_is_not_waited_for() -> None:
    said = read("web-1", b'{"version": 9}')
    assert said.orders
    assert said.seen > 1 << 60


def test_a_clock_is_judged_by_when_it_was_heard() -> None:
    clocks = Clocks()
    # It was there before: written at any moment of the last half minute.
    assert clocks.hear("web-1", 1000.0, 1020.0) == 0.0
    assert clocks.hear("web-2", 5000.0, 1020.0) == 3980.0
    assert clocks.hear("web-3", 0.0, 1020.0) == WRITTEN_EVERY + 5.0 - 1020.0
    # Written just now.
    assert clocks.hear("web-1", 1030.0, 1050.0) == -20.0
    assert clocks.hear("web-1", 1030.0, 1060.0) == -20.0
    assert clocks.hear("web-4", None, 1060.0) == 0.0
    clocks.keep_only({"web-2"})
    assert clocks.hear("web-1", 1030.0, 1060.0) == 0.0


def test_members_are_remembered_by_their_differences() -> None:
    members = {
        "web-1": Member(True, OURS),
        "web-2": Member(True, {"a.example": "9"}),
        "web-3": Member(False, {**OURS, "c.example": "3"}),
    }
    kept = remembered(members, OURS)
    assert kept["web-1"] == {"orders": True, "differs": {}}
    assert recalled(kept, OURS) == members
    for nonsense in (None, [], {"x": 1}, {"x": {"differs": []}}):
        assert set(recalled(nonsense, OURS)) <= {"x"}


def test_a_digest_is_of_names_and_wishes() -> None:
    assert digest(OURS) == digest(dict(reversed(OURS.items())))
    assert digest(OURS) != digest({**OURS, "a.example": "2"})
    assert differences(OURS, OURS) == {}
