"""What a user may write: every key, its kind, its default and its bounds.

The YAML file, the flags and the sites directory all end here, as the same tree of words; one set of
rules reads them, and `json_schema` makes the schema for editors from it. The larger sections have
files of their own: `acme`, `site`, `rules` and `alerts`. Each section is a frozen dataclass that
the program uses as it is, so that a key is defined once. Keys that exclude or need each other are
the business of `checks.consistency`, files on disk that of `checks.files`.

Words arrive as text (see `syntax.yaml_reader`), so ``workers: 4`` and ``workers: "4"`` are the
same, and null means "not given" everywhere.
"""

import re
from typing import Annotated, ClassVar, Literal

from ..syntax.address_sets import with_sets
from ..syntax.addresses import parse_ask_url, parse_listen, parse_network, parse_own_address
from ..syntax.faults import Wrong, nearest, shown
from ..syntax.kinds import (
    Account,
    File,
    Switch,
    count,
    duration,
    number_word,
    one_of,
    place_or,
    size,
    word,
)
from ..syntax.names import parse_name, parse_name_pattern
from ..syntax.sections import (
    SWITCH,
    Before,
    Field,
    Many,
    Section,
    already_read,
    section,
    wide_section,
)
from ..values import Address
from .access import ForwardAuth
from .acme import Acme, KeyType
from .alerts import Alerts
from .cluster import Cluster
from .providers import Providers
from .rules import BasicAuth, Rules
from .site import Route, Serving
from .tracing import Tracing

_MAX_WORKERS = 1024  # more than the largest machines have processors worth a worker


def _parse_workers(text: str) -> int | None:
    if text == "auto":
        return None
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MAX_WORKERS:
        return int(text)
    raise Wrong(
        f"{shown(text)} is not a number of workers",
        f"write a number from 1 to {_MAX_WORKERS}, or auto for one per CPU",
    )


def _parse_log(text: str) -> str | None:
    """Return the word that a stream has here; None for the name of a file. Docker's names for the
    streams lead elsewhere, or nowhere, once the privileges are dropped."""
    streams = {"/dev/stdout": "stdout", "/dev/stderr": "stderr", "-": "stdout"}
    streams |= {"/dev/fd/1": "stdout", "/dev/fd/2": "stderr"}
    streams |= {"/proc/self/fd/1": "stdout", "/proc/self/fd/2": "stderr"}
    if text in ("stdout", "stderr", "off"):
        return text
    if text.lower() in ("true", "on", "yes", "combined", "json"):
        raise Wrong(f"{shown(text)} is no place for access lines", "write stdout, stderr or a file")
    return "off" if text.lower() in ("none", "false", "no") else streams.get(text)


ListenWord = Annotated[Address, number_word(parse_listen)]
Name = Annotated[str, word(parse_name)]
Network = Annotated[str, word(parse_network)]


@section
class Listen(Section):
    other_words: ClassVar = dict.fromkeys(
        ("port", "ports", "address", "bind", "host", "ssl", "tls"),
        'write {http: [":80"], https: [":443"]}',
    )

    http: Many[ListenWord] = Field(
        default=(Address("", 80),),
        description="Where HTTP is answered: challenges, and redirects to https.",
    )
    https: Many[ListenWord] = Field(
        default=(Address("", 443),), description="Where HTTPS is answered."
    )


@section
class Hsts(Section):
    other_words: ClassVar = dict.fromkeys(
        ("preload", "include_subdomains", "includeSubDomains", "subdomains"),
        "leave it out: the field is for these names alone, and for no list of browsers",
    )

    max_age: Annotated[float, duration("1s", "520w")] = Field(
        description="For how long browsers refuse plain HTTP to these names. Hard to take back."
    )


@section
class Tls(Section):
    min_version: Annotated[Literal["1.2", "1.3"], one_of("1.2", "1.3")] = Field(
        default="1.2", description="The oldest TLS version spoken with clients."
    )
    hsts: Hsts | None = Field(default=None, description="Strict-Transport-Security, RFC 6797.")


_LOG_SIZE = size("1MiB", "1024GiB")


