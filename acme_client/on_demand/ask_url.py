"""Asks the operator's own program about a name: GET of the ``ask`` URL, where any 2xx is yes.

The question is ``?domain=NAME``, after whatever query the URL has. Any other status is no, and a
redirect is not followed: where the question goes is the configuration's to say. No answer at all is
neither: `CannotTell`.

Only the status line is read, by hand, because that is the way to bound the whole of it: a library's
time-out starts anew with every byte that trickles in. Interim responses (1xx, RFC 9110 §15.2) are
read over.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from urllib.parse import quote, urlsplit

# A handshake waits for it. An app that looks a name up in its database takes milliseconds.
WITHIN = 5.0
# Interim responses in all, as many as nginx and Go read over; and bytes before the final status.
_INTERIM_MOST = 30
_HEAD_MOST = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})[ \r\n]")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


class CannotTell(Exception):
    """Nobody said yes or no; the text says why."""


def ask(url: str, name: str, within: float = WITHIN) -> str | None:
    """None when the name is allowed, else why it is not. ``name`` is a host name already."""
    deadline = time.monotonic() + within
    try:
        status = _status(url, name, deadline)
    except OSError as error:
        raise CannotTell(f"the ask URL cannot be asked: {_reason(error)}") from None
    return None if 200 <= status < 300 else f"the ask URL says {status}"


def _status(url: str, name: str, deadline: float) -> int:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    query = f"{parts.query}&" if parts.query else ""
    head = (
        f"GET {parts.path or '/'}?{query}domain={quote(name, safe='')} HTTP/1.1\r\n"
        f"Host: {parts.netloc.rpartition('@')[2]}\r\nUser-Agent: treehouse-proxy\r\nAccept: */*\r\n"
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
    came = bytearray()
    for _ in range(_INTERIM_MOST + 1):
        _read_until(sock, came, re.compile(rb"\n"), deadline)
        found = _STATUS.match(came)
        if found is None:
            raise CannotTell("the ask URL's answer is not HTTP")
        status = int(found[1])
        if status >= 200:
            return status
        end = _read_until(sock, came, _END_OF_HEAD, deadline)
        del came[:end]
    raise CannotTell(f"the ask URL answers with more than {_INTERIM_MOST} interim responses")


def _read_until(
    sock: socket.socket, came: bytearray, mark: re.Pattern[bytes], deadline: float
) -> int:
    """Read until ``came`` has the mark, or nothing more comes; returns where the mark ends."""
    while (found := mark.search(came)) is None and len(came) < _HEAD_MOST:
        sock.settimeout(_left(deadline))
        piece = sock.recv(4096)
        if not piece:
            break
        came += piece
    return found.end() if found else len(came)


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
