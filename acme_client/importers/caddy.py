"""Caddy's data directory (certmagic's file storage).

    certificates/<issuer>/<name>/<name>.{crt,key,json}
    acme/<issuer>/users/<e-mail>/<user>.{json,key}

An issuer is the CA's address with hyphens for slashes and colons; the certificates' own .json has
it in full ("issuer_data": {"ca": …, "account": …}). "local" is a CA of Caddy's own.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .directories import Directories
from .findings import Account, Certificate, Collector, Findings
from .parsing import account_key, contacts, https, json_object, pair
from .safe_tree import Tree

_OWN_CA = "local"


def read(path: Path, directories: Directories) -> Findings:
    found = Collector()
    with Tree(path) as tree:
        used: Counter[str | None] = Counter()
        addresses: dict[str, str] = {}
        for issuer in found.folders(tree, "certificates"):
            for name in found.folders(tree, f"certificates/{issuer}"):
                where = f"certificates/{issuer}/{name}"
                with found.of(where):
                    if issuer == _OWN_CA:
                        raise ValueError("it is from a CA of Caddy's own, which stays there")
                    data = _issuer_data(tree, f"{where}/{name}.json", found)
                    directory = https(data.get("ca")) or _like(issuer, directories)
                    chain, key = (tree.read(f"{where}/{name}.{end}") for end in ("crt", "key"))
                    found.certificates.append(Certificate(where, name, pair(chain, key), directory))
                    used[https(data.get("account"))] += 1
                    if directory is not None:
                        addresses.setdefault(issuer, directory)
        for issuer in found.folders(tree, "acme"):
            for user in found.folders(tree, f"acme/{issuer}/users"):
                where = f"acme/{issuer}/users/{user}"
                with found.of(where):
                    directory = addresses.get(issuer) or directories.like(issuer, spell)
                    found.accounts.append(_account(tree, where, directory, used))
    return found.findings()


def spell(directory: str) -> str:
    """Spell a CA's URL as Caddy names its folder."""
    parts = urlsplit(directory)
    return (parts.netloc + parts.path.rstrip("/")).replace("/", "-").replace(":", "-").lower()


def _like(issuer: str, directories: Directories) -> str | None:
    try:
        return directories.like(issuer, spell)
    except ValueError:
        return None


def _issuer_data(tree: Tree, where: str, found: Collector) -> dict[str, Any]:
    """Read what the certificate's file says of its issuer. A broken file does not keep the
    certificate back: only the name of the CA is lost with it."""
    data: Any = None
    with found.of(where):
        data = json_object(tree.read_if_there(where) or b"{}").get("issuer_data")
    return data if isinstance(data, dict) else {}


def _account(tree: Tree, where: str, directory: str, used: Counter[str | None]) -> Account:
    names = [file.removesuffix(".key") for file in tree.files(where) if file.endswith(".key")]
    if len(names) != 1:
        raise ValueError(f"it has {len(names)} keys")
    document = json_object(tree.read_if_there(f"{where}/{names[0]}.json") or b"{}")
    if document.get("status") not in (None, "", "valid"):
        raise ValueError(f"the account is {document['status']}")
    uri = https(document.get("location"))
    return Account(
        where=where,
        directory=directory,
        uri=uri,
        contact=contacts(document.get("contact")),
        key_pem=account_key(tree.read(f"{where}/{names[0]}.key")),
        used=used[uri] if uri else 0,
    )
