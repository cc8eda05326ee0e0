"""How a certificate stands among the machines of a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from acme_client.certificates.ranks import places
from acme_client.status import certificate_status
from acme_client.text import timestamp
from proxy.explain.in_cluster import document, rows, standing

DAY = 86400.0
NOW = 1_800_000_000.0
NODES = ["web-1", "web-2", "web-3"]
ORDER = places("a.test", NODES)


def entry(**more: Any) -> Any:
    about: dict[str, Any] = {
        "state": "fresh", "not_before": NOW - 60 * DAY, "not_after": NOW + 30 * DAY,
        "renew_at": NOW + DAY, "made_by": "web-9", **more,
    }  # fmt: skip
    return certificate_status(
        name=about.pop("name", "a.test"),
        names=("a.test",),
        source="acme",
        key_type="ecdsa-p256",
        **about,
    )


def cluster(place: int = 0, **more: Any) -> Any:
    node = ORDER[place]
    members = [{"node": one, "orders": True} for one in NODES]
    return {
        "name": "shop", "node": node, "orders": True, "ordering": NODES, "connected": True,
        "fault": None, "alone": False, "order_below": 0.1, "members": members, **more,
    }  # fmt: skip


def told(one: Any, of: Any) -> dict[str, str]:
    return dict(rows(one, of))


@pytest.mark.parametrize("place", range(3))
def test_each_machine_has_its_turn_ten_minutes_after_the_one_before(place: int) -> None:
    found = standing(entry(), cluster(place))
    turn = timestamp(NOW + DAY + place * 600)
    assert found == {
        "rank": place + 1, "order": ORDER, "turn": turn, "holder": None, "made_by": "web-9",
    }  # fmt: skip
    after = f", after {', '.join(ORDER[:place])}" if place else ""
    assert told(entry(), cluster(place)) == {
        "rank": f"{place + 1} of 3{after}; its turn is {turn}", "made by": "web-9",
    }  # fmt: skip


def test_after_a_failure_the_order_begins_with_the_next_machine() -> None:
    assert standing(entry(attempts=1), cluster())["rank"] == 3
    assert standing(entry(name="a.test/rsa"), cluster())["order"] == ORDER


def test_of_one_that_there_is_not_yet_it_is_told_how_long_the_first_has() -> None:
    missing = entry(state="missing", not_before=None, not_after=None, renew_at=None, made_by=None)
    assert told(missing, cluster()) == {
        "rank": "1 of 3; it begins as soon as the certificate is due"
    }
    third = told(missing, cluster(2))["rank"]
    assert third.endswith(f"its turn is 10 seconds after that of {ORDER[0]}")


def test_without_the_engine_each_orders_when_little_is_left() -> None:
    away: dict[str, Any] = {"connected": False, "fault": "no answer"}
    at = timestamp(NOW + 30 * DAY - 9 * DAY)
    assert told(entry(), cluster(**away))["rank"] == (
        f"1 of 3; while etcd is away it orders from {at} on"
    )
    of_four = cluster(ordering=[*NODES, "web-4"], **away)
    last = places("a.test", of_four["ordering"])[3]
    assert told(entry(), {**of_four, "node": last})["rank"].endswith(
        "while etcd is away it orders nothing"
    )


def test_a_machine_that_takes_names_those_that_order() -> None:
    takes = cluster(node="web-4", orders=False)
    assert told(entry(), takes)["rank"] == (
        f"none here; first {ORDER[0]}, then {ORDER[1]}, {ORDER[2]}"
    )
    assert standing(entry(), takes)["rank"] is None


def test_who_is_at_work_unless_it_is_gone() -> None:
    assert told(entry(holder="web-2"), cluster(node="web-1"))["holder"] == "web-2 is at work on it"
    own = told(entry(holder="web-1"), cluster(node="web-1"))["holder"]
    assert own == "web-1, this machine, is at work on it"
    assert "holder" not in told(entry(holder="web-7"), cluster())


def test_what_is_contested_or_in_files_has_no_turn() -> None:
    assert "rank" not in told(entry(contested="differently"), cluster())
    assert told({**entry(), "source": "file"}, cluster()) == {}
    assert "rank" not in told(entry(), cluster(ordering=[ORDER[0]]))  # nobody else orders
    assert document(entry(), None) == entry()
    assert document(entry(), cluster())["cluster"] == standing(entry(), cluster())
