"""This program's own modules as they were when it started, for processes that are forked later.

The certifier, what reads a configuration and some others import most of their code after the fork,
so that nobody else has it in memory. Upgrading puts new files where the old ones lay; until the
successor serves, and for good where it cannot, the old program forks on. Its children would load
new modules beside the old ones that they were born with, and fail, or worse, nearly work.

So the texts of modules that have not been loaded are kept, packed, soon after the start. A module
is loaded from there where its file is no longer the one that was kept; else from its file, as ever.
Installed packages are not kept: they change with few upgrades, and children load them whole.

Third parties never see this: only names of our own packages are looked up here.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from importlib.abc import Loader
else:  # the module takes a dozen others with it, `tempfile` among them
    Loader = object

_PACKAGES = ("proxy", "acme_client")
# What the command line alone uses, which is a process of its own, started from disk.
_ELSEWHERE = frozenset(
    {
        ("proxy", "cli"),
        ("proxy", "config_import"),
        ("proxy", "doctor"),
        ("proxy", "explain"),
        ("acme_client", "drill"),
        ("acme_client", "importers"),
    }
)

_Mark = tuple[int, int, int]


class _Kept(NamedTuple):
    """A module's text, packed, and what its file was like."""

    path: str
    mark: _Mark
    packed: bytes
    package: bool


class KeptCode(Loader):
    """Finds modules by name among those that were kept."""

    def __init__(self, kept: dict[str, _Kept]) -> None:
        self._kept = kept

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        kept = self._kept.get(name)
        if kept is None or _mark(kept.path) == kept.mark:
            return None
        folders = [os.path.dirname(kept.path)] if kept.package else None
        return importlib.util.spec_from_file_location(
            name, kept.path, loader=self, submodule_search_locations=folders
        )

    def is_package(self, name: str) -> bool:
        return self._kept[name].package

    def get_source(self, name: str) -> str:
        return importlib.util.decode_source(zlib.decompress(self._kept[name].packed))

    def get_code(self, name: str) -> CodeType:
        return compile(self.get_source(name), self._kept[name].path, "exec", dont_inherit=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to the interpreter."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - as `importlib` does


def keep(packages: Sequence[str] = _PACKAGES) -> None:
    """Keep what has not been loaded of our packages, and have imports look there first. Files that
    cannot be read are left out: then their modules are loaded already (`preload`)."""
    kept = {name: one for name, one in _modules(packages) if name not in sys.modules}
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, KeptCode)]
    sys.meta_path.insert(0, KeptCode(kept))


def _modules(packages: Sequence[str]) -> Iterator[tuple[str, _Kept]]:
    for name in packages:
        found = getattr(sys.modules.get(name), "__file__", None)
        if found is None:
            continue
        top = Path(found).parent
        for folder, below, files in os.walk(top):
            steps = (name, *Path(folder).relative_to(top).parts)
            below[:] = [
                one for one in below if one != "__pycache__" and (*steps, one) not in _ELSEWHERE
            ]
            for file in files:
                stem, ending = os.path.splitext(file)
                if ending != ".py":
                    continue
                package = stem == "__init__"
                one = _kept(os.path.join(folder, file), package=package)
                if one is not None:
                    yield ".".join(steps if package else (*steps, stem)), one


def _kept(path: str, *, package: bool) -> _Kept | None:
    # Looked at before it is read: one that is put there meanwhile differs from what is kept, and
    # one text more in memory does no harm.
    mark = _mark(path)
    try:
        packed = zlib.compress(Path(path).read_bytes(), 1)
    except OSError:
        return None
    return None if mark is None else _Kept(path, mark, packed, package)


def _mark(path: str) -> _Mark | None:
    """Return what tells a file from one that is put in its place; None for one out of sight."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
