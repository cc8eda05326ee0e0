"""One server for each state directory: a lock, and who holds it.

Two servers on one directory would take each other's control socket away, order the same
certificates twice and count a CA's limits apart. The lock is flock(2) on ``server.lock``: the
kernel lets go of it when the last process that has it open ends, however it ends, so that a crash
leaves nothing to clean up. The file holds the pid of the server, for people.

An upgrade hands the open file on to the successor: both hold the lock while one takes over from the
other, and there is no moment in which a third could take it. No worker has it.

It is opened as the server's user, never as root: the directory is that user's, who may have put a
link to somebody else's file there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from pathlib import Path

from .state_directory import StateUnusable

log = logging.getLogger("treehouse.boot")

FILE = "server.lock"
# What file systems without locks answer: some that are shared with other machines.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
# A server that has been told to stop lets go within moments; whoever restarts it by hand is faster.
_PATIENCE = 2.0
_LOOK_EVERY = 0.05


class StateLock:
    """``fd`` is this object's; for a successor it is that of its predecessor."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    @classmethod
    def taken(cls, state: Path, patience: float = _PATIENCE) -> StateLock:
        """Raises `StateUnusable` when another server has it, or when the file cannot be had."""
        path = state / FILE
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise StateUnusable(
                f"{path}: {error.strerror} (remove it, or choose another directory: --state DIR)"
            ) from None
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return cls(fd)
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(_LOOK_EVERY)  # a lock that is let go tells nobody
                    continue
                holder = _holder(fd)
                os.close(fd)
                raise StateUnusable(
                    f"{state}: a server uses it already{holder} (stop that one: treehouse-proxy "
                    f"stop --state {state}; or give this one another: --state DIR)"
                ) from None
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    log.warning(
                        "%s: this file system has no locks (%s); a second server on this "
                        "directory would not be noticed", path, error.strerror,
                    )  # fmt: skip
                    return cls(fd)
                os.close(fd)
                raise StateUnusable(f"{path}: it cannot be locked: {error.strerror}") from None

    @property
    def fd(self) -> int | None:
        """For a successor; it stays this object's."""
        return self._fd

    def sign(self) -> None:
        """Write that this process is the server."""
        if self._fd is not None:
            with contextlib.suppress(OSError):  # on a full disk: only people miss it
                os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
                os.ftruncate(self._fd, len(str(os.getpid())) + 1)

    def let_go(self) -> None:
        """This process needs the directory no more. A successor still has the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def close_in_child(self, *_: object) -> None:
        self.let_go()


def _holder(fd: int) -> str:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return f", process {int(os.pread(fd, 32, 0).split()[0])}"
    return ""
