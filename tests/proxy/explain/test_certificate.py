"""One page on one certificate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.explain.certificate import find, page

NOW = 1_800_000_000.0
DAY = 86400.0


def at(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def entry(**more: Any) -> dict[str, Any]:
    return {
        "name": "a.test", "names": ["a.test", "*.a.test"], "source": "acme",
        "directory": "https://ca.test/dir", "key_type": "ecdsa-p256",
        "serial": "ab", "not_before": at(NOW - 60 * DAY), "not_after": at(NOW + 30 * DAY),
        "renew_at": at(NOW + DAY), "ari_window": None, "state": "fresh", "attempts": 0,
        "last_error": None, "next_attempt": None, "served": True, "profile": None,
        "on_demand_for": None, "given_up": False, "contested": None, "contested_since": None,
        "made_by": None, "holder": None,
        "history": [], **more,
    }  # fmt: skip


def told(**more: Any) -> str:
    return "\n".join(page(entry(**more), NOW))


def test_one_that_is_well() -> None:
    assert told() == "\n".join(
        [
            "        names  a.test, *.a.test",
            "        state  fresh: valid, and not due for renewal",
            "       served  yes",
            "         from  https://ca.test/dir",
            "      profile  the CA's default",
            "          key  ecdsa-p256",
            "       serial  ab",
            f"        valid  {at(NOW - 60 * DAY)} to {at(NOW + 30 * DAY)}",
            "       runway  30 days 0 hours, 33% of its life",
            f"       renews  {at(NOW + DAY)}, by its lifetime",
        ]
    )


def test_the_cas_window_and_its_explanation() -> None:
    window = {"start": at(NOW), "end": at(NOW + DAY), "explanation_url": "https://ca.test/why"}
    text = told(ari_window=window, profile="tlsserver")
    assert "a moment drawn from the CA's window" in text
    assert f"CA's window  {at(NOW)} to {at(NOW + DAY)}" in text
    assert "CA says  https://ca.test/why" in text
    assert "profile  tlsserver" in text


def test_every_attempt_with_its_reason_and_what_the_last_one_means() -> None:
    problem = {
        "typ": "compound", "detail": "two are wrong", "name": None,
        "parts": [{"typ": "caa", "detail": "CAA forbids it", "name": "a.test", "parts": []}],
    }  # fmt: skip
    history = [
        {"at": at(NOW - 9), "outcome": "obtained", "directory": "https://ca.test/dir",
         "challenge": "http-01", "error": None, "seconds": 2.04, "problem": None},
        {"at": at(NOW), "outcome": "refused", "directory": "https://ca.test/dir",
         "challenge": None, "error": "two are wrong", "seconds": 0.5, "problem": problem},
    ]  # fmt: skip
    text = told(
        state="failed",
        attempts=1,
        last_error="two are wrong",
        next_attempt=at(NOW + 60),
        history=history,
    )
    lines = text.splitlines()
    begin = lines.index("attempts, the last one first")
    assert lines[begin + 1 : begin + 3] == [
        f"  {at(NOW)}  refused at ca.test in 0.5 s: two are wrong",
        f"  {at(NOW - 9)}  obtained at ca.test by http-01 in 2.0 s",
    ]
    assert "the CA says    a.test: CAA forbids it" in text
    assert "that means     a.test: a CAA record in DNS forbids this CA" in text
    assert "next step      add the CA to the name's CAA records" in text
    assert text.endswith("To try at once: treehouse-proxy certs renew a.test")


def test_a_refusal_of_our_own_ledger() -> None:
    history = [
        {"at": at(NOW), "outcome": "limits", "directory": "https://ca.test/dir", "challenge": None,
         "error": "one of the last orders", "seconds": 0.0, "problem": None}
    ]  # fmt: skip
    text = told(state="waiting", last_error="one of the last orders", history=history)
    assert "that means     the order would be one of the last that the CA allows" in text
    assert "certs renew a.test --force" in text


def test_files_of_ones_own_that_have_expired() -> None:
    text = told(
        source="file", state="failed", renew_at=None, directory=None, last_error="expired",
        not_after=at(NOW - 1), history=[],
    )  # fmt: skip
    assert "failed: the certificate in the files has expired" in text
    assert "runway  none: it has expired" in text
    assert "renews  by whoever looks after the files" in text
    assert "certs renew" not in text


def test_a_clock_that_is_behind_is_told() -> None:
    text = told(not_before=at(NOW + DAY))
    assert "runway  by this machine's clock it is not valid yet; set the clock right" in text
    assert "(it shows 2027-01-15 08:00 UTC)" in text
    assert "100% of its life" in told(not_before=at(NOW + 30), not_after=at(NOW + 90 * DAY))


def test_minutes_count_on_the_last_day() -> None:
    assert "runway  0 days 2 hours 30 minutes" in told(not_after=at(NOW + 9000))


@pytest.mark.parametrize(
    ("name", "found"),
    [("a.test", True), ("www.a.test", True), ("a.b.a.test", False), ("b.test", False)],
)
def test_it_is_found_by_name_or_by_the_wildcard_that_covers_it(name: str, found: bool) -> None:
    assert bool(find([entry()], name)) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.test", ["a.test", "a.test/rsa"]),
        ("www.a.test", ["a.test", "a.test/rsa"]),
        ("a.test/rsa", ["a.test/rsa"]),
        ("www.a.test/ecdsa", ["a.test"]),
        ("a.test/ed25519", []),
        ("b.test/rsa", []),
    ],
)
def test_of_two_both_or_that_which_is_named(name: str, found: list[str]) -> None:
    both = [entry(), entry(name="a.test/rsa", key_type="rsa-2048")]
    assert [one["name"] for one in find(both, name)] == found


def test_a_name_on_demand() -> None:
    one = {"on_demand_for": "shops.test", "given_up": False}
    assert "  on demand  for shops.test" in told(**one)
    failed = told(**one, state="failed", not_after=None, not_before=None)
    assert "failed: it is tried again when somebody comes for it" in failed
    assert "fresh: it is not renewed: nobody comes" in told(**{**one, "given_up": True})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "served  yes\n"),
        ({"served": False}, "served  no: not all workers have taken it yet; they are told again"),
        ({"not_after": at(NOW - 1)}, "served  yes, for want of a better one, and browsers warn"),
        (
            {"served": False, "not_after": None, "not_before": None, "renew_at": None},
            "served  no: there is none, and visitors cannot connect",
        ),
    ],
)
def test_what_visitors_meet(more: dict[str, Any], said: str) -> None:
    assert said in told(**more)


@pytest.mark.parametrize(
    ("outcome", "how"),
    [
        ("validation", ""),
        ("unreachable", ""),
        ("rate_limited", " --force, which asks the CA before its time is over"),
        ("unavailable", " --force, which asks the CA before its time is over"),
    ],
)
def test_a_ca_that_has_asked_to_wait_is_not_asked_without_a_word(outcome: str, how: str) -> None:
    history = [
        {"at": at(NOW), "outcome": outcome, "directory": "https://ca.test/dir", "challenge": None,
         "error": "no", "seconds": 0.0, "problem": None}
    ]  # fmt: skip
    text = told(
        state="waiting",
        attempts=1,
        last_error="no",
        next_attempt=at(NOW + 7200),
        renew_at=at(NOW - 60),
        history=history,
    )
    assert text.endswith(f"To try at once: treehouse-proxy certs renew a.test{how}")
    assert f"next attempt  {at(NOW + 7200)}, in 2 hours" in text
    assert f"renews  {at(NOW - 60)}, by its lifetime; that is past" in text


def test_where_several_machines_order() -> None:
    cluster: Any = {
        "name": "shop", "node": "web-2", "orders": True, "ordering": ["web-1", "web-2"],
        "connected": True, "fault": None, "alone": False, "order_below": 0.1, "refused": {},
        "behind": 0, "revision_behind": 0, "members": [],
    }  # fmt: skip

    def said(one: Any = None, **more: Any) -> str:
        whole: Any = entry(**(one or {}))
        return "\n".join(page(whole, NOW, cluster={**cluster, **more}))

    assert "ordered by one of web-1, web-2, for all of shop" in said()
    assert "ordered here, for all of shop" in said(ordering=["web-2"])
    assert "web-1 may order it, web-2 takes it; no answer" in said(
        orders=False, ordering=["web-1"], fault="no answer"
    )
    assert "nobody may order it" in said(orders=False, ordering=[])
    assert "  differently" in said({"contested": "differently"})
    assert "has is not taken: damaged" in said(refused={"a.test": "damaged"})
