"""Collects answers to commands. A name may have two certificates, and a command about the name is
answered once, when both are settled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

Value = dict[str, Any]


class Replies:
    """``answer`` sends the answer for a ticket. Commands without a ticket want none. Parts may come
    from several threads."""

    def __init__(self, answer: Callable[[int, Value], None]) -> None:
        self._answer = answer
        self._parts: dict[int, list[Value]] = {}
        self._expected: dict[int, int] = {}
        self._lock = threading.Lock()

    def expect(self, ticket: int | None, parts: int) -> None:
        """Wait for so many parts of the answer; for one, unless this was called."""
        if ticket is not None and parts > 1:
            self._expected[ticket] = parts
            self._parts[ticket] = []

    def give(self, ticket: int | None, value: Value) -> None:
        if ticket is None:
            return
        with self._lock:
            parts = self._parts.get(ticket)
            if parts is not None:
                parts.append(value)
                if len(parts) < self._expected[ticket]:
                    return
                del self._parts[ticket], self._expected[ticket]
                value = merged(parts)
        self._answer(ticket, value)


def merged(parts: list[Value]) -> Value:
    """Make one answer of several: it is good if all are, and has all their messages."""
    value: Value = {"ok": all(one["ok"] for one in parts)}
    value["error"] = "; ".join(one["error"] for one in parts if one.get("error")) or None
    messages = dict.fromkeys(one["message"] for one in parts if one.get("message"))
    if messages:
        value["message"] = "; ".join(messages)
    return value
