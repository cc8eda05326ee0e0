"""A document and its journal: whatever happens while it is written, what was kept before is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acme_client.drill.memory_store import Crash, MemoryStore
from acme_client.storage import documents
from acme_client.storage.atomic import Disk
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.journal import Journal
from acme_client.storage.shared_sync import Durable
from acme_client.storage.store import Store

FOLDER = "ledgers/ca.example"


class Writer:
    """A process that keeps the document, as the ledger does."""

    def __init__(self, store: Store) -> None:
        self.journal = Journal(store, FOLDER, "ledger.json", 1)
        self.due: dict[str, float] = {}
        self.read()

    def read(self) -> None:
        self.due = self.journal.read().get("due", {})

    def put(self, key: str, value: float | None) -> None:
        if not self.journal.is_current():
            self.read()
        if value is None:
            self.due.pop(key, None)
        else:
            self.due[key] = value
        changes = {"at": 1.0, "due": {key: value}}
        self.journal.write(changes, lambda: {"at": 1.0, "due": self.due})


def reread(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = Writer(store).due
    return found


@pytest.fixture(params=[DirectoryStore, MemoryStore])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param is MemoryStore else DirectoryStore(tmp_path)


def test_what_is_kept_is_read_by_another_process(store: Store) -> None:
    writer = Writer(store)
    for key, value in (("a", 1.0), ("b", 2.0), ("a", 3.0), ("b", None), ("c", 4.0)):
        writer.put(key, value)
        assert reread(store) == writer.due
    assert reread(store) == {"a": 3.0, "c": 4.0}


def test_of_two_processes_each_sees_what_the_other_has_kept(store: Store) -> None:
    one, other = Writer(store), Writer(store)
    for number in range(20):
        (one if number % 3 else other).put(f"key {number}", float(number))
    assert reread(store) == {f"key {number}": float(number) for number in range(20)}


def test_ten_thousand_changes_take_bytes_for_what_has_changed(tmp_path: Path) -> None:
    written = 0

    class Counting(Disk):
        def write(self, path: Path, data: bytes) -> None:
            nonlocal written
            written += len(data)
            super().write(path, data)

        def append(self, path: Path, data: bytes) -> None:
            nonlocal written
            written += len(data)
            super().append(path, data)

        def _settle(self, several: list[Durable]) -> None:
            pass

    store = DirectoryStore(tmp_path, Counting())
    writer = Writer(store)
    for number in range(10_000):
        writer.put(f"names site-{number}.example", 1.8e9 + number)
    assert len(reread(store)) == 10_000
    assert written < 5e6
    assert sum(os.path.getsize(one) for one in tmp_path.glob("ledgers/*/*")) < 1.5e6


def test_a_line_that_was_cut_off_costs_that_change_alone(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    writer = Writer(store)
    writer.put("a", 1.0)
    writer.put("b", 2.0)
    (log,) = tmp_path.rglob("ledger.log")
    whole = log.read_bytes()
    begins = whole.rindex(b"\n")
    for end in range(begins, len(whole)):
        log.write_bytes(whole[:end])
        assert reread(store) == {"a": 1.0}
        Writer(store).put("c", 3.0)
        assert reread(store) == {"a": 1.0, "c": 3.0}, "and the next one is in a line of its own"


def test_an_earlier_versions_document_is_read_and_what_it_writes_counts(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.store(FOLDER, {"ledger.json": documents.write({"at": 1.0, "due": {"a": 1.0}}, 1)})
    writer = Writer(store)
    assert writer.due == {"a": 1.0}
    writer.put("a", 2.0)
    writer.put("b", 2.0)
    # It knows nothing of the journal, and leaves it where it is.
    store.store(FOLDER, {"ledger.json": documents.write({"at": 3.0, "due": {"a": 9.0}}, 1)})
    assert reread(store) == {"a": 9.0}
    writer.put("c", 4.0)
    assert reread(store) == {"a": 9.0, "c": 4.0}


def test_a_newer_programs_document_is_set_aside(store: Store) -> None:
    newer = b'{"version": 2, "due": {"a": "?"}}'
    store.store(FOLDER, {"ledger.json": newer})
    writer = Writer(store)
    assert writer.due == {}
    writer.put("b", 1.0)
    assert store.load(FOLDER)["ledger.version-2.json"] == newer
    assert reread(store) == {"b": 1.0}


@pytest.mark.parametrize(
    "log",
    [
        b"",
        b"\n",
        b'{"journal": "another"}\n{"due": {"a": 7.0}}',
        b"[]\n5",
        b'{"journal": 5}',
        b"\xff",
    ],
)
def test_a_journal_that_is_not_the_snapshots_counts_for_nothing(store: Store, log: bytes) -> None:
    Writer(store).put("a", 1.0)
    store.store(FOLDER, {"ledger.log": log})
    assert reread(store) == {"a": 1.0}
    Writer(store).put("b", 2.0)
    assert reread(store) == {"a": 1.0, "b": 2.0}


def test_sections_of_another_kind_harm_nothing(store: Store) -> None:
    writer = Writer(store)
    writer.put("a", 1.0)
    number = documents.read(store.load(FOLDER)["ledger.json"], 1)["journal"]
    log = f'{{"journal": "{number}"}}\n{{"due": 5}}\n{{"due": {{"b": 2.0}}}}\n[1]\nnull'
    store.store(FOLDER, {"ledger.log": log.encode()})
    assert reread(store) == {"b": 2.0}


class Full(Disk):
    """Fails at a step on disk."""

    def __init__(self, fails_at: int) -> None:
        self.left = fails_at
        super().__init__(self._step)

    def _step(self, _step: str, _path: Path) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(28, "No space left on device")


def test_a_full_disk_at_any_step_loses_nothing_of_what_is_in_memory(tmp_path: Path) -> None:
    for fails_at in range(1, 40):
        disk = Full(0)
        store = DirectoryStore(tmp_path / str(fails_at), disk)
        writer = Writer(store)
        writer.put("before", 0.0)
        disk.left = fails_at
        kept = {"before": 0.0}
        for number in range(4):
            try:
                writer.put(f"key {number}", float(number))
            except OSError:
                assert reread(store).items() <= writer.due.items()
            kept[f"key {number}"] = float(number)
        disk.left = 0
        writer.put("after", 9.0)
        assert reread(store) == {**kept, "after": 9.0}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.integers(1, 200))
def test_a_crash_at_any_moment_leaves_the_document_before_or_after(
    changes: list[int], crash_at: int
) -> None:
    """With a journal that is followed by another often."""
    left = crash_at

    def crash() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    store = MemoryStore(crash=crash)
    writer = Writer(store)
    writer.journal._room = 0
    for number, key in enumerate(changes):
        before = dict(writer.due)
        try:
            if number % 5 == 4:
                writer.journal._room = 0
            writer.put(f"key {key}", None if key % 4 == 3 else float(number))
        except Crash:
            store.crash = lambda: False
            assert reread(store) in (before, writer.due)
            writer = Writer(store)
    assert reread(store) == writer.due
