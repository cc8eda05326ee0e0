"""The little languages of routes: which paths a route takes, where a redirect or rewrite leads.

A route's path is exact (``/a/b``) or everything below (``/a/*``). A redirect's target is a path or
an http(s) address in which ``{rest}``, ``{path}``, ``{query}`` and ``{host}`` are filled in. Both
are checked here to the last character, because a target becomes a Location field: what is not
plainly a URL's character never gets that far.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from .faults import Wrong, nearest, shown

PLACEHOLDERS = ("rest", "path", "query", "host")
PLACE = re.compile(rf"\{{({'|'.join(PLACEHOLDERS)})\}}")

# Placeholders of other programs, and ours; the query goes along unless the target has one.
_OF_NGINX = {
    "host": "{host}",
    "http_host": "{host}",
    "args": "{query}",
    "scheme": "https",
}
_OF_CADDY = {
    "uri": "{path}",
    "request_uri": "{path}",
    "http.request.uri": "{path}",
    "hostport": "{host}",
}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ROUTE_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=:@/]|%[0-9A-Fa-f]{2})*", re.ASCII)
_AMBIGUOUS = re.compile("%(?:2[fF]|5[cC]|00)")
_TARGET_CHARACTERS = re.compile(
    r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?#\[\]]|%[0-9A-Fa-f]{2})*", re.ASCII
)
# Only what begins with a slash may follow the host: "{rest}" there would lengthen its name.
_AUTHORITY = re.compile(
    r"https?://(?:\{host\}|[A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?=[/?#]|\{path\}|\Z)",
    re.ASCII,
)

_REWRITE_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*", re.ASCII)

_SAY_ROUTE = "write it like /api/*, or /status for that path alone"
_SAY_TARGET = "write it like /new/{rest} or https://example.org{path}"


def parse_route_path(text: str) -> str:
    """Raises `Wrong`."""
    if not text.startswith("/"):
        raise Wrong(f"{shown(text)} does not start with a slash", _SAY_ROUTE)
    body = text.removesuffix("*")
    if "*" in body or (text.endswith("*") and not body.endswith("/")):
        raise Wrong(f"{shown(text)} has its asterisk in the wrong place", _SAY_ROUTE)
    if "?" in body or "#" in body:
        raise Wrong(f"{shown(text)} has a query or fragment", "routes go by the path alone")
    if not _ROUTE_CHARACTERS.fullmatch(body):
        raise Wrong(
            f"{shown(text)} has characters that a path cannot have", "percent-encode them (%20)"
        )
    if _AMBIGUOUS.search(body):
        raise Wrong(
            f"{shown(text)} has an encoded slash, backslash or NUL",
            "leave it out: requests with one are refused where there are several routes",
        )
    decoded = unquote_to_bytes(body)
    if b"//" in decoded or any(segment in (b".", b"..") for segment in decoded.split(b"/")):
        raise Wrong(
            f"{shown(text)} has empty or dot segments",
            "write the path as it is after they are taken out",
        )
    return text


def parse_site_path(text: str) -> str:
    """The path of one page of a site, without a query. Raises `Wrong`."""
    if "*" in text:
        raise Wrong(f"{shown(text)} has an asterisk", "name one page, like /404.html")
    if not text.startswith("/"):
        raise Wrong(f"{shown(text)} does not start with a slash", f"write /{text}")
    return parse_route_path(text)


def parse_rewrite(text: str) -> str:
    """The path, and perhaps the query, that is asked for instead. Raises `Wrong`."""
    literal = _without_places(text)
    if "://" in text:
        raise Wrong(
            f"{shown(text)} is another address",
            "name that server as backend, or send clients there with redirect",
        )
    if not text.startswith(("/", "{path}")):
        raise Wrong(f"{shown(text)} does not start with a slash", "write it like /new/{rest}")
    if not _REWRITE_CHARACTERS.fullmatch(literal):
        raise Wrong(
            f"{shown(text)} has characters that a path cannot have", "percent-encode them (%20)"
        )
    path = literal.partition("?")[0]
    if _AMBIGUOUS.search(path):
        raise Wrong(f"{shown(text)} has an encoded slash, backslash or NUL", "leave it out")
    segments = unquote_to_bytes(_PLACEHOLDER.sub("x", text).partition("?")[0]).split(b"/")
    if any(one in (b".", b"..") for one in segments) or b"" in segments[1:-1]:
        raise Wrong(
            f"{shown(text)} has empty or dot segments",
            "write the path as it is after they are taken out",
        )
    return text


def is_prefix(path: str) -> bool:
    return path.endswith("/*")


def same_requests(path: str) -> tuple[bool, bytes]:
    """Return a key that is equal for two route paths that take the same requests, however
    encoded."""
    return is_prefix(path), unquote_to_bytes(path)


def parse_redirect(text: str) -> str:
    """Raises `Wrong`."""
    literal = _without_places(text)
    if not _TARGET_CHARACTERS.fullmatch(literal):
        raise Wrong(
            f"{shown(text)} has characters that a URL cannot have", "percent-encode them (%20)"
        )
    if re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?(/.*)?", text):
        raise Wrong(f"{shown(text)} does not say how to get there", f"write https://{text}{{path}}")
    if text.startswith("//"):
        raise Wrong(
            f"{shown(text)} leads to another host by way of two slashes",
            "write https:// before the host, or one slash for a path of this site",
        )
    if not (text.startswith(("/", "{path}")) or _AUTHORITY.match(text)):
        raise Wrong(f"{shown(text)} is neither a path nor an http(s) address", _SAY_TARGET)
    return text


def _without_places(text: str) -> str:
    """Return the text without its placeholders. Raises `Wrong` for one that nothing here fills
    in."""
    if not text.isprintable():
        raise Wrong(
            f"{shown(text)} has a line break or control character", "a target is one line of text"
        )
    variable = re.search(r"\$(request_uri|uri|host|http_host|args|is_args|scheme)\b", text)
    if variable is not None:
        ours = _OF_NGINX.get(variable[1], "{path}")
        raise Wrong(f"{variable[0]} is a variable of nginx", f"here that is {ours}")
    for name in _PLACEHOLDER.findall(text):
        if name in _OF_CADDY:
            raise Wrong(f"{shown(f'{{{name}}}')} is not a placeholder", f"write {_OF_CADDY[name]}")
        if name not in PLACEHOLDERS:
            raise Wrong(f"{shown(f'{{{name}}}')} is not a placeholder", nearest(name, PLACEHOLDERS))
    literal = _PLACEHOLDER.sub("", text)
    if "{" in literal or "}" in literal:
        raise Wrong(f"{shown(text)} has a brace without its partner", "percent-encode it (%7B)")
    return literal


def placeholders(target: str) -> set[str]:
    return set(_PLACEHOLDER.findall(target))
