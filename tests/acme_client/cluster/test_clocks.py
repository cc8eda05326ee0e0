"""The clocks of the other machines, by documents of which it is known how old they can be."""

from __future__ import annotations

import pytest

from acme_client.cluster.clocks import Clocks, answering
from acme_client.storage.etcd.passage import Passage

# Our wall clock while the steady one, which began with the machine, is at 0.
WALL = 1.8e9


def heard(clocks: Clocks, node: str, ahead: float, at: float, age: float = 0.0) -> bool:
    """Hear of a document that was written ``age`` seconds before this moment of the steady clock,
    as soon as it was; returns whether it counts as just written."""
    return clocks.hear(node, WALL + at - age + ahead, int(at * 10), age + 0.1, 300.0, at)


def test_what_was_just_written_tells_the_clock_for_as_long_as_clocks_run_alike() -> None:
    clocks = Clocks()
    assert heard(clocks, "web-1", -20.0, at=100.0)
    assert clocks.has_heard("web-1", 1000)
    for at in (100.0, 400.0, 100_000.0):
        assert clocks.ahead("web-1", WALL + at, at) == -20.0
    assert heard(clocks, "web-1", 7.0, at=500.0)  # the other clock was set
    assert clocks.ahead("web-1", WALL + 500.0, 500.0) == 7.0
    clocks.keep_only(set())
    assert clocks.ahead("web-1", WALL + 500.0, 500.0) == 0.0


@pytest.mark.parametrize(
    ("ahead", "age", "found"),
    [
        (0.0, 299.0, 0.0),
        (0.0, 0.0, 0.0),
        (100.0, 150.0, 0.0),  # it may be older than it says
        (400.0, 100.0, 300.0),
        (-400.0, 100.0, -195.0),
        (-400.0, 290.0, -385.0),
    ],
)
def test_a_document_that_was_there_before_bounds_the_clock(
    ahead: float, age: float, found: float
) -> None:
    clocks = Clocks()
    is_new = clocks.hear("web-1", WALL - age + ahead, 7, None, 300.0, 0.0)
    assert not is_new
    assert clocks.ahead("web-1", WALL, 0.0) == found
    assert clocks.are_wanted()


def test_what_was_heard_late_is_bounded_by_when_it_can_have_been_written() -> None:
    clocks = Clocks()
    assert not clocks.hear("web-1", WALL - 100.0, 7, 40.0, 300.0, 0.0)
    assert clocks.ahead("web-1", WALL, 0.0) == -60.0
    assert clocks.are_wanted()


def test_what_was_heard_late_unsettles_no_clock_that_can_be_what_it_was() -> None:
    clocks = Clocks()
    heard(clocks, "web-1", 3.0, at=10.0)
    assert not heard(clocks, "web-1", 3.0, at=300.0, age=20.0)
    assert clocks.has_heard("web-1", 3000)
    assert clocks.ahead("web-1", WALL + 300.0, 300.0) == 3.0
    assert not clocks.are_wanted()
    # It was set, or is heard of so late that it may have been.
    heard(clocks, "web-1", 50.0, at=600.0, age=20.0)
    assert clocks.are_wanted()
    heard(clocks, "web-1", 3.0, at=900.0)
    heard(clocks, "web-1", 3.0, at=1200.0, age=200.0)
    assert clocks.are_wanted()


def test_only_what_is_known_counts_as_soon_as_it_is_enough() -> None:
    clocks = Clocks()
    nodes = [f"web-{number}" for number in range(10)]
    for node in nodes:
        clocks.hear(node, WALL, 7, None, 300.0, 0.0)
    for number, node in enumerate(nodes[:3]):
        assert clocks.are_wanted()
        assert all(map(clocks.counts, nodes))
        heard(clocks, node, 0.0, at=10.0 + number)
    assert not clocks.are_wanted()
    assert [node for node in nodes if clocks.counts(node)] == nodes[:3]
    # Of two machines, one other is all that there is.
    clocks.keep_only({"web-9"})
    assert clocks.are_wanted()
    heard(clocks, "web-9", 0.0, at=20.0)
    assert not clocks.are_wanted()


def test_our_own_clock_that_was_set_is_noticed_at_once_and_nothing_is_known_any_more() -> None:
    clocks = Clocks()
    assert not clocks.was_set(WALL, 0.0)
    for number in range(4):
        heard(clocks, f"web-{number}", 0.0, at=10.0 + number)
    assert not clocks.was_set(WALL + 100.5, 100.0)
    assert clocks.was_set(WALL + 700.0, 100.0)
    assert clocks.ahead("web-1", WALL + 700.0, 100.0) == -600.0
    assert clocks.are_wanted()
    assert not clocks.was_set(WALL + 701.0, 101.0)
    # The machine had stood still, and what the others say now is right.
    for number in range(3):
        clocks.hear(f"web-{number}", WALL + 702.0, 9000, 1.0, 300.0, 102.0)
    assert clocks.ahead("web-1", WALL + 702.0, 102.0) == 0.0
    assert not clocks.counts("web-3")


def test_a_clock_that_runs_away_slowly_is_noticed() -> None:
    clocks = Clocks()
    moments = [at for at in range(0, 10_000, 5) if clocks.was_set(WALL + 1.001 * at, float(at))]
    assert 3 <= len(moments) <= 5


def test_a_few_answer_and_others_the_next_time() -> None:
    nodes = [f"web-{number}" for number in range(100)]
    first, second = answering("web-7", 1, nodes), answering("web-7", 2, nodes)
    assert len({*first, *second}) == 10
    assert "web-7" not in answering("web-7", 1, nodes)
    # Each is asked as often as any other, when all ask.
    asked = [one for node in nodes for one in answering(node, 1, nodes)]
    assert max(asked.count(one) for one in nodes) < 16
    assert sorted(answering("web-1", 5, ["web-1", "web-2", "web-3"])) == ["web-2", "web-3"]
    assert answering("web-1", 1, ["web-1"]) == []


def test_a_revision_is_younger_than_an_answer_that_did_not_know_it() -> None:
    passage = Passage()
    assert passage.written_after(5) is None
    passage.note(10.0, 4)
    passage.note(10.5, 6)  # too near to be kept
    passage.note(12.0, 6)
    passage.note(20.0, 0)  # an answer that does not tell
    assert passage.written_after(4) is None
    assert passage.written_after(5) == passage.written_after(6) == 10.0
    assert passage.written_after(7) == 12.0
    passage.note(30.0, 3)  # from a backup: its revisions are younger than before
    assert passage.written_after(5) == 30.0
    for number in range(100):
        passage.note(40.0 + number, 100 + number)
    assert passage.written_after(5) is None  # heard of too late to know
    assert passage.written_after(200) == 139.0
