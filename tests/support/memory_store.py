"""A `store.Store` in memory, for simulations of years; a test may have it die at any operation."""

from __future__ import annotations

from collections.abc import Callable


class Crash(BaseException):
    """The process ends here, between two instructions."""


class _Held:
    def renew(self, lease: float) -> bool:
        return True

    def release(self) -> None:
        pass


class MemoryStore:
    """``crash`` is asked before and after each change; where it says so, `Crash` is raised."""

    def __init__(self, crash: Callable[[], bool] = lambda: False) -> None:
        self._now: dict[str, dict[str, bytes]] = {}
        self._before: dict[str, dict[str, bytes]] = {}
        self.crash = crash

    def list(self, folder: str) -> list[str]:
        below = folder + "/"
        return sorted({one.removeprefix(below).split("/")[0] for one in self._now if below in one})

    def load(self, folder: str) -> dict[str, bytes]:
        return dict(self._now.get(folder, {}))

    def previous(self, folder: str) -> dict[str, bytes]:
        return dict(self._before.get(folder, {}))

    def store(self, folder: str, files: dict[str, bytes]) -> None:
        self._point()
        present = self._now.get(folder, {})
        if "fullchain.pem" in files:
            self._before[folder] = present
        self._now[folder] = {**present, **files}
        self._point()

    def delete(self, folder: str, file: str | None = None) -> None:
        if file is None:
            self._now.pop(folder, None)
        else:
            self._now.get(folder, {}).pop(file, None)

    def lock(self, folder: str, lease: float) -> _Held:
        return _Held()

    def watch(self, folder: str) -> Callable[[], set[str]]:
        return set

    def _point(self) -> None:
        if self.crash():
            raise Crash
