"""Whether a user may read a file, and what stops that user on the way to it.

While we are root, the answer for another user is worked out from owner and mode; where access
control lists make that impossible, no fault is claimed.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path as FilePath

from acme_client.late_dataclass import dataclass

from .real_paths import RealPaths

_ACL = "system.posix_acl_access"

Trouble = tuple[str, str]  # what is wrong, what to do


@dataclass(frozen=True, slots=True)
class Reader:
    """The user who reads a file. ``here``: this very process, which can simply ask the kernel."""

    uid: int
    gid: int
    here: bool
    real: RealPaths = field(default_factory=RealPaths, compare=False, repr=False)
    # Whether directories can be entered, as they were found: the same stand above thousands of
    # files.
    _entered: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    def enters(self, directory: str) -> bool:
        """Whether the user may enter a directory, as it was when this was asked first."""
        known = self._entered.get(directory)
        if known is None:
            known = self._entered[directory] = self.may(directory, os.X_OK)
        return known

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


def reach(path: FilePath, wanted: int, reader: Reader, *, secret: bool = False) -> Trouble | None:
    """Return what stops the reader on the way to ``path``; None where nothing does. ``secret``:
    nobody but the reader is to be let in."""
    real = reader.real.of(path)
    for parent in _above(real):
        if not reader.enters(parent):
            return (
                f"uid {reader.uid} may not enter {parent}",
                f"sudo chmod o+x {typed(FilePath(parent))}, or move what lies in it",
            )
    if reader.enters(real) if wanted == os.X_OK else reader.may(real, wanted):
        return None
    name = typed(FilePath(real))
    if wanted == os.X_OK:
        return f"uid {reader.uid} may not enter {real}", f"sudo chmod o+x {name}"
    for_group = f"sudo chgrp {reader.gid} {name} && sudo chmod g+r {name}"
    return (
        f"uid {reader.uid} may not read {real}",
        for_group if secret else f"sudo chmod o+r {name}; or for the group alone: {for_group}",
    )


def _above(real: str) -> Iterator[str]:
    """The directories above a path, from the root on."""
    at = real.find("/")
    while at >= 0 and real != "/":
        yield real[:at] or "/"
        at = real.find("/", at + 1)


def _has_acl(path: str) -> bool:
    try:
        return _ACL in os.listxattr(path)
    except OSError:
        return False
