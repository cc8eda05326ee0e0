"""A store on a real etcd of three members that die, stop, lose their quorum and their history."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from acme_client.storage.etcd.api import Body, EtcdApi, Login, Refused, encoded
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from acme_client.storage.etcd.store import EtcdStore, Unreadable
from acme_client.storage.store import Conflict, Edit, Fenced, Full, Unreachable
from support.etcd import Etcd

pytestmark = pytest.mark.program

REPOSITORY = Path(__file__).parents[3]
SECRET = new_secret()
SEALS = Seals(read_secrets(SECRET))
PREFIX = "/treehouse/shop/"
FOLDER = "certificates/example.org"
OLD = {"fullchain.pem": b"old chain", "privkey.pem": b"old key"}
NEW = {"fullchain.pem": b"new chain", "privkey.pem": b"new key"}


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    with Etcd() as running:
        yield running


Open = Callable[..., EtcdStore]


@pytest.fixture
def opened(etcd: Etcd) -> Iterator[Open]:
    stores: list[EtcdStore] = []

    def make(seals: Seals = SEALS, lasts: int = 15) -> EtcdStore:
        stores.append(EtcdStore(EtcdApi(etcd.endpoints, answers_within=1.0), PREFIX, seals, lasts))
        return stores[-1]

    yield make
    for one in stores:
        one.close()


class Watcher:
    def __init__(self, store: EtcdStore, folder: str = "certificates") -> None:
        self.woken = threading.Event()
        self.changed = store.watch(folder, self.woken.set)

    def until(self, names: set[str], within: float = 60.0) -> None:
        seen: set[str] = set()
        deadline = time.monotonic() + within
        while not names <= seen:
            assert self.woken.wait(max(deadline - time.monotonic(), 0.0)), (names, seen)
            self.woken.clear()
            seen |= self.changed()


def test_members_that_die_in_turns_lose_no_write_and_no_change(etcd: Etcd, opened: Open) -> None:
    writer, reader = opened(), opened()
    watcher = Watcher(reader)
    for number in range(3):
        etcd.kill(number)
        deadline = time.monotonic() + 60
        while True:
            try:
                writer.store(f"certificates/{number}.example", OLD)
                break
            except OSError:
                assert time.monotonic() < deadline
        watcher.until({f"{number}.example"})
        assert reader.load(f"certificates/{number}.example") == OLD
        etcd.start_all()


def test_without_a_quorum_there_is_an_answer_in_time_and_afterwards_all_goes_on(
    etcd: Etcd, opened: Open
) -> None:
    store, other = opened(lasts=2), opened(lasts=2)
    watcher = Watcher(other)
    lock = store.lock(FOLDER, 60)
    assert lock is not None
    etcd.kill(0)
    etcd.kill(1)
    begun = time.monotonic()
    for call in (lambda: store.store(FOLDER, OLD), lambda: store.load(FOLDER)):
        with pytest.raises(Unreachable):
            call()
    assert time.monotonic() - begun < 45
    while lock.holds():
        time.sleep(0.05)  # until its holder believes in it no more
    etcd.start_all()
    store.store(FOLDER, NEW)
    watcher.until({"example.org"})


def test_what_changed_while_the_history_was_thrown_away_is_named(etcd: Etcd, opened: Open) -> None:
    store, away = opened(), opened()
    store.store("certificates/gone.example", OLD)
    store.store("certificates/same.example", OLD)
    watcher = Watcher(away)
    quiet = opened()
    quiet_watcher = Watcher(quiet, "accounts")
    etcd.kill_all()  # so that it hears of nothing
    away.api.endpoints = quiet.api.endpoints = ("http://127.0.0.1:9",)
    etcd.start_all()
    store.store(FOLDER, OLD)
    store.delete("certificates/gone.example")
    latest = json.loads(etcd.ctl("get", "/", "--write-out", "json"))["header"]["revision"]
    etcd.ctl("compact", str(latest))
    away.api.endpoints = quiet.api.endpoints = etcd.endpoints
    watcher.until({"example.org", "gone.example"})
    assert "same.example" not in watcher.changed()
    deadline = time.monotonic() + 60
    while quiet.heard("accounts") < latest:
        assert time.monotonic() < deadline
        time.sleep(0.05)  # nothing is told where nothing had escaped
    store.store("accounts/ca", {"key.pem": b"key"})
    quiet_watcher.until({"ca"})
    # A watch from which nothing had escaped is no news, though it had to compare as well.
    assert away.api.figures.document()["reloads"] == {"compacted": 1, "restored": 0}
    assert quiet.api.figures.document()["reloads"] == {"compacted": 0, "restored": 0}


def test_what_an_engine_from_a_backup_has_is_compared(etcd: Etcd, opened: Open) -> None:
    store, watching = opened(), opened()
    store.store("certificates/a.example", OLD)
    snapshot = etcd.folder / "snapshot"
    subprocess.run(
        ["etcdctl", "--endpoints", etcd.endpoints[0], "snapshot", "save", str(snapshot)],
        env={**os.environ, "ETCDCTL_API": "3"}, check=True, capture_output=True,
    )  # fmt: skip
    watcher = Watcher(watching)
    store.store("certificates/a.example", NEW)
    store.store("certificates/b.example", OLD)
    watcher.until({"a.example", "b.example"})
    etcd.kill_all()
    etcd.restore(snapshot)
    etcd.start_all()
    watcher.until({"a.example", "b.example"}, 60)
    assert watching.load("certificates/a.example") == OLD
    assert watching.load("certificates/b.example") == {}
    assert watching.api.figures.document()["reloads"] == {"compacted": 0, "restored": 1}


HOLDS = """
import sys
from acme_client.storage.etcd.api import EtcdApi
from acme_client.storage.etcd.sealing import Seals, read_secrets
from acme_client.storage.etcd.store import EtcdStore
from acme_client.storage.store import Edit, Fenced

