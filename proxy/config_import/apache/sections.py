"""``<Directory>``, ``<Location>``, ``<Files>`` and ``.htaccess``: what holds for which paths."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..draft import CannotRead, Place, Route, Site
from ..path_patterns import NO_ROUTE, endings, forms, hides_dot_files
from ..shapes import beneath, covers
from ..substitution import substituted
from ..times import size
from . import access
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
_VARIABLE = re.compile(r"%\{([A-Za-z_:]+)\}[es]?")
_IN_FIELDS = {
    "REMOTE_ADDR": "{client}",
    "HTTP_HOST": "{host}",
    "SERVER_NAME": "{host}",
    "REQUEST_URI": "{path}",
    "UNIQUE_ID": "{id}",
    "REQUEST_SCHEME": "{scheme}",
}
_SPANS = {"year": 31536000, "month": 2592000, "week": 604800, "day": 86400, "hour": 3600,
          "minute": 60, "second": 1}  # fmt: skip


@dataclass(slots=True)
class Section:
    """``path``: the route that it is for."""

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
    """The route of a folder on disk; None where it is none of the site's."""
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
    """``within``: the route of the folder in which the section stands."""
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
            why = "files are told apart by their endings for cache_control alone"
            site.leave(each.place, f"{one} {each}", why, guard=guard)
            each.use()


def interpreter(
    directives: Sequence[Directive], held: Held, site: Site
) -> tuple[str, Place] | None:
    """Where scripts are run: SetHandler, or ProxyPassMatch to fcgi://."""
    every = list(directives)
    for section in (*held.folders, *held.locations):
        every += section.directives
    for one in list(every):
        every += one.block or []
    for one in every:
        if one.name == "sethandler":
            where = _fcgi(one.arg.removeprefix("proxy:"))
            if where:
                one.used = True
                return where, one.place
        if one.name == "proxypassmatch" and len(one.args) > 1 and "php" in one.args[0]:
            where = _fcgi(one.args[1])
            if where:
                one.used = True
                return where, one.place
        if one.name == "addhandler" and one.arg.startswith("proxy:"):
            where = _fcgi(one.arg.removeprefix("proxy:"))
            if where:
                one.used = True
                return where, one.place
    for one in every:
        if one.name == "sethandler" and "php" in one.arg:
            why = "PHP within Apache; start php-fpm, and name it in fastcgi"
            site.leave(one.place, str(one), why)
            one.used = True
    return None


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
    """Who is let in. Folders count for files alone, locations for everything."""
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
    """Index, listing and what is sent instead of a file that is not there."""
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
        ordered = {key: value for key, value in said.items() if key != "*"}
        if "*" in said:
            ordered["*"] = said["*"]
        route.put("cache_control", ordered, place)


def _span(text: str) -> int | None:
    """``access plus 1 month 2 days``, ``A2592000``."""
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
    """Fields, error pages, sizes of sections, after those of the whole block."""
    if "root" in route.keys:
        for section in _of(held.folders, shape):
            fields(section.directives, route)
    for section in _of(held.locations, shape):
        fields(section.directives, route)


def fields(directives: Sequence[Directive], route: Route) -> None:
    for one in here(directives, "header"):
        _header(one, route, "headers")
    for one in here(directives, "requestheader"):
        if route.action == "backend":
            _header(one, route, "request_headers")
    for one in here(directives, "errordocument"):
        if len(one.args) != 2 or route.action in ("redirect", "respond"):
            continue
        status, page = one.args
        if page.startswith("/"):
            # A backend that cannot be reached is 503 there and 502 here.
            there = route.value("error_pages") or {}
            statuses = "502,503" if status == "503" and "502" not in there else status
            if status == "502" and "502,503" in there:
                route.put(
                    "error_pages",
                    {("503" if k == "502,503" else k): v for k, v in there.items()},
                    one.place,
                )
            route.put_in(("error_pages", statuses), page, one.place)
        else:
            route.leave(one.place, str(one), "an error page is a file, or a path of the site")
    override = last(directives, "proxyerroroverride")
    if override is not None and override.arg.lower() == "on" and route.action == "backend":
        route.put("intercept", True, override.place)
    largest = last(directives, "limitrequestbody")
    if largest is not None and route.action in ("backend", "fastcgi"):
        text = "unlimited" if largest.arg == "0" else size(largest.arg)
        route.put("body_size", text, largest.place)


def _header(one: Directive, route: Route, key: str) -> None:
    words = [word for word in one.args if word.lower() not in ("always", "onsuccess")]
    if len(words) < 2:
        return
    action, name, *rest = words
    value = rest[0] if rest else ""
    action = action.lower()
    if len(rest) > 1 and rest[1].startswith(("env=", "expr=", "early")):
        route.leave(one.place, str(one), "a field is written in every case")
        return
    if key == "request_headers" and name.lower().startswith("x-forwarded-"):
        return  # told by itself
    if name.lower() == "host" and key == "request_headers":
        route.leave(one.place, str(one), "Host is the client's, or the backend's own")
        return
    if action == "unset":
        route.put_in((key, "remove"), [name], one.place)
        return
    made = _value(value)
    if made is None:
        route.leave(one.place, str(one), "it has a variable that is not known here")
        return
    match action:
        case "set":
            if name.lower() == "cache-control" and "root" in route.keys:
                there = route.value("cache_control") or {}
                route.put("cache_control", {**there, "*": made}, one.place)
            else:
                route.put_in((key, "set", name), made, one.place)
        case "setifempty" if key == "headers":
            route.put_in((key, "default", name), made, one.place)
        case "add" | "append" | "merge" | "setifempty":
            route.put_in((key, "add", name), made, one.place)
        case _:
            route.leave(one.place, str(one), "a value is replaced as a whole")


def _value(text: str) -> str | None:
    made = substituted(_VARIABLE, text, lambda found: _IN_FIELDS.get(found[1]))
    return None if made is None else made.replace("%%", "%")
