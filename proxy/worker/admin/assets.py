"""The admin page's files, read when this module is imported: a confined worker reads nothing.

The page fetches nothing from elsewhere, and browsers are told so: neither a script nor a style nor
a picture of another origin, and none that stands inside the document, is taken.
"""

from __future__ import annotations

from importlib.resources import files

from ...protocol.message import Fields

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'"
)
# Of every answer of the admin listener.
SECURITY: Fields = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_KINDS = {
    b"/": ("page.html", b"text/html; charset=utf-8"),
    b"/page.css": ("page.css", b"text/css; charset=utf-8"),
    b"/page.js": ("page.js", b"text/javascript; charset=utf-8"),
    b"/icon.svg": ("icon.svg", b"image/svg+xml"),
}
# By path: content type and content.
ASSETS: dict[bytes, tuple[bytes, bytes]] = {
    path: (kind, files(__package__).joinpath(name).read_bytes())
    for path, (name, kind) in _KINDS.items()
}
