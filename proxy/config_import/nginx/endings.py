"""Locations that are chosen by the endings of file names, like ``\\.(png|jpg)$``.

A route is chosen by its path, never by an ending. How long such files may be kept is the same for
all files of a site (``cache_control``). Beside a backend the files themselves are the question: a
file of the root, and a folder in which all files end so, get a route each, as they lie there at the
import; whatever else is meant is told, with what to do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from acme_client.late_dataclass import dataclass

from ..draft import Place, Route
from ..path_patterns import NO_ROUTE_OF_ENDINGS
from . import fields
from .answers import ANSWERS, beside
from .directives import Directive, Scope
from .variables import constants, in_field
from .world import Assets, Server

_PLAIN_NAME = re.compile(r"[\w-][\w.~-]*")  # as the path of a route has it
_MOST_ROUTES = 60
_MOST_SEEN = 20_000  # files and folders that are looked at


def by_endings(server: Server, one: Directive, scope: Scope, names: list[str], within: str) -> None:
    """Take over how long the files are kept. Who answers is told, or found out at the end by
    `files_beside_backend`, when it is known what takes the other paths. ``within``: the prefix of
    the location around this one, "" for none."""
    said: list[str] = []
    for each in scope.here("expires"):
        text = fields.cache_control(each.args)
        if text:
            said.append(text)
    for each in scope.here("add_header"):
        if each.arg.lower() == "cache-control" and len(each.args) > 1:
            text = in_field(scope, each.args[1])
            if text:
                said.append(text)
        elif each.arg.lower() not in ("pragma", "vary"):
            each.used = False
    for name in ("log_not_found", "access_log", "tcp_nodelay", "etag"):
        scope.here(name)
    tried = scope.here("try_files")
    answers = [each for each in one.block or () if each.name in ANSWERS or each.name == "alias"]
    if answers:
        where = f"location {' '.join(one.args)}"
        text = f"{where} {{ {answers[0]} }}"
        server.site.leave(answers[0].place, text, NO_ROUTE_OF_ENDINGS)
        for each in answers:
            each.used = True
    kept = fields.joined_cache_control(said)
    server.assets.append(Assets(names, kept, one, scope, tried, within, answered=bool(answers)))


def files_beside_backend(server: Server) -> None:
    """Give the files that a server block sends by their endings, before it asks a backend, a route
    each; or tell of them."""
    asked = [route.path for route in server.site.routes if "backend" in route.keys]
    for assets in server.assets:
        around = assets.within.rstrip("/")
        if f"{around}/*" not in asked or assets.answered:
            continue
        root = assets.scope.one("root")
        if root is None:
            continue
        folder = constants(assets.scope, root.arg).rstrip("/") or "/"
        one, endings = assets.location, ", ".join(f"*.{name}" for name in assets.names)
        for each in assets.tried:
            _as_the_rest(server, each)
        found = _Found([], [around] if around else [])
        if not around:
            found = _found(folder, tuple(f".{name}".lower() for name in assets.names))
        for path in found.paths[:_MOST_ROUTES]:
            inside = path.endswith("/*")
            route = Route(one.place, path=path)
            route.put("root", _joined(folder, path[:-2]) if inside else folder, one.place)
            beside(server, assets.scope, route)
            if assets.cache_control:
                route.keys.pop("cache_control", None)  # said of all files of the site
            server.site.add(route)
        if found.paths:
            text = f"{endings} that lay in {folder} at the import have routes; new ones need one"
            server.site.note(one.place, text)
        else:
            assets.cache_control = ""  # of files that are not sent here
        if not found.paths or found.mixed or len(found.paths) > _MOST_ROUTES:
            which = found.mixed[0] if found.mixed else "/images"
            why = (
                f"{'other ' if found.paths else ''}{endings} came from {folder}, and are asked of "
                "the backend here, because a route is chosen by its path: give their folders a "
                f"route, like {{path: {which}/*, root: {_joined(folder, which)}}}"
            )
            server.site.leave(one.place, f"location {' '.join(one.args)}", why)


def _joined(folder: str, path: str) -> str:
    return f"{folder.rstrip('/')}{path}"


def _as_the_rest(server: Server, tried: Directive) -> None:
    """Mark ``try_files … @name`` as taken over where the backend of that name is asked anyway."""
    named = server.named.get(tried.args[-1]) if tried.args else None
    if named is None:
        return
    others = [each for one in server.scope.directives if one.name == "location"
              and one.args[-1:] == ("/",) for each in one.block or ()]  # fmt: skip
    passed = {each.args for each in others if each.name == "proxy_pass"}
    if {each.args for each in named.block or () if each.name == "proxy_pass"} <= passed:
        named.use()


@dataclass(slots=True)
class _Found:
    """``paths`` are of routes; ``mixed`` are folders that have other files beside those."""

    paths: list[str]
    mixed: list[str]


def _found(root: str, endings: tuple[str, ...]) -> _Found:
    """Look for files with these endings below a folder: those in it, and the folders in it."""
    found = _Found([], [])
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:
        return found
    budget = _MOST_SEEN
    for entry in entries:
        if not _PLAIN_NAME.fullmatch(entry.name):
            continue
        if not entry.is_dir():
            if entry.name.lower().endswith(endings):
                found.paths.append(f"/{entry.name}")
            continue
        kinds: set[bool] = set()
        for name in _names(entry.path):
            budget -= 1
            if budget < 0 or len(kinds) == 2:
                break
            kinds.add(name.lower().endswith(endings))
        if kinds == {True} and budget >= 0:
            found.paths.append(f"/{entry.name}/*")
        elif True in kinds:
            found.mixed.append(f"/{entry.name}")
    return found


def _names(folder: str) -> Iterator[str]:
    for _path, _folders, names in os.walk(folder):
        yield from names


def cached(assets: Sequence[Assets]) -> tuple[dict[str, str], Place | None]:
    """Return what locations say of how long files are kept, as ``cache_control`` has it, and where
    the first of them stands."""
    told = [one for one in assets if one.cache_control]
    made = {",".join(f"*.{name}" for name in one.names): one.cache_control for one in told}
    return made, told[0].location.place if told else None
