"""Writes a file to disk whole, or not at all; no other module does.

Write to a new name, fsync, rename over the old one, fsync the directory. Whatever cuts this off (a
kill, a full disk, power) leaves the old file or the new one under the name, and at worst a file
that begins with "." and that `sweep` takes away.

Every step is announced to ``before`` first. Tests use it to end the process at each of them and to
make each of them fail; that is the only reason it exists.

Renames stay within one directory: a sandbox may forbid the others, and only these are atomic on
every file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Temporary names are hidden, and unlike the names of files that people put there.
_PREFIX, _SUFFIX = ".", ".new"
# Between making a file and locking it, or making a link and renaming it, a living writer takes
# microseconds.
_ABANDONED_AFTER = 0.25

Step = Callable[[str, Path], None]


def _nothing(_step: str, _path: Path) -> None:
    pass


class Disk:
    """``before(step, path)`` is called before each mkdir, write, fsync, symlink, rename, unlink and
    rmdir."""

    def __init__(self, before: Step = _nothing) -> None:
        self._before = before

    def make_folder(self, path: Path) -> None:
        """Make a folder with its parents, mode 0700; durable when this returns."""
        if path.is_dir():
            return
        self.make_folder(path.parent)
        self._before("mkdir", path)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        self._sync_folder(path.parent)

    def write(self, path: Path, data: bytes) -> None:
        """Replace or make a file, mode 0600."""
        # Closed after the rename: while the file is open and locked, no `sweep` takes it away.
        with contextlib.ExitStack() as until_renamed, self._replacing(path) as temporary:
            self._before("write", temporary)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600)
            until_renamed.callback(os.close, fd)
            _lock(fd)
            self._write_out(fd, data, temporary)

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end of a file, or make it, mode 0600. On an error the file is as it was, as
        far as the disk allows."""
        self._before("write", path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            size = os.fstat(fd).st_size
            try:
                self._write_out(fd, data, path)
            except OSError:
                with contextlib.suppress(OSError):  # the first failure is the one to tell
                    os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
        if size == 0:
            self._sync_folder(path.parent)

    def link(self, path: Path, target: str) -> None:
        """Replace or make a symbolic link."""
        with self._replacing(path) as temporary:
            self._before("symlink", temporary)
            temporary.symlink_to(target)

    def remove(self, path: Path) -> None:
        """Delete a file, a link, or a folder with all it holds; nothing happens if there is
        none."""
        if path.is_dir() and not path.is_symlink():
            for one in path.iterdir():
                self.remove(one)
            self._before("rmdir", path)
            path.rmdir()
        else:
            self._before("unlink", path)
            path.unlink(missing_ok=True)
        self._sync_folder(path.parent)

    def sweep(self, folder: Path) -> None:
        """Delete what dead writers have left in ``folder`` and below. A file that is being written
        stays."""
        for path in folder.rglob(f"{_PREFIX}*{_SUFFIX}"):
            with contextlib.suppress(OSError):  # somebody else's by now, or not removable: harmless
                if abs(time.time() - path.lstat().st_mtime) > _ABANDONED_AFTER and _is_left(path):
                    path.unlink()

    @contextlib.contextmanager
    def _replacing(self, path: Path) -> Iterator[Path]:
        temporary = path.with_name(f"{_PREFIX}{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
        try:
            yield temporary
            self._before("rename", path)
            temporary.rename(path)
        except OSError:
            with contextlib.suppress(OSError):  # the first failure is the one to tell
                temporary.unlink(missing_ok=True)
            raise
        self._sync_folder(path.parent)

    def _write_out(self, fd: int, data: bytes, path: Path) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        self._before("fsync", path)
        os.fsync(fd)

    def _sync_folder(self, path: Path) -> None:
        self._before("fsync", path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _lock(fd: int) -> bool:
    """Lock the open file; returns False when another process has it locked. True where the file
    system knows no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_left(path: Path) -> bool:
    """Whether nobody writes this file any more. A link is made and renamed at once."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return path.is_symlink()
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return _lock(fd)
    finally:
        os.close(fd)
