"""Server blocks become sites.

Blocks that share a name are one site: that on port 443 is served; what stands on port 80 is a
redirect to https nearly always, and this server does that by itself. A block without a name becomes
the default site.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field

from acme_client.late_dataclass import dataclass

from ...config.syntax.faults import Wrong
from ...config.syntax.names import parse_name
from ..draft import CannotRead, Draft, Level, Place, Site
from . import conditions, fields, guards, locations
from .directives import Directive, Scope, read, walk
from .needless import NEEDLESS, WHY
from .variables import in_target
from .world import World

_NAMELESS = ("", "_", "__", "-", "@", "*", "default", "localhost.localdomain")
# Where certbot keeps what it obtained. From now on that is our business.
_ORDERED = re.compile(r"/(?:letsencrypt|acme(?:\.sh)?|dehydrated)/|snakeoil")


@dataclass(slots=True)
class Listen:
    """One ``listen``: where, and with TLS or not."""

    address: str
    secure: bool
    default: bool
    proxy_protocol: bool

    @classmethod
    def parse(cls, directive: Directive, all_secure: bool) -> Listen | None:
        where, *flags = directive.args or ("80",)
        if where.startswith("unix:"):
            return None
        if where.isdigit():
            where = f":{where}"
        host, colon, port = where.rpartition(":")
        if not colon or not port.isdigit():
            host, port = where, "443" if "ssl" in flags else "80"
        everywhere = ("", "*", "0.0.0.0", "[::]")  # noqa: S104 - read, not bound
        address = f":{port}" if host in everywhere else f"{host}:{port}"
        secure = "ssl" in flags or "quic" in flags or all_secure
        default = bool({"default_server", "default"} & set(flags))
        return cls(address, secure, default, "proxy_protocol" in flags)

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]


@dataclass(slots=True)
class Server:
    block: Directive
    scope: Scope
    listens: list[Listen]
    names: list[str]
    nameless: bool
    left: list[tuple[Place, str, str]] = field(default_factory=list)

    @property
    def secure(self) -> bool:
        return any(one.secure for one in self.listens)

    @property
    def default(self) -> bool:
        return any(one.default for one in self.listens)


def import_nginx(path: str) -> Draft:
    """Read a configuration of nginx. Raises `CannotRead`."""
    directives, folder, errors = read(path)
    draft = Draft(Place(path), source="nginx")
    for place, why in errors:
        draft.leave(place, "include", why)
    top = Scope(directives, folder=folder)
    http = [one for one in directives if one.name == "http"]
    for one in http:
        one.used = True
    scope = Scope([inner for one in http for inner in one.block or ()], top) if http else top
    world = World(scope, draft)
    blocks = [one for one in scope.directives if one.name == "server"]
    if not blocks and not http:
        raise CannotRead(f"{path}: there is no server block; name nginx.conf, or a site's file")
    servers = [_server(block, scope, draft) for block in blocks]
    _user(top, draft)
    _listeners(servers, draft)
    _client_addresses(scope, servers, draft)
    _tls_versions(servers, scope, draft)
    _sites(servers, world, draft)
    world.finish()
    _unused(directives, draft)
    return draft


def _server(block: Directive, outer: Scope, draft: Draft) -> Server:
    block.used = True
    scope = outer.inner(block)
    all_secure = scope.word("ssl") == "on"
    listens = []
    for directive in scope.here("listen") or [Directive("listen", ("80",), block.place)]:
        listen = Listen.parse(directive, all_secure)
        if listen is None:
            draft.leave(directive.place, str(directive), "clients come by TCP")
        else:
            listens.append(listen)
    names: list[str] = []
    nameless = False
    given = [word for one in scope.here("server_name") for word in one.args]
    for word in given or [""]:
        if word in _NAMELESS:
            nameless = True
            continue
        for name in (word[1:], f"*{word}") if word.startswith(".") else (word,):
            try:
                names.append(parse_name(name))
            except Wrong as wrong:
                why = "a name is written out, or *.name" if name[0] == "~" else str(wrong)
                draft.leave(block.place, f"server_name {word}", why)
    scope.learn_constants()
    return Server(block, scope, listens, list(dict.fromkeys(names)), nameless)


def _user(top: Scope, draft: Draft) -> None:
    found = top.one("user")
    if found is not None and found.args and found.arg != "root":
        group = found.args[1] if len(found.args) > 1 else found.arg
        draft.run_as(found.arg, group, found.place)


def _listeners(servers: list[Server], draft: Draft) -> None:
    for kind, secure in (("http", False), ("https", True)):
        found: dict[str, Place] = {}
        for server in servers:
            for one in server.listens:
                if one.secure is secure:
                    found.setdefault(one.address, server.block.place)
        wild = {one for one in found if one.startswith(":")}
        addresses = {
            one: place for one, place in found.items()
            if one in wild or f":{one.rpartition(':')[2]}" not in wild
        }  # fmt: skip
        draft.listen_on(kind, addresses)
        if len(addresses) > 1:
            draft.note(next(iter(addresses.values())), "here every site is on every port")


def _client_addresses(scope: Scope, servers: Sequence[Server], draft: Draft) -> None:
    """Take over ``set_real_ip_from``: whose word about the client is taken."""
    found = scope.here("set_real_ip_from")
    header = scope.word("real_ip_header")
    scope.all("real_ip_recursive")
    for server in servers:
        found += server.scope.here("set_real_ip_from")
        header = header or server.scope.word("real_ip_header")
        server.scope.all("real_ip_recursive")
    networks = list(dict.fromkeys(one.arg for one in found if one.arg != "unix:"))
    spoken = any(listen.proxy_protocol for server in servers for listen in server.listens)
    if not networks:
        if spoken:
            draft.leave(draft.place, "listen … proxy_protocol", "name the load balancers' networks")
        return
    place = found[0].place
    if spoken or header == "proxy_protocol":
        draft.put("proxy_protocol", networks, place)
    elif header.lower() in ("x-forwarded-for", "", "x-real-ip", "forwarded"):
        draft.put("trusted_proxies", networks, place)
        if header.lower() == "x-real-ip":
            draft.note(place, "the client is read from X-Forwarded-For here, not from X-Real-IP")
    elif header.lower() == "cf-connecting-ip":
        draft.put("trusted_proxies", ["cloudflare"], place)
    else:
        draft.leave(place, f"real_ip_header {header}", "the client is read from X-Forwarded-For")


def _tls_versions(servers: Iterable[Server], scope: Scope, draft: Draft) -> None:
    found = [one for server in servers for one in server.scope.all("ssl_protocols")]
    found += scope.here("ssl_protocols")
    if found and all(one.args == ("TLSv1.3",) for one in found):
        draft.put_in(("tls", "min_version"), "1.3", found[0].place)
    for one in found:
        if {"TLSv1", "TLSv1.1", "SSLv3"} & set(one.args):
            draft.note(one.place, "TLS before 1.2 is not spoken here")


# Sites


def _sites(servers: list[Server], world: World, draft: Draft) -> None:
    taken: dict[str, Site] = {}
    ordered = sorted(servers, key=lambda one: not one.secure)  # what is on 443 has its names first
    secure_names = {name for one in servers if one.secure for name in one.names}
    made: list[tuple[int, Site]] = []
    for server in ordered:
        place = servers.index(server)
        if not server.secure and _only_to_https(server, secure_names):
            continue
        made += [(place, site) for site in _split(server, world, taken, secure_names)]
    draft.sites += [site for _place, site in sorted(made, key=lambda pair: pair[0])]


def _split(
    server: Server, world: World, taken: dict[str, Site], secure_names: set[str]
) -> list[Site]:
    """Return the sites of a block: one, and another for names that are redirected elsewhere."""
    draft, scope, place = world.draft, server.scope, server.block.place
    _upgrade_conditions(server)
    elsewhere = conditions.hosts(scope, server.names)
    found = []
    for names, target, status, at in elsewhere:
        site = Site(at, names=[name for name in names if name not in taken])
        if not site.names:
            continue
        made = in_target(scope, target, server.names[0])
        if made is None:
            site.leave(at, target, "it has a variable that is not known here")
        else:
            site.redirect(made, status, at)
        _certificates(server, site)
        taken.update(dict.fromkeys(site.names, site))
        found.append(site)
    moved = {name for names, *_ in elsewhere for name in names}
    names = [name for name in server.names if name not in moved]
    double = [name for name in names if name in taken]
    if double and set(double) == set(names) and names:
        other = taken[names[0]]
        if not server.secure:
            why = f"over plain HTTP clients are sent to https, and to {other.place}"
        else:
            why = f"the one of {other.place} has the same names"
        draft.leave(place, f"server {{ server_name {' '.join(names)} }}", why)
        server.block.use()
        return found
    site = Site(place, names=[name for name in names if name not in taken])
    if not site.names and server.nameless:
        if _refuses(scope):
            draft.note(place, "clients that name no site are refused without being asked to")
            server.block.use()
            return found
        if "localhost" in taken or any(one.default for one in taken.values()):
            draft.leave(place, "server without a name", "there is a default site already")
            server.block.use()
            return found
        site.stand_for_nameless()
    elif server.nameless and server.default:
        site.default = True
    if not site.names:
        if not found:
            draft.leave(place, "server", "it has no name that can be a site's")
        server.block.use()
        return found
    _certificates(server, site)
    taken.update(dict.fromkeys(site.names, site))
    locations.compile_server(scope, site, world)
    if not server.secure:
        site.note_plain()
    _unused(server.block.block or [], site)
    return [*found, site]


def _refuses(scope: Scope) -> bool:
    """Whether a block answers nothing but "go away"."""
    if scope.word("ssl_reject_handshake") == "on":
        return True
    returned = scope.here("return")
    return bool(returned) and returned[0].arg in ("444", "400", "403", "404", "410", "421")


def _only_to_https(server: Server, secure_names: set[str]) -> bool:
    """Whether a block on port 80 only leads to the same host with https, and marks it as taken."""
    # A name that is only redirected needs a site, which has a certificate.
    known = set(server.names) <= secure_names
    if not _leads_to_https(server.scope, server.names, secure_names if known else set()):
        return False
    if server.names and not known:
        return False
    server.block.use()
    return True


def _leads_to_https(scope: Scope, names: list[str], sites: set[str]) -> bool:
    """Whether all redirects of a block lead to https at the same host, or at one of ``sites``,
    which are names that are served; a redirect to one of these comes in two steps here."""
    found = [one for one in scope.directives if one.name in ("return", "rewrite")]
    roots = [
        one for one in scope.directives
        if one.name == "location" and one.args in (("/",), ("^~", "/"))
    ]  # fmt: skip
    for one in roots:
        found += [inner for inner in one.block or () if inner.name in ("return", "rewrite")]
    for one in scope.directives:
        if one.name == "if":
            found += [inner for inner in one.block or () if inner.name in ("return", "rewrite")]
    targets = [word for one in found for word in one.args if "//" in word]
    if not targets:
        return False
    return all(_same_host(target, names, sites) for target in targets)


def _same_host(target: str, names: list[str], sites: set[str]) -> bool:
    words = [r"\$host", r"\$http_host", r"\$server_name", *map(re.escape, sorted(sites))]
    if len(names) == 1:
        words += [re.escape(names[0])]
    path = r"/?(?:\$request_uri|\$uri|\$1)?(?:\$is_args\$args)?"
    return bool(re.fullmatch(rf"https://(?:{'|'.join(words)})(?::443)?{path}", target))


def _upgrade_conditions(server: Server) -> None:
    """Mark ``if ($scheme = http)`` and its like as taken over: port 80 leads to https by itself."""
    for one in server.scope.directives:
        if one.name == "if" and one.args[:1] in (
            ("$scheme",), ("$https",), ("$http_x_forwarded_proto",), ("$ssl_protocol",),
        ):  # fmt: skip
            one.use()


def _certificates(server: Server, site: Site) -> None:
    scope = server.scope
    chains, keys = scope.all("ssl_certificate"), scope.all("ssl_certificate_key")
    if not server.secure:
        return
    pairs = []
    for chain, key in zip(chains, keys, strict=False):
        if _ORDERED.search(chain.arg) and not any(name.startswith("*") for name in site.names):
            site.order_certificate(chain.arg, chain.place)
        elif "$" in chain.arg or chain.arg.startswith(("data:", "engine:")):
            site.leave(chain.place, str(chain), "a certificate is a file with a name")
        else:
            folder = scope.folder
            pairs.append(
                {
                    "chain": fields.absolute(chain.arg, folder),
                    "key": fields.absolute(key.arg, folder),
                }
            )
    if pairs:
        site.put("certificate", pairs[0] if len(pairs) == 1 else pairs, chains[0].place)


# What nobody asked for


def _unused(directives: Sequence[Directive], level: Level) -> None:
    for one in walk(directives):
        if one.used or one.name in ("server", "http"):
            continue
        one.use()
        if one.name in NEEDLESS or one.name.startswith("http2_"):
            continue
        why = WHY.get(one.name, "it has no counterpart here")
        level.leave(one.place, str(one), why, guard=one.name in guards.NAMES)
