"""The certifier and a CA that has a bad day: every fault ends in a certificate or in a pause, with
the reason in words, and never in a loop."""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from acme_client.certificates.record import Record, from_json
from acme_client.certificates.renewal import BETWEEN_MOST, BETWEEN_PART
from acme_client.certificates.repository import CertificateRepository
from acme_client.certificates.retry import ANOTHER_CA
from acme_client.issuers import order_flow
from acme_client.issuers import transport as network
from acme_client.issuers.ari import certificate_id
from acme_client.link import ATTEMPTS_AT_ONCE, INTERNAL, Authority, CertificateSpec, Settings
from acme_client.storage.directory import DirectoryStore
from support.acme.ca_faults import (
    BadNonce,
    Cut,
    Edit,
    Exchange,
    Fault,
    Faults,
    Misissue,
    Refuse,
    Reply,
    Say,
    Slow,
    Torn,
    WithStatus,
)
from support.acme.certifier import Certifier, FakeServer, authority, settings
from support.acme.chains import DAY, chain, split
from support.acme.pebble import Pebble

pytestmark = pytest.mark.pebble
NAME = "a.example"


@pytest.fixture(scope="module")
def ca(doors: FakeServer) -> Iterator[Pebble]:
    with Pebble(doors.http_port, doors.tls_port, nonce_reject=0) as pebble:
        yield pebble


