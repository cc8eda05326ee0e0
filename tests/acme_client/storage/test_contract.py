"""The contract of a store (`storage.store`), which every implementation is held to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acme_client.drill.memory_store import MemoryStore
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.etcd.api import EtcdApi
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from acme_client.storage.etcd.store import EtcdStore
from acme_client.storage.store import Conflict, Edit, Fenced, Store, is_anothers
from support.etcd import Etcd
from support.threads import run_together

FOLDER = "certificates/example.org"
OLD = {"fullchain.pem": b"old chain", "privkey.pem": b"old key"}
NEW = {"fullchain.pem": b"new chain", "privkey.pem": b"new key"}


def peer(store: Store) -> Store:
    """Another process with the same store."""
    if isinstance(store, DirectoryStore):
        return DirectoryStore(store.root)
    if isinstance(store, EtcdStore):
        PEERS.append(EtcdStore(EtcdApi(store.api.endpoints), store.prefix, SEALS))
        return PEERS[-1]
    assert isinstance(store, MemoryStore)
    return store.peer()


PEERS: list[EtcdStore] = []
SEALS = Seals(read_secrets(new_secret()))


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with Etcd() as running:
        yield running


@pytest.fixture(params=["directory", "memory", "etcd"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Every implementation there is."""
    if request.param == "directory":
        yield DirectoryStore(tmp_path)
        return
    if request.param == "memory":
        yield MemoryStore()
        return
    running: Etcd = request.getfixturevalue("etcd")
    prefix = f"/treehouse/{request.node.name}/"
    made = EtcdStore(EtcdApi(running.endpoints), prefix, SEALS)
    PEERS.append(made)
    yield made
    while PEERS:
        PEERS.pop().close()


def test_what_is_not_there_is_empty(store: Store) -> None:
    assert store.list("certificates") == []
    assert store.load(FOLDER) == {}
    assert store.previous(FOLDER) == {}
    store.delete(FOLDER)
    store.delete(FOLDER, "meta.json")


def test_what_is_stored_is_loaded(store: Store) -> None:
    store.store(FOLDER, OLD)
    assert store.load(FOLDER) == OLD
    assert store.list("certificates") == ["example.org"]


def test_files_not_named_stay(store: Store) -> None:
    store.store(FOLDER, OLD)
    store.store(FOLDER, {"meta.json": b"{}"})
    store.store(FOLDER, {"fullchain.pem": b"new chain"})
    assert store.load(FOLDER) == {**OLD, "fullchain.pem": b"new chain", "meta.json": b"{}"}


def test_the_files_before_are_kept_and_only_those(store: Store) -> None:
    for turn in range(5):
        store.store(FOLDER, {"a": b"%d" % turn, "b": b"%d" % turn})
        store.store(FOLDER, {"meta.json": b"%d" % turn})
    assert store.load(FOLDER) == {"a": b"4", "b": b"4", "meta.json": b"4"}
    assert store.previous(FOLDER) == {"a": b"3", "b": b"3"}


def test_one_file_or_all_of_a_folder_can_be_taken_away(store: Store) -> None:
    store.store(FOLDER, {"meta.json": b"{}"})
    store.store("certificates/other", {"meta.json": b"{}"})
    store.store(FOLDER, OLD)
    store.delete(FOLDER, "meta.json")
    assert store.load(FOLDER) == OLD
    store.delete(FOLDER)
    assert store.load(FOLDER) == {}
    assert store.list("certificates") == ["other"]


def test_one_of_several_that_were_stored_together_can_be_taken_away(store: Store) -> None:
    store.store(FOLDER, {"a": b"1", "b": b"1", "c": b"1"})
    store.delete(FOLDER, "b")
    assert store.load(FOLDER) == {"a": b"1", "c": b"1"}
    store.store(FOLDER, {"a": b"2"})
    assert store.load(FOLDER) == {"a": b"2", "c": b"1"}
    for name in ("a", "c"):
        store.delete(FOLDER, name)
    assert store.load(FOLDER) == {}


def test_the_lock_of_a_folder_is_one_persons_until_given_back(store: Store) -> None:
    mine = store.lock(FOLDER, 60)
    assert mine is not None
    assert mine.holds()
    assert store.lock(FOLDER, 60) is None
    assert peer(store).lock(FOLDER, 60) is None
    another = store.lock("certificates/other", 60)
    assert another is not None
    mine.release()
    assert not mine.holds()
    theirs = peer(store).lock(FOLDER, 60)
    assert theirs is not None
    mine.release()  # too late: theirs stays
    assert theirs.holds()
    assert store.lock(FOLDER, 60) is None
    assert another.holds()


