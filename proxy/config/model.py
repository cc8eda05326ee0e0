"""The configuration as the program uses it: frozen, complete, already validated.

Nothing here reads a file, resolves a name or has an opinion on syntax; that is the work of the
modules beside it. Durations are seconds, sizes are bytes, None means "no limit" or "not given" as
each comment says. Each part of the program is handed only its branch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. ``host`` "" is every address, IPv4 and IPv6."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Listen:
    http: tuple[Address, ...] = (Address("", 80),)
    https: tuple[Address, ...] = (Address("", 443),)


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    kid: str
    hmac_key_file: Path


@dataclass(frozen=True, slots=True)
class Tsig:
    """The key that DNS updates are signed with (RFC 8945)."""

    name: str
    secret_file: Path
    algorithm: str = "hmac-sha256"


@dataclass(frozen=True, slots=True)
class Dns:
    """How records for dns-01 get into a zone: updates sent to ``server``, or a program, ``hook``.
    ``zone`` None: whichever zone the record belongs to. Durations are seconds."""

    zone: str | None = None
    server: Address | None = None
    tsig: Tsig | None = None
    hook: Path | None = None
    hook_timeout: float = 120.0
    ttl: float = 60.0
    propagation: float = 120.0


KeyType = Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096"]


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
class Hsts:
    max_age: float


@dataclass(frozen=True, slots=True)
class Tls:
    min_version: Literal["1.2", "1.3"] = "1.2"
    hsts: Hsts | None = None


@dataclass(frozen=True, slots=True)
class Log:
    format: Literal["auto", "text", "json"] = "auto"  # auto: text on a terminal, else json
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: str = "stdout"  # "stdout", "stderr", "off", or an absolute path


@dataclass(frozen=True, slots=True)
class Limits:
    header_timeout: float = 10.0
    body_timeout: float = 30.0  # without a byte of the body
    write_timeout: float = 60.0  # for the client to take the next piece of an answer
    keepalive_timeout: float = 75.0
    handshake_timeout: float = 10.0
    shutdown_timeout: float = 30.0  # for what is under way after SIGTERM
    header_size: int = 32 * 1024
    target_size: int = 8 * 1024
    header_count: int = 100
    body_size: int | None = None  # None: unlimited
    connections: int = 10_000  # in total, over all workers
    connections_per_address: int = 200
    handshakes: int = 1000  # under way at a time, over all workers
    tunnels: int = 4000  # at a time, over all workers
    requests_per_connection: int = 10_000


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend address. ``scheme`` is http or https with host and port, or unix with ``path``,
    which begins with "@" for an abstract socket (unix(7)). ``prefix`` is put before the path of
    every request; it begins with a slash and does not end with one."""

    url: str  # as configured, for log and status
    scheme: Literal["http", "https", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""  # of the socket; "@name" in the abstract namespace (unix(7))
    prefix: str = ""  # put before the path that is asked for, like "/app"
    weight: int = 1  # its share of the requests, beside the other backends' weights
    drain: bool = False  # in maintenance: only who is bound to it by a cookie still gets there


@dataclass(frozen=True, slots=True)
class Health:
    """``host`` is what a check says as Host; "" for the backend's own address and port."""

    path: str
    interval: float = 5.0
    timeout: float = 2.0
    host: str = ""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Circuit breaking: of at least ``requests`` within ``window`` seconds, ``share`` (0 to 1)
    failed or were answered with 5xx; then the backend is left out for ``pause`` seconds."""

    share: float
    requests: int = 20
    window: float = 10.0
    pause: float = 10.0


@dataclass(frozen=True, slots=True)
class BackendTls:
    ca_file: Path | None = None
    insecure: bool = False
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class HashKey:
    """What ``balance: hash`` goes by; ``name`` is the header's (lower-case) or the cookie's."""

    kind: Literal["address", "path", "header", "cookie"] = "address"
    name: str = ""


@dataclass(frozen=True, slots=True)
class FilesAction:
    root: Path


@dataclass(frozen=True, slots=True)
class ProxyAction:
    backends: tuple[Backend, ...]
    balance: Literal["round_robin", "least_conn", "random_two", "hash"] = "round_robin"
    health: Health | None = None
    tls: BackendTls = field(default_factory=BackendTls)
    connect_timeout: float = 5.0
    response_timeout: float = 60.0  # until the response's head
    idle_timeout: float = 300.0  # between two pieces of a response's body, or in a tunnel
    pool_idle: float = 30.0  # an unused kept-alive connection is closed after that
    connections: int = 512  # to one backend, per worker
    queue: int = 1024  # requests that wait for one of them
    wait_for_backend: float = 0.0  # how long a request is held that no backend takes
    preserve_host: bool = True  # Host goes on as the client sent it
    hash_key: HashKey = field(default_factory=HashKey)  # used by balance "hash" only
    sticky_cookie: str | None = None  # its name: a client stays with the backend it got first
    sticky_same_site: Literal["none", "lax", "strict"] = "lax"
    slow_start: float = 0.0  # a backend that comes back gets its full share after that
    breaker: Breaker | None = None
    via: bool = False  # backends are told in Via that a proxy stands before them


@dataclass(frozen=True, slots=True)
class RedirectAction:
    """``target`` may hold {rest} (what * matched), {path}, {query}, {host}."""

    target: str
    status: Literal[301, 302, 303, 307, 308] = 308


@dataclass(frozen=True, slots=True)
class RefuseAction:
    """A fixed answer without content: for names that are known and have nothing."""

    status: int = 404


Action = FilesAction | ProxyAction | RedirectAction | RefuseAction


@dataclass(frozen=True, slots=True)
class Route:
    """``path`` is exact (/a/b), or a prefix when it ends in /* ; the longest match wins."""

    path: str
    action: Action


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """Client certificates of these CAs are asked for; ``require``: nobody gets in without."""

    ca_file: Path
    mode: Literal["require", "request"] = "require"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: ``rate`` requests a second, ``burst`` at once."""

    rate: float
    burst: int
    by: Literal["address", "site"] = "address"


@dataclass(frozen=True, slots=True)
class OnDemand:
    """Names beside the site's own that get a certificate when somebody comes for them. Each of
    ``patterns``, ``ask`` and ``dns`` that is given must allow a name; at least one is."""

    patterns: tuple[str, ...] = ()  # names, or *.names
    ask: str | None = None  # a URL that answers 200 for a name that is wanted
    dns: bool = False  # the name must resolve to ``addresses`` alone
    addresses: tuple[str, ...] = ()  # empty: the public ones of this machine's interfaces
    wait: float = 20.0  # seconds that a handshake waits
    per_hour: int = 50  # new names
    most: int = 1000  # names at a time
    forget: float = 30 * 86400.0  # seconds; not renewed when nobody came for that long


@dataclass(frozen=True, slots=True)
class Site:
    """``names`` are lower-case A-labels, "*.example.org", or IP literals without brackets."""

    names: tuple[str, ...]
    routes: tuple[Route, ...]
    certificates: tuple[OwnCertificate, ...] = ()  # of different kinds of key
    key_types: tuple[KeyType, ...] = ("ecdsa-p256",)  # of certificates by a CA, one for each
    default: bool = False  # served where no SNI or an unknown one is given
    internal: bool = False  # certified by the built-in CA
    client_auth: ClientAuth | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    on_demand: OnDemand | None = None

    @property
    def paired(self) -> bool:
        """Whether it has two certificates, for two kinds of key."""
        return len(self.certificates or self.key_types) > 1


@dataclass(frozen=True, slots=True)
class Admin:
    listen: Address


@dataclass(frozen=True, slots=True)
class Runway:
    """How much of a certificate's life should be left: seconds, or a share of the whole."""

    seconds: float = 0.0
    share: float = 0.0

    def of(self, lifetime: float) -> float:
        return self.seconds or self.share * lifetime


@dataclass(frozen=True, slots=True)
class Mail:
    to: tuple[str, ...]
    sender: str
    smtp: Address
    tls: Literal["auto", "starttls", "implicit", "off"] = "auto"
    user: str | None = None
    password_file: Path | None = None

    @property
    def security(self) -> Literal["starttls", "implicit", "off"]:
        if self.tls == "auto":
            return "implicit" if self.smtp.port == 465 else "starttls"
        return self.tls


@dataclass(frozen=True, slots=True)
class Alerts:
    """Who is told (each way that is given), and of what."""

    webhook: str | None = field(default=None, repr=False)  # its path is often a secret
    email: Mail | None = None
    command: tuple[str, ...] = ()
    ca_file: Path | None = None
    after_failures: int = 3
    # Renewal begins with a third or half of the lifetime left, so half of that and more is gone.
    runway: Runway = Runway(share=0.15)
    certifier_silent: float = 3600.0
    repeat: float = 86400.0


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
    alerts: Alerts | None = None
    sandbox: Literal["require", "auto", "off"] = "auto"
    fast_lane: bool = True
    uvloop: bool = True
    watch: bool = False  # of ``source`` and the files that it names
    sites_dir: Path | None = None
    source: Path | None = None  # the file it came from, for reload
    include: tuple[Path, ...] = ()  # patterns of files with further sites
    # What is no fault and should be known: one line each, for whoever checks or starts.
    notices: tuple[str, ...] = field(default=(), compare=False)
