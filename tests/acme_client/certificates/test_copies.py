"""Which copies need not be read again: none that could be another one by now."""

from __future__ import annotations

from acme_client.certificates.copies import Copies
from acme_client.certificates.repository import CHAIN, KEY, META, folder_of
from acme_client.drill.memory_store import MemoryStore
from acme_client.storage.store import Unreadable

NAME = "a.example"
FILES = {CHAIN: b"chain", KEY: b"key"}
OTHER = {CHAIN: b"another chain", KEY: b"another key"}


def disk() -> MemoryStore:
    store = MemoryStore()
    store.store(folder_of(NAME), FILES)
    store.store(folder_of(NAME), {META: b"{}"})
    return store


def noted(copies: Copies, *unnamed: str) -> set[str]:
    where, found = copies.noted(lambda: (7, unnamed))
    assert where == 7
    return set(found)


def compared(copies: Copies) -> Copies:
    copies.compared(NAME, FILES, copies.heard(NAME), fits=True)
    return copies


def test_what_the_disk_has_as_the_store_has_it_is_noted() -> None:
    copies = compared(Copies(disk()))
    assert NAME in copies
    assert noted(copies) == {NAME}
    assert noted(copies, "b.example") == {NAME}
    assert noted(copies, NAME) == set()  # it has changed, and nobody knows yet
    copies.doubt(NAME)
    assert noted(copies) == set()


def test_what_is_something_else_is_not() -> None:
    for found in (OTHER, {}, {CHAIN: b"chain"}, Unreadable(1, "forged")):
        copies = compared(Copies(disk()))
        copies.compared(NAME, found, copies.heard(NAME), fits=True)
        assert noted(copies) == set()
    copies = compared(Copies(disk()))
    copies.compared(NAME, FILES, copies.heard(NAME), fits=False)
    assert noted(copies) == set()


def test_what_changes_while_it_is_looked_at_is_left_in_doubt() -> None:
    copies = compared(Copies(disk()))
    copies.hear(lambda: {NAME, "no%name"})
    assert noted(copies) == set()
    heard = copies.heard(NAME)
    copies.hear(lambda: {NAME})  # again, after it was read and before it is compared
    copies.compared(NAME, FILES, heard, fits=True)
    copies.compared(NAME, FILES, None, fits=True)  # and all that was read before it was heard of
    assert noted(copies) == set()
    assert noted(compared(copies)) == {NAME}


def test_what_an_earlier_process_noted_holds_for_as_long_as_the_files_are_these() -> None:
    store = disk()
    _where, found = compared(Copies(store)).noted(lambda: (7, ()))
    assert Copies(store, found).verify() == set()
    for change in ({META: b"{ }"}, OTHER):
        store.store(folder_of(NAME), change)
        copies = Copies(store, found)
        assert copies.verify() == {NAME}
        assert NAME not in copies
    store.delete(folder_of(NAME))
    assert Copies(store, found).verify() == {NAME}
    copies = Copies(disk(), found)
    copies.doubt_all()
    assert NAME not in copies


def test_its_edition_tells_whether_there_is_something_new_to_note() -> None:
    copies = Copies(disk())
    before = copies.edition
    copies.hear(set)
    assert copies.edition == before
    compared(copies)
    assert copies.edition != before