def test_a_locks_token_only_grows(store: Store) -> None:
    tokens = []
    for _turn in range(3):
        other = peer(store)
        for one in (store, other):
            lock = one.lock(FOLDER, 60)
            assert lock is not None
            tokens.append(lock.token)
            if one is store:
                lock.release()
        other.close()
    assert tokens == sorted(set(tokens))


def test_a_lock_ends_with_the_session_of_its_holder(store: Store) -> None:
    other = peer(store)
    theirs = other.lock(FOLDER, 1800)
    assert theirs is not None
    assert store.lock(FOLDER, 1800) is None
    other.close()
    mine = store.lock(FOLDER, 1800)
    assert mine is not None
    assert not theirs.holds()
    theirs.release()  # too late: mine stays
    assert mine.holds()


def test_several_folders_change_in_one_step(store: Store) -> None:
    store.store("certificates/gone", OLD)
    lock = store.lock(FOLDER, 60)
    store.change(
        [
            Edit(FOLDER, NEW),
            Edit(FOLDER, {"meta.json": b"{}"}),
            Edit("ledgers/ca", {"ledger.json": b"{}"}),
            Edit("certificates/gone"),
        ],
        by=lock,
    )
    assert store.load(FOLDER) == {**NEW, "meta.json": b"{}"}
    assert store.load("ledgers/ca") == {"ledger.json": b"{}"}
    assert store.load("certificates/gone") == {}
    with pytest.raises(ValueError, match="FOLDERS"):
        store.change([Edit("ledgers/ca", {"ledger.json": b"2"}), Edit("notes/today", NEW)])
    assert store.load("ledgers/ca") == {"ledger.json": b"{}"}


def test_a_step_replaces_what_its_writer_has_seen_and_nothing_else(store: Store) -> None:
    nothing = store.mark(FOLDER)
    store.change([Edit(FOLDER, OLD, replaces=nothing)])
    seen = store.mark(FOLDER)
    peer(store).store(FOLDER, {"meta.json": b"{}"})
    for stale in (nothing, seen):
        with pytest.raises(Conflict):
            store.change([Edit("ledgers/ca", NEW), Edit(FOLDER, NEW, replaces=stale)])
    assert store.load(FOLDER) == {**OLD, "meta.json": b"{}"}
    assert store.load("ledgers/ca") == {}, "all edits of a step are refused together"
    store.change([Edit(FOLDER, NEW, replaces=store.mark(FOLDER))])
    assert store.load(FOLDER) == {**NEW, "meta.json": b"{}"}
    gone = store.mark(FOLDER)
    store.delete(FOLDER, "meta.json")
    with pytest.raises(Conflict):
        store.change([Edit(FOLDER, replaces=gone)])
    store.change([Edit(FOLDER, replaces=store.mark(FOLDER))])
    assert store.load(FOLDER) == {}


def test_of_many_who_replace_the_same_one_succeeds(store: Store) -> None:
    store.store(FOLDER, OLD)
    seen = store.mark(FOLDER)
    barrier = threading.Barrier(6)
    outcomes: list[object] = []

    def replace(number: int) -> None:
        data = b"%d" % number
        barrier.wait()
        try:
            store.change([Edit(FOLDER, {"fullchain.pem": data, "privkey.pem": data}, seen)])
        except Conflict:
            outcomes.append(None)
        else:
            outcomes.append(data)

    run_together(6, replace)
    (won,) = [one for one in outcomes if one is not None]
    assert store.load(FOLDER) == {"fullchain.pem": won, "privkey.pem": won}


def test_who_has_lost_the_lock_writes_nothing_under_it(store: Store) -> None:
    """Also where it still sees what it saw when it had the lock."""
    other = peer(store)
    theirs = other.lock(FOLDER, 1800)
    other.close()
    mine = store.lock(FOLDER, 1800)
    assert mine is not None
    store.change([Edit(FOLDER, NEW)], by=mine)
    with pytest.raises(Fenced):
        other.change([Edit("ledgers/ca", OLD), Edit(FOLDER, OLD, store.mark(FOLDER))], by=theirs)
    mine.release()
    with pytest.raises(Fenced):
        store.change([Edit(FOLDER, OLD)], by=mine)
    assert store.load(FOLDER) == NEW
    assert store.load("ledgers/ca") == {}


def test_a_lock_is_not_among_the_files(store: Store) -> None:
    store.lock(FOLDER, 60)
    assert store.load(FOLDER) == {}


def test_of_many_who_want_the_lock_one_gets_it(store: Store) -> None:
    barrier = threading.Barrier(8)
    got: list[object] = []

    def want() -> None:
        barrier.wait()
        got.append(store.lock(FOLDER, 60))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len([one for one in got if one is not None]) == 1


