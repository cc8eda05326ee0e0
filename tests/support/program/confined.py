"""Run a command as confined as a systemd unit would have it, where there is no systemd running.

    python confined.py UNIT COMMAND ARGUMENT...

Of the unit it applies what a program can stumble over: SystemCallFilter= (with the groups as the
installed systemd-analyze expands them), SystemCallErrorNumber=EPERM, RestrictAddressFamilies=,
CapabilityBoundingSet=, MemoryDenyWriteExecute=, NoNewPrivileges=, UMask=. Mounts are left alone.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

_ALLOW = 0x7FFF0000  # SCMP_ACT_ALLOW
_REFUSE = 0x00050000 | errno.EPERM  # SCMP_ACT_ERRNO
_EQUAL = 4  # SCMP_CMP_EQ
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE = 24, 38, 65
# linux/capability.h, in the order of their numbers
# fmt: off
_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)
# fmt: on

_libc = ctypes.CDLL(None, use_errno=True)


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("mask", ctypes.c_uint64),
    )


def settings(unit: Path) -> dict[str, list[str]]:
    """Every key with all its values, in the order of the unit."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@functools.cache
def calls_of(word: str) -> frozenset[str]:
    """A call, or all those of a group and the groups in it."""
    if not word.startswith("@"):
        return frozenset([word])
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True
    )
    inner = (line.strip() for line in done.stdout.splitlines()[1:])
    return frozenset().union(*(calls_of(one) for one in inner if one and one[0] != "#"))


def allowed(filters: list[str]) -> set[str]:
    """systemd.exec(5): the first line allows, "~" takes away, later ones add."""
    calls: set[str] = set()
    for line in filters:
        named = set().union(*map(calls_of, line.removeprefix("~").split()))
        calls = calls - named if line.startswith("~") else calls | named
    return calls


def _filter_calls(calls: set[str], families: list[str]) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_REFUSE))
    for call in calls - {"socket"}:
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if number != -1:  # -1: not known to this library, as systemd leaves it out then
            seccomp.seccomp_rule_add_array(context, _ALLOW, number, 0, None)
    number = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in families:
        only = _Comparison(0, _EQUAL, getattr(socket, family).value, 0)
        seccomp.seccomp_rule_add_array(context, _ALLOW, number, 1, ctypes.byref(only))
    if seccomp.seccomp_load(context) != 0:
        raise OSError("the filter was refused")


def confine(unit: Path) -> None:
    said = settings(unit)
    calls = allowed(said["SystemCallFilter"])
    keep = {word.removeprefix("CAP_") for word in said["CapabilityBoundingSet"][0].split()}
    if os.geteuid() == 0:
        for number, name in enumerate(_CAPABILITIES):
            if name not in keep:
                _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    os.umask(int(said["UMask"][0], 8))
    if said["MemoryDenyWriteExecute"] == ["yes"]:
        _libc.prctl(_PR_SET_MDWE, 1, 0, 0, 0)  # Linux 6.3; before that, this part is not tried
    if said["NoNewPrivileges"] == ["yes"]:
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _filter_calls(calls, said["RestrictAddressFamilies"][0].split())


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