@section
class Rotate(Section):
    """When the access log is put aside, and what becomes of it."""

    size: Annotated[int, _LOG_SIZE] = Field(
        default=100 * 1024 * 1024, description="From which size on the file is put aside."
    )
    keep: Annotated[int, count(1, 1000)] = Field(
        default=10, description="Files that are kept; the oldest is removed."
    )
    compress: Switch = Field(default=True, description="With gzip, when it has been put aside.")


@section
class Log(Section):
    format: Annotated[
        Literal["auto", "text", "json", "combined", "vhost_combined"],
        one_of("auto", "text", "json", "combined", "vhost_combined"),
    ] = Field(
        default="auto",
        description="auto is text on a terminal and in the journal, else json; combined and "
        "vhost_combined are Apache's forms of access lines, beside which the rest is text.",
    )
    level: Annotated[
        Literal["debug", "info", "warning", "error"], one_of("debug", "info", "warning", "error")
    ] = Field(default="info", description="The least weighty lines of the operational log.")
    access: Annotated[str, place_or(_parse_log)] = Field(
        default="stdout", description="stdout, stderr, off, or a file."
    )
    rotate: Rotate | None = Field(
        default=None, description="Puts the file of access lines aside as it grows."
    )


Http2 = Annotated[Literal["auto", "off"], one_of("auto", "off")]


def _parse_label(text: str) -> str:
    if SWITCH.get(text.lower()) is False:
        return "off"
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        return text
    raise Wrong(
        f"{shown(text)} is no label for metrics",
        "write each, off, or a word of letters, digits, dots, underscores and hyphens",
    )


MetricsLabel = Annotated[str, word(_parse_label)]


@section
class Limits(Section):
    header_timeout: Annotated[float, duration("1s", "10m")] = Field(
        default=10.0, description="Until a request's head is complete."
    )
    body_timeout: Annotated[float, duration("1s", "1h")] = Field(
        default=30.0, description="Without a byte of a request's body."
    )
    write_timeout: Annotated[float, duration("1s", "1h")] = Field(
        default=60.0,
        description="For the client to take the next piece of an answer, 16 to 64 KiB.",
    )
    keepalive_timeout: Annotated[float, duration("1s", "1h")] = Field(
        default=75.0, description="Between two requests of a connection."
    )
    handshake_timeout: Annotated[float, duration("1s", "2m")] = Field(
        default=10.0, description="For the TLS handshake."
    )
    shutdown_timeout: Annotated[float, duration("0s", "1d")] = Field(
        default=30.0, description="For what is under way when the server stops."
    )
    header_size: Annotated[int, size("1KiB", "1MiB")] = Field(
        default=32768, description="Of a request's head, in total."
    )
    target_size: Annotated[int, size("256B", "1MiB")] = Field(
        default=8192, description="Of path and query together."
    )
    header_count: Annotated[int, count(10, 10_000)] = Field(
        default=100, description="Field lines of one request."
    )
    body_size: Annotated[int | None, size("0B", "1000000GB", unlimited=True)] = Field(
        default=None, description="Of a request's body; unlimited, as backends decide."
    )
    connections: Annotated[int, count(1, 10_000_000)] = Field(
        default=10000, description="Open at a time, over all workers."
    )
    connections_per_address: Annotated[int, count(1, 10_000_000)] = Field(
        default=200, description="From one address, or one IPv6 /64."
    )
    handshakes: Annotated[int, count(10, 1_000_000)] = Field(
        default=1000, description="TLS handshakes under way, over all workers."
    )
    tunnels: Annotated[int, count(0, 1_000_000)] = Field(
        default=4000, description="WebSockets and other tunnels, over all workers."
    )
    requests_per_connection: Annotated[int, count(1, 1_000_000_000)] = Field(
        default=10000,
        description="Then the connection ends, as has been announced.",
    )
    streams: Annotated[int, count(1, 10_000)] = Field(
        default=128, description="HTTP/2 requests under way on one connection."
    )
    streams_per_address: Annotated[int, count(1, 10_000_000)] = Field(
        default=2000, description="HTTP/2 requests under way from one address, or one IPv6 /64."
    )


@section
class ClientAuth(Section):
    ca_file: File = Field(description="PEM: the CAs whose client certificates are taken.")
    mode: Annotated[Literal["require", "request"], one_of("require", "request")] = Field(
        default="require", description="request lets clients in that have none."
    )


