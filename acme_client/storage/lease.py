"""The lock of a folder on a local disk: a file that names its holder.

A holder that lives keeps a byte of the file locked by the kernel, which lets go of it however the
holder ends: so a lock is held for as long as its holder lives, and whoever comes after one that was
killed need not wait. On a file system without such locks nobody can tell; there a lock is a lease
that ends by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from ..late_dataclass import dataclass
from . import documents
from .byte_lock import is_byte_locked, lock_byte


class LeaseFile:
    """A lock as a file, read and written only while it is locked by the kernel, which is for
    microseconds. The file stays when the lock is given back, with the last token."""

    token = 0

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._holder = secrets.token_hex(8)
        self._let_go: Callable[[], object] = lambda: None

    def take(self, lease: float) -> bool:
        with self._opened() as fd:
            found, now = _lease(fd), self._now()
            if found.holder is not None and found.lasts(fd, now):
                return False
            self.token = found.token + 1
            self._write(fd, now + lease, self._hold_on())
            return True

    def holds(self) -> bool:
        with self._opened() as fd:
            found = _lease(fd)
            return found.holder == self._holder and (found.held or self._now() < found.until)

    def release(self) -> None:
        with self._opened() as fd:
            if _lease(fd).holder == self._holder:
                _put(fd, {"version": _LEASE_VERSION, "token": self.token})
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

    def _write(self, fd: int, until: float, held: bool) -> None:
        content = {
            "version": _LEASE_VERSION,
            "holder": self._holder,
            "until": until,
            "held": held,
            "token": self.token,
        }
        _put(fd, content)


_LONGEST_LEASE = 3600.0
# The number of the byte, far behind the text.
_HELD_BYTE = 1 << 20
_LEASE_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Lease:
    holder: str | None = None
    until: float = 0.0
    held: bool = False  # whether the holder has the byte locked while it lives
    token: int = 0

    def lasts(self, fd: int, now: float) -> bool:
        """Whether its holder lives, as far as anybody can tell."""
        if self.held:
            return is_byte_locked(fd, _HELD_BYTE)
        # A lease that ends later than any could was written by a clock that ran ahead.
        return now < self.until <= now + _LONGEST_LEASE


def _lease(fd: int) -> _Lease:
    """Read the lease. A lease by a newer version of the program, which runs beside us during an
    upgrade, counts as held for the longest time that a lease can last."""
    data = os.pread(fd, 4096, 0)
    if documents.newer(data, _LEASE_VERSION):
        return _Lease("", os.fstat(fd).st_mtime + _LONGEST_LEASE)
    try:
        content = json.loads(data)
        token = content.get("token")
        known = token if isinstance(token, int) and 0 < token < 2**63 else 0
        if "holder" not in content:
            return _Lease(token=known)
        return _Lease(
            str(content["holder"]), float(content["until"]), content.get("held") is True, known
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return _Lease()


def _put(fd: int, content: dict[str, object]) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(content).encode(), 0)
