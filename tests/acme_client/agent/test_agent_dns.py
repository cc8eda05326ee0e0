"""DNS-01 against a real CA (pebble) that looks records up at a real name server (Knot)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acme_client.certificates.record import from_json
from acme_client.challenges import dns_propagation
from acme_client.challenges.dns01_solver import DnsRecords, Proof
from acme_client.errors import IssuanceError, NotSet
from acme_client.link import Dns, DnsHook, DnsUpdates, DnsZone, Settings, TsigKey
from acme_client.storage.directory import DirectoryStore
from support.acme.certifier import Certifier, FakeServer, settings
from support.acme.knot import ALGORITHM, Knot
from support.acme.pebble import Pebble
from support.program.ports import free_address

pytestmark = pytest.mark.pebble

ZONES = {
    "example.test": "_acme-challenge.led CNAME led.acme\n"
    "_acme-challenge.far CNAME far.acme.elsewhere.test.\n"
    "_acme-challenge.loop CNAME _acme-challenge.loop\n",
    "elsewhere.test": "",
}


@pytest.fixture(scope="module")
def knot() -> Iterator[Knot]:
    with Knot(ZONES) as name_server:
        yield name_server


@pytest.fixture(scope="module")
def ca(doors: FakeServer, knot: Knot) -> Iterator[Pebble]:
    with Pebble(doors.http_port, doors.tls_port, dns_server=f"{knot.address}:53") as pebble:
        yield pebble


def updates(knot: Knot, **key: Any) -> DnsUpdates:
    facts = {"name": "acme", "algorithm": ALGORITHM, "secret": knot.key, "file": Path("acme.key")}
    return DnsUpdates(knot.address, 53, TsigKey(**facts | key), 1)


def by(knot: Knot, via: DnsUpdates | DnsHook | None = None, **more: Any) -> Dns:
    facts = {"propagation": 20.0, **more}
    return Dns((DnsZone(via or updates(knot), **facts),), ((knot.address, 53),))


def wanting(state: Path, ca: Pebble, dns: Dns, *sites: tuple[str, ...], **more: Any) -> Settings:
    facts = {"challenges": ("dns-01",), **more}
    return replace(settings(state, ca, *sites, **facts), dns=dns)


def notes(state: Path) -> list[Path]:
    return [one for one in (state / "dns-records").glob("*") if not one.name.startswith(".")]


def test_wildcards_and_bare_names_of_several_certificates_at_once(
    server: FakeServer, ca: Pebble, knot: Knot, tmp_path: Path
) -> None:
    """They all share record names, and none takes away what another one needs."""
    sites = [
        ("*.example.test", "example.test"),
        ("example.test", "www.example.test"),
        ("deep.example.test", "*.example.test"),
    ]
    with Certifier(wanting(tmp_path, ca, by(knot), *sites), server):
        for names in sites:
            server.until(lambda names=names: server.state(names[0]) == "fresh")
            assert set(server.served[names[0]].names) == set(names)
    assert server.shown == []
    assert knot.texts("_acme-challenge.example.test") == []
    assert knot.texts("_acme-challenge.www.example.test") == []
    assert notes(tmp_path) == []
    meta = tmp_path / "certificates/_wildcard.example.test/meta.json"
    assert from_json(meta.read_bytes()).challenge == "dns-01"


def test_the_values_of_others_stay(
    server: FakeServer, ca: Pebble, knot: Knot, tmp_path: Path
) -> None:
    knot.set_text("_acme-challenge.shared.example.test", "of-somebody-else")
    with Certifier(wanting(tmp_path, ca, by(knot), ("shared.example.test",)), server):
        server.until(lambda: server.state("shared.example.test") == "fresh")
    assert knot.texts("_acme-challenge.shared.example.test") == ["of-somebody-else"]


def test_an_alias_is_followed(server: FakeServer, ca: Pebble, knot: Knot, tmp_path: Path) -> None:
    with Certifier(wanting(tmp_path, ca, by(knot), ("*.led.example.test",)), server):
        server.until(lambda: server.state("*.led.example.test") == "fresh")
    assert knot.texts("led.acme.example.test") == []


def test_an_alias_into_another_zone_is_set_there(knot: Knot, tmp_path: Path) -> None:
    """By the provider of that zone. (A CA's resolver would follow it; pebble's asks Knot only.)"""
    records = DnsRecords(
        by(knot, zone="elsewhere.test"), DirectoryStore(tmp_path), threading.Event()
    )
    with records.presented("x", [Proof("token", "*.far.example.test", "there")]):
        assert knot.texts("far.acme.elsewhere.test") == ["there"]
    assert knot.texts("far.acme.elsewhere.test") == []


def test_an_alias_that_leads_in_a_circle(knot: Knot, tmp_path: Path) -> None:
    records = DnsRecords(by(knot), DirectoryStore(tmp_path), threading.Event())
    with (
        pytest.raises(IssuanceError, match="alias of an alias"),
        records.presented("x", [Proof("token", "loop.example.test", "nowhere")]),
    ):
        raise AssertionError("it was presented")


def test_a_zone_that_nobody_is_configured_for(
    server: FakeServer, ca: Pebble, knot: Knot, tmp_path: Path
) -> None:
    dns = by(knot, zone="elsewhere.test")
    with Certifier(wanting(tmp_path, ca, dns, ("a.example.test",)), server):
        server.until(lambda: server.state("a.example.test") == "failed")
    said = server.reports["a.example.test"]["last_error"]
    assert "nobody is configured to set the record _acme-challenge.a.example.test" in said
    assert "elsewhere.test" in said


def test_a_failure_gives_way_to_the_other_kind_and_what_worked_is_remembered(
    server: FakeServer, ca: Pebble, knot: Knot, tmp_path: Path
) -> None:
    """The wrong secret first; http-01 next, but nobody is there; then the secret is right."""
    wrong = by(knot, updates(knot, secret="c29tZXRoaW5nIGVsc2U="))
    names = ("127.0.0.1.example.test",)
    kinds = {"challenges": ("dns-01", "http-01")}
    with Certifier(wanting(tmp_path, ca, wrong, names, **kinds), server):
        server.until(lambda: server.state(names[0]) == "failed")
        assert "BADSIG" in server.reports[names[0]]["last_error"]
        server.ask("renew", names[0])
        assert server.reports[names[0]]["last_error"].startswith(f"{names[0]}: http-01: ")
    with Certifier(wanting(tmp_path, ca, by(knot), names, **kinds), server):
        assert server.ask("renew", names[0])["ok"]
    record = from_json((tmp_path / f"certificates/{names[0]}/meta.json").read_bytes())
    assert [(one.outcome, one.challenge) for one in record.history] == [
        ("zone", "dns-01"),
        ("validation", "http-01"),
        ("obtained", "dns-01"),
    ]
    assert record.challenge == "dns-01"
    assert notes(tmp_path) == []


def test_a_record_that_a_certifier_left_is_removed_by_the_next(
    server: FakeServer, ca: Pebble, knot: Knot, tmp_path: Path
) -> None:
    """The power goes while the CA is validating."""
    name = "_acme-challenge.left.example.test"
    store = DirectoryStore(tmp_path)
    records = DnsRecords(by(knot), store, threading.Event())
    with records.presented("left.example.test", [Proof("token-1", "left.example.test", "ours")]):
        assert knot.texts(name) == ["ours"]
        (note,) = notes(tmp_path)
        kept = note.read_bytes()
    assert knot.texts(name) == []
    knot.set_text(name, "ours")
    knot.set_text(name, "another's")
    note.write_bytes(kept)
    store.close()
    with Certifier(wanting(tmp_path, ca, by(knot)), server):
        server.until(lambda: not notes(tmp_path))
    assert knot.texts(name) == ["another's"]


def test_what_could_not_be_removed_is_removed_after_the_next_validation(
    knot: Knot, tmp_path: Path
) -> None:
    with Knot({"gone.test": ""}) as own:
        records = DnsRecords(by(own), DirectoryStore(tmp_path), threading.Event())
        with records.presented("gone.test", [Proof("token-1", "gone.test", "one")]):
            own.stop()
        assert [one.name for one in notes(tmp_path)] == ["token-1"]
        own.start()
        with records.presented("gone.test", [Proof("token-2", "gone.test", "two")]):
            assert "two" in own.texts("_acme-challenge.gone.test")
        assert own.texts("_acme-challenge.gone.test") == []
        assert notes(tmp_path) == []


def test_every_name_server_has_to_show_it(tmp_path: Path) -> None:
    first, second = free_address(53), free_address(53)
    with (
        Knot({"two.test": ""}, address=first, name_servers=(first, second)) as primary,
        Knot({"two.test": ""}, primary=primary, address=second) as secondary,
    ):
        records = DnsRecords(by(primary), DirectoryStore(tmp_path), threading.Event())
        with records.presented("two.test", [Proof("token", "two.test", "seen")]):
            assert secondary.texts("_acme-challenge.two.test") == ["seen"]


def test_a_name_server_that_never_hears_of_it_is_named(tmp_path: Path) -> None:
    first, second = free_address(53), free_address(53)
    both = (first, second)
    with (
        Knot({"two.test": ""}, address=first, name_servers=both, notifies=False) as primary,
        Knot({"two.test": ""}, primary=primary, address=second),
    ):
        dns = by(primary, propagation=2.0)
        records = DnsRecords(dns, DirectoryStore(tmp_path), threading.Event())
        with (
            pytest.raises(IssuanceError, match=rf"ns2.two.test \({second}\): does not show it"),
            records.presented("two.test", [Proof("token", "two.test", "unseen")]),
        ):
            raise AssertionError("it was presented")
        assert primary.texts("_acme-challenge.two.test") == []


def test_a_name_server_that_is_down_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acme_client.challenges.dns_resolver.ASKED_WITHIN", 0.2)
    first, second = free_address(53), free_address(53)
    with Knot({"two.test": ""}, address=first, name_servers=(first, second)) as primary:
        records = DnsRecords(by(primary), DirectoryStore(tmp_path), threading.Event())
        with records.presented("two.test", [Proof("token", "two.test", "seen")]):
            pass
    assert f"ns2.two.test ({second})" in caplog.text
    assert "is not waited for" in caplog.text


WRONG: list[tuple[Callable[[Knot], Dns], str]] = [
    (lambda knot: by(knot, updates(knot, name="other")), "BADKEY"),
    (lambda knot: by(knot, updates(knot, algorithm="hmac-sha512")), "BADKEY"),
    (lambda knot: by(knot, updates(knot, secret="###")), "acme.key: it holds no secret"),
    (lambda knot: by(knot, replace(updates(knot), key=None)), "signed updates only"),
    (lambda knot: by(knot, zone="a.example.test"), "not the primary of the zone a.example.test"),
    (lambda knot: by(knot, replace(updates(knot), port=1)), "cannot be reached: connection refused"),
    (lambda knot: by(knot, replace(updates(knot), host="no.invalid")), "has no address"),
]  # fmt: skip


@pytest.mark.parametrize(("dns", "said"), WRONG, ids=[said for _dns, said in WRONG])
def test_what_is_wrong_is_said_with_what_to_do(
    dns: Callable[[Knot], Dns], said: str, knot: Knot, tmp_path: Path
) -> None:
    records = DnsRecords(dns(knot), DirectoryStore(tmp_path), threading.Event())
    with (
        pytest.raises(IssuanceError, match=said) as told,
        records.presented("a.example.test", [Proof("token", "a.example.test", "value")]),
    ):
        raise AssertionError("it was presented")
    assert told.value.challenge == "dns-01"
    assert knot.key not in told.value.text
    assert "(" in told.value.text  # the next step
    if isinstance(told.value, NotSet):
        assert notes(tmp_path) == []


def test_what_fails_later_is_not_the_records_fault(knot: Knot, tmp_path: Path) -> None:
    records = DnsRecords(by(knot), DirectoryStore(tmp_path), threading.Event())
    for proofs in ([], [Proof("token", "a.example.test", "value")]):
        with pytest.raises(IssuanceError) as told, records.presented("a.example.test", proofs):
            raise IssuanceError("unreachable", "the CA is away")
        assert told.value.challenge is None
    assert knot.texts("_acme-challenge.a.example.test") == []


def test_a_clock_that_differs(knot: Knot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr("dns.message.time.time", lambda now=time.time: now() + 4000)
    records = DnsRecords(by(knot), DirectoryStore(tmp_path), threading.Event())
    with (
        pytest.raises(IssuanceError, match="another time than this machine"),
        records.presented("a.example.test", [Proof("token", "a.example.test", "value")]),
    ):
        raise AssertionError("it was presented")


def test_an_end_of_the_program_ends_the_waiting(knot: Knot, tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(IssuanceError, match="being stopped"):
        dns_propagation.await_shown("a.test", "v", [], 60.0, stopping, ask=lambda *_: frozenset())


def test_notes_that_make_no_sense_stop_nothing(knot: Knot, tmp_path: Path) -> None:
    folder = tmp_path / "dns-records"
    folder.mkdir()
    (folder / "torn").write_bytes(b"{")
    (folder / "odd").write_bytes(json.dumps({"domain": "x"}).encode())
    DnsRecords(by(knot), DirectoryStore(tmp_path), threading.Event()).clear()
    assert sorted(one.name for one in notes(tmp_path)) == ["odd", "torn"]
