"""The keys of a site or a route that say how requests are answered: with files, by backends, or
elsewhere.

`check` has what they need of each other; files on disk are the business of `places`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from .. import model
from ..syntax.addresses import parse_backend
from ..syntax.faults import Fault, Origins, Path, Wrong, shown
from ..syntax.kinds import File, Many, Section, Switch, count, duration, one_of, word
from ..syntax.names import parse_name
from ..syntax.patterns import is_prefix, parse_redirect, parse_route_path, placeholders

_HEALTH = model.Health("/")
_PROXY = model.ProxyAction(())


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


def _parse_share(text: str) -> float:
    found = re.fullmatch(r"(\d{1,3}) ?%", text)
    if not found or not 1 <= int(found[1]) <= 100:
        raise Wrong(f"{shown(text)} is not a share", "write it like 50%")
    return int(found[1]) / 100


def _parse_cookie_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", text):
        raise Wrong(f"{shown(text)} is not the name of a cookie", "use letters, digits, - and _")
    return text


BackendUrl = Annotated[model.Backend, word(parse_backend)]
HashBy = Annotated[model.HashKey, word(_parse_hash_key)]


class Health(Section):
    path: Annotated[str, word(_parse_http_path)] = Field(
        description="Asked with GET, behind the path of the backend's URL; 2xx and 3xx are healthy."
    )
    host: Annotated[str, word(parse_name)] | None = Field(
        default=None,
        description="Host of the check; else the site's first name, or the backend's address "
        "where preserve_host is false.",
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
    server_name: Annotated[str, word(parse_name)] | None = Field(
        default=None, description="The name to ask for and to verify, when it is not the URL's."
    )


class StickyCookie(Section):
    name: Annotated[str, word(_parse_cookie_name)] = Field(description="The name of the cookie.")
    same_site: Annotated[Literal["none", "lax", "strict"], one_of("none", "lax", "strict")] = Field(
        default=_PROXY.sticky_same_site,
        description="SameSite; none where pages of other sites show this one in a frame.",
    )


def _name_alone(given: object) -> object:
    return {"name": given} if isinstance(given, str) else given


StickyCookieEntry = Annotated[
    StickyCookie, BeforeValidator(_name_alone, json_schema_input_type=str | StickyCookie)
]


class Backend(Section):
    url: BackendUrl = Field(
        description="http://HOST:PORT, https://HOST:PORT, both with a path that is put before the "
        "request's, unix:/PATH or unix:@NAME."
    )
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
    sticky_cookie: StickyCookieEntry | None = Field(
        default=None, description="A cookie by which a client stays with its backend: its name."
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
    wait_for_backend: Annotated[float, duration("0s", "10m")] = Field(
        default=_PROXY.wait_for_backend,
        description="How long a request is held that no backend takes, because the app restarts; "
        "queue bounds how many are.",
    )
    preserve_host: Switch = Field(
        default=_PROXY.preserve_host, description="Pass Host on as the client sent it."
    )
    via: Switch | None = Field(
        default=None,
        description="Send Via to backends; some stop compressing then. Left out: as for all sites.",
    )


class Route(Serving):
    path: Annotated[str, word(parse_route_path)] = Field(
        description="/exact or /below/*; the longest match wins."
    )


# What these keys need of each other

# All other keys say how to talk to backends, and mean nothing without one.
_NOT_ABOUT_BACKENDS = ("root", "backend", "redirect", "status")
_ABOUT_BACKENDS = tuple(key for key in Serving.model_fields if key not in _NOT_ABOUT_BACKENDS)


def check(
    serving: Serving,
    at: Path,
    origins: Origins,
    taken: str,
    routes: tuple[Route, ...] | None = None,
) -> Iterator[Fault]:
    """``taken``: the paths that this is for, as a route spells them; ``routes``: those of a site,
    None where this is a route itself."""
    given = serving.model_fields_set
    answers: list[str] = [key for key in ("root", "backend", "redirect") if key in given]
    if routes:
        answers += ["routes"]
    elif routes is None and not answers:
        yield origins.fault(at, "this route has no answer", "add root, backend or redirect")
    if len(answers) > 1:
        yield origins.fault_of_key(
            (*at, answers[1]),
            f"{' and '.join(answers)} exclude each other",
            "keep one; different paths get their own answer under routes",
        )
    if "backend" in given:
        yield from _backends(serving, at, origins)
    else:
        for key in (key for key in _ABOUT_BACKENDS if key in given):
            yield origins.fault_of_key(
                (*at, key), "this key means nothing without backend", "add backend, or leave it out"
            )
    if serving.redirect is None:
        if "status" in given:
            yield origins.fault_of_key(
                (*at, "status"), "this key belongs to a redirect", "add redirect, or leave it out"
            )
    elif "rest" in placeholders(serving.redirect) and not is_prefix(taken):
        yield origins.fault(
            (*at, "redirect"),
            f"{{rest}} is what an asterisk takes, and {shown(taken)} has none",
            "end the path in /*, or leave {rest} out",
        )


def _backends(serving: Serving, at: Path, origins: Origins) -> Iterator[Fault]:
    backends = serving.backend or ()
    if not backends:
        yield origins.fault((*at, "backend"), "the list of backends is empty", "give at least one")
    seen = set()
    for number, each in enumerate(backends):
        key = (each.url.scheme, each.url.host, each.url.port, each.url.path, each.url.prefix)
        if key in seen:
            yield origins.fault(
                (*at, "backend", number),
                f"{shown(each.url.url)} stands here twice",
                "leave one out; weight gives a backend a larger share",
            )
        seen.add(key)
    if backends and all(each.drain for each in backends):
        yield origins.fault(
            (*at, "backend"), "every backend is in maintenance", "leave drain out at one of them"
        )
    if serving.backend_tls:
        if not any(each.url.scheme == "https" for each in backends):
            yield origins.fault_of_key(
                (*at, "backend_tls"), "no backend here is asked over https", "leave it out"
            )
        if serving.backend_tls.insecure and serving.backend_tls.ca_file:
            yield origins.fault(
                (*at, "backend_tls", "insecure"),
                "with insecure any certificate is taken, and ca_file is never looked at",
                "keep one of the two",
            )
    if "hash_by" in serving.model_fields_set and serving.balance != "hash":
        yield origins.fault_of_key(
            (*at, "hash_by"), "this key belongs to balance: hash", "add that, or leave it out"
        )
