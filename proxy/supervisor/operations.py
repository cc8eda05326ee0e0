"""What people order: a reload, an upgrade, the end. Only one of them is under way at a time.

Before the end a server may *drain*: everything is served as before, but `/healthz` says that no
more clients are to be sent here, for as long as balancers need to notice.
"""

from __future__ import annotations

import logging
import time

from .answers import BUSY, Answer, Reply, unheard
from .lifecycle import Lifecycle
from .reload.reload import Reloader
from .shutdown import Shutdown
from .timers import Timer, Timers
from .upgrade.upgrade import Upgrade

log = logging.getLogger("treehouse.supervisor")


class Operations:
    """``reload`` and ``upgrade`` reply when they are through, or at once when they cannot begin."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        reloader: Reloader,
        upgrade: Upgrade,
        shutdown: Shutdown,
        timers: Timers,
    ) -> None:
        self._lifecycle = lifecycle
        self._timers = timers
        self._end: Timer | None = None  # of the drain that is under way
        self._reloader = reloader
        self._upgrade = upgrade
        self._shutdown = shutdown

    @property
    def busy(self) -> bool:
        """Whether something is under way that a reload or an upgrade would get in the way of."""
        return self._lifecycle.stopping or self._reloader.under_way or self._lifecycle.upgrading

    def reload(self, why: str, reply: Reply) -> None:
        """Reload now, or after the start or the reload that is under way, which may have read the
        files before they were changed."""
        if not self.busy:
            self._reloader.reload(why, reply)
        elif self._lifecycle.stopping or self._lifecycle.upgrading:
            reply(BUSY)
        else:
            self._reloader.remember(reply)

    def reload_by_signal(self) -> None:
        """Nobody hears an answer to a signal: during an upgrade the successor gets it as well."""
        if not self.busy or self._lifecycle.stopping:
            self.reload("SIGHUP", unheard)
        else:
            self._reloader.remember(unheard)

    def upgrade(self, why: str, reply: Reply) -> None:
        if self.busy:
            reply(BUSY)
        elif self._lifecycle.draining:
            reply({"ok": False, "error": "it drains, and stops then; drain --cancel ends that"})
        else:
            self._upgrade.begin(why, reply)

    def upgrade_by_signal(self) -> None:
        def refused(answer: Answer) -> None:
            if answer == BUSY:
                log.warning("SIGUSR2: nothing was done: %s", BUSY["error"])

        self.upgrade("SIGUSR2", refused)

    def drain(self, seconds: float, reply: Reply) -> None:
        """Have balancers send nobody from now on, and stop after so many seconds."""
        if self._lifecycle.stopping or self._lifecycle.upgrading or self._lifecycle.retired:
            reply(BUSY)
            return
        if self._end is not None:
            self._end.cancel()
        self._lifecycle.draining = True
        log.info("draining: /healthz answers 503, and this server stops in %.0f s", seconds)
        self._end = self._timers.at(time.monotonic() + seconds, self._drained)
        reply({"ok": True})

    def undrain(self, reply: Reply) -> None:
        """Take clients again."""
        if self._end is None or self._lifecycle.stopping:
            reply({"ok": False, "error": "it does not drain"})
            return
        self._end.cancel()
        self._end = None
        self._lifecycle.draining = False
        log.info("draining no more: /healthz answers 200")
        reply({"ok": True})

    def _drained(self) -> None:
        if not self._lifecycle.stopping:
            self._shutdown.stop("it has drained")

    def stop(self, why: str) -> None:
        self._shutdown.stop(why)
