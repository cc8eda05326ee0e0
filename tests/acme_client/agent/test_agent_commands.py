"""What people may ask of the certifier beside renewing: revocation and new account keys (pebble)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from acme_client.certificates.repository import CertificateRepository
from acme_client.challenges.dns01_solver import DnsRecords
from acme_client.challenges.worker_solver import Challenges
from acme_client.issuers.account_files import NEXT_KEY
from acme_client.issuers.acme import AcmeIssuer
from acme_client.link import Authority, CertificateSpec, Dns, Settings
from acme_client.rate_limits.ledger import Ledger
from acme_client.storage.directory import DirectoryStore
from acme_client.x509 import keys
from support.acme.certifier import Certifier, FakeServer, authority, settings
from support.acme.chains import chain
from support.acme.pebble import Pebble

pytestmark = pytest.mark.pebble


@pytest.fixture(scope="module")
def ca(doors: FakeServer) -> Iterator[Pebble]:
    with Pebble(doors.http_port, doors.tls_port) as pebble:
        yield pebble


def revoked(ca: Pebble, chain_pem: bytes) -> int | None:
    return ca.revoked(x509.load_pem_x509_certificate(chain_pem).serial_number)


def obtained(server: FakeServer, name: str) -> None:
    server.until(lambda: server.state(name) == "fresh")


@pytest.mark.parametrize(("reason", "number"), [("keyCompromise", 1), ("superseded", 4)])
def test_a_revoked_certificate_is_followed_by_another(
    server: FakeServer, ca: Pebble, tmp_path: Path, reason: str, number: int
) -> None:
    with Certifier(settings(tmp_path, ca, ("a.example", "b.example")), server):
        obtained(server, "a.example")
        first = server.served["a.example"]
        assert server.ask("revoke", {"name": "b.example", "reason": reason})["ok"]
        assert revoked(ca, first.chain_pem) == number
        server.until(lambda: server.served["a.example"].serial != first.serial)
        assert server.served["a.example"].key_pem != first.key_pem
        assert revoked(ca, server.served["a.example"].chain_pem) is None


def test_what_nobody_wants_any_more_is_not_ordered_again(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    with Certifier(settings(tmp_path, ca, ("a.example",)), server):
        obtained(server, "a.example")
        first = server.served["a.example"]
        value = {"name": "a.example", "reason": "cessationOfOperation"}
        assert server.ask("revoke", value)["ok"]
        assert revoked(ca, first.chain_pem) == 5
        assert server.ask("revoke", value)["ok"], "revoked is revoked"
        assert server.served["a.example"] == first


def test_with_another_account_the_certificates_own_key_is_used(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    for key_type in ("ecdsa-p256", "ecdsa-p384", "rsa-2048"):
        server.forget()
        state = tmp_path / key_type
        wanted = settings(state, ca, ("a.example",), key_type=key_type)
        with Certifier(wanted, server):
            obtained(server, "a.example")
        first = server.served["a.example"]
        (folder,) = (state / "accounts").iterdir()
        for file in ("account.json", "key.pem"):
            (folder / file).unlink()
        with Certifier(wanted, server):
            server.until(lambda: server.is_loaded)
            answer = server.ask("revoke", {"name": "a.example", "reason": "unspecified"})
            assert answer["ok"], answer
        assert revoked(ca, first.chain_pem) == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"name": "nobody.example"}, "wanted are: a.example"),
        ({"name": "a.example", "reason": "boredom"}, "'boredom' is no reason; there are: unspec"),
        ("a.example", "wanted are: a.example"),
        (None, "wanted are: a.example"),
    ],
)
def test_what_cannot_be_revoked(
    server: FakeServer, ca: Pebble, tmp_path: Path, value: object, said: str
) -> None:
    with Certifier(settings(tmp_path, ca, ("a.example",)), server):
        obtained(server, "a.example")
        answer = server.ask("revoke", value)
        assert not answer["ok"]
        assert said in answer["error"]


def test_a_name_with_two_certificates_is_answered_once_and_about_both(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    (ecdsa,) = settings(tmp_path, ca, ("a.example", "b.example")).wanted
    both = Settings(tmp_path, (ecdsa, replace(ecdsa, key_type="rsa-2048", mark="rsa")))
    with Certifier(both, server):
        obtained(server, "a.example")
        obtained(server, "a.example/rsa")
        first = dict(server.served)
        assert {one.family for one in first.values()} == {"ecdsa", "rsa"}
        assert {one.site for one in first.values()} == {"a.example"}
        answer = server.ask("renew", "b.example")
        assert (answer["ok"], answer["error"]) == (True, None)
        second = dict(server.served)
        assert all(second[name].serial != first[name].serial for name in first)
        answer = server.ask("revoke", {"name": "b.example/rsa"})
        assert answer["ok"], answer
        assert revoked(ca, second["a.example/rsa"].chain_pem) == 0
        assert revoked(ca, second["a.example"].chain_pem) is None
        server.until(lambda: server.served["a.example/rsa"] != second["a.example/rsa"])
        third = dict(server.served)
        assert server.ask("revoke", {"name": "a.example", "reason": "keyCompromise"})["ok"]
        assert {revoked(ca, one.chain_pem) for one in third.values()} == {1}
        server.until(lambda: all(server.served[name] != third[name] for name in third))
        assert not server.ask("renew", "a.example/ed25519")["ok"]


def test_another_type_of_key_is_ordered_at_once_and_the_old_one_served_until_then(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    with Certifier(settings(tmp_path, ca, ("a.example",)), server):
        obtained(server, "a.example")
    server.published.clear()
    with Certifier(settings(tmp_path, ca, ("a.example",), key_type="rsa-2048"), server):
        server.until(lambda: server.served["a.example"].family == "rsa")
    assert [one.family for one in server.published] == ["ecdsa", "rsa"]
    with Certifier(settings(tmp_path, ca, ("a.example",), key_type="rsa-2048"), server):
        server.until(lambda: len(server.published) == 3)
        assert server.state("a.example") == "fresh"
    assert [one.family for one in server.published] == ["ecdsa", "rsa", "rsa"]


def test_for_a_new_keys_sake_nobody_becomes_a_customer(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    """Of a CA that has not been needed yet; and with none at all, it is said."""
    first = authority(ca)
    spare = Authority("https://127.0.0.1:1/dir")
    wanted = CertificateSpec(("a.example",), first, fallback=(spare,), challenges=("http-01",))
    with Certifier(Settings(tmp_path, (wanted,)), server):
        obtained(server, "a.example")
        answer = server.ask("roll_account_key")
        assert answer["ok"], answer
        assert answer["message"] == f"new account keys at {ca.directory}"
    server.forget()
    gone = replace(wanted, authority=spare, fallback=())
    with Certifier(Settings(tmp_path / "other", (gone,)), server):
        server.until(lambda: server.state("a.example") == "failed")
        assert not (tmp_path / "other" / "accounts").exists()
        answer = server.ask("roll_account_key")
        assert answer["error"] == "there is no account yet; one is made with the first order"


def test_an_account_gets_a_new_key_and_stays_the_account(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    with Certifier(settings(tmp_path, ca, ("a.example",)), server):
        obtained(server, "a.example")
        (folder,) = (tmp_path / "accounts").iterdir()
        account, key = (folder / "account.json").read_bytes(), (folder / "key.pem").read_bytes()
        assert server.ask("roll_account_key")["ok"]
        assert (folder / "key.pem").read_bytes() != key
        assert not (folder / NEXT_KEY).exists()
        assert server.ask("renew", "a.example")["ok"]
        assert (folder / "account.json").read_bytes() == account


@pytest.mark.parametrize("heard", [True, False])
def test_a_change_of_keys_whose_end_was_not_heard_is_settled(
    server: FakeServer, ca: Pebble, tmp_path: Path, heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program dies after the CA has taken the key, or before it has heard of it."""

    class Died(BaseException):
        pass

    wanted = settings(tmp_path, ca, ("a.example",))
    with Certifier(wanted, server):
        obtained(server, "a.example")
    (folder,) = (tmp_path / "accounts").iterdir()
    before = (folder / "key.pem").read_bytes()
    if heard:
        store, kept = DirectoryStore(tmp_path), []
        original = DirectoryStore.store

        def dies(self: DirectoryStore, name: str, files: dict[str, bytes]) -> None:
            if "key.pem" in files:
                raise Died
            kept.append(files)
            original(self, name, files)

        monkeypatch.setattr(DirectoryStore, "store", dies)
        challenges = Challenges(store, server)
        by = wanted.wanted[0].authority
        stopping = threading.Event()
        records = DnsRecords(Dns(), store, stopping)
        issuer = AcmeIssuer(
            by, store, Ledger(store, time.time), challenges, records, "test", stopping, time.time
        )
        with pytest.raises(Died):
            issuer.roll_account_key()
        monkeypatch.setattr(DirectoryStore, "store", original)
        assert kept
        assert (folder / "key.pem").read_bytes() == before
    else:
        DirectoryStore(tmp_path).store(
            f"accounts/{folder.name}",
            {NEXT_KEY: keys.to_pem(keys.generate(keys.DEFAULT))},
        )
    following = (folder / NEXT_KEY).read_bytes()
    with Certifier(wanted, server):
        server.until(lambda: server.is_loaded)
        assert server.ask("renew", "a.example")["ok"]
    assert (folder / "key.pem").read_bytes() == (following if heard else before)
    assert not (folder / NEXT_KEY).exists()


