"""How the files of a folder lie under keys.

A file that was stored alone has a key of its own. Files that were stored together are one document
under one key, because they change together, and what was there before that is under another. Pure.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from ..store import Files

TOGETHER, BEFORE = ":together", ":before"


class Folder(NamedTuple):
    """The keys of one folder: sealed values by the last part of a key, and their revisions."""

    values: dict[str, bytes]
    revisions: dict[str, int]
    at: int = 0  # the store's revision when it was read

    @property
    def mark(self) -> object:
        return tuple(sorted(self.revisions.items()))


def is_alone(last: str) -> bool:
    """Whether the last part of a key is the name of a file that was stored alone."""
    return "/" not in last and not last.startswith(":")


def joined(files: Files) -> bytes:
    """Encode files in one document: a line with their lengths, and then their contents."""
    head = json.dumps({name: len(data) for name, data in files.items()})
    return head.encode() + b"\n" + b"".join(files.values())


def parted(data: bytes) -> dict[str, bytes]:
    """Decode such a document. Raises ValueError, KeyError, TypeError or AttributeError."""
    head, _newline, rest = data.partition(b"\n")
    files = {}
    for name, length in json.loads(head).items():
        files[str(name)], rest = rest[:length], rest[length:]
    return files
