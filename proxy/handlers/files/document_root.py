"""Files of one document root, opened so that nothing outside it can be reached.

The kernel does the work: ``openat2(2)`` with RESOLVE_BENEATH refuses, while it walks, every step
that would leave the root, by ``..``, by a link, or by a name that is swapped meanwhile. It also
refuses absolute links that lead back into the root, which are allowed here; those are resolved by
name and opened beneath the root once more, so that a race gains nothing.

What may be opened is a regular file that is not hidden. A FIFO never blocks (O_NONBLOCK), a device
is never read. Everything else, and everything the process may not read, is as if it were not there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

_OPENAT2 = 437  # asm-generic/unistd.h: the same on every architecture since 5.6
_RESOLVE = 0x08 | 0x02  # RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_LINK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = 5  # openat2 answers EAGAIN when a rename interfered; it seldom does so twice

# What may stand in a Location field as it is.
_ADDRESS = re.compile(rb"https?://[\x21-\x7e]+")
# Out of descriptors or memory is not "there is no such file".
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _openat2(directory: int, path: bytes, flags: int) -> int:
    how = _OpenHow(flags, 0, _RESOLVE)
    for _ in range(_AGAIN):
        fd: int = _libc.syscall(
            _OPENAT2, directory, path, ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
        )
        if fd >= 0:
            return fd
        if ctypes.get_errno() != errno.EAGAIN:
            break
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


@dataclass(frozen=True, slots=True)
class Found:
    """An open file. The caller closes ``fd``."""

    fd: int
    status: os.stat_result


class Directory:
    """The path is a directory: ask for its index, or redirect to it with a slash."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The path is a link to an address on the web."""

    target: bytes


def hidden(path: bytes) -> bool:
    """Whether a segment begins with a dot; ``.well-known`` (RFC 8615) is meant to be seen."""
    return b"/." in b"/" + path and any(
        segment.startswith(b".") and segment != b".well-known" for segment in path.split(b"/")
    )


class DocumentRoot:
    """``root`` is opened once; a directory that replaces it later is another one."""

    def __init__(self, root: Path) -> None:
        self._path = os.path.realpath(os.fsencode(root))
        self._fd = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def find(self, path: bytes) -> Found | Directory | Elsewhere | None:
        """What is at ``path``, relative to the root, decoded, without dot segments.

        None where there is nothing to be sent. Raises OSError when out of resources.
        """
        if hidden(path) or b"\0" in path or len(path) > 4096:
            return None
        try:
            fd = self._open(path or b".")
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                raise
            return self._link(path) if error.errno == errno.ENOENT else None
        try:
            status = os.fstat(fd)
            if self._is_hidden(fd):
                return None
            if stat.S_ISREG(status.st_mode):
                if not path.endswith(b"/"):
                    return Found(os.dup(fd), status)
            elif stat.S_ISDIR(status.st_mode):
                return Directory()
            return None
        finally:
            os.close(fd)

    def _open(self, path: bytes) -> int:
        try:
            return _openat2(self._fd, path, _FLAGS)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        real = os.path.realpath(os.path.join(self._path, path))
        inside = os.path.relpath(real, self._path)
        if inside.startswith(b"../") or inside == b".." or hidden(inside):
            raise FileNotFoundError(errno.ENOENT, "outside the document root")
        return _openat2(self._fd, inside, _FLAGS)

    def _is_hidden(self, fd: int) -> bool:
        """Whether what was opened is hidden under its own name, whatever link has led to it."""
        # Both are asked for now, because the root may have been renamed since it was opened.
        real = os.readlink(b"/proc/self/fd/%d" % fd)
        root = os.readlink(b"/proc/self/fd/%d" % self._fd)
        return real != root and hidden(real.removeprefix(root.rstrip(b"/") + b"/"))

    def _link(self, path: bytes) -> Elsewhere | None:
        """A link that leads nowhere on this machine may lead to the web."""
        try:
            fd = _openat2(self._fd, path.rstrip(b"/") or b".", _LINK)
        except OSError:
            return None
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                return None
            target = os.readlink(b"", dir_fd=fd)
        except OSError:
            return None
        finally:
            os.close(fd)
        return Elsewhere(target) if _ADDRESS.fullmatch(target) else None
