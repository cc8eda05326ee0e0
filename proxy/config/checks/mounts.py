"""Finds where a directory lies in its own file system, whatever it is mounted as.

Walking up from a directory meets the directories above it by the names of today's mounts. A
directory that is mounted in two places (mount --bind, the volumes of containers) has other
directories above it in each, and is still the same directory. The kernel tells of every mount which
directory of which file system it shows; with that, a directory has one position, and one lies in
another if its position does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from acme_client.late_dataclass import dataclass

from .real_paths import RealPaths

_TABLE = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Position:
    device: str  # of the file system, as the kernel numbers it
    path: str  # from its own root

    def lies_in(self, other: Position) -> bool:
        if self.device != other.device:
            return False
        return self.path == other.path or self.path.startswith(other.path.rstrip("/") + "/")


@dataclass(frozen=True, slots=True)
class _Mount:
    shown: Position
    point: str


class Mounts:
    """``table``: what /proc/self/mountinfo says (proc_pid_mountinfo(5)); unreadable, nothing is
    known."""

    def __init__(self, table: str | None = None) -> None:
        if table is None:
            try:
                table = _TABLE.read_text(errors="surrogateescape")
            except OSError:
                table = ""
        self._real = RealPaths()
        # A later one on the same point hides the earlier.
        self._positions: dict[str, Position | None] = {
            mount.point: mount.shown for mount in _parsed(table)
        }

    def position(self, path: Path) -> Position | None:
        """Return the position of a directory, which need not exist yet."""
        return self._position(self._real.of(path))

    def _position(self, real: str) -> Position | None:
        if real in self._positions:
            return self._positions[real]
        above, name = os.path.split(real)
        at = self._position(above) if name else None
        found = None if at is None else Position(at.device, f"{at.path.rstrip('/')}/{name}")
        self._positions[real] = found
        return found


def _parsed(table: str) -> Iterator[_Mount]:
    for line in table.splitlines():
        words = line.split(" ")
        if len(words) >= 5:
            yield _Mount(Position(words[2], _path(words[3])), _path(words[4]))


def _path(word: str) -> str:
    """Decode a path: space, tab, newline and backslash stand in the table in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)