def test_changes_are_noticed_whoever_made_them(store: Store) -> None:
    store.store(FOLDER, OLD)
    woken = threading.Event()
    changed = store.watch("certificates", woken.set)

    def until(names: set[str]) -> set[str]:
        """What has changed, as soon as the store has heard of it all; a disk is looked at."""
        found = changed()
        while not names <= found and not isinstance(store, DirectoryStore):
            assert woken.wait(60)
            woken.clear()
            found |= changed()
        return found

    assert changed() == set()
    store.store(FOLDER, {"meta.json": b"{}"})
    store.store("certificates/other", OLD)
    assert until({"example.org", "other"}) == {"example.org", "other"}
    assert changed() == set()
    store.store(FOLDER, NEW)
    peer(store).delete("certificates/other")
    assert until({"example.org", "other"}) == {"example.org", "other"}


def test_changes_wake_who_watches(store: Store) -> None:
    if isinstance(store, DirectoryStore):
        return  # a disk is looked at
    woken = threading.Event()
    changed = store.watch("certificates", woken.set)
    peer(store).store("ledgers/ca", {"ledger.json": b"{}"})
    peer(store).store(FOLDER, OLD)
    assert woken.wait(60)
    assert changed() == {"example.org"}
    woken.clear()
    peer(store).delete(FOLDER)
    assert woken.wait(60)
    assert changed() == {"example.org"}


def test_a_mark_is_its_processes_until_the_session_ends(store: Store) -> None:
    other = peer(store)
    mark, theirs = store.session(), other.session()
    assert store.is_ours(mark)
    assert store.is_ours(store.session())
    assert not other.is_ours(mark)
    assert not store.is_ours(theirs)
    assert not other.is_over(mark)
    assert not store.is_over(theirs)
    assert not store.is_over(mark)
    assert is_anothers(other, mark)
    assert not is_anothers(store, mark)
    store.close()
    assert other.is_over(mark)
    assert store.is_over(mark)
    assert not is_anothers(other, mark)
    assert not store.is_over(theirs)
    assert not store.is_ours(mark)
    assert not other.is_over(store.session())


@pytest.mark.parametrize("mark", [None, "", "somebody", 7, "0123-x", "../../etc"])
def test_a_mark_that_no_session_has_made_holds_nothing(store: Store, mark: object) -> None:
    assert not is_anothers(store, mark)


def test_a_session_is_among_neither_the_files_nor_the_folders(store: Store) -> None:
    store.session()
    store.tidy()
    assert store.list("certificates") == []
    assert store.load("certificates") == {}


def test_a_reader_sees_all_of_one_version_whatever_is_written(store: Store) -> None:
    """Chain and key never part, however often they change meanwhile."""
    store.store(FOLDER, {"chain": b"0", "key": b"0"})
    over = threading.Event()
    parted: list[dict[str, bytes]] = []
    loads = 0

    def read() -> None:
        nonlocal loads
        while not over.is_set():
            files = store.load(FOLDER)
            loads += 1
            if len(files) != 2 or len(set(files.values())) != 1:
                parted.append(files)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        store.store(FOLDER, {"chain": b"%d" % turn, "key": b"%d" % turn})
    over.set()
    reader.join()
    assert loads > 1
    assert parted == []


def test_what_is_appended_stands_behind_what_was_there(store: Store) -> None:
    before = store.mark(FOLDER)
    store.append(FOLDER, "a.log", b"one")
    store.append(FOLDER, "a.log", b"two")
    assert store.load(FOLDER) == {"a.log": b"onetwo"}
    store.store(FOLDER, {"a.log": b"anew"})
    peer(store).append(FOLDER, "a.log", b"!")
    assert store.load(FOLDER) == {"a.log": b"anew!"}
    assert store.mark(FOLDER) != before


def test_a_mark_changes_with_what_is_in_the_folder_whoever_changed_it(store: Store) -> None:
    marks = [store.mark(FOLDER)]
    changes: tuple[Callable[[], object], ...] = (
        lambda: store.append(FOLDER, "a.log", b"x"),
        lambda: peer(store).append(FOLDER, "a.log", b"x"),
        lambda: store.store(FOLDER, {"meta.json": b"{}"}),
        lambda: peer(store).store(FOLDER, OLD),
        lambda: store.delete(FOLDER, "meta.json"),
    )
    for change in changes:
        change()
        assert store.mark(FOLDER) == store.mark(FOLDER)
        marks.append(store.mark(FOLDER))
    assert len(set(map(repr, marks))) == len(marks)
    store.store("certificates/another", OLD)
    assert store.mark(FOLDER) == marks[-1]
