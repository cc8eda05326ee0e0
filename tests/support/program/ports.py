"""Ports, and addresses, that a test may name before anybody listens there.

A port that was free a moment ago may be gone by the time the program under test binds it: the kernel
gives it to another test's connection, or to the next who asks for any. So these lie outside the range
that the kernel gives away, and each is reserved, against other tests and other runs on this machine,
until the process that was given it ends: a lock on one byte of a file, whose number is the port's.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

import pytest

_LEAST = 10_240
_KERNELS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: set[int] = set()
_locks = -1


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nobody listens, all different, never given before."""
    found: list[int] = []
    below = int(_KERNELS.read_text().split()[0])
    if below <= _LEAST:  # set to give everything away: then chance has to do
        below = 65_536
    while len(found) < count:
        port = random.randrange(_LEAST, below)
        if port not in _given and _is_free(port) and _reserve(port):
            _given.add(port)
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _reserve(port: int) -> bool:
    global _locks
    if _locks < 0:
        # In a folder where all may write, another user's file could not be opened.
        path = Path(tempfile.gettempdir(), f"treehouse-test-ports-{os.geteuid()}")
        _locks = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def free_address(*ports: int) -> str:
    """An address of the loopback network where nobody listens at these ports, which are those of a
    protocol and cannot be chosen."""
    while True:
        address = "127." + ".".join(str(random.randint(10, 250)) for _ in range(3))
        try:
            for port in ports:
                with socket.create_server((address, port)):
                    pass
        except PermissionError:
            pytest.skip(f"ports {ports} of a loopback address need root")
        except OSError:
            continue
        return address
