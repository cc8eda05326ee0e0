"""What people order: a reload, an upgrade, the end. Only one of them is under way at a time."""

from __future__ import annotations

import logging

from .answers import BUSY, Answer, Reply, unheard
from .lifecycle import Lifecycle
from .reload.reload import Reloader
from .shutdown import Shutdown
from .upgrade.upgrade import Upgrade

log = logging.getLogger("treehouse.supervisor")


class Operations:
    """``reload`` and ``upgrade`` reply when they are through, or at once when they cannot begin."""

    def __init__(
        self, lifecycle: Lifecycle, reloader: Reloader, upgrade: Upgrade, shutdown: Shutdown
    ) -> None:
        self._lifecycle = lifecycle
        self._reloader = reloader
        self._upgrade = upgrade
        self._shutdown = shutdown

    @property
    def busy(self) -> bool:
        """Whether something is under way that a reload or an upgrade would get in the way of."""
        return self._lifecycle.stopping or self._reloader.under_way or self._lifecycle.upgrading

    def reload(self, why: str, reply: Reply) -> None:
        if self.busy:
            reply(BUSY)
        else:
            self._reloader.reload(why, reply)

    def reload_by_signal(self) -> None:
        """Nobody hears an answer to a signal, so what cannot be begun now is begun later."""
        if not self.busy or self._lifecycle.stopping:
            self.reload("SIGHUP", unheard)
        else:
            self._reloader.remember()

    def upgrade(self, why: str, reply: Reply) -> None:
        if self.busy:
            reply(BUSY)
        else:
            self._upgrade.begin(why, reply)

    def upgrade_by_signal(self) -> None:
        def refused(answer: Answer) -> None:
            if answer == BUSY:
                log.warning("SIGUSR2: nothing was done: %s", BUSY["error"])

        self.upgrade("SIGUSR2", refused)

    def stop(self, why: str) -> None:
        self._shutdown.stop(why)
