"""Whether a text is another program's configuration, which no advice about YAML would help with.

Each form is known by lines that it has and YAML has not. Asked only when a text is no configuration
of ours, so that a guess never costs anybody anything. Pure.
"""

from __future__ import annotations

import json
import re

_START = (
    "write sites: with names, and root or backend; `treehouse-proxy --help` and "
    "config/reference.yaml show how"
)

_NGINX = re.compile(
    r"^\s*(server|http|events|upstream\s+\S+|location\s+[^:]+)\s*\{"
    r"|^\s*(listen|server_name|proxy_pass|root|worker_processes|ssl_certificate)\s[^:\n]+;",
    re.MULTILINE,
)
_CADDY = re.compile(
    r"^\s*(reverse_proxy|file_server|encode|tls|redir|handle|php_fastcgi|respond|root \*|import)\b"
    r"(?!\s*:(?:\s|$))(?:[ \t{]|$)",
    re.MULTILINE,
)
_CADDY_SITE = re.compile(r"^\s*(https?://)?[\w.*:-]+(,\s*[\w.*:-]+)*\s*\{\s*$", re.MULTILINE)
_APACHE = re.compile(
    r"^\s*<(VirtualHost|Directory|IfModule|Location)\b", re.MULTILINE | re.IGNORECASE
)
_HAPROXY = re.compile(r"^(frontend|backend|defaults|global|listen)\b(?!:)[^:\n]*$", re.MULTILINE)
_HAPROXY_LINE = re.compile(r"^\s+(bind|server|mode|use_backend|default_backend)\s", re.MULTILINE)
_TOML_TABLE = re.compile(r"^\s*\[{1,2}[\w.\"-]+\]{1,2}\s*(#.*)?$", re.MULTILINE)
_TOML_LINE = re.compile(r"^\s*[\w.\"-]+\s*=\s*\S", re.MULTILINE)


def recognise(text: str) -> tuple[str, str] | None:
    """Say what the text is and what to do, where it is not ours; None for what could be YAML."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    start = lines.lstrip()
    if start.startswith("\x7fELF"):
        return "this is a program and no text", "name the configuration's file"
    if start.startswith("-----BEGIN"):
        return (
            "this is a certificate or key in PEM and no configuration",
            "name the YAML file; sites have certificate: {chain: FILE, key: FILE}",
        )
    if re.match(r"<(!doctype|html|\?xml)", start, re.IGNORECASE):
        return "this is HTML or XML and no configuration", "name the YAML file"
    for program, found in (
        ("an Apache configuration", _APACHE.search(lines)),
        ("an nginx configuration", len(_NGINX.findall(lines)) > 1),
        ("an HAProxy configuration", _HAPROXY.search(lines) and _HAPROXY_LINE.search(lines)),
        ("a Caddyfile", _CADDY.search(lines) or _CADDY_SITE.search(lines)),
    ):
        if found:
            return f"this is {program}, and the configuration here is YAML", _START
    if start.startswith("{"):
        return _json(text)
    if _TOML_TABLE.search(lines) and _TOML_LINE.search(lines):
        return "this is TOML (or an .ini file), and the configuration here is YAML", _START
    if len(_TOML_LINE.findall(lines)) > 1 and not re.search(
        r"^\s*[\w.-]+:(\s|$)", lines, re.MULTILINE
    ):
        return "this has KEY = VALUE lines, and YAML has KEY: VALUE", "write colons; " + _START
    return None


def _json(text: str) -> tuple[str, str] | None:
    """JSON is YAML as long as it is JSON."""
    try:
        json.loads(text)
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError) and '"' in text:
            return (
                f"this is JSON with a fault in line {error.lineno}: {error.msg.lower()}",
                "JSON has neither comments nor a comma after the last entry; or write YAML",
            )
        return None
    if re.search(r'"(apps|admin)"\s*:\s*\{', text) and '"http"' in text:
        return "this is Caddy's JSON, and the keys here are others", _START
    return None
