"""What this machine does about challenges that it has not heard of: a CA may ask any machine.

While the engine cannot be asked, HTTP-01 is answered by the token that the CA asks for and the
thumbprint of the account's key, which is public, and which each machine that orders tells the
others (`ClusterSettings.thumbprint` may forbid it). TLS-ALPN-01 cannot be answered so: its
certificate has a digest of the token in it, which the CA does not send.

Before this machine has heard from the engine for the first time, it lets those who ask wait
(`link.HEARD`), for that takes a moment as a rule and needs no thumbprint. Where it takes longer,
the thumbprint answers then too, if this machine has been among these others before.

This process may itself be stopped, or get no time, while the workers serve: they are given the
thumbprint beforehand (`link.SPARE`), for those who ask while nothing is heard of this process.
"""

from __future__ import annotations

import contextlib
import logging
import threading

from ..certificates.peers import Peers
from ..issuers import account_files
from ..link import ANY, HEARD, SPARE, Challenge, Link, LinkBroken
from ..storage.store import Store
from . import recollection
from .faults import Faults
from .settings import ClusterSettings

log = logging.getLogger("treehouse.certifier")

# Seconds until the thumbprint answers where the engine has neither answered nor failed. CAs wait
# for some ten.
_PATIENCE = 3.0
_HEARD = Challenge("http-01", ANY, HEARD, "")


class Unheard:
    """``workers`` answer; ``directory`` is the CA whose account is meant; "" for none. Any thread
    may call, but the main thread only `begin` and `close`: the others wait for it."""

    def __init__(
        self,
        settings: ClusterSettings,
        local: Store,
        workers: Link,
        peers: Peers,
        faults: Faults,
        directory: str,
    ) -> None:
        self._settings = settings
        self._local = local
        self._workers = workers
        self._peers = peers
        self._faults = faults
        self._directory = directory
        self.told = recollection.thumbprint(local, settings)
        """The thumbprint that the others have told last; "" for none."""
        self._lock = threading.Lock()
        self._stateless: Challenge | None = None  # answered for every token
        self._spare: Challenge | None = None  # the same, while nothing is heard of this process
        self._hears = False  # what the others want answered
        self._is_late = False
        self._none_waits = False
        self._is_over = False
        self._timer = threading.Timer(_PATIENCE, self._late)
        self._timer.daemon = True

    def begin(self) -> None:
        if not self._settings.thumbprint:  # the process before may have been allowed
            with contextlib.suppress(LinkBroken):
                self._workers.retract(Challenge("http-01", ANY, SPARE, ""))
        self._timer.start()

    def close(self) -> None:
        """Have those wait who ask from now on: another process hears for them, or none is asked.
        It comes before this machine leaves the others, who have it answer their challenges until
        then."""
        self._is_over = True
        self._timer.cancel()
        with contextlib.suppress(LinkBroken):
            self._workers.retract(_HEARD)

    def own_thumbprint(self) -> str:
        """Return that of this machine's account, where it orders and has one; else ""."""
        if not self._directory or not self._settings.order:
            return ""
        try:
            return account_files.thumbprint(self._local, self._directory)
        except OSError:
            return ""

    def see(self, *, hears: bool) -> None:
        """Answer as it is right now. ``hears``: whether this machine answers all challenges that
        the engine has, and hears of more."""
        with self._lock:
            self._hears = hears
            self._see()

    def _late(self) -> None:
        with self._lock:
            self._is_late = True
            self._see()

    def _see(self) -> None:
        if self._is_over:
            return
        fault = bool(self._faults.text)
        thumbprint = self._thumbprint()
        if thumbprint and self._peers.is_known:
            self._keep_spare(Challenge("http-01", ANY, SPARE, thumbprint))
        # A machine that was never among these others may have an account of its own, not theirs.
        may = fault or (not self._hears and self._is_late and self._peers.is_known)
        self._answer(thumbprint if may else "")
        if (self._hears or fault) and not self._none_waits:
            self._none_waits = True
            with contextlib.suppress(LinkBroken):  # the main thread ends by it
                self._workers.present(_HEARD)

    def _thumbprint(self) -> str:
        """Return what may answer for tokens that are not known; "" where nothing may. Whether
        other machines order is not asked: one that does may have come since this machine could
        hear of that."""
        if not self._settings.thumbprint:
            return ""
        return self.own_thumbprint() or self.told

    def _keep_spare(self, wanted: Challenge) -> None:
        if wanted != self._spare:
            self._spare = wanted
            with contextlib.suppress(LinkBroken):
                self._workers.present(wanted)

    def _answer(self, thumbprint: str) -> None:
        wanted = Challenge("http-01", ANY, ANY, thumbprint) if thumbprint else None
        if wanted == self._stateless:
            return
        if self._stateless is not None:
            with contextlib.suppress(LinkBroken):
                self._workers.retract(self._stateless)
        self._stateless = wanted
        if wanted is not None:
            with contextlib.suppress(LinkBroken):
                self._workers.present(wanted)
            log.warning(
                "cluster %s: challenges are answered by the thumbprint", self._settings.name
            )
