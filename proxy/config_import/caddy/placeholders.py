"""Caddy's placeholders in targets and in values of fields, and what stands for them here. Pure."""

from __future__ import annotations

import re

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.$-]*|re\.[^{}]+)\}")
_IN_TARGETS = {
    "uri": "{path}",
    "http.request.uri": "{path}",
    "path": "{path}",
    "http.request.uri.path": "{path}",
    "http.request.orig_uri": "{path}",
    "query": "{query}",
    "http.request.uri.query": "{query}",
    "host": "{host}",
    "http.request.host": "{host}",
    "hostport": "{host}",
    "http.request.hostport": "{host}",
    "scheme": "https",
    "http.request.scheme": "https",
}
_IN_FIELDS = {
    **{name: place for name, place in _IN_TARGETS.items() if "uri" not in name or "path" in name},
    "scheme": "{scheme}",
    "http.request.scheme": "{scheme}",
    "remote_host": "{client}",
    "remote": "{client}",
    "remote_ip": "{client}",
    "client_ip": "{client}",
    "http.request.remote.host": "{client}",
    "http.request.remote": "{client}",
    "http.vars.client_ip": "{client}",
    "http.request.uuid": "{id}",
    "uuid": "{id}",
}


def in_target(
    text: str, groups: tuple[int, tuple[tuple[int, str], ...]] | None = None
) -> str | None:
    """None where a placeholder has no counterpart. ``groups``: of a path_regexp."""
    made = _filled(text, _IN_TARGETS, groups)
    return None if made is None else re.sub(r"\?\{query\}$", "", made)


def in_field(text: str) -> str | None:
    return _filled(text, _IN_FIELDS, None)


def _filled(
    text: str,
    table: dict[str, str],
    groups: tuple[int, tuple[tuple[int, str], ...]] | None,
) -> str | None:
    lost = False

    def fill(found: re.Match[str]) -> str:
        nonlocal lost
        name = found[1]
        group = re.fullmatch(r"(?:http\.regexp|re)\.(?:[A-Za-z_][\w-]*\.)?(\d+)", name)
        if group and groups is not None:
            number = int(group[1])
            rest, known = groups
            if number == abs(rest) and number:
                return "{rest}" if rest > 0 else "/{rest}"
            if number in dict(known):
                return dict(known)[number]
        if name in table:
            return table[name]
        lost = True
        return ""

    made = _PLACE.sub(fill, text)
    return None if lost else re.sub(r"(?<!:)//\{rest\}", "/{rest}", made)
