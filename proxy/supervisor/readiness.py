"""The moment when a server serves for the first time: then it is asked, and takes over.

An ordinary start opens its control socket at once. A successor does so only when it serves: until
then commands are its predecessor's, which hears at the same moment that it may let go.
"""

from __future__ import annotations

from ..system.state_lock import StateLock
from .control.server import ControlSocket
from .upgrade.succession import Succession


class Readiness:
    def __init__(self, control: ControlSocket, succession: Succession, lock: StateLock) -> None:
        self._control = control
        self._succession = succession
        self._lock = lock
        self._reached = False

    def reached(self) -> None:
        """A generation serves; only the first one counts."""
        if not self._reached:
            self._reached = True
            self._control.open()
            self._lock.sign()
            self._succession.ready()
