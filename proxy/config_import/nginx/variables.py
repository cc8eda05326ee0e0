"""nginx's variables in targets and in values of fields, and what stands for them here. Pure."""

from __future__ import annotations

import re

from ..substitution import substituted
from .directives import Scope

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
# In values of fields.
_IN_FIELDS = {
    "host": "{host}",
    "http_host": "{host}",
    "remote_addr": "{client}",
    "request_id": "{id}",
    "scheme": "{scheme}",
    "uri": "{path}",
    "document_uri": "{path}",
    "args": "{query}",
    "query_string": "{query}",
}
# In targets of redirects, where https is the only scheme there is and the query goes along.
_IN_TARGETS = {
    "host": "{host}",
    "http_host": "{host}",
    "scheme": "https",
    "uri": "{path}",
    "document_uri": "{path}",
    "request_uri": "{path}",
    "args": "{query}",
    "query_string": "{query}",
    "is_args": "?",
}


def constants(scope: Scope, text: str) -> str:
    """Fill in what ``set`` made constant."""

    def fill(found: re.Match[str]) -> str:
        value = scope.constant(found[1] or found[2])
        return found[0] if value is None else value

    return _VARIABLE.sub(fill, text)


def in_field(scope: Scope, text: str) -> str | None:
    """Fill in the value of a field; None where a variable has no counterpart here."""
    return _filled(scope, text, _IN_FIELDS)


def in_target(scope: Scope, text: str, server_name: str) -> str | None:
    made = _filled(scope, text, {**_IN_TARGETS, "server_name": server_name})
    if made is None:
        return None
    # The query goes along by itself.
    return re.sub(r"\?+\{query\}$", "", made)


def _filled(scope: Scope, text: str, table: dict[str, str]) -> str | None:
    return substituted(
        _VARIABLE, constants(scope, text), lambda found: table.get(found[1] or found[2])
    )
