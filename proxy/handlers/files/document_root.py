"""Files of one document root, opened so that nothing outside it can be reached.

The kernel does the work: ``openat2(2)`` with RESOLVE_BENEATH refuses, while it walks, every step
that would leave the root, by ``..``, by a link, or by a name that is swapped meanwhile. It also
refuses absolute links that lead back into the root, which are allowed here; those are resolved by
name and opened beneath the root once more, so that a race gains nothing.

What may be opened is a regular file that is not hidden. A FIFO never blocks (O_NONBLOCK), a device
is never read. For clients, everything else is as if it were not there. The operator is told of what
is there and cannot be sent (`Unreadable`), with the command that mends it: a file that the server's
user may not read is the trap of the first day.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shlex
import stat
from collections.abc import Callable
from pathlib import Path

from acme_client.late_dataclass import dataclass

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


@dataclass(frozen=True, slots=True)
class Entry:
    """What there is at a path, unopened. ``name`` is its own full one, whatever link has led to it;
    ``mode`` as in stat(2)."""

    name: bytes
    mode: int


class Directory:
    """The path is a directory: ask for its index, or redirect to it with a slash."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The path is a link to an address on the web."""

    target: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """There is something at the path, and it cannot be sent. ``why`` is for the operator."""

    why: str


Outcome = Found | Directory | Elsewhere | Unreadable | None


def hidden(path: bytes) -> bool:
    """Whether a segment begins with a dot; ``.well-known`` (RFC 8615) is meant to be seen."""
    return b"/." in b"/" + path and any(
        segment.startswith(b".") and segment != b".well-known" for segment in path.split(b"/")
    )


