"""A certificate and its key for use elsewhere: PEM, or PKCS#12 for those who want one file with a
password. Reads the state directory only, and needs no server."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from acme_client.certificates.repository import CertificateRepository
from acme_client.errors import IssuanceError
from acme_client.storage.directory import open_store
from acme_client.x509.keys import from_pem
from acme_client.x509.verify import CertificateAndKey, read


class CannotExport(Exception):
    """Why not, and what to do."""


def exported(state: Path, name: str, form: str, password_file: Path | None) -> bytes:
    """Return the pair that is kept for ``name``, which is any name of the certificate. Raises
    `CannotExport`."""
    if not state.is_dir():
        raise CannotExport(f"{state} is not there; name the state directory with --state")
    try:
        pair, _facts = read(_kept(CertificateRepository(open_store(state)), name))
        if form == "pem":
            return pair.chain_pem + pair.key_pem
        return _pkcs12(pair, name, _password(password_file))
    except OSError as error:
        raise CannotExport(f"{error.filename or state}: {error.strerror}") from None
    except IssuanceError as problem:
        raise CannotExport(f"what is kept for {name} is damaged: {problem.text}") from None


def _kept(shelf: CertificateRepository, name: str) -> CertificateAndKey:
    known = shelf.names()
    for one in sorted(known, key=lambda kept: kept != name):
        record, pair = shelf.load(one)
        if pair is not None and name in (one, *record.names):
            return pair
    there = ", ".join(sorted(known)) or "none"
    raise CannotExport(f"no certificate for {name} is kept; there are: {there}")


def _password(file: Path | None) -> bytes:
    if file is None:
        raise CannotExport("PKCS#12 holds the private key; give a password with --password-file")
    password = file.read_bytes().rstrip(b"\r\n")
    if not password:
        raise CannotExport(f"{file} holds no password")
    return password


def _pkcs12(pair: CertificateAndKey, name: str, password: bytes) -> bytes:
    leaf, *issuers = x509.load_pem_x509_certificates(pair.chain_pem)
    return pkcs12.serialize_key_and_certificates(
        name.encode(),
        from_pem(pair.key_pem),
        leaf,
        issuers,
        serialization.BestAvailableEncryption(password),
    )


def write_secret(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by nobody else from the first byte on."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
            temporary.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise CannotExport(f"{path} cannot be written: {error.strerror}") from None
