"""Sites, and the one table that finds the site of a host.

A host is looked up once per connection and host; whatever is particular to a site (routes, filters,
the label of its figures) hangs on what was found.

The order of the look-up: the exact name, else the wildcard for it, else the site that it came on
demand for, else the default site. Certificates are found in the same order (`tls.contexts`), with
the same table of names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from ..config import model
from ..name_table import NameTable
from ..protocol.message import HostMatch
from .router import RequestRouter, Router


class Site:
    """One site of the configuration, as a worker serves it. `SiteTable.bind` gives it its
    ``router``, before the first request."""

    __slots__ = ("config", "name", "router")

    def __init__(self, config: model.Site) -> None:
        self.config = config
        self.name = config.names[0]
        self.router: RequestRouter = Router(())


class Match(HostMatch):
    """The site of a host. ``label`` is the configured name that it was found by, the site's first
    for a name that came on demand, and b"" where only the default site takes it."""

    __slots__ = ("site",)

    def __init__(self, site: Site, label: bytes) -> None:
        shared = site.config.metrics_label
        super().__init__(site.name, label, None if shared is None else shared.encode())
        self.site = site


class SiteTable:
    """The sites of a generation. ``on_demand`` maps hosts that came on demand to the first name of
    their site; whoever made it may change it."""

    def __init__(
        self,
        sites: Iterable[model.Site],
        on_demand: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.sites = [Site(one) for one in sites]
        self._on_demand = on_demand
        self._names: NameTable[Match] = NameTable()
        self._default: Match | None = None
        for site in self.sites:
            for name in site.config.names:
                self._names.put(name, Match(site, name.encode("ascii")))
            if site.config.default:
                self._default = Match(site, b"")

    def bind(self, router_of: Callable[[model.Site], RequestRouter]) -> None:
        """Give every site its routes."""
        for site in self.sites:
            site.router = router_of(site.config)

    def find(self, host: bytes) -> Match | None:
        """The site of a host: lower-case, without port and trailing dot."""
        name = host.decode("ascii", "replace")
        found = self._names.find(name)
        if found is not None:
            return found[1]
        on_demand = self._names.exact(self._on_demand.get(name, ""))
        return self._default if on_demand is None else on_demand

    def configured(self, host: str) -> bool:
        """Whether a site has this name or a wildcard for it."""
        return self._names.find(host) is not None
