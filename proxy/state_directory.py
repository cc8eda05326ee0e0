"""Signatures; the work follows."""

from __future__ import annotations

from pathlib import Path


class StateUnusable(Exception):
    """The text says what is wrong and which command mends it."""


def prepare(path: Path, uid: int, gid: int) -> list[str]:
    raise NotImplementedError
