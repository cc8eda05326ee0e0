"""Two threads for what takes longer with files than the event loop may wait: hashing, listing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ...errors import Fault

_Made = TypeVar("_Made")

_AT_ONCE = 2  # per worker
_MOST_WAITING = 256

_pool: ThreadPoolExecutor | None = None
_under_way: dict[Hashable, asyncio.Future[Any]] = {}


def in_thread(
    key: Hashable, work: Callable[[], _Made], unused: Callable[[], None] | None = None
) -> Awaitable[_Made]:
    """What ``work`` returns, which runs in a thread. Whoever asks for the same ``key`` meanwhile
    waits for the same work. ``unused`` is called where ``work`` will not run. Raises `Fault`
    ("no_capacity") when too much is under way."""
    global _pool
    running = _under_way.get(key)
    if running is not None:
        if unused is not None:
            unused()
    else:
        if len(_under_way) >= _MOST_WAITING:
            if unused is not None:
                unused()
            raise Fault("no_capacity", f"{_MOST_WAITING} files and folders are looked at already")
        if _pool is None:
            _pool = ThreadPoolExecutor(_AT_ONCE, "files")
        running = asyncio.get_running_loop().run_in_executor(_pool, work)
        _under_way[key] = running
        running.add_done_callback(lambda _done: _under_way.pop(key, None))
    return asyncio.shield(running)  # a client that leaves ends nobody else's work
