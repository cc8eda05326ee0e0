"""What a user may write: every key, its kind, its default and its bounds.

The YAML file, the flags and the sites directory all end here, as the same tree of words; one set of
rules reads them, and `json_schema` makes the schema for editors from it. Keys that exclude or need
each other are the business of `checks`, files on disk that of `places`.

Words arrive as text (see `yaml_source`), so ``workers: 4`` and ``workers: "4"`` are the same, and
null means "not given" everywhere. Defaults are those of `model`, written down once.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from . import model
from .addresses import (
    parse_ask_url,
    parse_backend,
    parse_directory_url,
    parse_listen,
    parse_name_server,
    parse_network,
    parse_own_address,
    parse_resolver,
)
from .alert_keys import Alerts
from .faults import Wrong, nearest, shown
from .kinds import (
    Account,
    Email,
    File,
    Many,
    Section,
    Switch,
    Token,
    count,
    duration,
    number_word,
    one_of,
    size,
    word,
)
from .names import parse_name, parse_name_pattern
from .patterns import parse_redirect, parse_route_path

# A name for the directories that people use; everything else is a URL.
DIRECTORIES = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
    "internal": "internal",
}
_CHALLENGES = ("http-01", "tls-alpn-01", "dns-01", "dns-persist-01")
# RFC 8945 §6, those that are still to be used.
_TSIG_ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1")
_MAX_WORKERS = 1024  # more than the largest machines have processors worth a worker

_LISTEN = model.Listen()
_LIMITS = model.Limits()
_ACME = model.Acme()
_DNS = model.Dns()
_TLS = model.Tls()
_LOG = model.Log()
_HEALTH = model.Health("/")
_PROXY = model.ProxyAction(())
_ON_DEMAND = model.OnDemand()


def _parse_directory(text: str) -> str:
    if text in DIRECTORIES:
        return text
    if "/" not in text and ":" not in text:
        raise Wrong(f"{shown(text)} is not a known CA", nearest(text, list(DIRECTORIES)))
    return parse_directory_url(text)


def _parse_challenge(text: str) -> str:
    if text in _CHALLENGES:
        return text
    raise Wrong(f"{shown(text)} is not a challenge", nearest(text, _CHALLENGES))


def _parse_zone(text: str) -> str:
    """A zone's name; underscores stand in those that are made for records like ours."""
    name = text.strip().removesuffix(".").lower()
    labels = name.split(".")
    if len(name) > 253 or not all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in labels):
        raise Wrong(f"{shown(text)} is not the name of a zone", "write it like example.org")
    return name


def _parse_tsig_name(text: str) -> str:
    name = text.strip().removesuffix(".").lower()
    if len(name) > 253 or not re.fullmatch(r"[a-z0-9_.-]+", name):
        raise Wrong(f"{shown(text)} is not the name of a key", "write it as the name server has it")
    return name


def _parse_workers(text: str) -> int | None:
    if text == "auto":
        return None
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MAX_WORKERS:
        return int(text)
    raise Wrong(
        f"{shown(text)} is not a number of workers",
        f"write a number from 1 to {_MAX_WORKERS}, or auto for one per CPU",
    )


def _parse_http_path(text: str) -> str:
    if not (text.startswith("/") and text.isascii() and text.isprintable() and " " not in text):
        raise Wrong(f"{shown(text)} is not a path", "write it like /healthz")
    return text


def _parse_hash_key(text: str) -> model.HashKey:
    kind, _, name = text.partition(":")
    match kind:
        case "address" | "path" if not name:
            return model.HashKey(kind)
        case "header" | "cookie" if re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            return model.HashKey(kind, name.lower() if kind == "header" else name)
    raise Wrong(
        f"{shown(text)} is nothing to hash by", "write address, path, header:NAME or cookie:NAME"
    )


