"""From sections that have passed every check to the frozen `model.Config`. Nothing fails here.

Most sections are taken as they are. Names of directories become URLs, "auto" a number, and each
site gets its routes in one form, the rules that hold for each, and the CA that certifies it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from acme_client.late_dataclass import dataclass

from ..filters.code import FilterCode
from . import model
from .checks.consistency import certified_here, internal
from .schema import acme as acme_keys
from .schema import document as schema
from .schema.files import FileRules
from .schema.inherit import Inherited
from .schema.parse import Parsed
from .schema.rules import BackendRules, Compression, Rules
from .schema.site import ACTIONS, Route, Serving, responds
from .syntax.faults import Origins
from .syntax.faults import Path as KeyPath
from .syntax.sections import Section, already_read

_FILE_RULES = tuple(FileRules.known_keys())
_BACKEND_RULES = tuple(BackendRules.known_keys())
_LABELS = {"each": None, "off": ""}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the machine and the start of the program add to what is written."""

    state: Path
    uid: int
    gid: int
    source: Path | None
    notices: tuple[str, ...] = ()
    filter_code: FilterCode = field(default_factory=FilterCode)


def resolve(parsed: Parsed, around: Surroundings) -> model.Config:
    document = parsed.document
    actions = _Actions()
    sites = tuple(_site(parsed, index, site, actions) for index, site in parsed.sites)
    admin_site = None if document.admin is None else _admin_site(parsed, document.admin)
    if admin_site is not None and admin_site.names:
        sites = (*sites, admin_site)
    return model.Config(
        sites=sites,
        state=around.state,
        listen=document.listen,
        uid=around.uid,
        gid=around.gid,
        workers=document.workers or len(os.sched_getaffinity(0)),
        acme=_acme(document.acme),
        tls=document.tls,
        log=document.log,
        limits=document.limits,
        trusted_proxies=document.trusted_proxies,
        proxy_protocol=document.proxy_protocol,
        admin=document.admin,
        admin_site=admin_site,
        tracing=document.tracing,
        cluster=document.cluster,
        alerts=document.alerts,
        sandbox=document.sandbox,
        http2=document.http2 == "auto",
        websocket_over_http2=document.websocket_over_http2,
        fast_lane=document.fast_lane,
        uvloop=document.uvloop,
        watch=document.watch,
        providers=document.providers,
        sites_dir=document.sites_dir,
        source=around.source,
        include=document.include,
        origins=_places(document, (), parsed.origins),
        notices=around.notices,
        filter_code=around.filter_code,
    )


def _places(section: Section, at: KeyPath, origins: Origins) -> Mapping[str, str]:
    """Where each key stands that was given in a section, and in the sections below it."""
    found = {}
    for key in section.given:
        path = (*at, key)
        found[key] = str(origins.of_key(path))
        value = getattr(section, key)
        if isinstance(value, Section):
            below = _places(value, path, origins)
            found |= {f"{key}.{name}": place for name, place in below.items()}
    return found


def _acme(acme: acme_keys.Acme) -> model.Acme:
    return model.Acme(
        directory=acme_keys.DIRECTORIES.get(acme.directory, acme.directory),
        # One of the known public CAs changes nothing for names that no public CA certifies.
        directory_given=acme.directory == "internal" or acme.directory not in acme_keys.DIRECTORIES,
        email=acme.email,
        ca_file=acme.ca_file,
        profile=acme.profile,
        preferred_chain=acme.preferred_chain,
        key_types=acme.key_type,
        challenges=acme.challenges,
        eab=acme.eab,
        fallback=tuple(_fallback(other, acme) for other in acme.fallback),
        dns=acme.dns,
        resolvers=acme.resolvers,
    )


def _fallback(other: acme_keys.Fallback, acme: acme_keys.Acme) -> model.Acme:
    return model.Acme(
        directory=acme_keys.DIRECTORIES.get(other.directory, other.directory),
        directory_given=True,
        email=other.email or acme.email,
        ca_file=other.ca_file,
        profile=other.profile,
        preferred_chain=other.preferred_chain,
        key_types=acme.key_type,
        challenges=acme.challenges,
        eab=other.eab,
    )


def _admin_site(parsed: Parsed, admin: schema.Admin) -> model.Site:
    """What the admin listener's names are on the other ports: a site that has nothing. It gets the
    certificates, and the rules that the admin listener asks for."""
    acme = parsed.document.acme
    rules = Rules(
        basic_auth=admin.basic_auth,
        forward_auth=admin.forward_auth,
        compress=Compression("false"),  # the page's token goes with what others have said
    )
    return model.Site(
        names=admin.names,
        routes=(model.Route("/*", model.RefuseAction(), rules),),
        key_types=acme.key_type,
        http2=False,
        internal=certified_here(admin.names, acme),
        client_auth=admin.client_auth,
        rules=rules,
        origins={"names": str(parsed.origins.of_key(("admin", "names")))},
    )


