"""Accounts with CAs, and the built-in CA's root: made once by whichever machine is the first.

A CA sees one customer whoever orders, and clients trust one root. Each machine that may order has
both on its own disk, as a machine alone does; `SharedFiles` stands before that disk. Whoever makes
an account or a root takes a lock that all machines know, and looks first whether the cluster has
one; what is made, or changed (a new key), goes to the others at once.

What makes it hard is to know which of two is later, for no clock says so. An account's key is later
when the account has had more keys; of two accounts with one key the one is later that a machine has
just written; a root is later when it carries a cross-certificate by the other one. A machine that
has quite another account, or another root, keeps its own: somebody may rely on that.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import time
from collections.abc import Sequence

from cryptography import x509

from ..issuers import internal
from ..issuers.account_files import ACCOUNT, CLOSED_KEY, EARLIER_KEYS, KEY, NEXT_KEY, known
from ..storage import documents
from ..storage.passing import PassingStore
from ..storage.store import (
    Conflict,
    Edit,
    Files,
    Lock,
    Store,
    Unreachable,
    Unreadable,
)

log = logging.getLogger("treehouse.certifier")

ACCOUNTS, ROOT = "accounts", internal.FOLDER
# Whoever dies in between has a key whose account the CA knows.
_IN_ORDER = (EARLIER_KEYS, KEY, ACCOUNT)
_TRIES = 5
# Seconds that another machine is waited for, which makes an account: two requests to the CA.
_WAITED_FOR = 10.0
_LOOKED_EVERY = 0.3


class _Way(enum.Enum):
    """Which version of a folder, ours or the cluster's, takes the other's place."""

    NOTHING = enum.auto()
    TAKE = enum.auto()
    OFFER = enum.auto()
    APART = enum.auto()  # each keeps its own


class SharedFiles(PassingStore):
    """A store of one machine, whose accounts and root are the cluster's. ``local`` is its
    disk, ``shared`` what all machines have. Any thread may use it. What cannot be told to the
    others is told at the next `level`."""

    def __init__(self, local: Store, shared: Store) -> None:
        super().__init__(local)
        self._shared = shared
        self._said: dict[str, str] = {}  # what was logged last, by folder

    def level(self) -> None:
        """Have both sides have what is later. Raises OSError."""
        folders = {f"{ACCOUNTS}/{one}" for one in self._behind.list(ACCOUNTS)}
        folders |= {f"{ACCOUNTS}/{one}" for one in self._shared.list(ACCOUNTS)}
        for folder in (*sorted(folders), ROOT):
            self._level(folder)

    def _level(self, folder: str, *, just_written: bool = False) -> None:
        for _try in range(_TRIES):
            mark = self._shared.mark(folder)
            try:
                there = self._shared.load(folder)
            except Unreadable as fault:
                self._say(folder, f"not taken from the cluster: {fault.strerror}")
                return
            here = self._behind.load(folder)
            if folder == ROOT:
                way = _of_roots(here, there)
            else:
                way = _of_accounts(here, there, just_written=just_written)
            if way is _Way.TAKE:
                self._take(folder, here, there)
            elif way is _Way.APART:
                self._say(folder, "this machine has another one than the cluster, and keeps it")
            elif way is _Way.OFFER:
                try:
                    self._offer(folder, here, mark)
                except Conflict:
                    continue  # another machine was faster: see what it has written
            return

    def _take(self, folder: str, here: Files, there: Files) -> None:
        if folder == ROOT:
            self._behind.store(folder, there)
        else:
            for name in _IN_ORDER:
                if name in there and here.get(name) != there[name]:
                    self._behind.store(folder, {name: there[name]})
        log.info("%s: taken from the cluster", folder)

    def _offer(self, folder: str, here: Files, mark: object) -> None:
        files = here if folder == ROOT else {one: here[one] for one in _IN_ORDER if one in here}
        # In two steps of one transaction: what is there goes, whatever form it has.
        self._shared.change([Edit(folder, None, mark), Edit(folder, files)])
        log.info("%s: offered to the cluster", folder)

    def _say(self, folder: str, text: str) -> None:
        if self._said.get(folder) != text:
            log.warning("%s: %s", folder, text)
        self._said[folder] = text

    def _try_to_level(self, folder: str) -> None:
        if _is_shared(folder):
            try:
                self._level(folder, just_written=True)
            except (Unreachable, Conflict) as error:
                log.info("%s: not told to the others yet: %s", folder, error.strerror)

    # As a store

    def lock(self, folder: str, lease: float) -> Lock | None:
        """Take the lock here, and where the others see it; then what is here is what they have.
        Without the engine it is taken here alone."""
        ours = self._behind.lock(folder, lease)
        if ours is None or not _is_shared(folder):
            return ours
        both = _Both(ours)
        try:
            both.all_of_us = self._lock_of_all(folder, lease)
            if both.all_of_us is None:
                both.release()
                return None
            self._level(folder)
        except Unreachable as error:
            log.warning("%s: the others cannot be asked: %s", folder, error.strerror)
        except OSError:
            both.release()
            raise
        return both

    def _lock_of_all(self, folder: str, lease: float) -> Lock | None:
        until = time.monotonic() + _WAITED_FOR
        while True:
            lock = self._shared.lock(folder, lease)
            if lock is not None or time.monotonic() >= until:
                return lock
            time.sleep(_LOOKED_EVERY)  # it is made by another machine in a moment

    def store(self, folder: str, files: Files) -> None:
        self._behind.store(folder, files)
        self._try_to_level(folder)

    def change(self, edits: Sequence[Edit], by: Lock | None = None) -> None:
        self._behind.change(edits, by.ours if isinstance(by, _Both) else by)
        for folder in {edit.folder for edit in edits}:
            self._try_to_level(folder)

    def delete(self, folder: str, file: str | None = None) -> None:
        self._behind.delete(folder, file)
        if file == NEXT_KEY:  # a change of keys is over
            self._try_to_level(folder)


class _Both:
    """A lock here, and, where the engine could be asked, among all machines."""

    def __init__(self, ours: Lock) -> None:
        self.ours = ours
        self.all_of_us: Lock | None = None
        self.token = ours.token

    def holds(self) -> bool:
        return self.ours.holds() and (self.all_of_us is None or self.all_of_us.holds())

    def release(self) -> None:
        if self.all_of_us is not None:
            with contextlib.suppress(OSError):  # it ends with the session
                self.all_of_us.release()
        self.ours.release()


def _is_shared(folder: str) -> bool:
    return folder == ROOT or folder.startswith(f"{ACCOUNTS}/")


def _of_accounts(here: Files, there: Files, *, just_written: bool) -> _Way:
    if NEXT_KEY in here:
        return _Way.NOTHING  # until the CA has said which key counts
    if not _account(here):
        if not _account(there) or there[KEY] == here.get(CLOSED_KEY):
            return _Way.NOTHING
        return _Way.TAKE if here.get(KEY) in (None, there[KEY]) else _Way.APART
    if not _account(there) or there[KEY] == here.get(CLOSED_KEY):
        return _Way.OFFER
    if all(here.get(one) == there.get(one) for one in _IN_ORDER):
        return _Way.NOTHING
    if _account(here) != _account(there) and here[KEY] != there[KEY]:
        return _Way.APART
    had_here, had_there = _keys_had(here), _keys_had(there)
    is_later = just_written if had_here == had_there else had_here > had_there
    return _Way.OFFER if is_later else _Way.TAKE


def _account(files: Files) -> object:
    """The URL of an account; None where nothing says it."""
    return known(files).get("uri") if KEY in files else None


def _keys_had(files: Files) -> int:
    listed = documents.read(files.get(EARLIER_KEYS, b""), 1).get("thumbprints")
    return len(listed) if isinstance(listed, list) else 0


def _of_roots(here: Files, there: Files) -> _Way:
    if not there:
        return _Way.OFFER if here else _Way.NOTHING
    if not here:
        return _Way.TAKE
    if here == there:
        return _Way.NOTHING
    if _follows(here, there):
        return _Way.OFFER
    return _Way.TAKE if _follows(there, here) else _Way.APART


def _follows(later: Files, earlier: Files) -> bool:
    """Whether a root has taken another one's place."""
    try:
        cross = x509.load_pem_x509_certificate(later[internal.CROSS])
        root = x509.load_pem_x509_certificate(earlier[internal.ROOT])
    except (KeyError, ValueError):
        return False
    return cross.issuer == root.subject
