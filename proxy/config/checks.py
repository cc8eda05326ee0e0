"""Keys that need, exclude or contradict each other. Pure: looks at no disk and no network.

Each check is a generator of faults over what has been parsed. Those at the bottom of the file look
at one site, the others across sites and sections; none speaks about what is broken anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from itertools import chain, combinations

from acme_client.limits import is_public_suffix

from . import alert_keys
from .addresses import spell_address
from .document import Parsed
from .faults import Fault, Origins, Path, shown
from .model import Address
from .names import is_wildcard, publicly_certifiable
from .patterns import is_prefix, placeholders, same_requests
from .schema import DIRECTORIES, Acme, Serving, Site

# Let's Encrypt, rate limits, 2026: up to 100 names on one certificate. Other CAs allow no more.
_NAMES_PER_CERTIFICATE = 100

# Keys that say how to talk to backends, and mean nothing without one.
_PROXY_KEYS = (
    "balance",
    "hash_by",
    "sticky_cookie",
    "health",
    "breaker",
    "slow_start",
    "backend_tls",
    "connect_timeout",
    "response_timeout",
    "idle_timeout",
    "pool_idle",
    "connections",
    "preserve_host",
)


def check(parsed: Parsed) -> Iterator[Fault]:
    sections = parsed.document.model_fields_set | parsed.broken
    if not parsed.sites and not sections & {"sites", "sites_dir"}:
        yield parsed.origins.fault(
            (), "there is no site", "add one under sites: with its names, and root or backend"
        )
    yield from _limits(parsed)
    yield from _listeners(parsed)
    yield from _fallbacks(parsed)
    if "acme" not in parsed.broken:
        yield from _dns(parsed.document.acme, parsed.origins)
    yield from _names(parsed)
    yield from _defaults(parsed)
    if "alerts" not in parsed.broken:
        yield from alert_keys.check(parsed.document.alerts, parsed.origins)
    for index, site in parsed.sites:
        at: Path = ("sites", index)
        if "acme" not in parsed.broken:
            yield from _certification(site, parsed.document.acme, at, parsed.origins)
        yield from _on_demand(site, parsed.document.acme, at, parsed)
        yield from _routes(site, at, parsed.origins)
        yield from _serving(site, at, parsed.origins, "/*")
        for number, route in enumerate(site.routes):
            yield from _serving(route, (*at, "routes", number), parsed.origins, route.path)
        if site.default and site.tls.client_auth:
            yield parsed.origins.fault(
                (*at, "tls", "client_auth"),
                "the default site serves clients that name no site, which cannot be told apart "
                "in time to ask for a certificate",
                "make another site the default one",
            )
        if "listen" not in parsed.broken:
            yield from _loops(site, at, parsed)


def internal(site: Site, acme: Acme) -> bool:
    """Whether the built-in CA certifies the site: asked to, or because no public CA could."""
    if acme.directory == "internal":
        return True
    if acme.directory not in DIRECTORIES:
        return False  # a URL was given: that CA may certify what it likes
    return not any(map(publicly_certifiable, site.names))


# Across sections


def _limits(parsed: Parsed) -> Iterator[Fault]:
    limits = parsed.document.limits
    if "limits" in parsed.broken:
        return
    for small, large in (
        ("connections_per_address", "connections"),
        ("target_size", "header_size"),
    ):
        if getattr(limits, small) > getattr(limits, large):
            given = small if small in limits.model_fields_set else large
            yield parsed.origins.fault(
                ("limits", given),
                f"{small} is larger than {large}, so that it never takes effect",
                f"lower {small} or raise {large}",
            )


def _listeners(parsed: Parsed) -> Iterator[Fault]:
    if parsed.broken & {"listen", "admin", "acme"}:
        return
    document = parsed.document
    if not document.listen.https:
        yield parsed.origins.fault(
            ("listen", "https"), "there is no address for HTTPS", "give one, or leave the key out"
        )
    over_http_only = set(document.acme.challenges) == {"http-01"}
    if (
        not document.listen.http
        and over_http_only
        and any(
            (not site.certificate and not internal(site, document.acme))
            or (site.on_demand and document.acme.directory != "internal")
            for _index, site in parsed.sites
        )
    ):
        yield parsed.origins.fault(
            ("listen", "http"),
            "the CA's http-01 challenge comes over HTTP, and there is no address for it",
            "give one, or add tls-alpn-01 to acme.challenges",
        )
    yield from _key_types(document.acme.key_type, ("acme", "key_type"), parsed.origins)
    if not document.acme.challenges:
        yield parsed.origins.fault(
            ("acme", "challenges"), "the list of challenges is empty", "leave the key out"
        )
    taken: list[tuple[Path, Address]] = [
        *((("listen", "http", i), address) for i, address in enumerate(document.listen.http)),
        *((("listen", "https", i), address) for i, address in enumerate(document.listen.https)),
    ]
    if document.admin:
        taken.append((("admin", "listen"), document.admin.listen))
        if not document.admin.listen.host:
            port = document.admin.listen.port
            yield parsed.origins.fault(
                ("admin", "listen"),
                "the dashboard would be open to every network",
                f"write 127.0.0.1:{port}, or 0.0.0.0:{port} if that is meant",
            )
    for (_first, one), (path, other) in combinations(taken, 2):
        if _clash(one, other):
            yield parsed.origins.fault(
                path,
                f"{spell_address(other)} is already taken by {spell_address(one)}",
                "choose another port, or leave one of the two out",
            )


def _clash(one: Address, other: Address) -> bool:
    if one.port != other.port or one.port == 0:
        return False
    hosts = {one.host, other.host}
    if len(hosts) == 1 or "" in hosts:
        return True
    if (":" in one.host) != (":" in other.host):
        return False
    return bool(hosts & {"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


def _fallbacks(parsed: Parsed) -> Iterator[Fault]:
    acme = parsed.document.acme
    seen = {acme.directory}
    for index, other in enumerate(acme.fallback):
        path = ("acme", "fallback", index, "directory")
        if other.directory == "internal":
            yield parsed.origins.fault(
                path,
                "the built-in CA is no substitute: visitors do not trust it",
                "name another public CA",
            )
        elif other.directory in seen:
            yield parsed.origins.fault(path, "this CA is already asked before", "leave it out")
        seen.add(other.directory)


def _dns(acme: Acme, origins: Origins) -> Iterator[Fault]:
    first: dict[str | None, int] = {}
    for index, dns in enumerate(acme.dns):
        at: Path = ("acme", "dns", index)
        given = dns.model_fields_set
        if (dns.server is None) == (dns.hook is None):
            yield origins.fault(
                at,
                "server and hook exclude each other"
                if dns.server
                else "nothing here says how records get into the DNS",
                "give server for a name server that takes updates, or hook for a program",
            )
        for key in ("tsig", "ttl") if dns.server is None else ("hook_timeout",):
            if key in given and (dns.server or dns.hook):
                other = "server" if dns.server is None else "hook"
                yield origins.fault_of_key(
                    (*at, key), f"this key belongs to {other}", f"add {other}, or leave it out"
                )
        if dns.zone in first:
            where = origins.at(("acme", "dns", first[dns.zone]))
            yield origins.fault(
                at,
                f"the same zone as at {where}"
                if dns.zone
                else f"for every zone, as the entry at {where}",
                "give each entry a zone of its own; one may be without, for all others",
            )
        first.setdefault(dns.zone, index)
    if "dns-01" in acme.challenges and not acme.dns:
        yield origins.fault(
            ("acme", "challenges"),
            "dns-01 needs somebody to set its records",
            "add acme.dns with server or hook, or leave dns-01 out",
        )


# Across sites


def _names(parsed: Parsed) -> Iterator[Fault]:
    first: dict[str, Path] = {}
    for index, site in parsed.sites:
        for number, name in enumerate(site.names):
            path: Path = ("sites", index, "names", number)
            if name in first:
                where = parsed.origins.at(first[name])
                yield parsed.origins.fault(
                    path,
                    f"{shown(name)} is a name twice, first at {where}",
                    "a name belongs to one site: leave it at one of the two",
                )
            else:
                first[name] = path


def _defaults(parsed: Parsed) -> Iterator[Fault]:
    defaults = [index for index, site in parsed.sites if site.default]
    for index in defaults[1:]:
        where = parsed.origins.at(("sites", defaults[0], "default"))
        yield parsed.origins.fault(
            ("sites", index, "default"),
            f"a second default site, the first is at {where}",
            "leave the key out at one of the two",
        )


# One site


def _certification(site: Site, acme: Acme, at: Path, origins: Origins) -> Iterator[Fault]:
    if not site.names:
        yield origins.fault((*at, "names"), "the list of names is empty", "give at least one name")
    if site.key_type is not None:
        yield from _key_types(site.key_type, (*at, "key_type"), origins)
        if site.certificate:
            yield origins.fault(
                (*at, "key_type"),
                "a certificate of your own comes with its key",
                "leave the key out",
            )
    if site.certificate or internal(site, acme):
        return
    if len(site.names) > _NAMES_PER_CERTIFICATE:
        yield origins.fault(
            (*at, "names"),
            f"{len(site.names)} names, and a certificate holds {_NAMES_PER_CERTIFICATE}",
            "make several sites of them",
        )
    public = next(filter(publicly_certifiable, site.names), None)
    for number, name in enumerate(site.names):
        path = (*at, "names", number)
        if is_wildcard(name) and not (acme.dns or "dns-persist-01" in acme.challenges):
            yield origins.fault(
                path,
                f"a CA certifies {shown(name)} over the DNS only",
                "add acme.dns so that records can be set, or dns-persist-01 to acme.challenges; or "
                "list the names one by one, or bring your own certificate",
            )
        elif acme.directory in DIRECTORIES and not publicly_certifiable(name):
            yield origins.fault(
                path,
                f"no public CA can certify {shown(name)}, which shares a site with {public}",
                "give it a site of its own: the built-in CA certifies that",
            )


def _on_demand(site: Site, acme: Acme, at: Path, parsed: Parsed) -> Iterator[Fault]:
    given, origins = site.on_demand, parsed.origins
    if given is None:
        return
    path: Path = (*at, "on_demand")
    if not (given.patterns or given.ask or given.dns):
        yield origins.fault_of_key(
            path,
            "nothing says which names may be had, so that anybody could have certificates ordered "
            "for any name",
            "give patterns, ask or dns; a name must pass each that is given",
        )
    for number, pattern in enumerate(given.patterns):
        if is_wildcard(pattern) and is_public_suffix(pattern.removeprefix("*.")):
            yield origins.fault(
                (*path, "patterns", number),
                f"{shown(pattern)} takes what anybody has registered",
                "name the domain that is yours, like *.example.org; for customers' own domains "
                "use ask or dns",
            )
    if "addresses" in given.model_fields_set and not given.dns:
        yield origins.fault_of_key(
            (*path, "addresses"),
            "this key means nothing without dns: true",
            "add that, or leave it out",
        )
    if site.tls.client_auth:
        yield origins.fault_of_key(
            path,
            "a site that asks for client certificates knows its names beforehand",
            "make a site of its own for the names that come on demand",
        )
    visited = {"http-01", "tls-alpn-01"}
    if (
        "acme" not in parsed.broken
        and acme.directory != "internal"
        and not visited & {*acme.challenges}
    ):
        yield origins.fault_of_key(
            path,
            "names that come on demand are proven by http-01 or tls-alpn-01, and acme.challenges "
            "has neither",
            "add one there",
        )


def _key_types(types: Sequence[str], path: Path, origins: Origins) -> Iterator[Fault]:
    families = [one.partition("-")[0] for one in types]
    if not types:
        yield origins.fault(path, "the list of keys is empty", "leave the key out")
    elif len(set(families)) < len(families):
        yield origins.fault(
            path,
            "clients are told apart by ECDSA and RSA, so one of each makes sense",
            "leave one of the two out",
        )


def _routes(site: Site, at: Path, origins: Origins) -> Iterator[Fault]:
    first: dict[tuple[bool, bytes], Path] = {}
    for number, route in enumerate(site.routes):
        path = (*at, "routes", number, "path")
        requests = same_requests(route.path)
        if requests in first:
            yield origins.fault(
                path,
                f"{shown(route.path)} takes the same requests as the route at "
                f"{origins.at(first[requests])}",
                "leave one of the two out",
            )
        first.setdefault(requests, path)


def _serving(serving: Serving, at: Path, origins: Origins, taken: str) -> Iterator[Fault]:
    given = serving.model_fields_set
    answers: list[str] = [key for key in ("root", "backend", "redirect") if key in given]
    if isinstance(serving, Site):
        answers += ["routes"] if serving.routes else []
    elif not answers:
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
        for key in (key for key in _PROXY_KEYS if key in given):
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
        key = (each.url.scheme, each.url.host, each.url.port, each.url.path)
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


def _loops(site: Site, at: Path, parsed: Parsed) -> Iterator[Fault]:
    """Backends at one of our own addresses: each request would come back until it is refused."""
    listen = parsed.document.listen
    servings: list[tuple[Path, Serving]] = [(at, site)]
    servings += [((*at, "routes", i), route) for i, route in enumerate(site.routes)]
    for path, serving in servings:
        for number, each in enumerate(serving.backend or ()):
            backend = Address(each.url.host, each.url.port)
            if any(_reaches(backend, own) for own in chain(listen.http, listen.https)):
                yield parsed.origins.fault(
                    (*path, "backend", number),
                    f"{shown(each.url.url)} is this proxy itself",
                    "give the port that the application listens on",
                )


def _reaches(backend: Address, own: Address) -> bool:
    if backend.port != own.port or not own.port:
        return False
    host = "127.0.0.1" if backend.host == "localhost" else backend.host
    if own.host == host:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    everywhere = ("", "0.0.0.0" if address.version == 4 else "::")  # noqa: S104 - compared only
    return own.host in everywhere and (address.is_loopback or address.is_unspecified)
