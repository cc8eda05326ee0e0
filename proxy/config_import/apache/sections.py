"""``<Directory>``, ``<Location>``, ``<Files>`` and ``.htaccess``: what holds for which paths."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..draft import CannotRead, Place, Route, Site
from ..path_patterns import NO_ROUTE, NO_ROUTE_OF_ENDINGS, endings, forms, hides_dot_files
from ..shapes import beneath, covers
from . import access, fields
from .directives import Directive, Reader, here, last

_TYPES = {
    "text/css": ("css",), "text/html": ("html", "htm"), "application/javascript": ("js", "mjs"),
    "text/javascript": ("js", "mjs"), "application/x-javascript": ("js",),
    "image/png": ("png",), "image/jpeg": ("jpg", "jpeg"), "image/jpg": ("jpg", "jpeg"),
    "image/gif": ("gif",), "image/webp": ("webp",), "image/svg+xml": ("svg",),
    "image/x-icon": ("ico",), "image/vnd.microsoft.icon": ("ico",), "image/avif": ("avif",),
    "font/woff": ("woff",), "font/woff2": ("woff2",), "font/ttf": ("ttf",),
    "application/font-woff": ("woff",), "application/font-woff2": ("woff2",),
    "application/pdf": ("pdf",), "application/json": ("json",), "video/mp4": ("mp4",),
    "application/xml": ("xml",), "text/xml": ("xml",),
}  # fmt: skip
_SPANS = {"year": 31536000, "month": 2592000, "week": 604800, "day": 86400, "hour": 3600,
          "minute": 60, "second": 1}  # fmt: skip


@dataclass(slots=True)
class Section:
    """The directives of a section, and the ``path`` of the routes that they hold for."""

    path: str
    directives: list[Directive]
    place: Place


@dataclass(slots=True)
class Held:
    folders: list[Section] = field(default_factory=list)
    locations: list[Section] = field(default_factory=list)
    files: list[tuple[list[str], Directive]] = field(default_factory=list)  # by endings
    proxies: list[Directive] = field(default_factory=list)  # <Proxy>: what holds for backends
    no_scripts: list[str] = field(default_factory=list)  # paths below which none is run
    outer: list[Directive] = field(default_factory=list)  # beside all sections
    refused: list[Route] = field(default_factory=list)  # files that nobody gets
    folder: str = ""


def gather(directives: Sequence[Directive], folder: str, site: Site) -> Held:
    held = Held(folder=folder)
    held.outer = [one for one in directives if one.block is None]
    aliases = [
        (one.args[0].rstrip("/"), one.args[1].rstrip("/"))
        for one in directives
        if one.name == "alias" and len(one.args) == 2
    ]
    for one in directives:
        match one.name:
            case "directory" if one.args and one.args[0] != "~":
                one.used = True
                path = _path_of(one.args[0].rstrip("/"), folder, aliases)
                if path is not None:
                    held.folders.append(Section(path, one.block or [], one.place))
                else:
                    one.use()  # of another folder than this site's
            case "location" if one.args and one.args[0] != "~":
                one.used = True
                for path in beneath(one.args[0]):
                    held.locations.append(Section(path, one.block or [], one.place))
            case "locationmatch" | "location" if one.args:
                one.used = True
                found = forms(one.args[-1])
                for form in found or ():
                    held.locations.append(Section(form.path, one.block or [], one.place))
                if found is None:
                    guard = any(inner.name in access.NAMES for inner in one.block or ())
                    site.leave(one.place, str(one), NO_ROUTE, guard=guard)
                    one.use()
            case "proxy" | "proxymatch":
                held.proxies.append(one)
            case "files" | "filesmatch":
                _by_name(one, held, site, "/*")
    for section in list(held.folders):
        for one in section.directives:
            if one.name in ("files", "filesmatch"):
                _by_name(one, held, site, section.path)
            elif one.name in ("php_admin_flag", "php_flag") and one.args[:2] == ["engine", "off"]:
                one.used = True
                held.no_scripts.append(section.path)
    own = f"{folder}/.htaccess" if folder else ""
    if own and os.path.isfile(own) and os.access(own, os.R_OK) and _may_override(held):
        try:
            inner = Reader(folder).file(own)
        except CannotRead as error:
            site.leave(Place(own), ".htaccess", str(error))
        else:
            held.folders.append(Section("/*", inner, Place(own)))
            for one in inner:
                if one.name in ("files", "filesmatch"):
                    _by_name(one, held, site, "/*")
    held.folders.sort(key=lambda one: len(one.path))
    return held


def _may_override(held: Held) -> bool:
    for section in reversed(held.folders):
        found = last(section.directives, "allowoverride")
        if found is not None:
            return found.arg.lower() != "none"
    return False


def _path_of(where: str, folder: str, aliases: Sequence[tuple[str, str]]) -> str | None:
    """Return the route of a folder on disk; None where the site has no files in it."""
    for path, target in aliases:
        if where == target or where.startswith(f"{target}/"):
            return f"{path}{where[len(target) :]}/*"
    if not folder or "*" in where:
        return None
    if where == folder:
        return "/*"
    if where.startswith(f"{folder}/"):
        return f"{where[len(folder) :]}/*"
    if folder.startswith(f"{where}/") or not where:
        return "/*"
    return None


def _by_name(one: Directive, held: Held, site: Site, within: str) -> None:
    """Take over a section for names of files. ``within`` is the route of the folder in which the
    section stands."""
    one.used = True
    expression = one.args[-1] if one.args else ""
    inner = one.block or []
    denied = any(
        (each.name == "require" and [word.lower() for word in each.args] == ["all", "denied"])
        or (each.name == "deny" and "all" in [word.lower() for word in each.args])
        for each in inner
    )
    if denied and (hides_dot_files(expression) or re.fullmatch(r"\^?\\?\.[\w*]*\*?", expression)
                   or expression in ("^\\.", ".*", "^\\.ht", ".ht*")):  # fmt: skip
        one.use()
        site.note(one.place, "files whose names begin with a dot are never sent")
        return
    if any(each.name == "sethandler" for each in inner):
        return  # `interpreter` reads it
    if denied and within != "/*" and re.fullmatch(r"\*\.php|\(?\\\.\(?php\)?\$?", expression):
        one.use()
        held.no_scripts.append(within)
        site.note(one.place, "no script is run there; one would be sent as a text")
        return
    if denied and one.name == "files" and re.fullmatch(r"[\w-][\w.-]*", expression):
        one.use()
        route = Route(one.place, path=f"{within[:-1]}{expression}")
        route.put("respond", {"status": "403"}, one.place)
        held.refused.append(route)
        site.note(one.place, f"{expression} is refused in this folder, and not in those below it")
        return
    names = endings(expression) if one.name == "filesmatch" or one.args[:1] == ["~"] else None
    if names is None and (found := re.fullmatch(r"\*\.(\w+)", expression)):
        names = [found[1]]
    caching = [
        each for each in inner
        if each.name == "header" and "cache-control" in [word.lower() for word in each.args]
    ]  # fmt: skip
    if names is not None and caching:
        held.files.append((names, caching[-1]))
        for each in caching:
            each.used = True
    for each in inner:
        if not each.used:
            guard = each.name in access.NAMES
            why = NO_ROUTE_OF_ENDINGS
            site.leave(each.place, f"{one} {each}", why, guard=guard)
            each.use()


def interpreter(
    directives: Sequence[Directive], held: Held, site: Site
) -> tuple[str, Place] | None:
    """Return where scripts are run: what SetHandler, AddHandler or ProxyPassMatch to fcgi://
    says."""
    every = list(directives)
    for section in (*held.folders, *held.locations):
        every += section.directives
    for one in list(every):
        every += one.block or []
    for one in every:
        if one.name == "sethandler" or (one.name == "addhandler" and one.arg.startswith("proxy:")):
            where = _fcgi(one.arg.removeprefix("proxy:"))
        elif one.name == "proxypassmatch" and len(one.args) > 1 and "php" in one.args[0]:
            where = _fcgi(one.args[1])
        else:
            continue
        if where:
            one.used = True
            return where, one.place
    for one in every:
        if one.name == "sethandler" and "php" in one.arg:
            why = "PHP within Apache; start php-fpm, and name it in fastcgi"
            site.leave(one.place, str(one), why)
            one.used = True
    return None


def environment(directives: Sequence[Directive], held: Held, site: Site) -> dict[str, str]:
    """Return what SetEnv tells scripts; PassEnv hands on what only Apache's own process
    has."""
    told: dict[str, str] = {}
    for scope in (directives, *(section.directives for section in held.folders)):
        for one in here(scope, "setenv"):
            told[one.arg] = one.args[1] if len(one.args) > 1 else ""
        for one in here(scope, "passenv"):
            site.leave(one.place, str(one), "write it into params of fastcgi: {NAME: VALUE}")
    return told


def _fcgi(text: str) -> str:
    socket = re.match(r"unix:([^|]+)\|fcgi:", text)
    if socket:
        return f"unix:{socket[1]}"
    found = re.match(r"fcgi://([^/]+)", text)
    return f"tcp://{found[1]}" if found else ""


# What a section says of a route


def _of(sections: Sequence[Section], shape: str) -> list[Section]:
    return [one for one in sections if covers(one.path, shape)]


def apply(held: Held, shape: str, route: Route) -> None:
    """Add who is let in. Sections of folders count where files answer, those of locations
    always."""
    if route.action in ("redirect", "respond"):
        return
    if route.action == "backend":
        for one in held.proxies:
            one.used = True
            access.add(one.block or [], route)
    if "root" in route.keys:
        for section in _of(held.folders, shape):
            access.add(section.directives, route)
    for section in _of(held.locations, shape):
        access.add(section.directives, route)


def files(held: Held, shape: str, route: Route) -> None:
    """Add the index, the listing, and what is sent in the place of a file that is not there."""
    scopes = [held.outer, *(one.directives for one in _of(held.folders, shape))]
    scopes += [one.directives for one in _of(held.locations, shape)]
    for scope in scopes:
        index = last(scope, "directoryindex")
        if index is not None:
            names = [name for name in index.args if "/" not in name]
            names = [name for name in names if not name.endswith((".php", ".cgi", ".pl", ".xhtml"))]
            if names and names != ["index.html"]:
                route.put("index", names, index.place)
        fallback = last(scope, "fallbackresource")
        if fallback is not None and fallback.arg.lower() != "disabled":
            beneath = shape[:-2] if shape.endswith("/*") else ""
            path = fallback.arg.removeprefix(beneath) if beneath else fallback.arg
            if beneath and path == fallback.arg:
                why = f"the file that is sent instead lies below {beneath}"
                route.leave(fallback.place, str(fallback), why)
            else:
                route.put("fallback", path, fallback.place)
        for one in [each for each in scope if each.name == "options"]:
            one.used = True
            words = {word.lower() for word in one.args}
            if {"indexes", "+indexes", "all"} & words:
                route.put("listing", True, one.place)
            elif "-indexes" in words or not any(word[:1] in "+-" for word in words):
                route.keys.pop("listing", None)
            if "multiviews" in words or "+multiviews" in words:
                route.put("extensions", [".html"], one.place)
    _expires(scopes, held, route)


def _expires(scopes: Sequence[Sequence[Directive]], held: Held, route: Route) -> None:
    said: dict[str, str] = {}
    place = route.place
    for scope in scopes:
        active = last(scope, "expiresactive")
        if active is None or active.arg.lower() != "on":
            continue
        for one in here(scope, "expiresbytype"):
            names = _TYPES.get(one.arg.lower())
            span = _span(" ".join(one.args[1:]))
            if names is None or span is None:
                route.leave(one.place, str(one), "cache_control goes by endings of names")
                continue
            said[",".join(f"*.{name}" for name in names)] = f"max-age={span}"
            place = one.place
        default = last(scope, "expiresdefault")
        if default is not None:
            span = _span(" ".join(default.args))
            if span is not None:
                said["*"] = f"max-age={span}"
                place = default.place
    for ends, one in held.files:
        words = [word for word in one.args if word.lower() not in ("always", "onsuccess")]
        if len(words) >= 3:
            said = {",".join(f"*.{name}" for name in ends): words[2], **said}
            place = one.place
    if said:
        if "*" in said:
            said["*"] = said.pop("*")  # to the end: the first that fits decides
        route.put("cache_control", said, place)


def _span(text: str) -> int | None:
    """Read a time of mod_expires in seconds: ``access plus 1 month 2 days``, ``A2592000``. None
    where it does not count from the request."""
    short = re.fullmatch(r"[AM](\d+)", text)
    if short:
        return int(short[1]) if text.startswith("A") else None
    found = re.fullmatch(r"(?:access|now)(?: plus)?((?: \d+ [a-z]+)+)", text.lower())
    if not found:
        return None
    total = 0
    for number, unit in re.findall(r"(\d+) ([a-z]+)", found[1]):
        span = _SPANS.get(unit.rstrip("s"))
        if span is None:
            return None
        total += int(number) * span
    return total


def later(held: Held, shape: str, route: Route) -> None:
    """Add fields, error pages and sizes of sections, after those of the whole block."""
    if "root" in route.keys:
        for section in _of(held.folders, shape):
            fields.add(section.directives, route)
    for section in _of(held.locations, shape):
        fields.add(section.directives, route)
