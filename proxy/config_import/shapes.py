"""Route paths as sets of requests: which of them cover others. Pure.

A program whose rules act one after the other on a request (Caddy, Traefik, Apache) is read by going
through its rules for each shape of path that any of them names: what covers the shape acts on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import Any

from acme_client.late_dataclass import dataclass

from .path_patterns import PathForm


def covers(pattern: str, shape: str) -> bool:
    """Whether a route for ``pattern`` takes everything that one for ``shape`` takes."""
    if pattern == shape or pattern == "/*":
        return True
    return pattern.endswith("/*") and shape.startswith(pattern[:-1])


def beneath(path: str) -> list[str]:
    """Return the routes for a path and all below it; one is enough where it ends in a slash."""
    return [f"{path}*"] if path.endswith("/") else [path, f"{path}/*"]


def specific_first(shapes: Iterable[str]) -> list[str]:
    """Return shapes without doubles: exact paths first, then the longest."""
    return sorted(dict.fromkeys(shapes), key=lambda one: (one.endswith("/*"), -len(one), one))


@dataclass(frozen=True, slots=True)
class Matcher:
    """Tells which requests a rule is for. ``paths`` None: any path; ``conditions`` as `match` and
    ``methods`` have them. ``unknown``: why some condition has no counterpart here."""

    paths: tuple[str, ...] | None = None
    except_paths: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()  # of file names; only cache_control knows such
    hosts: tuple[str, ...] = ()
    conditions: dict[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    negated: dict[str, Any] = field(default_factory=dict)  # as conditions, of which none may be so
    partly: str = ""  # why some of the paths that are meant cannot be said
    unknown: str = ""
    never: bool = False
    forms: dict[str, PathForm] = field(default_factory=dict)  # by path, of an expression

    def shapes(self) -> tuple[str, ...]:
        return (*(self.paths or ()), *self.except_paths)

    def takes(self, shape: str) -> bool:
        """Whether everything of a shape is meant, but for conditions beside the path."""
        if self.never or self.endings:
            return False
        if any(covers(one, shape) for one in self.except_paths):
            return False
        return self.paths is None or any(covers(one, shape) for one in self.paths)

    @property
    def conditional(self) -> bool:
        return bool(self.conditions or self.methods or self.negated)

    def keys(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.conditions:
            found["match"] = self.conditions
        if self.methods:
            found["methods"] = list(self.methods)
        return found
