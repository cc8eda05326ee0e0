"""Descriptors kept back, so that those which another process sends can be taken.

At its limit of open descriptors a process still gets messages, but the kernel throws away the
descriptors that came with them (MSG_CTRUNC, recvmsg(2)). A worker full of connections would then
never learn of a renewed certificate. So each process that is sent descriptors holds a few of its
own, and lets go of them while it takes in what has come.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

# As many as come at once (`channel`), and as many again to work with them: a certificate is read
# through another descriptor.
SIZE = 16


class Reserve:
    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._kept: list[int] = []
        self._fill()

    def _fill(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._kept) < self._size:
                self._kept.append(os.eventfd(0, os.EFD_CLOEXEC))

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Have room for descriptors inside the block, and none to spare after it."""
        self.close()
        try:
            yield
        finally:
            self._fill()

    def close(self) -> None:
        while self._kept:
            os.close(self._kept.pop())

    def close_in_child(self, *_: object) -> None:
        self.close()
