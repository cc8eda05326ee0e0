"""Delivers alerts: looks for incidents every second, and starts messengers.

What is wrong is decided in `alerts.incidents`; a messenger speaks to the network. What lies between
is here: an outbox for each channel (webhook, mail, command); one messenger for each channel at a
time, so that a CA that is down for a thousand sites makes one message and not a thousand; and a
pause that grows while a channel fails. Notices that wait, and incidents that were reported, are
kept in ``alerts.json``, so that a restart neither forgets nor repeats any.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path

from acme_client.late_dataclass import dataclass
from acme_client.storage import documents
from acme_client.storage.atomic import Disk

from ..alerts import incidents
from ..alerts.incidents import Incidents, Notice
from ..alerts.policy import Delivery
from ..config.model import Alerts, Config
from ..config.schema.alerts import Way
from ..ipc.messages import Delivered
from .control.overview import Overview
from .process_table import Child, Processes, describe_exit
from .registry import Registry
from .roles import MESSENGER
from .timers import Timers

log = logging.getLogger("treehouse.alerts")

FILE = "alerts.json"
VERSION = 1
# Between two looks; and they take at most this part of the time, with however many certificates.
_LOOK_EVERY = 1.0
_LOOK_PART = 1 / 100
# What goes wrong together is found within moments of each other, and told together.
_GATHER = 2.0
# After the first, second … failure of a way; the last one repeats.
_PAUSES = (5.0, 60.0, 600.0, 3600.0)
# Beyond the messenger's own bound.
_KILL_AFTER = 45.0
# Of what is kept while a way does not work: one notice a certificate.
_WAITING_MOST = 2000


@dataclass(slots=True)
class _Outbox:
    """What one channel has not delivered yet. ``not_before`` is monotonic."""

    waiting: list[Notice] = field(default_factory=list)
    carried: list[Notice] = field(default_factory=list)  # by the messenger that is on its way
    messenger: Child | None = None
    failures: int = 0
    not_before: float = 0.0
    error: str | None = None  # the messenger's word, before it ends
    last_error: str | None = None  # of the last delivery; None where it was taken
    heard: bool = False


class Alerting:
    def __init__(
        self, processes: Processes, timers: Timers, registry: Registry, overview: Overview
    ) -> None:
        self._processes = processes
        self._timers = timers
        self._registry = registry
        self._overview = overview
        self._incidents: Incidents | None = None
        self._outboxes: dict[Way, _Outbox] = {}
        self._look_at = 0.0
        self._file: Path | None = None
        self._kept = b""

    def undelivered(self) -> list[tuple[str, str, int]]:
        """Return the channels that fail, each with the reason and how many notices wait."""
        return [
            (way, one.last_error, len(incidents.merged(one.carried, one.waiting)))
            for way, one in self._outboxes.items()
            if one.failures and one.last_error is not None
        ]

    def look(self, config: Config, generation: int) -> None:
        """Look for incidents and send what is due. Call it every second."""
        now = time.monotonic()
        rules = config.alerts
        if now < self._look_at or (rules is None and self._incidents is None):
            return
        if self._incidents is None:
            self._recall(config.state)
        if rules is None:
            self._incidents, self._outboxes, self._kept = None, {}, b""
            with contextlib.suppress(OSError):
                os.unlink(config.state / FILE)
            return
        alone = config.cluster is None
        tells = incidents.everybody if alone else incidents.teller(self._registry.cluster)
        self._note(rules, [site.names[0] for site in config.sites], tells, now)
        spent = time.monotonic() - now
        self._look_at = now + max(_LOOK_EVERY, spent / _LOOK_PART)
        for way in rules.ways:
            self._send(way, config, generation, now)
        self._keep()

    def _note(
        self, rules: Alerts, wanted: Sequence[str], tells: Callable[[str], bool], now: float
    ) -> None:
        assert self._incidents is not None  # noqa: S101 - for mypy; `look` has seen to it
        unix = time.time()
        view = incidents.look(
            self._registry.statuses(), wanted, self._overview.certifier_silent(), rules, unix,
            tells,
        )  # fmt: skip
        news = self._incidents.follow(view, rules.repeat, unix)
        for notice in news:
            log.log(
                logging.INFO if notice.event == "over" else logging.WARNING,
                "%s: %s", notice.event, notice.text,
            )  # fmt: skip
        ways = rules.ways
        for way in self._outboxes.keys() - set(ways):
            if self._outboxes[way].messenger is None:
                del self._outboxes[way]
        for way in ways:
            outbox = self._outboxes.setdefault(way, _Outbox())
            if news:
                if not outbox.waiting:
                    outbox.not_before = max(outbox.not_before, now + _GATHER)
                outbox.waiting = incidents.merged(outbox.waiting, news)[-_WAITING_MOST:]

    # Messengers

    def _send(self, way: Way, config: Config, generation: int, now: float) -> None:
        outbox = self._outboxes[way]
        if outbox.messenger is not None or not outbox.waiting or now < outbox.not_before:
            return
        outbox.carried, outbox.waiting = outbox.waiting, []
        outbox.error, outbox.heard = None, False
        delivery = Delivery(config, way, socket.gethostname(), tuple(outbox.carried))
        try:
            child = self._processes.fork(MESSENGER, delivery, generation)
            outbox.messenger = child
        except OSError as error:
            self._settle(way, outbox, f"no messenger can be started: {error.strerror}")
            return
        self._timers.at(now + _KILL_AFTER, lambda: self._too_late(outbox, child))

    def _too_late(self, outbox: _Outbox, child: Child) -> None:
        if outbox.messenger is child:
            outbox.error = "it took too long"
            self._processes.kill(child)

    def heard(self, child: Child, message: Delivered) -> None:
        for outbox in self._outboxes.values():
            if outbox.messenger is child:
                outbox.error, outbox.heard = message.error, True

    def ended(self, child: Child, how: int) -> None:
        """Settle what an ended messenger has carried: delivered, or to be tried again."""
        for way, outbox in self._outboxes.items():
            if outbox.messenger is child:
                outbox.messenger = None
                error = outbox.error
                if not outbox.heard and error is None:
                    error = f"the messenger {describe_exit(how)}"
                self._settle(way, outbox, error)
                self._keep()

    def _settle(self, way: Way, outbox: _Outbox, error: str | None) -> None:
        carried, outbox.carried = outbox.carried, []
        outbox.last_error = error
        if error is None:
            outbox.failures, outbox.not_before = 0, 0.0
            log.info("told by %s: %s", way, _titles(carried))
            return
        pause = _PAUSES[min(outbox.failures, len(_PAUSES) - 1)]
        outbox.failures += 1
        outbox.not_before = time.monotonic() + pause
        outbox.waiting = incidents.merged(carried, outbox.waiting)
        log.error("could not tell by %s: %s; tried again in %d s", way, error, pause)

    def stop(self) -> None:
        """End the messengers: what they carry is kept, and the next program sends it."""
        for outbox in self._outboxes.values():
            if outbox.messenger is not None:
                self._processes.kill(outbox.messenger)

    # On disk

    def _recall(self, state: Path) -> None:
        self._file = state / FILE
        data = b""
        with contextlib.suppress(OSError):
            data = self._file.read_bytes()
            aside = documents.set_aside(FILE, data, VERSION)
            if aside is not None:
                os.rename(self._file, state / aside)
        document = documents.read(data, VERSION)
        self._incidents = Incidents.from_json(document.get("incidents"))
        waiting = document.get("waiting")
        for way, notices in waiting.items() if isinstance(waiting, dict) else ():
            if way in ("webhook", "email", "command"):
                self._outboxes[way] = _Outbox(incidents.waiting_from_json(notices))

    def _keep(self) -> None:
        if self._incidents is None or self._file is None:
            return
        waiting = {
            way: incidents.waiting_to_json(incidents.merged(one.carried, one.waiting))
            for way, one in self._outboxes.items()
        }
        document = {"incidents": self._incidents.to_json(), "waiting": waiting}
        data = documents.write(document, VERSION)
        if data == self._kept:
            return
        self._kept = data
        try:
            Disk().write(self._file, data)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._file, error.strerror)


def _titles(notices: Sequence[Notice]) -> str:
    names = dict.fromkeys(f"{one.kind} {one.name or ''}".rstrip() for one in notices)
    first = ", ".join(list(names)[:3])
    return first + (f" and {len(names) - 3} more" if len(names) > 3 else "")
