"""Tells which processes with a store on a local disk live, and which of them wrote a note."""

from __future__ import annotations

import os
import re
import secrets
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from .byte_lock import is_byte_locked, lock_byte

# The lease of a mark, in seconds: longer than an attempt takes, and so than a note is true.
_SESSION_LASTS = 3600.0
_MARK = re.compile(r"([0-9a-f]{15})-([0-9]{1,12})(-held)?", re.ASCII)


class Sessions:
    """Which processes live, told by one file in which each keeps a byte of its own locked.

    A byte's number is drawn, and far beyond the end of the file, which stays empty: the kernel does
    not mind. However a process ends, the kernel lets go of its byte. A mark is that number, the end
    of a lease, and whether the byte is locked: on a file system without such locks the lease is all
    that others can go by.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._number = 0
        self._held = False
        self._let_go: Callable[[], object] = lambda: None

    def mark(self) -> str:
        with self._lock:
            if not self._number:
                self._begin()
            until = self._now() + _SESSION_LASTS
            return f"{self._number:015x}-{until:.0f}{'-held' if self._held else ''}"

    def is_ours(self, mark: str) -> bool:
        with self._lock:
            return bool(self._number) and mark.startswith(f"{self._number:015x}-")

    def is_over(self, mark: str) -> bool:
        read = _MARK.fullmatch(mark)
        if read is None:
            return True  # nobody of whom we know anything
        number, until, held = int(read[1], 16), float(read[2]), read[3] is not None
        if self.is_ours(mark):
            return False
        if held:
            try:
                fd = self._opened()
            except FileNotFoundError:
                return True
            try:
                return not is_byte_locked(fd, number)
            finally:
                os.close(fd)
        # A lease that ends later than any could was written by a clock that ran ahead.
        return not self._now() < until <= self._now() + _SESSION_LASTS

    def close(self) -> None:
        with self._lock:
            self._let_go()
            self._number, self._held = 0, False

    def _begin(self) -> None:
        fd = self._opened(os.O_CREAT)
        number = secrets.randbelow(2**59 - 1) + 1
        self._let_go = weakref.finalize(self, os.close, fd)
        self._held = lock_byte(fd, number)
        self._number = number

    def _opened(self, flags: int = 0) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
