"""Bounds the attempts of all machines together at one CA: a place is a lock in the shared store.

A CA sees one account, however many machines stand behind it. A place ends with its holder.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from ..certificates.shared_repository import Busy
from ..link import INTERNAL
from ..rate_limits.ledger import folder_of
from ..storage.store import Store, Unreachable

# At one CA; each machine takes at most `link.ATTEMPTS_AT_ONCE` of them.
SLOTS = 8
_LEASE = 1800.0


class Slots:
    def __init__(self, shared: Store) -> None:
        self._shared = shared
        self._last: dict[str, int] = {}

    @contextlib.contextmanager
    def one(self, directory: str) -> Iterator[None]:
        """Hold a place inside. Raises `Busy` where all are taken. While the shared store is
        unreachable no place is needed: few machines order then (`certificates.ranks`)."""
        if directory == INTERNAL:
            yield
            return
        first = self._last.get(directory, 0)
        lock = None
        with contextlib.suppress(Unreachable):
            for number in range(SLOTS):
                slot = (first + number) % SLOTS
                lock = self._shared.lock(f"{folder_of(directory)}/slot-{slot}", _LEASE)
                if lock is not None:
                    self._last[directory] = slot
                    break
            else:
                raise Busy(errno.EBUSY, "so many attempts are under way at this CA")
        try:
            yield
        finally:
            if lock is not None:
                with contextlib.suppress(OSError):  # it ends with the session
                    lock.release()
