"""Text for people and for logs: moments, lengths of time, signals, and what others have written.

Pure.
"""

from __future__ import annotations

import functools
import signal
from datetime import UTC, datetime
from typing import overload


@overload
def timestamp(unix: float) -> str: ...
@overload
def timestamp(unix: float | None) -> str | None: ...
def timestamp(unix: float | None) -> str | None:
    """A moment as other programs read it: RFC 3339, in UTC and whole seconds. None, where there is
    no such moment, stays None."""
    return None if unix is None else _timestamp(unix)


def moment(text: str) -> float:
    """Unix seconds of an RFC 3339 timestamp. Raises `ValueError`."""
    return datetime.fromisoformat(text).timestamp()


@functools.lru_cache(maxsize=4096)  # the same few moments, in each report
def _timestamp(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def spell(seconds: float) -> str:
    """A length of time, about: its largest unit that leaves more than one."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{round(seconds / unit)} {name}"
    return f"{round(seconds)} seconds"


def spell_exactly(seconds: float) -> str:
    """A length of time that somebody has chosen: "7 days", "an hour", "90 minutes"."""
    if seconds >= 86400:
        return f"{seconds / 86400:g} days"
    if seconds > 3600:
        return f"{seconds / 3600:g} hours"
    return "an hour" if seconds == 3600 else f"{seconds / 60:g} minutes"


def printable(text: str) -> str:
    """Make text of others fit for a line of ours. A CA's words, a script's output, other programs'
    files and anybody's names end no line, begin no header field and command no terminal."""
    return "".join(one if one.isprintable() else " " for one in text)


def signal_name(number: int) -> str:
    """The name of a signal, for the line that says how a process ended."""
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"
