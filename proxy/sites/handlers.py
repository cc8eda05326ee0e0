"""The handlers of a worker: one for each route's action, made once per generation.

Two routes with the same action share a handler, and with it an open-file cache or a pool of backend
connections. What lives longer than a request (pools, health checks) is started, ticked, drained and
closed here.
"""

from __future__ import annotations

import asyncio

from ..config.model import (
    Action,
    Config,
    FastCgiAction,
    FilesAction,
    ProxyAction,
    RedirectAction,
    RefuseAction,
    Site,
)
from ..handlers.fastcgi.handler import FastCgiHandler
from ..handlers.files.handler import FileHandler
from ..handlers.redirect import Redirect
from ..handlers.upstream.context import UpstreamContext
from ..handlers.upstream.handler import Upstream
from ..ipc.documents import UpstreamStatus
from ..metrics.counters import Counters
from ..protocol.message import Handler
from ..transport.clock import Clock
from ..transport.deadlines import Deadlines
from .chains import Chains
from .router import Refusing, Route, Router


def telling_users(config: Config) -> frozenset[Action]:
    """The actions of sites where users log in: no route of theirs lets a client say who it is."""
    return frozenset(
        route.action
        for site in config.sites
        if any(one.rules.basic_auth is not None for one in site.routes)
        for route in site.routes
    )


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
        self._tells_users = telling_users(config)
        self._handlers: dict[Action, Handler] = {}
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
            case FastCgiAction():
                scripts = FastCgiHandler(
                    action, self._upstream_context, action in self._tells_users
                )
                self._proxies.append(scripts.servers)
                return scripts
            case FilesAction():
                return FileHandler(action.root, self._clock)
            case ProxyAction():
                upstream = Upstream(action, self._upstream_context, action in self._tells_users)
                self._proxies.append(upstream)
                return upstream
            case RedirectAction():
                return Redirect(action)
            case RefuseAction():
                return Refusing("not_found")

    def start(self) -> None:
        for upstream in self._proxies:
            upstream.start()

    def tick(self, now: float) -> None:
        for upstream in self._proxies:
            upstream.tick(now)

    def drain(self) -> None:
        for upstream in self._proxies:
            upstream.drain()

    def close(self) -> None:
        for upstream in self._proxies:
            upstream.close()

    def upstreams(self) -> list[UpstreamStatus]:
        return [entry for upstream in self._proxies for entry in upstream.status()]
