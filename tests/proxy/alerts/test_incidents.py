"""When somebody is told: once, again while it lasts, and when it is over; never of what is undecided."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.alerts import incidents
from proxy.alerts.incidents import Finding, Incidents, Notice, View, look, merged
from proxy.config.model import Alerts, Runway

DAY = 86400.0
NOW = 1_800_000_000.0
RULES = Alerts(webhook="https://x.test/", after_failures=3, runway=Runway(share=0.15))
KEY = ("runway_short", "a.test")


def at(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status(**more: Any) -> dict[str, Any]:
    return {
        "name": "a.test", "names": ["a.test"], "source": "acme", "directory": "https://ca.test/", "serial": "1",
        "not_before": at(NOW - 60 * DAY), "not_after": at(NOW + 30 * DAY), "state": "fresh",
        "renew_at": at(NOW - DAY), "attempts": 0, "last_error": None, "next_attempt": None, "served": True, "history": [],
        "on_demand_for": None, "given_up": False, "contested": None, "contested_since": None,
        "made_by": None, "holder": None,
        **more,
    }  # fmt: skip


def verdict(view: View, kind: str, name: str = "a.test") -> str:
    key = kind, name
    found = [
        word
        for word, keys in (
            ("wrong", view.wrong),
            ("well", view.well),
            ("undecided", view.undecided),
        )
        if key in keys
    ]
    (one,) = found
    return one


@pytest.mark.parametrize(
    ("more", "kind", "expected"),
    [
        ({}, "renewal_failing", "well"),
        ({"state": "failed", "attempts": 2, "last_error": "no"}, "renewal_failing", "undecided"),
        ({"state": "failed", "attempts": 3, "last_error": "no"}, "renewal_failing", "wrong"),
        ({"state": "issuing", "attempts": 3, "last_error": "no"}, "renewal_failing", "wrong"),
        ({"state": "due"}, "renewal_failing", "undecided"),
        ({"source": "file", "state": "failed", "attempts": 0}, "renewal_failing", "well"),
        ({}, "runway_short", "well"),
        ({"not_after": at(NOW + 10.5 * DAY)}, "runway_short", "wrong"),  # 15% of 70.5 days
        ({"not_after": at(NOW + 11 * DAY)}, "runway_short", "well"),
        ({"not_after": at(NOW - 1)}, "runway_short", "wrong"),
        # Its renewal is to come, or has just begun: little is left, and nothing is late.
        ({"not_after": at(NOW + DAY), "renew_at": at(NOW + 60)}, "runway_short", "well"),
        ({"not_after": at(NOW + DAY), "renew_at": at(NOW - 3000)}, "runway_short", "well"),
        ({"not_after": at(NOW + DAY), "renew_at": at(NOW - 3700)}, "runway_short", "wrong"),
        (
            {"not_after": at(NOW + DAY), "renew_at": at(NOW - 60), "attempts": 1},
            "runway_short",
            "wrong",
        ),
        ({"not_after": at(NOW - 1), "renew_at": at(NOW + 60)}, "runway_short", "wrong"),
        ({"source": "file", "not_after": at(NOW + DAY)}, "runway_short", "wrong"),
        ({"not_after": None, "not_before": None, "state": "missing"}, "runway_short", "undecided"),
    ],
)
def test_what_is_wrong_with_a_certificate(more: dict[str, Any], kind: str, expected: str) -> None:
    assert verdict(look([status(**more)], [], 0.0, RULES, NOW), kind) == expected


def test_runway_as_a_length_of_time() -> None:
    rules = Alerts(webhook="https://x.test/", runway=Runway(seconds=31 * DAY))
    assert verdict(look([status()], [], 0.0, rules, NOW), "runway_short") == "wrong"


@pytest.mark.parametrize(("silent", "expected"), [(3600.0, "well"), (3601.0, "wrong")])
def test_the_certifiers_silence(silent: float, expected: str) -> None:
    assert verdict(look([], [], silent, RULES, NOW), "certifier_silent", "") == expected


def test_the_next_step_is_that_of_the_cas_own_problem() -> None:
    problem = {
        "typ": "compound", "detail": "two", "name": None,
        "parts": [{"typ": "caa", "detail": "CAA forbids", "name": "a.test", "parts": []}],
    }  # fmt: skip
    past = {
        "at": at(NOW),
        "outcome": "refused",
        "error": "two",
        "problem": problem,
        "challenge": None,
    }
    one = status(state="failed", attempts=3, last_error="two; a.test: CAA", history=[past])
    finding = look([one], [], 0.0, RULES, NOW).wrong["renewal_failing", "a.test"]
    assert "CAA records" in finding.step


def wrong(text: str = "it ends") -> View:
    return View(wrong={KEY: Finding(text, "renew it", {"state": "due"})})


def test_an_incident_from_its_beginning_to_its_end() -> None:
    known = Incidents()
    (alert,) = known.follow(wrong(), DAY, NOW)
    assert (alert.event, alert.since, alert.name) == ("alert", NOW, "a.test")
    assert known.follow(wrong(), DAY, NOW + DAY - 1) == []
    (again,) = known.follow(wrong("it ends sooner"), DAY, NOW + DAY)
    assert (again.event, again.since, again.text) == ("reminder", NOW, "it ends sooner")
    assert known.follow(View(undecided={KEY}), DAY, NOW + 2 * DAY) == []
    (over,) = known.follow(View(well={KEY}), DAY, NOW + 3 * DAY)
    assert (over.event, over.since) == ("over", NOW)
    assert over.text == "a.test: well again, after 3 days"
    assert known.follow(View(well={KEY}), DAY, NOW + 4 * DAY) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"not_after": None, "not_before": None}, False),  # a stranger's, which does not work
        ({"given_up": True, "not_after": at(NOW - DAY)}, False),
        ({"not_after": at(NOW + DAY)}, True),
    ],
)
def test_of_names_on_demand_only_those_that_are_wanted(more: dict[str, Any], told: bool) -> None:
    one = {"on_demand_for": "shops.test", "given_up": False, "state": "failed", "attempts": 9}
    view = look([status(**{**one, **more})], [], 0.0, RULES, NOW)
    assert bool(view.wrong) is told


def test_what_is_wanted_no_longer_is_over_too() -> None:
    known = Incidents()
    known.follow(wrong(), DAY, NOW)
    (over,) = known.follow(View(), DAY, NOW + 1)
    assert (over.event, over.text) == ("over", "a.test: no longer in the configuration")


def test_a_site_that_nothing_has_been_heard_of_yet_is_not_well() -> None:
    known = Incidents()
    known.follow(wrong(), DAY, NOW)
    starting = look([], ["a.test"], 0.0, RULES, NOW + 1)
    assert known.follow(starting, DAY, NOW + 1) == []
    (over,) = known.follow(look([], [], 0.0, RULES, NOW + 2), DAY, NOW + 2)
    assert over.event == "over"


def test_a_clock_that_ran_ahead_silences_nobody() -> None:
    known = Incidents()
    known.follow(wrong(), DAY, NOW + 1000 * DAY)
    (again,) = known.follow(wrong(), DAY, NOW)
    assert (again.event, again.since) == ("reminder", NOW)


@given(
    st.lists(
        st.tuples(st.sampled_from(["wrong", "well", "undecided", "gone"]), st.floats(1, 2 * DAY)),
        max_size=30,
    )
)
def test_alerts_and_ends_alternate_and_reminders_lie_between(
    steps: list[tuple[str, float]],
) -> None:
    known, now, told = Incidents(), NOW, []
    for verdict_, later in steps:
        now += later
        view = {
            "wrong": wrong(), "well": View(well={KEY}),
            "undecided": View(undecided={KEY}), "gone": View(),
        }[verdict_]  # fmt: skip
        told += [one.event for one in known.follow(view, DAY, now)]
        known = Incidents.from_json(json.loads(json.dumps(known.to_json())))  # as over a restart
    lasting = False
    for event in told:
        assert lasting == (event != "alert")
        lasting = event != "over"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["kind", "name", "since", "told", "text"]), inner)
        ),
    )
)
def test_whatever_stands_in_the_file_is_read_as_far_as_it_can_be(value: Any) -> None:
    Incidents.from_json(value).follow(View(), DAY, NOW)
    incidents.waiting_from_json(value)


def notice(event: Any, text: str = "x", name: str = "a.test") -> Notice:
    return Notice(event, "runway_short", name, NOW, text, "do it", None)


def test_only_the_latest_word_waits() -> None:
    assert merged([notice("alert", "old")], [notice("reminder", "new")]) == [
        notice("reminder", "new")
    ]


def test_what_nobody_has_heard_of_needs_no_end() -> None:
    assert merged([notice("alert"), notice("alert", name="b.test")], [notice("over")]) == [
        notice("alert", name="b.test")
    ]


def test_what_was_heard_of_has_one() -> None:
    assert merged([], [notice("over")]) == [notice("over")]
    assert merged([notice("reminder")], [notice("over")]) == [notice("over")]


def test_what_waits_is_kept_over_a_restart() -> None:
    waiting = [notice("alert"), notice("over", name="b.test")]
    kept = json.loads(json.dumps(incidents.waiting_to_json(waiting)))
    assert incidents.waiting_from_json(kept) == waiting


def test_machines_that_want_different_things_are_told_when_that_lasts() -> None:
    def seen(**more: Any) -> View:
        return incidents.look([status(**more)], [], 0.0, RULES, NOW)  # type: ignore[list-item]

    said = {"contested": "a.test: web-1 and this node (web-2) are configured differently"}
    known = Incidents()
    rolled_out = seen(**said, contested_since=at(NOW - 60))
    assert known.follow(rolled_out, DAY, NOW) == []
    (told,) = known.follow(seen(**said, contested_since=at(NOW - 7200)), DAY, NOW)
    assert (told.event, told.kind, told.name) == ("alert", "contested", "a.test")
    assert "configured differently" in told.text
    (over,) = known.follow(seen(), DAY, NOW + 60)
    assert (over.event, "well again" in over.text) == ("over", True)


def test_of_several_machines_one_tells_of_a_certificate() -> None:
    names = [f"{number}.test" for number in range(20)]
    failing = [
        status(name=name, names=[name], state="failed", attempts=5, last_error="no")
        for name in names
    ]
    cluster: Any = {
        "name": "shop", "node": "", "orders": True, "ordering": ["web-1", "web-2", "web-3"],
        "connected": True, "fault": None, "alone": False, "order_below": 0.1, "refused": {},
        "behind": 0, "revision_behind": 0, "members": [{}, {}, {}],
    }  # fmt: skip

    def told(node: str, **more: Any) -> set[str]:
        tells = incidents.teller({**cluster, "node": node, **more})
        view = incidents.look(failing, [], 0.0, RULES, NOW, tells)
        assert {name for kind, name in {*view.wrong, *view.undecided} if kind != "x"} >= set(names)
        return {name for kind, name in view.wrong if kind == "renewal_failing"}

    one, two, three = (told(node) for node in cluster["ordering"])
    assert one | two | three == set(names)
    assert len(one) + len(two) + len(three) == len(names)
    assert told("web-9") == set()  # it orders nothing
    assert told("web-9", refused={"3.test": "damaged"}) == {"3.test"}
    assert told("web-1", connected=False) == told("web-1", ordering=[]) == set(names)
    assert told("web-1", ordering=[], members=[]) == set()  # it does not know the others yet
    assert not incidents.look(failing, [], 0.0, RULES, NOW, incidents.teller(None)).wrong
    assert len(incidents.look(failing, [], 0.0, RULES, NOW).wrong) == len(names)
