"""What is wrong with a configuration, where, and what to do about it.

Nothing here stops at the first fault: every stage hands its faults on, and `ConfigurationFaults`
carries all of them together, so that a person mends a file in one go. A line reads

    FILE:LINE:COL: KEY.PATH: what is wrong (what to do)

and names a flag or an entry of the sites directory where there is no line to name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from acme_client.late_dataclass import dataclass

Path = tuple[str | int, ...]  # sites → 0 → names: the way from the root of the document to a value


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: a file with line and column (from 1), or a flag or path alone."""

    where: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.where}:{self.line}:{self.column}" if self.line else self.where


class Mark(Protocol):
    """Where a reader of text has met something: line and column, from 0."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Fault:
    origin: Origin
    key: str  # the key's path as people write it, sites[0].names[1]; "" where there is none
    what: str
    remedy: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return one_line(f"{self.origin}: {key}{self.what} ({self.remedy})")


class ConfigurationFaults(Exception):
    """All that is wrong, in the order of the file; ``str()`` is one line for each. ``notices``
    are what else should be known."""

    def __init__(self, faults: Iterable[Fault], notices: Iterable[Fault] = ()) -> None:
        self.notices = tuple(sorted(set(notices), key=_position))
        self.faults = tuple(sorted(set(faults), key=_position))
        super().__init__("\n".join(map(str, self.faults)))

    def __reduce__(self) -> tuple[type[ConfigurationFaults], tuple[object, ...]]:
        return ConfigurationFaults, (self.faults, self.notices)


class Wrong(ValueError):
    """A single value that cannot be used. Its place is known to the reader of the document only."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} ({remedy})")
        self.what = what
        self.remedy = remedy


class Origins:
    """The origin of each key and each value of a document, by path.

    A value that was not written where it stands (a default, a single word where a list belongs)
    has the origin of the nearest thing around it that was.
    """

    def __init__(self, document: Origin) -> None:
        self._file = document.where
        self._values: dict[Path, Origin | Mark] = {(): document}
        self._keys: dict[Path, Origin | Mark] = {}
        self._old_names: dict[Path, str] = {}  # of keys that have another name by now

    def put(self, path: Path, value: Origin, key: Origin | None = None) -> None:
        self._values[path] = value
        if key is not None:
            self._keys[path] = key

    def stands(self, path: Path) -> bool:
        """Whether there is such a key in the source, be it without a value."""
        return path in self._keys

    def put_mark(self, path: Path, value: Mark, key: Mark | None) -> None:
        """The same for a place in the document's own file. Few of these are ever asked for."""
        self._values[path] = value
        if key is not None:
            self._keys[path] = key

    def _origin(self, found: Origin | Mark) -> Origin:
        if isinstance(found, Origin):
            return found
        return Origin(self._file, found.line + 1, found.column + 1)

    def written(self, path: Path) -> Path:
        """Return the longest beginning of ``path`` that stands in the source. The only element of a
        list may stand there without the list."""
        found = path
        while found not in self._values:
            found = found[:-1]
        rest = path[len(found) :]
        if len(rest) > 1 and rest[0] == 0:
            return self.written((*found, *rest[1:]))
        return found

    def adopt(self, other: Origins, source: Path, target: Path) -> None:
        """Take over what ``other`` knows of ``source`` and all below it, as of ``target``."""
        depth = len(source)
        found: list[tuple[dict[Path, Origin | Mark], Path, Origin]] = []
        for mine, theirs in ((self._values, other._values), (self._keys, other._keys)):
            for path, origin in theirs.items():
                if path[:depth] == source:
                    found.append((mine, target + path[depth:], other._origin(origin)))
        for mine, path, origin in found:
            mine[path] = origin

    def rename(self, path: Path, name: str) -> Path:
        """Give the key at ``path`` its present name; faults still name it as it was written."""
        present = (*path[:-1], name)
        self.adopt(self, path, present)
        self._old_names[present] = str(path[-1])
        return present

    def of_key(self, path: Path) -> Origin:
        """Return where the key at ``path`` was written; else as `at`."""
        found = self._keys.get(path)
        return self.at(path) if found is None else self._origin(found)

    def spelled_of_key(self, path: Path) -> str:
        """Return `of_key` as text."""
        found = self._keys.get(path)
        if found is None:
            return str(self.at(path))
        if isinstance(found, Origin):
            return str(found)
        return f"{self._file}:{found.line + 1}:{found.column + 1}"

    def at(self, path: Path) -> Origin:
        return self._origin(self._values[self.written(path)])

    def fault(self, path: Path, what: str, remedy: str) -> Fault:
        """Make a fault of the value at ``path``."""
        found = self.written(path)
        return self._make(self._origin(self._values[found]), found, what, remedy)

    def fault_of_key(self, path: Path, what: str, remedy: str) -> Fault:
        """Make a fault of the key itself: it should not be there, or be there and is not."""
        return self._make(self.of_key(path), path, what, remedy)

    def _make(self, origin: Origin, path: Path, what: str, remedy: str) -> Fault:
        for length in range(1, len(path) + 1) if self._old_names else ():
            old = self._old_names.get(path[:length])
            if old is not None:
                path = (*path[: length - 1], old, *path[length:])
        return Fault(origin, spell(path) if origin.line else "", what, remedy)


def spell(path: Path) -> str:
    """Spell a path as people write it.

    >>> spell(("sites", 0, "names"))
    'sites[0].names'
    """
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


# Share of common letters. Below the first, a guess misleads more often than it helps (auth and
# health have 0.6); from the second on, two words differ by a slip of the finger.
_ALIKE, _SLIP = 0.72, 0.87


def nearest(word: str, known: Sequence[str]) -> str:
    """Say what to do about a word that is not one of ``known``."""
    small = word.lower()
    from difflib import get_close_matches  # only for faults

    close = get_close_matches(small, known, n=1, cutoff=_ALIKE)
    if not close and len(small) > 1:
        close = [one for one in known if one.startswith(small) or (len(one) > 2 and one in small)]
    if 0 < len(close) <= 3:
        return f"did you mean {' or '.join(close)}?"
    return f"known here: {', '.join(known)}"


def slip_of(word: str, known: Sequence[str]) -> str | None:
    """Return the one of ``known`` that ``word`` is a misspelling of, if there is one."""
    from difflib import get_close_matches

    close = get_close_matches(word.lower().replace("-", "_"), known, n=1, cutoff=_SLIP)
    return close[0] if close else None


def one_line(text: str) -> str:
    """Spell whatever could break or colour a line of output as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(value: object) -> str:
    """Spell a value inside a message: quoted, on one line, of bounded length."""
    text = one_line(value if isinstance(value, str) else repr(value))
    return f'"{text}"' if len(text) <= 80 else f'"{text[:77]}..."'


def _position(fault: Fault) -> tuple[bool, str, int, int, str, str]:
    origin = fault.origin
    in_file = not origin.where.startswith("--")
    return in_file, origin.where, origin.line, origin.column, fault.key, fault.what
