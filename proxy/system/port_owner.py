"""Finds the process that listens on a port, for the message that the port is in use.

/proc/net/tcp and tcp6 belong to the network namespace of whoever reads them, so the answer is right
inside one too. They give a socket's inode; whose descriptor that is can be seen only for processes
that this user may look into (all of them as root). Every step may race with the other process's
end, and then nothing is found, which is an answer as well.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from acme_client.late_dataclass import dataclass

_LISTEN = "0A"  # include/net/tcp_states.h
_COMMAND = 80  # characters of a command line that still fit into a message
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    command: str


def find_holder(
    family: socket.AddressFamily, host: str, port: int, proc: Path = Path("/proc")
) -> Holder | None:
    """The oldest process that listens on an address that overlaps with this one, or None."""
    inodes = _listening(family, host, port, proc)
    holders = [pid for pid in pids(proc) if inodes & _sockets_of(proc / str(pid))]
    if not holders:
        return None
    return Holder(min(holders), _command(proc / str(min(holders))))


def _listening(family: socket.AddressFamily, host: str, port: int, proc: Path) -> set[str]:
    packed = socket.inet_pton(family, host.partition("%")[0])
    inodes: set[str] = set()
    for table, table_family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for local, inode in _rows(proc / "net" / table):
            address, _, port_hex = local.partition(":")
            if int(port_hex, 16) != port:
                continue
            there = _network_order(address)
            # Between the families only the IPv6 "all addresses" can be in the way.
            same = table_family == family and there == packed
            if same or not any(there) or not any(packed):
                inodes.add(inode)
    return inodes


def _rows(table: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = table.read_text("ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        columns = line.split()
        if columns[3] == _LISTEN:
            yield columns[1], columns[9]


def _network_order(text: str) -> bytes:
    # The kernel prints each 32-bit word as a number of the machine's own byte order.
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return struct.pack(f"={len(words)}I", *words)


def pids(proc: Path) -> list[int]:
    """Return the processes that there are, in the order of the kernel's list."""
    return [int(entry) for entry in os.listdir(proc) if entry.isdecimal()]


def _sockets_of(process: Path) -> set[str]:
    found: set[str] = set()
    with contextlib.suppress(OSError):  # gone, or not ours to look into
        for entry in os.scandir(process / "fd"):
            with contextlib.suppress(OSError):
                if link := _SOCKET.fullmatch(os.readlink(entry.path)):
                    found.add(link[1])
    return found


def _command(process: Path) -> str:
    try:
        line = (process / "cmdline").read_bytes().replace(b"\0", b" ").strip()
        line = line or (process / "comm").read_bytes().strip()
    except OSError:
        return "a process that has just ended"
    text = "".join(c if c.isprintable() else "?" for c in line.decode("utf-8", "replace"))
    return text if len(text) <= _COMMAND else text[: _COMMAND - 3] + "..."
