"""State that an earlier version has written is read by this one: `frozen/` is never changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from acme_client.certificates.lifecycle import State
from acme_client.certificates.record import Attempt
from acme_client.certificates.renewal import Window
from acme_client.certificates.repository import CertificateRepository
from acme_client.challenges.worker_solver import Challenges
from acme_client.errors import IssuanceError
from acme_client.issuers.accounts import Accounts
from acme_client.issuers.messages import Directory
from acme_client.issuers.transport import Transport, trust
from acme_client.link import Authority, CertificateSpec, Settings
from acme_client.rate_limits.ledger import Ledger
from acme_client.storage.directory import DirectoryStore
from support.acme.certifier import Certifier, FakeServer

FROZEN_AT = 1795553512.0
PEBBLE = "https://127.0.0.1:36111/dir"
LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
ORDERS = ("a.example", "b.example", "c.example", "d.example")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A copy, with the modes that git does not keep."""
    copy = tmp_path / "state"
    shutil.copytree(Path(__file__).parent / "frozen" / "v1", copy, symlinks=True)
    for path in copy.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)
    return copy


def test_certificates_are_served_and_their_records_understood(state: Path) -> None:
    by = Authority(PEBBLE, email="ops@example.org", ca_pem=b"")
    names = [("a.example", "www.a.example"), *((one,) for one in ORDERS[1:])]
    wanted = [CertificateSpec(one, by) for one in names] + [
        CertificateSpec(("i.localhost",), Authority("internal"))
    ]
    settings = Settings(state, tuple(wanted))
    loaded: dict[str, dict[str, Any]] = {}

    class Server(FakeServer):
        def loaded(self) -> None:
            """Nothing has been tried yet."""
            loaded.update(self.reports)
            super().loaded()

    with (
        Server() as server,
        Certifier(settings, server, now=lambda: FROZEN_AT, store=DirectoryStore(state)),
    ):
        server.until(lambda: server.is_loaded)
        assert {name: one.serial for name, one in server.served.items()} == {
            "a.example": "6746c157bbe5bc3c",
            "b.example": "29edcf2eb792a2ed",
            "i.localhost": "39dee0a2dd63195f26d0ac7dfae105e5c4713315",
        }
        assert {name: one["state"] for name, one in loaded.items()} == {
            "a.example": "fresh",
            "b.example": "waiting",
            "c.example": "failed",
            "d.example": "missing",
            "i.localhost": "fresh",
        }
        assert loaded["a.example"]["renew_at"] == "2027-01-15T04:08:22Z"
        assert loaded["b.example"]["next_attempt"] == "2026-12-01T20:51:50Z"


def test_every_field_of_a_record(state: Path) -> None:
    record, pair = CertificateRepository(DirectoryStore(state)).load("b.example")
    assert pair is not None
    assert record.names == ("b.example",)
    assert record.state is State.WAITING
    assert (record.source, record.directory, record.serial) == ("acme", PEBBLE, "29edcf2eb792a2ed")
    assert (record.not_before, record.not_after) == (1795553508.0, 1953319907.0)
    assert record.renew_at == 1799917583.601835
    assert (record.attempts, record.interrupted, record.challenge) == (1, 0, "http-01")
    said = "the CA says: too many certificates already issued (rateLimited)"
    assert record.last_error == said
    assert (record.paused_at, record.next_attempt) == (1795553510.447187, 1796158310.4466448)
    assert record.ask_at == 1795575108.8544059
    assert record.window == Window(1799873507.674187, 1800046307.674188, "https://ca.example/why")
    assert record.history == (
        Attempt(1795553508.576635, "obtained", PEBBLE, "http-01", ""),
        Attempt(1795553510.447187, "rate_limited", PEBBLE, None, said),
    )
    cut_off, _ = CertificateRepository(DirectoryStore(state)).load("d.example")
    assert (cut_off.state, cut_off.interrupted) == (State.ISSUING, 1)


def test_the_one_before_it_is_there(state: Path) -> None:
    repository = CertificateRepository(DirectoryStore(state))
    _, now = repository.load("a.example")
    before = repository.previous("a.example")
    assert now is not None
    assert before is not None
    assert before != now


def test_the_account_and_its_key(state: Path) -> None:
    """Nothing is asked of the CA: there is none."""
    accounts = Accounts(DirectoryStore(state), Ledger(DirectoryStore(state), lambda: FROZEN_AT))
    authority = Authority(PEBBLE, email="ops@example.org")
    directory = Directory("", "https://127.0.0.1:36111/sign-me-up", "")
    with Transport("test", trust(None), lambda: FROZEN_AT) as transport:
        accounts.use(authority, directory, transport)
        assert transport.account is not None
        assert transport.account.uri == "https://127.0.0.1:36111/my-account/a7185f29079f897"
        assert transport.account_key is not None


def test_the_ledger(state: Path) -> None:
    book = Ledger(DirectoryStore(state), lambda: FROZEN_AT)
    with pytest.raises(IssuanceError, match="certificates for exactly these names"):
        book.reservation(LETSENCRYPT, ("a.example.org",)).reserve(exempt=False)
    book.reservation(LETSENCRYPT, ("other.example.org",)).reserve(exempt=False)


def test_a_challenge_that_was_left_is_taken_back(state: Path) -> None:
    with FakeServer() as server:
        Challenges(DirectoryStore(state), server).clear()
        (one,) = server.taken_back
    assert (one.kind, one.host, one.token) == ("http-01", "d.example", "tok-en_1")
    assert list((state / "challenges").iterdir()) == []


def test_every_document_says_which_version_wrote_it(state: Path) -> None:
    documents = [*state.rglob("*.json"), state / "challenges" / "tok-en_1"]
    assert len(documents) == 8
    assert {json.loads(one.read_bytes())["version"] for one in documents} == {1}
