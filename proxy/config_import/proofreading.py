"""Has what was written read by the code of ``check``, and takes out what that refuses.

The text is parsed, validated and checked for consistency exactly as a start would do it. A fault
stands in a line, and a line belongs to a key: the key is taken out and told, with the place that it
came from, until nothing is refused any more. A guard that is refused closes what it guarded; a
condition that is refused takes its route along, and closes its path if the route was guarded.

What ``check`` finds wrong with the disk (a folder that is not there, a key that cannot be read) is
no fault of the translation: it stays, and is told as what is still to do.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..config.checks import consistency
from ..config.load import Options, load
from ..config.schema.parse import validate
from ..config.syntax.faults import ConfigurationFaults, Fault
from ..config.syntax.yaml_reader import parse
from .draft import CONDITIONS, EVERYBODY, GUARDS, Draft, Entry, Left, Level, Place, Route, Site
from .tidy import tidy
from .writer import Owner, Text, write

_NAME = "imported.yaml"
_ROUNDS = 200  # each takes something out; a file with more faults than that is not worth more


def proofread(draft: Draft) -> Text:
    """Return the text, of which nothing is refused. The draft loses what was."""
    _find_folders(draft)
    tidy(draft)
    for _round in range(_ROUNDS):
        text = write(draft)
        faults = refused(str(text))
        if not faults:
            return text
        done: set[int] = set()
        for fault in faults:
            owner = text.owners.get(fault.origin.line)
            if owner is not None and fault.origin.line not in done:
                done.add(fault.origin.line)
                _take_out(draft, owner, fault)
        if not done:
            if draft.sites:
                raise AssertionError(f"what was written is refused: {faults[0]}")
            return text  # there is no site, and that is told
        tidy(draft)
    raise AssertionError("what was written is still refused")


def _find_folders(draft: Draft) -> None:
    """Serve the folder around a route's by whole paths, where the folder of a route is not there:
    that answers 404 as long as there is nothing, and a route for what lies below a folder needs the
    folder."""
    for site in draft.sites:
        for route in site.routes:
            entry = route.keys.get("root")
            beneath = route.path.removesuffix("/*")
            if entry is None or route.path in ("/*", beneath) or "rewrite" in route.keys:
                continue
            base = str(entry.value).removesuffix(beneath)
            if (
                base != entry.value
                and not os.path.isdir(entry.value)
                and os.path.isdir(base or "/")
            ):
                route.serve_whole(base, entry.place)
                fallback = route.keys.get("fallback")
                if fallback is not None:
                    fallback.value = f"{beneath}{fallback.value}"


def refused(text: str) -> list[Fault]:
    """Return what ``check`` finds wrong without a look at the disk."""
    document = parse(text, _NAME, {})
    if document.faults:
        return list(document.faults)
    parsed, faults = validate(document.value, document.origins)
    return [*faults, *consistency.check(parsed)]


def still_to_do(text: str, name: str) -> list[str]:
    """Return what ``check`` says here and now of folders, keys and files that the text names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _NAME
        path.write_text(text)
        try:
            found = load(Options(config=path), now_uid=os.geteuid()).notices
        except ConfigurationFaults as faults:
            found = (*map(str, faults.faults), *map(str, faults.notices))
        return [one.replace(str(path), name) for one in found]


def _take_out(draft: Draft, owner: Owner, fault: Fault) -> None:
    level = owner.level
    told = not fault.remedy.startswith("known here")  # a list of all keys helps nobody here
    why = f"{fault.what} ({fault.remedy})" if told else fault.what
    if not owner.path:
        _drop_level(draft, level, why)
        return
    key = str(owner.path[0])
    entry = level.keys.get(key)
    if entry is None:
        if key == "default" and isinstance(level, Site):
            level.default = False
            level.leave(level.place, "default", why)
        return
    place = entry.inner.get(owner.path[1:], entry.place)
    if key in CONDITIONS and isinstance(level, Route):
        _drop_level(draft, level, why)
    elif key in GUARDS:
        del level.keys[key]
        level.close(place, _shown(key, entry.value), why)
    elif len(owner.path) > 1:
        _drop_inner(level, owner, place, why)
    else:
        del level.keys[key]
        level.leave(place, _shown(key, entry.value), why)


def _drop_inner(level: Level, owner: Owner, place: Place, why: str) -> None:
    """Take one value out of a key's mapping or list; the key goes when nothing is left of it."""
    key = str(owner.path[0])
    holders = [level.keys[key].value]
    for step in owner.path[1:-1]:
        holders.append(holders[-1][step])
    last = owner.path[-1]
    level.leave(place, _shown(f"{key}: {last}", holders[-1][last]), why)
    del holders[-1][last]
    for number in range(len(holders) - 1, 0, -1):
        if not holders[number]:
            del holders[number - 1][owner.path[number]]
    if not holders[0]:
        del level.keys[key]


def _drop_level(draft: Draft, level: Level, why: str) -> None:
    for site in draft.sites:
        if level is site:
            draft.sites.remove(site)
            draft.left += [*site.left, Left(site.place, f"the site {' '.join(site.names)}", why)]
            return
        if isinstance(level, Route) and any(level is route for route in site.routes):
            site.routes = [route for route in site.routes if route is not level]
            shut_already = "respond" in level.keys and level.value("deny") == EVERYBODY
            if GUARDS & level.keys.keys() and level.path != "/*" and not shut_already:
                shut = Route(level.place, path=level.path)
                shut.keys["respond"] = Entry({"status": "403"}, level.place)
                shut.keys["deny"] = Entry(list(EVERYBODY), level.place)
                shut.leave(level.place, level.path, f"{why}; closed to everybody", guard=True)
                if not any(other.path == level.path for other in site.routes):
                    site.routes.append(shut)
            status = str((level.value("respond") or {}).get("status", ""))
            guard = status.startswith("4")  # it refused some requests, which others now answer
            what = Left(level.place, f"the route {level.path}", why, guard)
            site.left += [*level.left, what]
            return


def _shown(key: str, value: object) -> str:
    text = f"{key}: {value}"
    return text if len(text) <= 80 else f"{text[:77]}..."
