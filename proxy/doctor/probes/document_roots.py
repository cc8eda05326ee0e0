"""Looks at document roots with the eyes of the server's user.

The caller has given up root already, so a file that this process may not read is one that visitors
will not get. A root with very many files is looked at in part.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...config.model import FastCgi
from ..rules.document_roots import RootLook

# Entries that are looked at, and files that are named.
_MOST = 5000
_NAMED = 3


def look(
    root: Path,
    sites: tuple[str, ...],
    indexes: Sequence[str] = ("index.html",),
    listed: bool = False,
    scripts: FastCgi | None = None,
) -> RootLook:
    """Return what the present user can and cannot read below ``root``. ``indexes`` are the names of
    what is sent for a folder; without one a folder may be ``listed``. ``scripts`` are read by
    another user, and their root has another index."""
    unreadable: list[str] = []
    count = seen = 0
    try:
        os.listdir(root)
    except OSError as error:
        return RootLook(str(root), sites, os.geteuid(), error=error.strerror or str(error))
    names = [os.access(root / name, os.R_OK, effective_ids=True) for name in indexes]
    index = listed or any(names)
    if scripts is not None:
        index = index or (root / scripts.index).is_file()
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            seen += 1
            if scripts is not None and name.endswith(scripts.endings):
                continue
            needed = os.R_OK | os.X_OK if name in folders else os.R_OK
            if not path.is_symlink() and not os.access(path, needed, effective_ids=True):
                count += 1
                if len(unreadable) < _NAMED:
                    unreadable.append(str(path))
        if seen > _MOST:
            break
    return RootLook(
        str(root), sites, os.geteuid(), index=index,
        named=" or ".join(dict.fromkeys(indexes)), unreadable=tuple(unreadable), count=count,
        whole=seen <= _MOST,
    )  # fmt: skip
