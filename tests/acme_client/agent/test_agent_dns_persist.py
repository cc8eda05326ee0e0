"""dns-persist-01 against a CA of either generation of the draft, with records at a real name server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from acme_client.certificates.record import from_json
from acme_client.link import Authority, Dns, Settings
from support.acme.ca_faults import Faults
from support.acme.ca_persist import ISSUER, PREFIX, Persist
from support.acme.certifier import Certifier, FakeServer, settings
from support.acme.knot import Knot
from support.acme.pebble import Pebble

pytestmark = pytest.mark.pebble


@pytest.fixture
def knot() -> Iterator[Knot]:
    with Knot({"example.test": ""}) as name_server:
        yield name_server


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as made:
        yield made


@pytest.fixture(params=["00", "01", "02"])
def front(request: pytest.FixtureRequest, knot: Knot) -> Iterator[Faults]:
    with Pebble(always_valid=True) as ca, Faults(ca) as made:
        made.persist = Persist(knot.address, request.param)
        yield made


def wanting(
    state: Path, front: Faults, knot: Knot, *sites: tuple[str, ...], kinds: tuple[str, ...] = ()
) -> Settings:
    by = Authority(front.directory, email="ops@example.org", ca_pem=front.ca_pem)
    facts = settings(state, by, *sites, challenges=kinds or ("dns-persist-01",))
    return replace(facts, dns=Dns(resolvers=((knot.address, 53),)))


def set_as_told(knot: Knot, said: str) -> int:
    """Do what a person would with the lines that are printed; how many were still to be set."""
    lines = re.findall(r'^(\S+)\. IN TXT (".*") ; to be set$', said, re.MULTILINE)
    for record, text in lines:
        knot.set_text(record, "".join(re.findall(r'"([^"]*)"', text)))
    return len(lines)


NAMES = ("*.example.test", "example.test", "www.example.test")


def test_what_is_missing_is_said_before_an_order_and_then_it_is_had(
    front: Faults, server: FakeServer, knot: Knot, tmp_path: Path
) -> None:
    assert front.persist is not None
    with Certifier(wanting(tmp_path, front, knot, NAMES), server):
        server.until(lambda: server.state(NAMES[0]) == "failed")
        said = server.reports[NAMES[0]]["last_error"]
        assert f'_validation-persist.example.test. IN TXT "{ISSUER}; accounturi=' in said
        assert front.of("newOrder") == []
        answer = server.ask("dns_persist", {"name": "www.example.test"})
        assert answer["ok"], answer
        assert front.directory in answer["message"]
        assert (PREFIX in answer["message"]) is (front.persist.draft == "02")
        assert answer["message"].count("policy=wildcard") == 1
        assert set_as_told(knot, answer["message"]) == 2
        assert server.ask("renew", NAMES[0])["ok"]
        told = server.ask("dns_persist", {"name": NAMES[0]})["message"]
        assert told.count("; stands") == 2
    assert front.persist.validated == {
        ("example.test", True), ("example.test", False), ("www.example.test", False),
    }  # fmt: skip
    assert len(knot.texts("_validation-persist.example.test")) == 1  # it is left where it is
    record = from_json((tmp_path / "certificates/_wildcard.example.test/meta.json").read_bytes())
    assert record.challenge == "dns-persist-01"
    assert server.shown == []


def test_records_outlive_a_change_of_the_accounts_key(
    front: Faults, server: FakeServer, knot: Knot, tmp_path: Path
) -> None:
    with Certifier(wanting(tmp_path, front, knot, ("example.test",)), server):
        server.until(lambda: server.state("example.test") == "failed")
        set_as_told(knot, server.ask("dns_persist", {"name": "example.test"})["message"])
        assert server.ask("renew", "example.test")["ok"]
        assert server.ask("roll_account_key")["ok"]
        assert "; stands" in server.ask("dns_persist", {"name": "example.test"})["message"]
        serial = server.served["example.test"].serial
        assert server.ask("renew", "example.test")["ok"]
        assert server.served["example.test"].serial != serial


@pytest.mark.parametrize("front", ["02"], indirect=True)
def test_another_way_is_tried_while_the_record_is_missing(
    front: Faults, server: FakeServer, knot: Knot, tmp_path: Path
) -> None:
    kinds = ("dns-persist-01", "http-01")
    with Certifier(wanting(tmp_path, front, knot, ("example.test",), kinds=kinds), server):
        server.until(lambda: server.state("example.test") == "failed")
        assert server.ask("renew", "example.test")["ok"]
    record = from_json((tmp_path / "certificates/example.test/meta.json").read_bytes())
    assert [one.challenge for one in record.history] == ["dns-persist-01", "http-01"]


@pytest.mark.parametrize("front", ["00"], indirect=True)
def test_what_the_ca_makes_of_it_is_its_own_business(
    front: Faults, server: FakeServer, knot: Knot, tmp_path: Path
) -> None:
    """We are content with the record; the CA looks at another server, and is not."""
    with (
        Knot({"example.test": ""}) as other,
        Certifier(wanting(tmp_path, front, knot, ("example.test",)), server),
    ):
        server.until(lambda: server.state("example.test") == "failed")
        set_as_told(knot, server.ask("dns_persist", {"name": "example.test"})["message"])
        front.persist = Persist(other.address, "00")
        assert not server.ask("renew", "example.test")["ok"]
        said = server.reports["example.test"]["last_error"]
        assert "dns-persist-01: no record for example.test" in said


def test_a_ca_that_does_not_offer_it(server: FakeServer, knot: Knot, tmp_path: Path) -> None:
    with Pebble(always_valid=True) as ca, Faults(ca) as front:
        wanted = wanting(tmp_path, front, knot, ("example.test",))
        with Certifier(wanted, server):
            server.until(lambda: server.state("example.test") == "failed")
            said = server.reports["example.test"]["last_error"]
            assert "configured is dns-persist-01" in said
            answer = server.ask("dns_persist", {"name": "example.test"})
            assert not answer["ok"]
            assert "offers no dns-persist-01" in answer["error"]
            assert not server.ask("dns_persist", {"name": "other.test"})["ok"]
