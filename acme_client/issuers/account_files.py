"""The files of accounts, one folder per CA: which folder, and what stands in them.

    key.pem        the account's key (PKCS#8)
    key-next.pem   between a key's making and the CA's word that it is the account's key now
    account.json   directory, the account's URL, and the contact that the CA was told
    earlier-keys.json   thumbprints (RFC 7638) of keys that it has had: records in the DNS for
                        dns-persist-01 may still name them

`issuers.accounts` uses them; `importers` puts accounts of other programs there.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ..certificates.folder_names import folder_name
from ..storage import documents, newer_documents
from ..storage.store import Files, Store

_FOLDER = "accounts"
ACCOUNT, KEY, NEXT_KEY = "account.json", "key.pem", "key-next.pem"
# Of an account that the CA has closed: worth nothing there, and nobody else has it.
CLOSED_KEY = "key-closed.pem"
EARLIER_KEYS = "earlier-keys.json"
VERSION = 1
# Whoever makes an account, or puts one there, does it alone. Longer than that takes: a key and two
# requests to the CA.
LEASE = 300.0


def folder(store: Store, directory: str) -> str:
    """Return the account's folder, which is named after the host. Where a host has several
    directories, the first that came has the plain name, and the others have a mark behind it."""
    host = urlsplit(directory).hostname or "unknown"
    plain = f"{_FOLDER}/{folder_name(host)}"
    if known(store.load(plain)).get("directory") in (None, directory):
        return plain
    mark = hashlib.sha256(directory.encode()).hexdigest()[:8]
    return f"{plain}_{mark}"


def known(files: Files) -> dict[str, Any]:
    """Return what account.json says; an empty document for a damaged or missing file."""
    return documents.read(files.get(ACCOUNT, b""), VERSION)


def has_key(store: Store, directory: str) -> bool:
    """Whether there is, or may be, an account with this CA."""
    return KEY in store.load(folder(store, directory))


def keep_document(
    store: Store, where: str, directory: str, uri: str, contact: list[str] | None
) -> None:
    """Write account.json. Without ``contact`` the CA is told the contact at the next order."""
    document: dict[str, Any] = {"directory": directory, "uri": uri}
    if contact is not None:
        document["contact"] = contact
    set_aside(store, where)
    store.store(where, {ACCOUNT: documents.write(document, VERSION)})


def thumbprint(store: Store, directory: str) -> str:
    """Return the thumbprint (RFC 7638) of the account's key with this CA; "" without a key that can
    be read. Raises OSError. `acme` would do it, and costs a certifier that orders nothing more
    memory than everything else."""
    data = store.load(folder(store, directory)).get(KEY)
    if data is None:
        return ""
    try:
        key = serialization.load_pem_private_key(data, None)
    except ValueError:
        return ""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        point, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
        x, y = (_b64(one.to_bytes(size, "big")) for one in (point.x, point.y))
        members = {"crv": f"P-{key.key_size}", "kty": "EC", "x": x, "y": y}
    elif isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        e, n = (one.to_bytes((one.bit_length() + 7) // 8, "big") for one in (public.e, public.n))
        members = {"e": _b64(e), "kty": "RSA", "n": _b64(n)}
    else:
        return ""
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return _b64(hashlib.sha256(canonical).digest())


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def earlier_keys(store: Store, where: str) -> list[str]:
    """Return the thumbprints of the account's earlier keys, the oldest first."""
    kept = documents.read(store.load(where).get(EARLIER_KEYS, b""), VERSION)
    listed = kept.get("thumbprints")
    return [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []


def remember_key(store: Store, where: str, thumbprint: str) -> None:
    """Remember the thumbprint of a key that is about to be replaced."""
    listed = {"thumbprints": [*earlier_keys(store, where), thumbprint]}
    set_aside(store, where, EARLIER_KEYS)
    store.store(where, {EARLIER_KEYS: documents.write(listed, VERSION)})


def set_aside(store: Store, where: str, file: str = ACCOUNT) -> None:
    """Keep under another name what a newer version of this program has written there."""
    newer_documents.set_aside(store, where, file, VERSION)
