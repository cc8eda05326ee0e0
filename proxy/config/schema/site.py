"""The keys of a site or a route that say how requests are answered: with files, by backends, or
elsewhere.

The keys beside the action are in `rules`. `check` has what keys need of each other; files on disk
are the business of `checks.files`.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from ..syntax.addresses import parse_backend
from ..syntax.faults import Fault, Origins, Path, shown
from ..syntax.kinds import File, Switch, count, word
from ..syntax.patterns import is_prefix, parse_route_path, placeholders
from ..syntax.sections import Before, Field, Many, Section, alone, section, wide_section
from ..values import Backend
from .answers import NO_RESPONSE
from .files import FileRules
from .matching import Match, parse_method
from .rules import BackendRules, Rules
from .scripts import FastCgiEntry

BackendUrl = Annotated[Backend, word(parse_backend)]


@section
class WeightedBackend(Section):
    other_words: ClassVar = dict.fromkeys(
        ("host", "port", "address", "server", "socket", "to", "target", "scheme"),
        "write url: http://127.0.0.1:3000, or unix:/run/app.sock",
    )

    url: BackendUrl = Field(
        description="http://HOST:PORT, https://HOST:PORT or h2c://HOST:PORT (HTTP/2 without TLS), "
        "with a path that is put before the request's; unix:/PATH or unix:@NAME."
    )
    weight: Annotated[int, count(1, 1000)] = Field(
        default=1, description="Its share of the requests."
    )
    drain: Switch = Field(default=False, description="In maintenance: no new client is sent there.")


BackendEntry = Annotated[WeightedBackend, Before(alone("url"), written_as=str | WeightedBackend)]


@wide_section
class Serving(Rules):
    """How requests are answered: with files, by backends, or elsewhere. A site or a route."""

    root: File | None = Field(default=None, description="A directory whose files are served.")
    fastcgi: FastCgiEntry | None = Field(
        default=None,
        description="Who runs the scripts below root (PHP-FPM): unix:/PATH or tcp://HOST:PORT.",
    )
    backend: Many[BackendEntry] | None = Field(default=None, description="Who is asked instead.")


@wide_section
class Route(Serving):
    other_words: ClassVar = dict.fromkeys(
        ("pattern", "prefix", "path_prefix", "PathPrefix", "uri", "url", "location"),
        "here that is path: /api/*",
    )

    path: Annotated[str, word(parse_route_path)] = Field(
        description="/exact or /below/*; the longest match wins, among equal ones the first."
    )
    methods: Many[Annotated[str, word(parse_method)]] = Field(
        default=(), description="Only requests with these; HEAD goes with GET. Others try on."
    )
    match: Match | None = Field(
        default=None, description="Only requests like this: {header: …, query: …, from: …}."
    )


# What these keys need of each other

# What answers a request, of which a site or a route has one; an outer level's redirect counts where
# there is none, and `respond` in place of any.
ACTIONS = ("root", "fastcgi", "backend")
_ABOUT_BACKENDS = tuple(BackendRules.known_keys())
_ABOUT_FILES = tuple(FileRules.known_keys())


def check(
    serving: Serving,
    at: Path,
    origins: Origins,
    taken: str,
    rules: Rules,
    routes: tuple[Route, ...] | None = None,
) -> Iterator[Fault]:
    """Check one site or route. ``taken``: the paths that it is for, as a route spells them;
    ``rules``: what holds here with what is inherited; ``routes``: those of a site, None where this
    is a route itself."""
    given = serving.given
    answers: list[str] = [key for key in ("root", "backend", "redirect") if key in given]
    if routes and "redirect" not in answers:
        answers += ["routes"]
    elif routes is None and not (answers or rules.redirect or responds(rules)):
        yield origins.fault(
            at, "this route has no answer", "add root, backend, redirect or respond"
        )
    if len(answers) > 1:
        yield origins.fault_of_key(
            (*at, answers[1]),
            f"{' and '.join(answers)} exclude each other",
            "keep one; different paths get their own answer under routes",
        )
    if "fastcgi" in given:
        yield from _fastcgi(serving, at, origins)
    if "backend" in given:
        yield from _backends(serving, at, origins, rules)
    elif not (
        given.isdisjoint(_ABOUT_BACKENDS)
        or any({"backend", "fastcgi"} & one.given for one in (serving, *(routes or ())))
    ):
        for key in (key for key in _ABOUT_BACKENDS if key in given):
            yield origins.fault_of_key(
                (*at, key), "this key means nothing without backend", "add backend, or leave it out"
            )
    if not (
        "root" in given
        or given.isdisjoint(_ABOUT_FILES)
        or any("root" in route.given for route in routes or ())
    ):
        for key in (key for key in _ABOUT_FILES if key in given):
            yield origins.fault_of_key(
                (*at, key), "this key means nothing without root", "add root, or leave it out"
            )
    if serving.rewrite is not None and "rest" in placeholders(serving.rewrite):
        yield from _without_rest("rewrite", at, origins, taken)
    if serving.redirect is None:
        if "status" in given and rules.redirect is None:
            yield origins.fault_of_key(
                (*at, "status"), "this key belongs to a redirect", "add redirect, or leave it out"
            )
    elif "rest" in placeholders(serving.redirect):
        yield from _without_rest("redirect", at, origins, taken)


def responds(rules: Rules) -> bool:
    """Whether a fixed answer stands in place of whatever else would answer."""
    return rules.respond is not None and rules.respond != NO_RESPONSE


def _without_rest(key: str, at: Path, origins: Origins, taken: str) -> Iterator[Fault]:
    if not is_prefix(taken):
        yield origins.fault(
            (*at, key),
            f"{{rest}} is what an asterisk takes, and {shown(taken)} has none",
            "end the path in /*, or leave {rest} out",
        )


# What is of no use with FastCGI: it has no TLS, Host is a parameter, Via names HTTP, and what no
# file takes is the front controller's.
_NOT_FOR_FASTCGI = ("backend_tls", "preserve_host", "via", "fallback", "extensions")


def _fastcgi(serving: Serving, at: Path, origins: Origins) -> Iterator[Fault]:
    assert serving.fastcgi is not None  # noqa: S101 - the key is given
    if "root" not in serving.given:
        yield origins.fault_of_key(
            (*at, "fastcgi"), "fastcgi needs root, the folder of the scripts", "add root: DIR"
        )
    yield from _twice([one.url for one in serving.fastcgi.url], (*at, "fastcgi"), origins)
    if not serving.fastcgi.url:
        yield origins.fault((*at, "fastcgi"), "the list of servers is empty", "give at least one")
    for key in (key for key in _NOT_FOR_FASTCGI if key in serving.given):
        yield origins.fault_of_key((*at, key), "this key means nothing to fastcgi", "leave it out")
    health = serving.health
    if health is not None and (health.grpc or not health.path):
        yield origins.fault(
            (*at, "health"),
            "a FastCGI server is asked for health.path",
            "write path: /ping, and ping.path = /ping in the pool of PHP-FPM",
        )


def _twice(addresses: list[str], at: Path, origins: Origins) -> Iterator[Fault]:
    for number, url in enumerate(addresses):
        if url in addresses[:number]:
            yield origins.fault(at, f"{shown(url)} stands here twice", "leave one out")


def _speak_http2(serving: Serving) -> bool:
    """Whether all backends do."""
    secure = serving.backend_tls is not None and serving.backend_tls.http2
    return all(
        each.url.scheme == "h2c" or (secure and each.url.scheme == "https")
        for each in serving.backend or ()
    )


def _backends(serving: Serving, at: Path, origins: Origins, rules: Rules) -> Iterator[Fault]:
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
    health = serving.health
    if health is not None and not health.grpc and not health.path:
        yield origins.fault(
            (*at, "health"),
            "health.path: this key is missing",
            "add it: Asked with GET, 2xx and 3xx are healthy; or grpc: true",
        )
    if health is not None and health.grpc and not _speak_http2(serving):
        yield origins.fault(
            (*at, "health", "grpc"),
            "gRPC needs HTTP/2, which not every backend here speaks",
            "write h2c://, or https:// with backend_tls: {http2: true}",
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
    if "hash_by" in serving.given and rules.balance != "hash":
        yield origins.fault_of_key(
            (*at, "hash_by"), "this key belongs to balance: hash", "add that, or leave it out"
        )
