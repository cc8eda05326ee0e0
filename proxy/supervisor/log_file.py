"""Where access lines go: one descriptor, which workers are born with and are sent when it changes.

It is opened again when somebody has rotated the file, and when a reload names another place. The
privileges and the sandbox are those of the running server: a place that it cannot open is told, and
lines go on to the one before. What is left is closed, or a file that was rotated away would keep
its room on the disk for as long as the server runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable

from ..config.model import Config
from .process_table import Role

log = logging.getLogger("treehouse.supervisor")

_STANDARD = (1, 2)  # the program's own output and errors, which stay open


class AccessLog:
    """``open_`` gives a descriptor, or None where there is none wanted; ``fd`` is what it gave."""

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
        """Before the workers of a new generation are born."""
        if config.log.access != self._place and self.reopen(config):
            log.info("access lines go to %s now", config.log.access)

    def reopen(self, config: Config) -> bool:
        """Whether it could be opened."""
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

    def close_in_child(self, role: Role, _number: int) -> None:
        """In a forked child: only a worker writes access lines."""
        if role != "worker":
            self.close()

    def close(self) -> None:
        if self.fd is not None and self.is_file:
            with contextlib.suppress(OSError):
                os.close(self.fd)
