"""What systemd hands over and wants to be told: sockets in, notifications out.

Both protocols are a few environment variables and one datagram (sd_listen_fds(3), sd_notify(3)),
spoken here without its library. The variables are removed once read, so that no child takes them
for its own. The notification socket is opened and connected at construction: later the sandbox
would not let an abstract one be reached, while one that is connected goes on working.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import time

from .listeners import CannotBind, Kind, Listener, display_address, make_ready

log = logging.getLogger("treehouse.boot")

_FIRST = 3  # SD_LISTEN_FDS_START
_KINDS: dict[str, Kind] = {"http": "http", "https": "https", "admin": "admin"}
# For sockets without a name of ours: the well-known ports, and what people use without root.
_BY_PORT: dict[int, Kind] = {80: "http", 8080: "http", 443: "https", 8443: "https"}
_NAME_IT = (
    "Give each socket unit its name: [Socket] FileDescriptorName=http (or https), "
    "and only ListenStream= addresses"
)


def inherited_listeners() -> tuple[Listener, ...]:
    """The sockets that were handed to this very process; none is the usual case.

    Raises `CannotBind` for a descriptor that is not a listening stream socket, or whose kind
    neither its name nor its port tells.
    """
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    os.environ.pop("LISTEN_PIDFDID", None)  # systemd 258: the same as LISTEN_PID, harder to forge
    if pid != str(os.getpid()) or not count.isdecimal():
        return ()
    descriptors = range(_FIRST, _FIRST + int(count))
    padded = names + [""] * (len(descriptors) - len(names))
    return tuple(_adopt(fd, name) for fd, name in zip(descriptors, padded, strict=False))


def _adopt(fd: int, name: str) -> Listener:
    spelt = f"descriptor {fd} ({name or 'unnamed'})"
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise CannotBind(spelt, "what was handed over is not a socket", _NAME_IT)
    except OSError as error:
        raise CannotBind(spelt, f"LISTEN_FDS names it, but: {error.strerror}", _NAME_IT) from None
    sock = socket.socket(fileno=fd)
    streams = sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) and (
        sock.type == socket.SOCK_STREAM
    )
    if not streams or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        reason = "what was handed over is not a listening stream socket"
        raise CannotBind(spelt, reason, _NAME_IT)
    make_ready(sock)
    address = display_address(sock)
    kind = _KINDS.get(name) or _kind_by_port(sock)
    if kind is None:
        sock.detach()
        reason = "neither its name nor its port tells whether it is for http or https"
        raise CannotBind(f"{address}, {spelt}", reason, _NAME_IT)
    if name not in _KINDS:
        log.info("%s, handed over as %r, is taken for %s by its port", address, name, kind)
    return Listener(kind, address, sock)


def _kind_by_port(sock: socket.socket) -> Kind | None:
    name = sock.getsockname()
    return _BY_PORT.get(name[1]) if isinstance(name, tuple) else None


class Notifier:
    """Tells the service manager how things stand; says nothing where there is none.

    ``watchdog_interval`` is how often, in seconds, `watchdog` should be called, None where nobody
    watches. Nothing here blocks or raises: a manager that does not listen must not stop the server.
    """

    def __init__(self, sock: socket.socket | None = None) -> None:
        """``sock`` is connected already: inherited, where the sandbox may not let us have one."""
        path = os.environ.pop("NOTIFY_SOCKET", "")
        self.sock = sock or (_connect(path) if path else None)
        self.watchdog_interval = _watchdog_interval()

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send("STATUS=" + text.replace("\n", " "))

    def reloading(self) -> None:
        """Before a reload; `ready` ends it. The time lets the manager match the two
        (``Type=notify-reload``)."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def main_pid(self, pid: int) -> None:
        """Another process takes over (upgrade); still said by the old one."""
        self._send(f"MAINPID={pid}")

    def watchdog(self) -> None:
        if self.watchdog_interval is not None:
            self._send("WATCHDOG=1")

    def close_in_child(self, *_: object) -> None:
        """A child has nothing to tell the service manager."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def _send(self, message: str) -> None:
        if self.sock is not None:
            with contextlib.suppress(OSError):  # full, or gone: the next message may come through
                self.sock.send(message.encode("utf-8", "replace"))


def _connect(path: str) -> socket.socket | None:
    if path[0] not in "/@":
        log.warning("NOTIFY_SOCKET=%s is of a kind that is not supported", path)
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect("\0" + path[1:] if path[0] == "@" else path)
    except OSError as error:
        log.warning("the service manager cannot be told anything: %s: %s", path, error.strerror)
        sock.close()
        return None
    return sock


def _watchdog_interval() -> float | None:
    """Half of what the manager allows, as sd_watchdog_enabled(3) recommends."""
    allowed = os.environ.pop("WATCHDOG_USEC", "")
    pid = os.environ.pop("WATCHDOG_PID", "")
    if not allowed.isdecimal() or int(allowed) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(allowed) / 2 / 1_000_000
