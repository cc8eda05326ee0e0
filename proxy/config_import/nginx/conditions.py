"""``if`` of the common kinds: by host, by method, by a field or parameter of the request."""

from __future__ import annotations

import re
from typing import Any

from ..draft import Level, Place
from .directives import Directive, Scope

_EVERYTHING = ("^", "^/(.*)$", "^/(.*)", "^(.*)$", "^(.*)", "^/?(.*)$")
_FIELD = re.compile(r"\$(?:http_(\w+)|arg_(\w+)|cookie_(\w+))")


def hosts(scope: Scope, names: list[str]) -> list[tuple[list[str], str, str, Place]]:
    """Return names that an ``if ($host …)`` sends elsewhere: which, where to, with what status, and
    the place. A block that sends all its names elsewhere is not meant."""
    found = []
    for one in scope.directives:
        if one.name != "if" or one.args[:1] not in (("$host",), ("$http_host",), ("$server_name",)):
            continue
        said = _sent_elsewhere(one)
        if said is None:
            continue
        meant = _names(one.args[1:], names)
        if meant is None:
            continue
        one.use()
        target, status = said
        if meant and not re.match(r"https://\$(?:http_)?host\b", target):
            found.append((meant, target, status, one.place))
    return found


def _names(condition: tuple[str, ...], names: list[str]) -> list[str] | None:
    """Return which of the names a condition means; None where that cannot be told."""
    if len(condition) != 2:
        return None
    operator, text = condition
    match operator:
        case "=":
            return [name for name in names if name == text]
        case "!=":
            return [name for name in names if name != text]
        case "~" | "~*" | "!~" | "!~*":
            try:
                pattern = re.compile(text, re.IGNORECASE)
            except re.error:
                return None
            wanted = not operator.startswith("!")
            return [name for name in names if bool(pattern.search(name)) is wanted]
    return None


def _sent_elsewhere(one: Directive) -> tuple[str, str] | None:
    for inner in one.block or ():
        if inner.name == "return" and len(inner.args) == 2 and inner.args[1].startswith("http"):
            return inner.args[1], inner.args[0]
        if inner.name != "rewrite" or len(inner.args) != 3 or inner.args[0] not in _EVERYTHING:
            continue
        if inner.args[1].startswith("http"):
            slash = "" if inner.args[0].startswith("^(") else "/"
            target = re.sub(rf"{slash}\$1$", "$request_uri", inner.args[1])
            return target, "301" if inner.args[2] == "permanent" else "302"
    return None


def methods(one: Directive) -> list[str] | None:
    """Return the methods that an ``if ($request_method !~ …)`` lets pass; None where it is another
    condition."""
    if one.args[:1] != ("$request_method",) or len(one.args) != 3:
        return None
    if not any(inner.name == "return" and inner.arg[:1] == "4" for inner in one.block or ()):
        return None
    operator, text = one.args[1:]
    if operator in ("!~", "!~*"):
        found = re.fullmatch(r"\^?\(?(?:\?:)?([A-Za-z|]+)\)?\$?", text)
        return found[1].upper().split("|") if found else None
    return [text] if operator == "!=" and text.isalpha() else None


def match(one: Directive) -> dict[str, Any] | None:
    """Return a condition as ``match`` has it; None where ``match`` knows none for it."""
    if not one.args:
        return None
    variable, operator, text = (*one.args, "", "")[:3]
    if (variable, operator) == ("$remote_addr", "="):
        return {"from": [text]}
    found = _FIELD.fullmatch(variable)
    if not found or len(one.args) not in (1, 3) or "$" in text.rstrip("$"):
        return None
    header, parameter, _cookie = found.groups()
    kind, name = ("header", (header or "").replace("_", "-")) if header else ("query", parameter)
    if not name:
        return None
    match operator:
        case "":
            test = "*"
        case "=" if text:
            test = text
        case "~":
            test = f"re:{text}"
        case "~*":
            test = f"re:(?i){text}"
        case _:
            return None
    return {kind: {name: test}}


def asks_for_certificate(one: Directive) -> bool:
    """Whether a condition is ``if ($ssl_client_verify != SUCCESS) { return 403; }``."""
    return one.args == ("$ssl_client_verify", "!=", "SUCCESS") and any(
        inner.name == "return" for inner in one.block or ()
    )


def required(one: Directive) -> dict[str, Any] | None:
    """Return what an ``if`` with != or !~ asks of every request, as ``match`` has it; None where
    ``match`` knows none for it."""
    if len(one.args) != 3 or one.args[1] not in ("!=", "!~", "!~*"):
        return None
    variable, operator, text = one.args
    if variable == "$remote_addr" and operator == "!=":
        return {"from": [text]}
    turned = Directive("if", (variable, operator.replace("!", "") or "=", text), one.place)
    return match(turned)


def front_controller(one: Directive) -> str | None:
    """Return the script of ``if (!-e $request_filename) { rewrite ^ /index.php last; }``; None
    where it is another condition."""
    if one.args[:2] not in (("!-e", "$request_filename"), ("!-f", "$request_filename")):
        return None
    for inner in one.block or ():
        if inner.name == "rewrite" and len(inner.args) >= 2:
            found = re.match(r"(/[\w./-]+)", inner.args[1])
            return found[1] if found else None
    return None


def leave(one: Directive, level: Level) -> None:
    one.use()
    inner = "; ".join(str(each) for each in one.block or ())
    guard = any(
        each.name in ("return", "deny") and each.arg[:1] in "4a" for each in one.block or ()
    )
    text = f"if ({' '.join(one.args)}) {{ {inner} }}"
    level.leave(one.place, text, "this condition has no counterpart in match", guard=guard)
