"""Real paths of many files that lie side by side, with one look at each directory above them.

Ten thousand document roots have a few directories above them all; `os.path.realpath` looks at each
of these for each root. What is remembered holds for one reading of a configuration.
"""

from __future__ import annotations

import os


class RealPaths:
    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, path: str | os.PathLike[str]) -> str:
        """What `os.path.realpath` says."""
        given = os.fspath(path)
        known = self._known.get(given)
        if known is None:
            text = given if os.pardir in given else os.path.abspath(given)
            known = self._known[given] = self._known[text] = self._found(text)
        return known

    def _found(self, text: str) -> str:
        above, name = os.path.split(text)
        if not name or os.path.islink(text) or os.pardir in text:
            return os.path.realpath(text)
        return os.path.join(self.of(above), name)