@section
class Admin(Section):
    """A page, /metrics and /status. On another address than the loopback ones it needs a login."""

    listen: ListenWord = Field(description="Where the page, /metrics and /status are answered.")
    names: Many[Name] = Field(
        default=(),
        description="With names it speaks HTTPS, and only to clients that ask for these; they get "
        "a certificate as those of sites do.",
    )
    basic_auth: BasicAuth | None = Field(
        default=None, description="Only users with a password get in."
    )
    forward_auth: ForwardAuth | None = Field(
        default=None, description="Only whom a login service lets in; needs names."
    )
    client_auth: ClientAuth | None = Field(
        default=None, description="Only clients with a certificate get in; needs names."
    )
    actions: Switch = Field(
        default=False, description="Let the page reload, renew and drain; else it only shows."
    )


@section
class OwnCertificate(Section):
    other_words: ClassVar = {
        **dict.fromkeys(
            ("cert", "certificate", "crt", "fullchain", "file", "cert_file", "certfile", "pem"),
            "here that is chain: FULLCHAIN.pem",
        ),
        **dict.fromkeys(
            ("private_key", "privkey", "key_file", "keyfile"), "here that is key: KEY.pem"
        ),
    }

    chain: File = Field(description="PEM: the certificate, then its intermediates.")
    key: File = Field(description="PEM: its private key, without a passphrase.")


@section
class SiteTls(Section):
    client_auth: ClientAuth | None = Field(
        default=None, description="Client certificates; the backend is told in Client-Cert."
    )


@section
class OnDemand(Section):
    """Names beside the site's own that get a certificate when a client comes for them. Each of
    ``patterns``, ``ask`` and ``dns`` that is given must allow a name; at least one is."""

    renamed: ClassVar = {
        "per_hour": "max_new_per_hour",
        "most": "max_names",
        "forget": "forget_after",
    }

    patterns: Many[Annotated[str, word(parse_name_pattern)]] = Field(
        default=(), description="Only these names, or *.names."
    )
    ask: Annotated[str, word(parse_ask_url)] | None = Field(
        default=None, description="Asked with ?domain=NAME; 200 allows a name, all else does not."
    )
    dns: Switch = Field(
        default=False, description="Only names whose DNS leads here, and nowhere else."
    )
    addresses: Many[Annotated[str, word(parse_own_address)]] = Field(
        default=(),
        description="For dns: what here is; left out, the public addresses of the interfaces.",
    )
    wait: Annotated[float, duration("1s", "2m")] = Field(
        default=20.0, description="How long a handshake waits for the certificate."
    )
    max_new_per_hour: Annotated[int, count(1, 1000)] = Field(
        default=50, description="New names that are ordered in an hour, at most."
    )
    max_names: Annotated[int, count(1, 5000)] = Field(default=1000, description="Names at a time.")
    forget_after: Annotated[float, duration("1h", "520w")] = Field(
        default=2592000.0,
        description="A name that nobody came for so long is not renewed.",
    )


# What a line of the access log may tell of an exchange, beside fields of the messages.
FACTS = (
    "peer", "user", "site", "host", "method", "target", "path", "protocol", "status", "bytes",
    "duration_ms", "handler", "backend", "request_id", "tls", "referrer", "user_agent", "error",
)  # fmt: skip


def _parse_fact(text: str) -> str:
    kind, colon, name = text.strip().partition(":")
    if colon and kind in ("request", "response") and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name):
        if name.lower() in ("authorization", "cookie", "set-cookie", "proxy-authorization"):
            raise Wrong(f"{shown(text)} is a secret, which no log should hold", "leave it out")
        return f"{kind}:{name.lower()}"
    if text.strip() not in FACTS:
        raise Wrong(
            f"{shown(text)} is nothing that a line could tell",
            nearest(text, [*FACTS, "request:NAME", "response:NAME"]),
        )
    return text.strip()


@section
class SiteLog(Section):
    """The access lines of a site; the place and the form are those of `log` at the top."""

    lines: Switch = Field(default=True, description="false, or log: off: there are none.")
    fields: Many[Annotated[str, word(_parse_fact)]] = Field(
        default=(),
        description="What a line tells, like [status, path, user, request:X-Tenant]; left out: as "
        "everywhere.",
    )


def _off_alone(given: object) -> object:
    return {"lines": "false"} if str(given).lower() in ("off", "false", "no", "none") else given


