"""Makes signals into bytes on a socket: handlers only enqueue, and the loop reads."""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Callable

CAUGHT = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)


class Signals:
    """``on_signal(number)`` is called from the loop, in the order in which they came."""

    def __init__(self, selector: selectors.BaseSelector, on_signal: Callable[[int], None]) -> None:
        self._on_signal = on_signal
        self._ours, self._wakeup = socket.socketpair()
        for sock in (self._ours, self._wakeup):
            sock.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in CAUGHT:
            signal.signal(number, lambda *_: None)
        selector.register(self._ours, selectors.EVENT_READ, self._read)

    def close_in_child(self, *_: object) -> None:
        self._ours.close()
        self._wakeup.close()

    def _read(self, _events: int) -> None:
        for number in self._ours.recv(4096):
            self._on_signal(number)
