"""What machines say of themselves: read whatever it is."""

from __future__ import annotations

import pytest

from acme_client.certificates.peers import Member
from acme_client.cluster.members import (
    Said,
    differences,
    digest,
    read,
    recalled,
    remembered,
    written_every,
)
from acme_client.storage import documents

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


@pytest.mark.parametrize(
    ("members", "every"), [(1, 30), (3, 30), (10, 30), (100, 300), (1000, 3000)]
)
def test_all_machines_together_hear_of_as_much_for_each_machine(members: int, every: int) -> None:
    assert written_every(members) == every
    # Each of them hears of a document every three seconds at most.
    assert members / every <= 1 / 3


def test_a_document_that_is_seldom_written_has_its_clock_where_older_programs_do_not_look() -> None:
    often = Said("web-1", clock=1.8e9, every=30.0)
    assert documents.read(often.document(), 1)["clock"] == 1.8e9
    seldom = Said("web-1", clock=1.8e9, every=300.0)
    assert "clock" not in documents.read(seldom.document(), 1)
    assert read("web-1", seldom.document()) == seldom
    # And one by such a program is written twice a minute.
    assert read("web-1", b'{"clock": 1.8e9}').every == 30.0
    for nonsense in (b'{"every": 0}', b'{"every": "x"}', b'{"every": -1, "asks": -1}'):
        assert (read("web-1", nonsense).every, read("web-1", nonsense).asks) == (30.0, 0)


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
