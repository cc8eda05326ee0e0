"""Names as folders, and certificates in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.certificates.folder_names import folder_name, name_of
from acme_client.certificates.record import Record
from acme_client.certificates.repository import CertificateRepository
from acme_client.storage.directory import DirectoryStore
from acme_client.x509.verify import CertificateAndKey

ONE, TWO = CertificateAndKey(b"chain 1", b"key 1"), CertificateAndKey(b"chain 2", b"key 2")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("example.org", "example.org"),
        ("*.example.org", "_wildcard.example.org"),
        ("2001:db8::1", "2001_3adb8_3a_3a1"),
        ("192.0.2.7", "192.0.2.7"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_acme.example.org", "_5facme.example.org"),
        (".hidden", "_2ehidden"),
        ("..", "_2e."),
        ("a/b", "a_2fb"),
        ("example.org/rsa", "example.org_rsa"),
        ("*.example.org/ecdsa", "_wildcard.example.org_ecdsa"),
        ("2001:db8::1/rsa", "2001_3adb8_3a_3a1_rsa"),
        ("a/rsax", "a_2frsax"),
        ("\uccadx", "_ec_b2_adx"),
    ],
)
def test_a_name_is_a_folder_that_can_lead_nowhere_else(name: str, folder: str) -> None:
    assert folder_name(name) == folder
    assert name_of(folder) == name


@given(st.text(min_size=1) | st.from_regex(r"[a-z.*_/\u0080-\uffff]{0,9}/(rsa|ecdsa)"))
def test_every_name_has_a_folder_of_its_own(name: str) -> None:
    folder = folder_name(name)
    assert name_of(folder) == name
    assert "/" not in folder
    assert not folder.startswith(".")


@pytest.mark.parametrize("folder", ["Example.org", "a b", "_zz", "_5", "_ff", "_61", ".x"])
def test_a_folder_that_is_none_of_ours_is_no_name(folder: str) -> None:
    with pytest.raises(ValueError, match=r"folder|hex|codec"):
        name_of(folder)


def test_a_certificate_and_its_record_are_kept_side_by_side(tmp_path: Path) -> None:
    repository = CertificateRepository(DirectoryStore(tmp_path))
    assert repository.load("example.org") == (Record(), None)
    repository.keep_record("example.org", Record(serial="1"))
    assert repository.load("example.org") == (Record(serial="1"), None)
    repository.keep_pair("example.org", ONE)
    repository.keep_pair("example.org", TWO)
    assert repository.load("example.org") == (Record(serial="1"), TWO)
    assert repository.previous("example.org") == ONE


def test_half_a_pair_is_none(tmp_path: Path) -> None:
    repository = CertificateRepository(DirectoryStore(tmp_path))
    DirectoryStore(tmp_path).store("certificates/example.org", {"fullchain.pem": b"x"})
    assert repository.load("example.org") == (Record(), None)


def test_somebody_elses_folders_are_left_alone(tmp_path: Path) -> None:
    repository = CertificateRepository(DirectoryStore(tmp_path))
    changed = repository.watch()
    repository.keep_pair("*.example.org", ONE)
    DirectoryStore(tmp_path).store("certificates/README Files", {"x": b"", "y": b""})
    assert repository.names() == ["*.example.org"]
    assert changed() == {"*.example.org"}


def test_a_record_of_a_newer_version_is_kept_beside_ours(tmp_path: Path) -> None:
    """Once, whatever is written afterwards."""
    CertificateRepository(DirectoryStore(tmp_path)).keep_record("example.org", Record())
    file = tmp_path / "certificates" / "example.org" / "meta.json"
    newer = file.read_bytes().replace(b'"version": 1', b'"version": 2')
    file.write_bytes(newer)
    for _ in range(2):
        repository = CertificateRepository(DirectoryStore(tmp_path))
        for serial in ("1", "2"):
            repository.keep_record("example.org", Record(serial=serial))
    assert file.with_name("meta.version-2.json").read_bytes() == newer
    assert repository.load("example.org")[0] == Record(serial="2")
