"""Renewals counted from what the certifier reports, and nothing twice."""

from __future__ import annotations

from typing import Any

from proxy.metrics.renewals import Renewals


def report(*outcomes: str, first: int = 0) -> dict[str, Any]:
    history = [{"at": first + number, "outcome": one} for number, one in enumerate(outcomes)]
    return {"source": "acme", "serial": None, "history": history}


def own(serial: str) -> dict[str, Any]:
    return {"source": "file", "serial": serial}


def test_only_what_is_new_since_the_first_report_counts() -> None:
    renewals = Renewals()
    renewals.reported("a", report("obtained", "refused"))
    assert renewals.counts() == []
    renewals.reported("a", report("obtained", "refused"))
    assert renewals.counts() == []
    renewals.reported("a", report("obtained", "refused", "validation", "limits", "obtained"))
    assert renewals.counts() == [("a", "failed", 1), ("a", "ok", 1), ("a", "put_off", 1)]


def test_a_history_that_is_full_goes_on() -> None:
    renewals = Renewals()
    renewals.reported("a", report(*["refused"] * 20))
    renewals.reported("a", report(*["refused"] * 20, first=1))
    renewals.reported("a", report(*["refused"] * 20, first=3))
    assert renewals.counts() == [("a", "failed", 3)]


def test_a_certificate_from_files_is_renewed_when_another_is_read() -> None:
    renewals = Renewals()
    for serial in ("1", "1", "2", "2"):
        renewals.reported("a", own(serial))
    assert renewals.counts() == [("a", "ok", 1)]


def test_what_is_wanted_no_longer_leaves_nothing() -> None:
    renewals = Renewals()
    renewals.reported("a", own("1"))
    renewals.reported("a", own("2"))
    renewals.forget("a")
    assert renewals.counts() == []
    renewals.reported("a", own("3"))
    assert renewals.counts() == []
