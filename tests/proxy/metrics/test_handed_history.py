"""The history of an hour at an upgrade: the successor goes on with it, or begins anew."""

from __future__ import annotations

import json
import os

import pytest

from proxy.ipc.handoff_messages import HandedFacts
from proxy.metrics import handed_history
from proxy.metrics.handed_history import read, written
from proxy.metrics.history import MOST_SERIES, SLOT, SLOTS, History
from proxy.supervisor.upgrade.handoff import Handoff, _spelt, _understood
from support.figures import figures, process


def counted(slots: int, sites: int = 1) -> History:
    """A site more or less busy than the next, and 20 requests a second of the first."""
    history = History()
    for i in range(slots + 1):
        history.observe(
            1000.0 + i * SLOT,
            figures({f"{n}.test": (i * (100 + n), n) for n in range(sites)}, {"http://b": 5 * i}),
            {"l": i},
            [process("worker 1", 0.5 * i)],
        )
    return history


def again(history: History) -> History:
    found = read(written(history))
    assert found is not None
    return found


def test_it_is_the_same_history() -> None:
    before = counted(12, sites=3)
    after = again(before)
    for kind, group in before.groups.items():
        assert list(after.groups[kind].series) == list(group.series)
        for name in group.series:
            assert after.document(kind, name) == before.document(kind, name)
        assert after.lately(kind) == before.lately(kind) if kind in ("site", "backend") else True
    assert after.pivot("process", "cpu") == before.pivot("process", "cpu")


def test_an_hour_that_is_full_comes_over_in_the_same_order() -> None:
    before = counted(SLOTS + 100)
    after = again(before)
    assert after.document("connections", "l")["rows"] == [
        [float(i)] for i in range(101, SLOTS + 101)
    ]
    assert after.document("site", "0.test") == before.document("site", "0.test")


def test_what_was_handed_over_is_bounded() -> None:
    before = counted(2, sites=MOST_SERIES + 30)
    after = again(before)
    assert len(after.groups["site"].series) == MOST_SERIES
    # A predecessor that allows more does not make this program keep more.
    before.groups["site"].most = before.groups["connections"].most = 10 * MOST_SERIES
    before.groups["connections"].add(
        before.slot, {f"{n}": (1.0, [1.0]) for n in range(2 * MOST_SERIES)}
    )
    assert len(again(before).groups["connections"].series) == MOST_SERIES


def test_the_successor_goes_on_behind_a_pause_that_is_empty() -> None:
    after = again(counted(3))
    # Its own counters begin at nothing, three slots after the last that the predecessor noted.
    after.observe(1030.0, figures({"0.test": (7, 0)}), {"l": 9}, [process("worker 1", 9.0)])
    after.observe(1035.0, figures({"0.test": (57, 0)}), {"l": 9}, [process("worker 1", 9.5)])
    rows = after.document("all", "")["rows"]
    assert [row[1] for row in rows] == [20.0, 20.0, 20.0, 0.0, 0.0, 0.0, 10.0]
    assert after.document("all", "")["at"] == 1035.0
    cpu = [row[0] for row in after.document("process", "worker 1")["rows"]]
    assert cpu == pytest.approx([0.1, 0.1, 0.1, 0.0, 0.0, 0.0, 0.1])
    # A series that is new meanwhile begins behind the pause.
    assert len(after.pivot("connections", "open")["rows"]) == 7


@pytest.mark.parametrize("later", [SLOTS * SLOT, 10 * SLOTS * SLOT])
def test_after_an_hour_nothing_of_it_is_left(later: float) -> None:
    after = again(counted(3))
    after.observe(1015.0 + later, figures({}), {}, [])
    assert after.document("all", "")["rows"] == []
    after.observe(1020.0 + later, figures({"0.test": (50, 0)}), {}, [])
    assert [row[1] for row in after.document("all", "")["rows"]] == [10.0]


def test_a_clock_that_was_set_back_meanwhile_adds_nothing() -> None:
    after = again(counted(3))
    after.observe(10.0, figures({}), {}, [])
    after.observe(15.0, figures({"0.test": (50, 0)}), {}, [])
    assert [row[1] for row in after.document("all", "")["rows"]] == [20.0, 20.0, 20.0, 10.0]


def test_a_history_without_a_slot_is_nothing() -> None:
    assert written(History()) == b""
    assert read(b"") is None


def test_another_versions_history_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(counted(3))
    monkeypatch.setattr(handed_history, "VERSION", handed_history.VERSION + 1)
    assert read(content) is None


def test_a_kind_with_other_columns_is_left_out_and_the_others_stay() -> None:
    line, _, rows = written(counted(3)).partition(b"\n")
    head = json.loads(line)
    for group in head["groups"]:
        if group["kind"] == "site":
            group["columns"][0] = "0xx"
        if group["kind"] == "limit":
            group["kind"] = "other"
    after = read(json.dumps(head).encode() + b"\n" + rows)
    assert after is not None
    assert after.document("site", "0.test")["rows"] == []
    assert len(after.document("all", "")["rows"]) == 3
    assert len(after.document("process", "worker 1")["rows"]) == 3


def test_what_does_not_fit_is_dropped_whole() -> None:
    content = written(counted(3))
    line, _, rows = content.partition(b"\n")
    assert read(content[:-1]) is None
    assert read(content + b"\0\0\0\0") is None
    for cut in range(0, len(line), 7):
        assert read(line[:cut] + b"\n" + rows) is None
    head = json.loads(line)
    for name, value in [
        ("slot", 1.0),
        ("noted", -1),
        ("noted", 1),  # fewer slots than rows
        ("noted", "3"),
        ("at", None),
        ("at", float("inf")),
        ("groups", None),
        ("groups", [None]),
        ("groups", [{"kind": "all", "columns": [], "series": [[]]}]),
        ("groups", [{"kind": [], "columns": [], "series": []}]),
    ]:
        assert read(json.dumps(head | {name: value}).encode() + b"\n" + rows) is None, name
    assert read(json.dumps([1]).encode()) is None
    for length in (-27, 26, 10**9):
        head["groups"][0]["series"][0][2] = length
        assert read(json.dumps(head).encode() + b"\n" + rows) is None


def test_it_travels_beside_the_facts() -> None:
    before = counted(3)
    # A descriptor is closed once its message is sent.
    (history, (fd,)), (facts, none) = [
        (message, [os.dup(fd) for fd in fds])
        for message, fds in _spelt(Handoff(1, 0, "", (), history=before))
    ]
    assert isinstance(facts, HandedFacts)
    assert none == []
    found = _understood(object(), [(history, [fd])], facts)  # type: ignore[arg-type] # nothing is said on it
    assert found.history is not None
    assert found.history.document("all", "") == before.document("all", "")
    kinds = [type(message).__name__ for message, _ in _spelt(Handoff(1, 0, "", ()))]
    assert kinds == ["HandedFacts"]
