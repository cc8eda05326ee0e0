"""A worker: one event loop that accepts, speaks TLS and HTTP, and asks the handlers.

It is started with all that it needs (`WorkerInit`): configuration, certificates, challenges,
sockets. It reads document roots and writes nothing but log lines; it has no access to the state
directory and never sees the account key. Changes reach it over its channel and are acknowledged
when they are in force.
Its life: build, confine itself, say that it is ready, serve, drain, end.

Draining (after a reload): no new connections; every kept-alive one is answered once more, with
``Connection: close``, and long ones finish in their own time. Stopping: the same, but idle
connections end at once and the rest has a bound.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import time
from functools import partial
from typing import TYPE_CHECKING, assert_never

import uvloop

from .. import log as logs
from .. import open_files, sandbox
from ..config.model import Config, Site, SiteLog
from ..filters.code import CannotLoad
from ..ipc.channel import Channel
from ..ipc.connection_counters import ConnectionCounters, CounterMemory
from ..ipc.documents import WorkerStats
from ..ipc.messages import (
    AddGeneration,
    AdminAnswer,
    AskStats,
    Drain,
    DrainBackend,
    DropCertificate,
    DropChallenge,
    OnDemandResult,
    OverviewAnswer,
    Probe,
    ProbeResult,
    PutCertificates,
    PutChallenge,
    Ready,
    ReplaceAccessLog,
    Stats,
    Stop,
    ToWorker,
    Truncated,
    Warned,
)
from ..ipc.rate_buckets import RateLimits
from ..log import LogFile, access_format
from ..metrics import process_stats
from ..metrics.counters import Counters
from ..protocol.client_address import subscriber
from ..protocol.h1 import listening
from ..protocol.h1 import server as h1
from ..protocol.h1.fast_parser import new_parser
from ..protocol.h2 import server as h2
from ..protocol.h2.shared import DRAIN_SPREAD, Shared
from ..protocol.service import Listen, Serve, Service
from ..sites.chains import Chains
from ..sites.handlers import Handlers
from ..system.listeners import Listener
from ..system.privileges import confine_process
from ..transport import openssl
from ..transport.clock import TICK, Clock
from ..transport.deadlines import Deadlines
from .acceptor import Acceptor
from .access_log import AccessLog, new_access_log
from .admin.link import AdminLink
from .context import WorkerContext
from .credentials import Credentials
from .handshake_log import forget_strange_names
from .inbox import Inbox
from .limits import LimitReporter
from .memory_trim import MemoryTrim
from .self_probe import SelfProbe
from .services import HttpService, HttpsService
from .startup import WorkerInit
from .tls_accept import TlsAcceptor
from .tls_arrival import USUAL_PROTOCOL

if TYPE_CHECKING:
    from .tracing import Tracer

log = logging.getLogger("treehouse.worker")

# New objects until a look for cycles. A request makes a dozen and leaves no cycle, so CPython's 700
# would be a look every sixty requests for nothing.
_GARBAGE_AFTER = 20_000


def run(init: WorkerInit, channel: Channel) -> int:
    """The life of the process; returns its exit status."""
    config = init.config
    logs.set_up(f"worker {init.number}", config.log.format, config.log.level)
    confine_process()
    random.seed()  # the state inherited by fork is every worker's
    open_files.raise_to(init.policy.descriptors)  # document roots are opened before it is confined
    loop = uvloop.new_event_loop() if config.uvloop else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        worker = Worker(init, channel, loop)
    except CannotLoad as error:
        log.error("the filter %s", error)
        return 1
    sandbox.apply(init.policy, config.sandbox)
    forget_strange_names()
    if not openssl.AVAILABLE:
        log.warning("OpenSSL is out of sight: a flood of KeyUpdates can hold this worker up")
    # What is here now stays; looking at it again and again would only copy pages that are shared.
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER, 20, 100)
    loop.run_until_complete(worker.live())
    return 0


class Worker:
    def __init__(self, init: WorkerInit, channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        config = init.config
        self._config = config
        self._title = f"worker {init.number}"
        self._listeners = init.listeners
        self._inbox = Inbox(channel, loop, self)
        self._loop = loop
        self._ended = loop.create_future()
        self._clock = Clock()
        self._ticked = self._clock.now
        self._memory_trim = MemoryTrim()
        self._admin_link = AdminLink(loop, self._inbox.say)
        self._log_file = None if init.access_log is None else LogFile(init.access_log)
        sites = init.sites
        self._credentials = credentials = Credentials(
            init, sites, self._inbox.say, loop, self._clock
        )
        counters = Counters() if config.admin is not None else None
        self._counts = ConnectionCounters(init.counters, init.number, init.beside, init.secret)
        limit_reporter = LimitReporter(
            config.limits, config.workers, self._clock, counters, self._counts
        )
        self._context = WorkerContext(
            sites=sites,
            challenges=credentials.http01,
            certificates=credentials.certificates,
            limits=config.limits,
            clock=self._clock,
            access_log=self._access_log(init),
            https_port=_https_port(init.listeners),
            counters=counters,
            limit_reporter=limit_reporter,
            on_demand=credentials.on_demand,
        )
        share = -(-config.limits.streams_per_address // config.workers)
        self._http2 = Shared(
            share,
            subscriber,
            counters,
            own_engine=config.fast_lane,
            websocket=config.websocket_over_http2,
        )
        deadlines, (protocols, listeners) = Deadlines(), _protocols(config, self._http2)
        context = self._context
        tracer = self._tracer(init)
        self._handlers = Handlers(
            config, sites, loop, self._clock, deadlines, self._context.counters, tracer
        )

        def rates(site: Site) -> RateLimits:
            # Not the worker's own clock, whose ticks the others do not share.
            return RateLimits(
                site.names[0], site.rate_limits, init.buckets, time.monotonic, subscriber
            )

        config.filter_code.install()
        chains = Chains(
            config.tls, config.limits, rates, self._handlers.login_service, config.filter_code
        )
        self._connections = Acceptor(
            context,
            loop,
            deadlines,
            {
                "http": HttpService(context),
                "https": tracer.service(context) if tracer else HttpsService(context),
                "admin": self._admin_service(context, init.secret, chains),
            },
            protocols[USUAL_PROTOCOL],
            TlsAcceptor(
                context, loop, deadlines, init.base, credentials.alpn, protocols, listeners
            ),
            self._counts,
            self._on_empty,
            config.proxy_protocol,
            config.trusted_proxies,
            secure_admin=config.admin is not None and bool(config.admin.names),
        )
        self._self_probe = SelfProbe(loop, self._clock, self._connections)
        self._one_look = asyncio.Lock()
        self._looks: set[asyncio.Task[None]] = set()
        self._handlers.prepare(chains)
        for url in init.drained:
            self._handlers.drain_backend(url, True)

    def _tracer(self, init: WorkerInit) -> Tracer | None:
        """Make what writes traces, where the configuration has them."""
        rules = self._config.tracing
        if rules is None or init.spans is None:
            return None
        from .tracing import Tracer

        tracer = self._context.tracer = Tracer(rules, init.spans)
        tracer.counters = self._context.counters
        return tracer

    def _admin_service(self, context: WorkerContext, secret: bytes, chains: Chains) -> Service:
        """Make what answers on the admin listener, where there is one."""
        config = self._config
        if config.admin is None or config.admin_site is None:
            return HttpService(context)  # which nobody can ask
        from .admin.service import AdminService

        chain = chains.of(config.admin_site, config.admin_site.rules)
        return AdminService(context, config, config.admin, self._admin_link, secret, chain)

    def _access_log(self, init: WorkerInit) -> AccessLog | None:
        if self._log_file is None or init.access_log is None:
            return None
        form = access_format(init.config.log.format, init.access_log)
        sites = {one.names[0]: one.log for one in init.sites.particular if one.log != SiteLog()}
        traces = init.spans is not None
        find = init.sites.find
        return new_access_log(self._log_file, form, self._loop, sites, find, traces=traces)

    async def live(self) -> None:
        logs.tell_warnings(self._title, self._warned)
        self._handlers.start()
        self._inbox.open()
        self._connections.accept_from(self._listeners)
        self._tick()
        self._inbox.say(Ready())
        await self._ended
        self._handlers.close()
        if self._context.access_log is not None:
            self._context.access_log.flush()

    def _tick(self) -> None:
        self._clock.tick()
        now, deadlines = self._clock.now, self._connections.deadlines
        deadlines.was_away(now - self._ticked - TICK, now)
        self._ticked = now
        deadlines.sweep(now)
        self._handlers.tick(self._clock.now)
        self._memory_trim.observe(len(self._connections), now)
        if self._context.access_log is not None:
            self._context.access_log.tell_losses(self._clock.now)
        self._loop.call_later(TICK, self._tick)

    def _warned(self, at: float, level: str, process: str, text: str) -> None:
        """Tell the supervisor of a line in the log; any thread may."""
        said = Warned({"at": at, "level": level, "process": process, "text": text})
        self._loop.call_soon_threadsafe(self._inbox.say, said)

    def _on_empty(self) -> None:
        """End: no connection is left and none will come."""
        if not self._ended.done():
            self._ended.set_result(None)

    # From the supervisor

    def take(self, message: ToWorker, fds: list[int]) -> None:
        """Act on a message, see `inbox`."""
        match message:
            case PutCertificates():
                self._credentials.put(message, fds[0])
            case DropCertificate():
                self._credentials.drop(message)
            case OnDemandResult():
                self._credentials.on_demand.answered(message)
            case PutChallenge(challenge):
                self._credentials.put_challenge(challenge, fds[0] if fds else None)
            case DropChallenge():
                self._credentials.drop_challenge(message)
            case AskStats(thorough, counting):
                if counting and self._context.counters is None:
                    self._count()
                self._inbox.say(Stats(self._stats(thorough)))
            case Probe():
                task = self._loop.create_task(self._look(message))
                self._looks.add(task)
                task.add_done_callback(self._looks.discard)
            case OverviewAnswer(number, overview):
                self._admin_link.hear_overview(number, overview)
            case AdminAnswer(number, document):
                self._admin_link.hear(number, document)
            case DrainBackend(url, on):
                self._handlers.drain_backend(url, on)
            case ReplaceAccessLog():
                self._replace_access_log(fds[0])
            case AddGeneration(workers, buckets):
                self._counts.add_generation(CounterMemory(fds[0], workers, buckets))
            case Drain():
                self._drain()
            case Stop():
                self._stop()
            case Truncated():
                pass  # asked for again by the inbox
            case _:
                assert_never(message)

    def _replace_access_log(self, fd: int) -> None:
        """Write to this descriptor from now on; it stays the caller's."""
        if self._log_file is None:
            return
        if self._context.access_log is not None:
            self._context.access_log.flush()  # what was answered before belongs to the old one
        previous = self._log_file.fd
        self._log_file.replace(os.dup(fd))
        if previous > 2:  # the operational log's place is not ours to close
            os.close(previous)

    def _count(self) -> None:
        """Begin to count, because somebody asks for figures."""
        counters = self._context.counters = Counters()
        self._context.limit_reporter.counters = counters
        self._http2.tally = counters
        self._handlers.count_in(counters)
        if self._context.tracer is not None:
            self._context.tracer.counters = counters

    async def _look(self, probe: Probe) -> None:
        async with self._one_look:  # a thousand names must not be a thousand handshakes at once
            try:
                serial = await self._self_probe.served_serial(probe.host, probe.family)
            except OSError:
                return  # out of descriptors, which says nothing of the certificate
        self._inbox.say(ProbeResult(probe.number, serial))

    def _stats(self, thorough: bool) -> WorkerStats:
        """How this worker is. ``thorough``: also what takes a while to count."""
        context = self._context
        return {
            "figures": context.counters.message() if context.counters is not None else None,
            "connections": len(self._connections),
            "listeners": dict(self._connections.by_listener),
            "open_fds": process_stats.open_descriptors() if thorough else None,
            "streams": context.in_flight,
            "requests": context.requests,
            "upstreams": self._handlers.upstreams(),
        }

    # The end

    def _drain(self, spread: float = DRAIN_SPREAD) -> None:
        """``spread``: within so many seconds the clients of HTTP/2 are told to come back on a new
        connection."""
        self._context.drain()
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


def _protocols(config: Config, http2: Shared) -> tuple[dict[str, Serve], dict[str, Listen]]:
    """The server of each protocol that TLS offers (`contexts.protocols`), by its name in ALPN; and
    those that begin without a task."""
    fast_parser = new_parser(config.limits) if config.fast_lane else None
    protocols: dict[str, Serve] = {
        USUAL_PROTOCOL: partial(h1.serve, fast_parser=fast_parser),
        "h2": partial(h2.serve, shared=http2),
    }
    return protocols, {USUAL_PROTOCOL: partial(listening.listen, fast_parser=fast_parser)}


def _https_port(listeners: tuple[Listener, ...]) -> int:
    """The port that redirects lead to: that of the first HTTPS listener."""
    for listener in listeners:
        if listener.kind == "https":
            name = listener.sock.getsockname()
            return int(name[1]) if isinstance(name, tuple) else 443
    return 443
