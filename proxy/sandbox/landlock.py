"""Landlock, the kernel's way for a process to give up access, through ctypes.

Mechanism only: names for the constants of linux/landlock.h, four calls, `OSError` when one fails.
What a process of ours keeps is decided in `policy`. What to know of it (the kernel's
Documentation/userspace-api/landlock.rst):

- A right that a ruleset *handles* is refused everywhere but where a rule grants it; one that it
  does not handle is left as it was. So everything the kernel knows is handled.
- A rule holds for the file or directory (and all below it) that the path led to when it was added,
  not for the name. What comes to stand under that name later is not covered.
- It cannot be taken back, is inherited by fork and exec, and can only be narrowed further.
- It holds for the calling thread and those it starts: it comes before any thread.
- Not covered: UDP, connecting to a unix socket by its path, stat, chmod and chown, a TCP socket
  that listens without having been bound (on a port that the kernel picks), executing a memfd, and
  what is open already.

The syscall numbers are the same on all architectures (asm-generic/unistd.h, alpha aside).
"""

from __future__ import annotations

import ctypes
import enum
import os
import stat

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2
MOST_LAYERS = 16  # LANDLOCK_MAX_NUM_LAYERS: how often a process and its forebears can restrict


class File(enum.IntFlag):
    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13  # ABI 2: rename or link between directories
    TRUNCATE = 1 << 14  # ABI 3
    IOCTL_DEV = 1 << 15  # ABI 5


class Net(enum.IntFlag):
    BIND_TCP = 1 << 0  # ABI 4
    CONNECT_TCP = 1 << 1  # ABI 4


class Scope(enum.IntFlag):
    ABSTRACT_UNIX_SOCKET = 1 << 0  # ABI 6: connecting to those of processes outside
    SIGNAL = 1 << 1  # ABI 6: sending to processes outside


# Rights that make sense on something that is not a directory; the kernel refuses others there.
_ON_A_FILE = File.EXECUTE | File.WRITE_FILE | File.READ_FILE | File.TRUNCATE | File.IOCTL_DEV


def known_to(abi: int) -> tuple[File, Net, Scope]:
    """Every right that a kernel of this ABI can handle."""
    files = File((1 << 13) - 1)
    if abi >= 2:
        files |= File.REFER
    if abi >= 3:
        files |= File.TRUNCATE
    if abi >= 5:
        files |= File.IOCTL_DEV
    net = Net.BIND_TCP | Net.CONNECT_TCP if abi >= 4 else Net(0)
    scope = Scope.ABSTRACT_UNIX_SOCKET | Scope.SIGNAL if abi >= 6 else Scope(0)
    return files, net, scope


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # Python 3.14 wants it said; without bit fields it is that of any compiler
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _NetPortAttr(ctypes.Structure):
    _fields_ = (("allowed_access", ctypes.c_uint64), ("port", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def abi() -> int:
    """The kernel's Landlock ABI version, 0 where there is none."""
    version: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)
    return max(version, 0)


def create_ruleset(files: File, net: Net, scope: Scope) -> int:
    """A descriptor of a ruleset that handles these rights; the caller closes it."""
    attr = _RulesetAttr(files, net, scope)
    # A kernel takes a longer structure than its own as long as what it does not know is zero.
    return _checked(
        _libc.syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr)), 0)
    )


def allow_beneath(ruleset: int, handle: int, rights: File) -> None:
    """Grant ``rights`` on what the descriptor ``handle`` stands for, and on all below it."""
    if not stat.S_ISDIR(os.fstat(handle).st_mode):
        rights &= _ON_A_FILE
    attr = _PathBeneathAttr(rights, handle)
    _checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(attr), 0))


def allow_port(ruleset: int, port: int, rights: Net) -> None:
    attr = _NetPortAttr(rights, port)
    _checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_NET_PORT, ctypes.byref(attr), 0))


def restrict_self(ruleset: int) -> None:
    """From now on and for ever. Needs no_new_privs."""
    _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
