"""Keys that need, exclude or contradict each other. Pure: looks at no disk and no network.

Each check is a generator of faults over what has been parsed. Those at the bottom of the file look
at one site, the others across sites and sections; none complains about a key that is faulty anyway.
What the keys of one section need of each other stands beside them (`schema.acme`, `schema.alerts`,
`schema.site`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import combinations

from ..schema import access as access_keys
from ..schema import acme as acme_keys
from ..schema import alerts as alert_keys
from ..schema import cluster as cluster_keys
from ..schema import site as serving_keys
from ..schema.acme import DIRECTORIES, Acme
from ..schema.document import Admin, OnDemand, Site
from ..schema.inherit import says_rules
from ..schema.parse import Parsed
from ..syntax.addresses import is_loopback, spell_address
from ..syntax.faults import Fault, Origins, Path, shown
from ..syntax.names import has_underscore, is_wildcard, publicly_certifiable
from ..syntax.patterns import same_requests
from ..values import Address
from . import circles

# Let's Encrypt, rate limits, 2026: up to 100 names on one certificate. Other CAs allow no more.
_NAMES_PER_CERTIFICATE = 100


def check(parsed: Parsed) -> Iterator[Fault]:
    sections = parsed.document.given | parsed.broken
    # Where sites come from later, as with include: sites.d/*.yaml, there may be none yet.
    awaited = bool(sections & {"sites", "sites_dir", "providers"} or parsed.document.include)
    if not parsed.sites and not awaited:
        yield parsed.origins.fault(
            (),
            "there is no site",
            "add one: sites: [{names: [example.org], root: /srv/www}], or with backend: and a URL",
        )
    yield from _limits(parsed)
    yield from _listeners(parsed)
    yield from _tracing(parsed)
    if "cluster" not in parsed.broken:
        yield from cluster_keys.check(parsed.document.cluster, parsed.origins)
    if "acme" not in parsed.broken:
        yield from acme_keys.check(parsed.document.acme, parsed.origins)
    yield from _names(parsed)
    yield from _defaults(parsed)
    if "alerts" not in parsed.broken:
        yield from alert_keys.check(parsed.document.alerts, parsed.origins)
    yield from access_keys.check(parsed.document, (), parsed.origins)
    for index, site in parsed.sites:
        at: Path = ("sites", index)
        if "acme" not in parsed.broken:
            yield from _certification(site, parsed.document.acme, at, parsed.origins)
        # Of thousands of sites most have few of these: what is not there is not asked about.
        if site.on_demand is not None:
            yield from _on_demand(site.on_demand, site, parsed.document.acme, at, parsed)
            yield from _not_shared(at, parsed)
        if site.routes:
            yield from _routes(site, at, parsed.origins)
        rules = parsed.holding((at, site)).rules
        yield from serving_keys.check(site, at, parsed.origins, "/*", rules, site.routes)
        if says_rules(site):
            yield from access_keys.check(site, at, parsed.origins)
        for number, route in enumerate(site.routes):
            where: Path = (*at, "routes", number)
            rules = parsed.holding((at, site), (where, route)).rules
            yield from serving_keys.check(route, where, parsed.origins, route.path, rules)
            yield from access_keys.check(route, where, parsed.origins)
        if site.default and site.tls.client_auth:
            yield parsed.origins.fault(
                (*at, "tls", "client_auth"),
                "the default site serves clients that name no site, which cannot be told apart "
                "in time to ask for a certificate",
                "make another site the default one",
            )
        if "listen" not in parsed.broken and (site.backend or site.routes):
            yield from circles.backends(site, at, parsed)


def internal(site: Site, acme: Acme) -> bool:
    """Whether the built-in CA certifies the site: asked to, or because no public CA could."""
    return certified_here(site.names, acme)


def certified_here(names: Iterable[str], acme: Acme) -> bool:
    """Whether the built-in CA certifies these names."""
    if acme.directory == "internal":
        return True
    if acme.directory not in DIRECTORIES:
        return False  # a URL was given: that CA may certify what it likes
    return not any(map(publicly_certifiable, names))


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
            given = small if small in limits.given else large
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
    taken: list[tuple[Path, Address]] = [
        *((("listen", "http", i), address) for i, address in enumerate(document.listen.http)),
        *((("listen", "https", i), address) for i, address in enumerate(document.listen.https)),
    ]
    if document.admin:
        taken.append((("admin", "listen"), document.admin.listen))
        yield from _admin(parsed, document.admin)
    for (_first, one), (path, other) in combinations(taken, 2):
        if _clash(one, other):
            yield parsed.origins.fault(
                path,
                f"{spell_address(other)} is already taken by {spell_address(one)}",
                "choose another port, or leave one of the two out",
            )


def _admin(parsed: Parsed, admin: Admin) -> Iterator[Fault]:
    listen, login = admin.listen, admin.given & {"basic_auth", "forward_auth", "client_auth"}
    if not login and not is_loopback(listen.host):
        yield parsed.origins.fault(
            ("admin", "listen"),
            "the admin page would be open to every network",
            f"write 127.0.0.1:{listen.port}, or give it basic_auth, forward_auth or client_auth",
        )
    for key in sorted(login & {"forward_auth", "client_auth"} if not admin.names else ()):
        yield parsed.origins.fault_of_key(
            ("admin", key),
            "this login needs HTTPS, and the admin page has no name to get a certificate for",
            "add names: [admin.example.org]",
        )
    wildcards = [number for number, name in enumerate(admin.names) if name.startswith("*")]
    for number in wildcards:
        yield parsed.origins.fault(
            ("admin", "names", number), "the admin page has names of its own", "write them out"
        )
    known = {name: index for index, site in parsed.sites for name in site.names}
    for number, name in enumerate(admin.names):
        if name in known:
            where = parsed.origins.at(("sites", known[name]))
            yield parsed.origins.fault(
                ("admin", "names", number),
                f"{shown(name)} is a site's name as well, at {where}",
                "give the admin page a name of its own",
            )


def _not_shared(at: Path, parsed: Parsed) -> Iterator[Fault]:
    """Whoever a client comes to for a new name has to order its certificate."""
    cluster = parsed.document.cluster
    if cluster is not None and not cluster.order:
        yield parsed.origins.fault(
            (*at, "on_demand"),
            "this machine orders no certificates (cluster.order: false), so none for a new name",
            "take order: false or on_demand out",
        )


def _tracing(parsed: Parsed) -> Iterator[Fault]:
    if parsed.document.tracing is not None and find_spec("opentelemetry") is None:
        yield parsed.origins.fault(
            ("tracing",),
            "OpenTelemetry's exporter is not installed",
            "pip install 'treehouse-proxy[tracing]', where the program is installed",
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
        yield from acme_keys.check_key_types(site.key_type, (*at, "key_type"), origins)
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
        elif acme.directory in DIRECTORIES and has_underscore(name):
            yield origins.fault(
                path,
                f"no public CA certifies {shown(name)}, for its underscore",
                "bring your own certificate, have a wildcard above it cover the name, or rename it",
            )
        elif acme.directory in DIRECTORIES and not publicly_certifiable(name):
            yield origins.fault(
                path,
                f"no public CA can certify {shown(name)}, which shares a site with {public}",
                "give it a site of its own: the built-in CA certifies that",
            )


def _on_demand(
    given: OnDemand, site: Site, acme: Acme, at: Path, parsed: Parsed
) -> Iterator[Fault]:
    origins = parsed.origins
    path: Path = (*at, "on_demand")
    if not (given.patterns or given.ask or given.dns):
        yield origins.fault_of_key(
            path,
            "nothing says which names may be had, so that anybody could have certificates ordered "
            "for any name",
            "give patterns, ask or dns; a name must pass each that is given",
        )
    from acme_client.rate_limits.published import is_public_suffix  # a list of all suffixes

    for number, pattern in enumerate(given.patterns):
        if is_wildcard(pattern) and is_public_suffix(pattern.removeprefix("*.")):
            yield origins.fault(
                (*path, "patterns", number),
                f"{shown(pattern)} takes what anybody has registered",
                "name the domain that is yours, like *.example.org; for customers' own domains "
                "use ask or dns",
            )
    if "addresses" in given.given and not given.dns:
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


def _routes(site: Site, at: Path, origins: Origins) -> Iterator[Fault]:
    """Find routes that no request reaches: one before takes all that they would."""
    first: dict[tuple[object, ...], Path] = {}
    for number, route in enumerate(site.routes):
        path = (*at, "routes", number, "path")
        everything = (same_requests(route.path), (), None)
        requests = (same_requests(route.path), route.methods, route.match)
        requests = everything if everything in first else requests
        if requests in first:
            yield origins.fault(
                path,
                f"{shown(route.path)} takes the same requests as the route at "
                f"{origins.at(first[requests])}",
                "leave one of the two out",
            )
        first.setdefault(requests, path)
