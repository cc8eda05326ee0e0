"""What a look at a backend means. Pure.

A backend that fails is the fault that visitors see first, and the log of a proxy names it least
well: "502" says neither that the app is not started, nor that its socket belongs to another group,
nor that a port speaks FastCGI or TLS. So each of these has its own sentence and its own next step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from acme_client.late_dataclass import dataclass

from ..findings import Finding

# How far a connection came. "missing": a unix socket that is not there; "forbidden": it may not be
# entered; "untrusted": the TLS handshake was refused by us; "no_tls": by the other side.
Reached = Literal[
    "answer", "refused", "missing", "forbidden", "silent", "unreachable", "unresolved",
    "untrusted", "no_tls", "no_http", "fastcgi", "no_fastcgi",
]  # fmt: skip
# A language that is not HTTP/1.1, spoken on the port.
Language = Literal["fastcgi", "h2c", "tls"]


@dataclass(frozen=True, slots=True)
class BackendVisit:
    """``sites``: the sites that need it. ``status`` of its answer to ``path``, where it gave one.
    ``error``: the operating system's or OpenSSL's words. ``https``: the URL says so. ``socket``:
    the path of a unix socket. ``uid``: the user that looked, which is the server's."""

    url: str
    sites: tuple[str, ...]
    reached: Reached
    path: str = "/"
    status: int = 0
    error: str = ""
    language: Language | None = None
    https: bool = False
    socket: str = ""
    uid: int = 65534


def findings(visit: BackendVisit) -> Iterator[Finding]:
    about = f"backend {visit.url}"
    if visit.reached == "fastcgi":
        yield Finding("ok", about, "speaks FastCGI")
        return
    if visit.reached == "answer":
        yield _answered(visit, about)
        return
    text, step = _failure(visit)
    yield Finding("wrong", about, f"{text}; needed by {', '.join(visit.sites)}", step)


def _answered(visit: BackendVisit, about: str) -> Finding:
    asked = f"GET {visit.path}"
    if visit.status >= 500:
        return Finding(
            "wrong", about,
            f"answers {asked} with {visit.status}; needed by {', '.join(visit.sites)}",
            "look at the log of the app",
        )  # fmt: skip
    if visit.status in (400, 421):
        return Finding(
            "attention", about,
            f"answers {asked} with {visit.status}: it may not know the name that it was asked for",
            "allow the site's name in the app (ALLOWED_HOSTS and the like), or say preserve_host: "
            "false",
        )  # fmt: skip
    if visit.status == 411:
        return Finding("attention", about, f"answers {asked} with 411")
    return Finding("ok", about, f"answers {asked} with {visit.status}")


def _failure(visit: BackendVisit) -> tuple[str, str]:
    """What is wrong, and what to do."""
    if visit.language is not None:
        return _another_language(visit)
    match visit.reached:
        case "refused":
            return "nobody listens there (connection refused)", "start the app"
        case "missing":
            return (
                f"there is no socket {visit.socket}",
                "start the app, or give the path of the socket that it makes",
            )
        case "forbidden":
            return (
                f"uid {visit.uid}, as which the server runs, may not enter {visit.socket}",
                f"chmod o+rw {visit.socket}, and o+x for each folder above it",
            )
        case "silent":
            return "does not answer in time", "look whether the app is busy or hangs"
        case "unresolved":
            return f"its name has no address ({visit.error})", "correct the name, or the DNS"
        case "untrusted":
            return (
                f"its certificate is not believed: {visit.error}",
                "backend_tls: ca_file says which CAs to trust, server_name which name to expect",
            )
        case "no_tls":
            return f"the TLS handshake failed: {visit.error}", "write http:// if it speaks no TLS"
        case "no_fastcgi":
            return (
                f"what it answers is not FastCGI {visit.error}".rstrip(),
                "write backend: http://HOST:PORT instead of fastcgi if it speaks HTTP",
            )
        case "no_http":
            version = "HTTP/2" if "HTTP/2" in visit.error else "HTTP/1.1"
            return f"what it answers is not {version} {visit.error}".rstrip(), "look at the app"
        case _:
            return f"cannot be reached: {visit.error}", "look at its address, and at firewalls"


def _another_language(visit: BackendVisit) -> tuple[str, str]:
    match visit.language:
        case "fastcgi":
            return (
                "speaks FastCGI and not HTTP",
                f"write fastcgi: {visit.url} with root, or let the app speak HTTP",
            )
        case "h2c":
            step = f"write h2c{visit.url.removeprefix('http')}, or let it speak HTTP/1.1 as well"
            return "speaks HTTP/2 only", step
        case _:
            return "speaks TLS on this port", f"write https{visit.url.removeprefix('http')}"