class Clock:
    """The real one, and then some."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


def wanted(front: Faults, state: Path, **more: Any) -> Settings:
    return settings(state, Authority(front.directory, ca_pem=front.ca_pem, **more), (NAME,))


def record(state: Path) -> Record:
    return from_json((state / "certificates" / NAME / "meta.json").read_bytes())


# What the CA gets over, or we do


@pytest.mark.parametrize(
    ("kind", "fault", "times"),
    [
        ("*", BadNonce(20), 10_000),
        ("*", BadNonce(50), 10_000),
        ("order", Cut(), 2),
        ("authorization", Say(b"", 503), 2),
        ("certificate", Cut(), 1),
        ("finalize", Refuse(403, "orderNotReady"), 1),
        ("finalize", Cut(heard=True), 1),
        ("finalize", Cut(heard=False), 1),
        ("finalize", Edit(WithStatus("processing"), {"Retry-After": "1"}), 1),
        ("order", Edit(WithStatus("processing")), 2),
        ("certificate", Refuse(500), 1),
        ("certificate", Torn(), 1),
        ("newOrder", Slow(1.0), 1),
    ],
    ids=str,
)
def test_a_hiccup_costs_nothing_but_time(
    front: Faults, server: FakeServer, tmp_path: Path, kind: str, fault: Fault, times: int
) -> None:
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
        front.add(kind, fault, times)
        answer = server.ask("renew", NAME)
        assert answer["ok"], answer
    assert record(tmp_path).attempts == 0


# What ends the attempt


@pytest.mark.parametrize(
    ("kind", "fault", "outcome", "said"),
    [
        ("directory", Say(b"<html>maintenance"), "nonsense", "not JSON|makes no sense"),
        ("directory", Say(b"{}"), "nonsense", "makes no sense"),
        ("directory", Cut(), "unreachable", "cannot be reached"),
        ("newNonce", Refuse(500), "unavailable", "HTTP status 500|refused by the test"),
        ("newAccount", Refuse(403, "unauthorized"), "refused", "refused by the test"),
        ("newOrder", Say(b'{"status": "pendi'), "nonsense", "not JSON|no URL"),
        ("newOrder", Say(b"[]", 201), "nonsense", "no URL|not a JSON object"),
        ("newOrder", Refuse(403, "caa"), "refused", r"the CA says: refused by the test \(caa\)"),
        ("newOrder", Refuse(500), "unavailable", "refused by the test"),
        ("newOrder", Cut(), "unreachable", "cannot be reached"),
        ("newOrder", Torn(), "unreachable", "cannot be reached"),
        ("authorization", Say(b"{}"), "nonsense", "authorization"),
        ("authorization", Edit(WithStatus("deactivated")), "validation", "deactivated"),
        ("order", Edit(WithStatus("invalid")), "refused", "gave the order up"),
        ("finalize", Refuse(400, "badCSR"), "refused", "badCSR"),
        ("certificate", Say(b"not PEM"), "unproven", "cannot be read"),
    ],
    ids=str,
)
def test_a_fault_becomes_a_pause_with_its_reason(
    front: Faults,
    server: FakeServer,
    tmp_path: Path,
    kind: str,
    fault: Fault,
    outcome: str,
    said: str,
) -> None:
    front.add(kind, fault)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) in ("failed", "waiting"))
        orders = len(front.of("newOrder"))
        kept = record(tmp_path)
        assert kept.history[-1].outcome == outcome
        assert kept.last_error is not None
        assert re.search(said, kept.last_error)
        assert kept.next_attempt is not None
        assert kept.next_attempt > time.time() + 30
        assert orders <= 1
        assert server.ask("renew", NAME)["ok"], "and the next attempt works"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("spelling", ["seconds", "date", "date in another zone"])
@pytest.mark.parametrize("kind", ["newOrder", "directory", "newNonce"])
def test_the_ca_says_when_to_come_back(
    front: Faults, server: FakeServer, tmp_path: Path, status: int, spelling: str, kind: str
) -> None:
    at = int(time.time()) + 3000
    field = {
        "seconds": "3000",
        "date": formatdate(at, usegmt=True),
        "date in another zone": formatdate(at - 5 * 3600).replace("-0000", "-0500"),
    }[spelling]
    front.add(kind, Refuse(status, "rateLimited", {"Retry-After": field}))
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) in ("failed", "waiting"))
    kept = record(tmp_path)
    assert server.state(NAME) == "waiting"
    assert kept.next_attempt == pytest.approx(at, abs=30)


@pytest.mark.parametrize("field", ["604800", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_who_has_nothing_to_serve_asks_again_after_an_hour_whatever_the_ca_says(
    front: Faults, server: FakeServer, tmp_path: Path, field: str
) -> None:
    front.add("newOrder", Refuse(429, "rateLimited", {"Retry-After": field}))
    clock = Clock()
    by = Authority(front.directory, ca_pem=front.ca_pem)
    with Certifier(settings(tmp_path, by, (NAME,)), server, now=clock):
        server.until(lambda: server.state(NAME) == "waiting")
        next_attempt = record(tmp_path).next_attempt
        assert next_attempt == pytest.approx(time.time() + 3600, abs=30)
        assert len(front.of("newOrder")) == 1
        clock.ahead += 3601
        server.tell("wake")
        server.until(lambda: server.state(NAME) == "fresh")


@pytest.mark.parametrize("status", [429, 503])
def test_who_has_nothing_to_serve_does_not_wait_for_the_first_ca_where_there_is_another(
    ca: Pebble, front: Faults, server: FakeServer, tmp_path: Path, status: int
) -> None:
    """The first one says: not before tomorrow. It is left alone until then."""
    front.add("newOrder", Refuse(status, "rateLimited", {"Retry-After": "86400"}), 100)
    clock = Clock()
    first = Authority(front.directory, ca_pem=front.ca_pem)
    sites = (CertificateSpec((NAME,), first, fallback=(authority(ca),), challenges=("http-01",)),)
    with Certifier(Settings(tmp_path, sites), server, now=clock):
        server.until(lambda: server.state(NAME) in ("failed", "waiting"))
        clock.ahead += 61
        server.tell("wake")
        server.until(lambda: server.state(NAME) == "fresh")
    kept = record(tmp_path)
    assert [one.directory for one in kept.history] == [front.directory, ca.directory]
    assert kept.history[0].seconds < 60, "how long it took, and not the pause after it"


@pytest.mark.parametrize("fault", [Cut(heard=False), Refuse(403, "unauthorized")], ids=str)
def test_where_nothing_is_served_the_next_ca_is_asked_at_once_and_the_first_for_the_next(
    ca: Pebble, front: Faults, server: FakeServer, tmp_path: Path, clock: Clock, fault: Fault
) -> None:
    """It is down, or it does not want us, for hours."""
    front.add("*", fault, 10_000)
    first = Authority(front.directory, ca_pem=front.ca_pem)
    sites = (CertificateSpec((NAME,), first, fallback=(authority(ca),), challenges=("http-01",)),)
    with Certifier(Settings(tmp_path, sites), server, now=clock):
        server.until(lambda: (server.reports.get(NAME) or {}).get("attempts") == 1)
        clock.ahead += ANOTHER_CA + 1
        server.tell("wake")
        server.until(lambda: server.state(NAME) == "fresh")
        assert server.reports[NAME]["directory"] == ca.directory
        front.clear()
        assert server.ask("renew", NAME)["ok"]
        assert server.reports[NAME]["directory"] == front.directory
    accounts = [
        json.loads(one.read_bytes()) for one in (tmp_path / "accounts").glob("*/account.json")
    ]
    assert {one["directory"] for one in accounts} == {front.directory, ca.directory}


def test_many_new_names_do_not_all_wait_for_a_ca_that_is_down(
    ca: Pebble, front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    """Those whose attempts were under way already try it; the others begin with the next CA."""
    front.add("*", Cut(heard=False), 10_000)
    first = Authority(front.directory, ca_pem=front.ca_pem)
    names = [(f"{number}.example",) for number in range(ATTEMPTS_AT_ONCE + 4)]
    sites = tuple(
        CertificateSpec(one, first, fallback=(authority(ca),), challenges=("http-01",))
        for one in names
    )
    clock = Clock()
    with Certifier(Settings(tmp_path, sites), server, now=clock):
        server.until(lambda: sum(server.state(one) == "fresh" for (one,) in names) >= 4)
        assert len(front.of("directory")) <= ATTEMPTS_AT_ONCE
        clock.ahead += ANOTHER_CA + 1
        server.tell("wake")
        server.until(lambda: all(server.state(one) == "fresh" for (one,) in names))
    assert len(front.of("directory")) <= ATTEMPTS_AT_ONCE


def test_an_order_that_is_stuck_in_processing_is_left_for_later(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    """The CA asks for an hour's patience; the attempt does not sit there."""
    patience = {"Retry-After": "3600"}
    front.add("finalize", Edit(WithStatus("processing"), patience))
    front.add("order", Edit(WithStatus("processing"), patience), 100)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) in ("failed", "waiting"))
    kept = record(tmp_path)
    assert kept.history[-1].outcome == "stuck"
    assert kept.next_attempt == pytest.approx(time.time() + 3600, abs=30)


