"""Tells what is new of a machine in its cluster: its status, and what was counted of the engine.

Many things have it look whether there is something new, several times a second when certificates
are renewed: nothing that was told already is told again. That the machine's clock is wrong is told
in the log as well, once, and so is the end of it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..status import ClusterStatus
from ..storage.etcd.figures import EngineFigures

log = logging.getLogger("treehouse.certifier")


class Reporter:
    """``name``: the cluster's; ``tell_status`` and ``tell_engine`` take what is new, one call after
    the other. Any thread may use it."""

    def __init__(
        self,
        name: str,
        tell_status: Callable[[ClusterStatus], object],
        tell_engine: Callable[[EngineFigures], object],
    ) -> None:
        self._name = name
        self._tell_status = tell_status
        self._tell_engine = tell_engine
        self._lock = threading.Lock()
        self._status: ClusterStatus | None = None
        self._figures: EngineFigures | None = None
        self._is_clock_wrong = False

    def tell(self, status: ClusterStatus, figures: EngineFigures | None, clock_fault: str) -> None:
        """Tell what is new. ``figures`` None: there is no engine; ``clock_fault`` says what is
        wrong with this machine's clock; empty where nothing is."""
        with self._lock:
            if bool(clock_fault) != self._is_clock_wrong:
                self._is_clock_wrong = bool(clock_fault)
                if clock_fault:
                    log.warning("cluster %s: %s", self._name, clock_fault)
                else:
                    log.info("cluster %s: this machine's clock is right again", self._name)
            if status != self._status:
                self._status = status
                self._tell_status(status)
            if figures is not None and figures != self._figures:
                self._figures = figures
                self._tell_engine(figures)
