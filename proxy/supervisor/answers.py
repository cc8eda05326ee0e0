"""Answers to commands: a JSON object, ``{"ok": true, …}`` or ``{"ok": false, "error": WHY}``.

Whatever takes time is given a `Reply` and calls it once, when it is through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Answer = dict[str, Any]
Reply = Callable[[Answer], None]

BUSY: Answer = {
    "ok": False,
    "error": "busy: starting, reloading, upgrading or stopping already",
}


def unheard(_answer: Answer) -> None:
    """For what begins by a signal or by the server itself: its outcome stands in the log."""
