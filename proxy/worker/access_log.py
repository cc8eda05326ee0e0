"""The access log: one line for each request, whatever happened to it.

Lines are gathered and written once per turn of the event loop, because a write per request would
cost as much as the request's own. `access_lines` has the forms of a line.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from itertools import count
from types import MappingProxyType

from ..accelerated import Lane, lane
from ..config.model import SiteLog
from ..log import LogFile, is_journal
from ..protocol.exchange import Exchange
from ..protocol.h1.grammar import normalise_host
from ..protocol.message import HostMatch
from .access_lines import FORMS, named, with_trace
from .chosen_facts import line_of

log = logging.getLogger("treehouse.worker")

# How often it is said that lines are being lost.
_TELL_EVERY = 10.0
# Lines that are written at once when they have gathered within one turn (a burst, not the usual
# case): some 64 KiB.
_GATHER = 320


class AccessLog:
    """``form`` is a key of `FORMS`. ``sites``: what sites say of their own lines, by the first name
    of each; ``find`` finds the site of a host, for requests that were refused before anybody asked
    whose they are. ``traces``: requests belong to traces, of which lines have the number."""

    def __init__(
        self,
        file: LogFile,
        form: str,
        loop: asyncio.AbstractEventLoop,
        sites: Mapping[str, SiteLog] = MappingProxyType({}),
        find: Callable[[bytes], HostMatch | None] = lambda _host: None,
        *,
        traces: bool = False,
    ) -> None:
        self.file = file
        self._find = find
        self._lines_of = {
            name: line_of(form, one.fields) if one.lines else None for name, one in sites.items()
        }
        self._line, self._say = FORMS[form]
        if traces:
            self._line = with_trace(self._line, form)
        self._loop = loop
        # journald(8) takes the priority off a line: 6 is info.
        self._priority = "<6>" if is_journal(file.fd) else ""
        self._id_prefix = f"{random.getrandbits(48):x}-"
        self._serial = count()
        self._lines: list[str] = []
        self._since = self._until = 0.0  # Unix seconds of the millisecond that has this moment
        self._moment = ""
        self._tell_at = float("-inf")

    def add(self, exchange: Exchange) -> None:
        """Write the line of a finished exchange, at the end of this turn of the loop."""
        make = self._line
        if self._lines_of:
            match = exchange.match
            if match is None:
                match = exchange.match = self._site_of(exchange)
            if match is not None:
                own = self._lines_of.get(match.site_name, make)
                if own is None:
                    return
                make = own
        if not self._since <= time.time() < self._until:
            self._look_at_clock()
        lines = self._lines
        if not lines:
            self._loop.call_soon(self.flush)
        own_id = f"{self._id_prefix}{next(self._serial):x}"
        lines.append(make(self._moment, exchange, own_id))
        if len(lines) > _GATHER:
            self.flush()

    def _site_of(self, exchange: Exchange) -> HostMatch | None:
        """Find the site that decides on the line of an exchange for which none was looked up: that
        of the Host, as far as it could be read; where no site has that name, the site of the name
        that the client gave for TLS (SNI); else the default site."""
        request, partial = exchange.request, exchange.partial
        host: bytes | None = None
        if request is not None:
            host = request.host
        elif partial is not None and partial.host:
            host = normalise_host(partial.host)
        server_name = (exchange.connection.server_name or "").rstrip(".")
        for name in (host, server_name.encode("ascii", "replace")):
            match = self._find(name) if name else None
            if match is not None and match.label:
                return match
        return self._find(b"")

    def _look_at_clock(self) -> None:
        millisecond = int(time.time() * 1000)
        self._since, self._until = millisecond / 1000, (millisecond + 1) / 1000
        self._moment = self._say(*divmod(millisecond, 1000))

    def flush(self) -> None:
        if self._lines:
            gathered = self._lines
            if self._priority:
                gathered = [self._priority + line for line in gathered]
            lines = "".join(gathered).encode("ascii")
            self._lines.clear()
            self.file.write(lines)

    def tell_losses(self, now: float) -> None:
        """In the operational log, and seldom. ``now`` is monotonic."""
        if now >= self._tell_at and (lost := self.file.lost()):
            self._tell_at = now + _TELL_EVERY
            log.warning("%d lines of the access log are lost: %s", lost, self.file.why)


class AcceleratedAccessLog(AccessLog):
    """The same in the form ``text`` or ``json``, with the usual line gathered in C. Not for sites
    that have lines of their own, nor for lines with traces."""

    def __init__(
        self, file: LogFile, form: str, loop: asyncio.AbstractEventLoop, lane: Lane
    ) -> None:
        super().__init__(file, form, loop)
        made = lane.gatherer(self._lines, self._serial, self._id_prefix, self._say, form == "json")
        self._gather = made.gather

    def add(self, exchange: Exchange) -> None:
        count = self._gather(exchange)
        if count == 1:
            self._loop.call_soon(self.flush)
        elif not count:
            self._add_unusual(exchange)
        elif count > _GATHER:
            self.flush()

    def _add_unusual(self, exchange: Exchange) -> None:
        """The same for a line that was declined: often for the first of a connection."""
        request, connection = exchange.request, exchange.connection
        if request is not None and connection.named_in_log is None and connection.proxies is None:
            connection.named_in_log = named(exchange, request)
            self.add(exchange)
        else:
            AccessLog.add(self, exchange)


def new_access_log(
    file: LogFile,
    form: str,
    loop: asyncio.AbstractEventLoop,
    sites: Mapping[str, SiteLog],
    find: Callable[[bytes], HostMatch | None],
    *,
    traces: bool,
) -> AccessLog:
    """The access log of a worker, accelerated where that can be; see `AccessLog`."""
    if lane is None or form not in ("text", "json") or sites or traces:
        return AccessLog(file, form, loop, sites, find, traces=traces)
    return AcceleratedAccessLog(file, form, loop, lane)
