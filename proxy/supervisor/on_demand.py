"""Names that workers wait for: one question to the certifier for all workers.

This part of the supervisor stands between `worker.on_demand` and the certifier's
`on_demand.manager`. It keeps which workers asked for which name, so that fifty handshakes at four
workers are one question, and every worker hears the answer. When the certifier ends in between (a
reload, a crash), open questions are put to its successor, but not for ever: the name itself may be
what crashes the certifier.
"""

from __future__ import annotations

from dataclasses import field

from acme_client.late_dataclass import dataclass

from ..ipc.messages import CertificateUsed, CertifierCommand, OnDemandResult, WantCertificate
from .answers import Answer
from .certifier_requests import ENDED, RESTARTING, CertifierRequests
from .process_table import Child, Processes

# Names that are asked for at the same time. A worker asks for 64 at most, a draining one too.
_MOST = 1024
# How long a worker is to remember that there was no room.
_CROWDED_FOR = 1.0
# Certifiers that are asked for a name, and for how long it is left alone when all have died of it.
_TRIES = 3
_ILL_FATED_FOR = 600.0


@dataclass(slots=True)
class _Open:
    """One name. ``pids``: the workers that wait; ``asked``: whether the present certifier has been;
    ``tries``: how many certifiers have."""

    pids: set[int] = field(default_factory=set)
    asked: bool = False
    tries: int = 0


class OnDemand:
    def __init__(self, processes: Processes, requests: CertifierRequests) -> None:
        self._processes = processes
        self._requests = requests
        self._open: dict[str, _Open] = {}
        self.outcomes = {"obtained": 0, "refused": 0}

    def used(self, message: CertificateUsed) -> None:
        """Pass on that a client came for the name."""
        certifier = self._processes.certifier()
        if certifier is not None:
            self._processes.tell_certifier(certifier, CertifierCommand("used", message.name))

    def wanted(self, child: Child, message: WantCertificate) -> None:
        """Ask the certifier for a name that a worker waits for; once for all workers."""
        name = message.name
        present = self._open.get(name)
        if present is None:
            if len(self._open) >= _MOST:
                self._tell(child, name, ok=False, seconds=_CROWDED_FOR)
                return
            present = self._open[name] = _Open()
        present.pids.add(child.pid)
        self._ask(name, present)

    def certifier_ready(self) -> None:
        for name, one in list(self._open.items()):
            self._ask(name, one)

    def ended(self, child: Child) -> None:
        """A worker has ended, and waits no more."""
        for one in self._open.values():
            one.pids.discard(child.pid)

    def _ask(self, name: str, one: _Open) -> None:
        if one.asked or self._processes.certifier() is None:
            return
        one.asked = True
        one.tries += 1
        self._requests.ask("want", name, lambda answer: self._answered(name, answer))

    def _answered(self, name: str, answer: Answer) -> None:
        one = self._open.get(name)
        if one is None:
            return
        if answer in (ENDED, RESTARTING):
            one.asked = False
            if one.tries < _TRIES:
                return
            answer = {"ok": False, "seconds": _ILL_FATED_FOR}
        del self._open[name]
        ok = bool(answer["ok"])
        self.outcomes["obtained" if ok else "refused"] += 1
        for child in self._processes.workers():
            if child.pid in one.pids:
                self._tell(child, name, ok=ok, seconds=answer.get("seconds"))

    def _tell(self, child: Child, name: str, *, ok: bool, seconds: float | None) -> None:
        self._processes.tell_worker(child, OnDemandResult(name, ok, seconds))
