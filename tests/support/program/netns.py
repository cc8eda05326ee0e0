"""A network namespace of a test's own: ports 80 and 443 that nobody else has, and a kernel's default
for who may bind them (`ip_unprivileged_port_start` is 1024 in a new one, whatever the host says)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import uuid
from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Netns:
    def __init__(self) -> None:
        self.name = f"th-{uuid.uuid4().hex[:10]}"

    def __enter__(self) -> Netns:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    @property
    def prefix(self) -> tuple[str, ...]:
        """To be put before a command that is to run in it."""
        return ("ip", "netns", "exec", self.name)

    def run(self, *command: str) -> str:
        done = subprocess.run([*self.prefix, *command], check=True, capture_output=True, text=True)
        return done.stdout

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Sockets that this thread makes meanwhile belong to the namespace."""
        return inside(f"/run/netns/{self.name}")


@contextlib.contextmanager
def inside(path: str) -> Iterator[None]:
    """The same for a namespace by its path, as ``/proc/PID/ns/net``."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(path, os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(own)
        os.close(own)
        os.close(there)


def _enter(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
