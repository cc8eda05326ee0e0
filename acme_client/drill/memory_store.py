"""A `store.Store` in memory, for simulations; it may fail, or die at any operation.

It passes the same suite as the one on disk, so what a simulation sees is what a disk would show.
"""

from __future__ import annotations

import copy
import errno
import itertools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..storage.store import demand_known


class Crash(BaseException):
    """The process ends here, between two instructions."""


class MemoryStore:
    """``crash`` is asked before and after each change; where it says so, `Crash` is raised.
    ``now`` is for leases only, ``root`` for nothing. ``full``: whether the disk takes nothing at
    the moment."""

    def __init__(
        self,
        root: Path | None = None,
        *,
        now: Callable[[], float] = time.time,
        crash: Callable[[], bool] = lambda: False,
        full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._together: dict[str, dict[str, bytes]] = {}
        self._before: dict[str, dict[str, bytes]] = {}
        self._alone: dict[str, dict[str, bytes]] = {}
        self._leases: dict[str, tuple[int, float]] = {}
        self._marks: dict[str, int] = {}
        self._sessions: set[str] = set()
        self._session = ""
        self._count = itertools.count(1)
        self._now = now
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
        self._marks[folder] = next(self._count)
        self._point()

    def append(self, folder: str, file: str, data: bytes) -> None:
        self._begin_write(folder)
        alone = self._alone.setdefault(folder, {})
        if self.crash():  # in the middle of it
            alone[file] = alone.get(file, b"") + data[: len(data) // 2]
            raise Crash
        alone[file] = alone.get(file, b"") + data
        self._marks[folder] = next(self._count)
        self._point()

    def mark(self, folder: str) -> object:
        return self._marks.get(folder)

    def delete(self, folder: str, file: str | None = None) -> None:
        self._point()
        for kept in (self._alone, self._together):
            if file is None:
                kept.pop(folder, None)
            else:
                kept.get(folder, {}).pop(file, None)
        self._marks[folder] = next(self._count)
        self._point()

    def lock(self, folder: str, lease: float) -> _Lease | None:
        one = _Lease(self._leases, folder, self._now, next(self._count))
        return one if one.take(lease) else None

    def watch(self, folder: str) -> Callable[[], set[str]]:
        below = folder + "/"
        seen = dict(self._marks)

        def changed() -> set[str]:
            nonlocal seen
            before, seen = seen, dict(self._marks)
            return {
                one.removeprefix(below)
                for one, mark in seen.items()
                if one.startswith(below) and before.get(one) != mark
            }

        return changed

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

    def _point(self) -> None:
        if self.crash():
            raise Crash


class _Lease:
    def __init__(
        self,
        leases: dict[str, tuple[int, float]],
        folder: str,
        now: Callable[[], float],
        holder: int,
    ) -> None:
        self._leases, self._folder, self._now, self._holder = leases, folder, now, holder

    def take(self, lease: float) -> bool:
        holder, until = self._leases.get(self._folder, (0, 0.0))
        if holder not in (0, self._holder) and self._now() < until <= self._now() + 3600:
            return False
        self._leases[self._folder] = (self._holder, self._now() + lease)
        return True

    def renew(self, lease: float) -> bool:
        if self._leases.get(self._folder, (0, 0.0))[0] != self._holder:
            return False
        self._leases[self._folder] = (self._holder, self._now() + lease)
        return True

    def release(self) -> None:
        if self._leases.get(self._folder, (0, 0.0))[0] == self._holder:
            del self._leases[self._folder]
