"""Own certificates from files to memory: what is told of them, and what a refusal leaves behind."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from acme_client.x509 import keys
from proxy.config.model import Config, OwnCertificate, Site
from proxy.system import certificate_reading
from proxy.system.certificate_files import CertificateUnusable, LoadedCertificate, OwnCertificates
from support.acme.chains import DAY, chain


class Files:
    """A site's chain and key."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.certificate = OwnCertificate(folder / "c.pem", folder / "k.pem")
        self.config = Config((Site(names, (), (self.certificate,)),), folder)

    def put(self, chain_pem: bytes, key_pem: bytes) -> None:
        self.certificate.chain.write_bytes(chain_pem)
        self.certificate.key.write_bytes(key_pem)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path, "shop.test", "www.shop.test")
    pair = chain("shop.test", "www.shop.test", now=time.time())
    made.put(pair.chain_pem, pair.key_pem)
    return made


def read(own: OwnCertificates, config: Config) -> Sequence[LoadedCertificate]:
    """Read and keep, as a start and a reload do, in this process."""
    return own.take(certificate_reading.own_files(config, own.present))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_in_memory_is_what_was_examined(files: Files) -> None:
    """Not the files' bytes: these have no line end where they meet, and a comment."""
    pair = chain("shop.test", "www.shop.test", now=time.time())
    files.put("# Főtanúsítvány\r\n".encode() + pair.chain_pem.rstrip(), pair.key_pem.rstrip())
    (loaded,) = read(OwnCertificates(), files.config)
    try:
        assert loaded.bundle.content() == pair.chain_pem + pair.key_pem
        assert loaded.status["last_error"] is None
    finally:
        loaded.bundle.release()


@pytest.mark.parametrize(
    ("names", "ends", "state", "error"),
    [
        (("shop.test", "www.shop.test"), 30 * DAY, "fresh", None),
        (("shop.test",), 30 * DAY, "fresh", "does not cover: www.shop.test"),
        (("other.test",), 30 * DAY, "fresh", "does not cover: shop.test, www.shop.test"),
        (("shop.test", "www.shop.test"), -60, "failed", "has expired"),
    ],
)
def test_what_is_served_and_refused_by_clients_is_told(
    files: Files,
    names: tuple[str, ...],
    ends: float,
    state: str,
    error: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the log, and in the status of the site, under all of its names."""
    pair = chain(*names, now=time.time(), ends=ends)
    files.put(pair.chain_pem, pair.key_pem)
    (loaded,) = read(OwnCertificates(), files.config)
    loaded.bundle.release()
    assert set(loaded.facts.names) == set(names)
    assert {"shop.test", "www.shop.test", *names} == set(loaded.status["names"])
    assert loaded.status["state"] == state
    told = loaded.status["last_error"]
    assert (error is None and told is None) or (error is not None and error in str(told))
    assert [error in one for one in caplog.messages if error] == ([True] if error else [])


def test_ten_refusals_leave_no_descriptor_and_change_nothing(files: Files) -> None:
    own = OwnCertificates()
    (first,) = read(own, files.config)
    good = first.bundle.content()
    first.bundle.release()
    key = serialization.load_pem_private_key(files.certificate.key.read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    other = keys.to_pem(keys.generate("rsa-2048"))
    before = descriptors()
    for text, words in ((encrypted, "passphrase"), (other, "does not belong"), (b"", "is empty")):
        files.certificate.key.write_bytes(text)
        for _ in range(10):
            with pytest.raises(CertificateUnusable, match=words):
                read(own, files.config)
    assert descriptors() == before
    assert own.present[files.certificate].content() == good
    own.close_in_child()


def test_a_key_that_cannot_be_read_again_stays_in_use(files: Files) -> None:
    own = OwnCertificates()
    (first,) = read(own, files.config)
    files.certificate.key.unlink()
    (second,) = read(own, files.config)
    assert second.bundle.content() == first.bundle.content()
    for one in (first, second):
        one.bundle.release()
    own.close_in_child()
