"""Moments as other programs read them: RFC 3339, in UTC and whole seconds. Pure."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import overload


@overload
def timestamp(unix: float) -> str: ...
@overload
def timestamp(unix: float | None) -> str | None: ...
def timestamp(unix: float | None) -> str | None:
    """None, where there is no such moment, stays None."""
    return None if unix is None else _spelled(unix)


def moment(text: str) -> float:
    """Unix seconds of an RFC 3339 timestamp. Raises `ValueError`."""
    return datetime.fromisoformat(text).timestamp()


@functools.lru_cache(maxsize=4096)  # the same few moments, in each report
def _spelled(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
