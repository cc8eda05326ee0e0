"""A disk that takes nothing: what others have obtained is in memory until the disk takes it."""

from __future__ import annotations

import logging

import pytest

from acme_client.cluster.spare import SpareStore
from acme_client.drill.memory_store import MemoryStore

FOLDER = "certificates/a.example"
OLD = {"fullchain.pem": b"old chain", "privkey.pem": b"old key"}
NEW = {"fullchain.pem": b"new chain", "privkey.pem": b"new key"}


def test_a_disk_that_takes_everything_is_all_there_is() -> None:
    disk = MemoryStore()
    store = SpareStore(disk)
    changed = store.watch("certificates")
    store.store(FOLDER, OLD)
    assert disk.load(FOLDER) == store.load(FOLDER) == OLD
    assert store.mark(FOLDER) == disk.mark(FOLDER)
    assert changed() == {"a.example"}
    assert changed() == set()


def test_what_a_full_disk_refuses_is_served_and_written_once_there_is_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = MemoryStore()
    store = SpareStore(disk)
    store.store(FOLDER, OLD)
    mark = store.mark(FOLDER)
    changed = store.watch("certificates")
    disk.full = lambda: True
    store.store(FOLDER, {"meta.json": b"1"})
    store.store(FOLDER, {"meta.json": b"2"})
    store.store(FOLDER, NEW)
    store.store("certificates/new.example", NEW)
    assert store.load(FOLDER) == {**NEW, "meta.json": b"2"}
    assert store.mark(FOLDER) != mark
    assert store.list("certificates") == ["a.example", "new.example"]
    assert changed() == {"a.example", "new.example"}
    assert changed() == set()
    assert disk.load(FOLDER) == OLD
    assert store.unwritten() == [FOLDER, "certificates/new.example"]
    assert store.unwritten_certificates() == {"a.example", "new.example"}
    told = [one.message for one in caplog.records if one.levelno >= logging.ERROR]
    assert [one.partition(":")[0] for one in told] == ["a.example", "new.example"]
    store.delete("certificates/new.example")
    store.delete(FOLDER, "meta.json")
    disk.full = lambda: False
    assert "a.example" in changed()
    assert disk.load(FOLDER) == store.load(FOLDER) == NEW
    assert disk.previous(FOLDER) == OLD
    assert store.unwritten() == []
    assert store.unwritten_certificates() == set()
    disk.full = lambda: True
    store.store(FOLDER, {"meta.json": b"3"})
    assert store.unwritten_certificates() == set()  # of which the disk has what the others have
    assert disk.list("certificates") == ["a.example"]


def test_what_is_no_certificate_is_refused_as_the_disk_refuses_it() -> None:
    disk = MemoryStore()
    disk.full = lambda: True
    store = SpareStore(disk)
    with pytest.raises(OSError, match="No space left"):
        store.store("accounts/ca.example", {"key.pem": b"key"})
    assert store.load("accounts/ca.example") == {}
