"""What a site or a route may say beside its action; every key here may stand at the top as well.

To add such a key, write one field in `Rules` (in `BackendRules` or `files.FileRules` where it
means nothing without a backend or a root, in `answers.AnswerRules` where it changes what is asked
for or answers itself): its type, default and description. Nothing else in `proxy.config` names it.
It is then accepted at the top of the document, at a site and at a route; the innermost that is
given wins (`inherit.innermost`); it stands in the JSON schema; and the program finds its value at
``Route.rules`` and ``Site.rules`` of `model`, and the place that decided in ``Route.origins``. A
value that joins the outer one instead of replacing it is marked with `AddsUp`.

What a key needs of its neighbours goes into `site.check`. A file that is read as the server's user
is a `File` whose key ends in ``_file``: it is watched, and whether it can be read is checked.
`config/reference.yaml` has a line for each key, which a test demands.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from acme_client.late_dataclass import dataclass

from ..syntax import field_rules
from ..syntax.address_sets import AddressEntry, parse_entry
from ..syntax.faults import Wrong, shown
from ..syntax.kinds import (
    SIZE,
    File,
    Switch,
    count,
    duration,
    from_folder,
    number_word,
    one_of,
    pairs,
    size,
    word,
)
from ..syntax.names import parse_name
from ..syntax.password_hashes import NotAHash, check_hash, check_user
from ..syntax.sections import (
    SWITCH,
    Before,
    Field,
    Many,
    Section,
    alone,
    already_read,
    section,
)
from ..syntax.units import parse_size, spell_size
from ..values import HashKey
from .access import CorsEntry, ForwardAuthEntry, off_is_none
from .answers import AnswerRules
from .files import FileRules
from .own_filters import FilterEntry


@dataclass(frozen=True, slots=True)
class AddsUp:
    """Metadata for `Annotated`: how an inner value joins the outer one, ``join(outer, inner)``."""

    join: Callable[[Any, Any], Any]


def _parse_http_path(text: str) -> str:
    if not (text.startswith("/") and text.isascii() and text.isprintable() and " " not in text):
        raise Wrong(f"{shown(text)} is not a path", "write it like /healthz")
    return text


def _parse_rate(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9}) ?/ ?(s|m|h|d)", text)
    if not found or not int(found[1]):
        raise Wrong(f"{shown(text)} is not a rate", "write it like 10/s, 100/m, 1000/h or 5000/d")
    return int(found[1]) / {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _parse_hash_key(text: str) -> HashKey:
    kind, _, name = text.partition(":")
    match kind:
        case "address" | "path" if not name:
            return HashKey(kind)
        case "header" | "cookie" if re.fullmatch(rf"{field_rules.IN_TOKENS}+", name):
            return HashKey(kind, name.lower() if kind == "header" else name)
    raise Wrong(
        f"{shown(text)} is nothing to hash by", "write address, path, header:NAME or cookie:NAME"
    )


def _parse_share(text: str) -> float:
    found = re.fullmatch(r"(\d{1,3}) ?%", text)
    if not found or not 1 <= int(found[1]) <= 100:
        raise Wrong(f"{shown(text)} is not a share", "write it like 50%")
    return int(found[1]) / 100


def _parse_media_type(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9.+-]+/[a-z0-9.+-]*", text.lower()):
        raise Wrong(f"{shown(text)} is no media type", "write it like text/html, or text/ for all")
    return text.lower()


def _parse_cookie_name(text: str) -> str:
    if not re.fullmatch(rf"{field_rules.IN_TOKENS}{{1,64}}", text):
        raise Wrong(f"{shown(text)} is not the name of a cookie", "use letters, digits, - and _")
    return text


HashBy = Annotated[HashKey, word(_parse_hash_key)]
AddressWord = Annotated[AddressEntry, from_folder(parse_entry)]
ResponsePairs = Annotated[
    tuple[tuple[str, str], ...], pairs(field_rules.response_name, field_rules.value)
]
RequestPairs = Annotated[
    tuple[tuple[str, str], ...], pairs(field_rules.request_name, field_rules.value)
]


def joined(outer: Any, inner: Any) -> Any:
    """How an inner level's rules on fields add up with the outer one's."""
    changed = dict(outer.set) | dict(inner.set)
    names = set(inner.remove)
    return replace(
        inner,
        set=tuple((name, value) for name, value in changed.items() if name not in names),
        add=outer.add + inner.add,
        remove=tuple(dict.fromkeys(outer.remove + inner.remove)),
        **(
            {"default": tuple((dict(outer.default) | dict(inner.default)).items()),
             "security": inner.security or outer.security}
            if isinstance(inner, ResponseFieldRules) else {"host": inner.host or outer.host}
        ),
    )  # fmt: skip


@section
class _FieldRules(Section):
    @classmethod
    def other_word(cls, word: str) -> str | None:
        if "-" in word or word[:1].isupper():
            return f"write set: {{{word}: VALUE}}"
        return super().other_word(word)


@section
class ResponseFieldRules(_FieldRules):
    """Fields of responses. Names are in lower case; in values {host}, {path}, {query}, {id},
    {scheme} and {client} are filled in. The order is: remove, default, set, add."""

    set: ResponsePairs = Field(default=(), description="In place of what the response says.")
    add: ResponsePairs = Field(default=(), description="Beside what the response says.")
    default: ResponsePairs = Field(default=(), description="Only where the response says nothing.")
    remove: Many[Annotated[str, word(field_rules.response_name)]] = Field(
        default=(), description="Names of fields that are left out, like Server."
    )
    security: Annotated[Literal["strict", "lax"], one_of("strict", "lax")] | None = Field(
        default=None,
        description="A preset of defaults: nosniff, a Referrer-Policy, no frames of other sites; "
        "strict adds a Content-Security-Policy of the site's own content.",
    )


@section
class RequestFieldRules(_FieldRules):
    """Fields of requests to backends; else as `ResponseFieldRules`. ``host`` stands in place of the
    client's Host, which backends still find in X-Forwarded-Host."""

    set: RequestPairs = Field(default=(), description="In place of what the client says.")
    add: RequestPairs = Field(default=(), description="Beside what the client says.")
    remove: Many[Annotated[str, word(field_rules.removable_request_name)]] = Field(
        default=(), description="Names of fields that are left out; forwarding fields as well."
    )
    host: Annotated[str, word(field_rules.host)] | None = Field(
        default=None,
        description="Host of all these requests, as app.internal:8080; else preserve_host decides.",
    )


