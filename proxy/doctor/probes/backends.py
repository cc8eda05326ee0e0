"""Looks at backends as a worker would reach them: from the server's user, inside its sandbox.

Every backend is asked once, with GET, for the path of its health check or "/". A connection that
gives no HTTP/1.1 is asked again in other languages, so that the finding can name the right one.
Nothing is written but these requests; every step has a bound of time.

A child process does it, which is confined to the very policy of a worker: a backend that only the
doctor can reach is not reached.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from ...config.model import Backend, Config, FastCgiAction, ProxyAction, proxied
from ...handlers.upstream.connector import speaks_http2, tls_context
from ...handlers.upstream.request_head import host_for
from ...protocol.h2.client_session import ClientSession
from ...protocol.h2.engine import Terms
from ...protocol.h2.events import Answer
from ...protocol.h2.frames import ConnectionFailed
from ...sandbox import apply, policies
from ...version import VERSION
from ..rules.backends import BackendVisit, Language, Reached

# Seconds for a connection, and for the beginning of an answer.
_CONNECTED_WITHIN = 3.0
_ANSWERED_WITHIN = 5.0
_AT_ONCE = 16
# Of different backends; a configuration with more is looked at in part.
MOST = 200
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)[ \r\n]")
# FastCGI 1.0 §4.1: version 1, type 9 (FCGI_GET_VALUES), request 0, no content.
_FASTCGI_QUESTION = struct.pack("!BBHHBx", 1, 9, 0, 0, 0)
_FASTCGI_ANSWER = b"\x01\x0a"  # version 1, type 10 (FCGI_GET_VALUES_RESULT)
# RFC 9113 §3.4: the client's preface, and an empty SETTINGS frame.
_HTTP2_QUESTION = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4  # the type of the first frame of an HTTP/2 server
_ALERT = 0x15  # the first byte of a TLS record that carries an alert (RFC 8446 §5.1)
_UNREACHED: dict[int, Reached] = {
    errno.ECONNREFUSED: "refused",
    errno.ENOENT: "missing",
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
    errno.ENOTDIR: "missing",
}


def visit_all(config: Config, sites: Sequence[str]) -> list[BackendVisit]:
    """Return a visit for each backend of ``sites`` (first names), or of all where it is empty."""
    wanted = list(_wanted(config, sites))[:MOST]
    if not wanted:
        return []
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as pipe:
                apply(policies(config)["worker"], "off" if config.sandbox == "off" else "auto")
                json.dump([asdict(one) for one in _look(wanted)], pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        return []
    return [BackendVisit(**(one | {"sites": tuple(one["sites"])})) for one in json.loads(text)]


def _wanted(
    config: Config, sites: Sequence[str]
) -> Iterator[tuple[Backend, ProxyAction, tuple[str, ...], str]]:
    """Backends with their action, the sites that need them, and the name to ask for."""
    found: dict[str, tuple[Backend, ProxyAction, list[str]]] = {}
    for site in config.sites:
        if sites and site.names[0] not in sites:
            continue
        for _, action in proxied([site]):
            for backend in action.backends:
                entry = found.setdefault(backend.url, (backend, action, []))
                if site.names[0] not in entry[2]:
                    entry[2].append(site.names[0])
    for backend, action, needed_by in found.values():
        host = needed_by[0].replace("*", "www", 1)
        yield backend, action, tuple(needed_by), host


def _look(
    wanted: Sequence[tuple[Backend, ProxyAction, tuple[str, ...], str]],
) -> list[BackendVisit]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda one: _visit(*one), wanted))


def _visit(
    backend: Backend, action: ProxyAction, sites: tuple[str, ...], site: str
) -> BackendVisit:
    path = backend.prefix + ((action.health and action.health.path) or "/")
    reached, status, error, language = _ask(backend, action, site, path)
    return BackendVisit(
        backend.url, sites, reached, path, status, error, language,
        backend.scheme == "https", backend.path, os.geteuid(),
    )  # fmt: skip


def _ask(
    backend: Backend, action: ProxyAction, site: str, path: str
) -> tuple[Reached, int, str, Language | None]:
    """Return how far the request came, the status, an error in words, and another language."""
    try:
        sock = _connected(backend)
    except socket.gaierror as error:
        return "unresolved", 0, error.strerror or str(error), None
    except TimeoutError:
        return "silent", 0, "", None
    except OSError as error:
        reached = _UNREACHED.get(error.errno or 0, "unreachable")
        if reached == "forbidden" and backend.scheme != "unix":
            reached = "unreachable"
        return reached, 0, error.strerror or str(error), None
    with sock:
        sock.settimeout(_ANSWERED_WITHIN)
        if isinstance(action, FastCgiAction):
            return _ask_fastcgi(sock)
        stream: socket.socket = sock
        if backend.scheme == "https":
            context = tls_context(action)
            assert context is not None  # noqa: S101 - made for every https backend
            try:
                name = action.tls.server_name or backend.host
                stream = context.wrap_socket(sock, server_hostname=name)
            except ssl.SSLCertVerificationError as error:
                return "untrusted", 0, error.verify_message, None
            except TimeoutError:
                return "silent", 0, "", None
            except OSError as error:
                return "no_tls", 0, getattr(error, "reason", None) or str(error), None
        host = host_for(action, backend) or site
        if speaks_http2(backend, action):
            return _ask_http2(stream, path, host)
        try:
            beginning = _beginning(stream, _request(path, host))
        except TimeoutError:
            beginning = None
        except OSError:
            beginning = b""
    if beginning and (found := _STATUS_LINE.match(beginning)):
        status = int(found[1])
        plain = status == 400 and b"HTTPS port" in beginning
        return "answer", status, "", "tls" if plain else None
    language = None if backend.scheme == "https" else _language(backend, beginning or b"")
    if beginning is None and language is None:
        return "silent", 0, "", None
    shown = f"({beginning[:40]!r})" if beginning else "(the connection was closed)"
    return "no_http", 0, shown, language


def _ask_fastcgi(sock: socket.socket) -> tuple[Reached, int, str, Language | None]:
    """As `_ask`, where FastCGI is expected. What the scripts do is not looked at."""
    try:
        heard = _beginning(sock, _FASTCGI_QUESTION)
    except TimeoutError:
        return "silent", 0, "", None
    except OSError as error:
        return "no_fastcgi", 0, f"({error.strerror})", None
    if heard.startswith(_FASTCGI_ANSWER):
        return "fastcgi", 0, "", None
    return "no_fastcgi", 0, f"({heard[:40]!r})" if heard else "(the connection was closed)", None


def _ask_http2(
    stream: socket.socket, path: str, host: str
) -> tuple[Reached, int, str, Language | None]:
    """As `_ask`, over HTTP/2."""
    scheme = b"http"
    if isinstance(stream, ssl.SSLSocket):
        scheme = b"https"
        if stream.selected_alpn_protocol() != "h2":
            return "no_http", 0, "(it does not offer HTTP/2: leave backend_tls: http2 out)", None
    session = ClientSession(Terms(), time.monotonic())
    head = [
        (b":method", b"GET"),
        (b":scheme", scheme),
        (b":authority", host.encode("ascii")),
        (b":path", path.encode("ascii")),
        (b"user-agent", b"treehouse-proxy (doctor)"),
    ]
    session.request(head, True)
    try:
        while True:
            stream.sendall(session.take())
            data = stream.recv(4096)
            if not data:
                return "no_http", 0, "(the connection was closed: does it speak HTTP/2?)", None
            for event in session.receive(data, time.monotonic()):
                if isinstance(event, Answer) and event.status >= 200:
                    return "answer", event.status, "", None
    except TimeoutError:
        return "silent", 0, "", None
    except (OSError, ConnectionFailed) as error:
        return "no_http", 0, f"({error}: does it speak HTTP/2?)", None


def _language(backend: Backend, beginning: bytes) -> Language | None:
    """Return the language that is spoken instead of HTTP/1.1, as far as it can be found out."""
    if beginning[:1] == bytes([_ALERT]):
        return "tls"
    if len(beginning) >= 9 and beginning[3] == _SETTINGS:
        return "h2c"
    if _answer_to(backend, _FASTCGI_QUESTION).startswith(_FASTCGI_ANSWER):
        return "fastcgi"
    heard = _answer_to(backend, _HTTP2_QUESTION)
    if len(heard) >= 9 and heard[3] == _SETTINGS and heard[5:9] == bytes(4):
        return "h2c"
    if _shakes_hands(backend):
        return "tls"
    return None


def _answer_to(backend: Backend, question: bytes) -> bytes:
    try:
        with _connected(backend) as sock:
            sock.settimeout(_CONNECTED_WITHIN)
            return _beginning(sock, question)
    except OSError:
        return b""


def _shakes_hands(backend: Backend) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(backend) as sock:
            sock.settimeout(_CONNECTED_WITHIN)
            with context.wrap_socket(sock):
                return True
    except OSError:
        return False


def _connected(backend: Backend) -> socket.socket:
    """Return a connection. Raises `OSError`."""
    if backend.scheme == "unix":
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(_CONNECTED_WITHIN)
            path = backend.path
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
        except BaseException:
            sock.close()
            raise
        return sock
    return socket.create_connection((backend.host, backend.port), _CONNECTED_WITHIN)


def _beginning(sock: socket.socket, question: bytes) -> bytes:
    """Send a question, and return the beginning of the answer: 64 bytes, or all there will be."""
    sock.sendall(question)
    heard = b""
    while len(heard) < 512 and b"\r\n\r\n" not in heard:
        try:
            piece = sock.recv(4096)
        except TimeoutError:
            if heard:
                break
            raise
        if not piece:
            break
        heard += piece
        if len(heard) >= 9 and not heard.startswith(b"HTTP/"):
            break
    return heard


def _request(path: str, host: str) -> bytes:
    text = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: treehouse-proxy/{VERSION} (doctor)\r\n"
        "Accept: */*\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
    )
    return text.encode("ascii")