SiteLogEntry = Annotated[SiteLog, Before(_off_alone, written_as=SiteLog | Literal["off"])]


@wide_section
class Site(Serving):
    other_words: ClassVar = dict.fromkeys(
        ("methods", "match"), "it belongs to a route: routes: [{path: /*, ...}]"
    )

    names: Many[Name] = Field(description="Domain names, *.names, localhost, IP addresses.")
    routes: Many[Route] = Field(default=(), description="Different answers for different paths.")
    certificate: Many[OwnCertificate] = Field(
        default=(), description="Your own, one for each kind of key; no CA is asked then."
    )
    key_type: Many[KeyType] | None = Field(
        default=None, description="As under acme, for this site alone."
    )
    tls: SiteTls = Field(default=already_read(SiteTls), description="TLS rules of this site.")
    on_demand: OnDemand | None = Field(
        default=None, description="Other names, certified when somebody comes for them."
    )
    http2: Http2 | None = Field(default=None, description="As at the top, for this site alone.")
    metrics_label: MetricsLabel | None = Field(
        default=None, description="As at the top, for this site alone."
    )
    log: SiteLogEntry = Field(
        default=already_read(SiteLog), description="off, or what the site's access lines tell."
    )
    default: Switch = Field(
        default=False, description="Served to clients that name no known site. At most one site."
    )


@wide_section
class Document(Rules):
    """The configuration of treehouse-proxy."""

    listen: Listen = Field(default=already_read(Listen), description="Addresses and ports.")
    user: Account | None = Field(default=None, description="Who to become: a name or number.")
    group: Account | None = Field(
        default=None, description="The group to become: a name or number."
    )
    workers: Annotated[int | None, number_word(_parse_workers)] = Field(
        default=None, description="Processes that serve; auto is one per CPU."
    )
    state: File | None = Field(default=None, description="The directory of keys and certificates.")
    acme: Acme = Field(default=already_read(Acme), description="Where certificates come from.")
    tls: Tls = Field(default=already_read(Tls), description="TLS rules of all sites.")
    log: Log = Field(default=already_read(Log), description="Logs.")
    limits: Limits = Field(default=already_read(Limits), description="What one client may take.")
    trusted_proxies: Annotated[Many[Network], Before(with_sets)] = Field(
        default=(),
        description="Networks whose forwarding fields are believed; cloudflare, private and "
        "loopback stand for whole sets.",
    )
    proxy_protocol: Many[Network] = Field(
        default=(),
        description="Networks whose connections begin with a PROXY header, version 1 or 2.",
    )
    admin: Admin | None = Field(default=None, description="Off unless given.")
    tracing: Tracing | None = Field(
        default=None, description="Sends traces of requests to a collector; off unless given."
    )
    cluster: Cluster | None = Field(
        default=None, description="Share certificates with other machines; off unless given."
    )
    alerts: Alerts | None = Field(default=None, description="Who is told when something fails.")
    sandbox: Annotated[Literal["require", "auto", "off"], one_of("require", "auto", "off")] = Field(
        default="auto", description="Confine each process with what the kernel has."
    )
    http2: Http2 = Field(default="auto", description="Offer HTTP/2 to clients, by ALPN.")
    websocket_over_http2: Switch = Field(
        default=False, description="Let WebSockets share an HTTP/2 connection (RFC 8441)."
    )
    metrics_label: MetricsLabel = Field(
        default="each",
        description="What the figures of sites are told under: each is each name by itself; off "
        "is all together; a word is shared by all sites that say it.",
    )
    fast_lane: Switch = Field(
        default=True, description="Read requests without asking h11 or h2 about each."
    )
    uvloop: Switch = Field(default=True, description="Use uvloop's event loop.")
    watch: Switch = Field(
        default=False, description="Reload by itself when this file, or one that it names, changes."
    )
    include: Many[File] = Field(
        default=(), description="Files with further sites; wildcards are taken, sites.d/*.yaml."
    )
    providers: Providers = Field(
        default=already_read(Providers),
        description="Who tells of further sites: containers' labels.",
    )
    sites_dir: File | None = Field(
        default=None, description="Treehouse mode: a directory of sites."
    )
    sites: tuple[Site, ...] = Field(default=(), description="What is served under which names.")
