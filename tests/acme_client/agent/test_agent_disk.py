"""The certifier and a state directory that cannot be read for a while: somebody has changed its mode,
or the disk is gone. The built-in CA certifies, so that nothing else can go wrong."""

from __future__ import annotations

import errno
import logging
import threading
import time
from pathlib import Path

import pytest

from acme_client.certificates.repository import CertificateRepository
from acme_client.link import INTERNAL, Authority, CertificateSpec, Settings
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
    return Settings(tmp_path, (CertificateSpec((NAME,), Authority(INTERNAL)),))


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
        CertificateRepository(DirectoryStore(wanted.state)).keep_pair(NAME, pair)
        store.closed = False
        assert server.ask("look")["ok"]
        assert server.served[NAME].chain_pem == pair.chain_pem


def test_one_that_cannot_be_read_at_the_start_is_found_when_it_can(wanted: Settings) -> None:
    now = time.time()
    pair = chain(NAME, now=now)
    CertificateRepository(DirectoryStore(wanted.state)).keep_pair(NAME, pair)
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


def test_what_a_killed_writer_left_is_gone_after_the_next_start(wanted: Settings) -> None:
    with FakeServer() as server:
        with Certifier(wanted, server):
            server.until(lambda: server.state(NAME) == "fresh")
        left = wanted.state / "certificates" / NAME / ".meta.json.0a1b2c3d.new"
        left.write_bytes(b"{")
        time.sleep(0.3)  # a file that has just been made may be being written
        with Certifier(wanted, server):
            server.until(lambda: not left.exists())


class Hanging(DirectoryStore):
    """Each call waits until the test lets it go on."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.hangs = threading.Event()
        self.over = threading.Event()

    def load(self, folder: str) -> dict[str, bytes]:
        if self.hangs.is_set():
            assert self.over.wait(30)
        return super().load(folder)


def test_a_store_that_hangs_does_not_silence_the_main_thread(wanted: Settings) -> None:
    """Whose silence the supervisor takes for a hang of the certifier."""
    store = Hanging(wanted.state)
    with FakeServer() as server, Certifier(wanted, server, store=store):
        server.until(lambda: server.state(NAME) == "fresh")
        store.hangs.set()
        CertificateRepository(DirectoryStore(wanted.state)).keep_pair(
            NAME, chain(NAME, now=time.time())
        )
        looking = server.tell("look")
        assert server.ask("no such command")["error"] == "no such command is not known here"
        assert looking not in server.answers
        store.over.set()
        server.until(lambda: looking in server.answers)


# What workers cannot serve


def test_what_workers_cannot_serve_never_takes_the_place_of_a_good_one(wanted: Settings) -> None:
    """Neither in what is served, nor on the disk, nor in what is said of it."""
    with FakeServer() as server:
        with Certifier(wanted, server):
            server.until(lambda: server.state(NAME) == "fresh")
            good = server.served[NAME]
            server.refusal = "OpenSSL does not take it: EE_KEY_TOO_SMALL"
            answer = server.ask("renew", NAME)
            assert not answer["ok"]
            assert "EE_KEY_TOO_SMALL" in answer["error"]
            report = server.reports[NAME]
            assert (report["state"], report["served"]) == ("failed", True)
            assert report["serial"] == good.serial
            assert server.served[NAME] == good
        assert (
            wanted.state / "certificates" / NAME / "fullchain.pem"
        ).read_bytes() == good.chain_pem
        server.forget()
        with Certifier(wanted, server):
            server.until(lambda: NAME in server.served)
            assert server.served[NAME].serial == good.serial


def test_where_there_is_none_before_it_nothing_is_kept(wanted: Settings) -> None:
    with FakeServer() as server:
        server.refusal = "no"
        with Certifier(wanted, server):
            server.until(lambda: server.state(NAME) == "failed")
            report = server.reports[NAME]
            assert (report["served"], report["serial"]) == (False, None)
            assert "no" in report["last_error"]
            assert not (wanted.state / "certificates" / NAME / "privkey.pem").exists()
            server.refusal = None
            assert server.ask("renew", NAME)["ok"]
            assert NAME in server.served


def test_who_asks_is_told_when_not_all_workers_serve_it_yet(wanted: Settings) -> None:
    with FakeServer() as server, Certifier(wanted, server):
        server.until(lambda: server.state(NAME) == "fresh")
        server.accepts = False
        answer = server.ask("renew", NAME)
        assert not answer["ok"]
        assert "not all workers serve it yet" in answer["error"]
        assert not server.reports[NAME]["served"]


def test_a_file_that_workers_cannot_serve_is_told_once(
    wanted: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    CertificateRepository(DirectoryStore(wanted.state)).keep_pair(
        NAME, chain(NAME, now=time.time())
    )
    with FakeServer() as server:
        server.refusal = "no"
        with Certifier(wanted, server):
            server.until(lambda: server.is_loaded)
            assert not server.reports[NAME]["served"]
    assert (
        len(
            [
                one
                for one in caplog.messages
                if one == f"{NAME}: the certificate cannot be served: no"
            ]
        )
        == 1
    )
