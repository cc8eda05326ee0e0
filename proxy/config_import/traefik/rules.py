"""A router's rule: ``Host(`a`) && (PathPrefix(`/x`) || Method(`POST`))``. Pure.

The rule is brought into alternatives, of which each is a list of conditions that must all hold.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any

from acme_client.late_dataclass import dataclass

from ..path_patterns import NO_ROUTE, forms
from ..shapes import Matcher, beneath

_MOST = 64  # alternatives
_TOKEN = re.compile(r"\s*(?:(&&|\|\||!|\(|\)|,)|([A-Za-z]+)|(`[^`]*`|\"(?:[^\"\\]|\\.)*\"))")

Term = tuple[str, tuple[str, ...], bool]  # the function, its words, whether it is negated


class NotARule(Exception):
    """Tells why a rule cannot be read."""


@dataclass(slots=True)
class _Parser:
    tokens: list[str]
    position: int = 0

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise NotARule(f"{wanted or 'something'} is missing in the rule")
        self.position += 1
        return token

    def alternatives(self, depth: int = 0) -> list[list[Term]]:
        if depth > 32:
            raise NotARule("brackets stand in brackets too deep")
        found = self.conjunction(depth)
        while self.peek() == "||":
            self.take()
            found = [*found, *self.conjunction(depth)]
        if len(found) > _MOST:
            raise NotARule("it has too many alternatives")
        return found

    def conjunction(self, depth: int) -> list[list[Term]]:
        found = self.one(depth)
        while self.peek() == "&&":
            self.take()
            right = self.one(depth)
            found = [[*left, *each] for left in found for each in right]
            if len(found) > _MOST:
                raise NotARule("it has too many alternatives")
        return found

    def one(self, depth: int) -> list[list[Term]]:
        negated = False
        while self.peek() == "!":
            self.take()
            negated = not negated
        if self.peek() == "(":
            self.take()
            inner = self.alternatives(depth + 1)
            self.take(")")
            if not negated:
                return inner
            if any(len(each) != 1 for each in inner):
                raise NotARule("a negated bracket with && in it has no counterpart")
            return [[(name, words, not off) for each in inner for name, words, off in each]]
        name = self.take()
        self.take("(")
        words = [self.take().strip("`").strip('"')]
        while self.peek() == ",":
            self.take()
            words.append(self.take().strip("`").strip('"'))
        self.take(")")
        return [[(name, tuple(words), negated)]]


def alternatives(rule: str) -> list[list[Term]]:
    """Read a rule as alternatives, each a list of conditions that must all hold. Raises
    `NotARule`."""
    tokens = []
    position = 0
    rule = rule.strip()
    while position < len(rule):
        found = _TOKEN.match(rule, position)
        if not found:
            raise NotARule(f"{rule[position : position + 20]!r} cannot be read")
        tokens.append(found[1] or found[2] or found[3])
        position = found.end()
    parser = _Parser(tokens)
    made = parser.alternatives()
    if parser.peek():
        raise NotARule(f"{parser.peek()!r} is one too many")
    return made


@dataclass(slots=True)
class Asked:
    """One alternative: for which hosts, and which requests of them."""

    hosts: list[str] = field(default_factory=list)
    matcher: Matcher = field(default_factory=Matcher)
    loose: str = ""  # a prefix that takes more than ours


def asked(terms: list[Term]) -> Asked:
    """Return for which hosts and requests an alternative is. Raises `NotARule`."""
    hosts: list[str] | None = None
    paths: list[str] | None = None
    excepted: list[str] = []
    conditions: dict[str, Any] = {}
    methods: list[str] = []
    loose = ""
    for name, words, negated in terms:
        match name.lower():
            case "host" if not negated:
                hosts = [word.lower() for word in words if hosts is None or word.lower() in hosts]
            case "hostregexp" if not negated:
                found = [_wildcard(word) for word in words]
                if None in found:
                    raise NotARule("a name is written out, or *.name")
                hosts = [one for one in found if one]
            case "path" | "pathprefix" | "pathregexp":
                shapes: list[str] = []
                for word in words:
                    if "{" in word and name.lower() != "pathregexp":
                        raise NotARule("a path has no variables")
                    if name.lower() == "path":
                        shapes.append(word)
                    elif name.lower() == "pathregexp":
                        known = forms(word)
                        if known is None:
                            raise NotARule(NO_ROUTE)
                        shapes += [one.path for one in known]
                    else:
                        shapes += beneath(word)
                        loose = loose or ("" if word.endswith("/") else word)
                if negated:
                    excepted += shapes
                elif paths is None:
                    paths = shapes
                else:
                    raise NotARule("two paths that must both fit")
            case "method" if not negated:
                methods += [word.upper() for word in words]
            case "header" | "headers" if len(words) == 2 and not negated:
                conditions.setdefault("header", {})[words[0]] = words[1]
            case "headerregexp" | "headersregexp" if len(words) == 2 and not negated:
                conditions.setdefault("header", {})[words[0]] = f"re:{words[1]}"
            case "query" | "queryregexp" if not negated:
                pairs = [words] if len(words) == 2 else [
                    (word.partition("=")[0], word.partition("=")[2] or "*") for word in words
                ]  # fmt: skip
                prefix = "re:" if name.lower() == "queryregexp" else ""
                for key, value in pairs:
                    conditions.setdefault("query", {})[key] = f"{prefix}{value}"
            case "clientip" if not negated:
                conditions["from"] = list(words)
            case _:
                raise NotARule(f"{'!' if negated else ''}{name} has no counterpart in match")
    matcher = Matcher(
        None if paths is None else tuple(paths),
        tuple(excepted),
        conditions=conditions,
        methods=tuple(methods),
    )
    return Asked(hosts or [], matcher, loose)


def _wildcard(word: str) -> str | None:
    """Return an expression for hosts as a name: ``{name:.+}.example.org`` and
    ``^[^.]+\\.example\\.org$`` are ``*.example.org``. None where it is none."""
    found = re.fullmatch(
        r"(?:\{[a-z]*:[^}]*\}|\^?(?:\[[^\]]*\][+*]|\.\+|\.\*|\(\.\+\)))((?:\\?\.[A-Za-z0-9-]+)+)\$?",
        word,
    )
    return f"*{found[1]}".replace("\\", "") if found else None
