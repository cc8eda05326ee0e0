"""VirtualHosts become sites.

Apache decides in phases: rewriting and redirects, then which backend or file, and what stands in
sections for folders and locations is laid over each other. Here the longest path decides, so all
that is gone through once for each shape of path that anything names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from acme_client.late_dataclass import dataclass

from ...config.syntax.faults import Wrong
from ...config.syntax.names import parse_name
from ..draft import CannotRead, Draft, Level, Place, Route, Site
from ..shapes import beneath, covers, specific_first
from ..word_lists import words
from . import access, fields, proxying, redirects, rewriting, sections
from .directives import Directive, Reader, here, last, walk
from .needless import NEEDLESS, NEEDLESS_SO, WHY

_ORDERED = re.compile(r"/(?:letsencrypt|acme(?:\.sh)?|dehydrated|md)/|snakeoil")


@dataclass(slots=True)
class _Host:
    """A VirtualHost: its directives with those of the server around it."""

    block: Directive
    directives: list[Directive]
    names: list[str]
    ports: list[str]
    secure: bool


@dataclass(frozen=True, slots=True)
class _Said:
    """All that a VirtualHost says of paths, before it is laid over each other for each of them."""

    rules: Sequence[Route]  # redirects, refusals and rewrites, in their order
    passed: Sequence[proxying.Pass]
    aliases: Sequence[tuple[str, str, Place]]  # routes, with their folders
    root: Directive | None
    held: sections.Held
    front: tuple[str, Place] | None  # what is asked for where there is no file
    php: tuple[str, Place] | None  # where scripts are run
    environment: dict[str, str]  # what scripts are told beside CGI's parameters
    extensions: tuple[list[str], Place] | None  # endings that are tried behind a path
    spared: dict[Place, set[str]]  # paths that the rule of a place does not take


def import_apache(path: str) -> Draft:
    """Read a configuration of Apache. Raises `CannotRead`."""
    if os.path.isdir(path):
        names = ("apache2.conf", "httpd.conf", "conf/httpd.conf")
        found = next((os.path.join(path, one) for one in names
                      if os.path.exists(os.path.join(path, one))), None)  # fmt: skip
        if found is None:
            raise CannotRead(f"{path}: there is neither apache2.conf nor httpd.conf in it")
        path = found
    reader = Reader(os.path.dirname(os.path.abspath(path)))
    top = reader.file(path)
    draft = Draft(Place(path), source="Apache")
    for place, text, why in reader.left:
        draft.leave(place, text, why)
    blocks = [one for one in top if one.name == "virtualhost"]
    around = [one for one in top if one.name != "virtualhost"]
    if not blocks and not any(one.name == "documentroot" for one in around):
        raise CannotRead(f"{path}: there is no VirtualHost; name apache2.conf, or a site's file")
    if not blocks:
        blocks = [Directive("virtualhost", ["*:80"], draft.place, [])]
    _server(around, draft)
    hosts = [_host(one, around, draft) for one in blocks]
    _listeners(around, hosts, draft)
    _sites(hosts, around, draft)
    _unused(around, draft)
    return draft


def _host(block: Directive, around: list[Directive], draft: Draft) -> _Host:
    block.used = True
    inner = block.block or []
    names: list[str] = []
    for one in here(inner, "servername", "serveralias"):
        for word in one.args[:1] if one.name == "servername" else one.args:
            bare = re.sub(r"^https?://|:\d+$", "", word)
            try:
                names.append(parse_name(bare))
            except Wrong as wrong:
                draft.leave(one.place, str(one), str(wrong))
    ports = [word.rpartition(":")[2] if ":" in word else "80" for word in block.args]
    engine = last(inner, "sslengine")
    secure = engine is not None and engine.arg.lower() in ("on", "optional")
    secure = secure or any(port in ("443", "8443") for port in ports)
    return _Host(block, [*around, *inner], list(dict.fromkeys(names)), ports, secure)


def _server(around: list[Directive], draft: Draft) -> None:
    user, group = last(around, "user"), last(around, "group")
    user, group = (
        None if one is None or not one.arg or "$" in one.arg or one.arg == "root" else one
        for one in (user, group)
    )
    if user is not None:
        # Without Group, Apache has the one that it was built with, which nobody can see from here.
        named = (group or user).arg.lstrip("#")
        draft.run_as(user.arg.lstrip("#"), named, user.place)
    elif group is not None:
        draft.put("group", group.arg.lstrip("#"), group.place)
    header = last(around, "remoteipheader")
    trusted = here(around, "remoteipinternalproxy", "remoteiptrustedproxy")
    if header is not None and trusted:
        draft.put("trusted_proxies", [word for one in trusted for word in one.args], header.place)


def _listeners(around: list[Directive], hosts: list[_Host], draft: Draft) -> None:
    secure = {port for host in hosts if host.secure for port in host.ports}
    found: dict[str, dict[str, Place]] = {"http": {}, "https": {}}
    for one in here(around, "listen"):
        address = one.arg if ":" in one.arg else f":{one.arg}"
        port = address.rpartition(":")[2]
        kind = "https" if port in secure or "https" in one.args[1:] or port == "443" else "http"
        found[kind].setdefault(address, one.place)
    for kind, addresses in found.items():
        draft.listen_on(kind, addresses)


# Sites


def _sites(hosts: list[_Host], around: list[Directive], draft: Draft) -> None:
    taken: dict[str, Site] = {}
    secure_names = {name for host in hosts if host.secure for name in host.names}
    made: list[tuple[int, Site]] = []
    for host in sorted(hosts, key=lambda one: not one.secure):
        number = hosts.index(host)
        made += [(number, site) for site in _split(host, draft, taken, secure_names)]
    draft.sites += [site for _number, site in sorted(made, key=lambda pair: pair[0])]


def _split(host: _Host, draft: Draft, taken: dict[str, Site], secure_names: set[str]) -> list[Site]:
    place = host.block.place
    scratch = Level(place)
    own = host.block.block or []
    rewrites = rewriting.read(own, host.names, scratch, None)
    whole = _whole_redirect(own)
    if not host.secure and set(host.names) <= secure_names and host.names:
        to_https = rewrites.to_https or (whole is not None and _same_host(whole, secure_names))
        if to_https:
            host.block.use()
            return []
    found = []
    for names, target, status, at in rewrites.elsewhere:
        names = [name for name in names if name not in taken]
        if not names or (not host.secure and set(names) <= secure_names):
            continue
        site = Site(at, names=names)
        site.redirect(target, status, at)
        _certificates(host, site)
        taken.update(dict.fromkeys(names, site))
        found.append(site)
    moved = {name for names, *_ in rewrites.elsewhere for name in names}
    names = [name for name in host.names if name not in moved and name not in taken]
    if not names and host.names:
        double = [name for name in host.names if name in taken and name not in moved]
        if double:
            other = taken[double[0]].place
            why = (
                f"over plain HTTP clients are sent to https, and to {other}"
                if not host.secure
                else f"the one of {other} has the same names"
            )
            draft.leave(place, f"<VirtualHost> {' '.join(double)}", why)
        host.block.use()
        return found
    site = Site(place, names=names)
    if not names:
        if "localhost" in taken or rewrites.to_https or (whole is not None and "%" in whole):
            if not rewrites.to_https:
                draft.leave(place, "a VirtualHost without ServerName", "there is a default site")
            host.block.use()
            return found
        site.stand_for_nameless()
    _certificates(host, site)
    taken.update(dict.fromkeys(site.names, site))
    site.left += scratch.left
    _compile(host, site, rewrites)
    _client_certificates(host, site)
    if not host.secure:
        site.note_plain()
    _unused(own, site)
    return [*found, site]


def _whole_redirect(directives: Sequence[Directive]) -> str | None:
    """Return the target of ``Redirect / URL``, by which a block sends everything elsewhere."""
    for one in directives:
        words = [
            word for word in one.args if not re.fullmatch(r"\d{3}|permanent|temp|seeother", word)
        ]
        if one.name in ("redirect", "redirectpermanent") and len(words) == 2 and words[0] == "/":
            return words[1]
    return None


def _same_host(target: str, names: set[str]) -> bool:
    """Whether a redirect leads to https at one of the names, which may take two steps here."""
    return target.rstrip("/") in {f"https://{name}" for name in names}


def _certificates(host: _Host, site: Site) -> None:
    if not host.secure:
        return
    chains = here(host.directives, "sslcertificatefile")
    keys = here(host.directives, "sslcertificatekeyfile")
    here(host.directives, "sslcertificatechainfile")
    if not chains:
        return
    chain, key = chains[-1], keys[-1] if keys else chains[-1]
    if _ORDERED.search(chain.arg) and not any(name.startswith("*") for name in site.names):
        site.order_certificate(chain.arg, chain.place)
        return
    site.put("certificate", {"chain": chain.arg, "key": key.arg}, chain.place)


def _client_certificates(host: _Host, site: Site) -> None:
    verify = last(host.directives, "sslverifyclient")
    ca = last(host.directives, "sslcacertificatefile")
    if verify is None or verify.arg.lower() == "none":
        return
    if ca is None:
        site.close(
            verify.place, str(verify), "whose certificates are asked for is not said by a file"
        )
        return
    mode = "require" if verify.arg.lower() == "require" else "request"
    site.put_in(("tls", "client_auth"), {"ca_file": ca.arg, "mode": mode}, verify.place)


# Routes


def _compile(host: _Host, site: Site, rewrites: rewriting.Rewrites) -> None:
    own, whole = host.block.block or [], host.directives
    root = last(whole, "documentroot")
    folder = root.arg.rstrip("/") if root is not None else ""
    held = sections.gather(whole, folder, site)
    rules: list[Route] = [*held.refused, *rewrites.routes]
    spared = dict(rewrites.spared)
    rules += redirects.redirects(own, site)
    passed = proxying.passes(whole, site)
    for one in held.locations:
        passed += proxying.inside(one.directives, one.path, whole, site)
        rules += redirects.redirects(one.directives, site, one.path)
    aliases = redirects.aliases(own, site)
    front, extensions = rewrites.front, rewrites.extensions
    for section in held.folders:
        inner = rewriting.read(
            section.directives, host.names, site, f"{section.path.rstrip('*') or '/'}"
        )
        rules += inner.routes
        rules += redirects.redirects(section.directives, site)
        front = inner.front or front
        extensions = inner.extensions or extensions
        spared.update(inner.spared)
        for names, target, _status, at in inner.elsewhere:
            site.leave(at, f"{' '.join(names)} to {target}", "put it into the VirtualHost")
    php = sections.interpreter(whole, held, site)
    shapes = ["/*"]
    shapes += [rule.path for rule in rules]
    shapes += [path for one in passed for path in beneath(one.path)]
    shapes += [path for path, _folder, _place in aliases]
    shapes += [path for rule in rules for path in spared.get(rule.place, ())]
    shapes += [one.path for one in (*held.folders, *held.locations)]
    environment = sections.environment(whole, held, site) if php is not None else {}
    said = _Said(rules, passed, aliases, root, held, front, php, environment, extensions, spared)
    for shape in specific_first(shapes):
        _shape(shape, said, site)


def _shape(shape: str, said: _Said, site: Site) -> None:
    place = said.root.place if said.root is not None else site.place
    held = said.held
    rewritten: Route | None = None
    for rule in said.rules:
        if not covers(rule.path, shape) or shape in said.spared.get(rule.place, ()):
            continue
        if "rewrite" in rule.keys:
            rewritten = rewritten or rule
            continue
        route = rule.copy(shape)
        if rule.path != shape and "{rest}" in str(route.value("redirect")):
            # The asterisk of a narrower route takes less.
            more = shape.removesuffix("*")[len(rule.path) - 1 :]
            text = str(route.value("redirect"))
            end = "{rest}" if shape.endswith("*") else ""
            route.put("redirect", text.replace("{rest}", f"{more}{end}"), rule.place)
        fields.add(held.outer, route)
        site.add(route)
        if not rule.conditional:
            return
    route = Route(place, path=shape)
    if rewritten is not None:
        route.keys.update(rewritten.copy(shape).keys)
    if not proxying.answer(said.passed, shape, route):
        _files(shape, route, said)
        if "root" in route.keys:
            _of_files(shape, route, said)
    if route.action is None:
        if route.left:
            site.left += route.left
            route.left = []
        if shape == "/*":
            return
        route.put("respond", {"status": "404"}, place)
    sections.apply(held, shape, route)
    fields.add(held.outer, route)
    sections.later(held, shape, route)
    route.pass_credentials(place)
    site.add(route)
    if "methods" in route.keys:
        rest = Route(place, path=shape)  # other methods would try on, at a route for more paths
        rest.put("respond", {"status": "403"}, route.keys["methods"].place)
        site.add(rest)


def _files(shape: str, route: Route, said: _Said) -> None:
    for path, where, place in said.aliases:
        if covers(path, shape):
            if path.endswith("/*"):
                below = shape.removesuffix("/*")[len(path) - 2 :] if shape != path else ""
                route.put("root", f"{where.rstrip('/')}{below}" or "/", place)
            else:
                at, _slash, name = where.rpartition("/")
                if "." not in name:  # a folder: with its slash it is another route
                    route.redirect(f"{path}/", "301", place)
                    return
                route.put("root", at or "/", place)
                route.put("rewrite", f"/{name}", place)
            return
    root, folder = said.root, said.held.folder
    if root is not None and folder:
        if "$" in folder or "%" in folder:
            route.leave(root.place, str(root), "a folder has a name without variables")
            return
        # By a new path a file is looked for below the whole root.
        below = shape[:-2] if shape.endswith("/*") and "rewrite" not in route.keys else ""
        route.put("root", f"{folder}{below}" or "/", root.place)


def _of_files(shape: str, route: Route, said: _Said) -> None:
    held, front, php = said.held, said.front, said.php
    sections.files(held, shape, route)
    if said.extensions is not None:
        route.put("extensions", *said.extensions)
    fallback = route.keys.get("fallback")
    controller = front[0] if front is not None and shape == "/*" else ""
    if fallback is not None and str(fallback.value).endswith(".php"):
        controller = str(fallback.value)
        del route.keys["fallback"]
    if php is not None and not any(covers(path, shape) for path in held.no_scripts):
        route.run_scripts(*php, controller, said.environment)
    elif controller.endswith(".php"):
        place = front[1] if front is not None else route.place
        route.leave(place, controller, "who runs scripts is not said")
    elif controller and "fallback" not in route.keys and front is not None:
        route.put("fallback", controller, front[1])


# What nobody asked for


def _unused(directives: Sequence[Directive], level: Level) -> None:
    for one in walk(directives):
        if one.used or one.name == "virtualhost":
            continue
        if one.name in NEEDLESS or (one.name, one.arg.lower()) in NEEDLESS_SO:
            one.use()
            continue
        if one.name in _SECTIONS:
            one.used = True
            continue
        one.use()
        # What keeps people out, at a place where nothing of it is known here, is told first.
        guard = any(inner.name in access.NAMES for inner in walk([one]))
        level.leave(one.place, str(one), WHY.get(one.name, _NONE), guard=guard)


_NONE = "it has no counterpart here"
# Sections whose inside is looked at by itself.
_SECTIONS = words(
    """
    directory directorymatch files filesmatch location locationmatch proxy proxymatch
    requireall requireany
    """
)
