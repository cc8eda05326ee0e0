"""Where certificates, accounts and challenges are kept: folders of small files.

`Store` is the contract, narrow enough to be kept by something shared between machines; one suite of
tests holds every implementation to it. `DirectoryStore` keeps it on a local disk.

The heart of it: *files that are stored together change together*. Whoever loads a folder, also
after a kill or a power cut in the middle of a `store`, sees all of the new files or all of the old
ones. A key and its chain are stored together; so they never part.

How the disk is made to do that, for a folder like ``certificates/example.org``:

    versions/0007/fullchain.pem    files stored together, written and synced before anything
    versions/0007/privkey.pem      points here
    current -> versions/0007       the one rename that makes them all current
    fullchain.pem -> current/fullchain.pem      for people and programs, made once
    privkey.pem -> current/privkey.pem
    meta.json                      stored alone: a plain file, replaced by a rename of its own

The version before the current one is kept (`previous`). Real files where links belong, put there by
hand, are taken over as a version of their own.

Locks are for those who act on the same thing at the same time: two certifiers during an upgrade, a
command beside a running server. A lock is a lease, because a holder may die or hang; who wants to
hold it longer than that renews it, and one that is known to have died holds nothing. After getting
the lock, look again: somebody may have been faster.

A note is a document about something that must be undone outside the store (a challenge that workers
answer, a record in the DNS). It carries the mark of the process that wrote it (`Store.session`).
While that process lives, nobody else undoes the note; afterwards anybody may.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from . import documents
from .atomic import Disk

# What there is at the top. Root, who puts owners and modes right, touches nothing else; so a folder
# that is missing here would keep a server from starting, one day, somewhere.
FOLDERS = (
    "accounts",
    "certificates",
    "challenges",
    "dns-hook",  # a hook's own files
    "dns-records",
    "internal-ca",
    "ledgers",
    "on-demand",
)

Files = Mapping[str, bytes]
Names = list[str]  # said here, because `list` means something else inside the classes


class Lock(Protocol):
    def renew(self, lease: float) -> bool:
        """Hold it for ``lease`` more seconds from now; False when somebody else has it."""
        ...

    def release(self) -> None:
        """Give it back; nothing happens if somebody else has it."""
        ...


class Store(Protocol):
    """Folders are paths like "certificates/example.org"; files have plain names. OSError is what
    goes wrong, and then the folder is as it was before."""

    def list(self, folder: str) -> Names:
        """The names of the folders in this one, sorted."""
        ...

    def load(self, folder: str) -> dict[str, bytes]:
        """All files of a folder; none for a folder that is not there."""
        ...

    def previous(self, folder: str) -> dict[str, bytes]:
        """The files that the last ones stored together have replaced; none if there are none."""
        ...

    def store(self, folder: str, files: Files) -> None:
        """Put these files into the folder, together. Those not named stay as they are."""
        ...

    def delete(self, folder: str, file: str | None = None) -> None:
        """Take away one file, or the folder with all of them; nothing if there is none."""
        ...

    def lock(self, folder: str, lease: float) -> Lock | None:
        """The lock of a folder for ``lease`` seconds; None while somebody else has it."""
        ...

    def watch(self, folder: str) -> Callable[[], set[str]]:
        """A function that names the folders in this one that have changed since it was last
        called, by whomever; the first time since now."""
        ...

    def session(self) -> str:
        """Return the mark of this process for its notes; a new one each time, of one session, which
        begins with the first and ends with `close` or with the process."""
        ...

    def is_ours(self, mark: str) -> bool:
        """Whether this session has made the mark."""
        ...

    def is_over(self, mark: str) -> bool:
        """Whether the session that has made the mark has ended."""
        ...

    def tidy(self) -> None:
        """Take away what interrupted writers have left."""
        ...

    def close(self) -> None:
        """End the session. The store can be used further; its next session is another one."""
        ...


def open_store(location: Path | str) -> Store:
    """Open the store at a location, which is the path of a directory. Raises ValueError for a URL
    whose scheme nobody knows."""
    scheme, is_url, _rest = str(location).partition("://")
    if is_url:
        raise ValueError(f"{location}: no store is known for {scheme}")
    return DirectoryStore(Path(location))


def is_anothers(store: Store, mark: object) -> bool:
    """Whether a note with this mark belongs to another process, which lives. A note without a mark
    is by an earlier version."""
    return isinstance(mark, str) and not store.is_ours(mark) and not store.is_over(mark)


class DirectoryStore:
    """`Store` on a local disk. ``now`` is for leases and sessions only."""

    def __init__(
        self, root: Path, disk: Disk | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.root = root
        self._disk = disk or Disk()
        self._now = now
        self._sessions = _Sessions(root / _SESSIONS, now)

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
        self._sessions.close()

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
        path = self.root / folder
        # One look at the link settles which version is read. If another look finds another one, the
        # first may have been taken away while it was being read: once more.
        while True:
            version = _current(path)
            plain = _read_files(path)
            if version is None:
                return plain
            together = _read_files(path / version)
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
        if folder.partition("/")[0] not in FOLDERS:
            raise ValueError(f"{folder}: no folder of the store (FOLDERS)")
        path = self.root / folder
        self._disk.make_folder(path)
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
        # rename of `current`. Real files make way for links only after it.
        self._point_at_current(path, [name for name in files if not (path / name).exists()])
        self._disk.link(path / "current", added)
        self._point_at_current(path, files)
        self._prune(path, keep={added, current})

    def delete(self, folder: str, file: str | None = None) -> None:
        path = self.root / folder
        if file is not None:
            self._leave_out(path, file)
            path = path / file
        if path.is_symlink() or path.exists():
            self._disk.remove(path)

    def _leave_out(self, path: Path, file: str) -> None:
        """From the files that are stored together: another version, without it."""
        current = _current(path)
        held = _read_files(path / current) if current else {}
        if held.pop(file, None) is not None:
            added = self._add_version(path, held)
            self._disk.link(path / "current", added)
            self._prune(path, keep={added, current})

    def lock(self, folder: str, lease: float) -> Lock | None:
        path = self.root / folder
        self._disk.make_folder(path)
        lock = _LeaseFile(path / ".lock", self._now)
        return lock if lock.take(lease) else None

    def watch(self, folder: str) -> Callable[[], set[str]]:
        seen = self._marks(folder)

        def changed() -> set[str]:
            nonlocal seen
            before, seen = seen, self._marks(folder)
            return {name for name in before | seen if before.get(name) != seen.get(name)}

        return changed

    def _marks(self, folder: str) -> dict[str, tuple[object, ...]]:
        """What changes when a folder's files do: which they are, and since when."""
        marks: dict[str, tuple[object, ...]] = {}
        for name in self.list(folder):
            path = self.root / folder / name
            marks[name] = (_current(path), *sorted(_stamps(path)))
        return marks

    def _add_version(self, path: Path, files: Files) -> str:
        numbers = _versions(path)
        version = _version(numbers[-1] + 1 if numbers else 1)
        self._disk.make_folder(path / version)
        for name, data in files.items():
            self._disk.write(path / version / name, data)
        return version

    def _point_at_current(self, path: Path, names: Iterable[str]) -> None:
        for name in names:
            target = f"current/{name}"
            if not (path / name).is_symlink() or os.readlink(path / name) != target:
                self._disk.link(path / name, target)

    def _prune(self, path: Path, keep: set[str | None]) -> None:
        for number in _versions(path):
            if _version(number) not in keep:
                with contextlib.suppress(OSError):  # the next store tries again
                    self._disk.remove(path / _version(number))


