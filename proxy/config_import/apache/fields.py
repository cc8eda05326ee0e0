"""Fields of requests and responses, error pages, sizes: what stands beside an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..draft import Route
from ..substitution import substituted
from ..times import size
from .directives import Directive, here, last

_VARIABLE = re.compile(r"%\{([A-Za-z_:]+)\}[es]?")
_IN_FIELDS = {
    "REMOTE_ADDR": "{client}",
    "HTTP_HOST": "{host}",
    "SERVER_NAME": "{host}",
    "REQUEST_URI": "{path}",
    "UNIQUE_ID": "{id}",
    "REQUEST_SCHEME": "{scheme}",
}


def add(directives: Sequence[Directive], route: Route) -> None:
    """Add what directives say beside a route's answer; an inner section's come after an outer's."""
    for one in here(directives, "header"):
        _header(one, route, "headers")
    for one in here(directives, "requestheader"):
        if route.action == "backend":
            _header(one, route, "request_headers")
    for one in here(directives, "errordocument"):
        if len(one.args) != 2 or route.action == "redirect":
            continue
        status, page = one.args
        if route.action == "respond" and route.value("respond") != {"status": status}:
            continue
        if page.startswith("/"):
            # A backend that cannot be reached is 503 there and 502 here.
            there = route.value("error_pages") or {}
            statuses = "502,503" if status == "503" and "502" not in there else status
            if status == "502" and "502,503" in there:
                route.put(
                    "error_pages",
                    {("503" if k == "502,503" else k): v for k, v in there.items()},
                    one.place,
                )
            route.put_in(("error_pages", statuses), page, one.place)
        else:
            route.leave(one.place, str(one), "an error page is a file, or a path of the site")
    override = last(directives, "proxyerroroverride")
    if override is not None and override.arg.lower() == "on" and route.action == "backend":
        route.put("intercept", True, override.place)
    largest = last(directives, "limitrequestbody")
    if largest is not None and route.action in ("backend", "fastcgi"):
        text = "unlimited" if largest.arg == "0" else size(largest.arg)
        route.put("body_size", text, largest.place)


def _header(one: Directive, route: Route, key: str) -> None:
    words = [word for word in one.args if word.lower() not in ("always", "onsuccess")]
    if len(words) < 2:
        return
    action, name, *rest = words
    value = rest[0] if rest else ""
    action = action.lower()
    if len(rest) > 1 and rest[1].startswith(("env=", "expr=", "early")):
        route.leave(one.place, str(one), "a field is written in every case")
        return
    if key == "request_headers" and name.lower().startswith("x-forwarded-"):
        return  # told by itself
    if name.lower() == "host" and key == "request_headers":
        route.fix_host(one.place, str(one), value if action == "set" else "")
        return
    if action == "unset":
        route.put_in((key, "remove"), [name], one.place)
        return
    made = _value(value)
    if made is None:
        route.leave(one.place, str(one), "it has a variable that is not known here")
        return
    match action:
        case "set":
            if name.lower() == "cache-control" and "root" in route.keys:
                there = route.value("cache_control") or {}
                route.put("cache_control", {**there, "*": made}, one.place)
            else:
                route.put_in((key, "set", name), made, one.place)
        case "setifempty" if key == "headers":
            route.put_in((key, "default", name), made, one.place)
        case "add" | "append" | "merge" | "setifempty":
            route.put_in((key, "add", name), made, one.place)
        case _:
            route.leave(one.place, str(one), "a value is replaced as a whole")


def _value(text: str) -> str | None:
    made = substituted(_VARIABLE, text, lambda found: _IN_FIELDS.get(found[1]))
    return None if made is None else made.replace("%%", "%")
