"""Looking at this machine: its clock, the state directory, who listens on the ports."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from ...config.model import Address, Config
from ...config.syntax.addresses import spell_address
from ...system.port_owner import find_holder, pids
from ..rules.machine import PortFacts, StateFacts

# linux/timex.h
_TIME_ERROR = 5
_TIMEX_SIZE = 512  # more than the structure has on any architecture
# linux/capability.h
_CAP_NET_BIND_SERVICE = 10
_SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)
_ALL = (("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6))  # noqa: S104 - looked for, not bound


def synchronised() -> bool | None:
    """Whether somebody keeps the kernel's time (adjtimex(2)); None where that cannot be asked."""
    buffer = ctypes.create_string_buffer(_TIMEX_SIZE)  # modes 0: only look
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def state(path: Path, uid: int) -> StateFacts:
    """``uid``: who the server is or will be."""
    try:
        info = path.stat()
        room = os.statvfs(path)
    except FileNotFoundError:
        above = next(one for one in path.parents if one.exists())
        return StateFacts(path, False, parent_usable=os.access(above, os.W_OK, effective_ids=True))
    except OSError:
        return StateFacts(path, None)
    return StateFacts(
        path,
        True,
        owner=info.st_uid,
        mode=info.st_mode & 0o777,
        free=room.f_bavail * room.f_frsize,
        inodes=room.f_favail if room.f_files else None,
        writable=not room.f_flag & os.ST_RDONLY,
        # Who is not root is the server's user, and its shell is no stranger.
        open_to=others_of(uid) if os.geteuid() == 0 and uid != 0 else (),
    )


def others_of(uid: int, proc: Path = Path("/proc")) -> tuple[str, ...]:
    """Return the processes of a user that are none of this program's, the oldest first."""
    found = []
    for pid in sorted(pids(proc)):
        with contextlib.suppress(OSError, StopIteration):
            folder = proc / str(pid)
            lines = (folder / "status").read_text(errors="replace").splitlines()
            uids = next(one for one in lines if one.startswith("Uid:")).split()[1:]
            command = (folder / "cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
            if str(uid) in uids and command and not command.startswith("treehouse-proxy"):
                found.append(f"{Path(command.split()[0]).name.rstrip(':')} (pid {pid})")
    return tuple(found)


def ports(config: Config, server: int | None) -> tuple[PortFacts, ...]:
    """``server``: the pid of the running one."""
    facts = []
    for kind, listed in (("http", config.listen.http), ("https", config.listen.https)):
        for address in listed:
            held = [
                holder
                for host, family in _endpoints(address)
                if (holder := find_holder(family, host, address.port)) is not None
            ]
            ours = bool(held) and any(_is_of(holder.pid, server) for holder in held)
            holder_seen = f"{held[0].command} (pid {held[0].pid})" if held else None
            if not held and _answers(address):
                holder_seen = "a process of another user"
            facts.append(
                PortFacts(
                    "http" if kind == "http" else "https",
                    spell_address(address),
                    address.port,
                    holder_seen,
                    ours or (server is not None and not held and holder_seen is not None),
                    _may_bind(address.port),
                    bool(held) and held[0].pid == 1 and _SYSTEMD.exists(),
                )
            )
    return tuple(facts)


def _endpoints(address: Address) -> Iterator[tuple[str, socket.AddressFamily]]:
    if not address.host:
        yield from _ALL
    else:
        six = ":" in address.host
        yield address.host, socket.AF_INET6 if six else socket.AF_INET


def _is_of(pid: int, server: int | None) -> bool:
    """Whether a process is the server, or a descendant of it."""
    while server is not None and pid > 1:
        if pid == server:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return False
    return False


def _answers(address: Address) -> bool:
    """Who may not look into other users' processes sees no holder, but can knock."""
    host = address.host or "127.0.0.1"
    with contextlib.suppress(OSError), socket.create_connection((host, address.port), 2.0):
        return True
    return False


def _may_bind(port: int) -> bool:
    if os.geteuid() == 0:
        return True
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
        status = Path("/proc/self/status").read_text()
    except (OSError, ValueError):
        return port >= 1024
    line = next((one for one in status.splitlines() if one.startswith("CapEff:")), "CapEff: 0")
    return port >= first or bool(int(line.split()[1], 16) >> _CAP_NET_BIND_SERVICE & 1)
