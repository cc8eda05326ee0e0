"""The configuration as the program uses it: frozen, complete, already validated.

Most sections are used as `schema` defines them, each key once. Here stands what is worked out of
several keys or of the machine: which CA certifies a site, which rules a route has, who the program
becomes. Durations are seconds, sizes are bytes, None means "no limit" or "not given" as each
comment says. Each part of the program is handed only its branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal

from acme_client.late_dataclass import dataclass

from ..filters.code import FilterCode
from .schema.access import ForwardAuth
from .schema.acme import Dns, ExternalAccount, Tsig
from .schema.alerts import Alerts, Mail
from .schema.answers import ErrorPage, Respond
from .schema.cluster import Cluster
from .schema.document import (
    Admin,
    ClientAuth,
    Hsts,
    Limits,
    Listen,
    Log,
    OnDemand,
    OwnCertificate,
    SiteLog,
    Tls,
)
from .schema.files import FileRules, Listing
from .schema.matching import Match
from .schema.providers import Docker, Providers
from .schema.rules import BackendRules, BackendTls, Breaker, Health, Rules, StickyCookie
from .schema.scripts import FastCgi
from .schema.tracing import Tracing
from .syntax.sections import already_read, section
from .values import Address, Backend, HashKey, KeyType, Runway

__all__ = [
    "Acme", "Action", "Address", "Admin", "Alerts", "Backend", "BackendRules", "BackendTls",
    "Breaker", "ClientAuth", "Cluster", "Config", "Dns", "Docker", "ErrorPage", "ExternalAccount",
    "FastCgi", "FastCgiAction", "FileRules",
    "FilesAction", "ForwardAuth", "HashKey", "Health", "Hsts", "KeyType", "Limits", "Listen",
    "Listing", "Log", "Mail", "Match", "OnDemand", "OwnCertificate", "ProxyAction", "RateLimit",
    "RedirectAction", "RefuseAction", "Respond", "RespondAction", "Route", "Rules", "Runway",
    "Site", "SiteLog", "StickyCookie", "Tls", "Tracing", "Tsig",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Acme:
    """``directory`` is an https URL, or "internal" for the built-in CA."""

    directory: str = "https://acme-v02.api.letsencrypt.org/directory"
    directory_given: bool = False  # by the user: then it also holds for names like localhost
    email: str | None = None
    ca_file: Path | None = None
    profile: str | None = None
    preferred_chain: str | None = None
    key_types: tuple[KeyType, ...] = ("ecdsa-p256",)  # two: one ECDSA and one RSA
    challenges: tuple[str, ...] = ("http-01", "tls-alpn-01")
    eab: ExternalAccount | None = None
    fallback: tuple[Acme, ...] = ()
    dns: tuple[Dns, ...] = ()
    resolvers: tuple[Address, ...] = ()  # who is asked about the DNS; none: the system's


@dataclass(frozen=True, slots=True)
class FilesAction:
    """The files below ``root``; ``rules``: how they are answered."""

    root: Path
    rules: FileRules = field(default_factory=FileRules)


@section
class _Backends:
    backends: tuple[Backend, ...]


@section
class ProxyAction(BackendRules, _Backends):
    """``backends``, and how they are talked to: a field for each key of `BackendRules`."""

    @property
    def tls(self) -> BackendTls:
        return self.backend_tls or _NO_TLS_RULES


_NO_TLS_RULES = already_read(BackendTls)


@section
class _Scripts:
    root: Path
    fastcgi: FastCgi
    files: FileRules


@section
class FastCgiAction(ProxyAction, _Scripts):
    """Scripts below ``root``, run by ``backends``, and the files beside them."""


def login_service(rule: ForwardAuth) -> ProxyAction:
    """The backend that `forward_auth` asks. Rules that differ only in what becomes of its answer
    share it."""
    tls = rule.tls
    return ProxyAction(
        backends=(rule.url.backend,),
        connect_timeout=rule.timeout,
        response_timeout=rule.timeout,
        idle_timeout=rule.timeout,
        preserve_host=rule.preserve_host,
        backend_tls=BackendTls(tls.ca_file, tls.insecure, server_name=tls.server_name),
    )


@dataclass(frozen=True, slots=True)
class RedirectAction:
    """``target`` may hold {rest} (what * matched), {path}, {query}, {host}."""

    target: str
    status: Literal[301, 302, 303, 307, 308] = 308


@dataclass(frozen=True, slots=True)
class RespondAction:
    """A fixed answer."""

    answer: Respond


@dataclass(frozen=True, slots=True)
class RefuseAction:
    """A fixed answer without content: for names that are known and have nothing."""

    status: int = 404


Action = FilesAction | FastCgiAction | ProxyAction | RedirectAction | RespondAction | RefuseAction


@dataclass(frozen=True, slots=True)
class Route:
    """``path`` is exact (/a/b), or a prefix when it ends in /* ; the longest match wins, among
    equal ones the first that takes the request's method (any if there are no ``methods``) and what
    ``match`` asks for.

    ``rules`` hold for it, with what it inherits of its site and of the top of the document.
    ``origins`` tells where each key that was given stands (FILE:LINE:COL, or a flag).
    """

    path: str
    action: Action
    rules: Rules = field(default_factory=Rules)
    methods: tuple[str, ...] = ()
    match: Match | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: ``rate`` requests a second, ``burst`` at once."""

    rate: float
    burst: int
    by: Literal["address", "site"] = "address"


def rate_limits(rules: Rules) -> tuple[RateLimit, ...]:
    """The limits of ``rate_limit``, each with its burst."""
    return tuple(
        RateLimit(one.rate, one.burst or max(1, int(one.rate)), one.by)
        for one in rules.rate_limit or ()
    )


@dataclass(frozen=True, slots=True)
class Site:
    """``names`` are lower-case A-labels, "*.example.org", or IP literals without brackets."""

    names: tuple[str, ...]
    routes: tuple[Route, ...]
    certificates: tuple[OwnCertificate, ...] = ()  # of different kinds of key
    key_types: tuple[KeyType, ...] = ("ecdsa-p256",)  # of certificates by a CA, one for each
    http2: bool = True  # offered to clients that ask for it by one of its names
    default: bool = False  # served where no SNI or an unknown one is given
    internal: bool = False  # certified by the built-in CA
    client_auth: ClientAuth | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    on_demand: OnDemand | None = None
    log: SiteLog = field(default_factory=SiteLog)
    # What its figures are told under: None is each name by itself, "" is all sites together.
    metrics_label: str | None = None
    rules: Rules = field(default_factory=Rules)  # what holds where no route says otherwise
    # Where each key that was given stands, like "names" (FILE:LINE:COL, or a flag).
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def paired(self) -> bool:
        """Whether it has two certificates, for two kinds of key."""
        return len(self.certificates or self.key_types) > 1


def proxied(sites: Iterable[Site]) -> Iterator[tuple[Site, ProxyAction]]:
    """Every action whose backends are asked, with the site that needs it: those of routes, and
    login services. Some come several times."""
    for site in sites:
        for route in site.routes:
            if isinstance(route.action, ProxyAction):
                yield site, route.action
        for rules in (site.rules, *(route.rules for route in site.routes)):
            if rules.forward_auth is not None:
                yield site, login_service(rules.forward_auth)


@dataclass(frozen=True, slots=True)
class Config:
    sites: tuple[Site, ...]
    state: Path
    listen: Listen = field(default_factory=Listen)
    uid: int = 65534
    gid: int = 65534
    workers: int = 1  # resolved: "auto" is the number of CPUs this process may use
    acme: Acme = field(default_factory=Acme)
    tls: Tls = field(default_factory=Tls)
    log: Log = field(default_factory=Log)
    limits: Limits = field(default_factory=Limits)
    trusted_proxies: tuple[str, ...] = ()  # CIDR
    proxy_protocol: tuple[str, ...] = ()  # CIDR: who begins connections with a PROXY header
    admin: Admin | None = None
    # The admin listener's rules; among ``sites`` where it has names. Nothing is served there.
    admin_site: Site | None = field(default=None, compare=False)  # follows from ``admin``
    tracing: Tracing | None = None
    cluster: Cluster | None = None
    alerts: Alerts | None = None
    sandbox: Literal["require", "auto", "off"] = "auto"
    http2: bool = True  # offered to clients, where no site says otherwise
    websocket_over_http2: bool = False  # RFC 8441
    fast_lane: bool = True
    uvloop: bool = True
    watch: bool = False  # of ``source`` and the files that it names
    providers: Providers = field(default_factory=Providers)
    sites_dir: Path | None = None
    source: Path | None = None  # the file it came from, for reload
    # The code of filters that sites use, as it was read with the configuration.
    filter_code: FilterCode = field(default_factory=FilterCode, compare=False, repr=False)
    include: tuple[Path, ...] = ()  # patterns of files with further sites
    # Where each key beside the sites' stands, like "tls.hsts".
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    # What is no fault and should be known: one line each, for whoever checks or starts.
    notices: tuple[str, ...] = field(default=(), compare=False)
