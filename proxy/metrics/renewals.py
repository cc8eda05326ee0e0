"""How often each certificate was renewed, and how often an attempt failed: for ``/metrics``.

Taken from what the certifier reports: its record of attempts goes back further than this process,
so only what is new since the last report counts. A certificate from files is renewed when another
one is read. Pure.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from acme_client.status import CertificateStatus

# Outcomes of an attempt that was not one: our own ledger of the CA's limits said to wait.
_PUT_OFF = "limits"


class Renewals:
    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._last: dict[str, Any] = {}

    def reported(self, name: str, status: CertificateStatus) -> None:
        if status["source"] == "file":
            self._files(name, status["serial"])
            return
        history = status["history"]
        known = self._last.get(name)
        self._last[name] = history
        if known is None:
            return  # what there was before this process
        for attempt in _since(known, history):
            outcome = {"obtained": "ok", _PUT_OFF: "put_off"}.get(attempt["outcome"], "failed")
            self._counts[name, outcome] += 1

    def _files(self, name: str, serial: str | None) -> None:
        known = self._last.get(name)
        self._last[name] = serial
        if known not in (None, serial):
            self._counts[name, "ok"] += 1

    def forget(self, name: str) -> None:
        """No longer wanted: names that come and go must not add up."""
        self._last.pop(name, None)
        for key in [key for key in self._counts if key[0] == name]:
            del self._counts[key]

    def counts(self) -> list[tuple[str, str, int]]:
        """Name, outcome, number."""
        return [(name, outcome, count) for (name, outcome), count in sorted(self._counts.items())]


def _since(known: list[Any], history: list[Any]) -> list[Any]:
    """What has been added: a history is bounded, so its oldest entries may have gone meanwhile."""
    for length in range(min(len(known), len(history)), 0, -1):
        if known[-length:] == history[:length]:
            return history[length:]
    return history
