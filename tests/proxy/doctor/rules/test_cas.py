"""What a CA's directory and a certificate's past mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.doctor.findings import Finding, document, lines, summary
from proxy.doctor.rules.cas import Configured, Directory, certificate, directory

NOW = 1_800_000_000.0
DAY = 86400.0
FOUND = Directory("https://ca.test/dir", None, ("ca.test",), ("classic", "shortlived"), False, True)
PLAIN = Configured(None, False, False, False)


def at(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("facts", "configured", "signs"),
    [
        (FOUND, PLAIN, ["ok", "ok"]),
        (Directory("https://ca.test/dir"), PLAIN, ["ok"]),
        (Directory("https://ca.test/dir", "it does not answer"), PLAIN, ["wrong"]),
        (FOUND, Configured("classic", False, False, False), ["ok", "ok"]),
        (FOUND, Configured("tlsserver", False, False, False), ["ok", "wrong"]),
        (FOUND, Configured(None, False, False, True), ["ok", "ok"]),
        (
            Directory("https://ca.test/dir", profiles=("classic",)),
            Configured(None, False, False, True),
            ["ok", "ok", "attention"],
        ),
        (Directory("https://ca.test/dir", account_required=True), PLAIN, ["ok", "wrong"]),
        (
            Directory("https://ca.test/dir", account_required=True),
            Configured(None, True, False, False),
            ["ok"],
        ),
        (
            Directory("https://ca.test/dir", account_required=True),
            Configured(None, False, True, False),
            ["ok"],
        ),
    ],
)
def test_a_directory(facts: Directory, configured: Configured, signs: list[str]) -> None:
    assert [one.sign for one in directory(facts, configured)] == signs


@pytest.mark.parametrize(("untimely", "step"), [(False, "see acme.directory"), (True, "set the")])
def test_one_that_cannot_be_had(untimely: bool, step: str) -> None:
    (one,) = directory(Directory("https://ca.test/dir", "no", untimely=untimely), PLAIN)
    assert (one.sign, one.text) == ("wrong", "no")
    assert one.step is not None
    assert one.step.startswith(step)


def status(**more: Any) -> dict[str, Any]:
    return {
        "names": ["a.test"], "source": "acme", "not_before": at(NOW - 60 * DAY), "not_after": at(NOW + 30 * DAY),
        "renew_at": at(NOW + DAY), "state": "fresh", "attempts": 0, "last_error": None,
        "next_attempt": None, "contested": None, "history": [], **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "sign", "text"),
    [
        ({}, "ok", "another 30 days, and renewed about"),
        ({"not_after": at(NOW + 5 * DAY)}, "ok", "another 5 days"),  # its renewal is to come
        (
            {"not_after": at(NOW + 5 * DAY), "renew_at": at(NOW - DAY)},
            "attention",
            "another 5 days",
        ),
        ({"not_after": at(NOW - 1)}, "wrong", "has expired"),
        (
            {"not_after": None, "not_before": None, "state": "missing"},
            "attention",
            "no certificate yet",
        ),
    ],
)
def test_the_runway(more: dict[str, Any], sign: str, text: str) -> None:
    (finding,) = certificate(status(**more), (), NOW)
    assert finding.sign == sign
    assert text in finding.text


def test_what_machines_want_differently_is_told() -> None:
    _runway, found = certificate(status(contested="a.test: web-1 wants another one"), (), NOW)
    assert (found.sign, found.text) == ("attention", "a.test: web-1 wants another one")
    assert "certs renew a.test" in str(found.step)


def test_before_the_first_start_there_is_none_and_that_is_fine() -> None:
    missing = status(not_after=None, not_before=None, state="missing")
    (finding,) = certificate(missing, (), NOW, running=False)
    assert finding.sign == "ok"


def test_the_last_problem_part_by_part() -> None:
    parts = [
        {"typ": "caa", "detail": "CAA forbids it", "name": "a.test", "parts": []},
        {"typ": "dns", "detail": "NXDOMAIN", "name": "b.test", "parts": []},
    ]
    problem = {"typ": "compound", "detail": "two are wrong", "name": None, "parts": parts}
    past = [{"at": at(NOW), "outcome": "refused", "error": "two are wrong", "problem": problem}]
    names = ["a.test", "b.test"]
    one = status(names=names, state="failed", attempts=2, last_error="two are wrong", history=past)
    _, what, whole, caa, dns = certificate(one, (), NOW)
    assert what.text.startswith("2 attempts failed in a row")
    assert "several things are wrong" in whole.text
    assert caa.text.startswith("that means: a.test: a CAA record")
    assert "CAA records" in (caa.step or "")
    assert dns.text.startswith("that means: b.test: the CA could not find")


def test_what_the_ledger_refuses_is_told() -> None:
    _, finding = certificate(
        status(), ("orders: 1 of 9 left", "it would wait until X: too many"), NOW
    )
    assert finding.sign == "attention"
    assert "--force" in (finding.step or "")


def test_findings_for_people_and_for_programs() -> None:
    found = [
        Finding("ok", "clock", "right"),
        Finding("wrong", "a.test", "no\nsuch name", "add one"),
        Finding("unknown", "a.test", "x"),
    ]
    assert list(lines(found)) == [
        "clock",
        "  ok     right",
        "a.test",
        "  WRONG  no such name",
        "         → add one",
        "  ?      x",
    ]
    assert summary(found) == "1 wrong, 0 to know, 1 could not be looked at"
    assert summary(found[:1]) == "nothing is wrong"
    assert document(found)["findings"][1] == {
        "sign": "wrong", "about": "a.test", "text": "no\nsuch name", "step": "add one",
    }  # fmt: skip


def test_of_one_name_it_is_not_repeated_and_nobody_is_sent_round_in_circles() -> None:
    problem = {"typ": "connection", "detail": "refused", "name": "a.test", "parts": []}
    past = [
        {"at": at(NOW), "outcome": "validation", "challenge": "tls-alpn-01", "error": "refused",
         "problem": problem}
    ]  # fmt: skip
    one = status(state="failed", attempts=1, last_error="refused", history=past)
    *_, means = certificate(one, (), NOW)
    assert means.text.startswith("that means: the CA could not connect to port 443")
    assert means.step == "see below"
    past = [{"at": at(NOW), "outcome": "disk", "error": "No space left", "problem": None}]
    *_, means = certificate(status(attempts=1, last_error="x", history=past), (), NOW)
    assert means.step == "see above"


def test_a_clock_that_is_behind_and_a_renewal_that_is_late() -> None:
    (behind,) = certificate(status(not_before=at(NOW + 86400)), (), NOW)
    assert (behind.sign, behind.step) == ("wrong", "set the clock right (timedatectl shows it)")
    assert behind.text.startswith("by this machine's clock the certificate is not valid before ")
    (late,) = certificate(status(renew_at=at(NOW - 60)), (), NOW)
    assert "and was to be renewed about" in late.text
