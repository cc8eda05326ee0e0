"""The certifier against a CA of another make: Caddy's acme_server. What holds only because pebble is
as it is would be found out here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from acme_client.certificates.record import from_json
from acme_client.link import Authority, CertificateSpec, Settings
from acme_client.x509.verify import CertificateAndKey, verify_pair
from support.acme.caddy_ca import CaddyCa
from support.acme.certifier import Certifier, FakeServer
from support.program.ports import free_address

pytestmark = pytest.mark.pebble


@pytest.fixture(scope="module")
def doors() -> Iterator[FakeServer]:
    """At an address, which is a name that needs no DNS; the CA validates at no other ports."""
    with FakeServer(free_address(80, 443), 80, 443) as server:
        yield server


@pytest.fixture(scope="module")
def ca() -> Iterator[CaddyCa]:
    with CaddyCa() as caddy:
        yield caddy


def wanted(ca: CaddyCa, server: FakeServer, state: Path, *challenges: str) -> Settings:
    by = Authority(ca.directory, email="ops@example.org", ca_pem=ca.ca_pem)
    return Settings(state, (CertificateSpec((server.host,), by, challenges=challenges),))


@pytest.mark.parametrize("kind", ["http-01", "tls-alpn-01"])
def test_obtained_proven_and_renewed(
    ca: CaddyCa, server: FakeServer, tmp_path: Path, kind: str
) -> None:
    with Certifier(wanted(ca, server, tmp_path, kind), server):
        server.until(lambda: server.state(server.host) == "fresh")
        first = server.served[server.host]
        answer = server.ask("renew", server.host)
        assert answer["ok"], answer
        second = server.served[server.host]
    assert second.serial != first.serial
    assert second.key_pem != first.key_pem
    facts = verify_pair(
        CertificateAndKey(second.chain_pem, second.key_pem), (server.host,), time.time()
    )
    assert facts.names == (server.host,)
    (root,) = x509.load_pem_x509_certificates(ca.root())
    x509.load_pem_x509_certificates(second.chain_pem)[-1].verify_directly_issued_by(root)
    record = from_json((tmp_path / "certificates" / server.host / "meta.json").read_bytes())
    assert record.challenge == kind
    assert record.account is not None
    assert record.renew_at is not None
    # Of twelve hours, half; a little earlier, so that not all are renewed together.
    assert 5 * 3600 <= record.renew_at - second.not_before <= 6 * 3600


def test_a_failed_validation_is_told_in_its_words_and_the_other_challenge_is_tried(
    ca: CaddyCa, server: FakeServer, tmp_path: Path
) -> None:
    server.mute = {"http-01"}
    with Certifier(wanted(ca, server, tmp_path, "http-01", "tls-alpn-01"), server):
        server.until(lambda: server.state(server.host) == "failed")
        assert server.host in server.reports[server.host]["last_error"]
        answer = server.ask("renew", server.host)
        assert answer["ok"], answer
    record = from_json((tmp_path / "certificates" / server.host / "meta.json").read_bytes())
    assert [one.outcome for one in record.history] == ["validation", "obtained"]
    assert record.challenge == "tls-alpn-01"


def test_the_account_is_found_again_by_its_key(
    ca: CaddyCa, server: FakeServer, tmp_path: Path
) -> None:
    with Certifier(wanted(ca, server, tmp_path, "http-01"), server):
        server.until(lambda: server.state(server.host) == "fresh")
    meta = tmp_path / "certificates" / server.host / "meta.json"
    account = from_json(meta.read_bytes()).account
    next((tmp_path / "accounts").rglob("account.json")).unlink()
    with Certifier(wanted(ca, server, tmp_path, "http-01"), server):
        server.until(lambda: server.state(server.host) == "fresh")
        assert server.ask("renew", server.host)["ok"]
    assert from_json(meta.read_bytes()).account == account
