"""Defines where certificates, accounts and challenges are kept: folders of small files.

`Store` is the contract, narrow enough to be kept by something shared between machines; one suite of
tests holds every implementation to it. `directory.DirectoryStore` keeps it on a local disk.

The heart of it: *files that are stored together change together*. Whoever loads a folder, also
after a kill or a power cut in the middle of a `store`, sees all of the new files or all of the old
ones. A key and its chain are stored together; so they never part.

Locks are for those who act on the same thing at the same time: two certifiers during an upgrade, a
command beside a running server, two machines. A lock belongs to the session that took it and ends
with it: one whose holder is known to have died holds nothing. After getting the lock, look again:
somebody may have been faster. A holder that was paused for long may have lost its lock without
noticing, so a lock has a token, which only grows from holder to holder of a folder, and `change`
refuses what is written under a lock that is lost.

A note is a document about something that must be undone outside the store (a challenge that workers
answer, a record in the DNS). It carries the mark of the process that wrote it (`Store.session`).
While that process lives, nobody else undoes the note; afterwards anybody may.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ..late_dataclass import dataclass

# The top folders. Root sets owners and modes of these and of nothing else; a folder that is missing
# here could one day keep a server from starting.
FOLDERS = (
    "accounts",
    "certificates",
    "challenges",
    "cluster",  # what a machine knows of the others
    "dns-hook",  # a hook's own files
    "dns-records",
    "internal-ca",
    "ledgers",
    "on-demand",
    "orders",
)

ANYTHING = object()  # in the place of a mark: whatever is there

Files = Mapping[str, bytes]
Changes = Callable[[], set[str]]
Names = list[str]  # said here, because `list` means something else inside the classes


def demand_known(folder: str) -> None:
    """Raise ValueError for a folder that lies below none of `FOLDERS`."""
    if folder.partition("/")[0] not in FOLDERS:
        raise ValueError(f"{folder}: no folder of the store (FOLDERS)")


class Unreachable(OSError):
    """The store is elsewhere and does not answer. Whether it has done what it was told is not
    known."""


class Fenced(OSError):
    """What was to be written under a lock is refused: the lock is no longer its writer's."""


class Conflict(OSError):
    """What was to be replaced is no longer what it was."""


class Unreadable(OSError):
    """A document cannot be opened: damaged, forged, or sealed with another secret."""


class Full(OSError):
    """The store takes nothing more until a person makes room."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to change in one folder: ``files`` are stored in it together; without any, the folder
    is deleted. ``replaces``: only if `Store.mark` of the folder is still this."""

    folder: str
    files: Files | None = None
    replaces: object = ANYTHING


class Lock(Protocol):
    token: int  # greater than those of all holders before, of the same folder

    def holds(self) -> bool:
        """Whether nobody else can have it, as far as this holder knows without asking anybody."""
        ...

    def release(self) -> None:
        """Give the lock back; nothing happens if somebody else has it."""
        ...


class Store(Protocol):
    """Folders are paths like "certificates/example.org"; files have plain names. Every method may
    raise OSError, and then the folder is as it was before."""

    def list(self, folder: str) -> Names:
        """List the names of the folders in this one, sorted."""
        ...

    def load(self, folder: str) -> dict[str, bytes]:
        """Return all files of a folder; none for a folder that does not exist."""
        ...

    def previous(self, folder: str) -> dict[str, bytes]:
        """Return the files that were replaced when files were last stored together; none if
        none."""
        ...

    def store(self, folder: str, files: Files) -> None:
        """Put these files into the folder, together. Those not named stay as they are."""
        ...

    def change(self, edits: Sequence[Edit], by: Lock | None = None) -> None:
        """Make several edits in one step, as far as the store can: on a disk they are made in their
        order, and who dies in the middle has made the first of them. ``by``: only while this lock
        holds. Raises `Fenced` or `Conflict`; then nothing has changed."""
        ...

    def append(self, folder: str, file: str, data: bytes) -> None:
        """Add to the end of a file that was stored alone, or make it. Who is killed meanwhile, or
        loses power, may leave a part of it there."""
        ...

    def mark(self, folder: str) -> object:
        """Return a value that is another one when files of the folder have been stored, appended to
        or deleted since, whoever did so."""
        ...

    def delete(self, folder: str, file: str | None = None) -> None:
        """Delete one file, or the folder with all files; nothing happens if there is none."""
        ...

    def lock(self, folder: str, lease: float) -> Lock | None:
        """Take the lock of a folder until it is given back or this session ends; returns None while
        somebody else has it. Where nobody can tell whether a holder lives, on a file system without
        locks, it ends after ``lease`` seconds."""
        ...

    def watch(self, folder: str, wake: Callable[[], object] | None = None) -> Changes:
        """Return a function that names the folders in this one that have changed since its last
        call, whoever changed them; at the first call, since now. ``wake`` is called, by any thread,
        when there may be something to name, where the store hears of changes: a disk does not.
        Another machine's are named when they have been heard of."""
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
        """Delete what interrupted writers have left."""
        ...

    def close(self) -> None:
        """End the session, with its locks. The store can be used further; its next session is
        another one."""
        ...


def is_anothers(store: Store, mark: object) -> bool:
    """Whether a note with this mark belongs to another process, which lives. A note without a mark
    is by an earlier version."""
    return isinstance(mark, str) and not store.is_ours(mark) and not store.is_over(mark)


def make_edits(store: Store, edits: Sequence[Edit], by: Lock | None) -> None:
    """Make edits one after the other, as `Store.change` does, while nobody else makes any. Raises
    `Fenced` or `Conflict`; then nothing has changed."""
    if by is not None and not by.holds():
        raise Fenced(errno.EPERM, "the lock has been lost")
    for edit in edits:
        if edit.replaces is not ANYTHING and store.mark(edit.folder) != edit.replaces:
            raise Conflict(errno.EEXIST, "it has changed meanwhile", edit.folder)
    for edit in edits:
        if edit.files:
            store.store(edit.folder, edit.files)
        else:
            store.delete(edit.folder)
