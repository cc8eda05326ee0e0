"""What the page and `top` say first, in which words, and with which next step."""

from __future__ import annotations

from typing import Any

from acme_client.status import CertificateStatus, ClusterStatus, certificate_status
from proxy.alerts.attention import MOST, Situation, look
from proxy.ipc.documents import Rates, UpstreamStatus

NOW = 2e9
DAY = 86400.0


def backend(url: str, healthy: str = "no") -> UpstreamStatus:
    return {
        "url": url, "healthy": healthy, "draining": False, "last_error": "connection refused",
        "in_flight": 0, "failures": 3,
    }  # type: ignore[typeddict-item] # a word of the three  # fmt: skip


def test_nothing_to_do() -> None:
    fine = certificate_status(
        name="a.test", names=("a.test",), source="acme", key_type="ecdsa-p256", state="fresh",
        not_before=NOW - DAY, not_after=NOW + 89 * DAY, renew_at=NOW + 59 * DAY, served=True,
    )  # fmt: skip
    situation = Situation([fine], ["a.test"], upstreams=[backend("http://b", "yes")])
    assert look(situation, NOW) == ([], 0)


def test_each_kind_with_its_next_step() -> None:
    ends = certificate_status(
        name="b.test", names=("b.test",), source="acme", key_type="ecdsa-p256", state="failed",
        not_before=NOW - 89 * DAY, not_after=NOW + DAY, renew_at=NOW - 29 * DAY, served=True,
        attempts=4, last_error="the clock of this machine is 3 days behind",
        history=[{
            "at": None, "outcome": "clock", "directory": "https://ca", "challenge": None,
            "error": "3 days behind", "seconds": 1.0, "problem": None,
        }],
    )  # fmt: skip
    situation = Situation(
        [ends],
        ["b.test"],
        certifier_silent=5000.0,
        upstreams=[backend("http://10.0.0.1:80")],
        reached={"connections": 3.2, "rate_limit": 1.0, "requests_per_connection": 900.0},
        refused=(NOW, "c.yaml:3:1: nonsense: unknown key"),
        undelivered=[("webhook", "chat.test answers 503", 2)],
    )
    found, more = look(situation, NOW)
    assert more == 0
    about = {one["about"]: one for one in found}
    assert "c.yaml:3:1" in about["configuration"]["text"]
    assert "treehouse-proxy check" in about["configuration"]["step"]
    assert about["http://10.0.0.1:80"]["page"] == "backend/http://10.0.0.1:80"
    assert "connection refused" in about["http://10.0.0.1:80"]["text"]
    assert "2 alerts" in about["alerts by webhook"]["text"]
    assert "timedatectl" in about["clock"]["step"]
    assert "3 times" in about["connections"]["text"]
    assert "once" in about["rate_limit"]["text"]
    assert "certifier" in about
    assert about["b.test"]["page"] == "certificate/b.test"
    assert "requests_per_connection" not in about
    assert all(one["step"] for one in found)
    # What is wrong stands before what is to be looked at.
    levels = [one["level"] for one in found]
    assert levels == sorted(levels, key=lambda level: level != "wrong")


def test_a_backend_that_answers_badly() -> None:
    row: Rates = {
        "name": "http://b", "rate": 10.0, "classes": {"ok": 4.0, "error": 5.0, "failed": 1.0},
        "p50": 0.1, "p99": 0.1, "bytes_in": 0.0, "bytes_out": 0.0,
    }  # fmt: skip
    gone: Rates = {**row, "name": "http://no-longer-there"}
    fine: Rates = {**row, "name": "http://c", "classes": {"ok": 9.5, "error": 0.5}}
    upstreams = [backend("http://b", "yes"), backend("http://c", "yes")]
    found, _ = look(Situation(upstreams=upstreams, rates=[row, gone, fine]), NOW)
    assert [one["about"] for one in found] == ["http://b"]
    assert "50 % with an answer of 500 or more and 10 % with no answer" in found[0]["text"]
    assert "connection refused" in found[0]["text"]
    # What fails altogether is told of once.
    found, _ = look(Situation(upstreams=[backend("http://b")], rates=[row]), NOW)
    assert [one["level"] for one in found] == ["wrong"]