@section
class Health(Section):
    other_words: ClassVar = dict.fromkeys(
        ("url", "uri", "endpoint", "target", "check", "http"), "here that is path: /healthz"
    )

    path: Annotated[str, word(_parse_http_path)] | None = Field(
        default=None,
        description="Asked with GET, behind the path of the backend's URL; 2xx, 3xx are healthy.",
    )
    interval: Annotated[float, duration("100ms", "1h")] = Field(
        default=5.0, description="Between two checks of a backend."
    )
    timeout: Annotated[float, duration("10ms", "5m")] = Field(
        default=2.0, description="Until a check has failed."
    )
    host: Annotated[str, word(field_rules.host)] | None = Field(
        default=None,
        description="Host of the check; left out, that of request_headers, else the site's first "
        "name, or the backend's address where preserve_host is false.",
    )
    grpc: Switch = Field(
        default=False,
        description="Ask by gRPC's health protocol, without a path; SERVING is healthy.",
    )


@section
class Breaker(Section):
    """Circuit breaking: of at least ``requests`` within ``window`` seconds, the share
    ``failure_ratio`` (0 to 1) failed or was answered with 5xx; then the backend is left out for
    ``pause`` seconds."""

    renamed: ClassVar = {"share": "failure_ratio"}

    failure_ratio: Annotated[float, word(_parse_share)] = Field(
        description="Of failed requests and 5xx answers, like 50%."
    )
    requests: Annotated[int, count(1, 1_000_000)] = Field(
        default=20, description="Fewer than that decide nothing."
    )
    window: Annotated[float, duration("1s", "1h")] = Field(
        default=10.0, description="Over how long they are counted, per worker."
    )
    pause: Annotated[float, duration("100ms", "1h")] = Field(
        default=10.0, description="How long the backend is left out then."
    )


@section
class StickyCookie(Section):
    name: Annotated[str, word(_parse_cookie_name)] = Field(description="The name of the cookie.")
    same_site: Annotated[Literal["none", "lax", "strict"], one_of("none", "lax", "strict")] = Field(
        default="lax",
        description="Its SameSite; none where other sites' pages show this one in a frame.",
    )


StickyCookieEntry = Annotated[StickyCookie, Before(alone("name"), written_as=str | StickyCookie)]


@section
class BackendTls(Section):
    ca_file: File | None = Field(
        default=None, description="PEM bundle to trust instead of the system's."
    )
    insecure: Switch = Field(default=False, description="Take any certificate whatever.")
    http2: Switch = Field(default=False, description="Speak HTTP/2 with it, as gRPC needs.")
    server_name: Annotated[str, word(parse_name)] | None = Field(
        default=None, description="The name to ask for and to verify, when it is not the URL's."
    )


