"""Every kind of file that the state directory can hold, as an earlier version has written it; and as
one might that is not there yet, who will want it back."""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from acme_client.certificates.peers import Member
from acme_client.certificates.record import Record
from acme_client.certificates.repository import CertificateRepository
from acme_client.certificates.unfinished_order import UnfinishedOrder
from acme_client.challenges.dns01_solver import DnsRecords
from acme_client.challenges.worker_solver import Challenges
from acme_client.cluster import recollection
from acme_client.cluster.settings import ClusterSettings
from acme_client.errors import IssuanceError
from acme_client.issuers import account_files
from acme_client.link import Dns
from acme_client.on_demand.known_names import Changes, NamesFile
from acme_client.rate_limits.ledger import Ledger
from acme_client.storage import documents
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.store import FOLDERS
from acme_client.x509 import keys
from proxy.alerts.incidents import Incidents, waiting_from_json
from proxy.supervisor import alerts as alerting
from proxy.supervisor.process_table import Processes
from proxy.supervisor.timers import Timers
from proxy.system import state_directory
from support.acme.certifier import FakeServer

FROZEN = Path(__file__).parent / "frozen"
FROZEN_AT = 1795553512.0
LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
ACCOUNT = "accounts/ca.example"
ORDER = UnfinishedOrder(
    url="https://ca.example/order/7",
    directory="https://ca.example/directory",
    account="https://ca.example/acct/7",
    names=("a.example", "www.a.example"),
    key_type=keys.DEFAULT,
    profile=None,
    replaces="aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE",
    placed_at=FROZEN_AT - 60,
    key_pem=b"",
    failures=1,
)
CLUSTER = ClusterSettings("shop", "web-1", endpoints=(), secret="")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    copy = tmp_path / "state"
    shutil.copytree(FROZEN / "v1-all", copy, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)
    return copy


def tidy_up(state: Path) -> None:
    """All that a certifier and a supervisor do with what they find, and have to write."""
    store = DirectoryStore(state, now=lambda: FROZEN_AT)
    with FakeServer() as server:
        Challenges(store, server).clear()
    DnsRecords(Dns(), store, threading.Event()).clear()
    repository = CertificateRepository(store)
    for name in repository.names():
        repository.keep_record(name, Record())
    repository.keep_order("a.example", ORDER)
    book = Ledger(store, lambda: FROZEN_AT)
    book.reservation(LETSENCRYPT, ("other.example.org",)).reserve(exempt=False)
    names = NamesFile(store)
    remembered = names.read()
    names.write(Changes(remembered.names, {}))
    account_files.keep_document(store, ACCOUNT, LETSENCRYPT, "https://ca.example/acct/8", None)
    account_files.remember_key(store, ACCOUNT, "another")
    recollection.remember(store, CLUSTER, {"web-2": Member()}, {})
    told = alerting.Alerting(Processes(selectors.DefaultSelector()), Timers(), list, lambda: 0.0)
    told._recall(state)
    told._keep()


def test_there_is_one_of_every_kind() -> None:
    there = {path.name for version in FROZEN.iterdir() for path in version.glob("*")}
    files = {"control.sock", "server.lock", alerting.FILE, "alerts.version-"}
    assert set(state_directory._OURS) == {*FOLDERS, *files}, "another one? freeze it, and read it"
    assert there == {*FOLDERS, alerting.FILE}


def test_certificates_by_all_kinds_of_names(state: Path) -> None:
    repository = CertificateRepository(DirectoryStore(state))
    names = ["*.w.example", "2001:db8::1", "a.example", "a.example/rsa", "xn--bcher-kva.example"]
    assert sorted(repository.names()) == names
    for name in names:
        record, pair = repository.load(name)
        assert pair is not None
        assert record.tried_with == "0123456789abcdef"


def test_a_lease_that_is_held(state: Path) -> None:
    for later, free in ((0.0, False), (1801.0, True)):
        store = DirectoryStore(state, now=lambda by=later: FROZEN_AT + by)
        assert (store.lock("certificates/a.example", 60) is not None) is free