def test_a_reload_whose_workers_did_not_start_is_not_blamed_on_the_file() -> None:
    (one,), _ = look(Situation(refused=(NOW, "the new workers did not start; see the log")), NOW)
    assert "see in the log" in one["step"]
    assert "mend the file" not in one["step"]


def missing(**known: Any) -> CertificateStatus:
    return certificate_status(
        name="new.test", names=("new.test",), source="acme", key_type="ecdsa-p256",
        state="failed", **known,
    )  # fmt: skip


def test_a_site_without_a_certificate_is_told_of_at_its_first_failure() -> None:
    """Nobody is woken up yet; who looks sees that visitors cannot connect, and why."""
    (one,), _ = look(Situation([missing(attempts=1, last_error="no such name")]), NOW)
    assert one["level"] == "wrong"
    assert "no such name; visitors cannot connect" in one["text"]
    assert one["step"]
    assert one["page"] == "certificate/new.test"
    # Later by the rule of alerts, once.
    (one,), _ = look(Situation([missing(attempts=9, last_error="no such name")]), NOW)
    assert "9 attempts" in one["text"]
    assert "visitors cannot connect" in one["text"]
    # What nobody has tried yet, and what a stranger asked for, is no trouble of ours.
    assert look(Situation([missing()]), NOW) == ([], 0)
    strange = missing(attempts=1, last_error="x", on_demand_for="*")
    assert look(Situation([strange]), NOW) == ([], 0)


def test_processes_that_crash_and_traces_that_nobody_takes() -> None:
    crashed = [("worker 1", "was killed by SIGSEGV"), ("worker 1", "x"), ("certifier", "exited")]
    found, _ = look(Situation(crashed=crashed, spans_lost=7), NOW)
    about = {one["about"]: one for one in found}
    assert about["worker 1"]["level"] == "wrong"
    assert "was killed by SIGSEGV; that happened 2 times" in about["worker 1"]["text"]
    assert about["certifier"]["level"] == "look"
    assert "7 spans" in about["tracing"]["text"]
    assert all(one["step"] for one in found)


def test_a_thousand_backends_are_fifty_lines_and_a_number() -> None:
    found, more = look(Situation(upstreams=[backend(f"http://b{n}") for n in range(1000)]), NOW)
    assert (len(found), more) == (MOST, 1000 - MOST)


def test_a_cluster_that_cannot_be_asked_or_taken_from_is_told() -> None:
    sound: ClusterStatus = {
        "name": "shop", "node": "web-2", "orders": False, "ordering": ["web-1"], "connected": True,
        "fault": None, "alone": False, "order_below": 0.1, "refused": {},
        "behind": 0, "revision_behind": 0, "members": [],
    }  # fmt: skip
    assert look(Situation(cluster=sound), NOW) == ([], 0)
    away: ClusterStatus = {
        **sound, "connected": False, "fault": "no answer in time", "refused": {"a.test": "damaged"},
    }  # fmt: skip
    (first, second), _ = look(Situation(cluster=away), NOW)
    assert first["text"] == "what is on the disk is served: no answer in time"
    assert (second["about"], second["page"]) == ("a.test", "certificate/a.test")
    ((named,), _more) = look(Situation(cluster={**sound, "fault": "another is called so"}), NOW)
    assert named["text"] == "another is called so"
    ((deaf,), _more) = look(Situation(cluster={**sound, "revision_behind": 7}), NOW)
    assert deaf["text"] == "etcd's last 7 changes have not been heard of"
    ((nobody,), _more) = look(Situation(cluster={**sound, "ordering": []}), NOW)
    assert nobody["text"] == "no machine orders certificates"


def test_a_certificate_that_machines_want_to_be_different_things_is_told_once() -> None:
    text = "new.test: web-1 and this node (web-2) are configured differently"
    for since in (NOW - 60, NOW - 7200):
        one = certificate_status(
            name="new.test", names=("new.test",), source="acme", key_type="ecdsa-p256",
            state="fresh", served=True, not_before=NOW - DAY, not_after=NOW + 60 * DAY,
            renew_at=NOW + 30 * DAY, contested=text, contested_since=since,
        )  # fmt: skip
        (found,), _ = look(Situation([one]), NOW)
        assert (found["level"], found["text"]) == ("look", text)
        assert found["step"]
