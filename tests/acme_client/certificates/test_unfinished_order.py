"""The note about an order that is under way: read back whole, taken away whole, and never believed when
it is damaged."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.certificates import unfinished_order
from acme_client.certificates.repository import CertificateRepository
from acme_client.certificates.unfinished_order import UnfinishedOrder
from acme_client.drill.memory_store import MemoryStore
from acme_client.storage import documents
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.store import Unreadable
from acme_client.x509 import keys

NAME = "*.example.org"
ORDER = UnfinishedOrder(
    url="https://ca.example/order/1",
    directory="https://ca.example/directory",
    account="https://ca.example/account/1",
    names=("*.example.org", "example.org"),
    key_type=keys.DEFAULT,
    profile=None,
    replaces="aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE",
    placed_at=1.8e9,
    key_pem=keys.to_pem(keys.generate(keys.DEFAULT)),
    failures=2,
)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def test_what_is_noted_is_read_back_and_only_the_owner_can_read_it(
    store: DirectoryStore, tmp_path: Path
) -> None:
    repository = CertificateRepository(store)
    assert repository.unfinished_order(NAME) is None
    for order in (ORDER, replace(ORDER, profile="shortlived", replaces=None, failures=0)):
        repository.keep_order(NAME, order)
        assert repository.unfinished_order(NAME) == order
    (path,) = (one for one in (tmp_path / "orders").rglob("*") if one.is_file())
    assert path == tmp_path / "orders" / "_wildcard.example.org" / "order.json"
    assert path.stat().st_mode & 0o7777 == 0o600
    assert path.parent.stat().st_mode & 0o7777 == 0o700
    assert "PRIVATE KEY" not in repr(ORDER)


@pytest.mark.parametrize("discards", [True, False], ids=["with all else", "alone"])
def test_nothing_is_left_of_what_is_taken_away(
    discards: bool, store: DirectoryStore, tmp_path: Path
) -> None:
    repository = CertificateRepository(store)
    repository.keep_order(NAME, ORDER)
    (repository.discard if discards else repository.erase_order)(NAME)
    assert list((tmp_path / "orders").iterdir()) == []
    repository.erase_order(NAME)  # there is none: nothing happens


def test_a_damaged_note_is_put_aside_told_once_and_in_nobodys_way(
    store: DirectoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository = CertificateRepository(store)
    torn = unfinished_order.to_json(ORDER)[:200]
    store.store(unfinished_order.folder_of(NAME), {unfinished_order.FILE: torn})
    with pytest.raises(Unreadable):
        repository.unfinished_order(NAME)
    assert repository.unfinished_order(NAME) is None
    (said,) = caplog.messages
    folder = tmp_path / "orders" / "_wildcard.example.org"
    assert "orders/_wildcard.example.org/order.damaged.json" in said
    repository.keep_order(NAME, ORDER)
    repository.erase_order(NAME)
    assert [one.name for one in folder.iterdir()] == ["order.damaged.json"]
    assert (folder / "order.damaged.json").read_bytes() == torn


def test_the_note_of_a_newer_version_is_not_understood_and_kept_for_it(
    store: DirectoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder, newer = unfinished_order.folder_of(NAME), documents.write({"url": "?"}, 2)
    store.store(folder, {unfinished_order.FILE: newer})
    with pytest.raises(Unreadable):
        unfinished_order.load(store, NAME)
    unfinished_order.keep(store, NAME, ORDER)
    assert store.load(folder)["order.version-2.json"] == newer
    assert unfinished_order.load(store, NAME) == ORDER
    assert caplog.messages == []


_VALUES = st.one_of(
    st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.lists(st.text(max_size=3)),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=1),
)  # fmt: skip


@given(st.sampled_from(sorted(documents.fields(ORDER))), _VALUES)
def test_whatever_a_value_is_a_note_is_read_whole_or_not_at_all(key: str, value: object) -> None:
    said = json.loads(unfinished_order.to_json(ORDER))
    data = json.dumps({**said, key: value}).encode()
    found = unfinished_order.from_json(data)
    if found is not None:
        assert unfinished_order.from_json(unfinished_order.to_json(found)) == found


@given(st.binary(max_size=40))
def test_any_bytes_are_no_more_than_damage(data: bytes) -> None:
    store = MemoryStore()
    store.store(unfinished_order.folder_of(NAME), {unfinished_order.FILE: data})
    with pytest.raises(Unreadable):
        unfinished_order.load(store, NAME)
    assert unfinished_order.load(store, NAME) is None
