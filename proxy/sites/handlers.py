"""The handlers of a worker: one for each route's action, made once per generation.

Two routes with the same action share a handler, and with it an open-file cache or a pool of backend
connections. What lives longer than a request (pools, health checks) is started, ticked, drained and
closed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ..config.model import (
    Action,
    Config,
    FilesAction,
    ForwardAuth,
    ProxyAction,
    RedirectAction,
    RefuseAction,
    Site,
    login_service,
)
from ..handlers.files.handler import FileHandler
from ..handlers.redirect import Redirect
from ..handlers.upstream.context import UpstreamContext
from ..handlers.upstream.handler import Upstream
from ..handlers.upstream.login_service import LoginService
from ..ipc.documents import UpstreamStatus
from ..metrics.counters import Counters
from ..protocol.message import Handler
from ..transport.clock import Clock
from ..transport.deadlines import Deadlines
from .chains import Chains
from .forward_auth import believed
from .router import Refusing, Route, Router


def told_of_users(config: Config) -> Mapping[Action, frozenset[bytes]]:
    """For the actions of sites where users log in, the fields that tell who they are: no route of
    such a site lets a client write them."""
    found: dict[Action, frozenset[bytes]] = {}
    for site in config.sites:
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


class Handlers:
    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        deadlines: Deadlines,
        counters: Counters | None = None,
    ) -> None:
        self._clock = clock
        self._upstream_context = UpstreamContext(
            loop=loop,
            deadlines=deadlines,
            clock=clock,
            trusted_proxies=config.trusted_proxies,
            fast_lane=config.fast_lane,
            counters=counters,
        )
        self._told = told_of_users(config)
        self._handlers: dict[Action, Handler] = {}
        self._services: dict[Action, Upstream] = {}
        self._proxies: list[Upstream] = []

    def router(self, site: Site, chains: Chains) -> Router:
        """The routes of a site, each with its filters."""
        routes = [
            Route(
                route.path,
                self.handler(route.action),
                chains.of(site, route.rules),
                passes_on=isinstance(route.action, ProxyAction),
            )
            for route in site.routes
        ]
        return Router(routes, chains.of(site, site.rules))

    def handler(self, action: Action) -> Handler:
        made = self._handlers.get(action)
        if made is None:
            made = self._handlers[action] = self._make(action)
        return made

    def _make(self, action: Action) -> Handler:
        match action:
            case FilesAction():
                return FileHandler(action.root, self._clock)
            case ProxyAction():
                told = self._told.get(action, frozenset())
                upstream = Upstream(action, self._upstream_context, told)
                self._proxies.append(upstream)
                return upstream
            case RedirectAction():
                return Redirect(action)
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
        return LoginService(rule, upstream, believed(rule))

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
