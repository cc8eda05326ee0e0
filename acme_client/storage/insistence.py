"""Makes a step in a store that is elsewhere again, while the store does not answer.

For steps in the middle of something that should not fail because of a moment: an engine whose
leader has gone has another one within two seconds. Whether a step without an answer has been made
is not known; so it must bear to be made twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .store import Unreachable

T = TypeVar("T")

PAUSES = (0.2, 0.5, 1.0, 2.0)


def insist(step: Callable[[], T]) -> T:
    """Return what the step returns. Raises `Unreachable`, and what the step raises."""
    for pause in PAUSES:
        try:
            return step()
        except Unreachable:
            time.sleep(pause)  # nobody tells when the store can be reached
    return step()
