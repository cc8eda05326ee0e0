"""Locks on single bytes of a file, which the kernel lets go of however their holder ends.

They belong to the open file and not to the process, unlike POSIX locks: fcntl(2), "Open file
description locks". Not every file system has them.
"""

from __future__ import annotations

import fcntl
import os
import struct

_FLOCK = struct.Struct("hhqqi4x")  # struct flock


def lock_byte(fd: int, number: int) -> bool:
    """False when somebody else has it locked, or when that cannot be done here."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _about_byte(number))
    except OSError:
        return False
    return True


def is_byte_locked(fd: int, number: int) -> bool:
    """True also when nobody can say."""
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _about_byte(number))
    except OSError:
        return True
    return int(_FLOCK.unpack(found)[0]) != fcntl.F_UNLCK


def _about_byte(number: int) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