@pytest.mark.parametrize(
    ("patience", "kinds", "fault", "outcome", "said"),
    [
        (
            (order_flow, "ISSUED_WITHIN", 1.0),
            ("finalize", "order"),
            Edit(WithStatus("processing")),
            "stuck",
            "does not finish the order",
        ),
        (
            (order_flow, "VALIDATED_WITHIN", 1.0),
            ("authorization",),
            Edit(WithStatus("pending")),
            "stuck",
            "does not finish validating",
        ),
        (
            (network, "TIMEOUT", (5.0, 5.0)),
            ("newOrder",),
            Slow(6.0),
            "unreachable",
            "cannot be reached: .*timed out",
        ),
    ],
    ids=["order", "authorization", "slow"],
)
def test_patience_has_an_end(
    front: Faults,
    server: FakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    patience: tuple[ModuleType, str, object],
    kinds: tuple[str, ...],
    fault: Fault,
    outcome: str,
    said: str,
) -> None:
    """A CA that says nothing of how long it will take, or nothing at all. Only the patience that ends
    is short: on a busy machine another one would end first."""
    monkeypatch.setattr(*patience)
    for kind in kinds:
        front.add(kind, fault, 100)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) in ("failed", "waiting"))
    kept = record(tmp_path)
    assert kept.history[-1].outcome == outcome
    assert re.search(said, kept.last_error or "")
    assert len(front.of("newOrder")) == 1


