"""Caddy's placeholders in targets and in values of fields, and what stands for them here. Pure."""

from __future__ import annotations

import re

from ..path_patterns import PathForm, with_one_slash
from ..substitution import substituted

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.$-]*|re\.[^{}]+)\}")
_GROUP = re.compile(r"(?:http\.regexp|re)\.(?:[A-Za-z_][\w-]*\.)?(\d+)")
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


def in_target(text: str, form: PathForm | None = None) -> str | None:
    """Fill in the target of a redirect; None where a placeholder has no counterpart. ``form`` is
    what a path_regexp took."""
    made = _filled(text, _IN_TARGETS, form)
    return None if made is None else re.sub(r"\?\{query\}$", "", made)


def in_field(text: str) -> str | None:
    return _filled(text, _IN_FIELDS, None)


def _filled(text: str, table: dict[str, str], form: PathForm | None) -> str | None:
    def meaning(found: re.Match[str]) -> str | None:
        group = _GROUP.fullmatch(found[1])
        if group and form is not None:
            return form.taken(int(group[1]))
        return table.get(found[1])

    made = substituted(_PLACE, text, meaning)
    return None if made is None else with_one_slash(made)
