"""Confining a process to its `Policy`, with Landlock, for good.

Order in the life of a process: privileges dropped, everything imported and warmed up, sockets and
logs open, no thread yet; then `apply`; then the first byte from the network.

Paths are granted as they are found at the moment of confinement. A file that is replaced later (by
rename, as resolv.conf is; by a link that a deployment turns) is another file, which a process that
is already confined may not open: `footing` tells when that has happened, and a new generation of
processes mends it.

A kernel without all of it: ``require`` refuses, ``auto`` does what can be done and says what is
missing, ``off`` leaves Landlock alone. Seccomp is not used: docs/decisions/seccomp.md.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from acme_client.late_dataclass import dataclass

from . import landlock
from .grants import Grant, Policy
from .landlock import File, Net, Scope

Mode = Literal["require", "auto", "off"]

_READ = File.READ_FILE | File.READ_DIR
_WRITE = (
    _READ
    | File.WRITE_FILE
    | File.TRUNCATE
    | File.MAKE_REG
    | File.MAKE_DIR
    | File.MAKE_SOCK
    | File.MAKE_SYM  # a certificate and its key change together by one link
    | File.REMOVE_FILE
    | File.REMOVE_DIR
    | File.REFER
)
_APPEND = File.READ_DIR | File.WRITE_FILE | File.MAKE_REG
_EXECUTE = File.READ_FILE | File.EXECUTE

# What a policy relies on, by the Landlock ABI that brought it.
_PARTS = (
    (1, "files cannot be restricted"),
    (2, "files cannot be moved between directories, not even within the state directory"),
    (3, "truncating a file cannot be restricted"),
    (4, "TCP ports cannot be restricted"),
    (5, "device ioctls cannot be restricted"),
    (6, "signals and abstract sockets cannot be restricted"),
)

# Descriptors that the process keeps open as long as it lives: see `_is_ephemeral`.
_pinned: list[int] = []


class SandboxUnavailable(Exception):
    """``sandbox: require``, and this kernel cannot do all of it."""


@dataclass(frozen=True, slots=True)
class Applied:
    """``missing``: what the kernel cannot enforce; ``skipped``: grants that came to nothing, each
    with its reason. Both are for the log."""

    abi: int
    missing: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def apply(policy: Policy, mode: Mode) -> Applied:
    """Confine this process to the policy; it cannot be undone, and children inherit it.

    Raises `SandboxUnavailable` under ``require`` where the kernel lacks a part or refuses.
    """
    _limit_descriptors(policy)
    if mode == "off":
        return Applied(0)
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("threads that were started before the sandbox would stay outside it")
    abi = landlock.abi()
    missing = tuple(what for since, what in _PARTS if abi < since)
    skipped: tuple[str, ...] = ()
    if abi and (mode == "auto" or not missing):
        try:
            skipped = tuple(_enforce(policy, abi))
        except OSError as error:
            missing += (_refusal(error),)
    if missing and mode == "require":
        raise SandboxUnavailable(
            f"sandbox: require, but with this kernel (Landlock ABI {abi}) {'; '.join(missing)} "
            "(all of it needs Linux 6.12 with CONFIG_SECURITY_LANDLOCK and landlock among the lsm= "
            "modules; or say sandbox: auto)"
        )
    return Applied(abi, missing, skipped)


def prepared(policy: Policy, mode: Mode) -> Callable[[], None]:
    """What a child does between fork and exec to be confined to the policy: one system call, safe
    beside threads. To be asked for before this process is confined itself."""
    if mode == "off" or not landlock.abi():
        return lambda: None
    try:
        ruleset, _skipped = _ruleset(policy, landlock.abi())
    except OSError as error:
        if mode == "require":
            raise SandboxUnavailable(f"sandbox: require, but {_refusal(error)}") from None
        return lambda: None  # as `apply` does; and it says so
    return lambda: landlock.restrict_self(ruleset)


def _limit_descriptors(policy: Policy) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = policy.descriptors if hard == resource.RLIM_INFINITY else min(policy.descriptors, hard)
    keep = hard if policy.lenient_children else most
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, keep))


def _enforce(policy: Policy, abi: int) -> list[str]:
    ruleset, skipped = _ruleset(policy, abi)
    try:
        landlock.restrict_self(ruleset)
    finally:
        os.close(ruleset)
    return skipped


def _ruleset(policy: Policy, abi: int) -> tuple[int, list[str]]:
    """A descriptor of the policy as the kernel takes it; the caller closes it."""
    files, net, scope = landlock.known_to(abi)
    # "Any" port is said by not handling the right at all.
    net &= ~(Net.CONNECT_TCP if policy.connect is None else Net(0))
    net &= ~(Net.BIND_TCP if policy.bind is None else Net(0))
    scope &= ~(Scope.ABSTRACT_UNIX_SOCKET if policy.abstract_sockets else Scope(0))
    skipped: list[str] = []
    ruleset = landlock.create_ruleset(files, net, scope)
    try:
        for grants, rights in (
            (policy.read, _READ),
            (policy.write, _WRITE),
            (policy.append, _APPEND),
            (policy.execute, _EXECUTE),
        ):
            for grant in grants:
                reason = _allow(ruleset, grant, rights & files, policy.hidden)
                if reason:
                    skipped.append(f"{grant.path} ({grant.why}): {reason}")
        for ports, right in ((policy.connect, Net.CONNECT_TCP), (policy.bind, Net.BIND_TCP)):
            for port in ports or () if right & net else ():
                landlock.allow_port(ruleset, port.number, right)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset, skipped


def _allow(ruleset: int, grant: Grant, rights: File, hidden: Path | None) -> str | None:
    """Make the grant, or say why it was not made."""
    try:
        handle = os.open(grant.path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        return None if grant.optional and error.errno == errno.ENOENT else error.strerror
    try:
        if hidden is not None and _covers(handle, hidden):
            return f"not granted, because {hidden} lies in it"
        landlock.allow_beneath(ruleset, handle, rights)
        if _is_ephemeral(grant.path):
            _pinned.append(os.dup(handle))
    finally:
        os.close(handle)
    return None


def _is_ephemeral(path: Path) -> bool:
    """procfs makes a new inode for what the kernel has forgotten meanwhile, to have its memory
    back: to Landlock, whose rules are on inodes, that is another directory. As long as somebody has
    it open, it is not forgotten."""
    return path.is_relative_to("/proc")


def _covers(handle: int, hidden: Path) -> bool:
    """Whether ``hidden`` is, or lies below, what ``handle`` stands for; by inode, not by name."""
    top = os.fstat(handle)
    try:
        at = os.open(hidden, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    while True:
        here = os.fstat(at)
        if os.path.samestat(here, top):
            os.close(at)
            return True
        above = os.open("..", os.O_PATH | os.O_CLOEXEC, dir_fd=at)
        os.close(at)
        if os.path.samestat(os.fstat(above), here):
            os.close(above)
            return False
        at = above


def _refusal(error: OSError) -> str:
    if error.errno == errno.E2BIG:
        return (
            f"this process and its forebears are confined {landlock.MOST_LAYERS} times already, "
            "which is the kernel's limit (after that many upgrades in place, restart)"
        )
    return f"Landlock failed: {error.strerror}"


def footing(policy: Policy) -> dict[Path, tuple[int, int] | None]:
    """Which files and directories the paths to be read lead to now, as (device, inode).

    When it differs from what it was, a process confined before sees the old ones only.
    """
    paths = (grant.path for grant in policy.read if not grant.once)
    return {path: _inode(path) for path in paths if not _is_ephemeral(path)}


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino
