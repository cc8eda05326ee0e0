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
import stat
from collections.abc import Callable
from dataclasses import field
from itertools import islice
from typing import Literal
from urllib.parse import parse_qsl, quote

from acme_client.late_dataclass import dataclass

from ...bounded_cache import remember
from ...errors import Fault
from ...protocol.paths import understood
from .document_root import Directory, DocumentRoot, Found, hidden
from .file_cache import Identity, holds_private_key, identity

Sort = Literal["name", "size", "time"]
Order = Literal["asc", "desc"]
_SORTS: dict[str, Sort] = {"name": "name", "size": "size", "time": "time"}

# Names of one folder that are listed; a page of more is of no use to anybody.
MOST = 10_000
TRUSTED = 1.0  # how long what was found is believed; seconds
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
    """What the folders of a document root hold. Used in a thread. ``answers``: whether the file at
    a path answers a request for it; without, that is what this module finds itself."""

    root: DocumentRoot
    answers: Callable[[bytes], bool] | None = None
    _folders: dict[bytes, Folder] = field(default_factory=dict)
    _keys: dict[Identity, bool] = field(default_factory=dict)  # whether a file holds a private key

    def of(self, path: bytes, now: float) -> Folder:
        """What the folder at ``path`` (below the root, with a slash at its end, or empty) holds;
        ``now`` is monotonic. Raises `Fault` ("unreadable")."""
        known = self._folders.get(path)
        if known is not None and now - known.looked_at < TRUSTED:
            return known
        try:
            folder = self.root.open_folder(path)
        except PermissionError:
            raise Fault("unreadable", self.root.denied(path)) from None
        except OSError as error:
            detail = f"{self.root.name(path)} cannot be listed: {error.strerror}"
            raise Fault("unreadable", detail) from None
        try:
            with os.scandir(folder) as entries:
                seen = (os.fsencode(one.name) for one in entries)
                names = list(islice((name for name in seen if not hidden(name)), MOST + 1))
            found = [self._entry(path, folder, name) for name in names[:MOST]]
        finally:
            os.close(folder)
        shown = tuple(one for one in found if one is not None)
        made = Folder(shown, len(names) > MOST, now)
        remember(self._folders, path, made, _MOST_FOLDERS)
        return made

    def _entry(self, path: bytes, folder: int, name: bytes) -> Entry | None:
        """What is called so in a folder; None where nothing would be sent."""
        reference = quote(name, safe="!$&'()*+,;=@-._~")
        if "%" in reference and not _reads_as(reference, name):
            return None
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return self._behind_link(path + name, name, reference)
            if stat.S_ISDIR(status.st_mode):
                wanted, is_folder = os.R_OK | os.X_OK, True
            elif stat.S_ISREG(status.st_mode):
                wanted, is_folder = os.R_OK, False
            else:
                return None
            if not os.access(name, wanted, dir_fd=folder, effective_ids=True):
                return None
            if not is_folder and not self._is_answered(path + name, status):
                return None
        except OSError:
            return None
        return _made(name, reference, is_folder, status)

    def _behind_link(self, path: bytes, name: bytes, reference: str) -> Entry | None:
        found = self.root.find(path)
        if isinstance(found, Directory):
            if not self.root.may_list(path):
                return None
            return _made(name, reference, True, os.stat(self.root.name(path)))
        if not isinstance(found, Found):
            return None
        os.close(found.fd)
        if not self._is_answered(path, found.status):
            return None
        return _made(name, reference, False, found.status)

    def _is_answered(self, path: bytes, status: os.stat_result) -> bool:
        """Whether the file at ``path`` is what a request for it gets. Raises OSError."""
        if self.answers is not None and not self.answers(path):
            return False
        return not self._is_key(path, status)

    def _is_key(self, path: bytes, status: os.stat_result) -> bool:
        """Whether a file holds a private key, or cannot be looked into."""
        mark = identity(status)
        known = self._keys.get(mark)
        if known is None:
            found = self.root.find(path)
            if not isinstance(found, Found):
                return True
            try:
                known = holds_private_key(found)
            finally:
                os.close(found.fd)
            remember(self._keys, mark, known, _MOST_FILES)
        return known


def _reads_as(reference: str, name: bytes) -> bool:
    """Whether a request for this reference is one for the name (see `paths.understood`)."""
    try:
        return understood(f"/{reference}".encode()) == b"/" + name
    except Fault:
        return False


def _made(name: bytes, reference: str, folder: bool, status: os.stat_result) -> Entry:
    shown = name.decode("utf-8", "replace")
    modified = int(status.st_mtime)
    if folder:
        return Entry(shown, reference + "/", True, 0, modified)
    return Entry(shown, reference, False, status.st_size, modified)


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
