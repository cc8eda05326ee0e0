"""Makes files and folders durable, those of many threads at once.

fsync(2) of a file that has just been made waits for the disk about once, whatever the file's size,
and so does every folder's. A certificate is eleven of them, ten thousand certificates a hundred
thousand. So threads share: while the files of some are being made durable, those of the others
gather; and where many have gathered, one syncfs(2) makes the whole file system durable in about
the time of a few fsyncs.

Nobody's `settle` returns before what it was given is durable, and a failure of the disk reaches
everybody whose files may be hit by it. What is alone goes by fsync: syncfs waits for other
programs' writes as well. Where these are so many that syncfs takes longer than the fsyncs that it
stands for, fsync is used, and syncfs tried again now and then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable, Sequence

from ..gathering import Gathering
from ..late_dataclass import dataclass

# Fewer than this are never worth a syncfs: it took as long as five fsyncs on an idle SSD (ext4).
TOGETHER_FROM = 8
# Seconds, until they have been measured.
_FSYNC_TAKES, _SYNCFS_TAKES = 0.001, 0.005
# A new measurement counts for so much; an old one of syncfs is forgotten so fast, for each time
# that it was not used because of it.
_NEW = 0.25
_FORGOTTEN = 0.98
# Before Linux 5.8 syncfs told nothing of writes that had failed.
_TELLS_FAILURES = (5, 8)
_CANNOT = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP})


@dataclass(slots=True)
class Durable:
    """Something that is to be durable: the path of a file or folder, and the file's descriptor
    where it is open."""

    path: str
    fd: int | None = None


@dataclass(slots=True)
class _Waiting:
    """What a thread waits for, and why it is not durable."""

    several: Sequence[Durable]
    error: OSError | None = None


class SharedSync:
    """``before(step, path)`` is called before each fsync and syncfs. May be used by several
    threads. ``together_from`` 1: syncfs however long it takes (for tests)."""

    def __init__(
        self, before: Callable[[str, str], None], *, together_from: int = TOGETHER_FROM
    ) -> None:
        self._before = before
        self._together_from = together_from
        self._gathering = Gathering(self._settle)
        self._syncfs = _found_syncfs()
        self._file_systems: dict[int, int] = {}  # by st_dev, a descriptor that hears of failures
        self._fsync_takes, self._syncfs_takes = _FSYNC_TAKES, _SYNCFS_TAKES

    def settle(self, several: Sequence[Durable]) -> None:
        """Return when all of them are durable. Raises OSError when one may not be."""
        mine = _Waiting(several)
        self._gathering.do(mine)
        if mine.error is not None:
            raise mine.error

    def _settle(self, group: list[_Waiting]) -> None:
        count = sum(len(one.several) for one in group)
        if count >= self._together_from:
            always = self._together_from == 1
            if always or self._syncfs_takes <= count * self._fsync_takes:
                begun = time.monotonic()
                if self._settle_together(group):
                    took = time.monotonic() - begun
                    self._syncfs_takes += _NEW * (took - self._syncfs_takes)
                    return
            else:
                self._syncfs_takes *= _FORGOTTEN
        begun = time.monotonic()
        for one in group:
            try:
                for durable in one.several:
                    self._fsync(durable)
            except OSError as error:
                one.error = error
        took = (time.monotonic() - begun) / max(count, 1)
        self._fsync_takes += _NEW * (took - self._fsync_takes)

    def _settle_together(self, group: list[_Waiting]) -> bool:
        """Make everything durable that is on the file systems of this group; returns False where
        that cannot be done."""
        failed: OSError | None = None
        try:
            file_systems = self._heard_of(group)
            if self._syncfs is None or file_systems is None:
                return False
            for fd in file_systems:
                self._before("syncfs", group[0].several[0].path)
                self._syncfs(fd)
        except OSError as error:
            if error.errno in _CANNOT:
                self._syncfs = None
                return False
            # Not once more by fsync: the kernel takes what it could not write for written.
            failed = error
        for one in group:
            one.error = failed
        return True

    def _heard_of(self, group: list[_Waiting]) -> set[int] | None:
        """Return a descriptor for each file system of the group. None where it was opened just now,
        for it hears only of failures that come after it, and where it cannot be opened."""
        found, anew = set(), False
        for one in group:
            # A folder itself: what it lies in may be closed to this process (Landlock).
            path = one.several[0].path
            folder = path if os.path.isdir(path) else os.path.dirname(path)
            try:
                device = os.stat(folder).st_dev
                if device not in self._file_systems:
                    anew = True
                    self._file_systems[device] = os.open(
                        folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                    )
            except OSError:
                return None  # each fsync tells of its own
            found.add(self._file_systems[device])
        return None if anew else found

    def _fsync(self, durable: Durable) -> None:
        self._before("fsync", durable.path)
        if durable.fd is not None:
            os.fsync(durable.fd)
            return
        fd = os.open(durable.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        while self._file_systems:
            _device, fd = self._file_systems.popitem()
            os.close(fd)


def _found_syncfs() -> Callable[[int], None] | None:
    """Find syncfs(2), where it tells of failures; as a function that raises OSError."""
    release = os.uname().release.split(".")
    try:
        version = int(release[0]), int(release[1])
        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (ValueError, IndexError, AttributeError, OSError):
        return None
    if version < _TELLS_FAILURES:
        return None

    def syncfs(fd: int) -> None:
        if function(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return syncfs
