"""A store before another store: whatever a subclass does not do otherwise, the other one does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .store import Changes, Edit, Files, Lock, Names, Store


class PassingStore:
    """`store.Store`. ``behind`` is the other one, which this one closes as well."""

    def __init__(self, behind: Store) -> None:
        self._behind = behind

    def list(self, folder: str) -> Names:
        return self._behind.list(folder)

    def load(self, folder: str) -> dict[str, bytes]:
        return self._behind.load(folder)

    def previous(self, folder: str) -> dict[str, bytes]:
        return self._behind.previous(folder)

    def store(self, folder: str, files: Files) -> None:
        self._behind.store(folder, files)

    def change(self, edits: Sequence[Edit], by: Lock | None = None) -> None:
        self._behind.change(edits, by)

    def append(self, folder: str, file: str, data: bytes) -> None:
        self._behind.append(folder, file, data)

    def mark(self, folder: str) -> object:
        return self._behind.mark(folder)

    def delete(self, folder: str, file: str | None = None) -> None:
        self._behind.delete(folder, file)

    def lock(self, folder: str, lease: float) -> Lock | None:
        return self._behind.lock(folder, lease)

    def watch(self, folder: str, wake: Callable[[], object] | None = None) -> Changes:
        return self._behind.watch(folder, wake)

    def session(self) -> str:
        return self._behind.session()

    def is_ours(self, mark: str) -> bool:
        return self._behind.is_ours(mark)

    def is_over(self, mark: str) -> bool:
        return self._behind.is_over(mark)

    def tidy(self) -> None:
        self._behind.tidy()

    def close(self) -> None:
        self._behind.close()
