"""A block of a Caddyfile as rules: directives with their matchers, in the order in which they act.

Caddy sorts directives by kind and, within a kind, by their paths; in ``route`` they stay as they
are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from typing import Any

from acme_client.late_dataclass import dataclass

from ..draft import Place, Route, Site
from ..shapes import Matcher
from ..word_lists import words
from . import matchers
from .tokens import Directive

# Caddy's own order; a directive that is not in it stands at its end.
_ORDER = words(
    """
    tracing map vars fs root log_append log_skip log_name header copy_response_headers
    request_body redir method rewrite uri try_files basicauth basic_auth forward_auth
    request_header encode push intercept templates invoke handle handle_path route abort
    error copy_response respond metrics reverse_proxy php_fastcgi file_server acme_server
    """
)
_RANK = {name: number for number, name in enumerate(_ORDER)}
TERMINAL = frozenset(
    words(
        """
    redir handle handle_path route abort error respond reverse_proxy php_fastcgi file_server
    """
    )
)
GUARDS = frozenset(("basic_auth", "basicauth", "forward_auth"))
KEEPS_OUT = GUARDS | {"respond", "error", "abort"}  # the latter may refuse, and are told first


@dataclass(slots=True)
class Rule:
    """A directive with its matcher."""

    directive: Directive
    matcher: Matcher
    args: list[str]
    block: Block | None = None  # of handle, handle_path, route


@dataclass(slots=True)
class Block:
    """Rules in the order in which they act. ``within``: the path that all of it is for."""

    rules: list[Rule]
    within: str = "/*"

    def shapes(self) -> Iterable[str]:
        for rule in self.rules:
            yield from rule.matcher.shapes()
            if rule.block is not None:
                yield from rule.block.shapes()


@dataclass(slots=True)
class State:
    """What has been said of a shape so far."""

    route: Route
    root: tuple[str, Place] | None = None
    stripped: str = ""  # the prefix that handle_path took
    hidden: bool = False  # a rule before has answered everything
    conditions: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> State:
        route = self.route.copy(self.route.path)
        for entry in route.keys.values():
            entry.value = _copied(entry.value)
            entry.inner = dict(entry.inner)
        return replace(self, route=route, conditions=dict(self.conditions))


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return list(value) if isinstance(value, list) else value


def read_block(
    directives: Sequence[Directive],
    site: Site,
    host: str,
    outer: dict[str, Matcher] | None = None,
    within: str = "/*",
    *,
    ordered: bool = True,
) -> Block:
    """Make rules of directives. ``host`` is the name for which they are read, where the block tells
    hosts apart, and "" otherwise."""
    named = dict(outer or {})
    for one in directives:
        if one.name.startswith("@"):
            named[one.name] = matchers.named(one)
    rules = []
    for one in directives:
        if one.name.startswith("@") or one.name in ("tls", "bind", "handle_errors", "log"):
            continue
        args = list(one.args)
        matcher = Matcher()
        # These take a path as their only word.
        alone = one.name == "try_files" or (len(args) == 1 and one.name in ("root", "rewrite"))
        if args and not alone:
            found = matchers.of_word(args[0], named)
            if found is not None:
                matcher, args = found, args[1:]
        if matcher.hosts:
            fits = host in matcher.hosts or any(
                name.startswith("*.") and host.endswith(name[1:]) for name in matcher.hosts
            )
            if not fits:
                continue
        if matcher.unknown:
            site.leave(one.place, str(one), matcher.unknown, guard=one.name in KEEPS_OUT)
            continue
        if matcher.partly:
            site.leave(one.place, str(one), matcher.partly, guard=one.name in KEEPS_OUT)
        rule = Rule(one, matcher, args)
        if one.name in ("handle", "handle_path", "route"):
            inside = matcher.paths[-1] if matcher.paths else within
            rule.block = read_block(
                one.block or [], site, host, named, inside, ordered=one.name != "route"
            )
        rules.append(rule)
    if ordered:
        rules.sort(key=_rank)
    return Block(rules, within)


def _rank(rule: Rule) -> tuple[int, int, int]:
    name = rule.directive.name
    rank = _RANK.get("basic_auth" if name == "basicauth" else name, len(_RANK))
    if name == "handle_path":
        rank = _RANK["handle"]
    longest = max((len(path) for path in rule.matcher.paths or ("",)), default=0)
    last = rule.matcher.paths is None and not rule.matcher.conditional and not rule.matcher.endings
    return rank, int(last), -longest
