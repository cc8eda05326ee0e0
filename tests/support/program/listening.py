"""Which TCP ports somebody listens on in a network namespace, by asking the kernel for just these.

/proc/net/tcp tells the same, and walks the table of all connections for that: twenty milliseconds on a
large machine, each time that a test looks whether a peer is there yet. It is read where the kernel
does not answer.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

from . import netns

# linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h
_NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_LISTEN = 1 << 10  # the state 0A, as a bit
_ANY_SOCKET = bytes(48)


def ports(pid: int) -> set[int]:
    """The ports, in the network namespace of a process; none when the process is no more."""
    try:
        return _asked(pid)
    except OSError:
        return _read(pid)


def _asked(pid: int) -> set[int]:
    theirs = f"/proc/{pid}/ns/net"
    same = os.stat(theirs).st_ino == os.stat("/proc/thread-self/ns/net").st_ino
    with contextlib.nullcontext() if same else netns.inside(theirs):
        asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    with asking:
        return _listening(asking, socket.AF_INET) | _listening(asking, socket.AF_INET6)


def _read(pid: int) -> set[int]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:  # the process has just ended; whoever asks looks at that
            continue
        found |= {
            int(line.split()[1].rpartition(":")[2], 16) for line in lines if line.split()[3] == "0A"
        }
    return found


def _listening(asking: socket.socket, family: int) -> set[int]:
    wanted = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _LISTEN) + _ANY_SOCKET
    asking.send(struct.pack("=IHHII", 16 + len(wanted), _BY_FAMILY, _REQUEST_DUMP, 0, 0) + wanted)
    found = set()
    while True:
        told = asking.recv(1 << 16)
        while told:
            length, kind = struct.unpack_from("=IH", told)
            if kind == _DONE:
                return found
            if kind == _ERROR:
                (number,) = struct.unpack_from("=i", told, 16)
                raise OSError(-number, os.strerror(-number))
            # inet_diag_msg: four bytes, then the port, in the network's order.
            found.add(struct.unpack_from(">H", told, 20)[0])
            told = told[length + 3 & ~3 :]
