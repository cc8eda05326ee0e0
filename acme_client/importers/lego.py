"""lego's .lego, of its versions 4 and 5.

    certificates/<name>.{crt,issuer.crt,key,json}      "*" is "_", ":" is "-"
    accounts/<host>_<port>/<e-mail>/account.json       and keys/<e-mail>.key
    accounts/<host>_<port>/<id>/<key type>/account.json, <id>.key

Of the CA only the host is told: by the folder of an account and by a certificate's URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .directories import Directories
from .findings import Account, Certificate, Collector, Findings
from .parsing import account_key, contacts, https, json_object, mailbox, pair, with_issuers
from .safe_tree import Tree

_DEPTH = 3  # folders below that of a CA


def read(path: Path, directories: Directories) -> Findings:
    found = Collector()
    with Tree(path) as tree:
        for file in tree.names("certificates"):
            if file.endswith(".crt") and not file.endswith(".issuer.crt"):
                where = f"certificates/{file}"
                with found.of(where):
                    found.certificates.append(_certificate(tree, where, found, directories))
        for host in found.folders(tree, "accounts"):
            for folder in _account_folders(tree, f"accounts/{host}", found):
                with found.of(folder):
                    directory = directories.at(_authority(host))
                    found.accounts.append(_account(tree, folder, directory))
    return found.findings()


def _certificate(tree: Tree, where: str, found: Collector, directories: Directories) -> Certificate:
    base = where.removesuffix(".crt")
    resource: dict[str, Any] = {}
    with found.of(f"{base}.json"):
        resource = json_object(tree.read_if_there(f"{base}.json") or b"{}")
    chain = with_issuers(tree.read(where), tree.read_if_there(f"{base}.issuer.crt"))
    title = resource.get("domain") or resource.get("id") or base.rpartition("/")[2]
    url = https(resource.get("certUrl")) or https(resource.get("certStableUrl"))
    return Certificate(
        where, str(title), pair(chain, tree.read(f"{base}.key")), _directory(url, directories)
    )


def _directory(url: str | None, directories: Directories) -> str | None:
    try:
        return directories.of_url(url) if url else None
    except ValueError:
        return None


def _authority(folder: str) -> str:
    """Return host and port of a folder: ``localhost_14000`` is localhost:14000; a host's name has
    no underscore."""
    host, _, port = folder.partition("_")
    return f"{host}:{port}" if port else host


def _account_folders(
    tree: Tree, folder: str, found: Collector, depth: int = _DEPTH
) -> Iterator[str]:
    with found.of(folder):
        if "account.json" in tree.files(folder):
            yield folder
            return
        for name in found.folders(tree, folder) if depth else ():
            yield from _account_folders(tree, f"{folder}/{name}", found, depth - 1)


def _account(tree: Tree, where: str, directory: str) -> Account:
    document = json_object(tree.read(f"{where}/account.json"))
    key_files = [
        f"{folder}/{file}"
        for folder in (where, f"{where}/keys")
        for file in tree.files(folder)
        if file.endswith(".key")
    ]
    if len(key_files) != 1:
        raise ValueError(f"it has {len(key_files)} keys")
    registration = document.get("registration")
    registration = registration if isinstance(registration, dict) else {}
    body = registration.get("body")
    told = contacts(body.get("contact")) if isinstance(body, dict) else None
    return Account(
        where=where,
        directory=directory,
        uri=https(registration.get("uri")),
        contact=told or mailbox(document.get("email")),
        key_pem=account_key(tree.read(key_files[0])),
    )
