"""The lock of a folder on a local disk: a lease in a file.

A holder may die or hang, so that a lock ends by itself after a while. Its holder may renew it; a
holder that is known to have died holds nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import documents
from .byte_lock import is_byte_locked, lock_byte


class LeaseFile:
    """A lock as a file that names its holder and the end of the lease; read and written only
    while it is locked by the kernel, which is for microseconds.

    A holder that lives also keeps a byte of the file locked by the kernel, which lets go of it
    however the holder ends: whoever comes after one that was killed need not wait for the end of
    its lease. A file system without such locks leaves it at the lease.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._holder = secrets.token_hex(8)
        self._let_go: Callable[[], object] = lambda: None

    def take(self, lease: float) -> bool:
        with self._opened() as fd:
            found, now = _lease(fd), self._now()
            # A lease that ends later than any could was written by a clock that ran ahead.
            lasts = now < found.until <= now + _LONGEST_LEASE
            if found.holder not in (None, self._holder) and lasts and not found.abandoned(fd):
                return False
            held = self._hold_on()
            self._write(fd, lease, held)
            return True

    def renew(self, lease: float) -> bool:
        with self._opened() as fd:
            found = _lease(fd)
            if found.holder != self._holder:
                return False
            self._write(fd, lease, found.held)
            return True

    def release(self) -> None:
        with self._opened() as fd:
            if _lease(fd).holder == self._holder:
                os.ftruncate(fd, 0)
        self._let_go()

    def _hold_on(self) -> bool:
        """Keep the byte locked, on a descriptor of its own; returns whether that can be done."""
        self._let_go()
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._let_go = weakref.finalize(self, os.close, fd)
        return lock_byte(fd, _HELD_BYTE)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def _write(self, fd: int, lease: float, held: bool) -> None:
        content = {
            "version": _LEASE_VERSION,
            "holder": self._holder,
            "until": self._now() + lease,
            "held": held,
        }
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(content).encode(), 0)


_LONGEST_LEASE = 3600.0
# The number of the byte, far behind the text.
_HELD_BYTE = 1 << 20
_LEASE_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Lease:
    holder: str | None = None
    until: float = 0.0
    held: bool = False  # whether the holder has the byte locked while it lives

    def abandoned(self, fd: int) -> bool:
        """Whether its holder has died."""
        return self.held and not is_byte_locked(fd, _HELD_BYTE)


def _lease(fd: int) -> _Lease:
    """Read the lease. A lease by a newer version of the program, which runs beside us during an
    upgrade, counts as held for the longest time that a lease can last."""
    data = os.pread(fd, 4096, 0)
    if documents.newer(data, _LEASE_VERSION):
        return _Lease("", os.fstat(fd).st_mtime + _LONGEST_LEASE)
    try:
        content = json.loads(data)
        return _Lease(str(content["holder"]), float(content["until"]), content.get("held") is True)
    except (ValueError, KeyError, TypeError):
        return _Lease()
