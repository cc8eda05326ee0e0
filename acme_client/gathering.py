"""Work that threads share: one does for all who have come what each would have to wait for alone.

While the work for a group is under way, those who come gather, and theirs is done in one go as soon
as there is room. So who comes alone waits for nobody, and a hundred who come at once wait about as
long as a few.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class _Place(Generic[Item]):
    """A thread with its item. ``turn`` is set when its item is done, or when it is to do the work
    for ``group``; None where it never waits."""

    __slots__ = ("error", "group", "item", "turn")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.turn: threading.Event | None = None
        self.group: list[_Place[Item]] = []
        self.error: BaseException | None = None


class Gathering(Generic[Item]):
    """``work`` is done with the items of a group, ``most`` of them, in the thread of one of those
    who wait; for ``at_once`` groups at the same time."""

    def __init__(
        self, work: Callable[[list[Item]], None], *, most: int = 1024, at_once: int = 1
    ) -> None:
        self._work = work
        self._most = most
        self._lock = threading.Lock()
        self._room = at_once
        self._waiting: deque[_Place[Item]] = deque()

    def do(self, item: Item) -> None:
        """Return when the work has been done with this item among others. Raises what it raises, in
        the thread of everybody who belongs to the group."""
        mine = _Place(item)
        with self._lock:
            if self._room:
                self._room -= 1
                mine.group = [mine]
            else:
                mine.turn = threading.Event()
                self._waiting.append(mine)
        if mine.turn is not None:
            mine.turn.wait()
        if mine.group:
            self._lead(mine.group)
        if mine.error is not None:
            raise mine.error

    def _lead(self, group: list[_Place[Item]]) -> None:
        error: BaseException | None = None
        try:
            self._work([one.item for one in group])
        except BaseException as problem:
            error = problem
        following: _Place[Item] | None = None
        with self._lock:
            if self._waiting:
                following = self._waiting[0]
                count = min(self._most, len(self._waiting))
                following.group = [self._waiting.popleft() for _ in range(count)]
            else:
                self._room += 1
        if following is not None and following.turn is not None:
            following.turn.set()
        for one in group:
            one.error = error
            if one.turn is not None:
                one.turn.set()
