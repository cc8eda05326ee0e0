"""The operator's own word on a name: GET of the ``ask`` URL, where 200 is yes.

The question is ``?domain=NAME``, after whatever query the URL has. Anything but 200 is no, and a
redirect is not followed: where the question goes is the configuration's to say. No answer at all is
neither: `CannotTell`.

Only the status line is read, by hand, because that is the way to bound the whole of it: a library's
time-out starts anew with every byte that trickles in.
"""

from __future__ import annotations

import http
import re
import socket
import ssl
import time
from urllib.parse import quote, urlsplit

# A handshake waits for it. An app that looks a name up in its database takes milliseconds.
WITHIN = 5.0
_LINE = 4096
_STATUS = re.compile(rb"HTTP/1\.[01] ([2-5][0-9]{2})[ \r\n]")


class CannotTell(Exception):
    """Nobody said yes or no; the text says why."""


def ask(url: str, name: str, within: float = WITHIN) -> str | None:
    """None when the name is allowed, else why it is not. ``name`` is a host name already."""
    deadline = time.monotonic() + within
    try:
        status = _status(url, name, deadline)
    except OSError as error:
        raise CannotTell(f"the ask URL cannot be asked: {_reason(error)}") from None
    return None if status == http.HTTPStatus.OK else f"the ask URL says {status}"


def _status(url: str, name: str, deadline: float) -> int:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    query = f"{parts.query}&" if parts.query else ""
    head = (
        f"GET {parts.path or '/'}?{query}domain={quote(name, safe='')} HTTP/1.1\r\n"
        f"Host: {parts.netloc}\r\nUser-Agent: treehouse-proxy\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n"
    ).encode("ascii")
    with socket.create_connection((host, port), _left(deadline)) as plain:
        if not secure:
            return _exchange(plain, head, deadline)
        plain.settimeout(_left(deadline))
        context = ssl.create_default_context()
        with context.wrap_socket(plain, server_hostname=host) as tls:
            return _exchange(tls, head, deadline)


def _exchange(sock: socket.socket, head: bytes, deadline: float) -> int:
    sock.settimeout(_left(deadline))
    sock.sendall(head)
    line = b""
    while b"\n" not in line and len(line) < _LINE:
        sock.settimeout(_left(deadline))
        piece = sock.recv(_LINE)
        if not piece:
            break
        line += piece
    found = _STATUS.match(line)
    if found is None:
        raise CannotTell("the ask URL's answer is not HTTP")
    return int(found[1])


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted: {error.verify_message}"
    return (error.strerror or str(error)).lower()
