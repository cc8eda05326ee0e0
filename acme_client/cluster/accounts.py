"""Accounts with CAs, and the built-in CA's root: made once, by the machine that orders.

That machine offers what it has, and a machine that may order in its place takes it, so that a CA
sees one customer whoever orders, and clients trust one root. A machine that has another account, or
another root, keeps its own: somebody may rely on that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ..issuers.account_files import ACCOUNT, EARLIER_KEYS, KEY, NEXT_KEY, known
from ..storage.etcd.store import EtcdStore, Unreadable
from ..storage.store import Edit, Files, Lock, Store

log = logging.getLogger("treehouse.certifier")

ACCOUNTS, ROOT = "accounts", "internal-ca"
# Whoever dies in between has a key whose account the CA knows.
_IN_ORDER = (EARLIER_KEYS, KEY, ACCOUNT)


class Accounts:
    """Used by one thread."""

    def __init__(self, shared: EtcdStore, local: Store) -> None:
        self._shared = shared
        self._local = local
        self._offered: dict[str, object] = {}  # marks of folders
        self._refused: set[str] = set()

    def offer(self, by: Lock) -> None:
        """Offer what has changed here. Raises OSError, `Fenced` when another machine orders by
        now."""
        for folder in self._folders(self._local):
            mark = self._local.mark(folder)
            if self._offered.get(folder) == mark:
                continue
            files = self._local.load(folder)
            if folder != ROOT:
                files = {name: files[name] for name in _IN_ORDER if name in files}
            if files and (folder == ROOT or _account(files)) and self._there(folder) != files:
                self._shared.change([Edit(folder), Edit(folder, files)], by=by)
                log.info("%s: offered to the cluster", folder)
            self._offered[folder] = mark

    def take(self, *, orders: bool) -> None:
        """Take what this machine has none of, and, unless it ``orders``, what has become of an
        account that is the cluster's. Raises OSError."""
        self._offered.clear()
        for folder in self._folders(self._shared):
            files = self._there(folder)
            here = self._local.load(folder)
            if files is None or not files:
                continue
            if folder == ROOT:
                if not here:
                    self._local.store(folder, files)
                    log.info("%s: taken from the cluster", folder)
            elif (KEY not in here or not orders) and self._is_the_same(here, files):
                for name in _IN_ORDER:
                    if name in files and here.get(name) != files[name]:
                        self._local.store(folder, {name: files[name]})
                        log.info("%s: %s taken from the cluster", folder, name)

    def _is_the_same(self, here: Files, files: Files) -> bool:
        """Whether what is here is the cluster's account, or none. A key that is being changed stays
        until the CA has said which one counts."""
        if NEXT_KEY in here or not _account(files):
            return False
        return KEY not in here or _account(here) == _account(files)

    def _folders(self, store: Store) -> Iterator[str]:
        for name in store.list(ACCOUNTS):
            yield f"{ACCOUNTS}/{name}"
        yield ROOT

    def _there(self, folder: str) -> dict[str, bytes] | None:
        try:
            found = self._shared.load(folder)
        except Unreadable as fault:
            if folder not in self._refused:
                log.error("%s: not taken from the cluster: %s", folder, fault.strerror)
            self._refused.add(folder)
            return None
        self._refused.discard(folder)
        return found


def _account(files: Files) -> object:
    """The URL of an account; None where nothing says it."""
    return known(files).get("uri") if KEY in files else None