endpoints, secret, prefix, folder = sys.argv[1].split(","), *sys.argv[2:]
store = EtcdStore(EtcdApi(endpoints), prefix, Seals(read_secrets(secret)), 2)
lock = store.lock(folder, 1800)
print("held" if lock else "not held", flush=True)
sys.stdin.readline()
lock.holds = lambda: True  # as if it had looked just before it was stopped
try:
    store.change([Edit(folder, {"fullchain.pem": b"late", "privkey.pem": b"late"})], by=lock)
except Fenced:
    print("fenced", flush=True)
"""


def test_a_holder_that_was_stopped_for_longer_than_its_lease_writes_nothing(
    etcd: Etcd, opened: Open
) -> None:
    store = opened()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, ",".join(etcd.endpoints), SECRET, PREFIX, FOLDER],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        assert store.lock(FOLDER, 60) is None
        holder.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 60
        while (lock := store.lock(FOLDER, 60)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)  # the engine tells nobody when a lease ends
        store.store(FOLDER, NEW)
        holder.send_signal(signal.SIGCONT)
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "fenced\n"
    assert lock.holds()
    assert store.load(FOLDER) == NEW


def test_what_is_put_while_we_are_here_goes_with_us(etcd: Etcd, opened: Open) -> None:
    store, other = opened(lasts=2), opened()
    store.put_while_here("challenges", "token", b"{}")
    assert other.load("challenges") == {"token": b"{}"}
    store.close()
    assert other.load("challenges") == {}


def test_what_is_followed_is_in_memory_as_it_changes(etcd: Etcd, opened: Open) -> None:
    store, other, follower = opened(), opened(lasts=2), opened()
    store.put_while_here("members", "web-1", b"one")
    woken = threading.Event()
    changed, followed = follower.follow("members", woken.set)

    def files() -> dict[str, bytes | Unreadable]:
        return {name: one.data for name, one in followed().items()}

    assert files() == {"web-1": b"one"}
    assert followed()["web-1"].revision == store.written_last("members")
    assert store.written_last("nothing") == 0
    assert follower.age(followed()["web-1"].revision) is None  # it was there before we asked
    later = store.put_while_here("members", "web-1", b"another")
    age = follower.age(later)
    assert age is not None
    assert 0 < age < 60
    other.put_while_here("members", "web-2", b"two")
    forged = f"{PREFIX}members/web-3"
    store.api.call("/v3/kv/put", {"key": encoded(forged), "value": encoded(b"garbage")})
    seen: set[str] = set()
    while not {"web-1", "web-2", "web-3"} <= seen:
        assert woken.wait(30)
        woken.clear()
        seen |= changed()
    found = files()
    assert isinstance(found.pop("web-3"), Unreadable)
    assert found == {"web-1": b"another", "web-2": b"two"}
    other.put_while_here("members/web-1", "waits", b"three")
    while "web-1/waits" not in files():
        assert woken.wait(30)
        woken.clear()
    assert files()["web-1/waits"] == b"three"
    assert set(store.load_alone("members")[0]) == {"web-1", "web-2", "web-3"}
    other.close()
    while files().keys() & {"web-2", "web-1/waits"}:
        assert woken.wait(30)
        woken.clear()
    # It is there again after the engine, and what has changed meanwhile is known.
    etcd.kill_all()
    etcd.start_all()
    store.put_while_here("members", "web-4", b"four")
    while "web-4" not in files():
        assert woken.wait(30)
        woken.clear()


@pytest.mark.parametrize("value", [b"", b"garbage", b"treehouse1", b"treehouse1" + b"\0" * 60])
def test_a_forged_document_is_told_and_the_others_are_read(
    etcd: Etcd, opened: Open, value: bytes
) -> None:
    store = opened()
    store.store(FOLDER, OLD)
    key = f"{PREFIX}certificates/forged.example/:together"
    store.api.call("/v3/kv/put", {"key": encoded(key), "value": encoded(value)})
    with pytest.raises(Unreadable, match=key):
        store.load("certificates/forged.example")
    found = dict(store.load_all("certificates"))
    assert found["example.org"] == OLD
    assert isinstance(found["forged.example"], Unreadable)
    with pytest.raises(Unreadable, match="another secret"):
        opened(Seals(read_secrets(new_secret()))).load(FOLDER)
    store.store("certificates/forged.example", NEW)  # makes way for what is right
    assert store.load("certificates/forged.example") == NEW


def test_thousands_are_read_in_pages(etcd: Etcd, opened: Open) -> None:
    store = opened()
    for number in range(601):
        store.api.call(
            "/v3/kv/put",
            {"key": encoded(f"{PREFIX}certificates/{number}.example/meta.json"), "value": ""},
        )
    assert len(store.list("certificates")) == 601
    assert len(list(store.load_all("certificates"))) == 601


def test_a_quota_that_is_used_up_is_told_as_full() -> None:
    with Etcd(1, ("--quota-backend-bytes", "1000000")) as etcd:
        store = EtcdStore(EtcdApi(etcd.endpoints), PREFIX, SEALS)
        with contextlib.suppress(Full):
            for _turn in range(100):
                store.store(FOLDER, {"meta.json": os.urandom(50_000)})
        with pytest.raises(Full, match="quota"):
            store.store(FOLDER, {"meta.json": os.urandom(50_000)})
        assert store.load(FOLDER)
        store.close()


def test_a_user_logs_in_and_may_do_what_its_role_says(etcd: Etcd) -> None:
    etcd.ctl("user", "add", "root:root-word")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("user", "add", "node:node-word")
    etcd.ctl("role", "add", "nodes")
    etcd.ctl("role", "grant-permission", "nodes", "readwrite", "--prefix=true", PREFIX)
    etcd.ctl("user", "grant-role", "node", "nodes")
    etcd.ctl("auth", "enable")
    store = EtcdStore(EtcdApi(etcd.endpoints, login=Login("node", "node-word")), PREFIX, SEALS)
    store.store(FOLDER, OLD)
    assert store.lock(FOLDER, 60) is not None
    assert store.load(FOLDER) == OLD
    with pytest.raises(Refused, match="permission denied"):
        store.api.call("/v3/kv/put", {"key": encoded("/elsewhere"), "value": ""})
    store.api._token = "expired"
    store.store(FOLDER, NEW)
    wrong = EtcdStore(EtcdApi(etcd.endpoints, login=Login("node", "wrong")), PREFIX, SEALS)
    none = EtcdStore(EtcdApi(etcd.endpoints), PREFIX, SEALS)
    for one in (wrong, none):
        with pytest.raises(Refused):
            one.load(FOLDER)
        one.close()
    store.close()


def logs_in_beside_its_certificate(etcd: Etcd, context: ssl.SSLContext) -> None:
    """Where users log in, whoever shows a certificate is the user of its common name, which is
    denied everything, until there is a login."""

    def once(path: str, body: Body, tls: ssl.SSLContext, login: Login | None = None) -> object:
        with contextlib.closing(EtcdApi(etcd.endpoints, tls, login)) as api:
            return api.call(path, body)

    where = {"key": encoded(PREFIX), "range_end": encoded(f"{PREFIX[:-1]}0")}
    for path, body in (
        ("user/add", {"name": "root", "password": "root-word"}),
        ("user/grant", {"user": "root", "role": "root"}),
        ("user/add", {"name": "node", "password": "node-word"}),
        ("role/add", {"name": "nodes"}),
        ("role/grant", {"name": "nodes", "perm": {"permType": "READWRITE", **where}}),
        ("user/grant", {"user": "node", "role": "nodes"}),
        ("enable", {}),
    ):
        once(f"/v3/auth/{path}", body, context)
    login = Login("node", "node-word")
    store = EtcdStore(EtcdApi(etcd.endpoints, context, login), PREFIX, SEALS)
    store.store(FOLDER, NEW)
    assert store.load(FOLDER) == NEW
    store.store(FOLDER, OLD)
    store.close()
    watching = EtcdApi(etcd.endpoints, context, login)
    said = watching.stream("/v3/watch", {"create_request": where}, lambda _sock: None)
    assert next(said)["created"]
    said.close()  # type: ignore[attr-defined] # it is a generator
    watching.close()
    asked = "/v3/kv/range", {"key": encoded(PREFIX)}
    with pytest.raises(Refused, match="authentication failed"):
        once(*asked, context, Login("node", "wrong"))
    once("/v3/auth/disable", {}, context, Login("root", "root-word"))


def test_an_engine_with_tls_is_known_by_its_certificate(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    ca, pair = tmp_path / "ca.pem", tmp_path / "pair.pem"
    authority.cert_pem.write_to_path(ca)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pair)
    client = authority.issue_cert("node.example")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    with Etcd(1) as etcd:
        etcd.kill_all()
        etcd.arguments = (
            "--cert-file", str(pair), "--key-file", str(pair), "--trusted-ca-file", str(ca),
        )  # fmt: skip
        etcd.endpoints = (etcd.endpoints[0].replace("http:", "https:"),)
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(tmp_path / "client.pem")
        etcd.tls = context
        etcd.start_all()
        store = EtcdStore(EtcdApi(etcd.endpoints, context), PREFIX, SEALS)
        store.store(FOLDER, OLD)
        assert store.load(FOLDER) == OLD
        store.close()
        logs_in_beside_its_certificate(etcd, context)
        doubtful = ssl.create_default_context()
        stranger.configure_trust(doubtful)
        unknown = ssl.create_default_context(cafile=str(ca))
        for refused, why in ((doubtful, "certificate is not trusted"), (unknown, "https://")):
            with pytest.raises(Unreachable, match=why):
                EtcdStore(EtcdApi(etcd.endpoints, refused), PREFIX, SEALS).load(FOLDER)
        expired = authority.issue_cert(
            "node.example", not_after=datetime.fromtimestamp(time.time() - 1, UTC)
        )
        expired.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(tmp_path / "client.pem")
        api = EtcdApi(etcd.endpoints, context, client_ends=time.time() - 1)
        with pytest.raises(Unreachable, match=r"our client certificate .* has expired"):
            EtcdStore(api, PREFIX, SEALS).load(FOLDER)


def test_an_engine_without_the_gateway_is_told() -> None:
    with Etcd(1) as etcd:
        etcd.kill_all()
        etcd.arguments = ("--enable-grpc-gateway=false",)
        etcd.start(0)
        api = EtcdApi(etcd.endpoints)
        deadline = time.monotonic() + 60
        while True:
            try:
                api.call("/v3/kv/range", {"key": encoded("x")})
            except Unreachable:
                assert time.monotonic() < deadline
            except Refused as refusal:
                said = str(refusal)
                break
        api.close()
    assert "enable-grpc-gateway" in said


def test_a_lock_that_was_lost_is_not_given_back(etcd: Etcd, opened: Open) -> None:
    store, other = opened(), opened()
    theirs = other.lock(FOLDER, 60)
    assert theirs is not None
    other.close()
    mine = store.lock(FOLDER, 60)
    assert mine is not None
    theirs.release()
    store.change([], by=mine)
    mine.release()
    with pytest.raises(Fenced):
        store.change([], by=mine)
    figures = store.api.figures.document()
    assert figures["fenced"] == 1
    assert sum(figures["seconds"]) > 3
    assert figures["seconds_sum"] > 0.0
    mark = store.mark(FOLDER)
    with pytest.raises(Conflict):
        store.change([Edit(FOLDER, OLD, replaces="another")])
    assert store.api.figures.document()["conflicts"] == 1
    assert store.mark(FOLDER) == mark


def test_a_lock_whose_end_the_engine_has_not_heard_is_given_back_later(
    etcd: Etcd, opened: Open
) -> None:
    """Its session goes on when the engine is back, so it would be held for as long as the machine
    lives."""
    store, other = opened(lasts=600), opened(lasts=600)
    lock = store.lock(FOLDER, 60)
    assert lock is not None
    etcd.kill_all()
    with pytest.raises(Unreachable):
        lock.release()
    with pytest.raises(Unreachable):
        store.lock("certificates/b.example", 60)
    etcd.start_all()
    assert other.lock(FOLDER, 60) is None
    another = store.lock("certificates/c.example", 60)
    theirs = other.lock(FOLDER, 60)
    assert another is not None
    assert theirs is not None
    store.give_back()  # nothing is left that would be somebody else's by now
    assert store.lock(FOLDER, 60) is None
    assert theirs.holds()
