"""A supervisor's successor and predecessor: who is told what, and who waits for whom.

The states of one supervisor: alone → *upgrading* (a successor has been started and is not ready)
→ *retired* (it is ready; our workers finish what they have). A successor that ends before it is
ready takes us back to being alone.

Who started us waits for our end. Where that is a service manager that can be told of another main
process, it is told. Anywhere else, a shell, a container, a supervisor of the plain kind, the
process that was started first stays as the *keeper*: it passes signals on to whoever serves now,
and ends when that one ends, with its status. There is never more than one keeper, however many
upgrades: each successor inherits the channel to it, and says on it who comes next.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import assert_never

from ...ipc.channel import Channel, ChannelClosed
from ...ipc.codec import JsonObject, Malformed, encode
from ...ipc.messages import FROM_SUCCESSOR, Ready, Successor
from ...system.privileges import adopt_orphans
from ..timers import Schedule
from .handoff import Estate, Program, start

log = logging.getLogger("treehouse.supervisor")

# Reading certificates and starting workers takes a second; a slow disk several.
_READY_WITHIN = 60.0


class Succession:
    """``settled(error)`` is called once for each upgrade that was begun: with None when the
    successor is ready, or with why it is not. ``ended(status)``: a successor that serves has ended.
    ``superseded(why)``: what we still have is to be brought to its end, within the usual bound.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        schedule: Schedule,
        program: Program,
        estate: Estate | None,
        *,
        managed: bool,
        settled: Callable[[str | None], None],
        ended: Callable[[int], None],
        superseded: Callable[[str], None],
    ) -> None:
        self._selector = selector
        self._schedule = schedule
        self._program = program
        self._settled = settled
        self._ended = ended
        self._superseded = superseded
        self._managed = managed
        self._predecessor = estate.predecessor if estate else None
        # Our predecessor is the keeper if it was the first and nobody else is.
        self.keeper = (estate.keeper or estate.predecessor) if estate and not managed else None
        if self.keeper is not None:
            selector.register(self.keeper, selectors.EVENT_READ, lambda _events: self._orphaned())
        self._channel: Channel | None = None
        self.pid: int | None = None  # of the successor
        self.retired = False

    @property
    def upgrading(self) -> bool:
        return self.pid is not None and not self.retired

    @property
    def keeping(self) -> bool:
        """Whether we have to stay until the successor ends."""
        return self.retired and self.pid is not None and not self._managed and self.keeper is None

    # Towards the predecessor

    def ready(self) -> None:
        """We serve; the predecessor may let go."""
        if self._predecessor is not None:
            with contextlib.suppress(ChannelClosed):
                self._predecessor.send(encode(Ready()))

    def _orphaned(self) -> None:
        """Whoever started the keeper sees us as ended, and may start another."""
        assert self.keeper is not None  # noqa: S101 - it is what was registered
        with contextlib.suppress(ChannelClosed):
            self.keeper.receive()
            return
        self._selector.unregister(self.keeper)
        self._superseded("the process that was started first has ended")

    # Towards the successor

    def begin(self, estate: Estate) -> None:
        """Start the program on disk. Raises `CannotUpgrade`, and then nothing has changed."""
        if not self._managed and self.keeper is None:
            adopt_orphans()
        # A terminal's Ctrl-C is for the keeper, which passes it on once.
        self.pid, self._channel = start(self._program, estate, own_group=not self._managed)
        self._selector.register(self._channel, selectors.EVENT_READ, lambda _events: self._hear())
        pid = self.pid
        self._schedule.at(time.monotonic() + _READY_WITHIN, lambda: self._too_late(pid))

    def _too_late(self, pid: int) -> None:
        if self.upgrading and self.pid == pid:
            self._fail("the new program was not ready in time")

    def _hear(self) -> None:
        assert self._channel is not None  # noqa: S101 - it is what was registered
        try:
            for said, fds in self._channel.receive():
                for fd in fds:
                    os.close(fd)
                self._take(said)
        except ChannelClosed:
            if self.upgrading:
                self._fail("the new program ended before it was ready; its log lines say why")
            else:
                self._let_go()

    def _take(self, said: JsonObject) -> None:
        try:
            message = FROM_SUCCESSOR.decode(said)
        except Malformed as why:
            log.error("what the successor says is not understood: %s", why)
            return
        match message:
            case Ready():
                if self.upgrading:
                    self._on_ready()
            case Successor(pid):
                self.pid = pid
                self._superseded("the successor has been upgraded as well")
            case _:
                assert_never(message)

    def _on_ready(self) -> None:
        self.retired = True
        for before in {self._predecessor, self.keeper}:
            with contextlib.suppress(ChannelClosed):
                if before is not None:
                    before.send(encode(Successor(self.pid)))
        self._settled(None)

    def _fail(self, why: str) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.pid = None
        self._let_go()
        self._settled(why)

    def _let_go(self) -> None:
        if self._channel is not None:
            self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None

    def exited(self, pid: int, status: int) -> None:
        """A child that is none of our workers has ended, with this wait status."""
        if pid == self.pid and self.retired:
            self.pid = None
            self._ended(os.waitstatus_to_exitcode(status))

    def pass_on(self, number: int) -> bool:
        """Give a signal to the process that serves now; False where that is not our part."""
        if not self.keeping or self.pid is None:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, number)
        return True

    def close_in_child(self, *_: object) -> None:
        """In a forked child: upgrades are not its business."""
        for channel in (self._predecessor, self.keeper, self._channel):
            if channel is not None:
                channel.close()
