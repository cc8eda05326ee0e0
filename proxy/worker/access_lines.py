"""The forms of a line in the access log, each a pure function of a finished exchange.

    json            every fact, for programs
    text            the same for people, a line each
    combined        Apache's and nginx's form, which GoAccess, AWStats and fail2ban read
    vhost_combined  the same with the name and port of the site in front

A line is one f-string: `json.dumps` of a dict takes five times as long. The C encoder behind `json`
escapes what came from the network and leaves only printable ASCII. So a line cannot be split, and
a terminal that shows it cannot be driven. The combined forms escape as Apache does: a backslash
before a quote or a backslash, and a backslash, x and two hex digits for any other byte.

``own_id`` stands for a request id of ours, where the request has none that it was given.
"""

from __future__ import annotations

import json.encoder
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from ..bounded_cache import remember
from ..protocol.exchange import Exchange, PartialHead
from ..protocol.message import Request

# The C function that json.dumps uses for strings: quotes, and escapes all but space to tilde.
_quote = json.encoder.encode_basestring_ascii

Line = Callable[[str, Exchange, str], str]

# How RFC 9112 §2.3 and Apache's %H spell the version of a request.
PROTOCOLS = {b"1.1": "HTTP/1.1", b"1.0": "HTTP/1.0", b"2": "HTTP/2.0", b"2.0": "HTTP/2.0"}


def json_line(moment: str, exchange: Exchange, own_id: str = "") -> str:
    """Return the line as a JSON object; a fact that is not known is null."""
    connection, request, response = exchange.connection, exchange.request, exchange.response
    assert response is not None  # noqa: S101 - it is finished
    error = exchange.error or response.error
    if request is None:
        part = exchange.partial or PartialHead()
        asked = (
            f'"host":{_or_null(part.host)},"method":{_or_null(part.method)}'
            f',"target":{_or_null(part.target)},"protocol":null'
        )
        by = '"referrer":null,"user_agent":null'
        request_id = "null"
    else:
        asked = (
            f'"host":{_quote(request.host.decode("latin-1"))}'
            f',"method":{_quote(request.method.decode("latin-1"))}'
            f',"target":{_quote(request.target.decode("latin-1"))}'
            f',"protocol":"{PROTOCOLS.get(request.version, "")}"'
        )
        referrer, agent = referrer_and_agent(request)
        by = (
            f'"referrer":{_quoted(referrer) if referrer else "null"}'
            f',"user_agent":{_quoted(agent) if agent else "null"}'
        )
        request_id = _quote(request.id.decode("latin-1") or own_id)
    tls = f'"{connection.tls_version}"' if connection.tls_version else "null"
    backend = _quote(response.backend) if response.backend else "null"
    return (
        f'{{"time":"{moment}","log":"access","peer":{_quote(exchange.client)},{asked}'
        f',"status":{response.status},"bytes":{exchange.sent}'
        f',"duration_ms":{exchange.duration * 1000:.3f}'
        f',"handler":"{response.handler}","backend":{backend},"request_id":{request_id}'
        f',"tls":{tls},{by},"error":{_quote(error) if error else "null"}}}\n'
    )


def text_line(moment: str, exchange: Exchange, own_id: str = "-") -> str:
    """Return the line for people: the facts in a row, with ``access`` where the operational log
    names a process."""
    connection, request, response = exchange.connection, exchange.request, exchange.response
    assert response is not None  # noqa: S101 - it is finished
    if request is None:
        part = exchange.partial or PartialHead()
        words = b" ".join(one for one in (part.method, part.target) if one is not None)
        host = _within(part.host or b"-").replace(" ", "\\u0020")
        parties, tls = f"{_within(exchange.client)} {host}", connection.tls_version or "-"
        asked, request_id, taken = _quote((words or b"-").decode("latin-1")), "-", _TENTHS[0]
    else:
        # From request to request of a connection they are the same: looked up once.
        known = connection.named_in_log
        if known is None or known[0] != request.host or connection.proxies is not None:
            known = connection.named_in_log = named(exchange, request)
        _host, parties, tls = known
        asked = _quote((request.method + b" " + request.target).decode("latin-1"))
        request_id = own_id
        if request.id:
            request_id = request.id.decode("latin-1")
            if not (request_id.isascii() and request_id.isprintable()):
                request_id = _quote(request_id)[1:-1]
        tenths = int(exchange.duration * 10000 + 0.5)
        taken = _TENTHS[tenths] if tenths < 1000 else f"{tenths / 10:.1f}ms"
    return (
        f"{moment} access {parties} {asked} {response.status} {exchange.sent}"
        f" {taken} {response.handler or '-'} {response.backend or '-'}"
        f" {request_id} {tls} {exchange.error or response.error or '-'}\n"
    )


def named(exchange: Exchange, request: Request) -> tuple[bytes, str, str]:
    """What `text_line` says of a connection and a host: the host as it came; client and host; the
    version of TLS."""
    host = _known.get(request.host) or _within(request.host) or "-"
    parties = f"{_within(exchange.client)} {host}"
    return request.host, parties, exchange.connection.tls_version or "-"


