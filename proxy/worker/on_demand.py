"""Handshakes that wait for a certificate that is being obtained on demand, in one worker.

The `ssl` module's callback for SNI cannot wait. So, only where a site has names on demand, the
ClientHello is looked at before OpenSSL sees it. If it asks for a name that is not configured and
has no certificate yet, the supervisor is asked, once for all handshakes that wait for that name.
When the answer is there, the handshake goes on: with the certificate, or to be refused as any
unknown name is. Port 80 asks in the same way before it redirects.

Whoever waits is unknown, and waiting costs him nothing. So there are limits: on all that wait, on
those of one address, on the names that are asked for, and on the names that one address asks for.
Beyond them the answer is no, at once. A refusal is remembered here too, so that a flood of requests
for one name stays in this process. And a client that leaves is let go: more bytes or an end make
the descriptor readable again, because the bytes that have been looked at do not count
(SO_RCVLOWAT).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, MutableMapping
from typing import Literal

from acme_client.late_dataclass import dataclass
from acme_client.names import hostname
from acme_client.on_demand.policy import Refusals, takes

from ..config.model import Site
from ..config.syntax.names import publicly_certifiable
from ..ipc.messages import CertificateUsed, OnDemandResult, WantCertificate
from ..log import Seldom
from ..tls import client_hello
from ..tls.acme_alpn import PROTOCOL
from ..tls.contexts import Certificates, Served
from ..transport.clock import Clock
from ..transport.stream import StreamBroken, StreamTimeout
from ..transport.tcp import SocketStream

log = logging.getLogger("treehouse.worker")

# Handshakes that wait, in one worker: each is a connection with a TLS object, some 50 KiB.
_WAITING_MOST = 1024
# Of one address or IPv6 /64: an office whose browsers open six connections each.
_WAITING_OF_ONE = 64
# Names that are asked for at the same time, and by one address: a page and what it embeds.
_NAMES_MOST = 64
_NAMES_OF_ONE = 8
# A refusal is not remembered for longer than that here; the certifier knows better.
_REFUSED_MOST = 60.0
# Where the certifier has not said how long: its attempt has failed, and it will say next time.
_REFUSED_LEAST = 5.0
# How often it is told that a name is in use.
_USED_EVERY = 6 * 3600.0

Answer = Literal["obtained", "refused", "late"]
Hosts = MutableMapping[str, str]


@dataclass(slots=True, eq=False)
class _Asked:
    """A name that the supervisor has been asked for. ``by`` is the client on whose account;
    ``waiting`` counts the handshakes and requests that wait for it."""

    answer: asyncio.Future[bool]
    by: str
    waiting: int = 0


class OnDemandCertificates:
    """The names that came on demand, and the handshakes and requests that wait for another.

    ``public``: the CA is for public names only. ``hosts`` maps each name to the first name of its
    site; the table of sites has the same dict. ``knows`` tells whether a host is configured,
    ``account`` for whom a peer counts, ``say`` sends to the supervisor."""

    def __init__(
        self,
        sites: Iterable[Site],
        public: bool,
        hosts: Hosts,
        certificates: Certificates,
        knows: Callable[[str], bool],
        account: Callable[[str], str],
        say: Callable[[WantCertificate | CertificateUsed], None],
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
    ) -> None:
        self._sites = {site.names[0]: site for site in sites if site.on_demand}
        self._public = public
        self._hosts = hosts
        self._certificates = certificates
        self._knows = knows
        self._account = account
        self._say = say
        self._loop = loop
        self._clock = clock
        self._asked: dict[str, _Asked] = {}
        self._waiting = 0
        self._waiting_by: Counter[str] = Counter()
        self._names_by: Counter[str] = Counter()
        self._refusals = Refusals(_REFUSED_MOST)
        self._told: dict[str, float] = {}
        self._seldom = Seldom(log)

    def __bool__(self) -> bool:
        """Whether any site has names on demand: if none has, no ClientHello is looked at."""
        return bool(self._sites)

    # What is known

    def has_site(self, site: str) -> bool:
        """Whether the site with this first name takes names on demand."""
        return site in self._sites

    def certificate_ready(self, name: str, site: str) -> None:
        """Serve a name, whose certificate is in use, as one of the site's; wake who waits."""
        self._hosts[name] = site
        self._refusals.forget(name)
        self._answer(name, True)

    def gone(self, name: str) -> None:
        """Serve a name no more: its certificate was dropped."""
        self._hosts.pop(name, None)
        self._told.pop(name, None)

    def answered(self, result: OnDemandResult) -> None:
        """Take the supervisor's answer."""
        if not result.ok:
            seconds = _REFUSED_LEAST if result.seconds is None else result.seconds
            self._refusals.put(result.name, self._clock.now, max(seconds, 1.0), "")
        self._answer(result.name, result.ok)

    def _answer(self, name: str, ok: bool) -> None:
        asked = self._asked.pop(name, None)
        if asked is not None:
            self._account_for(asked.by)
            if not asked.answer.done():
                asked.answer.set_result(ok)

    def handshake_done(self, served: Served | None) -> None:
        """Tell the certifier, now and then, that a name on demand is in use. ``served`` is the
        certificate of a handshake that has succeeded."""
        if served is None or served.name not in self._hosts:
            return
        now = self._clock.now
        if now - self._told.get(served.name, float("-inf")) >= _USED_EVERY:
            self._told[served.name] = now
            self._say(CertificateUsed(served.name))

    # Waiting

    async def wait_for_certificate(
        self, hello: client_hello.Hello | None, stream: SocketStream, peer: str
    ) -> None:
        """Wait, before a handshake, for the certificate that its ClientHello asks for. Returns at
        once if there is nothing to wait for, else when the supervisor has answered or time is up.
        Raises `StreamBroken` when the client leaves."""
        wanted = self._candidate(hello)
        if wanted is None:
            return
        name, patience = wanted
        account = self._account(peer)
        asked = self._enter(name, account)
        if asked is None:
            return
        stream.deadline = self._clock.now + patience
        watch = self._loop.create_task(_until_gone(stream))
        try:
            await asyncio.wait((asked.answer, watch), return_when=asyncio.FIRST_COMPLETED)
            if watch.done() and not asked.answer.done():
                try:
                    watch.result()
                except StreamTimeout:
                    self._late(name, patience)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            self._leave(name, asked, account)

    async def obtain(self, host: bytes, peer: str) -> Answer:
        """Wait for the certificate of a host that a request over plain HTTP has asked for."""
        wanted = self._wanted(host.decode("ascii"))
        if wanted is None:
            return "refused"
        name, patience = wanted
        account = self._account(peer)
        asked = self._enter(name, account)
        if asked is None:
            return "refused"
        try:
            done, _ = await asyncio.wait((asked.answer,), timeout=patience)
            if not done:
                self._late(name, patience)
                return "late"
            return "obtained" if asked.answer.result() else "refused"
        finally:
            self._leave(name, asked, account)

    def _candidate(self, hello: client_hello.Hello | None) -> tuple[str, float] | None:
        if hello is None or hello.server_name is None or hello.protocols == (PROTOCOL,):
            return None
        return self._wanted(hello.server_name.decode("ascii", "replace"))

    def _wanted(self, host: str) -> tuple[str, float] | None:
        """The name to ask for, and for how many seconds to wait. None where there is a certificate
        for it, where it is configured, and where no site takes it."""
        if self._certificates.find(host) is not None:
            return None
        name = hostname(host)
        if name is None or self._knows(name):
            return None
        if self._certificates.find(name) is not None:  # the client spelt it otherwise
            return None
        if self._public and not publicly_certifiable(name):
            return None
        for site in self._sites.values():
            rule = site.on_demand
            if rule and takes(rule.patterns, name):
                return name, rule.wait
        return None

    def _enter(self, name: str, account: str) -> _Asked | None:
        if self._refusals.find(name, self._clock.now) is not None:
            return None
        asked = self._asked.get(name)
        crowded = (
            self._waiting >= _WAITING_MOST
            or self._waiting_by[account] >= _WAITING_OF_ONE
            or (
                asked is None
                and (len(self._asked) >= _NAMES_MOST or self._names_by[account] >= _NAMES_OF_ONE)
            )
        )
        if crowded:
            self._seldom.warning(
                self._clock.now, "too many wait for certificates on demand: %s is refused", name
            )
            return None
        if asked is None:
            asked = self._asked[name] = _Asked(self._loop.create_future(), account)
            self._names_by[account] += 1
            self._say(WantCertificate(name))
        asked.waiting += 1
        self._waiting += 1
        self._waiting_by[account] += 1
        return asked

    def _leave(self, name: str, asked: _Asked, account: str) -> None:
        asked.waiting -= 1
        self._waiting -= 1
        self._waiting_by[account] -= 1
        if not self._waiting_by[account]:
            del self._waiting_by[account]
        # The order goes on; but a name that nobody waits for takes no place here.
        if not asked.waiting and self._asked.get(name) is asked:
            del self._asked[name]
            self._account_for(asked.by)

    def _account_for(self, account: str) -> None:
        self._names_by[account] -= 1
        if not self._names_by[account]:
            del self._names_by[account]

    def _late(self, name: str, patience: float) -> None:
        self._seldom.warning(
            self._clock.now, "%s: its certificate did not come in %g s", name, patience
        )


async def _until_gone(stream: SocketStream) -> None:
    """Return when the client has sent more than a ClientHello can be. Raises `StreamBroken` when it
    has left."""
    seen = len(await stream.peek(client_hello.LARGEST))
    while seen < client_hello.LARGEST:
        now = len(await stream.peek(client_hello.LARGEST, seen + 1))
        if now <= seen:
            raise StreamBroken("the client left while it waited for a certificate")
        seen = now