@pytest.mark.parametrize("key_type", ["ecdsa-p384", "rsa-2048"])
def test_an_account_may_have_a_key_of_another_kind(
    server: FakeServer, ca: Pebble, tmp_path: Path, key_type: str
) -> None:
    """Brought along from elsewhere; its next key is one of ours."""
    folder = f"accounts/{urlsplit(ca.directory).hostname}"
    pem = keys.to_pem(keys.generate(key_type))
    DirectoryStore(tmp_path).store(folder, {"key.pem": pem})
    with Certifier(settings(tmp_path, ca, ("a.example",)), server):
        obtained(server, "a.example")
        account = (tmp_path / folder / "account.json").read_bytes()
        assert (tmp_path / folder / "key.pem").read_bytes() == pem
        assert server.ask("roll_account_key")["ok"]
        assert (tmp_path / folder / "key.pem").read_bytes() != pem
        assert server.ask("renew", "a.example")["ok"]
        assert (tmp_path / folder / "account.json").read_bytes() == account


def test_what_is_put_on_disk_is_served_when_somebody_says_so(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    """Without a word, within a minute."""
    with Certifier(settings(tmp_path, ca, ("a.example",)), server):
        obtained(server, "a.example")
        now = time.time()
        pair = chain("a.example", now=now)
        CertificateRepository(DirectoryStore(tmp_path)).keep_pair("a.example", pair)
        assert server.ask("look")["ok"]
        assert server.served["a.example"].chain_pem == pair.chain_pem
        assert server.reports["a.example"]["state"] == "fresh"
        assert server.reports["a.example"]["served"]


def test_what_comes_while_somebody_is_busy_is_seen_afterwards(
    server: FakeServer, ca: Pebble, tmp_path: Path
) -> None:
    """The attempt fails; what was put there meanwhile is not forgotten."""
    server.mute |= {"http-01", "tls-alpn-01"}
    with Certifier(settings(tmp_path, ca, ("a.example",)), server):
        server.until(lambda: server.state("a.example") == "issuing")
        pair = chain("a.example", now=time.time())
        CertificateRepository(DirectoryStore(tmp_path)).keep_pair("a.example", pair)
        assert server.ask("look")["ok"]
        server.until(lambda: "a.example" in server.served)
        assert server.served["a.example"].chain_pem == pair.chain_pem