@section
class BackendRules(Section):
    """How backends are talked to. Means nothing without one."""

    renamed: ClassVar = {
        "pool_idle": "idle_connection_timeout",
        "connections": "max_connections",
        "queue": "max_queued",
    }

    balance: Annotated[
        Literal["round_robin", "least_conn", "random_two", "hash"],
        one_of("round_robin", "least_conn", "random_two", "hash"),
    ] = Field(default="round_robin", description="Which backend gets the next request.")
    hash_by: HashBy = Field(
        default=HashKey(),
        description="For balance hash: address, path, header:NAME, cookie:NAME.",
    )
    sticky_cookie: StickyCookieEntry | None = Field(
        default=None, description="A cookie by which a client stays with its backend: its name."
    )
    health: Health | None = Field(default=None, description="Asks backends how they are.")
    breaker: Breaker | None = Field(
        default=None, description="Leaves a backend out that fails too often."
    )
    slow_start: Annotated[float, duration("0s", "1h")] = Field(
        default=0.0,
        description="How long a backend that comes back takes to its full share.",
    )
    backend_tls: BackendTls | None = Field(default=None, description="For https backends.")
    connect_timeout: Annotated[float, duration("10ms", "5m")] = Field(
        default=5.0, description="Until a backend takes the connection."
    )
    response_timeout: Annotated[float, duration("100ms", "1d")] = Field(
        default=60.0, description="Until the head of a backend's answer."
    )
    idle_timeout: Annotated[float, duration("100ms", "7d")] = Field(
        default=300.0, description="Between two pieces of an answer, or in a tunnel."
    )
    idle_connection_timeout: Annotated[float, duration("0s", "1h")] = Field(
        default=30.0,
        description="An unused connection to a backend is closed after that.",
    )
    max_connections: Annotated[int, count(1, 100_000)] = Field(
        default=512, description="To one backend, per worker."
    )
    max_queued: Annotated[int, count(0, 100_000)] = Field(
        default=1024,
        description="Requests that wait for one, as long as connect_timeout; beyond: 503.",
    )
    wait_for_backend: Annotated[float, duration("0s", "10m")] = Field(
        default=0.0,
        description="How long a request is held that no backend takes, because the app restarts; "
        "max_queued of them at most.",
    )
    via: Switch = Field(
        default=False, description="Send Via to backends; some do not compress then."
    )
    preserve_host: Switch = Field(default=True, description="Pass Host on as the client sent it.")
    request_headers: Annotated[RequestFieldRules, AddsUp(joined)] = Field(
        default=already_read(RequestFieldRules),
        description="Fields that requests to backends get or lose.",
    )


def _parse_hash(text: str) -> str:
    try:
        return check_hash(text)
    except NotAHash as wrong:
        remedy = "treehouse-proxy hash-password"
        if re.fullmatch(r"\$argon2id\$v=\d+\$m=\d+", text):  # up to its first comma
            remedy = "put it in quotation marks: inside braces its commas end it"
        raise Wrong(f"{shown(text[:12])}…: {wrong}", remedy) from None


def _parse_user(text: str) -> str:
    try:
        return check_user(text)
    except NotAHash as wrong:
        raise Wrong(str(wrong), "choose another name") from None


