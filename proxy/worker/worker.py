"""A worker: one event loop that accepts, speaks TLS and HTTP, and asks the handlers.

It is born knowing everything (`Birth`): configuration, certificates, challenges, sockets. It reads
document roots and writes nothing but log lines; it has no access to the state directory and never
sees the account key. News reach it over its channel and are acknowledged when they are in force.
Its life: build, confine itself, say that it is ready, serve, drain, end.

Draining (after a reload): no new connections; every kept-alive one is answered once more, with
``Connection: close``, and long ones finish in their own time. Stopping: the same, but idle
connections end at once and the rest has a bound.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import random
import ssl
import time
from functools import partial
from typing import assert_never

import uvloop

from .. import log as logs
from .. import sandbox
from ..config.model import Config, Site
from ..handlers.http01 import Challenges
from ..ipc.channel import Channel, ChannelClosed
from ..ipc.codec import encode
from ..ipc.connection_counters import Census, Counts
from ..ipc.documents import Overview, WorkerStats
from ..ipc.messages import (
    TO_WORKER,
    Acknowledged,
    AddGeneration,
    AskOverview,
    AskStats,
    CertificateFacts,
    ChallengeFacts,
    Drain,
    DropCertificate,
    DropChallenge,
    FromWorker,
    OnDemandResult,
    OverviewAnswer,
    Probe,
    ProbeResult,
    PutCertificate,
    PutChallenge,
    Ready,
    ReplaceAccessLog,
    Stats,
    Stop,
    ToWorker,
)
from ..ipc.rate_buckets import RateLimits
from ..log import LogFile, access_format
from ..metrics import process_stats
from ..metrics.counters import Figures
from ..protocol.h1 import server as h1
from ..protocol.h1.fast_parser import FastParser
from ..protocol.h2 import server as h2
from ..protocol.h2.shared import DRAIN_SPREAD, Shared
from ..protocol.service import Serve
from ..sites.chains import Chains
from ..sites.handlers import Handlers
from ..sites.site import SiteTable
from ..system.listeners import Listener
from ..system.privileges import confine_process
from ..tls.acme_alpn import AlpnChallenges
from ..tls.contexts import Certificates
from ..transport import openssl
from ..transport.clock import TICK, Clock
from ..transport.deadlines import Deadlines
from .acceptor import Acceptor, fairness_key
from .access_log import AccessLog
from .admin import AdminDoor
from .limits import Bounds
from .memory_trim import Peaks
from .on_demand import WaitingRoom
from .self_probe import Mirror
from .services import PlainDoor, Room, SecureDoor
from .startup import Birth
from .tls_accept import USUAL_PROTOCOL, TlsAcceptor

log = logging.getLogger("treehouse.worker")

# New objects until a look for cycles. A request makes a dozen and leaves no cycle, so CPython's 700
# would be a look every sixty requests for nothing.
_GARBAGE_AFTER = 20_000


def run(birth: Birth, channel: Channel) -> int:
    """The life of the process; returns its exit status."""
    config = birth.config
    logs.set_up(f"worker {birth.number}", config.log.format, config.log.level)
    confine_process()
    random.seed()  # the state inherited by fork is every worker's
    loop = uvloop.new_event_loop() if config.uvloop else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(birth, channel, loop)
    sandbox.apply(sandbox.policies(config)["worker"], config.sandbox)
    if not openssl.AVAILABLE:
        log.warning("OpenSSL is out of sight: a flood of KeyUpdates can hold this worker up")
    # What is here now stays; looking at it again and again would only copy pages that are shared.
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER, 20, 100)
    loop.run_until_complete(worker.live())
    return 0


class Worker:
    def __init__(self, birth: Birth, channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        config = birth.config
        self._config = config
        self._listeners = birth.listeners
        self._channel = channel
        self._loop = loop
        self._ended = loop.create_future()
        self._clock = Clock()
        self._ticked = self._clock.now
        self._peaks = Peaks()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Overview]] = {}
        self._log_file = None if birth.access_log is None else LogFile(birth.access_log)
        self._known_sites = {site.names[0] for site in config.sites}
        self._paired = frozenset(site.names[0] for site in config.sites if site.paired)
        self._without_http2 = frozenset(site.names[0] for site in config.sites if not site.http2)
        self._certificates = Certificates(
            config.tls,
            _default_site(config),
            {site.names[0]: site.client_auth for site in config.sites if site.client_auth},
            self._paired,
            self._without_http2,
        )
        self._certificates.listen_with(birth.base)
        self._challenges = Challenges()
        on_demand: dict[str, str] = {}
        sites = SiteTable(config.sites, on_demand)
        self._waiting = WaitingRoom(
            config, on_demand, self._certificates, sites.configured, fairness_key,
            self._say, loop, self._clock,
        )  # fmt: skip
        for announced in birth.certificates:
            self._put(announced.facts, announced.bundle)
            os.close(announced.bundle)
        self._alpn = AlpnChallenges()
        for challenge, bundle in birth.challenges:
            self._take_challenge(challenge, bundle)
            if bundle is not None:
                os.close(bundle)
        figures = Figures() if config.admin is not None else None
        self._counts = Counts(birth.census, birth.number, birth.beside, birth.secret)
        bounds = Bounds(config.limits, config.workers, self._clock, figures, self._counts)
        self._room = Room(
            sites=sites,
            challenges=self._challenges,
            certificates=self._certificates,
            limits=config.limits,
            clock=self._clock,
            access_log=self._access_log(birth),
            https_port=_https_port(birth.listeners),
            figures=figures,
            bounds=bounds,
            waiting=self._waiting,
        )
        share = -(-config.limits.streams_per_address // config.workers)
        self._http2 = Shared(share, fairness_key, figures, own_engine=config.fast_lane)
        deadlines, protocols = Deadlines(), _protocols(config, self._http2)
        self._connections = Acceptor(
            loop,
            self._clock,
            deadlines,
            {
                "http": PlainDoor(self._room),
                "https": SecureDoor(self._room),
                "admin": AdminDoor(self._room, self._overview),
            },
            protocols[USUAL_PROTOCOL],
            TlsAcceptor(
                loop,
                self._clock,
                deadlines,
                birth.base,
                config.limits,
                self._alpn,
                self._certificates,
                bounds,
                protocols,
                figures,
                self._waiting,
            ),
            config.limits,
            self._counts,
            bounds,
            self._on_empty,
            figures,
            config.proxy_protocol,
            config.trusted_proxies,
        )
        self._mirror = Mirror(loop, self._clock, self._connections)
        self._one_look = asyncio.Lock()
        self._looks: set[asyncio.Task[None]] = set()
        self._handlers = Handlers(
            config, loop, self._clock, self._connections.deadlines, self._room.figures
        )

        def rates(site: Site) -> RateLimits:
            # Not the worker's own clock, whose ticks the others do not share.
            return RateLimits(
                site.names[0], site.rate_limits, birth.buckets, time.monotonic, fairness_key
            )

        chains = Chains(config.tls, rates)
        sites.bind(lambda site: self._handlers.router(site, chains.of(site)))

    def _access_log(self, birth: Birth) -> AccessLog | None:
        if self._log_file is None or birth.access_log is None:
            return None
        form = access_format(birth.config.log.format, birth.access_log)
        return AccessLog(self._log_file, form, self._loop)

    async def live(self) -> None:
        self._handlers.start()
        self._loop.add_reader(self._channel.fileno(), self._on_news)
        self._connections.accept_from(self._listeners)
        self._tick()
        self._say(Ready())
        await self._ended
        self._handlers.close()
        if self._room.access_log is not None:
            self._room.access_log.flush()

    def _tick(self) -> None:
        self._clock.tick()
        now, deadlines = self._clock.now, self._connections.deadlines
        deadlines.was_away(now - self._ticked - TICK, now)
        self._ticked = now
        deadlines.sweep(now)
        self._handlers.tick(self._clock.now)
        self._peaks.look(len(self._connections), now)
        if self._room.access_log is not None:
            self._room.access_log.tell_losses(self._clock.now)
        self._loop.call_later(TICK, self._tick)

    def _on_empty(self) -> None:
        """No connection is left and none will come."""
        if not self._ended.done():
            self._ended.set_result(None)

    # News

    def _say(self, message: FromWorker) -> None:
        try:
            self._channel.send(encode(message))
        except ChannelClosed:
            self._on_orphaned()
            return
        if self._channel.waiting:
            self._loop.add_writer(self._channel.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        try:
            self._channel.flush()
        except ChannelClosed:
            self._on_orphaned()
            return
        if not self._channel.waiting:
            self._loop.remove_writer(self._channel.fileno())

    def _on_orphaned(self) -> None:
        """The supervisor is gone, and with it whoever could replace this process."""
        log.error("the supervisor has gone; ending")
        os._exit(1)

    def _on_news(self) -> None:
        try:
            news = self._channel.receive()
        except ChannelClosed:
            self._on_orphaned()
            return
        for said, fds in news:
            try:
                message = TO_WORKER.decode(said, len(fds))
                self._take(message, fds)
            except Exception:
                # Out of descriptors or memory, for one. It is not acknowledged, and so told again;
                # what comes behind it, the order to drain maybe, is not lost.
                log.exception("what the supervisor told could not be taken in")
                continue
            finally:
                for fd in fds:
                    os.close(fd)
            if isinstance(message, PutCertificate | DropCertificate | PutChallenge | DropChallenge):
                self._say(Acknowledged(message.ticket))

    def _take(self, message: ToWorker, fds: list[int]) -> None:
        match message:
            case PutCertificate(facts):
                self._put(facts, fds[0])
            case DropCertificate(site, name):
                self._certificates.remove(site, name)
                self._waiting.gone(name)
            case OnDemandResult():
                self._waiting.settled(message)
            case PutChallenge(challenge):
                self._take_challenge(challenge, fds[0] if fds else None)
            case DropChallenge("http-01", host, token):
                self._challenges.remove(host, token)
            case DropChallenge(_, host):
                self._alpn.remove(host)
            case AskStats(thorough):
                self._say(Stats(self._stats(thorough)))
            case Probe():
                task = self._loop.create_task(self._look(message))
                self._looks.add(task)
                task.add_done_callback(self._looks.discard)
            case OverviewAnswer(number, overview):
                asked = self._asked.pop(number, None)
                if asked is not None and not asked.done():
                    asked.set_result(overview)
            case ReplaceAccessLog():
                self._replace_access_log(fds[0])
            case AddGeneration(workers, buckets):
                self._counts.also(Census(fds[0], workers, buckets))
            case Drain():
                self._drain()
            case Stop():
                self._stop()
            case _:
                assert_never(message)

    def _replace_access_log(self, fd: int) -> None:
        """Write to this descriptor from now on; it stays the caller's."""
        if self._log_file is None:
            return
        if self._room.access_log is not None:
            self._room.access_log.flush()  # what was answered before belongs to the old one
        previous = self._log_file.fd
        self._log_file.replace(os.dup(fd))
        if previous > 2:  # the operational log's place is not ours to close
            os.close(previous)

    async def _look(self, probe: Probe) -> None:
        async with self._one_look:  # a thousand names must not be a thousand handshakes at once
            try:
                serial = await self._mirror.shown(probe.host, probe.family)
            except OSError:
                return  # out of descriptors, which says nothing of the certificate
        self._say(ProbeResult(probe.number, serial))

    def _take_challenge(self, challenge: ChallengeFacts, bundle: int | None) -> None:
        if bundle is not None:
            self._alpn.put(challenge.host, bundle)
        else:
            self._challenges.put(challenge.host, challenge.token, challenge.key_authorization)

    def _put(self, facts: CertificateFacts, bundle: int) -> None:
        site, name = facts.site, facts.name
        on_demand_for = facts.on_demand_for
        if on_demand_for:
            known = self._waiting.has_site(on_demand_for)
        else:
            known = site in self._known_sites and (name == site or site in self._paired)
        if not known:
            return  # of a site of an older or a newer generation
        if on_demand_for in self._without_http2:
            self._certificates.do_without_http2(site)
        try:
            self._certificates.put(site, name, facts.names, facts.not_after, bundle)
        except ssl.SSLError as error:
            log.error("the certificate for %s cannot be used: %s", name, error.reason or error)
            return
        if on_demand_for:
            self._waiting.arrived(name, on_demand_for)

    async def _overview(self) -> Overview:
        """What the supervisor knows of all of us; it gives up on a worker that hangs."""
        number = next(self._numbers)
        asked: asyncio.Future[Overview] = self._loop.create_future()
        self._asked[number] = asked
        self._say(AskOverview(number))
        return await asked

    def _stats(self, thorough: bool) -> WorkerStats:
        """``thorough``: also what takes a while to count."""
        room = self._room
        return {
            "figures": room.figures.message() if room.figures is not None else None,
            "connections": len(self._connections),
            "listeners": dict(self._connections.by_listener),
            "open_fds": process_stats.open_descriptors() if thorough else None,
            "streams": room.in_flight,
            "requests": room.requests,
            "upstreams": self._handlers.upstreams(),
        }

    # The end

    def _drain(self, spread: float = DRAIN_SPREAD) -> None:
        """``spread``: within so many seconds the clients of HTTP/2 are told to come back on a new
        connection."""
        self._room.drain()
        self._http2.drain(self._loop, spread)
        self._handlers.drain()
        self._connections.stop_accepting()

    def _stop(self) -> None:
        self._drain(0.0)
        self._connections.end_idle()
        self._loop.call_later(self._config.limits.shutdown_timeout, self._on_time_up)

    def _on_time_up(self) -> None:
        if len(self._connections):
            log.warning("%d connections are cut: time is up", len(self._connections))
        self._on_empty()


def _protocols(config: Config, http2: Shared) -> dict[str, Serve]:
    """Who speaks each protocol that TLS offers (`contexts.protocols`), by its name in ALPN."""
    fast_parser = FastParser(config.limits) if config.fast_lane else None
    return {
        USUAL_PROTOCOL: partial(h1.serve, fast_parser=fast_parser),
        "h2": partial(h2.serve, shared=http2),
    }


def _default_site(config: Config) -> str | None:
    return next((site.names[0] for site in config.sites if site.default), None)


def _https_port(listeners: tuple[Listener, ...]) -> int:
    """Where a redirect leads; the port that the first HTTPS listener has."""
    for listener in listeners:
        if listener.kind == "https":
            name = listener.sock.getsockname()
            return int(name[1]) if isinstance(name, tuple) else 443
    return 443
