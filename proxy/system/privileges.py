"""Giving up root, for good, and proving it.

No server process changes who it is anywhere else. (The doctor, which is no server, gives root up
without this proof; so does a child that only tries whether files can be read.) `drop` reads nothing
from the network, takes two numbers, and either returns with the privileges gone or ends the
process: there is no state in between that a caller could go on from.

Why the order is what it is:

- supplementary groups and the group id first, because both need CAP_SETGID;
- the bounding set and the secure bits while CAP_SETPCAP is still held, because the change of user
  takes all capabilities away;
- the user id last of the identities, all three of them (real, effective, saved), so that no saved
  one is left to return to;
- no_new_privs, so that no set-user-ID program can give anything back;
- then every capability set is emptied by name, whatever the kernel has done by itself.

Then the proof: identities and capability sets are read back from the kernel, and each way back to
root is tried. One that works, or a set that is not empty, ends the process with status 3.

Without root there is nothing to become, but there may be capabilities to lose: a process that was
given CAP_NET_BIND_SERVICE to bind port 80 has no use for it afterwards. The bounding set then
stays as it was (changing it would need CAP_SETPCAP): with no_new_privs and nothing permitted or
inheritable it can grant nothing.

Constants are those of linux/prctl.h, linux/securebits.h and linux/capability.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
from collections.abc import Callable
from typing import NoReturn

CANNOT_DROP = 3  # the exit status, the same as for a port that cannot be bound

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_SECBIT_NOROOT = 1 << 0  # uid 0 gets no capabilities on exec
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_SECBIT_KEEP_CAPS = 1 << 4
_SECBIT_NO_CAP_AMBIENT_RAISE = 1 << 6
_LOCKED = 1  # the lock of each bit is the bit above it
# On and locked: no root by exec, no ambient set. Off and locked: keeping capabilities when the
# user changes.
_SECUREBITS = (
    _SECBIT_NOROOT
    | _SECBIT_NO_CAP_AMBIENT_RAISE
    | _SECBIT_NOROOT << _LOCKED
    | _SECBIT_NO_SETUID_FIXUP << _LOCKED
    | _SECBIT_KEEP_CAPS << _LOCKED
    | _SECBIT_NO_CAP_AMBIENT_RAISE << _LOCKED
)

_CAP_SETPCAP = 8
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_CAP_SETS = frozenset((b"CapInh", b"CapPrm", b"CapEff", b"CapBnd", b"CapAmb"))

# Opened at import: after the drop the interpreter's own files may be out of reach.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop(uid: int, gid: int, groups: tuple[int, ...] = ()) -> None:
    """Become ``uid``:``gid`` with no capability left; without root, stay who we are with none.
    ``groups`` are the only supplementary ones; no process that serves has any.

    Never returns with less than that: what fails ends the process with status 3 and a message.
    """
    try:
        _drop(uid, gid, groups)
    except BaseException as error:  # whatever it was: nobody may go on from here
        _die(f"dropping privileges failed unexpectedly: {error!r}")


def _drop(uid: int, gid: int, groups: tuple[int, ...]) -> None:
    was_root = os.geteuid() == 0
    steps = _from_root(uid, gid, groups) if was_root else _without_root()
    for name, needs, take in steps:
        try:
            take()
        except OSError as error:
            _die(f"{name} failed ({error.strerror}); it needs {needs}")
    _prove(uid, gid, groups, was_root)


# What is done, what it needs, how: each list in the only order in which it works.
_Step = tuple[str, str, Callable[[], None]]


def _from_root(uid: int, gid: int, groups: tuple[int, ...]) -> tuple[_Step, ...]:
    if uid == 0 or gid == 0:
        _die("the configured user or group is root: there would be nothing to drop to")
    return (
        ("setting the supplementary groups", "CAP_SETGID", lambda: os.setgroups(groups)),
        ("changing the group", "CAP_SETGID", lambda: os.setresgid(gid, gid, gid)),
        ("emptying the bounding set", "CAP_SETPCAP", _empty_bounding_set),
        ("locking the secure bits", "CAP_SETPCAP", lambda: _prctl(_PR_SET_SECUREBITS, _SECUREBITS)),
        ("changing the user", "CAP_SETUID", lambda: os.setresuid(uid, uid, uid)),
        *_LAST_STEPS,
    )


def _without_root() -> tuple[_Step, ...]:
    if _capability_sets()["CapEff"] >> _CAP_SETPCAP & 1:
        return ("emptying the bounding set", "CAP_SETPCAP", _empty_bounding_set), *_LAST_STEPS
    return _LAST_STEPS


def _empty_bounding_set() -> None:
    # The kernel may know capabilities that this file does not: ask until it says EINVAL.
    capability = 0
    while _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        _prctl(_PR_CAPBSET_DROP, capability)
        capability += 1


def _empty_capability_sets() -> None:
    header = _CapHeader(_LINUX_CAPABILITY_VERSION_3, 0)
    nothing = (_CapData * 2)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(nothing)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


_LAST_STEPS: tuple[_Step, ...] = (
    ("no_new_privs", "Linux 3.5", lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1)),
    (
        "clearing the ambient capabilities",
        "Linux 4.3",
        lambda: _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL),
    ),
    ("emptying the capability sets", "nothing but a kernel that works", _empty_capability_sets),
)


# The proof

_WAYS_BACK: tuple[tuple[str, Callable[[], None]], ...] = (
    ("setuid(0)", lambda: os.setuid(0)),
    ("seteuid(0)", lambda: os.seteuid(0)),
    ("setresuid(0, 0, 0)", lambda: os.setresuid(0, 0, 0)),
    ("setgroups([0])", lambda: os.setgroups([0])),
)
_WAYS_BACK_GROUP: tuple[tuple[str, Callable[[], None]], ...] = (
    ("setgid(0)", lambda: os.setgid(0)),
    ("setresgid(0, 0, 0)", lambda: os.setresgid(0, 0, 0)),
)


def _prove(uid: int, gid: int, groups: tuple[int, ...], was_root: bool) -> None:
    if was_root:
        if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3:
            _die("the kernel still knows this process under another identity")
        if tuple(os.getgroups()) != groups:
            _die("other supplementary groups are left than should be")
    elif 0 in os.getresuid():
        _die("root is left as the real or saved user id")
    for name, value in _capability_sets().items():
        if value and (was_root or name != "CapBnd"):
            _die(f"capabilities are left ({name} {value:x})")
    ways = _WAYS_BACK
    if 0 not in os.getresgid():
        # Some container platforms start everything with group 0 and an ordinary user.
        ways += _WAYS_BACK_GROUP
    for name, attempt in ways:
        try:
            attempt()
        except OSError:
            continue
        _die(f"{name} succeeded: this process can become root again")


def _capability_sets() -> dict[str, int]:
    """The five sets as /proc/self/status gives them. As bytes: a codec that is not loaded yet may
    be out of reach by now."""
    fd = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        lines = os.read(fd, 64 * 1024).splitlines()
    finally:
        os.close(fd)
    sets: dict[str, int] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        if name in _CAP_SETS:
            sets[name.decode()] = int(value, 16)
    if len(sets) != len(_CAP_SETS):
        raise OSError(errno.ENODATA, "/proc/self/status does not tell all capability sets")
    return sets


# Every process of the tree


def confine_process() -> None:
    """No memory image for others: not dumpable (so no ptrace, no /proc/PID/mem by processes of
    the same user) and no core file. Call it in each process; fork keeps both, exec does not."""
    _prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, however it ends; ``parent`` is its pid before the fork.

    A parent that died before the request could be made leaves no signal behind, so it is looked
    at again afterwards. The kernel forgets the request when credentials change: call it after.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended, so that their end is told."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _die(message: str) -> NoReturn:
    # Straight to the descriptor and out: no handler, no cleanup, nothing that still has privileges.
    os.write(2, f"treehouse-proxy: {message}; ending\n".encode())
    os._exit(CANNOT_DROP)