class Hang:
    """Until the test says otherwise."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def __call__(self, exchange: Exchange) -> Reply:
        self.over.wait(60)
        return exchange.forward()


def test_a_ca_that_hangs_keeps_nobody_waiting_who_is_certified_by_another(
    ca: Pebble, front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    hanging = Authority(front.directory, ca_pem=front.ca_pem)
    many = [f"hangs-{number}.example" for number in range(ATTEMPTS_AT_ONCE + 2)]
    sites = dict.fromkeys(many, hanging)
    sites |= {"other.example": authority(ca), "a.test": Authority(INTERNAL)}
    hang = Hang()
    front.add("directory", hang, 100)
    everything = Settings(
        tmp_path,
        tuple(CertificateSpec((name,), by, challenges=("http-01",)) for name, by in sites.items()),
    )
    with Certifier(everything, server):
        server.until(lambda: server.state("a.test") == server.state("other.example") == "fresh")
        server.until(lambda: len(front.of("directory")) == ATTEMPTS_AT_ONCE)
        assert server.ask("renew", "a.test")["ok"]
        assert server.ask("renew", "other.example")["ok"]
        states = [server.state(name) for name in many]
        assert states.count("issuing") == ATTEMPTS_AT_ONCE == len(front.of("directory"))
        hang.over.set()
        server.until(lambda: {server.state(name) for name in many} == {"fresh"})


# A certificate that is not what was wanted

OTHER_KEY = chain(NAME, now=time.time())

# What comes instead, and what is said of it.
WRONG: list[tuple[Fault, str]] = [
    (Misissue(("b.example",)), f"the certificate does not cover {NAME}"),
    (Edit(lambda _: OTHER_KEY.chain_pem), "the certificate is for another key"),
    (Edit(lambda body: split(body)[0] + split(OTHER_KEY.chain_pem)[1]), "the chain has a gap"),
    (Misissue((NAME,), certificates=1), "the chain has a gap: the certificate's issuer is missing"),
    (Misissue((NAME,), begins=2 * DAY), "the certificate is not valid yet"),
    (Misissue((NAME,), begins=-90 * DAY, ends=-1), "the certificate has expired"),
    (Misissue((NAME,), begins=DAY / 2, ends=0), "the certificate ends before it begins"),
    (Edit(lambda body: body[: len(body) // 3]), "the certificate cannot be read"),
    (Edit(lambda _: b""), "the certificate cannot be read"),
]


def test_a_wrong_certificate_is_never_served(
    front: Faults, server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One after the other, beside a good one that is kept and served all the time."""
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
        good = server.served[NAME]
        for fault, said in WRONG:
            front.add("certificate", fault)
            caplog.clear()
            answer = server.ask("renew", NAME)
            assert not answer["ok"], fault
            assert said in answer["error"]
            (line,) = [one for one in caplog.messages if one.startswith(NAME)]
            assert re.fullmatch(
                rf"{NAME}: attempt 1 failed at \S+( by \S+)? in [\d.]+ s: {re.escape(said)}.*; "
                r"next attempt at 20[\dTZ:-]+",
                line,
            )
            assert server.served[NAME] == good
            assert record(tmp_path).history[-1].outcome == "unproven"
            stored = (tmp_path / "certificates" / NAME / "fullchain.pem").read_bytes()
            assert stored == good.chain_pem
        assert len(server.published) == 1
        assert server.ask("renew", NAME)["ok"]
    before = CertificateRepository(DirectoryStore(tmp_path)).previous(NAME)
    assert before is not None
    assert before.chain_pem == good.chain_pem


def test_a_ca_that_would_renew_at_once_again_and_again_gets_no_loop_of_orders(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    """Its window is always over, or what it gives is always as good as over."""
    front.window = (time.time() - 2 * DAY, time.time() - DAY)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: (server.reports.get(NAME) or {}).get("ari_window"))
        kept = record_once(tmp_path)
        assert kept.renew_at == pytest.approx(time.time() + BETWEEN_MOST, abs=60)
        front.window = None
        front.add("certificate", Misissue((NAME,), begins=-90 * DAY, ends=3600))
        assert server.ask("renew", NAME)["ok"]
        kept = record(tmp_path)
        assert kept.renew_at == pytest.approx(time.time() + 3600 * BETWEEN_PART, abs=60)
    assert len(front.of("newOrder")) == 2