def _parse_rate(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9}) ?/ ?(s|m|h|d)", text)
    if not found or not int(found[1]):
        raise Wrong(f"{shown(text)} is not a rate", "write it like 10/s, 100/m, 1000/h or 5000/d")
    return int(found[1]) / {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _parse_share(text: str) -> float:
    found = re.fullmatch(r"(\d{1,3}) ?%", text)
    if not found or not 1 <= int(found[1]) <= 100:
        raise Wrong(f"{shown(text)} is not a share", "write it like 50%")
    return int(found[1]) / 100


def _parse_cookie_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", text):
        raise Wrong(f"{shown(text)} is not the name of a cookie", "use letters, digits, - and _")
    return text


ListenWord = Annotated[model.Address, number_word(parse_listen)]
Name = Annotated[str, word(parse_name)]
Network = Annotated[str, word(parse_network)]
Directory = Annotated[str, word(_parse_directory, examples=list(DIRECTORIES))]
Challenge = Annotated[str, word(_parse_challenge, enum=list(_CHALLENGES))]
KeyType = Annotated[model.KeyType, one_of("ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096")]
BackendUrl = Annotated[model.Backend, word(parse_backend)]
HashBy = Annotated[model.HashKey, word(_parse_hash_key)]


class Listen(Section):
    http: Many[ListenWord] = Field(
        default=_LISTEN.http,
        description="Where HTTP is answered: challenges, and redirects to https.",
    )
    https: Many[ListenWord] = Field(default=_LISTEN.https, description="Where HTTPS is answered.")


class ExternalAccount(Section):
    kid: Token = Field(description="The key identifier that the CA handed out.")
    hmac_key_file: File = Field(description="A file with the MAC key, base64url.")


class Tsig(Section):
    name: Annotated[str, word(_parse_tsig_name)] = Field(
        description="The key's name, as the name server has it."
    )
    algorithm: Annotated[str, one_of(*_TSIG_ALGORITHMS)] = Field(
        default="hmac-sha256", description="The key's algorithm."
    )
    secret_file: File = Field(
        description="A file with the secret in base64, or as tsig-keygen writes it."
    )


class Dns(Section):
    zone: Annotated[str, word(_parse_zone)] | None = Field(
        default=None, description="The zone that records go to; else it is found by asking the DNS."
    )
    server: Annotated[model.Address, word(parse_name_server)] | None = Field(
        default=None, description="The name server that takes updates (RFC 2136)."
    )
    tsig: Tsig | None = Field(default=None, description="The key that updates are signed with.")
    hook: File | None = Field(
        default=None, description="A program that sets and removes records, instead of a server."
    )
    hook_timeout: Annotated[float, duration("1s", "5m")] = Field(
        default=_DNS.hook_timeout, description="Until the hook is ended."
    )
    ttl: Annotated[float, duration("1s", "1d")] = Field(
        default=_DNS.ttl, description="Of the records that are set."
    )
    propagation: Annotated[float, duration("0s", "10m")] = Field(
        default=_DNS.propagation,
        description="Until every name server of the zone shows a record; 0s does not look.",
    )


class Fallback(Section):
    directory: Directory = Field(description="The other CA: a name or an https URL.")
    email: Email | None = Field(
        default=None, description="Contact there; else the same as above it."
    )
    ca_file: File | None = Field(default=None, description="PEM bundle to trust for its own TLS.")
    profile: Token | None = Field(default=None, description="Which of its profiles to ask for.")
    preferred_chain: Token | None = Field(
        default=None, description="The root that its chain is to lead to, by common name."
    )
    eab: ExternalAccount | None = Field(default=None, description="External account binding.")


class Acme(Section):
    directory: Directory = Field(
        default="letsencrypt", description="The CA: a name or an https URL."
    )
    email: Email | None = Field(default=None, description="Contact that the CA may write to.")
    ca_file: File | None = Field(
        default=None, description="PEM bundle to trust for the CA's own TLS."
    )
    profile: Token | None = Field(
        default=None, description="Which of the CA's profiles to ask for."
    )
    preferred_chain: Token | None = Field(
        default=None, description="The root that the chain is to lead to, by common name."
    )
    key_type: Many[KeyType] = Field(
        default=_ACME.key_types, description="The certificates' keys; two, ECDSA and RSA, for both."
    )
    challenges: Many[Challenge] = Field(
        default=_ACME.challenges,
        description="Ways to prove control of a name, in order of preference.",
    )
    dns: Many[Dns] = Field(
        default=(),
        description="How records for dns-01 are set; one entry for each zone or for all.",
    )
    resolvers: Many[Annotated[model.Address, word(parse_resolver)]] = Field(
        default=(), description="Who is asked about zones, instead of the system's resolvers."
    )
    eab: ExternalAccount | None = Field(default=None, description="External account binding.")
    fallback: Many[Fallback] = Field(
        default=(), description="Other CAs, asked in order when one fails."
    )


class Hsts(Section):
    max_age: Annotated[float, duration("1s", "520w")] = Field(
        description="For how long browsers refuse plain HTTP to these names. Hard to take back."
    )


class Tls(Section):
    min_version: Annotated[Literal["1.2", "1.3"], one_of("1.2", "1.3")] = Field(
        default=_TLS.min_version, description="The oldest TLS version spoken with clients."
    )
    hsts: Hsts | None = Field(default=None, description="Strict-Transport-Security, RFC 6797.")


class Log(Section):
    format: Annotated[Literal["auto", "text", "json"], one_of("auto", "text", "json")] = Field(
        default=_LOG.format, description="auto is text on a terminal, else json."
    )
    level: Annotated[
        Literal["debug", "info", "warning", "error"], one_of("debug", "info", "warning", "error")
    ] = Field(default=_LOG.level, description="The least weighty lines of the operational log.")
    access: File = Field(default=_LOG.access, description="stdout, stderr, off, or a file.")


class Limits(Section):
    header_timeout: Annotated[float, duration("1s", "10m")] = Field(
        default=_LIMITS.header_timeout, description="Until a request's head is complete."
    )
    body_timeout: Annotated[float, duration("1s", "1h")] = Field(
        default=_LIMITS.body_timeout, description="Without a byte of a request's body."
    )
    write_timeout: Annotated[float, duration("1s", "1h")] = Field(
        default=_LIMITS.write_timeout,
        description="For the client to take the next piece of an answer, 16 to 64 KiB.",
    )
    keepalive_timeout: Annotated[float, duration("1s", "1h")] = Field(
        default=_LIMITS.keepalive_timeout, description="Between two requests of a connection."
    )
    handshake_timeout: Annotated[float, duration("1s", "2m")] = Field(
        default=_LIMITS.handshake_timeout, description="For the TLS handshake."
    )
    shutdown_timeout: Annotated[float, duration("0s", "1d")] = Field(
        default=_LIMITS.shutdown_timeout, description="For what is under way when the server stops."
    )
    header_size: Annotated[int, size("1KiB", "1MiB")] = Field(
        default=_LIMITS.header_size, description="Of a request's head, in total."
    )
    target_size: Annotated[int, size("256B", "1MiB")] = Field(
        default=_LIMITS.target_size, description="Of path and query together."
    )
    header_count: Annotated[int, count(10, 10_000)] = Field(
        default=_LIMITS.header_count, description="Field lines of one request."
    )
    body_size: Annotated[int | None, size("0B", "1000000GB", unlimited=True)] = Field(
        default=_LIMITS.body_size, description="Of a request's body; unlimited, as backends decide."
    )
    connections: Annotated[int, count(1, 10_000_000)] = Field(
        default=_LIMITS.connections, description="Open at a time, over all workers."
    )
    connections_per_address: Annotated[int, count(1, 10_000_000)] = Field(
        default=_LIMITS.connections_per_address, description="From one address, or one IPv6 /64."
    )
    handshakes: Annotated[int, count(10, 1_000_000)] = Field(
        default=_LIMITS.handshakes, description="TLS handshakes under way, over all workers."
    )
    tunnels: Annotated[int, count(0, 1_000_000)] = Field(
        default=_LIMITS.tunnels, description="WebSockets and other tunnels, over all workers."
    )
    requests_per_connection: Annotated[int, count(1, 1_000_000_000)] = Field(
        default=_LIMITS.requests_per_connection,
        description="Then the connection ends, as has been announced.",
    )


class Admin(Section):
    listen: ListenWord = Field(description="Dashboard, /metrics and /status; for trusted eyes.")


class Health(Section):
    path: Annotated[str, word(_parse_http_path)] = Field(
        description="Asked with GET; 2xx and 3xx are healthy."
    )
    interval: Annotated[float, duration("100ms", "1h")] = Field(
        default=_HEALTH.interval, description="Between two checks of a backend."
    )
    timeout: Annotated[float, duration("10ms", "5m")] = Field(
        default=_HEALTH.timeout, description="Until a check has failed."
    )


_BREAKER = model.Breaker(1.0)


class Breaker(Section):
    share: Annotated[float, word(_parse_share)] = Field(
        description="Of failed requests and 5xx answers, like 50%."
    )
    requests: Annotated[int, count(1, 1_000_000)] = Field(
        default=_BREAKER.requests, description="Fewer than that decide nothing."
    )
    window: Annotated[float, duration("1s", "1h")] = Field(
        default=_BREAKER.window, description="Over how long they are counted, per worker."
    )
    pause: Annotated[float, duration("100ms", "1h")] = Field(
        default=_BREAKER.pause, description="How long the backend is left out then."
    )


class BackendTls(Section):
    ca_file: File | None = Field(
        default=None, description="PEM bundle to trust instead of the system's."
    )
    insecure: Switch = Field(
        default=_PROXY.tls.insecure, description="Take any certificate whatever."
    )
    server_name: Name | None = Field(
        default=None, description="The name to ask for and to verify, when it is not the URL's."
    )


class Backend(Section):
    url: BackendUrl = Field(description="http://HOST:PORT, https://HOST:PORT or unix:/PATH.")
    weight: Annotated[int, count(1, 1000)] = Field(
        default=1, description="Its share of the requests."
    )
    drain: Switch = Field(default=False, description="In maintenance: no new client is sent there.")


def _url_alone(given: object) -> object:
    return {"url": given} if isinstance(given, str) else given


BackendEntry = Annotated[Backend, BeforeValidator(_url_alone, json_schema_input_type=str | Backend)]


class Serving(Section):
    """How requests are answered: with files, by backends, or elsewhere. A site or a route."""

    root: File | None = Field(default=None, description="A directory whose files are served.")
    backend: Many[BackendEntry] | None = Field(default=None, description="Who is asked instead.")
    redirect: Annotated[str, word(parse_redirect)] | None = Field(
        default=None,
        description="Where to go instead; {rest}, {path}, {query}, {host} are filled in.",
    )
    status: Annotated[Literal[301, 302, 303, 307, 308], one_of(301, 302, 303, 307, 308)] = Field(
        default=308, description="The redirect's status."
    )
    balance: Annotated[
        Literal["round_robin", "least_conn", "random_two", "hash"],
        one_of("round_robin", "least_conn", "random_two", "hash"),
    ] = Field(default=_PROXY.balance, description="Which backend gets the next request.")
    hash_by: HashBy = Field(
        default=_PROXY.hash_key,
        description="For balance hash: address, path, header:NAME, cookie:NAME.",
    )
    sticky_cookie: Annotated[str, word(_parse_cookie_name)] | None = Field(
        default=None, description="A cookie by which a client stays with its backend."
    )
    health: Health | None = Field(default=None, description="Asks backends how they are.")
    breaker: Breaker | None = Field(
        default=None, description="Leaves a backend out that fails too often."
    )
    slow_start: Annotated[float, duration("0s", "1h")] = Field(
        default=_PROXY.slow_start,
        description="How long a backend that comes back takes to its full share.",
    )
    backend_tls: BackendTls | None = Field(default=None, description="For https backends.")
    connect_timeout: Annotated[float, duration("10ms", "5m")] = Field(
        default=_PROXY.connect_timeout, description="Until a backend takes the connection."
    )
    response_timeout: Annotated[float, duration("100ms", "1d")] = Field(
        default=_PROXY.response_timeout, description="Until the head of a backend's answer."
    )
    idle_timeout: Annotated[float, duration("100ms", "7d")] = Field(
        default=_PROXY.idle_timeout, description="Between two pieces of an answer, or in a tunnel."
    )
    pool_idle: Annotated[float, duration("0s", "1h")] = Field(
        default=_PROXY.pool_idle,
        description="An unused connection to a backend is closed after that.",
    )
    connections: Annotated[int, count(1, 100_000)] = Field(
        default=_PROXY.connections, description="To one backend, per worker."
    )
    queue: Annotated[int, count(0, 100_000)] = Field(
        default=_PROXY.queue,
        description="Requests that wait for one, as long as connect_timeout; beyond: 503.",
    )
    preserve_host: Switch = Field(
        default=_PROXY.preserve_host, description="Pass Host on as the client sent it."
    )


class Route(Serving):
    path: Annotated[str, word(parse_route_path)] = Field(
        description="/exact or /below/*; the longest match wins."
    )


class Certificate(Section):
    chain: File = Field(description="PEM: the certificate, then its intermediates.")
    key: File = Field(description="PEM: its private key, without a passphrase.")


class ClientAuth(Section):
    ca_file: File = Field(description="PEM: the CAs whose client certificates are taken.")
    mode: Annotated[Literal["require", "request"], one_of("require", "request")] = Field(
        default="require", description="request lets clients in that have none."
    )


class SiteTls(Section):
    client_auth: ClientAuth | None = Field(
        default=None, description="Client certificates; the backend is told in Client-Cert."
    )


class RateLimit(Section):
    rate: Annotated[float, word(_parse_rate)] = Field(description="Like 10/s, 100/m, 1000/h.")
    burst: Annotated[int | None, count(1, 1_000_000)] = Field(
        default=None, description="Requests at once; left out, those of one second, at least one."
    )
    by: Annotated[Literal["address", "site"], one_of("address", "site")] = Field(
        default="address", description="Each address (IPv6 /64) by itself, or all together."
    )


class OnDemand(Section):
    patterns: Many[Annotated[str, word(parse_name_pattern)]] = Field(
        default=_ON_DEMAND.patterns, description="Only these names, or *.names."
    )
    ask: Annotated[str, word(parse_ask_url)] | None = Field(
        default=None, description="Asked with ?domain=NAME; 200 allows a name, all else does not."
    )
    dns: Switch = Field(
        default=_ON_DEMAND.dns, description="Only names whose DNS leads here, and nowhere else."
    )
    addresses: Many[Annotated[str, word(parse_own_address)]] = Field(
        default=_ON_DEMAND.addresses,
        description="For dns: what here is; left out, the public addresses of the interfaces.",
    )
    wait: Annotated[float, duration("1s", "2m")] = Field(
        default=_ON_DEMAND.wait, description="How long a handshake waits for the certificate."
    )
    per_hour: Annotated[int, count(1, 1000)] = Field(
        default=_ON_DEMAND.per_hour, description="New names that are ordered in an hour, at most."
    )
    most: Annotated[int, count(1, 5000)] = Field(
        default=_ON_DEMAND.most, description="Names at a time."
    )
    forget: Annotated[float, duration("1h", "520w")] = Field(
        default=_ON_DEMAND.forget,
        description="A name that nobody came for so long is not renewed.",
    )


class Site(Serving):
    names: Many[Name] = Field(description="Domain names, *.names, localhost, IP addresses.")
    routes: Many[Route] = Field(default=(), description="Different answers for different paths.")
    certificate: Many[Certificate] = Field(
        default=(), description="Your own, one for each kind of key; no CA is asked then."
    )
    key_type: Many[KeyType] | None = Field(
        default=None, description="As under acme, for this site alone."
    )
    tls: SiteTls = Field(default=SiteTls(), description="TLS rules of this site.")
    rate_limit: Many[RateLimit] = Field(
        default=(), description="More requests than that are answered 429."
    )
    on_demand: OnDemand | None = Field(
        default=None, description="Other names, certified when somebody comes for them."
    )
    default: Switch = Field(
        default=False, description="Served to clients that name no known site. At most one site."
    )


class Document(Section):
    """The configuration of treehouse-proxy."""

    listen: Listen = Field(default=Listen(), description="Addresses and ports.")
    user: Account | None = Field(default=None, description="Who to become: a name or number.")
    group: Account | None = Field(
        default=None, description="The group to become: a name or number."
    )
    workers: Annotated[int | None, number_word(_parse_workers)] = Field(
        default=None, description="Processes that serve; auto is one per CPU."
    )
    state: File | None = Field(default=None, description="The directory of keys and certificates.")
    acme: Acme = Field(default=Acme(), description="Where certificates come from.")
    tls: Tls = Field(default=Tls(), description="TLS rules of all sites.")
    log: Log = Field(default=Log(), description="Logs.")
    limits: Limits = Field(default=Limits(), description="What one client may take.")
    trusted_proxies: Many[Network] = Field(
        default=(), description="Networks whose forwarding fields are believed."
    )
    proxy_protocol: Many[Network] = Field(
        default=(),
        description="Networks whose connections begin with a PROXY header, version 1 or 2.",
    )
    admin: Admin | None = Field(default=None, description="Off unless given.")
    alerts: Alerts | None = Field(default=None, description="Who is told when something fails.")
    sandbox: Annotated[Literal["require", "auto", "off"], one_of("require", "auto", "off")] = Field(
        default="auto", description="Confine each process with what the kernel has."
    )
    fast_lane: Switch = Field(default=True, description="Read plain requests without h11.")
    uvloop: Switch = Field(default=True, description="Use uvloop's event loop.")
    watch: Switch = Field(
        default=False, description="Reload by itself when this file, or one that it names, changes."
    )
    sites_dir: File | None = Field(
        default=None, description="Treehouse mode: a directory of sites."
    )
    sites: tuple[Site, ...] = Field(default=(), description="What is served under which names.")
