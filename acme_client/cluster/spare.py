"""This machine's own store, with memory for certificates that it does not take.

A disk that is full, or has turned read-only, must not keep a machine from serving what another one
has obtained: that one is renewed, and what is served here would end. So what the disk refuses of a
certificate's folder stays in memory, in the place of what is on the disk, until the disk takes it;
it is tried again at each look. Everything else is refused as the disk refuses it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..certificates.folder_names import FOLDER, known_name
from ..certificates.repository import CHAIN
from ..storage.passing import PassingStore
from ..storage.store import Changes, Files, Names, Store

log = logging.getLogger("treehouse.certifier")


class SpareStore(PassingStore):
    """``disk`` is this machine's own store. Any thread may use it."""

    def __init__(self, disk: Store) -> None:
        super().__init__(disk)
        self._lock = threading.RLock()
        # By folder, what is to be written, in its order.
        self._kept: dict[str, list[dict[str, bytes]]] = {}
        self._news: set[str] = set()  # folders of certificates that have changed in memory

    def unwritten(self) -> list[str]:
        """Name the folders of which the disk has not taken what is in memory."""
        with self._lock:
            return sorted(self._kept)

    def unwritten_certificates(self) -> set[str]:
        """Name the certificates that are in memory only. Waits for no disk: any thread may call."""
        kept = [(_name(folder), list(several)) for folder, several in list(self._kept.items())]
        return {name for name, several in kept if any(CHAIN in one for one in several)}

    # Reading

    def load(self, folder: str) -> dict[str, bytes]:
        with self._lock:
            files = dict(super().load(folder))
            for one in self._kept.get(folder, ()):
                files.update(one)
            return files

    def mark(self, folder: str) -> object:
        with self._lock:
            kept = [sorted(one.items()) for one in self._kept.get(folder, ())]
            return (super().mark(folder), kept) if kept else super().mark(folder)

    def list(self, folder: str) -> Names:
        with self._lock:
            start = f"{folder}/"
            kept = {one.removeprefix(start) for one in self._kept if one.startswith(start)}
            return sorted({*super().list(folder), *kept})

    def watch(self, folder: str, wake: Callable[[], object] | None = None) -> Changes:
        changed = super().watch(folder, wake)
        if folder != FOLDER:
            return changed

        def names() -> set[str]:
            self._try_again()
            with self._lock:
                news, self._news = self._news, set()
                return changed() | news

        return names

    # Writing

    def store(self, folder: str, files: Files) -> None:
        with self._lock:
            self._try_again()
            kept = self._kept.get(folder)
            if kept is None:
                try:
                    super().store(folder, files)
                    return
                except OSError as error:
                    if not _is_certificate(folder):
                        raise
                    log.error(
                        "%s: cannot be written (%s); it is served from memory and lost at the "
                        "next start unless the disk takes it before",
                        _name(folder),
                        error.strerror or error,
                    )
                kept = self._kept[folder] = []
            if kept and kept[-1].keys() == files.keys():
                kept.pop()  # else each record of many attempts would be kept
            kept.append(dict(files))
            self._news.add(folder.rpartition("/")[2])

    def _try_again(self) -> None:
        with self._lock:
            for folder, kept in list(self._kept.items()):
                try:
                    while kept:
                        super().store(folder, kept[0])
                        kept.pop(0)
                except OSError:
                    continue
                del self._kept[folder]
                log.info("%s: the disk has taken it", _name(folder))

    def delete(self, folder: str, file: str | None = None) -> None:
        with self._lock:
            super().delete(folder, file)
            if file is None:
                self._kept.pop(folder, None)
                return
            for one in self._kept.get(folder, ()):
                one.pop(file, None)


def _is_certificate(folder: str) -> bool:
    return folder.startswith(f"{FOLDER}/")


def _name(folder: str) -> str:
    last = folder.rpartition("/")[2]
    return known_name(last) or last
