"""Whether each worker shows what it should: asked once an hour, and after each change.

The supervisor knows which certificates are in force, and a worker tells what a client of it sees
(`mirror`). Where the two differ, the worker is told again, and where that does not help, replaced.
Neither should ever be needed, and both are an error in the log: a renewed certificate that is not
the one being served is found out by visitors otherwise.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .announcements import Announced, Announcements
from .channel import Message
from .processes import Child, Processes
from .schedule import Schedule

log = logging.getLogger("treehouse.supervisor")

EVERY = 3600.0
# Changes come in bursts, and in force they are when they have been acknowledged.
_SOON = 2.0


@dataclass(frozen=True, slots=True)
class _Look:
    """One question to one worker: which host, and what should be seen there."""

    pid: int
    host: str
    name: str  # of the certificate
    serial: str
    again: bool  # the worker has been told once more already


class SelfCheck:
    """``serves(child, name)``: whether a worker's configuration has a site of that name."""

    def __init__(
        self,
        processes: Processes,
        announcements: Announcements,
        schedule: Schedule,
        serves: Callable[[Child, str], bool],
    ) -> None:
        self._serves = serves
        self._processes = processes
        self._announcements = announcements
        self._schedule = schedule
        self._looks: dict[int, _Look] = {}
        self._number = 0
        self._soon: set[str] = set()
        schedule.at(time.monotonic() + EVERY, self._hourly)

    def _hourly(self) -> None:
        self._look(self._announcements.certificates())
        self._schedule.at(time.monotonic() + EVERY, self._hourly)

    def changed(self, name: str) -> None:
        """A certificate has been put in force."""
        if not self._soon:
            self._schedule.at(time.monotonic() + _SOON, self._look_soon)
        self._soon.add(name)

    def _look_soon(self) -> None:
        names, self._soon = self._soon, set()
        self._look(one for one in self._announcements.certificates() if one.facts["name"] in names)

    def _look(self, certificates: Iterable[Announced]) -> None:
        best = self._best()
        hosts = {
            _visited(name): one
            for one in certificates
            for name in one.facts["names"]
            if best[name] is one
        }
        hosts.pop(None, None)
        for child in self._processes.workers():
            for host, one in hosts.items():
                site = one.facts.get("site") or one.facts["name"]
                if child.state == "serving" and self._serves(child, site):
                    self._ask(child, str(host), one, again=False)

    def _ask(self, child: Child, host: str, one: Announced, *, again: bool) -> None:
        self._number += 1
        facts = one.facts
        look = _Look(child.pid, host, facts["name"], facts["serial"], again)
        self._looks[self._number] = look
        self._processes.send(child, {"type": "look", "number": self._number, "host": host})

    def _best(self) -> dict[str, Announced]:
        """By name, as the workers choose: of several the one that lasts longest."""
        best: dict[str, Announced] = {}
        for one in sorted(
            self._announcements.certificates(), key=lambda one: float(one.facts["not_after"])
        ):
            best.update(dict.fromkeys(one.facts["names"], one))
        return best

    def seen(self, child: Child, message: Message) -> None:
        """A worker's answer: the serial number that a client sees, or None."""
        look = self._looks.pop(message["number"], None)
        if look is None or look.pid != child.pid or child.state != "serving":
            return
        if message["serial"] == look.serial:
            return
        present = self._best().get(look.host)
        if present is None:
            present = self._best().get("*." + look.host.partition(".")[2])
        if present is None or present.facts["serial"] != look.serial:
            return  # it has been renewed meanwhile, and that is looked at by itself
        shown = message["serial"] or "nothing"
        if look.again:
            log.error("%s still shows %s for %s; it is replaced", child.title, shown, look.host)
            self._processes.kill(child)
            return
        log.error(
            "%s shows %s for %s instead of %s; it is told again",
            child.title, shown, look.host, look.serial,
        )  # fmt: skip
        self._processes.send(
            child, {"type": "certificate", "facts": present.facts}, (present.bundle,)
        )
        self._ask(child, look.host, present, again=True)

    def ended(self, pid: int) -> None:
        """A child has ended; it answers no more."""
        self._looks = {number: one for number, one in self._looks.items() if one.pid != pid}


def _visited(name: str) -> str | None:
    """A host to ask for; None for an address, which is no name in a ClientHello (RFC 6066 §3)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.replace("*", "any", 1)
    return None
