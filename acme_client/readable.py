"""Waits until descriptors can be read, whatever their numbers.

`select.select` refuses numbers from 1024 on, and a server of many sites has them. `poll` does not.
"""

from __future__ import annotations

import math
import select
from collections.abc import Sequence
from typing import Protocol, TypeVar


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


_Waited = TypeVar("_Waited", bound="int | _HasFileno")


def readable(waited: Sequence[_Waited], within: float) -> list[_Waited]:
    """Wait at most ``within`` seconds for any of ``waited``, descriptors or objects that have one;
    return those that can be read without waiting, or have ended. None when the time is over."""
    numbers = [one if isinstance(one, int) else one.fileno() for one in waited]
    poll = select.poll()
    for number in numbers:
        poll.register(number, select.POLLIN)
    ready = {number for number, _events in poll.poll(_milliseconds(within))}
    return [one for one, number in zip(waited, numbers, strict=True) if number in ready]


def _milliseconds(seconds: float) -> int:
    """As many as poll(2) takes, and none too few."""
    return math.ceil(min(max(seconds, 0.0), 1e6) * 1000)
