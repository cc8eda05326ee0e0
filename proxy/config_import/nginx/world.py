"""What stands beside a location: upstreams, zones of rates, maps, and what a server block says
for all its locations."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from acme_client.late_dataclass import dataclass

from ..draft import Draft, Place, Route, Site
from ..path_patterns import PathForm
from . import guards
from .directives import Directive, Scope
from .upstreams import Upstream, read_upstream


class World:
    """What stands beside the servers: upstreams, zones of rates, maps."""

    def __init__(self, http: Scope, draft: Draft) -> None:
        self.http = http
        self.draft = draft
        self.upstreams: dict[str, Upstream] = {
            one.arg: read_upstream(one) for one in http.here("upstream")
        }
        self.zones: dict[str, guards.Zone] = {}
        for one in http.here("limit_req_zone"):
            found = guards.zone(one)
            if found is None:
                draft.leave(one.place, str(one), "rates count by address or site, and per s or m")
            else:
                self.zones[found[0]] = found[1]
        self.paths: dict[str, list[tuple[str, str, Place]]] = {}  # of maps: variable to pairs
        self.maps: dict[str, Directive] = {}
        for one in http.here("map"):
            self._map(one)

    def _map(self, one: Directive) -> None:
        if len(one.args) != 2:
            return
        source, name = one.args[0], one.args[1].lstrip("$")
        if source == "$http_upgrade":  # WebSockets pass by themselves
            one.use()
        elif source in ("$uri", "$request_uri"):
            self.maps[name] = one
            self.paths[name] = [
                (each.name, each.arg, each.place)
                for each in one.block or ()
                if each.name not in ("default", "hostnames", "include", "volatile")
            ]
            for each in one.block or ():
                each.used = True
        else:
            one.used = False

    def finish(self) -> None:
        for known in self.upstreams.values():
            if not known.told:
                for place, text, why in known.left:
                    self.draft.leave(place, text, why)


@dataclass(slots=True)
class Assets:
    """A location of files by the endings of their names. ``cache_control``: how long they are kept,
    "" where it does not say. ``tried`` are its ``try_files``, ``within`` is the prefix of the
    location around it; ``answered``: what it does beside sending files has been told."""

    names: list[str]
    cache_control: str
    location: Directive
    scope: Scope
    tried: list[Directive]
    within: str = ""
    answered: bool = False


@dataclass(slots=True)
class Server:
    """A server block while its routes are made."""

    site: Site
    scope: Scope
    world: World
    named: dict[str, Directive] = field(default_factory=dict)
    internal: dict[str, str] = field(default_factory=dict)  # of internal locations, the URL
    php: str = ""  # where scripts are run
    php_place: Place | None = None
    params: dict[str, str] = field(default_factory=dict)  # more for the scripts
    script: str = ""  # the front controller
    assets: list[Assets] = field(default_factory=list)
    refusals: list[tuple[dict[str, Any], dict[str, Any], Place]] = field(default_factory=list)
    # Routes with a ``rewrite`` that have no answer yet, and the scope that has it.
    pending: list[tuple[Route, PathForm, Scope]] = field(default_factory=list)
    certificate_asked: bool = False  # whoever shows no client certificate is refused
    dots: Directive | None = None  # denies what begins with a dot
    hidden: list[tuple[str, Place]] = field(default_factory=list)  # fields that scripts lose
    # What is asked of every request, and the answer of others.
    required: list[tuple[dict[str, Any], dict[str, Any], Place]] = field(default_factory=list)
    required_of: list[tuple[Route, dict[str, Any], dict[str, Any], Place]] = field(
        default_factory=list
    )  # the same for one route
    methods: tuple[list[str], Place] | None = None

    @property
    def name(self) -> str:
        return self.site.names[0]
