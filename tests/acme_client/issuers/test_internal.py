"""A CA of our own: its root stays, its leaves are whole, and one root follows another unnoticed."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from acme_client.errors import IssuanceError
from acme_client.issuers.interface import Order
from acme_client.issuers.internal import (
    FOLDER,
    ROOT,
    ROOT_LIFETIME,
    ROOT_REPLACED_BEFORE_END,
    InternalCa,
    InternalIssuer,
    how_to_trust,
)
from acme_client.storage.atomic import Disk
from acme_client.storage.directory import DirectoryStore
from acme_client.x509.verify import CertificateAndKey, verify_pair

NOW = 1_795_521_600.0
DAY = 86400.0
WEEK = 7 * DAY
NAMES = ("localhost", "app.localhost", "127.0.0.1", "::1")


class Office:
    """The CA, with a clock that tests turn."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.folder = folder
        self.store = DirectoryStore(folder)
        self.reopen()

    def reopen(self) -> None:
        self.ca = InternalCa(self.store, WEEK, lambda: self.now)

    def root(self) -> bytes:
        return (self.folder / FOLDER / ROOT).read_bytes()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def trusts(root: bytes, pair: CertificateAndKey, now: float, tmp: Path) -> bool:
    """OpenSSL's own opinion, for a client that knows this root only."""
    leaf, _, rest = pair.chain_pem.partition(b"-----END CERTIFICATE-----\n")
    for name, data in (
        ("root", root), ("leaf", leaf + b"-----END CERTIFICATE-----\n"), ("rest", rest),
    ):  # fmt: skip
        (tmp / name).write_bytes(data)
    untrusted = ["-untrusted", str(tmp / "rest")] if rest else []
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-attime",
        str(int(now)),
    ]
    command += ["-CAfile", str(tmp / "root"), *untrusted, str(tmp / "leaf")]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048"])
def test_a_leaf_is_proven_and_trusted_by_its_root(
    office: Office, key_type: str, tmp_path: Path
) -> None:
    pair = office.ca.issue(NAMES, key_type)
    facts = verify_pair(pair, NAMES, NOW)
    assert facts.not_after == NOW + WEEK
    assert trusts(office.root(), pair, NOW, tmp_path)
    assert not trusts(office.root(), pair, NOW + WEEK + 1, tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "both.pem").write_bytes(pair.chain_pem + pair.key_pem)
    context.load_cert_chain(tmp_path / "both.pem")


def test_a_leaf_is_no_ca(office: Office) -> None:
    leaf = x509.load_pem_x509_certificate(office.ca.issue(NAMES, "ecdsa-p256").chain_pem)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_root_stays_and_every_leaf_has_a_key_of_its_own(office: Office) -> None:
    first = office.ca.issue(NAMES, "ecdsa-p256")
    root = office.root()
    office.reopen()
    office.now += WEEK / 2
    second = office.ca.issue(NAMES, "ecdsa-p256")
    assert office.root() == root
    assert first.key_pem != second.key_pem


def test_two_roots_can_be_told_apart(tmp_path: Path) -> None:
    names = set()
    for one in ("a", "b"):
        office = Office(tmp_path / one)
        office.ca.issue(NAMES, "ecdsa-p256")
        names.add(x509.load_pem_x509_certificate(office.root()).subject.rfc4514_string())
    assert len(names) == 2


def test_the_next_root_comes_a_year_early_and_clients_of_the_old_one_stay_content(
    office: Office, tmp_path: Path
) -> None:
    office.ca.issue(NAMES, "ecdsa-p256")
    old = office.root()
    office.now += ROOT_LIFETIME - ROOT_REPLACED_BEFORE_END - 1
    office.ca.issue(NAMES, "ecdsa-p256")
    assert office.root() == old
    office.now += 2
    pair = office.ca.issue(NAMES, "ecdsa-p256")
    new = office.root()
    assert new != old
    assert verify_pair(pair, NAMES, office.now)
    assert trusts(old, pair, office.now, tmp_path)
    assert trusts(new, pair, office.now, tmp_path)
    office.reopen()
    office.now += DAY  # also after a restart
    pair = office.ca.issue(NAMES, "ecdsa-p256")
    assert office.root() == new
    assert trusts(old, pair, office.now, tmp_path)
    office.now += ROOT_REPLACED_BEFORE_END
    assert trusts(new, office.ca.issue(NAMES, "ecdsa-p256"), office.now, tmp_path)


def test_a_root_made_while_the_clock_ran_ahead_gives_way(office: Office, tmp_path: Path) -> None:
    office.now += 20 * 365 * DAY
    office.ca.issue(NAMES, "ecdsa-p256")
    wrong = office.root()
    office.now = NOW
    pair = office.ca.issue(NAMES, "ecdsa-p256")
    assert office.root() != wrong
    assert trusts(office.root(), pair, NOW, tmp_path)


def test_after_the_clock_ran_ahead_for_a_while_the_old_root_is_back(office: Office) -> None:
    office.ca.issue(NAMES, "ecdsa-p256")
    root = office.root()
    office.now += 20 * 365 * DAY
    office.ca.issue(NAMES, "ecdsa-p256")
    office.now = NOW
    leaf, *_ = x509.load_pem_x509_certificates(office.ca.issue(NAMES, "ecdsa-p256").chain_pem)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(root))


@pytest.mark.parametrize("file", ["root.pem", "root.key"])
def test_a_torn_root_is_replaced(office: Office, file: str, tmp_path: Path) -> None:
    office.ca.issue(NAMES, "ecdsa-p256")
    (office.folder / FOLDER / file).write_bytes(b"torn")
    office.reopen()
    pair = office.ca.issue(NAMES, "ecdsa-p256")
    assert trusts(office.root(), pair, NOW, tmp_path)


def test_a_disk_that_takes_no_root_is_a_problem_with_its_name(tmp_path: Path) -> None:
    def full(_step: str, _path: Path) -> None:
        raise OSError(28, "No space left on device")

    ca = InternalCa(DirectoryStore(tmp_path, Disk(full)), WEEK, lambda: NOW)
    with pytest.raises(IssuanceError, match="No space left") as problem:
        InternalIssuer(ca).issue(Order(NAMES[0], NAMES, "ecdsa-p256", ()))
    assert problem.value.kind == "disk"


def test_the_log_says_how_to_trust_the_root(tmp_path: Path) -> None:
    said = how_to_trust(tmp_path)
    assert str(tmp_path / FOLDER / ROOT) in said
    assert "update-ca-certificates" in said
