"""Caddy's matchers: paths, and what `match` and ``methods`` know beside them."""

from __future__ import annotations

import re
from typing import Any

from ..path_patterns import NO_ROUTE, endings, forms
from ..shapes import Matcher, beneath
from .tokens import Directive

_PRIVATE = "private_ranges"


def path_shapes(pattern: str) -> tuple[list[str], list[str]] | None:
    """Return the routes of a path pattern, and endings of file names. None where it has neither."""
    if pattern in ("*", "/*"):
        return ["/*"], []
    if re.fullmatch(r"\*\.[A-Za-z0-9_.]+", pattern):
        return [], [pattern[2:]]
    if "*" not in pattern:
        return [pattern if pattern.startswith("/") else f"/{pattern}"], []
    if pattern.endswith("/*") and "*" not in pattern[:-1]:
        return [pattern], []
    if pattern.endswith("*") and "*" not in pattern[:-1]:
        return beneath(pattern[:-1]), []
    return None


def of_word(word: str, named: dict[str, Matcher]) -> Matcher | None:
    """Return the matcher that stands behind a directive's name; None where the word is none."""
    if word == "*":
        return Matcher()
    if word.startswith("@"):
        return named.get(word, Matcher(unknown=f"{word} is not defined", never=True))
    if word.startswith("/"):
        found = path_shapes(word)
        if found is None:
            return Matcher(unknown=f"{word} is no path of a route", never=True)
        return Matcher(tuple(found[0]) or None, endings=tuple(found[1]))
    return None


def named(one: Directive) -> Matcher:
    """Read ``@name …``, which is one line, or a block of conditions that must all hold."""
    parts = list(one.block or ())
    if one.args:
        first = _line(one.args, one)
        parts.insert(0, first)
    found: dict[str, Any] = {"conditions": {}}
    for part in parts:
        why = _part(part, found)
        if why:
            return Matcher(unknown=f"{part}: {why}", never=True)
    return Matcher(**found)


def _line(args: list[str], one: Directive) -> Directive:
    if args[0].startswith(("`", "{")) or (len(args) == 1 and " " in args[0]):
        return Directive("expression", args, one.place)
    return Directive(args[0], args[1:], one.place)


def _part(part: Directive, found: dict[str, Any]) -> str:
    """Add one condition to ``found``. Return why that cannot be, and "" where it can."""
    args = part.args
    match part.name:
        case "path":
            paths, ends = list(found.get("paths") or ()), list(found.get("endings", ()))
            for word in args:
                shapes = path_shapes(word)
                if shapes is None:
                    found["partly"] = f"{word} is no path of a route"
                    continue
                paths += shapes[0]
                ends += shapes[1]
            if paths and ends:
                found["partly"] = "paths and endings of file names together"
                ends = []
            if not paths and not ends:
                return str(found.get("partly", "it names no path"))
            found["paths"], found["endings"] = tuple(paths) or None, tuple(ends)
        case "path_regexp":
            expression = args[-1] if args else ""
            shapes_of = forms(expression)
            names = endings(expression)
            if names:
                found["endings"] = tuple(names)
            elif shapes_of is None:
                return NO_ROUTE
            else:
                found["paths"] = tuple(form.path for form in shapes_of)
                found["forms"] = {form.path: form for form in shapes_of}
        case "method":
            found["methods"] = tuple(word.upper() for word in args)
        case "host":
            found["hosts"] = tuple(args)
        case "header" if len(args) == 2 and not args[0].startswith("!"):
            found["conditions"].setdefault("header", {})[args[0]] = _pattern(args[1])
        case "header_regexp" if len(args) >= 2:
            found["conditions"].setdefault("header", {})[args[-2]] = f"re:{args[-1]}"
        case "query" if args and all("=" in word for word in args):
            for word in args:
                name, _equals, value = word.partition("=")
                found["conditions"].setdefault("query", {})[name] = _pattern(value)
        case "remote_ip" | "client_ip" if args and "forwarded" not in args:
            found["conditions"]["from"] = ["private" if one == _PRIVATE else one for one in args]
        case "protocol":
            if args == ["https"]:
                return ""
            return "here is nothing but https"
        case "not":
            inner = part.block or [_line(args, part)]
            for each in inner:
                if each.name != "path":
                    why = _negated(inner, found)
                    if why:
                        return why
                    break
                for word in each.args:
                    shapes = path_shapes(word)
                    if shapes is None or shapes[1]:
                        return f"{word} is no path of a route"
                    found["except_paths"] = (*found.get("except_paths", ()), *shapes[0])
        case "expression":
            return "an expression is a filter in Python here (use)"
        case "file":
            return "whether a file is there is asked by root and fallback alone"
        case _:
            return "this condition has no counterpart in match"
    return ""


def _negated(inner: list[Directive], found: dict[str, Any]) -> str:
    """Add ``not remote_ip …`` or ``not header …``, by which a rule refuses all others. Return why
    that cannot be, and "" where it can."""
    if len(inner) != 1 or found.get("negated"):
        return "only one condition can be turned round"
    said: dict[str, Any] = {"conditions": {}}
    why = _part(inner[0], said)
    if why:
        return why
    if set(said) == {"conditions"} and len(said["conditions"]) == 1:
        found["negated"] = said["conditions"]
        return ""
    if set(said) == {"conditions", "methods"}:
        found["negated"] = {"methods": list(said["methods"])}
        return ""
    return "only paths, methods, fields and addresses can be turned round"


def _pattern(text: str) -> str:
    """Return a value of Caddy's, which may have ``*`` at either end, as ``match`` has it."""
    if text == "*" or "*" not in text:
        return text
    body = re.escape(text.strip("*"))
    return f"re:{'' if text.startswith('*') else '^'}{body}{'' if text.endswith('*') else '$'}"