def test_an_order_that_is_unfinished(state: Path) -> None:
    order = CertificateRepository(DirectoryStore(state)).unfinished_order("a.example")
    assert order is not None
    assert replace(order, key_pem=b"") == ORDER
    keys.from_pem(order.key_pem)


def test_an_account_whose_key_is_being_changed(state: Path) -> None:
    store = DirectoryStore(state)
    files = store.load(ACCOUNT)
    assert account_files.folder(store, "https://ca.example/directory") == ACCOUNT
    assert account_files.known(files)["uri"] == "https://ca.example/acct/7"
    (earlier,) = account_files.earlier_keys(store, ACCOUNT)
    assert earlier.startswith("J0YAzv")
    for key in (account_files.KEY, account_files.NEXT_KEY):
        keys.from_pem(files[key])


def test_what_is_to_be_taken_back(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = DirectoryStore(state)
    with FakeServer() as server:
        Challenges(store, server).clear()
        (one,) = server.taken_back
    assert (one.kind, one.host, one.token) == ("tls-alpn-01", "a.example", "tok-en_2")
    DnsRecords(Dns(), store, threading.Event()).clear()
    assert "_acme-challenge.w.example TXT LPJNul-wow4m6" in caplog.text
    assert "could not be removed" in caplog.text, "nobody is configured to"


def test_names_on_demand(state: Path) -> None:
    remembered = NamesFile(DirectoryStore(state)).read()
    assert remembered.names["shop.customer.example"].asked_at == FROZEN_AT - 3600
    assert remembered.due["a.example"] == FROZEN_AT + 72


def test_a_ca_that_has_said_to_wait(state: Path) -> None:
    book = Ledger(DirectoryStore(state), lambda: FROZEN_AT)
    with pytest.raises(IssuanceError, match=r"too many certificates \(5\) already issued"):
        book.reservation(LETSENCRYPT, ("held.example.net",)).reserve(exempt=False)


def test_who_has_been_told_of_what(state: Path) -> None:
    document = documents.read((state / alerting.FILE).read_bytes(), alerting.VERSION)
    assert Incidents.from_json(document["incidents"]).to_json() == document["incidents"]
    (notice,) = waiting_from_json(document["waiting"]["webhook"])
    assert notice.key == ("renewal_failing", "a.example")


def test_who_orders_in_a_cluster(state: Path) -> None:
    store, wishes = DirectoryStore(state), {"a.example": "wish"}
    known = {"web-1": Member(wishes=wishes), "web-2": Member(wishes=wishes)}
    assert recollection.recall(store, CLUSTER, wishes) == known
    other = dataclasses.replace(CLUSTER, name="another")
    assert recollection.recall(store, other, wishes) == {}


def test_what_a_newer_version_has_written_is_still_there_when_it_comes_back(state: Path) -> None:
    """In its place if nothing of ours has to stand there, else beside it."""
    newer = {}
    for path in sorted(state.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix not in (".pem", ""):
            newer[path] = documents.write({"of": "the future", "path": str(path)}, 2)
    for folder in ("challenges", "dns-records"):
        (path,) = (state / folder).iterdir()
        newer[path] = documents.write({"of": "the future", "path": str(path)}, 2)
    assert len(newer) == 14
    for path, data in newer.items():
        path.write_bytes(data)
    tidy_up(state)
    for path, data in newer.items():
        beside = path.with_name(f"{path.stem}.version-2{path.suffix}")
        kept = path if path.parent.name in ("challenges", "dns-records") else beside
        assert kept.read_bytes() == data
        if kept is beside:
            assert json.loads(path.read_bytes())["version"] == 1
    assert state_directory.prepare(state, os.geteuid(), os.getegid()) == []


def test_a_lease_in_a_newer_versions_words_is_held_for_as_long_as_any_can_be(state: Path) -> None:
    lock = state / "certificates" / "a.example" / ".lock"
    lock.write_bytes(documents.write({"until": "the cows come home"}, 2))
    written = lock.stat().st_mtime
    for later, free in ((0.0, False), (3500.0, False), (3700.0, True)):
        store = DirectoryStore(state, now=lambda by=later: written + by)
        assert (store.lock("certificates/a.example", 60) is not None) is free