def combined_line(moment: str, exchange: Exchange, _own_id: str = "") -> str:
    """Return the line as Apache's ``combined``: ``%h %l %u %t "%r" %>s %B "%{Referer}i"
    "%{User-agent}i"``. Of a request that was refused before it was
    understood there is what could be read."""
    request, response = exchange.request, exchange.response
    assert response is not None  # noqa: S101 - it is finished
    if request is None:
        part = exchange.partial or PartialHead()
        words = [apache_escaped(one) for one in (part.method, part.target) if one is not None]
        asked, referrer, agent = " ".join(words) or "-", "-", "-"
    else:
        version = PROTOCOLS.get(request.version, "-")
        asked = f"{apache_escaped(request.method)} {apache_escaped(request.target)} {version}"
        by = referrer_and_agent(request)
        referrer, agent = (apache_escaped(one) if one else "-" for one in by)
    client = exchange.client
    peer = _known.get(client) or _within(client)
    user = apache_escaped(exchange.user.encode()).replace(" ", "\\x20") if exchange.user else "-"
    counted = f"{response.status} {exchange.sent}"
    return f'{peer} - {user} [{moment}] "{asked}" {counted} "{referrer}" "{agent}"\n'


def vhost_combined_line(moment: str, exchange: Exchange, own_id: str = "") -> str:
    """Return the line as Apache's ``vhost_combined``: ``%v:%p`` and a ``combined`` line."""
    request, partial = exchange.request, exchange.partial
    host = "-"
    if request is not None and request.host:
        host = _known.get(request.host) or _within(request.host)
    elif partial is not None and partial.host:
        host = _within(partial.host).replace(" ", "\\u0020")
    port = exchange.connection.local_port
    return f"{host}:{port} {combined_line(moment, exchange, own_id)}"


def with_trace(line: Line, form: str) -> Line:
    """Put the number of the trace at the end of a line that programs or people read; the combined
    forms have no place for it."""
    if form not in ("json", "text"):
        return line

    def traced_line(moment: str, exchange: Exchange, own_id: str = "") -> str:
        text = line(moment, exchange, own_id)
        trace = getattr(exchange.request, "trace", None)
        if trace is None:
            return text
        if form == "json":
            return f'{text[:-2]},"trace_id":"{trace.trace_id}"}}\n'
        return f"{text[:-1]} {trace.trace_id}\n"

    return traced_line


def rfc3339(second: int, millisecond: int) -> str:
    """Return a moment (Unix seconds and thousandths) like 2026-11-28T20:00:00.123Z."""
    return f"{_rfc3339_second(second)}.{millisecond:03d}Z"


def common_log(second: int, _millisecond: int) -> str:
    """Return a moment like 28/Nov/2026:20:00:00 +0000, in English whatever the locale."""
    at = time.gmtime(second)
    return (
        f"{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}"
        f":{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} +0000"
    )


class Form(NamedTuple):
    """``line`` makes a line; ``moment`` its time, of Unix seconds and thousandths."""

    line: Line
    moment: Callable[[int, int], str]


FORMS = {
    "json": Form(json_line, rfc3339),
    "text": Form(text_line, rfc3339),
    "combined": Form(combined_line, common_log),
    "vhost_combined": Form(vhost_combined_line, common_log),
}

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Durations are short, and a look-up is cheaper than the formatting of a float.
_TENTHS = [f"{tenths // 10}.{tenths % 10}ms" for tenths in range(1000)]
# Peers, hosts and user agents, as text and as bytes, that need no second look; bounded.
_known: dict[str | bytes, str] = {}
_MOST_KNOWN = 4096
_second: tuple[int, str] = (-1, "")
# Everything but printable ASCII, and what ends or escapes a quoted string.
_TO_ESCAPE = re.compile(rb"[^ !#-\[\]-~]")


def _rfc3339_second(second: int) -> str:
    global _second
    if _second[0] != second:
        _second = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return _second[1]


def _within(text: str | bytes) -> str:
    """Escape as within quotes, which are left out."""
    known = _known.get(text)
    if known is None:
        known = _quote(text if isinstance(text, str) else text.decode("latin-1"))[1:-1]
        remember(_known, text, known, _MOST_KNOWN)
    return known


def _or_null(text: bytes | None) -> str:
    return "null" if text is None else _quote(text.decode("latin-1"))


def _quoted(text: bytes) -> str:
    return f'"{_known.get(text) or _within(text)}"'


def referrer_and_agent(request: Request) -> tuple[bytes, bytes]:
    """The fields Referer and User-Agent; b"" for a field that is not there."""
    referrer = agent = b""
    for name, value in request.fields:
        if name == b"user-agent":
            agent = value
        elif name == b"referer":
            referrer = value
    return referrer, agent


def apache_escaped(text: bytes) -> str:
    """Escape as Apache does within quotes."""
    return _TO_ESCAPE.sub(_escaped, text).decode("ascii")


def _escaped(found: re.Match[bytes]) -> bytes:
    byte = found.group()
    return b"\\" + byte if byte in b'"\\' else b"\\x%02x" % byte[0]
