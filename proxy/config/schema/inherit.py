"""Which of several levels decides: the top of the document, a site, a route. Pure.

A key of `Rules` that stands at several of them has the value of the innermost; one that is marked
with `AddsUp` joins the values of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acme_client.late_dataclass import dataclass

from ..syntax.faults import Path
from ..syntax.sections import of_few
from .rules import AddsUp, Rules

_KEYS = frozenset(Rules.known_keys())
_JOINS = {
    key: mark.join
    for key, field in Rules.known_keys().items()
    for mark in field.metadata
    if isinstance(mark, AddsUp)
}
_DEFAULTS = of_few(Rules, {})


@dataclass(frozen=True, slots=True)
class Inherited:
    """``paths``: for each key that was given anywhere, where in the document the value stands that
    decides; the keys that are missing have their defaults."""

    rules: Rules
    paths: Mapping[str, Path]


NOTHING_GIVEN = Inherited(_DEFAULTS, {})


def says_rules(level: Rules) -> bool:
    """Whether any rule was given at a level."""
    return not _KEYS.isdisjoint(level.given)


def innermost(*levels: tuple[Path, Rules]) -> Inherited:
    """Return what holds at the last of these levels, which are given from the outermost on."""
    values: dict[str, Any] = {}
    paths: dict[str, Path] = {}
    for path, level in levels:
        for key in level.given & _KEYS:
            value = getattr(level, key)
            if key in values and key in _JOINS:
                value = _JOINS[key](values[key], value)
            values[key] = value
            paths[key] = (*path, key)
    return Inherited(of_few(Rules, values) if values else _DEFAULTS, paths)
