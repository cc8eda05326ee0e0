"""What a folder holds, for people and programs: `listing`.

A listing names what a request would be sent, and nothing else. Each name is looked for as a request
would look for it, and left out where that finds no file and no folder that can be entered: hidden
names, what the server's user may not read, links that lead out of the root or to nothing, pipes and
devices, private keys, names that no path can spell.

That takes some system calls for each name, and reads the beginning of files that are new, so it is
done in a thread, and what was found is good for a second.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote

from ...bounded_cache import remember
from ...errors import Fault
from ...protocol.paths import understood
from .document_root import Directory, DocumentRoot, Found
from .file_cache import Identity, holds_private_key, identity

Sort = Literal["name", "size", "time"]
Order = Literal["asc", "desc"]
_SORTS: dict[str, Sort] = {"name": "name", "size": "size", "time": "time"}

# Names of one folder that are listed; a page of more is of no use to anybody.
MOST = 10_000
_TRUSTED = 1.0  # seconds
_MOST_FOLDERS = 64
_MOST_FILES = 65_536


@dataclass(frozen=True, slots=True)
class Entry:
    """``size`` in bytes, 0 of a folder; ``modified`` in Unix seconds; ``reference``: the URL of the
    entry, relative to its folder."""

    name: str
    reference: str
    folder: bool
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Folder:
    """``entries`` in no order; ``cut``: there are more."""

    entries: tuple[Entry, ...]
    cut: bool
    looked_at: float


@dataclass(slots=True)
class Listings:
    """What the folders of a document root hold. Used in a thread."""

    root: DocumentRoot
    _folders: dict[bytes, Folder] = field(default_factory=dict)
    _keys: dict[Identity, bool] = field(default_factory=dict)  # whether a file holds a private key

    def of(self, path: bytes, now: float) -> Folder:
        """What the folder at ``path`` (below the root, with a slash at its end, or empty) holds;
        ``now`` is monotonic. Raises `Fault` ("unreadable")."""
        known = self._folders.get(path)
        if known is not None and now - known.looked_at < _TRUSTED:
            return known
        try:
            names = self.root.names(path, MOST + 1)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise Fault("unreadable", self.root.denied(path)) from None
            raise Fault(
                "unreadable", f"{self.root.name(path)} cannot be listed: {error.strerror}"
            ) from None
        found = (self._entry(path, name) for name in names[:MOST])
        made = Folder(tuple(one for one in found if one is not None), len(names) > MOST, now)
        remember(self._folders, path, made, _MOST_FOLDERS)
        return made

    def _entry(self, folder: bytes, name: bytes) -> Entry | None:
        """What is called so; None where nothing would be sent."""
        path = folder + name
        reference = quote(name, safe="!$&'()*+,;=@-._~")
        try:
            if understood(f"/{reference}".encode()) != b"/" + name:
                return None
            found = self.root.find(path)
        except (Fault, OSError):
            return None
        shown = name.decode("utf-8", "replace")
        if isinstance(found, Directory):
            if not self.root.may_list(path):
                return None
            return Entry(shown, reference + "/", True, 0, self._modified(path))
        if not isinstance(found, Found):
            return None
        try:
            if self._is_key(found):
                return None
        except OSError:
            return None
        finally:
            os.close(found.fd)
        return Entry(shown, reference, False, found.status.st_size, int(found.status.st_mtime))

    def _modified(self, path: bytes) -> int:
        try:
            return int(os.stat(self.root.name(path)).st_mtime)
        except OSError:
            return 0

    def _is_key(self, found: Found) -> bool:
        mark = identity(found.status)
        known = self._keys.get(mark)
        if known is None:
            known = holds_private_key(found)
            remember(self._keys, mark, known, _MOST_FILES)
        return known


def wanted(query: bytes, usual: Sort) -> tuple[Sort, Order]:
    """The order that a query asks for: ``sort=name|size|time`` and ``order=asc|desc``."""
    asked = dict(parse_qsl(query.decode("latin-1")))
    sort = _SORTS.get(asked.get("sort", ""), usual)
    return sort, "desc" if asked.get("order") == "desc" else "asc"


def in_order(folder: Folder, sort: Sort, order: Order) -> list[Entry]:
    """The entries of a folder: folders first, each kind in the order."""
    entries = sorted(folder.entries, key=lambda one: (one.name.casefold(), one.name))
    if sort == "size":
        entries.sort(key=lambda one: one.size, reverse=order == "desc")
    elif sort == "time":
        entries.sort(key=lambda one: one.modified, reverse=order == "desc")
    elif order == "desc":
        entries.reverse()
    return sorted(entries, key=lambda one: not one.folder)
