"""Certificates that are loaded and served many at a time: at a start there are thousands.

Each would wait for an answer of its own from all workers. So those that wait are sent together, as
many as have come; and those that are loaded are handed on some at a time, so that they are served
while the others are loaded.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator

from ..link import PUBLISHED_TOGETHER, LinkBroken
from .executors import Executors
from .keeper import CertificateKeeper
from .tasks import Finished, Run

log = logging.getLogger("treehouse.certifier")


class Batches:
    """``load`` and ``serve`` are called by one thread. ``happened`` takes what is done, and is
    called by the executors' threads; ``stopping`` ends their work."""

    def __init__(
        self,
        keeper: CertificateKeeper,
        executors: Executors,
        stopping: threading.Event,
        happened: Callable[..., None],
    ) -> None:
        self._keeper = keeper
        self._executors = executors
        self._stopping = stopping
        self._happened = happened
        self._to_load: deque[Run] = deque()
        self._to_serve: deque[Run] = deque()

    def load(self, run: Run) -> None:
        """Have the certificate loaded from the store."""
        self._to_load.append(run)
        if len(self._to_load) == 1:
            self._executors.store(self._load_all)

    def serve(self, run: Run) -> None:
        """Have the certificate served by all workers."""
        self._to_serve.append(run)
        if len(self._to_serve) == 1:
            self._executors.publish(self._serve_all)

    # In the executors' threads

    def _load_all(self) -> None:
        while not self._stopping.is_set() and (runs := _some(self._to_load)):
            for run in runs:
                with _faults_logged(run.managed.name):
                    self._keeper.load(run.managed)
            self._happened(*map(Finished, runs))

    def _serve_all(self) -> None:
        while not self._stopping.is_set() and (runs := _some(self._to_serve)):
            with _faults_logged(runs[0].managed.name):
                self._keeper.serve_again([run.managed for run in runs])
                for run in runs:
                    self._keeper.report(run.managed)
            self._happened(*map(Finished, runs))


def _some(waiting: deque[Run]) -> list[Run]:
    """Take out of the queue as many certificates as are served together."""
    runs: list[Run] = []
    with contextlib.suppress(IndexError):  # another thread has taken the last
        while len(runs) < PUBLISHED_TOGETHER:
            runs.append(waiting.popleft())
    return runs


@contextlib.contextmanager
def _faults_logged(name: str) -> Iterator[None]:
    """Log whatever goes wrong with this certificate, or with those that are served with it: no
    fault of ours may keep the others from being loaded and served."""
    try:
        yield
    except LinkBroken:
        log.debug("%s: the supervisor is gone", name)  # the main thread ends by it
    except Exception:
        log.exception("%s: a fault in the certifier itself", name)
