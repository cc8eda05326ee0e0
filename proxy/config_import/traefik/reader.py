"""Routers become routes of the sites that their rules name.

Of several routers that take a request Traefik chooses the one with the highest priority, which is
the length of its rule unless it is given. Here the longest path decides, and among equal paths the
order: so for each host the routers are gone through by priority, once for each shape of path.
"""

from __future__ import annotations

import os

from acme_client.late_dataclass import dataclass

from ...config.syntax.faults import Wrong
from ...config.syntax.names import parse_name
from ..draft import CannotRead, Draft, Place, Route, Site
from ..shapes import specific_first
from ..word_lists import words
from . import middlewares
from .documents import Node, Source, read
from .rules import Asked, NotARule, alternatives, asked
from .services import Services

_STATIC_NEEDLESS = frozenset(
    words(
        """
    global log accesslog metrics tracing ping serverstransport experimental core
    hostresolver spiffe ocsp
    """
    )
)


@dataclass(slots=True)
class _Router:
    name: str
    node: Node
    asked: Asked
    priority: int
    plain: bool


def import_traefik(path: str) -> Draft:
    """Read a configuration of Traefik. Raises `CannotRead`."""
    source = read(path)
    tree = source.tree
    draft = Draft(Place(path), source="Traefik")
    for place, text, why in source.left:
        draft.leave(place, text, why)
    if not any(tree.get(key) for key in ("http", "entryPoints", "providers", "tls",
                                         "certificatesResolvers", "tcp")):  # fmt: skip
        raise CannotRead(f"{path}: it has neither http: nor entryPoints:, nor services with labels")
    world = _World(source, draft)
    world.entry_points()
    world.routers()
    world.static()
    return draft


