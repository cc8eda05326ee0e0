"""The way from the workers to the exporter: one socket pair, which outlives all of them.

Made when a configuration first has ``tracing``. Packets keep their bounds (SOCK_SEQPACKET), and
many workers write to the same end. The supervisor keeps both ends for children to come, and never
reads.
"""

from __future__ import annotations

import socket

from .roles import AnyRole


class SpanPipe:
    def __init__(self) -> None:
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def ends(self) -> tuple[socket.socket, socket.socket]:
        """Return the end for writing, and the one for reading. Raises `OSError`."""
        if self._ends is None:
            self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return self._ends

    def close_in_child(self, role: AnyRole, _generation: int) -> None:
        if self._ends is None:
            return
        for end, name in zip(self._ends, ("spans out", "spans in"), strict=True):
            if name not in role.inherits:
                end.close()