class DocumentRoot:
    """``root`` is opened once; a directory that replaces it later is another one. ``keeps``:
    whether a file whose own full name is this one, whatever link has led to it, is never found."""

    def __init__(self, root: Path, keeps: Callable[[bytes], bool] | None = None) -> None:
        self._keeps = keeps
        self._given = os.fsencode(root)
        self._path = os.path.realpath(os.fsencode(root))
        self._fd = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def find(self, path: bytes) -> Outcome:
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
            return self._not_opened(path, error)
        try:
            status = os.fstat(fd)
            if self._is_hidden(fd):
                return None
            if stat.S_ISREG(status.st_mode):
                if not path.endswith(b"/") and not self._is_kept(fd):
                    return Found(os.dup(fd), status)
            elif stat.S_ISDIR(status.st_mode):
                return Directory()
            else:
                return Unreadable(f"{self.name(path)} is neither a file nor a folder")
            return None
        finally:
            os.close(fd)

    def entry(self, path: bytes) -> Entry | Unreadable | None:
        """What is at ``path``, as for `find`, but without the right to read it: another process is
        to. Raises OSError when out of resources."""
        if hidden(path) or b"\0" in path or len(path) > 4096:
            return None
        try:
            fd = self._open(path or b".", os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                raise
            outcome = self._not_opened(path, error)
            return outcome if isinstance(outcome, Unreadable) else None
        try:
            if self._is_hidden(fd):
                return None
            real = os.readlink(b"/proc/self/fd/%d" % fd)
            return Entry(real, os.fstat(fd).st_mode)
        finally:
            os.close(fd)

    @property
    def path(self) -> bytes:
        """The root itself, without links."""
        return self._path

    def open_folder(self, path: bytes) -> int:
        """A descriptor of the folder at ``path``, to be closed. Raises OSError where there is none
        that can be listed."""
        if hidden(path) or b"\0" in path:
            raise FileNotFoundError(errno.ENOENT, "hidden")
        folder = self._open(path or b".")
        if self._is_hidden(folder):
            os.close(folder)
            raise FileNotFoundError(errno.ENOENT, "hidden")
        return folder

    def may_list(self, path: bytes) -> bool:
        """Whether the folder at ``path`` can be entered and listed."""
        try:
            folder = self._open(path or b".")
        except OSError:
            return False
        try:
            return os.access(f"/proc/self/fd/{folder}", os.R_OK | os.X_OK, effective_ids=True)
        finally:
            os.close(folder)

    def name(self, path: bytes) -> str:
        """The full name of what is at ``path``, for messages."""
        return os.fsdecode(os.path.join(self._path, path))

    def _open(self, path: bytes, flags: int = _FLAGS) -> int:
        try:
            return _openat2(self._fd, path, flags)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        real = os.path.realpath(os.path.join(self._path, path))
        inside = os.path.relpath(real, self._path)
        if inside.startswith(b"../") or inside == b"..":
            raise OSError(errno.EXDEV, "outside the document root")
        if hidden(inside):
            raise FileNotFoundError(errno.ENOENT, "hidden")
        return _openat2(self._fd, inside, flags)

    def _not_opened(self, path: bytes, error: OSError) -> Outcome:
        """What there is to say of a path that could not be opened."""
        if error.errno == errno.ENOENT:
            return self._link(path) or self._replaced()
        if error.errno in (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO):
            return None
        if error.errno in (errno.EACCES, errno.EPERM):
            return Directory() if self._is_directory(path) else Unreadable(self.denied(path))
        if error.errno == errno.EXDEV:
            return Unreadable(
                f"{self.name(path)} leads out of the document root by a link: put what it leads to"
                f" below {os.fsdecode(self._path)}"
            )
        return Unreadable(f"{self.name(path)} cannot be read: {error.strerror}")

    def _is_directory(self, path: bytes) -> bool:
        """Whether there is a directory, which may be one that can be entered and not read."""
        try:
            fd = _openat2(self._fd, path or b".", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return stat.S_ISDIR(os.fstat(fd).st_mode)
        finally:
            os.close(fd)

    def _replaced(self) -> Unreadable | None:
        """Whether the root is another directory by now than the one that was opened: a release that
        was put in its place, or a link that was turned."""
        opened = os.readlink(b"/proc/self/fd/%d" % self._fd)
        if opened == self._path == os.path.realpath(self._given):
            return None
        root = os.fsdecode(self._given)
        return Unreadable(f"{root} was removed or replaced since the start: reload the server")

    def denied(self, path: bytes) -> str:
        """Whose right is missing for what is at ``path``, and the command that gives it: for the
        operator."""
        target = os.path.realpath(os.path.join(self._path, path))
        user = f"the server's user (uid {os.geteuid()})"
        folders = [target]
        while folders[-1] not in (b"/", b""):
            folders.append(os.path.dirname(folders[-1]))
        for folder in reversed(folders[1:]):
            if not os.access(folder, os.X_OK, effective_ids=True):
                return f"{user} may not enter {os.fsdecode(folder)}: chmod a+x {_quoted(folder)}"
        if not os.access(target, os.R_OK, effective_ids=True):
            return f"{user} may not read {os.fsdecode(target)}: chmod a+r {_quoted(target)}"
        return (
            f"the sandbox of this process does not reach {os.fsdecode(target)}: if the folder was"
            " replaced meanwhile, reload the server"
        )

    def _is_hidden(self, fd: int) -> bool:
        """Whether what was opened is hidden under its own name, whatever link has led to it."""
        # Both are asked for now, because the root may have been renamed since it was opened.
        real = os.readlink(b"/proc/self/fd/%d" % fd)
        root = os.readlink(b"/proc/self/fd/%d" % self._fd)
        return real != root and hidden(real.removeprefix(root.rstrip(b"/") + b"/"))

    def _is_kept(self, fd: int) -> bool:
        return self._keeps is not None and self._keeps(os.readlink(b"/proc/self/fd/%d" % fd))

    def _link(self, path: bytes) -> Elsewhere | Unreadable | None:
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
        if _ADDRESS.fullmatch(target):
            return Elsewhere(target)
        if os.path.exists(os.path.join(self._path, path)):
            return None  # hidden
        to = os.fsdecode(target)
        return Unreadable(f"{self.name(path)} is a link to {to}, where there is nothing")


def _quoted(path: bytes) -> str:
    return shlex.quote(os.fsdecode(path))
