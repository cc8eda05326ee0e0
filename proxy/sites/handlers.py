"""The handlers of a worker: one for each route's action, made once per generation.

Two routes with the same action share a handler, and with it an open-file cache or a pool of backend
connections. What lives longer than a request (pools, health checks) is started, ticked, drained and
closed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from ..config.model import (
    Action,
    Config,
    FastCgiAction,
    FilesAction,
    ForwardAuth,
    ProxyAction,
    RedirectAction,
    RefuseAction,
    RespondAction,
    Rules,
    Site,
    login_service,
)
from ..config.model import Route as ConfiguredRoute
from ..handlers.fastcgi.handler import FastCgiHandler
from ..handlers.files.handler import file_handler
from ..handlers.redirect import Redirect
from ..handlers.respond import FixedAnswer
from ..handlers.upstream.context import AttemptTracer, UpstreamContext
from ..handlers.upstream.handler import Upstream
from ..handlers.upstream.login_service import LoginService, ServiceQuestion
from ..ipc.documents import UpstreamStatus
from ..metrics.counters import Counters
from ..protocol.message import Handler
from ..transport.clock import Clock
from ..transport.deadlines import Deadlines
from .addresses import networks
from .chains import Chains
from .conditional_router import router_of
from .conditions import Condition
from .forward_auth import believed
from .rewriting import Rewriting
from .router import Refusing, RequestRouter, Route
from .site import SiteTable


def told_of_users(sites: Iterable[Site]) -> Mapping[Action, frozenset[bytes]]:
    """For the actions of sites where users log in, the fields that tell who they are: no route of
    such a site lets a client write them."""
    found: dict[Action, frozenset[bytes]] = {}
    for site in sites:
        names: frozenset[bytes] = frozenset()
        for route in site.routes:
            if route.rules.basic_auth is not None:
                names |= {b"remote-user"}
            if route.rules.forward_auth is not None:
                names |= believed(route.rules.forward_auth)
        if names:
            for route in site.routes:
                found[route.action] = found.get(route.action, frozenset()) | names
    return found


def condition_of(route: ConfiguredRoute) -> Condition | None:
    """What a route asks for beside its path. Reads files of networks; raises OSError, `Wrong`."""
    match, preflights = route.match, route.rules.cors is not None
    if match is None:
        return Condition(route.methods, answers_preflights=preflights) if route.methods else None
    found = networks(match.from_) if match.from_ else None
    return Condition(route.methods, match, found, preflights)


def rewrites(route: ConfiguredRoute) -> bool:
    """Whether the handler of a route is asked for another path than the client asks for."""
    # Below a root, what stands before the asterisk is left out anyway.
    strips = route.rules.strip_prefix and not isinstance(route.action, FilesAction | FastCgiAction)
    answers = isinstance(route.action, RedirectAction | RespondAction | RefuseAction)
    return not answers and (strips or route.rules.rewrite is not None)


class Handlers:
    def __init__(
        self,
        config: Config,
        sites: SiteTable,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        deadlines: Deadlines,
        counters: Counters | None = None,
        tracer: AttemptTracer | None = None,
    ) -> None:
        self._clock = clock
        self._upstream_context = UpstreamContext(
            loop=loop,
            deadlines=deadlines,
            clock=clock,
            trusted_proxies=config.trusted_proxies,
            fast_lane=config.fast_lane,
            counters=counters,
            tracer=tracer,
        )
        self._sites = sites
        self._told = told_of_users(sites.particular)
        self._handlers: dict[Action, Handler] = {}
        self._services: dict[Action, Upstream] = {}
        self._proxies: list[Upstream] = []
        self._rewriting: dict[tuple[Handler, bool, str | None], Rewriting] = {}

    def prepare(self, chains: Chains) -> None:
        """Make what opens files or connections, for all sites, before the process is confined.
        Their routers are made of it when they are asked for."""
        for action in self._sites.actions:
            self.handler(action)
        for site, rules in self._sites.ruled:
            chains.of(site, rules)
        self._sites.bind(lambda site: self.router(site, chains))
        for one in self._sites.reading:
            _ = one.router

    def router(self, site: Site, chains: Chains) -> RequestRouter:
        """The routes of a site, each with its filters."""
        routes = [
            Route(
                route.path,
                self._handler_of(route),
                chains.of(site, route.rules),
                passes_on=isinstance(route.action, ProxyAction),
                rewrites=rewrites(route),
                condition=condition_of(route),
            )
            for route in site.routes
        ]
        return router_of(routes, chains.of(site, site.rules))

    def _handler_of(self, route: ConfiguredRoute) -> Handler:
        handler = self.handler(route.action)
        return self._rewritten(handler, route.rules) if rewrites(route) else handler

    def _rewritten(self, handler: Handler, rules: Rules) -> Rewriting:
        """One for all routes that rewrite alike: the router asks whether handlers are the same."""
        key = handler, rules.strip_prefix, rules.rewrite
        made = self._rewriting.get(key)
        if made is None:
            made = self._rewriting[key] = Rewriting(*key)
        return made

    def handler(self, action: Action) -> Handler:
        made = self._handlers.get(action)
        if made is None:
            made = self._handlers[action] = self._make(action)
        return made

    def _make(self, action: Action) -> Handler:
        match action:
            case FastCgiAction():
                told = self._told.get(action, frozenset())
                scripts = FastCgiHandler(action, self._upstream_context, told)
                self._proxies.append(scripts.servers)
                return scripts
            case FilesAction():
                return file_handler(action.root, self._clock, action.rules)
            case ProxyAction():
                told = self._told.get(action, frozenset())
                upstream = Upstream(action, self._upstream_context, told)
                self._proxies.append(upstream)
                return upstream
            case RedirectAction():
                return Redirect(action)
            case RespondAction(answer):
                return FixedAnswer(answer)
            case RefuseAction():
                return Refusing("not_found")

    def login_service(self, rule: ForwardAuth) -> LoginService:
        """Whoever a rule asks; rules that ask the same share its connections."""
        action = login_service(rule)
        upstream = self._services.get(action)
        if upstream is None:
            upstream = Upstream(action, self._upstream_context, reports_pauses=False)
            self._services[action] = upstream
            self._proxies.append(upstream)
        return LoginService(rule, upstream, ServiceQuestion(rule, believed(rule)))

    def start(self) -> None:
        for upstream in self._proxies:
            upstream.start()

    def count_in(self, counters: Counters) -> None:
        """Count requests to backends from now on."""
        self._upstream_context.counters = counters

    def tick(self, now: float) -> None:
        for upstream in self._proxies:
            upstream.tick(now)

    def drain(self) -> None:
        for upstream in self._proxies:
            upstream.drain()

    def drain_backend(self, url: str, on: bool) -> None:
        """Give the backend with this URL no new clients, or (``on`` False) its share again."""
        for upstream in self._proxies:
            upstream.drain_backend(url, on)

    def close(self) -> None:
        for upstream in self._proxies:
            upstream.close()

    def upstreams(self) -> list[UpstreamStatus]:
        return [entry for upstream in self._proxies for entry in upstream.status()]
