"""The engine, as the lifecycle of certificates uses it: a store that is closed while it cannot be
asked.

Whoever asks an engine that is away waits for each of its members in turn, and a machine has
thousands of certificates to look at. So the thread that watches the engine closes this store, and
opens it again; what is asked meanwhile is refused at once (`Unreachable`), as it is where the
engine refuses it, or has no room. Beside a newer program it can be read, and takes nothing: a
document in a newer form must not be replaced by one in ours.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence

from ..storage.etcd.store import EtcdStore
from ..storage.store import (
    Changes,
    Conflict,
    Edit,
    Fenced,
    Files,
    Lock,
    Names,
    Unreachable,
    Unreadable,
)

_OF_THE_STEP = (Conflict, Fenced, Unreadable)


class Gate:
    """`store.Store`. ``shared`` None: there is no engine that could be asked. ``failed`` is called
    when the engine has not done what it was asked for, and ``wake`` when it tells of a change; by
    any thread. ``closed`` and ``read_only`` say why it is; empty where it is not."""

    def __init__(
        self,
        shared: EtcdStore | None,
        failed: Callable[[], object],
        wake: Callable[[], object],
    ) -> None:
        self._shared = shared
        self._failed = failed
        self._wake = wake
        self.closed = "the cluster has not been reached yet"
        self.read_only = ""

    @contextlib.contextmanager
    def _asked(self, *, to_write: bool = False) -> Iterator[EtcdStore]:
        why = self.closed or (self.read_only if to_write else "")
        if why or self._shared is None:
            raise Unreachable(errno.EHOSTUNREACH, why)
        try:
            yield self._shared
        except _OF_THE_STEP:
            raise
        except OSError as error:
            self._failed()
            raise Unreachable(errno.EHOSTUNREACH, error.strerror or str(error)) from None

    # Reading

    def list(self, folder: str) -> Names:
        with self._asked() as shared:
            return shared.list(folder)

    def load(self, folder: str) -> dict[str, bytes]:
        with self._asked() as shared:
            return shared.load(folder)

    def previous(self, folder: str) -> dict[str, bytes]:
        with self._asked() as shared:
            return shared.previous(folder)

    def mark(self, folder: str) -> object:
        with self._asked() as shared:
            return shared.mark(folder)

    def watch(self, folder: str, wake: Callable[[], object] | None = None) -> Changes:
        with self._asked() as shared:
            return shared.watch(folder, wake or self._wake)

    # Writing

    def store(self, folder: str, files: Files) -> None:
        with self._asked(to_write=True) as shared:
            shared.store(folder, files)

    def change(self, edits: Sequence[Edit], by: Lock | None = None) -> None:
        with self._asked(to_write=True) as shared:
            shared.change(edits, by)

    def put_for(self, folder: str, file: str, data: bytes, seconds: float) -> None:
        """Store a file that the engine deletes by itself, a while after these seconds."""
        with self._asked(to_write=True) as shared:
            shared.put_for(folder, file, data, seconds)

    def append(self, folder: str, file: str, data: bytes) -> None:
        with self._asked(to_write=True) as shared:
            shared.append(folder, file, data)

    def delete(self, folder: str, file: str | None = None) -> None:
        with self._asked(to_write=True) as shared:
            shared.delete(folder, file)

    def lock(self, folder: str, lease: float) -> Lock | None:
        with self._asked(to_write=True) as shared:
            return shared.lock(folder, lease)

    # Sessions

    def session(self) -> str:
        with self._asked(to_write=True) as shared:
            return shared.session()

    def is_ours(self, mark: str) -> bool:
        return self._shared is not None and self._shared.is_ours(mark)

    def is_over(self, mark: str) -> bool:
        with self._asked() as shared:
            return shared.is_over(mark)

    def tidy(self) -> None:
        """Nothing is left by writers that are interrupted."""

    def close(self) -> None:
        """Leave the engine's store open: `node` has opened it, and closes it."""
