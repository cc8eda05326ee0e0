"""Which machine this is."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from acme_client.cluster import identity
from acme_client.cluster.members import Said
from acme_client.cluster.settings import ClusterSettings
from acme_client.drill.memory_store import MemoryStore
from acme_client.storage.directory import DirectoryStore


class Full(MemoryStore):
    def store(self, folder: str, files: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


class Shut(MemoryStore):
    def load(self, folder: str) -> dict[str, bytes]:
        raise PermissionError(errno.EACCES, "Permission denied")


def test_it_stays_the_same_and_a_copy_of_the_disk_on_another_host_is_another_one() -> None:
    store = MemoryStore()
    assert identity.look_up(store, "host") == ""
    first = identity.own(store, "host")
    assert len(first) == 16
    assert first == identity.own(store, "host") == identity.look_up(store, "host")
    assert first != identity.own(store, "other host")
    assert first != identity.own(MemoryStore(), "host")


def test_a_disk_that_takes_or_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert identity.own(Full(), "host") == ""
    assert "this machine's identity cannot be noted: No space left on device" in caplog.text
    assert identity.own(Shut(), "host") == ""
    assert identity.look_up(Shut(), "host") is None


def test_a_namesake_is_another_machine_that_runs(tmp_path: Path) -> None:
    settings = ClusterSettings("shop", "web-1", (), "", host="host")

    def found(said: Said | None, state: Path | None = tmp_path) -> str:
        return identity.namesake(settings, state, {} if said is None else {"web-1": said})

    other = Said("web-1", since="2027-01-15T08:00:00Z", machine="xyz")
    assert found(other) == "2027-01-15T08:00:00Z"  # here the program has never run
    own = identity.own(DirectoryStore(tmp_path), "host")
    assert found(other) == "2027-01-15T08:00:00Z"
    assert found(Said("web-1", machine=own)) == ""
    assert found(Said("web-1")) == ""  # an older program does not say
    assert found(None) == ""
    assert found(other, None) == ""
