"""Rotates the access log by itself: `log.rotate`.

When the file has grown past the size, it gets the name access.log.1, what had that name gets the
next one, and the oldest goes. Workers are handed a new file first, so no line is lost, and the file
that was moved is compressed only when they have had time to take it.

Why it is hard: the supervisor waits for nothing. So compressing goes on in small steps between
which everything else has its turn, and never begins anew while it is under way. A step that fails
(a full disk, a folder that the sandbox keeps shut) is told once and leaves the log as it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import zlib
from collections.abc import Callable

from ..config.model import Config
from .timers import Timers

log = logging.getLogger("treehouse.supervisor")

_LOOK_EVERY = 5.0
# Workers have had the new file long since.
_COMPRESS_AFTER = 20.0
_STEP = 128 * 1024  # some three milliseconds of gzip
_PAUSE = 0.02


class Rotation:
    """``config`` returns the configuration in force; ``reopen`` has all workers write to the file
    that has the name now."""

    def __init__(
        self, timers: Timers, config: Callable[[], Config], reopen: Callable[[Config], None]
    ) -> None:
        self._timers = timers
        self._config = config
        self._reopen = reopen
        self._compressing = False
        self._told = ""

    def start(self) -> None:
        self._timers.at(time.monotonic() + _LOOK_EVERY, self._look)

    def _look(self) -> None:
        self._timers.at(time.monotonic() + _LOOK_EVERY, self._look)
        config = self._config()
        rules, path = config.log.rotate, config.log.access
        if rules is None or not path.startswith("/") or self._compressing:
            return
        try:
            if os.stat(path).st_size < rules.size:
                return
            rotate(path, rules.keep)
        except OSError as error:
            self._tell(f"the access log {path} cannot be rotated: {error.strerror}")
            return
        self._told = ""
        self._reopen(config)
        if rules.compress:
            self._compressing = True
            self._timers.at(time.monotonic() + _COMPRESS_AFTER, lambda: self._compress(f"{path}.1"))

    def _compress(self, path: str) -> None:
        try:
            work = _Compression(path)
        except OSError as error:
            self._compressing = False
            self._tell(f"{path} cannot be compressed: {error.strerror}")
            return
        self._go_on(work)

    def _go_on(self, work: _Compression) -> None:
        try:
            done = work.step()
        except OSError as error:
            work.give_up()
            self._compressing = False
            self._tell(f"{work.path} cannot be compressed: {error.strerror}")
            return
        if done:
            self._compressing = False
        else:
            self._timers.at(time.monotonic() + _PAUSE, lambda: self._go_on(work))

    def _tell(self, text: str) -> None:
        """Once, until a rotation has succeeded."""
        if text != self._told:
            self._told = text
            log.error("%s", text)


def rotate(path: str, keep: int) -> None:
    """Move the file and those before it one number on; at most ``keep`` of them stay. Raises
    `OSError`."""
    for ending in ("", ".gz"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.{keep}{ending}")
    for number in range(keep - 1, 0, -1):
        for ending in ("", ".gz"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}.{number}{ending}", f"{path}.{number + 1}{ending}")
    os.rename(path, f"{path}.1")


class _Compression:
    """A file that becomes ``path``.gz in steps; the whole one appears by renaming."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._new = f"{path}.gz.new"
        self._from = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._to = os.open(self._new, flags, 0o640)
        except OSError:
            os.close(self._from)
            raise
        self._gzip = zlib.compressobj(6, zlib.DEFLATED, 31)

    def step(self) -> bool:
        """Compress a piece; whether that was the last. Raises `OSError`."""
        piece = os.read(self._from, _STEP)
        made = self._gzip.compress(piece) if piece else self._gzip.flush()
        while made:
            made = made[os.write(self._to, made) :]
        if piece:
            return False
        os.fsync(self._to)
        os.rename(self._new, f"{self.path}.gz")
        os.unlink(self.path)
        self._close()
        return True

    def give_up(self) -> None:
        self._close()
        with contextlib.suppress(OSError):
            os.unlink(self._new)

    def _close(self) -> None:
        os.close(self._from)
        os.close(self._to)
