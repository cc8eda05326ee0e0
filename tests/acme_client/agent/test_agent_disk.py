"""The certifier and a state directory that cannot be read for a while: somebody has changed its mode,
or the disk is gone. The built-in CA certifies, so that nothing else can go wrong."""

from __future__ import annotations

import errno
import logging
import time
from pathlib import Path

import pytest

from acme_client.certificates.repository import Shelf
from acme_client.link import INTERNAL, Authority, Settings, Wanted
from acme_client.storage.directory import DirectoryStore
from support.acme.certifier import Certifier, FakeServer
from support.acme.chains import chain

NAME = "a.test"


class Closed(DirectoryStore):
    """While it is ``closed``."""

    closed = False

    def list(self, folder: str) -> list[str]:
        self._refuse(folder)
        return super().list(folder)

    def load(self, folder: str) -> dict[str, bytes]:
        self._refuse(folder)
        return super().load(folder)

    def _refuse(self, folder: str) -> None:
        if self.closed:
            raise PermissionError(errno.EACCES, "Permission denied", folder)


@pytest.fixture
def wanted(tmp_path: Path) -> Settings:
    return Settings(tmp_path, (Wanted((NAME,), Authority(INTERNAL)),))


def test_what_is_served_is_served_and_what_comes_meanwhile_is_seen_afterwards(
    wanted: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    store = Closed(wanted.state)
    caplog.set_level(logging.INFO)
    with FakeServer() as server, Certifier(wanted, server, store=store):
        server.until(lambda: server.state(NAME) == "fresh")
        before = server.served[NAME]
        store.closed = True
        for _ in range(2):
            assert server.ask("look")["ok"]
        assert server.served[NAME] == before
        (said,) = [one for one in caplog.messages if "cannot be read" in one]
        assert "Permission denied" in said
        pair = chain(NAME, now=time.time())
        Shelf(DirectoryStore(wanted.state)).keep_pair(NAME, pair)
        store.closed = False
        assert server.ask("look")["ok"]
        assert server.served[NAME].chain_pem == pair.chain_pem


def test_one_that_cannot_be_read_at_the_start_is_found_when_it_can(wanted: Settings) -> None:
    now = time.time()
    pair = chain(NAME, now=now)
    Shelf(DirectoryStore(wanted.state)).keep_pair(NAME, pair)
    store = Closed(wanted.state)
    store.closed = True
    with FakeServer() as server, Certifier(wanted, server, store=store):
        server.until(lambda: server.state(NAME) == "failed")
        assert "cannot be kept" in server.reports[NAME]["last_error"]
        assert not server.published
        store.closed = False
        assert server.ask("look")["ok"]
        assert server.served[NAME].chain_pem == pair.chain_pem
        assert server.state(NAME) == "fresh"
