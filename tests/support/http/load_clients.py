"""Clients that come and ask all the while, whatever a test does to the server meanwhile.

    with Visitors(connect, page("/", "a.test", b"hello"), upload) as visitors:
        visitors.await_rounds(50)
    assert visitors.failures == []

Each has one connection after the other, and keeps it for as long as the server does. An end that no
answer has announced is a failure.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from .client import Talk

_WITHIN = 60.0  # seconds until a test that waits has failed
_ENDS_WITHIN = 60.0

_Talk = TypeVar("_Talk", bound=AbstractContextManager[Any])
# One round on a connection; whether that was the last. What is not as it should be is raised.
Step = Callable[[Talk], bool]
# Who judges a failure: the step's name, the error, and when the connection was last known to be well.
Judge = Callable[[str, Exception, float], None]


class Visitors(Generic[_Talk]):
    """One for each of ``steps``. ``rounds``: of a connection, at the most. ``judge`` takes failures,
    and their visitor goes on; without one they are in ``failures``, and each ends its visitor.
    ``pause``: seconds after each round, for tests that want somebody to come all the while and not as
    often as a processor can."""

    def __init__(
        self,
        connect: Callable[[], _Talk],
        *steps: Callable[[_Talk], bool],
        rounds: int | None = None,
        judge: Judge | None = None,
        pause: float = 0.0,
    ) -> None:
        self.failures: list[str] = []
        self.done: collections.Counter[str] = collections.Counter()
        self._names = {step.__name__ for step in steps}
        self._connect = connect
        self._rounds = rounds
        self._judge = judge
        self._pause = pause
        self._news = threading.Condition()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._live, args=(step,)) for step in steps]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(_ENDS_WITHIN)

    def await_rounds(self, count: int) -> None:
        """So many more of all together, and none failed."""
        wanted = self.done.total() + count
        self._until(lambda: self.done.total() >= wanted)

    def await_each(self) -> None:
        """One more of each kind, and none failed."""
        before = self.done.copy()
        self._until(lambda: all(self.done[name] > before[name] for name in self._names))

    def _until(self, happened: Callable[[], bool]) -> None:
        with self._news:
            if not self._news.wait_for(lambda: happened() or bool(self.failures), _WITHIN):
                raise AssertionError(f"{self.done} after {_WITHIN} s")
        assert self.failures == []

    def _live(self, step: Callable[[_Talk], bool]) -> None:
        name = step.__name__
        while not self._over.is_set():
            well = time.monotonic()
            try:
                with self._connect() as talk:
                    rounds, last = 0, False
                    while not last and rounds != self._rounds and not self._over.is_set():
                        last = step(talk)
                        well = time.monotonic()
                        rounds += 1
                        with self._news:
                            self.done[name] += 1
                            self._news.notify_all()
                        if self._pause:
                            self._over.wait(self._pause)
            except Exception as error:
                if self._judge is not None:
                    self._judge(name, error, well)
                    continue
                with self._news:
                    self.failures.append(f"{name}: {error!r}")
                    self._news.notify_all()
                return


def page(target: str, host: str, body: bytes) -> Step:
    """Ask for it, and get exactly this."""

    def page(talk: Talk) -> bool:
        answer = talk.asks(target, host)
        assert (answer.status, answer.body) == (200, body), answer.head
        return answer.get("connection") == "close"

    return page
