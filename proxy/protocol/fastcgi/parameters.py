"""What a script is told of its request: the meta-variables of CGI (RFC 3875 §4.1). Pure.

The fields of the request come from the head that any backend would get (`upstream.request_head`):
hop-by-hop fields are gone, and what a client claims of itself. Here they become HTTP_*.

Why it is hard: a variable has no hyphen. X-Real-IP and X_Real_IP are one variable, so whoever
may choose between the two could speak as the other; fields whose name is more than letters, digits
and hyphens are left out altogether. And HTTP_PROXY is a word that programs read from their
environment: the field Proxy is left out, which no standard has (CVE-2016-5385, "httpoxy").
"""

from __future__ import annotations

import re

from acme_client.late_dataclass import dataclass

from ...version import VERSION
from ..message import Request
from . import records

_PLAIN = re.compile(rb"[a-z0-9-]+")
# Of the connection between two servers, or told in a variable of another name.
_NOT_TOLD = frozenset(
    {b"proxy", b"connection", b"te", b"content-type", b"content-length", b"transfer-encoding"}
)
_SOFTWARE = b"treehouse-proxy/" + VERSION.encode("ascii")
_USUAL_PORTS = {b"http": b"80", b"https": b"443"}


@dataclass(frozen=True, slots=True)
class Script:
    """What takes a request. ``name`` is the part of the path that names the script (SCRIPT_NAME),
    ``path_info`` the rest, both decoded; ``file`` and ``root`` are where the FastCGI server finds
    the script and the document root."""

    name: bytes
    path_info: bytes
    file: bytes
    root: bytes


def parameters(
    request: Request, head: bytes, script: Script, length: int | None, given: dict[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    """The parameters of a request. ``head`` is the request's head for a backend; ``length`` is that
    of its body, None where there is none; ``given`` are the operator's, which replace ours."""
    connection = request.connection
    scheme = connection.scheme
    host, _, port = _split_port(request.authority)
    version = b"2.0" if request.version == b"2" else request.version
    told = {
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"SERVER_SOFTWARE": _SOFTWARE,
        b"SERVER_PROTOCOL": b"HTTP/" + version,
        b"SERVER_NAME": host,
        b"SERVER_PORT": port or _USUAL_PORTS[scheme],
        b"SERVER_ADDR": connection.local.encode("ascii"),
        b"REQUEST_METHOD": request.method,
        b"REQUEST_URI": request.original.target,
        b"REQUEST_SCHEME": scheme,
        b"QUERY_STRING": request.query,
        b"SCRIPT_NAME": script.name,
        b"SCRIPT_FILENAME": script.file,
        b"PATH_INFO": script.path_info,
        b"DOCUMENT_ROOT": script.root,
        b"DOCUMENT_URI": script.name + script.path_info,
        b"REMOTE_ADDR": request.client.encode("ascii"),
        b"REDIRECT_STATUS": b"200",  # php-cgi wants to hear that no client asked it by itself
        b"CONTENT_TYPE": b"",
        b"CONTENT_LENGTH": b"" if length is None else b"%d" % length,
    }
    if request.client == connection.peer:
        told[b"REMOTE_PORT"] = b"%d" % connection.peer_port
    if script.path_info:
        told[b"PATH_TRANSLATED"] = script.root + script.path_info
    if scheme == b"https":
        told[b"HTTPS"] = b"on"
    if request.login is not None and request.login.user:
        told[b"REMOTE_USER"] = request.login.user
        if request.login.password:
            told[b"AUTH_TYPE"] = b"Basic"
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b": ")
        if name == b"content-type":
            told[b"CONTENT_TYPE"] = value
        elif name not in _NOT_TOLD and _PLAIN.fullmatch(name):
            variable = b"HTTP_" + name.upper().replace(b"-", b"_")
            if variable in told:
                value = told[variable] + (b"; " if name == b"cookie" else b", ") + value
            told[variable] = value
    told |= given
    return list(told.items())


def ping(path: str, keep: bool) -> bytes:
    """A GET of ``path`` that belongs to no client: FPM answers its ``ping.path`` by itself."""
    name = path.encode("ascii")
    told = {
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"SERVER_PROTOCOL": b"HTTP/1.1",
        b"REQUEST_METHOD": b"GET",
        b"REQUEST_URI": name,
        b"QUERY_STRING": b"",
        b"SCRIPT_NAME": name,
        b"SCRIPT_FILENAME": name,
        b"REDIRECT_STATUS": b"200",
    }
    return records.begin(told.items(), keep) + records.record(records.STDIN)


def _split_port(authority: bytes) -> tuple[bytes, bytes, bytes]:
    """The host, in brackets where it is an IPv6 address, and the port, which may be missing."""
    if authority.endswith(b"]") or b":" not in authority:
        return authority, b"", b""
    return authority.rpartition(b":")
