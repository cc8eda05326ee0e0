"""acme.sh's ~/.acme.sh.

    <name>/, <name>_ecc/        <name>.{cer,key,conf}, ca.cer, fullchain.cer
    ca/<host>/<path …>/         account.key, account.json, ca.conf; formerly in ca/<host>/ itself

The .conf files are assignments of a shell (here nobody runs them): Le_API is the CA of a
certificate, ACCOUNT_URL the account's address. In the folders of CAs the port is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from .directories import Directories
from .findings import Account, Certificate, Collector, Findings
from .parsing import (
    account_key,
    assignments,
    contacts,
    https,
    json_object,
    mailbox,
    pair,
    with_issuers,
)
from .safe_tree import Tree

_KEY = "account.key"
_ECC = "_ecc"
_GONE = "deactivated"  # accounts that were given up are kept below it
_DEPTH = 6


def read(path: Path, directories: Directories) -> Findings:
    found = Collector()
    with Tree(path) as tree:
        used: Counter[str] = Counter()
        for folder in found.folders(tree):
            name = folder.removesuffix(_ECC)
            if f"{name}.conf" not in tree.files(folder):
                continue
            with found.of(folder):
                certificate = _certificate(tree, folder, name)
                found.certificates.append(certificate)
                used[certificate.directory or ""] += 1
        here = Directories((*(one for one in used if one), *directories.known))
        for folder in _account_folders(tree, "ca", found):
            with found.of(folder):
                found.accounts.append(_account(tree, folder, here, used))
    return found.findings()


def _certificate(tree: Tree, folder: str, name: str) -> Certificate:
    chain = tree.read_if_there(f"{folder}/fullchain.cer")
    if chain is None:
        leaf = tree.read_if_there(f"{folder}/{name}.cer")
        if leaf is None:
            raise ValueError("there is no certificate yet")
        chain = with_issuers(leaf, tree.read_if_there(f"{folder}/ca.cer"))
    settings = assignments(tree.read(f"{folder}/{name}.conf"))
    key = tree.read(f"{folder}/{name}.key")
    return Certificate(folder, name, pair(chain, key), https(settings.get("Le_API")))


def _account_folders(
    tree: Tree, folder: str, found: Collector, depth: int = _DEPTH
) -> Iterator[str]:
    with found.of(folder):
        if _KEY in tree.files(folder):
            yield folder
        for name in found.folders(tree, folder) if depth else ():
            if name != _GONE:
                yield from _account_folders(tree, f"{folder}/{name}", found, depth - 1)


def _account(tree: Tree, where: str, directories: Directories, used: Counter[str]) -> Account:
    settings = assignments(tree.read_if_there(f"{where}/ca.conf") or b"")
    document = json_object(tree.read_if_there(f"{where}/account.json") or b"{}")
    directory = _directory(where.removeprefix("ca/"), directories)
    return Account(
        where=where,
        directory=directory,
        uri=https(settings.get("ACCOUNT_URL")),
        contact=contacts(document.get("contact")) or mailbox(settings.get("CA_EMAIL")),
        key_pem=account_key(tree.read(f"{where}/{_KEY}")),
        used=used[directory],
    )


def _directory(spelled: str, directories: Directories) -> str:
    if "/" not in spelled:
        return directories.at(spelled)
    try:
        return directories.like(spelled, _spell)
    except ValueError:
        directory = https(f"https://{spelled}")
        if directory is None:
            raise
        return directory


def _spell(directory: str) -> str:
    parts = urlsplit(directory)
    return f"{parts.hostname}{parts.path}"
