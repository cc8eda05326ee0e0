"""Sites, and the one table that finds the site of a host.

A host is looked up once per connection and host; whatever is particular to a site (routes, filters,
the label of its figures) hangs on what was found.

The order of the look-up: the exact name, else the wildcard for it, else the site that it came on
demand for, else the default site. Certificates are found in the same order (`tls.contexts`), with
the same table of names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from acme_client.late_dataclass import dataclass

from ..config import model
from ..config.schema.rules import Rules
from ..name_table import NameTable
from ..protocol.message import HostMatch
from .router import RequestRouter, Router

RouterOf = Callable[[model.Site], RequestRouter]


@dataclass(slots=True, eq=False)
class _Binding:
    """How the sites of a table get their routers."""

    router_of: RouterOf = lambda _site: Router(())


class Site:
    """One site of the configuration, as a worker serves it. Its ``router`` is made when it is asked
    for first: of thousands of sites a worker is asked for few."""

    __slots__ = ("_binding", "config", "name", "router")

    router: RequestRouter

    def __init__(self, config: model.Site, binding: _Binding | None = None) -> None:
        self.config = config
        self.name = config.names[0]
        self._binding = binding or _Binding()

    def __getattr__(self, name: str) -> RequestRouter:
        """Called for an attribute that is not there: the router, once."""
        if name != "router":
            raise AttributeError(name)
        made = self.router = self._binding.router_of(self.config)
        return made


class Match(HostMatch):
    """The site of a host. ``label`` is the configured name that it was found by, the site's first
    for a name that came on demand, and b"" where only the default site takes it."""

    __slots__ = ("site",)

    def __init__(self, site: Site, label: bytes) -> None:
        shared = site.config.metrics_label
        super().__init__(site.name, label, None if shared is None else shared.encode())
        self.site = site


class SiteTable:
    """The sites of a generation. It is made in the supervisor, for all workers: a worker that looks
    at each of thousands of sites copies the memory in which they lie, because Python counts its
    references there. So what a worker has to know of all sites is found out here.

    ``on_demand`` maps hosts that came on demand to the first name of their site;
    `OnDemandCertificates` changes it. ``particular`` are the sites with anything that handshakes,
    logs or logins go by; ``ruled`` has a site for each of the different rules, ``actions`` are the
    different ones of all routes; ``reading`` are the sites whose routers need files.
    ``labels``: what sites are told under in metrics, by first name, where it is not their names."""

    def __init__(
        self, sites: Iterable[model.Site], on_demand: dict[str, str] | None = None
    ) -> None:
        self.on_demand = {} if on_demand is None else on_demand
        self._binding = _Binding()
        self._names: NameTable[Match] = NameTable()
        self._default: Match | None = None
        actions: dict[int, model.Action] = {}
        ruled: dict[int, tuple[model.Site, Rules]] = {}
        particular: list[model.Site] = []
        self.reading: list[Site] = []
        self.labels: dict[str, str] = {}
        for config in sites:
            site = Site(config, self._binding)
            for name in config.names:
                self._names.put(name, Match(site, name.encode("ascii")))
            if config.default:
                self._default = Match(site, b"")
            if config.metrics_label is not None:
                self.labels[site.name] = config.metrics_label
            ruled.setdefault(id(config.rules), (config, config.rules))
            for route in config.routes:
                actions.setdefault(id(route.action), route.action)
                ruled.setdefault(id(route.rules), (config, route.rules))
            if any(one.match is not None and one.match.from_ for one in config.routes):
                self.reading.append(site)
            if _is_particular(config):
                particular.append(config)
        self.particular = tuple(particular)
        self.actions = tuple(dict.fromkeys(actions.values()))
        self.ruled = tuple(ruled.values())

    def bind(self, router_of: RouterOf) -> None:
        """Say how a site gets its routes."""
        self._binding.router_of = router_of

    def find(self, host: bytes) -> Match | None:
        """The site of a host: lower-case, without port and trailing dot."""
        name = host.decode("ascii", "replace")
        found = self._names.find(name)
        if found is not None:
            return found[1]
        on_demand = self._names.exact(self.on_demand.get(name, ""))
        return self._default if on_demand is None else on_demand

    def configured(self, host: str) -> bool:
        """Whether a site has this name or a wildcard for it."""
        return self._names.find(host) is not None

    def owner(self, host: str) -> str | None:
        """The first name of the site that has this name or a wildcard for it."""
        found = self._names.find(host)
        return None if found is None else found[1].site_name

    def has(self, first_name: str) -> bool:
        """Whether a site is called so by its first name."""
        found = self._names.exact(first_name)
        return found is not None and found.site_name == first_name


def _is_particular(site: model.Site) -> bool:
    return (
        site.default
        or site.paired
        or not site.http2
        or site.client_auth is not None
        or site.on_demand is not None
        or site.log != _USUAL_LOG
        or any(
            route.rules.basic_auth is not None or route.rules.forward_auth is not None
            for route in site.routes
        )
    )


_USUAL_LOG = model.SiteLog()