def _parse_realm(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise Wrong(f"{shown(text)} is shown to users and must be ASCII", "choose plain words")
    return text


@section
class BasicAuth(Section):
    """Users and their passwords."""

    users: Annotated[tuple[tuple[str, str], ...], pairs(_parse_user, _parse_hash)] = Field(
        default=(), description="NAME: HASH; treehouse-proxy hash-password makes hashes."
    )
    users_file: File | None = Field(
        default=None, description="More of them, NAME:HASH a line as htpasswd has it."
    )
    realm: Annotated[str, word(_parse_realm)] = Field(
        default="restricted", description="What browsers show when they ask."
    )
    forward: Switch = Field(
        default=False, description="Pass Authorization on to the backend as well."
    )

    def __repr__(self) -> str:
        """Name the users without their hashes, which no page and no log should hold."""
        names = ", ".join(name for name, _ in self.users)
        more = f" and those in {self.users_file}" if self.users_file is not None else ""
        return f"{{users: [{names}]{more}, realm: {self.realm}, forward: {self.forward}}}".replace(
            "True", "true"
        ).replace("False", "false")


BasicAuthEntry = Annotated[
    BasicAuth | None,
    Before(off_is_none, written_as=BasicAuth | Literal["off"] | None),
]


# What gains by compression, and is not compressed already (as Caddy and nginx have it).
_COMPRESSIBLE = (
    "text/",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/x-javascript",
    "application/x-ndjson",
    "application/manifest",
    "application/rss",
    "application/atom",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "application/x-font",
    "font/otf",
    "font/ttf",
    "image/svg",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
)


@section
class Compression(Section):
    """Which responses are compressed, and how."""

    mode: Annotated[Literal["auto", "true", "false"], one_of("auto", "true", "false")] = Field(
        default="true",
        description="auto leaves out what sets a cookie or answers Authorization, and what answers "
        "a session where another site may be behind the request.",
    )
    algorithms: Many[Annotated[str, one_of("zstd", "br", "gzip")]] = Field(
        default=("zstd", "br", "gzip"), description="Those that may be used; clients choose."
    )
    level: Annotated[Literal["fast", "usual", "best"], one_of("fast", "usual", "best")] = Field(
        default="usual", description="Time against size."
    )
    min_size: Annotated[int, size("0B", "1GiB")] = Field(
        default=1024, description="Smaller responses gain nothing."
    )
    types: Many[Annotated[str, word(_parse_media_type)]] = Field(
        default=_COMPRESSIBLE, description="Beginnings of media types."
    )


def _mode_alone(given: object) -> object:
    if isinstance(given, bool):
        return {"mode": str(given).lower()}
    if not isinstance(given, str):
        return given
    meant = SWITCH.get(given.lower())
    return {"mode": given.lower() if meant is None else str(meant).lower()}


CompressionEntry = Annotated[Compression, Before(_mode_alone, written_as=bool | str | Compression)]


@section
class RateLimit(Section):
    """A token bucket: ``rate`` requests a second, ``burst`` at once."""

    rate: Annotated[float, word(_parse_rate)] = Field(description="Like 10/s, 100/m, 1000/h.")
    burst: Annotated[int | None, count(1, 1_000_000)] = Field(
        default=None, description="Requests at once; left out, those of one second, at least one."
    )
    by: Annotated[Literal["address", "site"], one_of("address", "site")] = Field(
        default="address", description="Each address (IPv6 /64) by itself, or all together."
    )


UNLIMITED = 2**63 - 1  # of ``body_size``, where None is "as at the outer level"


def _parse_body_size(text: str) -> int:
    """Bytes; `UNLIMITED` for that word."""
    if text.strip().lower() in ("none", "off", "infinite", "inf", "-1", "no"):
        raise Wrong(f"{shown(text)} is not a size", "write unlimited")
    if text.strip() == "unlimited":
        return UNLIMITED
    octets = parse_size(text)
    if octets > 10**15:
        raise Wrong(f"{spell_size(octets)} is out of bounds", "write unlimited")
    return octets


BodySize = Annotated[int, number_word(_parse_body_size, pattern=f"{SIZE}|^unlimited$")]


@section
class Rules(BackendRules, FileRules, AnswerRules):
    """Every key that may stand at the top, at a site or at a route; the innermost wins."""

    rate_limit: Many[RateLimit] | None = Field(
        default=None,
        description="More requests than that are answered 429. Each site counts by itself.",
    )
    allow: Many[AddressWord] | None = Field(
        default=None,
        description="Only clients from these networks get in; others get 403. private, loopback, "
        "cloudflare or file:PATH stand for whole sets.",
    )
    deny: Many[AddressWord] = Field(
        default=(), description="Clients from these networks get 403, even if allowed."
    )
    basic_auth: BasicAuthEntry = Field(
        default=None, description="Only users with a password get in; off: all, at an inner level."
    )
    forward_auth: ForwardAuthEntry = Field(
        default=None,
        description="Only requests that a login service lets in get in; off: all, at an inner "
        "level.",
    )
    cors: CorsEntry = Field(
        default=None, description="What scripts of other origins may do; preflights end here."
    )
    use: Many[FilterEntry] = Field(
        default=(), description="Filters of your own in Python: MODULE:CLASS, or {use, with}."
    )
    body_size: BodySize | None = Field(
        default=None, description="As limits.body_size, for these requests."
    )
    body_timeout: Annotated[float, duration("1s", "1h")] | None = Field(
        default=None, description="As limits.body_timeout, for these requests."
    )
    compress: CompressionEntry = Field(
        default=already_read(Compression, mode="auto"),
        description="auto, true or false, or how: {algorithms, level, min_size, types}.",
    )
    headers: Annotated[ResponseFieldRules, AddsUp(joined)] = Field(
        default=already_read(ResponseFieldRules), description="Fields that responses get or lose."
    )