class Reader(logging.Handler):
    """Looks, whenever an attempt is said to have failed, what the certificate's state is told to be."""

    def __init__(self, server: FakeServer) -> None:
        super().__init__()
        self._server = server
        self.found: list[str | None] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "attempt 1 failed" in record.getMessage():
            self.found.append(self._server.state(NAME))


def test_a_failed_attempt_is_in_the_status_when_the_log_tells_of_it(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    reader, log = Reader(server), logging.getLogger("treehouse.certifier")
    front.add("newOrder", Refuse(403, "rejectedIdentifier"))
    log.addHandler(reader)
    try:
        with Certifier(wanted(front, tmp_path), server):
            server.until(lambda: reader.found)
    finally:
        log.removeHandler(reader)
    assert reader.found == ["failed"]


# Renewal information


def test_the_window_decides_and_the_certificate_that_is_replaced_is_named(
    front: Faults,
    server: FakeServer,
    tmp_path: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "treehouse.certifier")
    front.window = (time.time() + 10 * DAY, time.time() + 12 * DAY)
    front.explanation = "https://ca.example/mass-revocation"
    with Certifier(wanted(front, tmp_path), server, now=clock):
        server.until(lambda: (server.reports.get(NAME) or {}).get("ari_window"))
        first = server.served[NAME]
        kept = record_once(tmp_path)
        assert kept.renew_at is not None
        assert front.window[0] <= kept.renew_at <= front.window[1]
        report = server.reports[NAME]["ari_window"]
        assert report["explanation_url"] == "https://ca.example/mass-revocation"
        assert "why: https://ca.example/mass-revocation" in caplog.text
        # Asked again half a day later at the latest, the CA has changed its mind: now.
        front.window = (time.time() - DAY, time.time() - 3600)
        clock.ahead = 6 * 3600 + 60
        server.tell("wake")
        server.until(lambda: server.served[NAME].serial != first.serial)
    asked, *_ = front.of("renewalInfo")
    assert asked.path.endswith(f"/{certificate_id(first.chain_pem)}")
    assert asked.payload is None
    one, two, *_ = front.of("newOrder")
    assert one.payload is not None
    assert two.payload is not None
    assert "replaces" not in one.payload
    assert two.payload["replaces"] == certificate_id(first.chain_pem)


def record_once(state: Path) -> Record:
    """The record, once the window is in it: it is reported before it is kept."""
    while record(state).window is None:
        time.sleep(0.01)
    return record(state)


@pytest.mark.parametrize(
    ("status", "typ"), [(409, "alreadyReplaced"), (400, "malformed"), (500, "serverInternal")]
)
def test_a_ca_that_holds_it_for_replaced_gets_one_order_without(
    front: Faults, server: FakeServer, tmp_path: Path, status: int, typ: str
) -> None:
    """Or one that fails by what it holds of it."""
    front.window = (time.time() + DAY, time.time() + 2 * DAY)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
        front.add("newOrder", Refuse(status, typ))
        assert server.ask("renew", NAME)["ok"]
    assert ["replaces" in (one.payload or {}) for one in front.of("newOrder")] == [
        False,
        True,
        False,
    ]


def test_another_account_does_not_say_what_it_replaces(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    front.window = (time.time() + DAY, time.time() + 2 * DAY)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
    ordered_by = record(tmp_path).account
    assert ordered_by is not None
    shutil.rmtree(tmp_path / "accounts")
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
        assert server.ask("renew", NAME)["ok"]
        assert server.ask("renew", NAME)["ok"]
    assert record(tmp_path).account not in (None, ordered_by)
    assert ["replaces" in (one.payload or {}) for one in front.of("newOrder")] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("typ", ["caa", "rejectedIdentifier"])
def test_a_refusal_that_is_not_about_what_it_replaces_is_final(
    front: Faults, server: FakeServer, tmp_path: Path, typ: str
) -> None:
    front.window = (time.time() + DAY, time.time() + 2 * DAY)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
        front.add("newOrder", Refuse(403, typ))
        assert not server.ask("renew", NAME)["ok"]
    assert len(front.of("newOrder")) == 2


def test_an_expired_certificate_is_not_asked_about(
    front: Faults, server: FakeServer, tmp_path: Path, clock: Clock
) -> None:
    front.window = (time.time() + DAY, time.time() + 2 * DAY)
    with Certifier(wanted(front, tmp_path), server, now=clock):
        server.until(lambda: front.of("renewalInfo"))
        server.until(lambda: (server.reports[NAME]["ari_window"]) is not None)
    asked = len(front.of("renewalInfo"))
    clock.ahead = 10 * 365 * DAY  # so that it has expired, by this clock
    front.add("newOrder", Refuse(500), 100)
    with Certifier(wanted(front, tmp_path), server, now=clock):
        server.until(lambda: server.state(NAME) in ("failed", "waiting"))
        server.tell("wake")
        server.until(lambda: server.answers)
    assert len(front.of("renewalInfo")) == asked


# The clock, and what the CA says to all


def test_a_clock_that_is_years_ahead_orders_nothing_and_is_forgiven(
    front: Faults, server: FakeServer, tmp_path: Path, clock: Clock
) -> None:
    with Certifier(wanted(front, tmp_path), server, now=clock):
        server.until(lambda: server.state(NAME) == "fresh")
        serial = server.served[NAME].serial
    server.served.clear()
    clock.ahead = 10 * 365 * DAY
    with Certifier(wanted(front, tmp_path), server, now=clock):
        server.until(lambda: server.state(NAME) == "failed")
        assert "days ahead of the CA's" in server.reports[NAME]["last_error"]
        assert server.served[NAME].serial == serial, "perhaps it is the clock that is wrong"
        clock.ahead = 0.0
        server.tell("wake")
        server.until(lambda: server.state(NAME) == "fresh")
        assert server.reports[NAME]["attempts"] == 0
    assert len(front.of("newOrder")) == 1


@pytest.mark.parametrize(("begins", "ends", "said"), [(1, 2, "not valid yet"), (-2, -1, "expired")])
def test_a_ca_whose_own_certificate_is_not_of_our_time_makes_one_think_of_the_clock(
    ca: Pebble, server: FakeServer, tmp_path: Path, begins: int, ends: int, said: str
) -> None:
    """As every CA's is for a small computer that was just switched on."""
    today = datetime.now(UTC)
    days = [today + timedelta(days=one) for one in (begins, ends)]
    with Faults(ca, begins=days[0], ends=days[1]) as front:
        with Certifier(wanted(front, tmp_path), server):
            server.until(lambda: server.state(NAME) == "failed")
        (past,) = record(tmp_path).history
    assert past.outcome == "clock"
    assert f"the CA's own TLS certificate is {said} by this machine's clock, which shows 20" in (
        past.text
    )


def test_a_ca_that_asks_to_be_left_alone_is_left_alone_for_all_names(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    """The next name does not try its luck, but for --force."""
    front.add("newOrder", Refuse(503, headers={"Retry-After": "7200"}, detail="maintenance"))
    by = Authority(front.directory, ca_pem=front.ca_pem)
    with Certifier(settings(tmp_path, by, (NAME,)), server):
        server.until(lambda: server.state(NAME) == "waiting")
    with Certifier(settings(tmp_path, by, (NAME,), ("b.example",)), server):
        server.until(lambda: server.state("b.example") == "waiting")
        assert "maintenance" in server.reports["b.example"]["last_error"]
        assert server.reports["b.example"]["attempts"] == 0
        assert len(front.of("newOrder")) == 1
        assert not server.ask("renew", "b.example")["ok"]
        assert server.ask("renew", {"name": "b.example", "force": True})["ok"]
        assert server.ask("renew", NAME)["ok"], "the CA is well again"


def test_without_renewal_information_nothing_is_said_to_be_replaced(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
        assert server.ask("renew", NAME)["ok"]
    assert all("replaces" not in (one.payload or {}) for one in front.of("newOrder"))
    assert front.of("renewalInfo") == []


@pytest.mark.parametrize(
    "fault",
    [
        Refuse(500),
        Say(b"{}"),
        Cut(),
        Refuse(404, "malformed"),
        Refuse(503, headers={"Retry-After": "60"}),
    ],
    ids=str,
)
def test_a_ca_that_cannot_say_when_is_asked_later_and_the_lifetime_decides(
    front: Faults, server: FakeServer, tmp_path: Path, fault: Fault
) -> None:
    front.window = (time.time() + DAY, time.time() + 2 * DAY)
    front.add("renewalInfo", fault, 100)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: front.of("renewalInfo"))
        server.until(lambda: server.state(NAME) == "fresh")
        while (record(tmp_path).ask_at or 0.0) <= time.time():
            time.sleep(0.01)
        kept = record(tmp_path)
    assert kept.window is None
    assert kept.not_after is not None
    assert kept.renew_at is not None
    assert kept.renew_at < kept.not_after
    assert len(front.of("renewalInfo")) == 1


# Profiles


def test_a_profile_that_is_asked_for(front: Faults, server: FakeServer, tmp_path: Path) -> None:
    front.profiles = {"classic": "as ever", "shortlived": "six days"}
    with Certifier(wanted(front, tmp_path, profile="shortlived"), server):
        server.until(lambda: server.state(NAME) == "fresh")
    assert [(one.payload or {}).get("profile") for one in front.of("newOrder")] == ["shortlived"]


def test_a_profile_the_ca_does_not_list_is_said_before_an_order_is_spent(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    front.profiles = {"classic": "as ever"}
    with Certifier(wanted(front, tmp_path, profile="tlsserver"), server):
        server.until(lambda: server.state(NAME) == "failed")
    assert "no profile tlsserver; it has: classic" in server.reports[NAME]["last_error"]
    assert front.of("newOrder") == []


@pytest.mark.parametrize(("name", "profile"), [("127.0.0.1", "shortlived"), (NAME, None)])
def test_by_itself_only_addresses_get_one(
    front: Faults, server: FakeServer, tmp_path: Path, name: str, profile: str | None
) -> None:
    front.profiles = {"classic": "as ever", "shortlived": "six days"}
    by = Authority(front.directory, ca_pem=front.ca_pem, profile="auto")
    with Certifier(settings(tmp_path, by, (name,)), server):
        server.until(lambda: server.state(name) == "fresh")
    assert [(one.payload or {}).get("profile") for one in front.of("newOrder")] == [profile]


def test_every_request_says_who_asks(front: Faults, server: FakeServer, tmp_path: Path) -> None:
    front.window = (time.time() + DAY, time.time() + 2 * DAY)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: front.of("renewalInfo"))
    assert {one.agent for one in front.seen} == {"treehouse-proxy"}


def test_what_the_ca_says_of_each_name_reaches_the_record_and_the_status(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    """RFC 8555 §6.7.1: subproblems, each with the identifier that it is about."""
    prefix = "urn:ietf:params:acme:error:"
    refusal = {
        "type": prefix + "rejectedIdentifier",
        "detail": "some names cannot be certified",
        "subproblems": [
            {
                "type": prefix + "caa",
                "detail": "CAA forbids it",
                "identifier": {"type": "dns", "value": NAME},
            }
        ],
    }
    front.add("newOrder", Say(json.dumps(refusal).encode(), 403), 1)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "failed")
        (past,) = server.reports[NAME]["history"]
    part = {"typ": "caa", "detail": "CAA forbids it", "name": NAME, "parts": ()}
    assert past["problem"] == {
        "typ": "rejectedIdentifier",
        "detail": "some names cannot be certified",
        "name": None,
        "parts": (part,),
    }
    assert past["seconds"] >= 0
    assert f"{NAME}: CAA forbids it (caa)" in past["error"]
    (kept,) = record(tmp_path).history
    assert kept.said is not None
    assert [(one.name, one.typ) for one in kept.said.parts] == [(NAME, "caa")]
