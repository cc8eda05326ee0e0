"""Reads another program's files without following links out of its folder.

An import often runs as root over files that belong to another user, and the server later serves
what was read. So no symbolic link is followed below the folder that was named on the command line:
each step is opened relative to the step before, with O_NOFOLLOW. certbot's format is made of links;
its reader asks where a link leads, and reads the target by its own path.

Sizes, entries and depth are bounded. An entry that is refused is `Unreadable`; the others are read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

# Bytes. A chain of four certificates has 8 KiB, a record one. Traefik keeps everything in one file.
LARGEST = 256 * 1024
# In one folder: far more than any installation has, and still read within seconds.
MOST_ENTRIES = 20_000

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking: opening a pipe that nobody writes to would wait for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Unreadable(Exception):
    """An entry that cannot be read, or must not be. ``where`` is the entry, ``why`` the reason."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where = where
        self.why = why


class Tree:
    """The folder ``root``, which itself may be reached by links. Paths within it are relative,
    with slashes; "" is the folder itself."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Unreadable(str(root), _words(error)) from None

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def names(self, path: str = "") -> list[str]:
        """Return the names of all entries of a folder, sorted; none where there is no such
        folder."""
        return self._entries(path, lambda _mode: True)

    def folders(self, path: str = "") -> list[str]:
        return self._entries(path, stat.S_ISDIR)

    def files(self, path: str = "") -> list[str]:
        return self._entries(path, stat.S_ISREG)

    def links(self, path: str = "") -> list[str]:
        return self._entries(path, stat.S_ISLNK)

    def read(self, path: str, largest: int = LARGEST) -> bytes:
        folder, name = posixpath.split(path)
        try:
            with self._opened(folder) as at:
                fd = os.open(name, _FILE, dir_fd=at)
            with os.fdopen(fd, "rb") as file:
                info = os.fstat(fd)
                if not stat.S_ISREG(info.st_mode):
                    raise Unreadable(path, "it is not a file")
                data = file.read(largest + 1)
        except OSError as error:
            raise Unreadable(path, _words(error)) from None
        if len(data) > largest:
            raise Unreadable(path, f"it is larger than {largest // 1024} KiB")
        return data

    def read_if_there(self, path: str) -> bytes | None:
        folder, name = posixpath.split(path)
        return self.read(path) if name in self.files(folder) else None

    def target(self, path: str) -> str | None:
        """Return where a link in the tree leads, as a path within the tree; None for what is no
        link. A link that leads out of the tree is refused."""
        folder, name = posixpath.split(path)
        try:
            with self._opened(folder) as at:
                if not stat.S_ISLNK(os.lstat(name, dir_fd=at).st_mode):
                    return None
                target = os.readlink(name, dir_fd=at)
        except OSError as error:
            raise Unreadable(path, _words(error)) from None
        base = os.path.abspath(self.root)
        if target.startswith("/"):
            below = posixpath.normpath(target).removeprefix(f"{base}/")
        else:
            below = posixpath.normpath(posixpath.join(folder, target))
        if below.startswith(("/", "..")):
            raise Unreadable(path, f"it leads out of {self.root}, to {target}")
        return below

    def _entries(self, path: str, fits: Callable[[int], bool]) -> list[str]:
        found = []
        try:
            with self._opened(path) as fd, os.scandir(fd) as entries:
                for count, entry in enumerate(entries):
                    if count >= MOST_ENTRIES:
                        raise Unreadable(path, f"it has more than {MOST_ENTRIES} entries")
                    # A name that cannot be printed has no business in a format of names.
                    if entry.name.isprintable() and fits(entry.stat(follow_symlinks=False).st_mode):
                        found.append(entry.name)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unreadable(path or str(self.root), _words(error)) from None
        return sorted(found)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        at = os.dup(self._fd)
        try:
            for name in [part for part in path.split("/") if part]:
                below = os.open(name, _FOLDER, dir_fd=at)
                os.close(at)
                at = below
            yield at
        finally:
            os.close(at)


def _words(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return "a symbolic link is not followed"
    return (error.strerror or str(error)).lower()
