"""Keeps a store (`store.Store`) on a local disk.

How the disk is made to do that, for a folder like ``certificates/example.org``:

    versions/0007/fullchain.pem    files stored together, written and synced before anything
    versions/0007/privkey.pem      points here
    current -> versions/0007       the one rename that makes them all current
    fullchain.pem -> current/fullchain.pem      for people and programs, made once
    privkey.pem -> current/privkey.pem
    meta.json                      stored alone: a plain file, replaced by a rename of its own

The version before the current one is kept (`previous`). Real files where links belong, put there by
hand, are taken over as a version of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .atomic import Disk
from .lease import LeaseFile
from .sessions import Sessions
from .store import Changes, Edit, Files, Lock, Names, Store, demand_known, make_edits


def open_store(location: Path | str) -> Store:
    """Open the store at a location, which is the path of a directory. Raises ValueError for a URL
    whose scheme nobody knows."""
    scheme, is_url, _rest = str(location).partition("://")
    if is_url:
        raise ValueError(f"{location}: no store is known for {scheme}")
    return DirectoryStore(Path(location))


# In a folder that root puts right when the server's user changes.
_SESSIONS = "ledgers/.sessions"
# Locked while several edits are made in one step.
_STEP = "ledgers/.step"


# Files that are stored alone; others are links, unless somebody has put files in their place.
_RECORDS = frozenset({"meta.json"})

_SETTLED = 1_000_000_000  # nanoseconds

_Stamps = tuple[tuple[object, ...], ...]


class _Mark(NamedTuple):
    """How a folder looked: the ``directory``'s inode and time, and those of its ``files``;
    ``unsure``: these may change while the directory's do not."""

    directory: tuple[int, int]
    files: _Stamps
    unsure: bool


