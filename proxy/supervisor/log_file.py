"""Where access lines go: one descriptor, which workers get at their start and when it changes.

It is opened again when somebody has rotated the file (SIGHUP, SIGUSR1), and when a reload names
another place. The privileges and the sandbox are those of the running server: a place that it
cannot open is reported, and lines go where they went. The descriptor before is closed, or a file
that was rotated away would keep its room on the disk for as long as the server runs.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Callable

from ..config.model import Config
from .roles import AnyRole

log = logging.getLogger("treehouse.supervisor")

_STANDARD = (1, 2)  # the program's own output and errors, which stay open


def open_access_log(config: Config) -> int | None:
    """The descriptor that access lines go to, the caller's to close, or None; a file is made 0640
    and always appended to. Raises `OSError`; never waits, whatever lies there."""
    match config.log.access:
        case "off":
            return None
        case "stdout":
            return os.dup(1)
        case "stderr":
            return os.dup(2)
        case path:
            # Without O_NONBLOCK a pipe that nobody reads would hold the supervisor up for ever.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(path, flags | os.O_NONBLOCK, 0o640)
            try:
                if stat.S_ISFIFO(os.fstat(fd).st_mode):
                    raise OSError(errno.EINVAL, "it is a pipe and no file", path)
                os.set_blocking(fd, True)
                if os.geteuid() == 0:
                    os.fchown(fd, config.uid, config.gid)  # so that it can be opened again later
            except BaseException:
                os.close(fd)
                raise
            return fd


class AccessLogFile:
    """``open_`` returns a descriptor, or None where none is wanted; ``fd`` is what it returned."""

    def __init__(
        self, config: Config, fd: int | None, open_: Callable[[Config], int | None]
    ) -> None:
        self._place = config.log.access
        self._open = open_
        self.fd = fd

    @property
    def is_file(self) -> bool:
        return self.fd is not None and self.fd not in _STANDARD

    def follow(self, config: Config) -> None:
        """Called before the workers of a new generation are started."""
        if config.log.access != self._place and self.reopen(config):
            log.info("access lines go to %s now", config.log.access)

    def reopen(self, config: Config) -> bool:
        """Open the file anew. Whether that was possible."""
        try:
            fd = self._open(config)
        except OSError as error:
            log.error(
                "the access log %s cannot be opened: %s; lines go where they went (what the "
                "sandbox or the server's user may not open takes a restart)",
                config.log.access, error.strerror,
            )  # fmt: skip
            return False
        self.close()
        self.fd, self._place = fd, config.log.access
        return True

    def close_in_child(self, role: AnyRole, _generation: int) -> None:
        if "access_log" not in role.inherits:
            self.close()

    def close(self) -> None:
        if self.fd is not None and self.is_file:
            with contextlib.suppress(OSError):
                os.close(self.fd)
