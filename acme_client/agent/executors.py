"""The certifier's threads: a few for each CA, so that one that hangs keeps nobody waiting who is
certified by another; one for the store; a few for telling the workers.

At a CA only so many attempts are under way at a time, which the scheduler sees to; beside them one
question (when to renew, a revocation) is asked at a time, and the others wait. The store has one
thread, so that what was asked of it first is done first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from ..link import PUBLISHED_AT_ONCE, LinkBroken, attempts_at_once

log = logging.getLogger("treehouse.certifier")

Work = Callable[[], None]


class Executors:
    """For one thread, which gives out the work. CAs go by their directory. ``now`` is monotonic."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._under_way: set[Future[None]] = set()
        self._begun: dict[object, float] = {}  # of what is being worked at

    def attempt(self, directory: str, work: Work) -> None:
        self._submit(f"attempt {directory}", attempts_at_once(directory), work)

    def ask(self, directory: str, work: Work) -> None:
        """After what was asked of this CA before."""
        self._submit(f"ask {directory}", 1, work)

    def store(self, work: Work) -> None:
        """After what was asked of the store before."""
        self._submit("store", 1, work)

    def publish(self, work: Work) -> None:
        self._submit("publish", PUBLISHED_AT_ONCE, work)

    def _submit(self, name: str, threads: int, work: Work) -> None:
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = ThreadPoolExecutor(threads, name)
        future = pool.submit(self._timed, work)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)

    def _timed(self, work: Work) -> None:
        begun = object()  # the same work may be under way twice
        self._begun[begun] = self._now()
        try:
            work()
        except LinkBroken:
            log.debug("the supervisor is gone")  # the main thread ends by it
        except Exception:
            log.exception("a fault in the certifier itself")
        finally:
            del self._begun[begun]

    @property
    def busy(self) -> bool:
        """Whether any work is under way, or waits for a thread."""
        return bool(self._under_way)

    def longest(self) -> float:
        """Age in seconds of the longest-running task."""
        now = self._now()
        return max((now - begun for begun in list(self._begun.values())), default=0.0)

    def close(self) -> None:
        """Nothing new begins."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def ended(self, within: float, meanwhile: Callable[[], object]) -> bool:
        """Whether all work has come to its end in that many seconds; ``meanwhile`` is done again
        and again."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if not self._under_way:
                return True
            meanwhile()
        return False
