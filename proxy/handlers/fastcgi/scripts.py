"""Which script below a document root takes a path.

``/blog/index.php/2026/news`` is the script ``/blog/index.php`` and the path info ``/2026/news``.
The interpreter, when it is told a script that does not exist, shortens the path by itself until it
finds a file (PHP's setting cgi.fix_pathinfo). That is how ``/uploads/cat.jpg/x.php`` runs what
somebody has uploaded as a picture. So nothing is left to it: what it is told is a regular file
below the root, whose name ends as names of scripts do: the name that was asked for, and its own.
Everything else goes to the front controller, if there is one: a script that is always the same.

What never leaves as a file either: the source of a script, whatever link or spelling leads to it,
and copies of it (`source_names`).
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence

from acme_client.late_dataclass import dataclass

from ...bounded_cache import remember
from ..files.document_root import DocumentRoot, Entry, Unreadable
from .source_names import source_names

_TRUSTED = 1.0  # seconds for which what was found is believed, as `file_cache` does
_MOST_FOUND = 4096
_LONGEST_KNOWN = 512
_MOST_SPLITS = 16  # folders may be called x.php; a path with more of them is nonsense


@dataclass(frozen=True, slots=True)
class Run:
    """``script`` and ``path_info``, decoded; the first without a leading slash, the second with one
    or empty."""

    script: bytes
    path_info: bytes = b""


class SendFile:
    """The path is a file, or nothing: what takes files answers."""


class AddSlash:
    """The path is a folder with an index."""


class Nothing:
    """There is nothing here that may be sent."""


Found = Run | SendFile | AddSlash | Nothing | Unreadable


class Scripts:
    """``endings`` are those of scripts, like ``.php``; ``index`` is the script that a folder is
    asked for, before the ``pages``, and the root's is the front controller where
    ``front_controller`` says so. ``listing``: what a folder holds may be told."""

    def __init__(
        self,
        root: DocumentRoot,
        endings: Sequence[str] = (".php",),
        index: str = "index.php",
        pages: Sequence[str] = ("index.html",),
        *,
        front_controller: bool = True,
        listing: bool = False,
    ) -> None:
        self.root = root
        self._endings = tuple(ending.encode() for ending in endings)
        split = b"|".join(map(re.escape, self._endings))
        # Not "$", which a line feed may follow: /admin.php%0A would run what another route guards.
        self._split = re.compile(rb"[^/](?:%b)(?=/|\Z)" % split)
        self._index = index.encode()
        self.is_source = source_names(endings)
        self.pages = tuple(page for page in pages if not self.is_source(page.encode()))
        self._listing = listing
        self._front_controller = front_controller
        self._found: dict[bytes, tuple[Found, float]] = {}

    def find(self, path: bytes, now: float) -> Found:
        """What takes ``path``: relative to the root, decoded, without dot segments. ``now`` is
        monotonic. Raises `OSError` for want of descriptors or memory."""
        known = self._found.get(path)
        if known is not None and now - known[1] < _TRUSTED:
            return known[0]
        found = self._look_for(path)
        if len(path) <= _LONGEST_KNOWN:
            remember(self._found, path, (found, now), _MOST_FOUND)
        return found

    def _look_for(self, path: bytes) -> Found:
        for count, place in enumerate(self._split.finditer(path)):
            if count == _MOST_SPLITS:
                break
            script = path[: place.end()]
            entry = self.root.entry(script)
            if isinstance(entry, Unreadable):
                return entry
            if entry is not None and self._is_script(entry):
                return Run(script, path[place.end() :])
        entry = self.root.entry(path.rstrip(b"/"))
        if isinstance(entry, Unreadable):
            return entry
        if entry is None:
            return self._otherwise()
        if stat.S_ISDIR(entry.mode):
            return self._folder(path)
        if path.endswith(b"/") or self.is_source(path) or self.is_source(entry.name):
            return self._otherwise()
        return SendFile()

    def _folder(self, path: bytes) -> Found:
        below = path if not path or path.endswith(b"/") else path + b"/"
        index = self.root.entry(below + self._index)
        is_script = isinstance(index, Entry) and self._is_script(index)
        if not is_script and not self._has_page(below):
            found = self._otherwise()
            if not (self._listing and isinstance(found, Nothing)):
                return found
        if below != path:
            return AddSlash()
        return Run(below + self._index) if is_script else SendFile()

    def _has_page(self, folder: bytes) -> bool:
        """Whether the first index that is there may be sent."""
        for page in self.pages:
            entry = self.root.entry(folder + page.encode())
            if isinstance(entry, Entry) and stat.S_ISREG(entry.mode):
                return not self.is_source(entry.name)
        return False

    def _otherwise(self) -> Found:
        """The front controller."""
        if not self._front_controller:
            return Nothing()
        entry = self.root.entry(self._index)
        if isinstance(entry, Entry) and self._is_script(entry):
            return Run(self._index)
        return entry if isinstance(entry, Unreadable) else Nothing()

    def answers(self, path: bytes) -> bool:
        """Whether a request for ``path``, as for `find`, is answered by the file there: run if it
        is a script, else sent. Raises `OSError` for want of descriptors or memory."""
        match self._look_for(path):
            case Run(script, path_info):
                return script == path and not path_info
            case found:
                return isinstance(found, SendFile)

    def _is_script(self, entry: Entry) -> bool:
        return stat.S_ISREG(entry.mode) and entry.name.endswith(self._endings)
