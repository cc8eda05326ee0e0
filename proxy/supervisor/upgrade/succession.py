"""A supervisor's successor and predecessor: who is told what, and who waits for whom.

The states of one supervisor: alone → *upgrading* (a successor has been started and is not ready)
→ *retired* (it is ready; our workers finish what they have). A successor that ends before it is
ready takes us back to being alone.

Who started us waits for our end. Where that is a service manager that can be told of another main
process, it is told. Anywhere else, a shell, a container, a supervisor of the plain kind, the
process that was started first stays as the *foreground parent*: it passes signals on to the program
that serves now, and ends when that program ends, with its status. There is never more than one
foreground parent, however many upgrades: each successor inherits the channel to it, and names its
own successor on it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from typing import Protocol, assert_never

from ...ipc.channel import Channel, ChannelClosed
from ...ipc.codec import JsonObject, Malformed, encode
from ...ipc.handoff_messages import FROM_SUCCESSOR, Successor
from ...ipc.messages import Ready
from ...system.privileges import adopt_orphans
from ..lifecycle import Lifecycle
from ..timers import Timers
from .handoff import Handoff, Program, start

log = logging.getLogger("treehouse.supervisor")

# Reading certificates and starting workers takes a second; a slow disk several.
_READY_WITHIN = 60.0


class Owner(Protocol):
    """What is told how an upgrade goes on (`upgrade`)."""

    def succeeded(self) -> None:
        """The successor is ready; called once for each upgrade, or `failed` is."""
        ...

    def failed(self, error: str) -> None: ...

    def successor_ended(self, status: int) -> None:
        """The successor, which served, has ended with this exit status."""
        ...

    def superseded(self, why: str) -> None:
        """Somebody else serves in the successor's place, or nobody waits for us any more."""
        ...


class Succession:
    """``owner`` is set before the loop begins. ``managed``: a service manager waits for our end,
    and can be told of another main process."""

    owner: Owner

    def __init__(
        self,
        selector: selectors.BaseSelector,
        timers: Timers,
        lifecycle: Lifecycle,
        program: Program,
        handoff: Handoff | None,
        *,
        managed: bool,
    ) -> None:
        self._selector = selector
        self._timers = timers
        self._lifecycle = lifecycle
        self._program = program
        self._managed = managed
        self._predecessor = handoff.predecessor if handoff else None
        # Our predecessor is the foreground parent if it was the first program of all.
        self.foreground_parent = (
            (handoff.foreground_parent or handoff.predecessor) if handoff and not managed else None
        )
        if self.foreground_parent is not None:
            selector.register(
                self.foreground_parent, selectors.EVENT_READ, lambda _events: self._orphaned()
            )
        self._channel: Channel | None = None
        self.pid: int | None = None  # of the successor

    @property
    def keeping(self) -> bool:
        """Whether this process has to stay until the successor ends."""
        return (
            self._lifecycle.retired
            and self.pid is not None
            and not self._managed
            and self.foreground_parent is None
        )

    # Towards the predecessor

    def ready(self) -> None:
        """Tell the predecessor that this process serves."""
        if self._predecessor is not None:
            with contextlib.suppress(ChannelClosed):
                self._predecessor.send(encode(Ready()))

    def _orphaned(self) -> None:
        """End: whoever started the foreground parent sees it as ended, and may start another."""
        assert self.foreground_parent is not None  # noqa: S101 - it is what was registered
        with contextlib.suppress(ChannelClosed):
            self.foreground_parent.receive()
            return
        self._selector.unregister(self.foreground_parent)
        self.owner.superseded("the process that was started first has ended")

    # Towards the successor

    def begin(self, handoff: Handoff) -> None:
        """Start the program on disk. Raises `CannotUpgrade`, and then nothing has changed."""
        if not self._managed and self.foreground_parent is None:
            adopt_orphans()
        # A terminal's Ctrl-C is for the foreground_parent, which passes it on once.
        self.pid, self._channel = start(self._program, handoff, own_group=not self._managed)
        self._lifecycle.upgrading = True
        self._selector.register(self._channel, selectors.EVENT_READ, lambda _events: self._hear())
        pid = self.pid
        self._timers.at(time.monotonic() + _READY_WITHIN, lambda: self._too_late(pid))

    def _too_late(self, pid: int) -> None:
        if self._lifecycle.upgrading and self.pid == pid:
            self._fail("the new program was not ready in time")

    def _hear(self) -> None:
        assert self._channel is not None  # noqa: S101 - it is what was registered
        try:
            for said, fds in self._channel.receive():
                for fd in fds:
                    os.close(fd)
                self._take(said)
        except ChannelClosed:
            if self._lifecycle.upgrading:
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
                if self._lifecycle.upgrading:
                    self._on_ready()
            case Successor(pid):
                self.pid = pid
                self.owner.superseded("the successor has been upgraded as well")
            case _:
                assert_never(message)

    def _on_ready(self) -> None:
        self._lifecycle.upgrading, self._lifecycle.retired = False, True
        for before in {self._predecessor, self.foreground_parent}:
            with contextlib.suppress(ChannelClosed):
                if before is not None:
                    before.send(encode(Successor(self.pid)))
        self.owner.succeeded()

    def _fail(self, why: str) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.pid = None
        self._lifecycle.upgrading = False
        self._let_go()
        self.owner.failed(why)

    def _let_go(self) -> None:
        if self._channel is not None:
            self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None

    def exited(self, pid: int, status: int) -> None:
        """Take the end of a process that was not forked here, with its wait status."""
        if pid == self.pid and self._lifecycle.retired:
            self.pid = None
            self.owner.successor_ended(os.waitstatus_to_exitcode(status))

    def pass_on(self, number: int) -> bool:
        """Pass a signal on to the process that serves now. Whether that is this process's part."""
        if not self.keeping or self.pid is None:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, number)
        return True

    def close_in_child(self, *_: object) -> None:
        """No child takes part in an upgrade."""
        for channel in (self._predecessor, self.foreground_parent, self._channel):
            if channel is not None:
                channel.close()
