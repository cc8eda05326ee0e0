"""Whether a user may read a file, and what stops that user on the way to it.

While we are root, the answer for another user is worked out from owner and mode; where access
control lists make that impossible, no fault is claimed.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path as FilePath

_ACL = "system.posix_acl_access"

Trouble = tuple[str, str]  # what is wrong, what to do


@dataclass(frozen=True, slots=True)
class Reader:
    """The user who reads a file. ``here``: this very process, which can simply ask the kernel."""

    uid: int
    gid: int
    here: bool

    def may(self, path: str, wanted: int) -> bool:
        if self.here:
            return os.access(path, wanted, effective_ids=True)
        status = os.stat(path)
        if _has_acl(path):
            return True
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return bool(status.st_mode >> shift & wanted)


def typed(path: FilePath) -> str:
    """Quote a path as it is typed into a command."""
    return shlex.quote(str(path))


def reach(path: FilePath, wanted: int, reader: Reader) -> Trouble | None:
    """Return what stops the reader on the way to ``path``; None where nothing does."""
    real = FilePath(os.path.realpath(path))
    for parent in reversed(real.parents):
        if not reader.may(str(parent), os.X_OK):
            return (
                f"uid {reader.uid} may not enter {parent}",
                f"sudo chmod o+x {typed(parent)}, or move what lies in it",
            )
    if reader.may(str(real), wanted):
        return None
    if wanted == os.X_OK:
        return f"uid {reader.uid} may not enter {real}", f"sudo chmod o+x {typed(real)}"
    return (
        f"uid {reader.uid} may not read {real}",
        (
            f"sudo chmod o+r {typed(real)}; or for the group alone: "
            f"sudo chgrp {reader.gid} {typed(real)} && sudo chmod g+r {typed(real)}"
        ),
    )


def _has_acl(path: str) -> bool:
    try:
        return _ACL in os.listxattr(path)
    except OSError:
        return False
