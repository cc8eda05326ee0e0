"""The certifier against a real CA (pebble): obtained, kept, used again, renewed, and borne with."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from acme_client.certificates.record import from_json
from acme_client.link import Authority, ExternalAccount, Settings
from acme_client.x509.verify import CertificateAndKey, verify_pair
from proxy.doctor.rules.cas import certificate
from proxy.explain.certificate import page
from support.acme.ca_faults import Cut, Exchange, Faults, Refuse, Reply, Say
from support.acme.certifier import Certifier, FakeServer, authority, settings
from support.acme.pebble import Pebble

pytestmark = pytest.mark.pebble


@pytest.fixture(scope="module")
def ca(doors: FakeServer) -> Iterator[Pebble]:
    with Pebble(doors.http_port, doors.tls_port) as pebble:
        yield pebble


def obtain(server: FakeServer, wanted: Settings) -> None:
    """Have the certifier work until everything wanted is there."""
    with Certifier(wanted, server):
        names = [one.names[0] for one in wanted.wanted]
        server.until(lambda: all(server.state(one) == "fresh" for one in names))


def test_several_certificates_of_several_names(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    sites = [("a.example", "www.a.example"), ("b.example",), ("c.example", "d.example")]
    obtain(server, settings(tmp_path, ca, *sites))
    (root,) = x509.load_pem_x509_certificates(ca.root())
    for names in sites:
        served = server.served[names[0]]
        facts = verify_pair(CertificateAndKey(served.chain_pem, served.key_pem), names, time.time())
        assert set(facts.names) == set(names)
        assert served.source == "acme"
        x509.load_pem_x509_certificates(served.chain_pem)[-1].verify_directly_issued_by(root)
    assert {(one.kind, one.host, one.token) for one in server.shown} == {
        (one.kind, one.host, one.token) for one in server.taken_back
    }
    assert len(server.shown) == 5
    assert list((tmp_path / "challenges").iterdir()) == []


@pytest.mark.parametrize("percent", [30, 50])
def test_a_ca_that_refuses_many_nonces(
    percent: int, server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "treehouse.certifier")
    with Pebble(server.http_port, server.tls_port, nonce_reject=percent) as ca:
        obtain(server, settings(tmp_path, ca, ("a.example", "b.example"), ("c.example",)))
    assert "the CA has refused a nonce" in caplog.text
    assert all(one["attempts"] == 0 for one in server.reports.values())


def test_the_account_is_kept_and_used_again(server: FakeServer, ca: Pebble, tmp_path: Path) -> None:
    obtain(server, settings(tmp_path, ca, ("a.example",)))
    (folder,) = (tmp_path / "accounts").iterdir()
    account = json.loads((folder / "account.json").read_bytes())
    obtain(server, settings(tmp_path, ca, ("a.example",), ("b.example",)))
    assert json.loads((folder / "account.json").read_bytes()) == account
    assert account["directory"] == ca.directory
    assert account["contact"] == ["mailto:ops@example.org"]


def test_an_account_whose_file_is_lost_is_found_by_its_key(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    obtain(server, settings(tmp_path, ca, ("a.example",)))
    (folder,) = (tmp_path / "accounts").iterdir()
    account = json.loads((folder / "account.json").read_bytes())
    (folder / "account.json").unlink()
    obtain(server, settings(tmp_path, ca, ("a.example",), ("b.example",)))
    assert json.loads((folder / "account.json").read_bytes())["uri"] == account["uri"]


def test_another_address_is_told_to_the_ca(server: FakeServer, ca: Pebble, tmp_path: Path) -> None:
    obtain(server, settings(tmp_path, ca, ("a.example",)))
    (folder,) = (tmp_path / "accounts").iterdir()
    account = json.loads((folder / "account.json").read_bytes())
    moved = Authority(ca.directory, email="new@example.org", ca_pem=ca.ca_pem)
    obtain(server, settings(tmp_path, moved, ("b.example",)))
    changed = json.loads((folder / "account.json").read_bytes())
    assert changed == {**account, "contact": ["mailto:new@example.org"]}


def test_an_address_that_is_taken_away_is_taken_away_there(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    obtain(server, settings(tmp_path, ca, ("a.example",)))
    (folder,) = (tmp_path / "accounts").iterdir()
    nobody = Authority(ca.directory, ca_pem=ca.ca_pem)
    obtain(server, settings(tmp_path, nobody, ("b.example",)))
    assert json.loads((folder / "account.json").read_bytes())["contact"] == []


def test_a_contact_that_the_ca_does_not_take_keeps_no_certificate_away(
    server: FakeServer, ca: Pebble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Faults(ca) as front:
        by = Authority(front.directory, email="ops@example.org", ca_pem=front.ca_pem)
        obtain(server, settings(tmp_path, by, ("a.example",)))
        (folder,) = (tmp_path / "accounts").iterdir()
        moved = replace(by, email="new@example.org")
        for fault in (Refuse(400, "invalidContact"), Cut(heard=False), Say(b"nonsense", 500)):
            front.add("account", fault)
            with Certifier(settings(tmp_path, moved, ("a.example",)), server):
                server.until(lambda: server.is_loaded)
                assert server.ask("renew", "a.example")["ok"]
            kept = json.loads((folder / "account.json").read_bytes())["contact"]
            assert kept == ["mailto:ops@example.org"], "told again next time"
            assert "the CA does not take the contact mailto:new@example.org" in caplog.text
            caplog.clear()
        with Certifier(settings(tmp_path, moved, ("a.example",)), server):
            server.until(lambda: server.is_loaded)
            assert server.ask("renew", "a.example")["ok"]
        assert json.loads((folder / "account.json").read_bytes())["contact"] == [
            "mailto:new@example.org"
        ]


def common_name(root: bytes) -> str:
    (name,) = x509.load_pem_x509_certificate(root).subject.get_attributes_for_oid(
        NameOID.COMMON_NAME
    )
    return str(name.value)


def test_of_several_chains_the_one_that_is_preferred(
    server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Pebble(server.http_port, server.tls_port, alternate_roots=2) as ca:
        roots = [ca.root(number) for number in range(3)]
        for number, root in enumerate(roots):
            server.forget()
            by = authority(ca, preferred_chain=common_name(root))
            obtain(server, settings(tmp_path / str(number), by, ("a.example",)))
            top = x509.load_pem_x509_certificates(server.served["a.example"].chain_pem)[-1]
            top.verify_directly_issued_by(x509.load_pem_x509_certificate(root))
        assert "no chain leads to" not in caplog.text
        server.forget()
        by = authority(ca, preferred_chain="Nobody's Root")
        obtain(server, settings(tmp_path / "none", by, ("a.example",)))
        top = x509.load_pem_x509_certificates(server.served["a.example"].chain_pem)[-1]
        top.verify_directly_issued_by(x509.load_pem_x509_certificate(roots[0]))
        assert "no chain leads to Nobody's Root; the CA's own choice is used, of: " in caplog.text
        assert all(common_name(root) in caplog.text for root in roots)


def test_a_ca_that_has_forgotten_the_account_gets_another(
    server: FakeServer, tmp_path: Path
) -> None:
    with Pebble(server.http_port, server.tls_port) as ca:
        obtain(server, settings(tmp_path, ca, ("a.example",)))
        (folder,) = (tmp_path / "accounts").iterdir()
        key = (folder / "key.pem").read_bytes()
        ca.stop()
        ca.start()  # pebble keeps nothing
        obtain(server, settings(tmp_path, ca, ("a.example",), ("b.example",)))
        assert (folder / "key.pem").read_bytes() == key


def test_a_damaged_account_key_is_never_replaced(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    obtain(server, settings(tmp_path, ca, ("a.example",)))
    (folder,) = (tmp_path / "accounts").iterdir()
    (folder / "key.pem").write_bytes(b"torn")
    with Certifier(settings(tmp_path, ca, ("b.example",)), server):
        server.until(lambda: server.state("b.example") == "failed")
    assert "damaged" in server.reports["b.example"]["last_error"]
    assert (folder / "key.pem").read_bytes() == b"torn"


def test_what_is_at_hand_is_served_without_asking_the_ca(
    server: FakeServer, tmp_path: Path
) -> None:
    with Pebble(server.http_port, server.tls_port) as ca:
        obtain(server, settings(tmp_path, ca, ("a.example",), ("b.example",)))
    before = dict(server.served)
    server.served.clear()
    server.is_loaded = False
    with Certifier(settings(tmp_path, ca, ("a.example",), ("b.example",)), server):
        server.until(lambda: server.is_loaded)
        assert server.served == before
        assert {one["state"] for one in server.reports.values()} == {"fresh"}


def test_a_ca_that_is_down_keeps_nobody_from_being_served_and_the_pause_survives(
    server: FakeServer, tmp_path: Path
) -> None:
    with Pebble(server.http_port, server.tls_port) as ca:
        obtain(server, settings(tmp_path, ca, ("a.example",)))
    both = settings(tmp_path, ca, ("a.example",), ("b.example",))
    with Certifier(both, server):
        server.until(lambda: server.state("b.example") == "failed")
        assert "a.example" in server.served
        report = server.reports["b.example"]
        assert "cannot be reached: connection refused" in report["last_error"]
    record = from_json((tmp_path / "certificates/b.example/meta.json").read_bytes())
    assert record.next_attempt is not None
    assert record.paused_at is not None
    assert record.next_attempt - record.paused_at == 60
    server.reports.clear()
    with Certifier(both, server):  # the next start does not forget
        server.until(lambda: server.is_loaded and "b.example" in server.reports)
        assert server.reports["b.example"]["next_attempt"] == report["next_attempt"]
        ahead = [0.0]
    with Certifier(both, server, now=lambda: time.time() + ahead[0]):
        ahead[0] = 61
        server.tell("wake")  # an unknown verb is answered, and the clock is looked at
        server.until(lambda: server.reports["b.example"]["attempts"] == 2)
    record = from_json((tmp_path / "certificates/b.example/meta.json").read_bytes())
    assert record.next_attempt is not None
    assert record.paused_at is not None
    assert record.next_attempt - record.paused_at == 600


def test_renewed_when_a_third_or_half_is_left_with_a_new_key_each_time(
    server: FakeServer, tmp_path: Path
) -> None:
    with (
        Pebble(server.http_port, server.tls_port, validity=12) as ca,
        Certifier(settings(tmp_path, ca, ("a.example",)), server),
    ):
        server.until(lambda: len(server.published) >= 3)
    serials = [one.serial for one in server.published]
    assert len(set(serials)) == len(serials)
    assert len({one.key_pem for one in server.published}) == len(serials)
    for earlier, later in zip(server.published, server.published[1:], strict=False):
        assert later.not_before < earlier.not_after, "a gap in which nothing valid was served"


def test_renewed_by_hand(server: FakeServer, ca: Pebble, tmp_path: Path) -> None:
    with Certifier(settings(tmp_path, ca, ("a.example", "b.example")), server):
        server.until(lambda: server.state("a.example") == "fresh")
        serial = server.served["a.example"].serial
        answer = server.ask("renew", "b.example")
        assert answer["ok"], answer
        assert server.served["a.example"].serial != serial
        unknown = server.ask("renew", "c.example")
        assert not unknown["ok"]
        assert "wanted are: a.example" in unknown["error"]


def test_an_external_account(server: FakeServer, tmp_path: Path) -> None:
    mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    with Pebble(server.http_port, server.tls_port, eab={"kid-1": mac}) as ca:
        given = {
            "this CA needs an external account, and acme.eab has none": None,
            "does not take the external account kid-2 (acme.eab): the CA says: the field 'kid'": (
                ExternalAccount("kid-2", mac)
            ),
            "does not take the external account kid-1 (acme.eab): the CA says: external account b": (
                ExternalAccount("kid-1", mac[:-4] + "AAAA")
            ),
            "the file acme.eab.hmac_key_file: its key is not in base64url": (
                ExternalAccount("kid-1", f"'{mac}'")
            ),
        }
        for said, eab in given.items():
            with Certifier(settings(tmp_path, authority(ca, eab=eab), ("a.example",)), server):
                server.until(lambda: server.state("a.example") == "failed")
                report = server.reports["a.example"]
            assert said in report["last_error"]
            assert mac[:8] not in str(report)
            # Where people look, it reads as what it is, and not as a look at the name's address.
            (line,) = [one for one in page(report, time.time()) if one.startswith("next step")]
            assert "into acme.eab.kid and the key into the file" in line
            *_, told = certificate(report, (), time.time())
            assert told.step in line
            server.forget()
        # Corrected, it works at once, whatever the pause was: see the next one.
        bound = authority(ca, eab=ExternalAccount("kid-1", mac + "\n"))
        obtain(server, settings(tmp_path, bound, ("a.example",)))


def test_a_ca_that_wants_the_external_account_before_it_looks_for_one(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    """The first attempt has left a key; whether the CA knows it is asked without the binding."""
    with Faults(ca) as front:

        def answer(exchange: Exchange) -> Reply:
            asked = front.seen[-1].payload or {}
            if asked.get("onlyReturnExisting"):
                return Refuse(403, "externalAccountRequired")(exchange)
            return exchange.forward()

        by = Authority(front.directory, ca_pem=front.ca_pem)
        front.add("newAccount", Cut(heard=False))
        front.add("newAccount", answer, 100)
        with Certifier(settings(tmp_path, by, ("a.example",)), server):
            server.until(lambda: server.state("a.example") == "failed")
            assert server.ask("renew", "a.example")["ok"]
        # Again and again where the nonce was not taken.
        asked = [
            bool((one.payload or {}).get("onlyReturnExisting")) for one in front.of("newAccount")
        ]
        assert [one for one, _again in groupby(asked)] == [False, True, False]


@pytest.mark.parametrize(
    ("key_type", "kind", "size"),
    [
        ("ecdsa-p256", ec.EllipticCurvePublicKey, 256),
        ("ecdsa-p384", ec.EllipticCurvePublicKey, 384),
        ("rsa-2048", rsa.RSAPublicKey, 2048),
    ],
)
def test_keys_of_the_type_that_is_wanted(
    server: FakeServer, ca: Pebble, tmp_path: Path, key_type: str, kind: type, size: int
) -> None:
    obtain(server, settings(tmp_path, ca, ("a.example",), key_type=key_type))
    key = x509.load_pem_x509_certificate(server.served["a.example"].chain_pem).public_key()
    assert isinstance(key, kind)
    assert key.key_size == size


@pytest.mark.parametrize("kind", ["http-01", "tls-alpn-01"])
def test_a_certificate_for_an_address(
    server: FakeServer, ca: Pebble, tmp_path: Path, kind: str
) -> None:
    obtain(server, settings(tmp_path, ca, ("127.0.0.1",), challenges=(kind,)))
    assert server.served["127.0.0.1"].names == ("127.0.0.1",)
    assert server.asked[kind] > 0


def test_tls_alpn_01(server: FakeServer, ca: Pebble, tmp_path: Path) -> None:
    names = ("a.example", "b.example")
    obtain(server, settings(tmp_path, ca, names, challenges=("tls-alpn-01",)))
    assert {one.kind for one in server.shown} == {"tls-alpn-01"}
    assert server.asked["http-01"] == 0
    record = from_json((tmp_path / "certificates/a.example/meta.json").read_bytes())
    assert record.challenge == "tls-alpn-01"


def test_a_challenge_that_does_not_get_through_gives_way_to_the_other(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    server.mute.add("http-01")
    both = settings(tmp_path, ca, ("a.example",), challenges=("http-01", "tls-alpn-01"))
    with Certifier(both, server):
        server.until(lambda: server.state("a.example") == "failed")
        said = server.reports["a.example"]["last_error"]
        assert said.startswith("a.example: http-01: ")
        assert "404" in said
        assert server.ask("renew", "a.example")["ok"]
    assert [one.kind for one in server.shown] == ["http-01", "tls-alpn-01"]
    record = from_json((tmp_path / "certificates/a.example/meta.json").read_bytes())
    assert record.challenge == "tls-alpn-01"
    assert [one.outcome for one in record.history] == ["validation", "obtained"]


def test_a_worker_that_does_not_take_the_challenge_is_not_the_cas_business(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    server.accepts = False
    with Certifier(settings(tmp_path, ca, ("a.example",)), server):
        server.until(lambda: server.state("a.example") == "failed")
    assert "not all workers" in server.reports["a.example"]["last_error"]
    assert server.asked["http-01"] == 0
    assert [one.host for one in server.taken_back] == ["a.example"]


def test_a_wildcard_is_refused_before_an_order_is_spent(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    with Certifier(settings(tmp_path, ca, ("*.a.example",)), server):
        server.until(lambda: server.state("*.a.example") == "failed")
    assert "DNS-01" in server.reports["*.a.example"]["last_error"]
    assert not (tmp_path / "accounts").exists()


def test_one_bad_name_keeps_no_other_from_its_certificate(
    server: FakeServer, tmp_path: Path
) -> None:
    with (
        Pebble(server.http_port, server.tls_port, blocked=("bad.example",)) as ca,
        Certifier(settings(tmp_path, ca, ("bad.example",), ("a.example",)), server),
    ):
        server.until(lambda: server.state("a.example") == "fresh")
        server.until(lambda: server.state("bad.example") == "failed")
    assert "rejectedIdentifier" in server.reports["bad.example"]["last_error"]


def test_the_loss_of_the_supervisor_ends_it(server: FakeServer, ca: Pebble, tmp_path: Path) -> None:
    with Certifier(settings(tmp_path, ca, ("a.example",)), server) as certifier:
        server.until(lambda: server.state("a.example") == "fresh")
        server.vanish()
        certifier._thread.join(60)
        assert not certifier._thread.is_alive()
