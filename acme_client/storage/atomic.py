"""Writes a file to disk whole, or not at all; no other module does.

Write to a new name, fsync, rename over the old one, fsync the directory. Whatever cuts this off (a
kill, a full disk, power) leaves the old file or the new one under the name, and at worst a file
that begins with "." and that `sweep` takes away. Several files that shall appear together are
written into a new folder, and made durable there before a link leads to it. How threads share the
waits for the disk is `shared_sync`'s.

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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from .shared_sync import TOGETHER_FROM, Durable, SharedSync

# Temporary names are hidden, and unlike the names of files that people put there.
_PREFIX, _SUFFIX = ".", ".new"
# Between making a file and locking it, or making a link and renaming it, a living writer takes
# microseconds.
_ABANDONED_AFTER = 0.25

Step = Callable[[str, Path], None]


def _nothing(_step: str, _path: Path) -> None:
    pass


class Disk:
    """``before(step, path)`` is called before each mkdir, write, fsync, syncfs, symlink, rename,
    unlink and rmdir. ``together_from``: so many files that wait for the disk are made durable
    together (for tests). May be used by several threads."""

    def __init__(self, before: Step = _nothing, *, together_from: int = TOGETHER_FROM) -> None:
        self._before = before
        self._sync = SharedSync(self._before_sync, together_from=together_from)

    def _before_sync(self, step: str, path: str) -> None:
        if self._before is not _nothing:
            self._before(step, Path(path))

    def close(self) -> None:
        """Give back what is kept open between writes. The disk can be used further."""
        self._sync.close()

    def make_folder(self, path: Path) -> None:
        """Make a folder with its parents, mode 0700; durable when this returns."""
        made = self._make_folders(path)
        if made:
            self._settle(made)

    def _make_folders(self, path: Path) -> list[Durable]:
        """Make a folder with its parents; returns what is to be made durable because of it."""
        if path.is_dir():
            return []
        above = self._make_folders(path.parent)
        self._before("mkdir", path)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        return [*above, Durable(f"{path.parent}")]

    def write(self, path: Path, data: bytes) -> None:
        """Replace or make a file, mode 0600, and its folder, where that is missing."""
        waiting = self._make_folders(path.parent)
        # Closed after the rename: while the file is open and locked, no `sweep` takes it away.
        with contextlib.ExitStack() as until_renamed:
            with self._replacing(path) as temporary:
                fd = self._create(temporary)
                until_renamed.callback(os.close, fd)
                _lock(fd)
                _write_out(fd, data)
                self._settle([*waiting, Durable(f"{temporary}", fd)])
            self._settle([Durable(f"{path.parent}")])

    def add_folder(self, path: Path, files: Mapping[str, bytes]) -> None:
        """Make a folder that is not there, with these files, mode 0600; all of it is durable when
        this returns. Whoever is cut off leaves a part of it there."""
        waiting = self._make_folders(path)
        with contextlib.ExitStack() as until_durable:
            for name, data in files.items():
                fd = self._create(path / name)
                until_durable.callback(os.close, fd)
                _write_out(fd, data)
                waiting.append(Durable(f"{path / name}", fd))
            self._settle([*waiting, Durable(f"{path}")])

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end of a file, or make it, mode 0600. On an error the file is as it was, as
        far as the disk allows."""
        self._before("write", path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            size = os.fstat(fd).st_size
            try:
                _write_out(fd, data)
                self._settle([Durable(f"{path}", fd)])
            except OSError:
                with contextlib.suppress(OSError):  # the first failure is the one to tell
                    os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
        if size == 0:
            self._settle([Durable(f"{path.parent}")])

    def link(self, folder: Path, targets: Mapping[str, str]) -> None:
        """Replace or make symbolic links in a folder, in this order; all are durable when this
        returns."""
        if not targets:
            return
        for name, target in targets.items():
            with self._replacing(folder / name) as temporary:
                self._before("symlink", temporary)
                temporary.symlink_to(target)
        self._settle([Durable(f"{folder}")])

    def remove(self, path: Path) -> None:
        """Delete a file, a link, or a folder with all it holds, durably; nothing happens if there
        is none."""
        self.clear_away(path)
        self._settle([Durable(f"{path.parent}")])

    def clear_away(self, path: Path) -> None:
        """Delete as `remove` does what may be there again after a power cut."""
        if path.is_dir() and not path.is_symlink():
            for one in path.iterdir():
                self.clear_away(one)
            self._before("rmdir", path)
            path.rmdir()
        else:
            self._before("unlink", path)
            path.unlink(missing_ok=True)

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

    def _create(self, path: Path) -> int:
        self._before("write", path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    def _settle(self, several: list[Durable]) -> None:
        self._sync.settle(several)


def _write_out(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


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
