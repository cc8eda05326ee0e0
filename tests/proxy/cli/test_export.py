"""Certificates written for use elsewhere."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from acme_client.certificates.record import Record
from acme_client.certificates.repository import CertificateRepository
from acme_client.issuers.internal import InternalCa
from acme_client.storage.directory import DirectoryStore
from acme_client.x509.verify import CertificateAndKey, verify_pair
from proxy.cli.export import CannotExport, write_secret
from proxy.cli.main import program


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    store = DirectoryStore(folder)
    pair = InternalCa(store, 86400.0, time.time).issue(("a.test", "b.test"), "ecdsa-p256")
    shelf = CertificateRepository(store)
    shelf.keep_pair("a.test", pair)
    shelf.keep_record("a.test", Record(names=("a.test", "b.test")))
    return folder


def run(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(program, ["certs", "export", *map(str, words)])
    return done.exit_code, done.output


def kept(state: Path) -> CertificateAndKey:
    _record, pair = CertificateRepository(DirectoryStore(state)).load("a.test")
    assert pair is not None
    return pair


@pytest.mark.parametrize("name", ["a.test", "b.test"])
def test_pem_for_its_owners_eyes(state: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.pem"
    code, said = run(name, "--state", state, "--out", out)
    assert (code, f"written to {out}" in said) == (0, True)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    content = out.read_bytes()
    key = content.index(b"-----BEGIN PRIVATE KEY")
    verify_pair(CertificateAndKey(content[:key], content[key:]), ("a.test", "b.test"), time.time())
    assert run(name, "--state", state)[1] == content.decode()


def test_pkcs12_with_its_password(state: Path, tmp_path: Path) -> None:
    secret, out = tmp_path / "secret", tmp_path / "out.p12"
    secret.write_text("correct horse\n")
    words = ("a.test", "--state", state, "--format", "pkcs12")
    assert run(*words, "--out", out, "--password-file", secret)[0] == 0
    loaded = pkcs12.load_pkcs12(out.read_bytes(), b"correct horse")
    leaf = x509.load_pem_x509_certificate(kept(state).chain_pem)
    assert loaded.cert is not None
    assert loaded.cert.certificate == leaf
    for wrong, said in ((None, "--password-file"), ("", "holds no password")):
        secret.write_text(wrong or "")
        option = () if wrong is None else ("--password-file", secret)
        code, text = run(*words, *option)
        assert (code, said in text) == (1, True)


def test_mistakes_are_told(state: Path, tmp_path: Path) -> None:
    assert "there are: a.test" in run("c.test", "--state", state)[1]
    assert "name the state directory" in run("a.test", "--state", tmp_path / "no")[1]
    assert "cannot be written" in run("a.test", "--state", state, "--out", tmp_path / "no/x")[1]


def test_a_file_that_is_there_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("before")
    path.chmod(0o644)
    write_secret(path, b"after")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"after", 0o600)
    assert os.listdir(tmp_path) == ["x"]
    with pytest.raises(CannotExport):
        write_secret(tmp_path, b"a directory")
    assert os.listdir(tmp_path) == ["x"]
