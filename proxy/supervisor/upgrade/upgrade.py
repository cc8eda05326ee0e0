"""An upgrade as one step after the other: a successor is started, and either serves or is given up.

Only one of the two programs has a certifier at a time: both would be at the same work. So ours ends
before the successor starts its own, and comes back if the successor fails.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal

from ...system.certificate_files import OwnCertificates
from ...system.state_lock import StateLock
from ...system.systemd import Notifier
from ..answers import Answer, Reply
from ..containers import ContainerFeed
from ..control.board import Board
from ..reload.generations import Generations
from ..reload.reload import Reloader
from ..shutdown import Shutdown
from ..spawner import Spawner
from .handoff import CannotUpgrade, Handoff
from .succession import Succession

log = logging.getLogger("treehouse.supervisor")


class Upgrade:
    """Nothing else may be under way when it begins. ``started_as`` and ``sandbox`` are left to the
    successor, see `Handoff`."""

    def __init__(
        self,
        succession: Succession,
        generations: Generations,
        spawner: Spawner,
        reloader: Reloader,
        shutdown: Shutdown,
        notifier: Notifier,
        own: OwnCertificates,
        lock: StateLock,
        *,
        started_as: int,
        sandbox: str,
        containers: ContainerFeed,
        board: Board,
    ) -> None:
        self._succession = succession
        self._generations = generations
        self._spawner = spawner
        self._reloader = reloader
        self._shutdown = shutdown
        self._notifier = notifier
        self._own = own
        self._lock = lock
        self._started_as = started_as
        self._sandbox = sandbox
        self._containers = containers
        self._board = board
        self._reply: Reply | None = None
        succession.owner = self

    def begin(self, why: str, reply: Reply) -> None:
        log.info("upgrading to the program now on disk: %s", why)
        serving = self._generations.serving
        handoff = Handoff(
            generation=serving.number,
            started_as=self._started_as,
            sandbox=self._sandbox,
            listeners=serving.listeners,
            certificates=self._own.present,
            manager=self._notifier.sock,
            foreground_parent=self._succession.foreground_parent,
            lock=self._lock.fd,
            door=self._containers.door,
            history=self._board.history if serving.config.admin is not None else None,
        )
        try:
            self._succession.begin(handoff)
        except CannotUpgrade as error:
            log.error("%s; nothing was changed", error)
            reply({"ok": False, "error": str(error)})
            return
        self._reply = reply
        self._spawner.end_certifier()

    # From the succession

    def succeeded(self) -> None:
        """The successor serves: what is left here is to be finished."""
        pid = self._succession.pid
        log.info("process %s has taken over; finishing what is under way", pid)
        if pid is not None:
            self._notifier.main_pid(pid)
            if self._reloader.asked_again:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGHUP)
        self._lock.let_go()
        self._containers.stop()
        self._reloader.retire()
        self._shutdown.finish_if_empty()
        self._answer({"ok": True, "error": None, "pid": pid})

    def failed(self, error: str) -> None:
        log.error("%s; this one goes on", error)
        self._spawner.start_certifier()
        self._answer({"ok": False, "error": error, "pid": self._succession.pid})

    def _answer(self, answer: Answer) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply(answer)

    def successor_ended(self, status: int) -> None:
        self._shutdown.after_successor(status)

    def superseded(self, why: str) -> None:
        """What we still have is to be brought to its end, within the usual bound."""
        self._shutdown.stop_once(why)
