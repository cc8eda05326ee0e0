"""A `store.Store` in memory, for simulations; it may fail, or die at any operation.

It passes the same suite as the one on disk, so what a simulation sees is what a disk would show.
"""

from __future__ import annotations

import copy
import errno
import itertools
import os
import weakref
from collections.abc import Callable, Mapping, Sequence

from ..storage.store import Changes, Edit, Lock, demand_known, make_edits


class Crash(BaseException):
    """The process ends here, between two instructions."""


class MemoryStore:
    """``crash`` is asked before and after each change; where it says so, `Crash` is raised.
    ``full``: whether the disk takes nothing at the moment."""

    def __init__(
        self,
        *,
        crash: Callable[[], bool] = lambda: False,
        full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._together: dict[str, dict[str, bytes]] = {}
        self._before: dict[str, dict[str, bytes]] = {}
        self._alone: dict[str, dict[str, bytes]] = {}
        self._locks: dict[str, _Lock] = {}
        self._watches: list[weakref.ref[_Watch]] = []
        self._marks: dict[str, int] = {}
        self._sessions: set[str] = set()
        self._session = ""
        self._count = itertools.count(1)
        self.crash = crash
        self.full = full

    def list(self, folder: str) -> list[str]:
        below = folder + "/"
        every = {*self._together, *self._alone}
        return sorted({one.removeprefix(below).split("/")[0] for one in every if below in one})

    def load(self, folder: str) -> dict[str, bytes]:
        return {**self._alone.get(folder, {}), **self._together.get(folder, {})}

    def previous(self, folder: str) -> dict[str, bytes]:
        return dict(self._before.get(folder, {}))

    def store(self, folder: str, files: Mapping[str, bytes]) -> None:
        self._begin_write(folder)
        held = self._together.get(folder, {})
        if len(files) == 1 and not held.keys() & files.keys():
            self._alone.setdefault(folder, {}).update(files)
        else:
            if held:
                self._before[folder] = held
            self._together[folder] = {**held, **files}
        self._changed(folder)

    def change(self, edits: Sequence[Edit], by: Lock | None = None) -> None:
        for edit in edits:
            demand_known(edit.folder)
        make_edits(self, edits, by)

    def append(self, folder: str, file: str, data: bytes) -> None:
        self._begin_write(folder)
        alone = self._alone.setdefault(folder, {})
        if self.crash():  # in the middle of it
            alone[file] = alone.get(file, b"") + data[: len(data) // 2]
            raise Crash
        alone[file] = alone.get(file, b"") + data
        self._changed(folder)

    def mark(self, folder: str) -> object:
        return self._marks.get(folder)

    def delete(self, folder: str, file: str | None = None) -> None:
        self._point()
        for kept in (self._alone, self._together):
            if file is None:
                kept.pop(folder, None)
            else:
                kept.get(folder, {}).pop(file, None)
        self._changed(folder)

    def lock(self, folder: str, lease: float) -> Lock | None:
        holder = self._locks.get(folder)
        if holder is not None and holder.holds():
            return None
        lock = self._locks[folder] = _Lock(next(self._count), self.session(), self._sessions)
        return lock

    def watch(self, folder: str, wake: Callable[[], object] | None = None) -> Changes:
        watch = _Watch(folder + "/", wake)
        self._watches.append(weakref.ref(watch))
        return watch.changed

    def session(self) -> str:
        if not self._session:
            self._session = f"session-{next(self._count)}"
            self._sessions.add(self._session)
        return self._session

    def is_ours(self, mark: str) -> bool:
        return mark == self._session

    def is_over(self, mark: str) -> bool:
        return mark not in self._sessions

    def tidy(self) -> None:
        pass

    def close(self) -> None:
        self._sessions.discard(self._session)
        self._session = ""

    def peer(self) -> MemoryStore:
        """Another process with the same store."""
        other = copy.copy(self)
        other._session = ""
        return other

    def _begin_write(self, folder: str) -> None:
        demand_known(folder)
        self._point()
        if self.full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)

    def _changed(self, folder: str) -> None:
        self._marks[folder] = next(self._count)
        self._point()
        for reference in list(self._watches):
            watch = reference()
            if watch is None:
                self._watches.remove(reference)
            else:
                watch.see(folder)

    def _point(self) -> None:
        if self.crash():
            raise Crash


class _Watch:
    """Names the folders below a path that have changed. Lasts as long as its method ``changed`` is
    referred to."""

    def __init__(self, below: str, wake: Callable[[], object] | None) -> None:
        self._below = below
        self._wake = wake
        self._changed: set[str] = set()

    def see(self, folder: str) -> None:
        if folder.startswith(self._below):
            self._changed.add(folder.removeprefix(self._below))
            if self._wake is not None:
                self._wake()

    def changed(self) -> set[str]:
        changed, self._changed = self._changed, set()
        return changed


class _Lock:
    def __init__(self, token: int, session: str, sessions: set[str]) -> None:
        self.token = token
        self._session = session
        self._sessions = sessions
        self._given_back = False

    def holds(self) -> bool:
        return not self._given_back and self._session in self._sessions

    def release(self) -> None:
        self._given_back = True