def _version(number: int) -> str:
    return f"versions/{number:04}"


def _number(version: str) -> int:
    return int(version.rpartition("/")[2])


def _versions(path: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(path / "versions") if name.isdigit())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _current(path: Path) -> str | None:
    try:
        target = os.readlink(path / "current")
    except OSError:
        return None
    name = target.removeprefix("versions/")
    return target if name.isdigit() else None


def _read_files(path: Path) -> dict[str, bytes]:
    """Plain files only: neither links nor what is being written."""
    files: dict[str, bytes] = {}
    try:
        entries = list(os.scandir(path))
    except (FileNotFoundError, NotADirectoryError):
        return files
    for entry in entries:
        if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                files[entry.name] = Path(entry.path).read_bytes()
    return files


def _stamps(path: Path) -> Iterator[tuple[str, int, int]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                status = entry.stat(follow_symlinks=False)
                yield entry.name, status.st_ino, status.st_mtime_ns


class _LeaseFile:
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
        """Keep the byte locked, on a descriptor of its own; whether that can be done."""
        self._let_go()
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._let_go = weakref.finalize(self, os.close, fd)
        return _lock_byte(fd, _HELD_BYTE)

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
# Far behind the text.
_HELD_BYTE = 1 << 20
_LEASE_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Lease:
    holder: str | None = None
    until: float = 0.0
    held: bool = False  # whether the holder has the byte locked while it lives

    def abandoned(self, fd: int) -> bool:
        """Its holder has died."""
        return self.held and not _is_byte_locked(fd, _HELD_BYTE)


def _lease(fd: int) -> _Lease:
    """One that a newer version has written, who works beside us during an upgrade, is somebody's
    for as long as any can be."""
    data = os.pread(fd, 4096, 0)
    if documents.newer(data, _LEASE_VERSION):
        return _Lease("", os.fstat(fd).st_mtime + _LONGEST_LEASE)
    try:
        content = json.loads(data)
        return _Lease(str(content["holder"]), float(content["until"]), content.get("held") is True)
    except (ValueError, KeyError, TypeError):
        return _Lease()


# With the open file and not with the process, unlike POSIX locks: fcntl(2), "Open file description
# locks".
_FLOCK = struct.Struct("hhqqi4x")  # struct flock


def _lock_byte(fd: int, number: int) -> bool:
    """False when somebody else has it locked, or when that cannot be done here."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _about_byte(number))
    except OSError:
        return False
    return True


def _is_byte_locked(fd: int, number: int) -> bool:
    """True also when nobody can say."""
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _about_byte(number))
    except OSError:
        return True
    return int(_FLOCK.unpack(found)[0]) != fcntl.F_UNLCK


def _about_byte(number: int) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)


# In a folder that root puts right when the server's user changes.
_SESSIONS = "certificates/.sessions"
# Of a mark: longer than an attempt takes, which is the longest that a note is true.
_SESSION_LASTS = 3600.0
_MARK = re.compile(r"([0-9a-f]{15})-([0-9]{1,12})(-held)?", re.ASCII)


class _Sessions:
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
                return not _is_byte_locked(fd, number)
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
        self._held = _lock_byte(fd, number)
        self._number = number

    def _opened(self, flags: int = 0) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
