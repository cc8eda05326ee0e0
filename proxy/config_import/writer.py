"""Writes a draft as YAML, with a comment for each source line and for what was left out. Pure.

Every key stands on a line of its own, so that a fault which ``check`` finds in a line belongs to
one key: `Text.owners` says which. All that comes from another program is quoted or made one line
before it is written, so that no value and no comment can turn into a key.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import field
from typing import Any

from acme_client.late_dataclass import dataclass

from ..config.syntax.faults import Path, one_line
from .draft import Draft, Left, Level, Place, Site

_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@+%~*-]*(?::[A-Za-z0-9_./@+%~*-]+)*", re.ASCII)
_OTHERWISE_READ = re.compile(r"(?i)~|null|\.inf|\.nan|<<|=")
_FIRST = ("certificate", "methods", "match", "root", "fastcgi", "backend", "redirect", "status",
          "respond", "strip_prefix", "rewrite", "fallback")  # fmt: skip
_WIDEST = 240  # a comment of more than that is cut


@dataclass(frozen=True, slots=True)
class Owner:
    """What a line belongs to: ``level``, and the way to the value in it; () is the level itself."""

    level: Level
    path: Path = ()


@dataclass(slots=True)
class Text:
    folder: str  # of the other program's configuration; places in it are told from there
    lines: list[str] = field(default_factory=list)
    owners: dict[int, Owner] = field(default_factory=dict)  # by number of the line, from 1

    def add(self, line: str, owner: Owner | None = None) -> None:
        self.lines.append(line.rstrip())
        if owner is not None:
            self.owners[len(self.lines)] = owner

    def at(self, place: Place) -> str:
        return _said(str(place).removeprefix(self.folder))

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"


def write(draft: Draft) -> Text:
    text = Text(f"{os.path.dirname(draft.place.file)}/")
    left = draft.all_left()
    text.add(f"# From {draft.source}: {_said(str(draft.place))}")
    if left:
        text.add(
            f"# {len(left)} {'thing' if len(left) == 1 else 'things'} could not be taken over:"
        )
        text.add('# look for "left out" below.')
    text.add("")
    _remarks(text, draft, "")
    _keys(text, draft, "")
    if draft.keys:
        text.add("")
    text.add("sites:" if draft.sites else "sites: []")
    for site in draft.sites:
        _site(text, site)
    return text


def _site(text: Text, site: Site) -> None:
    text.add("")
    text.add(f"  # {text.at(site.place)}")
    text.add(f"  - names: [{', '.join(map(scalar, site.names))}]", Owner(site))
    if site.default:
        text.add("    default: true", Owner(site, ("default",)))
    _remarks(text, site, "    ")
    _keys(text, site, "    ", around=site.place)
    if not site.routes:
        return
    text.add("    routes:")
    for route in site.routes:
        _remarks(text, route, "      ")
        beside = "" if route.place == site.place else f"  # {text.at(route.place)}"
        text.add(f"      - path: {scalar(route.path)}{beside}", Owner(route))
        _keys(text, route, "        ", around=route.place)


def _remarks(text: Text, level: Level, indent: str) -> None:
    for place, said in level.notes:
        text.add(f"{indent}# {text.at(place)}: {_said(said)}")
    for one in level.left:
        text.add(f"{indent}# left out: {text.at(one.place)}: {_said(f'{one.text}: {one.why}')}")


def left_line(one: Left) -> str:
    """Return the line about something left out, as it stands on standard error."""
    return one_line(f"left out: {one}")


def _keys(text: Text, level: Level, indent: str, around: Place | None = None) -> None:
    ordered = sorted(level.keys.items(), key=lambda pair: _rank(pair[0]))
    for key, entry in ordered:
        beside = "" if entry.place == around else f"  # {text.at(entry.place)}"
        _value(text, key, entry.value, indent, beside, Owner(level, (key,)))


def _rank(key: str) -> int:
    """Order keys: what decides first stands first, and the rest as it came."""
    return _FIRST.index(key) if key in _FIRST else len(_FIRST)


def _value(text: Text, key: str, value: Any, indent: str, beside: str, owner: Owner) -> None:
    name = f"{indent}{scalar(key)}:"
    if isinstance(value, dict) and value:
        text.add(f"{name}{beside}", owner)
        for inner, each in value.items():
            _value(text, inner, each, f"{indent}  ", "", Owner(owner.level, (*owner.path, inner)))
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        text.add(f"{name}{beside}", owner)
        for number, each in enumerate(value):
            here = Owner(owner.level, (*owner.path, number))
            text.add(f"{indent}  - {_flow(each)}", here)
    else:
        text.add(f"{name} {_flow(value)}{beside}", owner)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return scalar(value)


def scalar(value: object) -> str:
    """Spell one value for YAML as our reader takes it, where ``${`` would be a variable."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if "$$" in text or "${" in text:
        text = text.replace("$", "$$")
    if _PLAIN.fullmatch(text) and not _OTHERWISE_READ.fullmatch(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


def _said(text: str) -> str:
    """Spell a comment's words: one line, no longer than a person reads."""
    line = one_line(text)
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 3]}..."
