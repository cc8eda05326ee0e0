"""A lease in the engine: what is written with it vanishes when its writer is gone.

The engine ends a lease that has not been kept for its time, whatever clocks say. We believe in ours
for that time from the moment at which we last *asked* to keep it, by a clock that nobody can set:
so we stop believing before the engine stops. During a lost quorum leases do not end, and begin anew
with it: nobody takes anything over before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from .api import EtcdApi, Refused, number

log = logging.getLogger("treehouse.certifier")

# Seconds until a machine that is gone has lost what it held; kept three times as often.
LASTS = 15


class Lease:
    """Made by `begun`; a thread keeps it until `end`."""

    def __init__(self, api: EtcdApi, name: int, lasts: float, asked_at: float) -> None:
        self.name = name
        self._api = api
        self._lasts = lasts
        self._until = asked_at + lasts
        self._over = threading.Event()

    @classmethod
    def begun(
        cls,
        api: EtcdApi,
        lasts: int,
        lost: Callable[[], object],
        kept: Callable[[], object] = lambda: None,
    ) -> Lease:
        """Begin one. ``lost`` is called when the engine has ended it, ``kept`` whenever the engine
        has kept it, both by a thread. Raises OSError."""
        asked_at = time.monotonic()
        answer = api.call("/v3/lease/grant", {"TTL": lasts})
        lease = cls(api, number(answer.get("ID")), number(answer.get("TTL")) or lasts, asked_at)
        threading.Thread(target=lease._keep, args=(lost, kept), name="lease", daemon=True).start()
        return lease

    def lives(self) -> bool:
        """Whether the engine has not ended it, as far as we can know."""
        return not self._over.is_set() and time.monotonic() < self._until

    def end(self) -> None:
        """Give back what was written with it."""
        if self._over.is_set():
            return
        self._over.set()
        self._api.call("/v3/lease/revoke", {"ID": str(self.name)})

    def _keep(self, lost: Callable[[], object], kept: Callable[[], object]) -> None:
        while not self._over.wait(self._lasts / 3):
            asked_at = time.monotonic()
            try:
                answer = self._api.call("/v3/lease/keepalive", {"ID": str(self.name)})
            except Refused as refusal:
                if not refusal.not_found:
                    continue
                answer = {}
            except OSError:
                continue  # it may be kept still when the engine is back
            if number(answer.get("TTL")) > 0:
                self._until = asked_at + self._lasts
                kept()
            elif not self._over.is_set():
                self._over.set()
                lost()