def _site(parsed: Parsed, index: int, site: schema.Site, actions: _Actions) -> model.Site:
    document, at = parsed.document, ("sites", index)
    rules = parsed.holding((at, site))
    label = site.metrics_label or document.metrics_label
    routes = tuple(
        _route(
            route.path,
            route,
            site.names[0],
            (*at, "routes", number),
            parsed.holding((at, site), ((*at, "routes", number), route)),
            parsed.origins,
            actions,
        )
        for number, route in enumerate(site.routes)
    )
    if not routes or (_answers_all(rules.rules) and not any(map(_takes_all, site.routes))):
        routes += (_route("/*", site, site.names[0], at, rules, parsed.origins, actions),)
    return model.Site(
        names=site.names,
        routes=routes,
        certificates=site.certificate,
        key_types=site.key_type or document.acme.key_type,
        http2=(site.http2 or document.http2) == "auto",
        default=site.default,
        internal=not site.certificate and internal(site, document.acme),
        client_auth=site.tls.client_auth,
        rate_limits=model.rate_limits(rules.rules),
        on_demand=site.on_demand,
        log=site.log,
        metrics_label=_LABELS.get(label, label),
        rules=rules.rules,
        origins={key: sys.intern(parsed.origins.spelled_of_key((*at, key))) for key in site.given},
    )


def _answers_all(rules: Rules) -> bool:
    """Whether a site answers what none of its routes takes."""
    return responds(rules) or rules.redirect is not None


def _takes_all(route: Route) -> bool:
    return route.path == "/*" and not route.methods and route.match is None


def _route(
    path: str,
    serving: Route | schema.Site,
    name: str,
    at: KeyPath,
    inherited: Inherited,
    origins: Origins,
    actions: _Actions,
) -> model.Route:
    action = actions.of(serving, name, inherited.rules)
    places = _origins(serving, at, inherited, origins)
    if isinstance(serving, Route):
        return model.Route(path, action, inherited.rules, serving.methods, serving.match, places)
    return model.Route(path, action, inherited.rules, origins=places)


def _origins(
    serving: Serving, at: KeyPath, inherited: Inherited, origins: Origins
) -> Mapping[str, str]:
    own = ("path", "methods", "match", *ACTIONS)
    paths = {key: (*at, key) for key in own if key in serving.given} | dict(inherited.paths)
    return {key: sys.intern(origins.spelled_of_key(path)) for key, path in paths.items()}


class _Actions:
    """Makes the actions of a configuration. Thousands of sites have few rules between them, and
    perhaps one root: what is equal is one object, which takes memory once."""

    def __init__(self) -> None:
        self._file_rules: dict[FileRules, FileRules] = {}
        self._by_rules: dict[int, tuple[Rules, FileRules]] = {}  # by id; the rules are held by it
        self._files: dict[tuple[Path, int], model.FilesAction] = {}

    def of(self, serving: Serving, name: str, rules: Rules) -> model.Action:
        """``name`` is the site's first one, which a health check says as Host like any request."""
        if rules.respond is not None and responds(rules):
            return model.RespondAction(rules.respond)
        if serving.fastcgi is not None and serving.root is not None:
            return already_read(
                model.FastCgiAction,
                root=serving.root,
                fastcgi=serving.fastcgi,
                files=self._about_files(rules),
                backends=serving.fastcgi.url,
                **_about_backends(rules, name),
            )
        if serving.root is not None:
            return self._files_action(serving.root, self._about_files(rules))
        if serving.backend is None:
            if rules.redirect is not None:
                return model.RedirectAction(rules.redirect, rules.status)
            return model.RefuseAction()
        return already_read(
            model.ProxyAction,
            backends=tuple(
                replace(each.url, weight=each.weight, drain=each.drain) for each in serving.backend
            ),
            **_about_backends(rules, name),
        )

    def _files_action(self, root: Path, rules: FileRules) -> model.FilesAction:
        key = root, id(rules)
        found = self._files.get(key)
        if found is None:
            found = self._files[key] = model.FilesAction(root, rules)
        return found

    def _about_files(self, rules: Rules) -> FileRules:
        known = self._by_rules.get(id(rules))
        if known is None:
            made = already_read(FileRules, **{key: getattr(rules, key) for key in _FILE_RULES})
            made = self._file_rules.setdefault(made, made)
            known = self._by_rules[id(rules)] = rules, made
        return known[1]


def _about_backends(rules: Rules, name: str) -> dict[str, Any]:
    given = rules.request_headers.host
    usual = None
    if rules.preserve_host and name[0] != "*":
        usual = f"[{name}]" if ":" in name else name
    if rules.health and not rules.health.host and (given or usual):
        rules = replace(rules, health=replace(rules.health, host=given or usual))
    return {key: getattr(rules, key) for key in _BACKEND_RULES}
