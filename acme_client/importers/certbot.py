"""certbot's /etc/letsencrypt.

    live/<lineage>/{fullchain,privkey}.pem       links to ../../archive/<lineage>/<file>N.pem
    renewal/<lineage>.conf                       names the CA ("server") and the account
    accounts/<host>/<path …>/<id>/               the CA's address is the path
        private_key.json    JWK, RSA or EC
        regr.json           {"body": …, "uri": the account's URL}

Links are followed here and nowhere else: from live to archive, and between folders of accounts
(certbot made such links when CAs changed their address). None that leads out of the tree.
"""

from __future__ import annotations

import configparser
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .directories import Directories
from .findings import Account, Certificate, Collector, Findings
from .parsing import account_key_of_jwk, contacts, https, json_object, pair
from .safe_tree import Tree, Unreadable

_KEY = "private_key.json"
_DEPTH = 8  # folders below accounts; the longest known directory has four


def read(path: Path, directories: Directories) -> Findings:
    found = Collector()
    with Tree(path) as tree:
        used: Counter[tuple[str | None, str]] = Counter()
        for lineage in found.folders(tree, "live"):
            with found.of(f"live/{lineage}"):
                chain, key = (
                    _live(tree, f"live/{lineage}/{file}")
                    for file in ("fullchain.pem", "privkey.pem")
                )
                server, account = _renewal(tree, lineage, found)
                used[server, account] += 1
                found.certificates.append(
                    Certificate(f"live/{lineage}", lineage, pair(chain, key), server)
                )
        for where, real in _account_folders(tree, "accounts", "accounts", found):
            with found.of(where):
                found.accounts.append(_account(tree, where, real, used))
    return found.findings()


def _live(tree: Tree, path: str) -> bytes:
    target = tree.target(path)
    if target is None:
        return tree.read(path)
    if not target.startswith("archive/"):
        raise Unreadable(path, f"it leads to {target}, not into archive")
    return tree.read(target)


def _renewal(tree: Tree, lineage: str, found: Collector) -> tuple[str | None, str]:
    """Return the CA's directory and the account's id, as far as the lineage's settings tell
    them."""
    where = f"renewal/{lineage}.conf"
    parser = configparser.RawConfigParser(strict=False)
    with found.of(where):
        try:
            text = (tree.read_if_there(where) or b"").decode("utf-8", "replace")
            parser.read_string(f"[top]\n{text}", where)
        except configparser.Error as error:
            raise ValueError(f"it cannot be understood: {error.message.splitlines()[0]}") from None
    server = parser.get("renewalparams", "server", fallback=None)
    return https(server), parser.get("renewalparams", "account", fallback="")


def _account_folders(
    tree: Tree, where: str, real: str, found: Collector, depth: int = _DEPTH
) -> Iterator[tuple[str, str]]:
    """Yield where each account appears, and the folder that it is in."""
    below: list[tuple[str, str]] = []
    with found.of(where):
        if _KEY in tree.files(real):
            yield where, real
            return
        below = [(f"{where}/{name}", f"{real}/{name}") for name in tree.folders(real)]
        for name in tree.links(real):
            with found.of(f"{where}/{name}"):
                target = tree.target(f"{real}/{name}")
                if target is None or not target.startswith("accounts/"):
                    raise ValueError(f"it leads to {target}, not into accounts")
                below.append((f"{where}/{name}", target))
    for one in below if depth else ():
        yield from _account_folders(tree, *one, found, depth - 1)


def _account(tree: Tree, where: str, real: str, used: Counter[tuple[str | None, str]]) -> Account:
    _accounts, *address, name = where.split("/")
    directory = https("https://" + "/".join(address))
    if directory is None:
        raise ValueError("its folders do not spell a CA's address")
    registration = json_object(tree.read_if_there(f"{real}/regr.json") or b"{}")
    body = registration.get("body")
    return Account(
        where=where,
        directory=directory,
        uri=https(registration.get("uri")),
        contact=contacts(body.get("contact")) if isinstance(body, dict) else None,
        key_pem=account_key_of_jwk(json_object(tree.read(f"{real}/{_KEY}"))),
        used=used[directory, name],
    )
