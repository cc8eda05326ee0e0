"""Which certificates a status shows: those asked for, and first those that need attention."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from acme_client.status import CertificateStatus, certificate_status
from proxy.cli.selection import MOST, Selection, needs_attention
from proxy.cli.status_table import show
from proxy.ipc.documents import Status

DAY = 86400.0


def certificate(*names: str, days: float = 60, **more: Any) -> CertificateStatus:
    now = time.time()
    about: dict[str, Any] = {
        "source": "acme", "key_type": "ecdsa-p256", "state": "fresh", "served": True,
        "not_before": now - 30 * DAY, "not_after": now + days * DAY, **more,
    }  # fmt: skip
    return certificate_status(name=names[0], names=names, **about)


BAD = [
    certificate("gone.test", served=False),
    certificate("failed.test", state="failed"),
    certificate("slow.test", state="due", last_error="the CA says no"),
    certificate("late.test", days=1.5),
    certificate("none.test", not_before=None, not_after=None),
]


def document(certificates: list[CertificateStatus]) -> Status:
    upstreams = [
        {"url": url, "healthy": healthy, "draining": False, "last_error": None, "in_flight": 0,
         "failures": 0}
        for url, healthy in (("http://good", "yes"), ("http://bad", "no"), ("http://new", "untried"))
    ]  # fmt: skip
    found = {
        "version": "1", "pid": 1, "uid": 1, "gid": 1, "started_at": None, "generation": 1,
        "config": None, "workers": [], "listeners": [], "certificates": certificates,
        "unwanted": [], "upstreams": upstreams, "providers": [], "cluster": None, "sites": [],
    }  # fmt: skip
    return cast(Status, found)


def names(found: Status) -> list[str]:
    return [one["name"] for one in found["certificates"]]


@pytest.mark.parametrize("one", BAD, ids=[one["name"] for one in BAD])
def test_what_clients_miss_or_soon_will_needs_attention(one: CertificateStatus) -> None:
    assert needs_attention(one)


def test_what_is_well_or_under_way_does_not() -> None:
    assert not needs_attention(certificate("a.test"))
    assert not needs_attention(certificate("a.test", state="due"))
    assert not needs_attention(certificate("a.test", state="issuing"))
    short = certificate("a.test", days=0.5, not_before=time.time() - 0.5 * DAY)
    assert not needs_attention(short), "half of its life is left"


def test_attention_leaves_out_what_is_well() -> None:
    found = Selection(attention=True).of(document([certificate("a.test"), *BAD]))
    assert names(found) == [one["name"] for one in BAD]
    assert [one["url"] for one in found["upstreams"]] == ["http://bad"]


def test_names_are_those_of_the_certificate_or_patterns() -> None:
    some = document([certificate("a.test", "www.a.test"), certificate("*.b.test"), *BAD])
    assert names(Selection(("www.a.test",)).of(some)) == ["a.test"]
    assert names(Selection(("*.b.test",)).of(some)) == ["*.b.test"]
    assert names(Selection(("*.a.test",)).of(some)) == ["a.test"]
    assert names(Selection(("nobody.test",)).of(some)) == []
    assert names(Selection(("*.test",), attention=True).of(some)) == [one["name"] for one in BAD]
    assert Selection().of(some) is some


def test_a_page_begins_with_what_needs_attention(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a table, and no list as for a narrow terminal
    many = [certificate(f"s{number}.test", days=10 + number) for number in range(10_000)]
    found = document([*many, *BAD])
    shown, more = Selection().page(found["certificates"])
    assert len(shown) == MOST
    assert more == 10_000 + len(BAD) - MOST
    assert {one["name"] for one in shown[: len(BAD)]} == {one["name"] for one in BAD}
    assert [one["name"] for one in shown[len(BAD) :]] == [
        f"s{n}.test" for n in range(MOST - len(BAD))
    ]
    show(found, Selection())
    said = capsys.readouterr().out
    assert f"and {more} more: status --all, or status NAME" in said
    assert len(said.splitlines()) < 100


def test_nothing_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    selection = Selection(attention=True)
    found = document([certificate("a.test")])
    found["upstreams"] = []
    show(selection.of(found), selection)
    assert "nothing needs attention" in capsys.readouterr().out
