"""Knows which certificates on this machine's disk are the same as those in the shared store.

Of these a digest is noted, so that the next process need not read them there (`cluster.bookmark`).
What is in doubt is left out, and costs a read: a certificate whose change in the shared store has
been heard of but not been looked at, one that was not taken, one that this machine has written or
somebody has put on its disk, and one of which the disk has something else than was noted.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from ..storage.store import Files, Store, Unreadable
from .folder_names import names_of
from .repository import folder_of, pair_of

T = TypeVar("T")

# So many certificates are read one by one at a start.
_ONE_BY_ONE = 20


class Copies:
    """``store`` is this machine's own; ``noted`` what an earlier process has noted (`noted`). Any
    thread may use it."""

    def __init__(self, store: Store, noted: Mapping[str, str] = MappingProxyType({})) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._same: dict[str, str] = dict(noted)
        # Names of which a change was heard that has not been looked at: by the number of the call.
        self._heard: dict[str, int] = {}
        self.edition = 0
        """Another number whenever something has changed."""

    def __contains__(self, name: str) -> bool:
        return name in self._same

    # From an earlier process

    def verify(self) -> set[str]:
        """Look whether the disk has what was noted; returns the names of those where it does not.
        Raises OSError."""
        doubtful = set()
        for name, noted in list(self._same.items()):
            if _digest(self._store.load(folder_of(name))) != noted:
                doubtful.add(name)
                self.doubt(name)
        return doubtful

    def doubt_all(self) -> None:
        """Believe nothing of what was noted."""
        with self._lock:
            self.edition += 1
            self._same.clear()

    # As things change

    def hear(self, changed: Callable[[], set[str]]) -> set[str]:
        """Return the names of certificates whose folders a watch names (``changed``)."""
        with self._lock:
            names = names_of(changed())
            self.edition += bool(names)
            for name in names:
                self._heard[name] = self.edition
                self._same.pop(name, None)
            return names

    def doubt(self, name: str) -> None:
        """This machine's disk has changed."""
        with self._lock:
            self.edition += 1
            self._same.pop(name, None)

    def heard(self, name: str) -> int | None:
        """Say what is known of a certificate's changes, before it is looked at in the shared
        store."""
        return self._heard.get(name)

    def compared(self, name: str, found: Files | Unreadable, heard: int | None, fits: bool) -> None:
        """Note a certificate that was ``found`` in the shared store, if this machine's disk has it
        now. ``heard``: what was known before it was looked at: if more has been heard since, it may
        be another one by now; ``fits``: there is nothing else about it that is in doubt."""
        pair = None if isinstance(found, Unreadable) else pair_of(found)
        here = self._store.load(folder_of(name))
        with self._lock:
            if self._heard.get(name) != heard:
                return
            self.edition += 1
            self._heard.pop(name, None)
            self._same.pop(name, None)
            if fits and pair is not None and pair_of(here) == pair:
                self._same[name] = _digest(here)

    # For the next process

    def noted(self, place: Callable[[], tuple[T, Iterable[str]]]) -> tuple[T, dict[str, str]]:
        """Return a place of the watch, which ``place`` returns with the folders that it has not
        named yet, and what was as the shared store had it there."""
        with self._lock:
            where, unnamed = place()
            left_out = names_of(unnamed) | self._heard.keys()
            return where, {
                name: digest for name, digest in self._same.items() if name not in left_out
            }


def is_much(doubtful: Collection[str], wanted: Collection[str]) -> bool:
    """Whether so many certificates have to be read that reading all takes fewer calls."""
    return len(doubtful) > max(_ONE_BY_ONE, len(wanted) // 4)


def _digest(files: Files) -> str:
    said = hashlib.sha256()
    for name in sorted(files):
        said.update(f"{name} {len(files[name])}\n".encode())
        said.update(files[name])
    return said.hexdigest()[:16]