class _World:
    def __init__(self, source: Source, draft: Draft) -> None:
        self.source = source
        self.tree = source.tree
        self.draft = draft
        self.services = Services(source)
        self.plain: set[str] = set()  # entry points without TLS
        self.redirecting: set[str] = set()  # those that lead to https
        self.default: dict[str, list[str]] = {}  # middlewares of entry points

    # What holds for the whole server

    def entry_points(self) -> None:
        found = self.tree.get("entryPoints")
        addresses: dict[str, dict[str, Place]] = {"http": {}, "https": {}}
        for name, one in found.items() if found is not None else ():
            address = one.word("address").partition("/")[0]
            secure = one.get("http", "tls") is not None
            leads = one.get("http", "redirections", "entryPoint")
            if leads is not None:
                self.redirecting.add(name)
                leads.use()
            usual = address.endswith((":443", ":8443")) or secure
            if not usual:
                self.plain.add(name)
            self.default[name] = one.words("http", "middlewares")
            trusted = one.words("forwardedHeaders", "trustedIPs")
            if trusted:
                self.draft.put("trusted_proxies", trusted, one.place)
            spoken = one.words("proxyProtocol", "trustedIPs")
            if spoken:
                self.draft.put("proxy_protocol", spoken, one.place)
            if name in ("traefik", "metrics", "ping"):
                continue
            if one.word("address").endswith("/udp"):
                self.draft.leave(one.place, f"entryPoints.{name}", "only HTTP is passed on")
                continue
            kind = "http" if name in self.plain else "https"
            addresses[kind].setdefault(address, one.place)
            one.use()
        for kind, named in addresses.items():
            self.draft.listen_on(kind, named)

    def static(self) -> None:
        """Take over what the static configuration has beside entry points, and tell what is left of
        all."""
        resolvers = self.tree.get("certificatesResolvers")
        for _name, one in resolvers.items() if resolvers is not None else ():
            one.used = True
            acme = one.get("acme")
            if acme is None:
                continue
            if acme.word("email"):
                self.draft.put_in(("acme", "email"), acme.word("email"), acme.place)
            if acme.word("caServer"):
                self.draft.put_in(("acme", "directory"), acme.word("caServer"), acme.place)
            if acme.get("dnsChallenge") is not None:
                said = f"dnsChallenge {acme.word('dnsChallenge', 'provider')}"
                why = "acme.dns says how records are set: zone, provider"
                self.draft.leave(acme.place, said, why)
            acme.use()
        self._tls()
        providers = self.tree.get("providers")
        if providers is not None:
            for name, one in providers.items():
                if name.lower() not in ("file", "docker"):
                    self.draft.leave(one.place, f"providers.{name}", "its routers stand elsewhere")
                elif name.lower() == "docker" and not self.source.compose:
                    why = "labels are read from a docker-compose file, or live: providers.docker"
                    self.draft.leave(one.place, "providers.docker", why)
            providers.use()
        api = self.tree.get("api")
        if api is not None:
            self.draft.note(api.place, "the dashboard is here: admin: {listen: 127.0.0.1:2020}")
            api.use()
        for kind in ("tcp", "udp"):
            other = self.tree.get(kind)
            if other is not None:
                self.draft.leave(other.place, kind, "only HTTP is passed on")
                other.use()
        for at, node in self.tree.unused():
            top = at.partition(".")[0].lower()
            if top in _STATIC_NEEDLESS or at.lower().endswith(".container"):
                continue
            parts = at.split(".")
            if len(parts) > 2 and parts[0] == "http" and parts[1] in ("middlewares", "services"):
                if len(parts) == 3 and parts[1] == "middlewares":
                    self.draft.note(node.place, f"no router uses {at}")
                    continue
                if len(parts) == 3:
                    continue
            self.draft.leave(node.place, at, "it has no counterpart here")

    def _tls(self) -> None:
        options = self.tree.get("tls", "options")
        for name, one in options.items() if options is not None else ():
            if one.word("minVersion") == "VersionTLS13" and name == "default":
                self.draft.put_in(("tls", "min_version"), "1.3", one.place)
            auth = one.get("clientAuth")
            if auth is not None:
                self._client_auth(name, one, auth)
            one.use()
        certificates = self.tree.get("tls", "certificates")
        for one in certificates.members() if certificates is not None else ():
            self._certificate(one)
        stores = self.tree.get("tls", "stores")
        if stores is not None:
            stores.use()
            self.draft.note(
                stores.place, "clients that name no site get the default site's, if any"
            )

    def _client_auth(self, name: str, one: Node, auth: Node) -> None:
        files = auth.words("caFiles")
        mode = auth.word("clientAuthType")
        for site in self.draft.sites:
            wants = site.value("_options") == name or name == "default"
            if not wants or mode in ("", "NoClientCert"):
                continue
            if len(files) != 1 or mode not in (
                "RequireAndVerifyClientCert",
                "VerifyClientCertIfGiven",
            ):
                site.close(one.place, f"clientAuth {mode}", "it needs one file, and to be verified")
                continue
            value = {
                "ca_file": files[0],
                "mode": "require" if mode.startswith("RequireAnd") else "request",
            }
            site.put_in(("tls", "client_auth"), value, one.place)

    def _certificate(self, one: Node) -> None:
        """Give a certificate to the sites whose names stand in it, which only its file tells."""
        chain, key = one.word("certFile"), one.word("keyFile")
        names = _names_of(chain)
        one.use()
        if not names:
            self.draft.leave(
                one.place, f"tls.certificates {chain}",
                "which site it is for only the file says, and that cannot be read here; give the "
                "site certificate: {chain, key}",
            )  # fmt: skip
            return
        for site in self.draft.sites:
            covered = all(
                name in names or f"*.{name.partition('.')[2]}" in names for name in site.names
            )
            if covered:
                site.put("certificate", {"chain": chain, "key": key}, one.place)

    # Routers

    def routers(self) -> None:
        found = self.tree.get("http", "routers")
        routers: list[_Router] = []
        for name, node in found.items() if found is not None else ():
            node.used = True
            routers += self._router(name, node)
        hosts = list(dict.fromkeys(host for router in routers for host in router.asked.hosts))
        anywhere = [router for router in routers if not router.asked.hosts]
        if anywhere and not hosts:
            hosts = ["localhost"]
        groups: dict[tuple[int, ...], list[str]] = {}
        for host in hosts:
            mine = tuple(
                number for number, router in enumerate(routers)
                if not router.asked.hosts or host in router.asked.hosts
            )  # fmt: skip
            # A redirect by host may be another one for each.
            alone = any(self._redirects(routers[number]) for number in mine)
            groups.setdefault((*mine, -1 - hosts.index(host)) if alone else mine, []).append(host)
        for numbers, names in groups.items():
            chosen = [routers[number] for number in numbers if number >= 0]
            self._site(names, chosen, routers)
        if anywhere and hosts == ["localhost"] and self.draft.sites:
            site = self.draft.sites[0]
            site.default = True
            site.note(site.place, "no rule names a host; put names in the place of localhost")
        for site in self.draft.sites:
            site.keys.pop("_options", None)

    def _redirects(self, router: _Router) -> bool:
        return any(kind.lower() == "redirectregex" for kind, _one in self._middlewares(router))

    def _router(self, name: str, node: Node) -> list[_Router]:
        rule = node.word("rule")
        for key in ("entryPoints", "tls", "priority", "service", "middlewares", "ruleSyntax",
                    "container", "observability"):  # fmt: skip
            held = node.get(key)
            if held is not None:
                held.use()
        entry = node.words("entryPoints")
        if entry and all(one in self.redirecting for one in entry):
            return []
        plain = bool(entry) and all(one in self.plain for one in entry) and node.get("tls") is None
        if not rule:
            self.draft.leave(node.place, f"the router {name}", "it has no rule")
            return []
        priority = int(node.word("priority")) if node.word("priority").isdigit() else len(rule)
        try:
            found = [asked(terms) for terms in alternatives(rule)]
        except NotARule as error:
            self.draft.leave(node.place, f"{name}: {rule}", str(error))
            return []
        if plain and self._only_to_https(node):
            return []
        return [_Router(name, node, one, priority, plain) for one in found]

    def _only_to_https(self, node: Node) -> bool:
        router = _Router("", node, Asked(), 0, plain=True)
        return any(kind.lower() == "redirectscheme" for kind, _one in self._middlewares(router))

    def _site(self, names: list[str], routers: list[_Router], everybody: list[_Router]) -> None:
        place = routers[0].node.place
        good: list[str] = []
        for name in names:
            try:
                good.append(parse_name(name))
            except Wrong as wrong:
                self.draft.leave(place, name, str(wrong))
        if not good:
            return
        site = Site(place, names=good)
        routers = sorted(routers, key=lambda one: -one.priority)
        secure = {shape for one in routers if not one.plain for shape in _shapes(one)}
        routers = [one for one in routers if not one.plain or not secure & set(_shapes(one))]
        shapes: list[str] = []
        for router in routers:
            shapes += router.asked.matcher.paths or ("/*",)
            shapes += router.asked.matcher.except_paths
            for kind, one in self._middlewares(router):
                if kind.lower() == "redirectregex":
                    shapes += middlewares.redirected_paths(one)
        for shape in specific_first(shapes):
            for router in routers:
                matcher = router.asked.matcher
                if not matcher.takes(shape):
                    continue
                route = Route(router.node.place, path=shape)
                for key, value in matcher.keys().items():
                    route.put(key, value, router.node.place)
                self._answer(router, route, tuple(good))
                options = router.node.word("tls", "options").partition("@")[0]
                if options:
                    site.put("_options", options, router.node.place)
                if route.action is None:
                    if route.left:
                        site.left += route.left
                        route.left = []
                        route.put("respond", {"status": "501"}, route.place)
                        site.add(route)
                    continue
                site.add(route)
                if not matcher.conditional:
                    break
        for router in routers:
            if router.asked.loose and router.asked.loose != "/":
                said = f"{router.asked.loose} took {router.asked.loose}xyz as well; not here"
                site.note(router.node.place, said)
            if router.plain:
                site.note(router.node.place, "it was plain HTTP; here it is HTTPS")
        if site.routes:
            self.draft.sites.append(site)

    def _middlewares(self, router: _Router) -> list[tuple[str, Node]]:
        """Return kind and content of each middleware of a router, with chains taken apart."""
        names = [word for point in router.node.words("entryPoints")
                 for word in self.default.get(point, [])]  # fmt: skip
        return self._chain([*names, *router.node.words("middlewares")], 0)

    def _chain(self, names: list[str], depth: int) -> list[tuple[str, Node]]:
        found: list[tuple[str, Node]] = []
        for name in names:
            bare = name.partition("@")[0]
            one = self.tree.get("http", "middlewares", bare)
            if one is None:
                found.append((f"unknown {name}", Node({}, self.tree.place)))
                continue
            for kind, content in one.items():
                if kind.lower() == "chain" and depth < 16:
                    found += self._chain(content.words("middlewares"), depth + 1)
                    content.use()
                else:
                    found.append((kind, content))
        return found

    def _answer(self, router: _Router, route: Route, hosts: tuple[str, ...]) -> None:
        before = self._middlewares(router)
        for kind, one in before:
            one.use()
            if kind.lower() != "redirectregex" or not middlewares.is_for(one, hosts):
                continue
            if middlewares.redirect(one, route, hosts):
                return
        self.services.answer(router.node, route)
        if route.action is None:
            return
        for kind, one in before:
            if kind.lower() != "redirectregex":
                middlewares.add(kind, one, route)
        if "redirect" in route.keys:
            route.keys.pop("backend", None)


def _shapes(router: _Router) -> tuple[str, ...]:
    return router.asked.matcher.shapes() or ("/*",)


def _names_of(path: str) -> set[str]:
    """Return the names in a certificate's file; none where it cannot be read."""
    if not path or not os.access(path, os.R_OK):
        return set()
    from cryptography import x509

    try:
        with open(path, "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read(1 << 20))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return set(names.value.get_values_for_type(x509.DNSName))
    except (OSError, ValueError, x509.ExtensionNotFound):
        return set()
