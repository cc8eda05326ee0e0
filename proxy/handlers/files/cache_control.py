"""Which Cache-Control a file has, by its name: `cache_control`. Pure.

A pattern without a slash is for the name of the file, one with a slash for its path below the root.
The first that fits decides. A file that is said to be ``immutable`` has an entity tag of its
content, so that every server, and every release that did not change it, says the same.
"""

from __future__ import annotations

import os
import re
from fnmatch import translate

Rule = tuple[re.Pattern[str], bool, bytes]


class CacheControl:
    """``pairs``: patterns with commas between them, and the value of the field."""

    def __init__(self, pairs: tuple[tuple[str, str], ...] = ()) -> None:
        self._rules: list[Rule] = [
            (re.compile(translate(glob)), "/" in glob, value.encode("ascii"))
            for globs, value in pairs
            for glob in globs.split(",")
        ]

    def of(self, path: bytes) -> bytes:
        """The value for a file at ``path`` below the root; b"" where no pattern fits."""
        if not self._rules:
            return b""
        whole = "/" + os.fsdecode(path)
        name = whole.rpartition("/")[2]
        for pattern, is_path, value in self._rules:
            if pattern.match(whole if is_path else name):
                return value
        return b""


def is_immutable(value: bytes) -> bool:
    """Whether a Cache-Control promises that the content never changes (RFC 8246)."""
    return b"immutable" in [one.strip().lower() for one in value.split(b",")]
