"""Seals the documents in the engine: a copy of its data can neither be read nor forged.

A document is encrypted and authenticated (AES-256-GCM, NIST SP 800-38D) together with the key that
it lies under, so that one that was copied to another name does not open there. The machines of a
cluster share a secret; what seals is derived from it (HKDF, RFC 5869), one key for what every
machine needs and another one for accounts.

A file of secrets has one in each line, 32 bytes in hexadecimal digits. The first seals, and all
open: so a new secret is put before the old one on all machines, everything is sealed anew, and then
the old one goes. There is no secret by default.

No I/O but for the random numbers, which are the kernel's.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_HEAD = b"treehouse1"
_ID = 4  # bytes that tell which key has sealed
_NONCE = 12
_SECRET = 32

# Folders that a machine which only takes certificates need not be able to read.
_OF_ACCOUNTS = frozenset({"accounts", "internal-ca", "orders"})


class NotOpened(ValueError):
    """A document was not sealed for this key with one of the secrets."""


class SecretFault(ValueError):
    """A file of secrets cannot be used; the text says why."""


def new_secret() -> str:
    """Return the line of a new secret."""
    return secrets.token_hex(_SECRET)


def read_secrets(text: str) -> tuple[bytes, ...]:
    """Return the secrets of a file, the one that seals first. Raises `SecretFault`."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            secret = bytes.fromhex(stripped)
        except ValueError:
            raise SecretFault(f"line {number} is no hexadecimal number") from None
        if len(secret) != _SECRET:
            raise SecretFault(f"line {number} has {len(secret)} bytes, where {_SECRET} are needed")
        if len(set(secret)) < _SECRET // 4:
            raise SecretFault(f"line {number} is no random number")
        found.append(secret)
    if not found:
        raise SecretFault("there is no secret in it")
    return tuple(found)


class Seals:
    """Seals with the first secret, and opens with any of them."""

    def __init__(self, several: Sequence[bytes]) -> None:
        self._certificates = [_derived(one, b"certificates") for one in several]
        self._accounts = [_derived(one, b"accounts") for one in several]

    def seal(self, key: str, folder: str, data: bytes) -> bytes:
        """Seal a document of a folder that is to lie under a key."""
        mark, cipher = self._keys(folder)[0]
        nonce = secrets.token_bytes(_NONCE)
        return _HEAD + mark + nonce + cipher.encrypt(nonce, data, key.encode())

    def open(self, key: str, folder: str, sealed: bytes) -> bytes:
        """Return what was sealed. Raises `NotOpened`."""
        if not sealed.startswith(_HEAD):
            raise NotOpened("nobody of this cluster has sealed it, or it is cut off")
        begin = len(_HEAD)
        mark = sealed[begin : begin + _ID]
        nonce = sealed[begin + _ID : begin + _ID + _NONCE]
        known = [cipher for each, cipher in self._keys(folder) if each == mark]
        if not known:
            raise NotOpened("it was sealed with another secret")
        try:
            return known[0].decrypt(nonce, sealed[begin + _ID + _NONCE :], key.encode())
        except (InvalidTag, ValueError):
            raise NotOpened("it is damaged, forged, or was sealed for another key") from None

    def fingerprint(self) -> str:
        """Tell the secret that seals from others, without giving it away."""
        return self._certificates[0][0].hex()

    def is_first(self, folder: str, sealed: bytes) -> bool:
        """Whether the first secret has sealed a document of a folder."""
        mark, _cipher = self._keys(folder)[0]
        return sealed.startswith(_HEAD + mark)

    def _keys(self, folder: str) -> list[tuple[bytes, AESGCM]]:
        return self._accounts if folder.partition("/")[0] in _OF_ACCOUNTS else self._certificates


def _derived(secret: bytes, purpose: bytes) -> tuple[bytes, AESGCM]:
    info = b"treehouse-proxy cluster " + purpose
    key = HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(secret)
    return hashlib.sha256(b"id " + key).digest()[:_ID], AESGCM(key)
