"""Traefik's acme.json: everything in one file, in versions 2 and 3 by certificate resolver.

    {<resolver>: {"Account": {"Email", "Registration": {"uri", "body"}, "PrivateKey", "KeyType"},
                  "Certificates": [{"domain": {"main", "sans"}, "certificate", "key", "Store"}]}}

Version 1 had no resolvers and spelled the inner keys with capitals. Keys and certificates are PEM
in base64, the account's key is DER in base64. The CA itself is not told: the account's URL names
its host.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .directories import Directories
from .findings import Account, Certificate, Collector, Findings
from .parsing import account_key, base64_bytes, contacts, https, json_object, mailbox, pair
from .safe_tree import Tree, Unreadable

# Ten KiB a certificate; room for several thousand.
LARGEST = 64 * 1024 * 1024
_FILE = "acme.json"


def read(path: Path, directories: Directories) -> Findings:
    found = Collector()
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise Unreadable(str(path), "no such file or directory") from None
    folder, name = (resolved, _FILE) if resolved.is_dir() else (resolved.parent, resolved.name)
    with Tree(folder) as tree:
        data = tree.read(name, LARGEST)
    try:
        document = json_object(data) if data.strip() else {}
    except ValueError as error:
        raise Unreadable(str(folder / name), str(error)) from None
    resolvers = {name: document} if _get(document, "account") else document
    for resolver, stored in resolvers.items():
        if isinstance(stored, dict):
            _resolver(str(resolver), stored, directories, found)
    return found.findings()


def _resolver(
    resolver: str, stored: dict[str, Any], directories: Directories, found: Collector
) -> None:
    certificates = _get(stored, "certificates")
    certificates = certificates if isinstance(certificates, list) else []
    directory: str | None = None
    account = _get(stored, "account")
    if isinstance(account, dict):
        with found.of(f"the account of {resolver}"):
            uri = _uri(account)
            if uri is None:
                raise ValueError("the CA has not given it an address yet")
            directory = directories.of_url(uri)
            found.accounts.append(_account(resolver, account, uri, directory, len(certificates)))
    for number, one in enumerate(certificates, 1):
        where = f"{resolver}, certificate {number}"
        with found.of(where):
            if not isinstance(one, dict):
                raise ValueError("it is not a JSON object")
            domain = _get(one, "domain")
            main = _get(domain, "main") if isinstance(domain, dict) else None
            where = f"{resolver}, {main}" if isinstance(main, str) and main else where
            with found.of(where):
                chain, key = (base64_bytes(_get(one, file)) for file in ("certificate", "key"))
                found.certificates.append(
                    Certificate(where, str(main), pair(chain, key), directory)
                )


def _uri(account: dict[str, Any]) -> str | None:
    registration = _get(account, "registration")
    return https(_get(registration, "uri")) if isinstance(registration, dict) else None


def _account(
    resolver: str, account: dict[str, Any], uri: str, directory: str, used: int
) -> Account:
    body = _get(_get(account, "registration"), "body")
    told = contacts(_get(body, "contact")) if isinstance(body, dict) else None
    return Account(
        where=f"the account of {resolver}",
        directory=directory,
        uri=uri,
        contact=told or mailbox(_get(account, "email")),
        key_pem=account_key(base64_bytes(_get(account, "privatekey"))),
        used=used,
    )


def _get(document: dict[str, Any], key: str) -> Any:
    """Return a value as Go reads JSON: whatever the case of its key."""
    return next((value for name, value in document.items() if name.lower() == key), None)
