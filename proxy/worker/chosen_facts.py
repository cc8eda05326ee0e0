"""Lines of the access log that hold what a site says they shall: `log: {fields: […]}`.

    json            an object with the time and these facts
    text            the time, and NAME=VALUE for each
    combined        the form that it has, with "-" for what is not among them

The facts are those of the JSON line, and more that only such a site asks for: the user, the path
without the query, a field of the request or of the answer. They cannot be written without being
escaped, so a line cannot be split by what a client sends.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..protocol.exchange import Exchange, PartialHead
from ..protocol.message import Fields
from .access_lines import PROTOCOLS, Line, apache_escaped, json_line, referrer_and_agent

_LONGEST = 1024  # characters of a field's value; the rest is left out


def line_of(form: str, facts: Sequence[str]) -> Line:
    """Make what writes lines of a form with these facts."""
    if form == "json":
        return lambda moment, exchange, own_id: _json(facts, moment, exchange, own_id)
    if form == "text":
        return lambda moment, exchange, own_id: _text(facts, moment, exchange, own_id)
    wide = form == "vhost_combined"
    return lambda moment, exchange, _own_id: _combined(facts, wide, moment, exchange)


def _json(facts: Sequence[str], moment: str, exchange: Exchange, own_id: str) -> str:
    found = {"time": moment, "log": "access"} | _found(facts, exchange, own_id)
    return json.dumps(found, separators=(",", ":")) + "\n"


def _text(facts: Sequence[str], moment: str, exchange: Exchange, own_id: str) -> str:
    words = [moment, "access"]
    for name, value in _found(facts, exchange, own_id).items():
        text = "-" if value is None else value
        plain = isinstance(text, int | float) or (
            text.isascii() and text.isprintable() and not set(' "\\') & set(text) and text != ""
        )
        words.append(f"{name}={text if plain else json.dumps(text)}")
    return " ".join(words) + "\n"


def _combined(facts: Sequence[str], wide: bool, moment: str, exchange: Exchange) -> str:
    """Write Apache's form, whose parts have their places."""
    request, response = exchange.request, exchange.response
    assert response is not None  # noqa: S101 - it is finished
    words = {"peer": exchange.client.encode(), "user": (exchange.user or "").encode()}
    words |= {"status": b"%d" % response.status, "bytes": b"%d" % exchange.sent}
    if request is not None:
        referrer, agent = referrer_and_agent(request)
        words |= {
            "method": request.method,
            "target": request.target,
            "path": request.path,
            "protocol": PROTOCOLS.get(request.version, "-").encode(),
            "referrer": referrer,
            "user_agent": agent,
            "host": request.host,
        }
    elif (part := exchange.partial) is not None:
        known = {"method": part.method, "target": part.target, "host": part.host}
        known["path"] = _path_of(part)
        words |= {name: value for name, value in known.items() if value is not None}

    def told(name: str) -> str:
        return apache_escaped(words.get(name, b"")) or "-" if name in facts else "-"

    user = told("user").replace(" ", "\\x20")
    asked = f"{told('method')} {told('target' if 'target' in facts else 'path')} {told('protocol')}"
    counted = f"{told('status')} {told('bytes')}"
    line = f'{told("peer")} - {user} [{moment}] "{asked}" {counted}'
    host = told("host").replace(" ", "\\x20")  # of a request that was refused: whatever stood there
    before = f"{host}:{exchange.connection.local_port} " if wide else ""
    return f'{before}{line} "{told("referrer")}" "{told("user_agent")}"\n'


def _found(
    facts: Sequence[str], exchange: Exchange, own_id: str
) -> dict[str, str | int | float | None]:
    usual = json.loads(json_line("", exchange, own_id))
    return {name: usual[name] if name in usual else _more(name, exchange) for name in facts}


def _more(name: str, exchange: Exchange) -> str | None:
    request, response = exchange.request, exchange.response
    kind, _, field = name.partition(":")
    match kind:
        case "user":
            return exchange.user or None
        case "site":
            return None if exchange.match is None else exchange.match.site_name
        case "path":
            path = _path_of(exchange.partial) if request is None else request.path
            return None if path is None else path.decode("latin-1")
        case "request":
            return None if request is None else _value(request.fields, field)
        case "response":
            return None if response is None else _value(response.fields, field)
    return None


def _path_of(part: PartialHead | None) -> bytes | None:
    """Return the path of a head that never became a request, where a path stands in its place."""
    if part is None or part.target is None or not part.target.startswith(b"/"):
        return None
    return part.target.partition(b"?")[0]


def _value(fields: Fields, name: str) -> str | None:
    found = [value for key, value in fields if key == name.encode()]
    return b", ".join(found).decode("latin-1")[:_LONGEST] if found else None
