"""Finds where a directory lies in its own file system, whatever it is mounted as.

Walking up from a directory meets the directories above it by the names of today's mounts. A
directory that is mounted in two places (mount --bind, the volumes of containers) has other
directories above it in each, and is still the same directory. The kernel tells of every mount which
directory of which file system it shows; with that, a directory has one position, and one lies in
another if its position does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from acme_client.late_dataclass import dataclass

from .real_paths import RealPaths

_TABLE = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Position:
    device: str  # of the file system, as the kernel numbers it
    path: PurePosixPath  # from its own root

    def lies_in(self, other: Position) -> bool:
        return self.device == other.device and self.path.is_relative_to(other.path)


@dataclass(frozen=True, slots=True)
class _Mount:
    device: str
    shown: PurePosixPath
    point: PurePosixPath


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
        self._positions: dict[str, Position | None] = {}
        # A later one on the same point hides the earlier.
        self._mounts = {mount.point: mount for mount in _parsed(table)}

    def position(self, path: Path) -> Position | None:
        """Return the position of a directory, which need not exist yet."""
        text = self._real.of(path)
        if text not in self._positions:
            self._positions[text] = self._position(PurePosixPath(text))
        return self._positions[text]

    def _position(self, real: PurePosixPath) -> Position | None:
        for above in (real, *real.parents):
            found = self._mounts.get(above)
            if found is not None:
                return Position(found.device, found.shown / real.relative_to(above))
        return None


def _parsed(table: str) -> Iterator[_Mount]:
    for line in table.splitlines():
        words = line.split(" ")
        if len(words) >= 5:
            yield _Mount(words[2], _path(words[3]), _path(words[4]))


def _path(word: str) -> PurePosixPath:
    """Decode a path: space, tab, newline and backslash stand in the table in octal."""
    return PurePosixPath(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word))