class DirectoryStore:
    """`Store` on a local disk. ``now`` is for leases and sessions only."""

    def __init__(
        self, root: Path, disk: Disk | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.root = root
        self._disk = disk or Disk()
        self._now = now
        self._sessions = Sessions(root / _SESSIONS, now)
        self._locks: weakref.WeakSet[LeaseFile] = weakref.WeakSet()

    def tidy(self) -> None:
        self._disk.sweep(self.root)

    def session(self) -> str:
        self._disk.make_folder((self.root / _SESSIONS).parent)
        return self._sessions.mark()

    def is_ours(self, mark: str) -> bool:
        return self._sessions.is_ours(mark)

    def is_over(self, mark: str) -> bool:
        return self._sessions.is_over(mark)

    def close(self) -> None:
        for lock in list(self._locks):
            with contextlib.suppress(OSError):  # the end of the process ends it
                lock.release()
        self._sessions.close()
        self._disk.close()

    def list(self, folder: str) -> Names:
        try:
            entries = [*os.scandir(self.root / folder)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
        )

    def load(self, folder: str) -> dict[str, bytes]:
        path = f"{self.root}/{folder}"
        # One look at the link settles which version is read. If another look finds another one, the
        # first may have been taken away while it was being read: once more.
        while True:
            version = _current(path)
            plain = _read_files(path)
            if version is None:
                return plain
            together = _read_files(f"{path}/{version}")
            if _current(path) == version:
                return plain | together

    def previous(self, folder: str) -> dict[str, bytes]:
        path = self.root / folder
        current = _current(path)
        if current is None:
            return {}
        earlier = [one for one in _versions(path) if one < _number(current)]
        return _read_files(path / _version(earlier[-1])) if earlier else {}

    def store(self, folder: str, files: Files) -> None:
        demand_known(folder)
        path = self.root / folder
        current = _current(path)
        held = _read_files(path / current) if current else {}
        if len(files) == 1 and not held.keys() & files.keys():
            for name, data in files.items():
                self._disk.write(path / name, data)
            return
        if current is None:
            by_hand = {name: data for name, data in _read_files(path).items() if name in files}
            if by_hand:
                current = self._add_version(path, by_hand)
        added = self._add_version(path, {**held, **files})
        # Links where nothing is may lead nowhere for a moment: so all files appear by the one
        # rename of `current`. Real files make way for links only when that is durable.
        first = [name for name in files if not (path / name).exists()]
        self._disk.link(path, {**_not_yet(path, first), "current": added})
        self._disk.link(path, _not_yet(path, files))
        self._prune(path, keep={added, current})

    def change(self, edits: Sequence[Edit], by: Lock | None = None) -> None:
        for edit in edits:
            demand_known(edit.folder)
        with self._one_step():
            make_edits(self, edits, by)

    @contextlib.contextmanager
    def _one_step(self) -> Iterator[None]:
        """Let no other process make edits that depend on what is there."""
        self._disk.make_folder((self.root / _STEP).parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self.root / _STEP, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def append(self, folder: str, file: str, data: bytes) -> None:
        demand_known(folder)
        path = self.root / folder
        self._disk.make_folder(path)
        self._disk.append(path / file, data)

    def mark(self, folder: str) -> object:
        return _mark(f"{self.root}/{folder}")

    def delete(self, folder: str, file: str | None = None) -> None:
        path = self.root / folder
        if file is not None:
            self._leave_out(path, file)
            path = path / file
        if path.is_symlink() or path.exists():
            self._disk.remove(path)

    def _leave_out(self, path: Path, file: str) -> None:
        """Store another version without this file, if it was stored together with others."""
        current = _current(path)
        held = _read_files(path / current) if current else {}
        if held.pop(file, None) is not None:
            added = self._add_version(path, held)
            self._disk.link(path, {"current": added})
            self._prune(path, keep={added, current})

    def lock(self, folder: str, lease: float) -> Lock | None:
        path = self.root / folder
        self._disk.make_folder(path)
        lock = LeaseFile(path / ".lock", self._now)
        if not lock.take(lease):
            return None
        self._locks.add(lock)
        return lock

    def watch(self, folder: str, wake: Callable[[], object] | None = None) -> Changes:
        seen = self._marks(folder)

        def changed() -> set[str]:
            nonlocal seen
            before, seen = seen, self._marks(folder, seen)
            return {
                name
                for name in before | seen
                if (before[name].files if name in before else None)
                != (seen[name].files if name in seen else None)
            }

        return changed

    def _marks(self, folder: str, before: dict[str, _Mark] | None = None) -> dict[str, _Mark]:
        """Return marks that change when a folder's files do: names, inodes, times and sizes. What
        changes by a rename changes the directory, too: one look is enough where it is as it was
        ``before``. Only in a real file in a link's place somebody may write without that."""
        marks: dict[str, _Mark] = {}
        for name in self.list(folder):
            path = f"{self.root}/{folder}/{name}"
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            directory = status.st_ino, status.st_mtime_ns
            known = before.get(name) if before else None
            if known is not None and known.directory == directory and not known.unsure:
                marks[name] = known
                continue
            files = _mark(path)
            by_hand = any(one[0] not in _RECORDS for one in files[1:])
            # The kernel's clock ticks: what changes in the same tick would be missed.
            young = not status.st_mtime_ns + _SETTLED < time.time_ns()
            marks[name] = _Mark(directory, files, by_hand or young)
        return marks

    def _add_version(self, path: Path, files: Files) -> str:
        numbers, current = _versions(path), _current(path)
        # A folder that a writer left half-made must not be taken for a version later.
        if current is not None and numbers and numbers[-1] > _number(current):
            self._prune(path, keep={_version(one) for one in numbers if one <= _number(current)})
        version = _version(numbers[-1] + 1 if numbers else 1)
        self._disk.add_folder(path / version, files)
        return version

    def _prune(self, path: Path, keep: set[str | None]) -> None:
        for number in _versions(path):
            if _version(number) not in keep:
                with contextlib.suppress(OSError):  # the next store tries again
                    self._disk.clear_away(path / _version(number))


def _not_yet(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the links to the current version that are not there, by name."""
    targets = {name: f"current/{name}" for name in names}
    return {name: to for name, to in targets.items() if _target(path / name) != to}


def _target(path: Path) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _version(number: int) -> str:
    return f"versions/{number:04}"


def _number(version: str) -> int:
    return int(version.rpartition("/")[2])


def _versions(path: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(path / "versions") if name.isdigit())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _current(path: Path | str) -> str | None:
    try:
        target = os.readlink(f"{path}/current")
    except OSError:
        return None
    name = target.removeprefix("versions/")
    return target if name.isdigit() else None


def _read_files(path: Path | str) -> dict[str, bytes]:
    """Read the plain files of a folder: neither links nor files that are being written."""
    files: dict[str, bytes] = {}
    try:
        with os.scandir(path) as scanned:
            entries = [
                one.name
                for one in scanned
                if one.name[0] != "." and one.is_file(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return files
    for name in entries:
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            files[name] = _content(f"{path}/{name}")
    return files


# Bytes of a file that are asked for first: nearly all are shorter, and for a large buffer the
# memory allocator asks the kernel each time.
_SMALL = 16384


def _content(path: str) -> bytes:
    # Not Path.read_bytes, which takes three times as long: thousands are read at a start.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = [os.read(fd, _SMALL)]
        if len(pieces[0]) < _SMALL:  # of a plain file that is the end
            return pieces[0]
        while piece := os.read(fd, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def _mark(path: str) -> _Stamps:
    return (("current", _current(path)), *sorted(_stamps(path)))


def _stamps(path: str) -> list[tuple[str, int, int, int]]:
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        for entry in entries:
            if entry.name[0] != "." and entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                found.append((entry.name, status.st_ino, status.st_mtime_ns, status.st_size))
    return found
