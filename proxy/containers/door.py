"""Opens the socket of Docker or Podman, which is root's, for the one process that may ask there.

Whoever may write to that socket is root on the machine. So nobody who speaks with strangers may
open it: neither a worker, nor any other process of the server's user. This process is forked before
the privileges are dropped; it drops them itself, but for the group that the socket belongs to,
confines itself to nothing at all, and then does one thing: when asked over its socket pair, it
connects to the one path that it was made for, and hands the connection over. It never reads or
writes a byte of it. The kernel's rule is on the group, so that no other process of ours can do the
same.

It has no parent to die with: a successor of the supervisor keeps it (an upgrade has no root to make
another). It ends when nobody holds the other end any more.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import signal
import socket
import stat
from pathlib import Path

from acme_client.readable import readable

from .. import sandbox
from ..sandbox.confinement import Mode
from ..system.privileges import confine_process, drop
from ..system.process_title import set_title

log = logging.getLogger("treehouse.docker")

_ASKED = b"?"
_WITHIN = 5.0
# They are the supervisor's; the process ends when the other end is closed.
_NOT_FOR_IT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Refused(Exception):
    """The socket cannot be opened; ``number`` is the errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class Door:
    """Our end of the socket pair, which the supervisor, its successors and the process that asks
    keep."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        self._sock = sock
        self.path = path

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def connect(self) -> socket.socket:
        """Return a connection to the path. Raises `Refused`; with EPIPE where the process has
        ended."""
        try:
            self._sock.sendall(_ASKED)
            if not readable([self._sock], 2 * _WITHIN):
                raise Refused(errno.ETIMEDOUT)
            data, fds, _flags, _address = socket.recv_fds(self._sock, 1024, 1)
        except OSError:
            raise Refused(errno.EPIPE) from None
        if not data:
            raise Refused(errno.EPIPE)
        number = int(data)
        if not fds:
            raise Refused(number or errno.EPIPE)
        return socket.socket(fileno=fds[0])


def opened(path: Path, uid: int, gid: int, mode: Mode) -> Door:
    """Fork the process, and return our end. ``uid`` and ``gid`` are those that the server becomes;
    ``mode`` is how far the process has to be confined."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    group = _group(path) if os.geteuid() == 0 else None
    if os.fork() == 0:
        try:
            # Whatever the start has been handed: a listening socket would keep its port taken here.
            os.closerange(3, theirs.fileno())
            os.closerange(theirs.fileno() + 1, 65536)
            for number in _NOT_FOR_IT:
                signal.signal(number, signal.SIG_IGN)
            set_title("th-docker-door", "treehouse-proxy: docker-door")
            drop(uid, gid, () if group is None else (group,))
            confine_process()
            sandbox.apply(sandbox.NOTHING, mode)
            _serve(theirs, str(path))
        except BaseException:  # nothing may return from here into the start of the server
            log.exception("the process that opens %s ends", path)
        finally:
            os._exit(0)
    theirs.close()
    return Door(ours, str(path))


def _group(path: Path) -> int | None:
    """Return the group that may open the socket; Docker's own, where there is no socket yet."""
    try:
        status = os.stat(path)
    except OSError:
        try:
            return grp.getgrnam("docker").gr_gid
        except KeyError:
            return None
    both = stat.S_IRGRP | stat.S_IWGRP
    return status.st_gid if status.st_mode & both == both else None


def _serve(sock: socket.socket, path: str) -> None:
    while sock.recv(16):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            made.settimeout(_WITHIN)
            try:
                made.connect(path)
            except TimeoutError:
                sock.sendall(b"%d" % errno.ETIMEDOUT)
            except OSError as error:
                sock.sendall(b"%d" % (error.errno or errno.EIO))
            else:
                made.settimeout(None)
                socket.send_fds(sock, [b"0"], [made.fileno()])
