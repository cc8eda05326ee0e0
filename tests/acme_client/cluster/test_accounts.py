"""Accounts and the built-in root between machines: made once, changed for all, never overwritten by
what is earlier."""

from __future__ import annotations

import errno
import json
import threading

import pytest

from acme_client.cluster.accounts import SharedFiles
from acme_client.drill.memory_store import MemoryStore
from acme_client.issuers.account_files import CLOSED_KEY
from acme_client.issuers.internal import InternalCa
from acme_client.storage.store import Unreachable

FOLDER = "accounts/ca.example"
WEEK = 7 * 86400.0
NOW = 1_800_000_000.0


class Engine(MemoryStore):
    """All machines' store; ``away``: it cannot be asked."""

    away = False

    def load(self, folder: str) -> dict[str, bytes]:
        self._ask()
        return super().load(folder)

    def mark(self, folder: str) -> object:
        self._ask()
        return super().mark(folder)

    def _ask(self) -> None:
        if self.away:
            raise Unreachable(errno.EHOSTUNREACH, "no answer in time")


def machines(number: int) -> tuple[Engine, list[SharedFiles]]:
    engine = Engine()
    return engine, [SharedFiles(MemoryStore(), engine) for _ in range(number)]


def make_account(files: SharedFiles, uri: str, key: bytes, *earlier: str) -> None:
    if earlier:
        files.store(FOLDER, {"earlier-keys.json": json.dumps({"thumbprints": earlier}).encode()})
    files.store(FOLDER, {"key.pem": key})
    files.store(FOLDER, {"account.json": json.dumps({"version": 1, "uri": uri}).encode()})


def key(files: SharedFiles) -> bytes | None:
    return files.load(FOLDER).get("key.pem")


def test_who_is_second_has_the_account_of_the_first() -> None:
    _engine, (one, other) = machines(2)
    lock = one.lock(FOLDER, 60.0)
    assert lock is not None
    make_account(one, "https://ca/1", b"key 1")
    lock.release()
    lock = other.lock(FOLDER, 60.0)
    assert lock is not None
    assert key(other) == b"key 1"
    lock.release()


def test_while_one_makes_an_account_another_waits() -> None:
    engine = MemoryStore()
    one, other = (SharedFiles(MemoryStore(), engine.peer()) for _ in range(2))
    lock = one.lock(FOLDER, 60.0)
    assert lock is not None
    got: list[bytes | None] = []

    def come() -> None:
        second = other.lock(FOLDER, 60.0)
        assert second is not None
        got.append(key(other))

    waiting = threading.Thread(target=come)
    waiting.start()
    make_account(one, "https://ca/1", b"key 1")
    lock.release()
    waiting.join(60)
    assert got == [b"key 1"]


def test_another_key_goes_to_all_and_an_earlier_one_takes_nothing_back() -> None:
    engine, (one, other) = machines(2)
    make_account(one, "https://ca/1", b"key 1")
    other.level()
    engine.away = True
    make_account(one, "https://ca/1", b"key 2", "thumbprint 1")  # nobody hears of it
    engine.away = False
    other.level()
    assert key(other) == b"key 1"
    one.level()
    assert key(one) == b"key 2"
    other.level()
    assert key(other) == b"key 2"


def test_a_key_that_is_being_changed_stays_until_the_ca_has_said_which_counts() -> None:
    _engine, (one, other) = machines(2)
    make_account(one, "https://ca/1", b"key 1")
    other.level()
    other.store(FOLDER, {"key-next.pem": b"key 3"})
    make_account(one, "https://ca/1", b"key 2", "thumbprint 1")
    other.level()
    assert key(other) == b"key 1"
    other.delete(FOLDER, "key-next.pem")
    assert key(other) == b"key 2"


def test_an_account_that_the_ca_has_closed_makes_way_for_the_next_one() -> None:
    _engine, (one, other) = machines(2)
    make_account(one, "https://ca/1", b"key 1")
    other.level()
    one.store(FOLDER, {CLOSED_KEY: b"key 1"})
    for file in ("account.json", "key.pem"):
        one.delete(FOLDER, file)
    one.level()
    assert key(one) is None, "the closed one is not taken again"
    make_account(one, "https://ca/2", b"key 2")
    other.level()
    assert key(other) == b"key 1", "whether it is closed, the CA tells this machine too"
    other.store(FOLDER, {CLOSED_KEY: b"key 1"})
    for file in ("account.json", "key.pem"):
        other.delete(FOLDER, file)
    other.level()
    assert key(other) == b"key 2"


def test_one_that_the_ca_knows_under_another_url_is_taken() -> None:
    _engine, (one, other) = machines(2)
    make_account(one, "https://ca/1", b"key 1")
    other.level()
    one.delete(FOLDER, "account.json")
    make_account(one, "https://ca/2", b"key 1")
    other.level()
    assert b"https://ca/2" in other.load(FOLDER)["account.json"]
    one.level()
    assert b"https://ca/2" in one.load(FOLDER)["account.json"]


def test_who_has_another_account_keeps_it(caplog: pytest.LogCaptureFixture) -> None:
    _engine, (one, other) = machines(2)
    make_account(one, "https://ca/1", b"key 1")
    make_account(other, "https://ca/9", b"key 9")
    for _ in range(3):
        one.level()
        other.level()
    assert (key(one), key(other)) == (b"key 1", b"key 9")
    assert caplog.text.count("this machine has another one than the cluster, and keeps it") == 1


def test_without_the_engine_an_account_is_made_here_and_offered_later() -> None:
    engine, (one, other) = machines(2)
    engine.away = True
    lock = one.lock(FOLDER, 60.0)
    assert lock is not None
    make_account(one, "https://ca/1", b"key 1")
    lock.release()
    engine.away = False
    one.level()
    other.level()
    assert key(other) == b"key 1"


def test_a_root_is_made_once_and_its_successor_goes_to_all() -> None:
    _engine, (one, other) = machines(2)
    now = NOW
    cas = [InternalCa(files, WEEK, lambda: now) for files in (one, other)]
    cas[0].issue(("a.test",), "ecdsa-p256")
    cas[1].issue(("b.test",), "ecdsa-p256")
    root = one.load("internal-ca")["root.pem"]
    assert other.load("internal-ca")["root.pem"] == root
    now += 9.5 * 365 * 86400.0
    cas[1].issue(("b.test",), "ecdsa-p256")
    second = other.load("internal-ca")["root.pem"]
    assert second != root
    cas[0].issue(("a.test",), "ecdsa-p256")
    one.level()
    assert one.load("internal-ca")["root.pem"] == second
