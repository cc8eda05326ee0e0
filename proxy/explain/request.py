"""``treehouse-proxy explain URL``: what a request would meet, and which line decides it.

The request goes through the parts that a worker would use (strict parser, table of sites, router,
handlers of files and redirects, forwarder), so the page cannot tell another story than the server.
It works from the configuration alone: no server has to run, no backend and no name server is asked,
and nothing is written.

What it cannot know: certificates and names that came on demand, counters of rate limits, and what a
backend would answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from acme_client.late_dataclass import dataclass
from acme_client.names import is_address

from ..config.model import (
    Config,
    ProxyAction,
    Route,
    Site,
    rate_limits,
)
from ..config.syntax.addresses import spell_address
from ..config.syntax.units import spell_duration
from ..errors import Fault
from ..handlers.http01 import PREFIX as CHALLENGE_PREFIX
from ..handlers.upstream.login_service import ServiceQuestion
from ..handlers.upstream.request_head import Forwarder, authority
from ..protocol.client_address import TrustedProxies
from ..protocol.exchange import Exchange
from ..protocol.h1 import strict_parser
from ..protocol.message import Connection, Request, Response
from ..sites.chains import ON_REQUEST, ON_RESPONSE
from ..sites.conditional_router import router_of
from ..sites.cross_origin import CrossOrigin
from ..sites.filters import Chain
from ..sites.forward_auth import believed
from ..sites.handlers import condition_of, rewrites
from ..sites.rewriting import Rewriting
from ..sites.router import Refusing, RequestRouter
from ..sites.router import Route as Served
from ..sites.site import Match, SiteTable
from . import answers, settings
from .rows import Row, Steps, in_the_file, refused, shown

# Keys that the page tells of in words of their own.
_TOLD = frozenset({"backend", "fastcgi", "root", "redirect", "status", "respond", "rate_limit"})


class CannotExplain(Exception):
    """The command line names no request; the text says why, and what to write."""


@dataclass(frozen=True, slots=True)
class Question:
    """``url`` with scheme and host; ``fields`` as given, NAME: VALUE; ``client``: the address that
    the connection comes from."""

    method: str
    url: str
    fields: tuple[str, ...] = ()
    client: str = "192.0.2.1"


async def explain(config: Config, question: Question, most: int | None = None) -> list[Row]:
    """Return the page, from the listener to the answer; its first ``most`` rows. Raises
    `CannotExplain`."""
    rows: list[Row] = []
    steps = _steps(config, question)
    outcome: Response | Fault | None = None
    with contextlib.closing(steps), contextlib.suppress(StopIteration):
        while most is None or len(rows) < most:
            step = steps.send(outcome)
            outcome = None
            if isinstance(step, Row):
                rows.append(step)
            else:
                outcome = await step
    return rows


def _steps(config: Config, question: Question) -> Steps:
    url = _split(question.url)
    if not is_address(question.client):
        raise CannotExplain(f"{question.client} is no address of a client (like 192.0.2.1)")
    secure = url.scheme == "https"
    connection = Connection(
        question.client, 40000, "192.0.2.2", url.port or (443 if secure else 80),
        scheme=url.scheme.encode(),
        tls_version="TLSv1.3" if secure else None,
        server_name=url.hostname if secure else None,
    )  # fmt: skip
    if config.trusted_proxies:
        proxies = TrustedProxies(config.trusted_proxies)
        connection.proxies = proxies if proxies.trusts(question.client) else None
    yield Row("request", f"{question.method} {question.url}")
    yield from _listener(config, url, secure)
    yield from settings.of_the_server(config)
    try:
        request = _request(question, url, connection, config)
    except Fault as fault:
        yield refused(fault)
        return
    yield from _client(config, question, request)
    if secure:
        yield from _secure(config, request)
    else:
        yield from _plain(config, request)


def _split(text: str) -> SplitResult:
    if "://" not in text:
        text = f"https://{text}"
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise CannotExplain(f"{text} is no address of a page (write it like https://example.org/)")
    try:
        _ = url.port
    except ValueError:
        raise CannotExplain(f"{text} has no port that is a number from 0 to 65535") from None
    return url


def _request(
    question: Question, url: SplitResult, connection: Connection, config: Config
) -> Request:
    """Return the request as the strict parser reads it. Raises `Fault`."""
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    given = {line.partition(":")[0].strip().lower() for line in question.fields}
    lines = [f"{question.method} {target} HTTP/1.1"]
    if "host" not in given:
        lines.append(f"Host: {url.netloc.rpartition('@')[2]}")
    lines += question.fields
    head = "\r\n".join(lines).encode("utf-8", "surrogateescape") + strict_parser.HEAD_END
    request, _length, _close, _judge = strict_parser.parse(head, connection, config.limits)
    return request


# Connection


def _listener(config: Config, url: SplitResult, secure: bool) -> Iterator[Row]:
    listen = config.listen.https if secure else config.listen.http
    port = url.port or (443 if secure else 80)
    kind = "https" if secure else "http"
    fitting = [spell_address(one) for one in listen if one.port == port]
    if fitting:
        yield Row("listener", ", ".join(fitting), config.origins.get(f"listen.{kind}", ""))
        return
    known = ", ".join(spell_address(one) for one in listen) or "none"
    yield Row(
        "listener", f"nothing listens on port {port} for {kind}; there is: {known}",
        config.origins.get(f"listen.{kind}", ""),
    )  # fmt: skip


def _client(config: Config, question: Question, request: Request) -> Iterator[Row]:
    if request.connection.proxies is None:
        yield Row("client", question.client)
    else:
        yield Row(
            "client", f"{request.client}, as the trusted proxy {question.client} says",
            config.origins.get("trusted_proxies", ""),
        )  # fmt: skip


def _certificate(site: Site, named: str, config: Config) -> Row:
    place = site.origins.get("certificate", "") or site.origins.get("names", "")
    if site.certificates:
        files = ", ".join(str(one.chain) for one in site.certificates)
        return Row("certificate", f"for {named}, from {files}", place)
    if site.internal:
        return Row("certificate", f"for {named}, from the built-in CA", place)
    return Row(
        "certificate", f"for {named}, from {config.acme.directory} by ACME",
        config.origins.get("acme.directory", "") or place,
    )  # fmt: skip


# Port 80 and port 443


def _plain(config: Config, request: Request) -> Iterator[Row]:
    if request.path.startswith(CHALLENGE_PREFIX):
        yield Row("answer", "the challenge's key authorization if the token is known, else 404")
        return
    match = SiteTable(config.sites).find(request.host)
    if match is None or not match.label:
        yield refused(Fault("unknown_host"))
        return
    site = match.site.config
    yield Row("site", site.names[0], site.origins.get("names", ""))
    yield from settings.of_a_site(site)
    port = config.listen.https[0].port if config.listen.https else 443
    host = request.host.decode() + ("" if port == 443 else f":{port}")
    yield Row("answer", f"308, Location: https://{host}{request.target.decode('latin-1')}")


def _secure(config: Config, request: Request) -> Steps:
    table = SiteTable(config.sites)
    handlers: dict[Served, Route] = {}
    chains: dict[_Filters, Chain] = {}

    def router(site: Site) -> RequestRouter:
        routes = []
        for route in site.routes:
            # Routes of one action have one handler, by which the router tells them apart.
            changed = rewrites(route)
            ways = (route.rules.strip_prefix, route.rules.rewrite) if changed else None
            filters = _Filters.of(route)
            served = Served(
                route.path,
                _Place((route.action, ways)),
                chains.setdefault(filters, Chain([filters.before])),
                passes_on=isinstance(route.action, ProxyAction),
                rewrites=changed,
                condition=condition_of(route),
            )
            handlers[served] = route
            routes.append(served)
        return router_of(routes)

    table.bind(router)
    match = table.find(request.host)
    if match is None:
        yield Row(
            "certificate",
            "none: no site has this name, and the TLS handshake ends with unrecognized_name",
        )
        return
    site = match.site.config
    yield _certificate(site, _found_by(match), config)
    yield Row("site", site.names[0], site.origins.get("names", ""))
    yield from settings.of_a_site(site)
    try:
        found = match.site.router.find(request)
    except Fault as fault:
        yield refused(fault)
        return
    if isinstance(found.handler, Refusing):
        try:
            found.handler.handle(request)
        except Fault as fault:
            yield Row("route", "none")
            yield from _filters(config, site, None)
            yield refused(fault)
        return
    route = handlers[found]
    yield Row("route", route.path, route.origins.get("path", "") or answers.place_of(route))
    if route.methods:
        yield Row("rule", f"methods: {', '.join(route.methods)}", route.origins.get("methods", ""))
    if route.match is not None:
        yield Row("rule", f"match: {shown(route.match)}", route.origins.get("match", ""))
    yield from _filters(config, site, route)
    preflight = list(_preflight(route, request))
    if preflight:
        yield from preflight
        return
    yield from _asked_first(config, route, request)
    if rewrites(route):
        try:
            request = _rewritten(route, request)
        except Fault as fault:
            yield refused(fault)
            return
        key = "rewrite" if route.rules.rewrite is not None else "strip_prefix"
        asked = request.target.decode("latin-1")
        yield Row("rewritten", asked, route.origins.get(key, ""))
    yield from answers.of(config, route, request)


def _rewritten(route: Route, request: Request) -> Request:
    """Return the request that the handler gets. Raises `Fault`."""
    handler = _Place(route.action)
    return Rewriting(handler, route.rules.strip_prefix, route.rules.rewrite).rewritten(request)


@dataclass(frozen=True, slots=True)
class _Place:
    """Stands in the router for the handler of an action."""

    action: object

    def handle(self, _request: Request) -> Response:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Guard:
    """Stands in a chain for the request filters of a route; the same for the same rules."""

    rules: tuple[object, ...]

    def request(self, _exchange: Exchange) -> None:
        raise NotImplementedError


class _Filters(NamedTuple):
    """What the filters of a route depend on, before its handler and behind it."""

    before: _Guard
    after: tuple[object, ...]

    @classmethod
    def of(cls, route: Route) -> _Filters:
        before = tuple(getattr(route.rules, key) for key in ON_REQUEST)
        return cls(_Guard(before), tuple(getattr(route.rules, key) for key in ON_RESPONSE))


def _found_by(match: Match) -> str:
    return match.label.decode() or "the default site"


# Filters and rules


def _filters(config: Config, site: Site, route: Route | None) -> Iterator[Row]:
    if site.client_auth is not None:
        mode = site.client_auth.mode
        yield Row("filter", f"client certificate: {mode}", site.origins.get("tls", ""))
    limits = site.rate_limits if route is None else rate_limits(route.rules)
    for limit in limits:
        yield Row(
            "filter", f"rate limit: {limit.rate:g} a second, {limit.burst} at once, by {limit.by}",
            (route or site).origins.get("rate_limit", ""),
        )  # fmt: skip
    if config.tls.hsts is not None:
        age = spell_duration(config.tls.hsts.max_age)
        yield Row(
            "filter", f"Strict-Transport-Security for {age}", config.origins.get("tls.hsts", "")
        )
    if route is not None:
        for key, place in in_the_file(route.origins):
            if key not in _TOLD and hasattr(route.rules, key):
                value = getattr(route.rules, key)
                said = "off" if value is None else shown(value)
                yield Row("rule", f"{key}: {said}", place)


def _preflight(route: Route, request: Request) -> Iterator[Row]:
    """Yield the answer to a browser's question before a request of another origin, where the
    request is such a question."""
    if route.rules.cors is None:
        return
    cors, exchange = CrossOrigin(route.rules.cors), Exchange(request.connection, request)
    response = cors.request(exchange)
    if response is None:
        return
    place = route.origins.get("cors", "")
    yield Row("answer", f"{response.status}, to a preflight, before any login", place)
    for name, value in cors.response(exchange, response).fields:
        yield Row("answer", f"{name.decode()}: {value.decode('latin-1')}")


def _asked_first(config: Config, route: Route, request: Request) -> Iterator[Row]:
    """Yield which service is asked whether the request may come in, and what it is sent."""
    rule = route.rules.forward_auth
    if rule is None:
        return
    backend = rule.url.backend
    place = route.origins.get("forward_auth", "")
    yield Row("login service", f"{backend.url}: 2xx lets in, all else is the answer", place)
    question = ServiceQuestion(rule, believed(rule))
    asked = question.subrequest(request)
    host = None if rule.preserve_host else authority(backend).encode("ascii")
    try:
        head = Forwarder(config.trusted_proxies).head(asked, host, question.lines(request))
    except Fault as fault:
        yield refused(fault)
        return
    request.id = asked.id
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    yield Row("asked", f"{method} {target.partition('?')[0]} {version}")  # the query may be secret
    for line in lines:
        if line:
            yield Row("asked", line)
