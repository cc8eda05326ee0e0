"""What stands in a block of a Caddyfile becomes routes.

Caddy sorts directives by kind and, within a kind, by their paths; each acts on the requests that
its matcher takes, and the first that answers ends the matter. Here the longest path decides. So the
block is gone through once for each shape of path that anything in it names: what covers the shape
acts on it, in Caddy's order. A matcher that asks for more than a path gives a route with `match`,
and what comes after it is the next route of the same path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..draft import Entry, Place, Route, Site
from ..shapes import Matcher, covers, specific_first
from ..times import size
from ..word_lists import words
from . import matchers, proxying
from .placeholders import in_field, in_target
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
_TERMINAL = frozenset(
    words(
        """
    redir handle handle_path route abort error respond reverse_proxy php_fastcgi file_server
    """
    )
)
_NEEDLESS = frozenset(
    ["log", "log_skip", "log_append", "log_name", "tracing", "push", "fs", "copy_response_headers"]
)
_WHY = {
    "templates": "pages are sent as they are",
    "map": "the variables that it makes have no counterpart",
    "vars": "the variables that it makes have no counterpart",
    "metrics": "the figures are /metrics: admin: {listen: 127.0.0.1:2020}",
    "acme_server": "the built-in CA certifies this server alone",
    "invoke": "routes are not called by name",
    "intercept": "error_pages with intercept replace a backend's errors",
    "method": "a request keeps its method",
}
_PHP_NEEDLESS = words(
    """
    try_files split resolve_root_symlink capture_stderr dial_timeout read_timeout write_timeout
    index
    """
)
_GUARDS = frozenset(("basic_auth", "basicauth", "forward_auth"))


@dataclass(slots=True)
class _Rule:
    """A directive with its matcher."""

    directive: Directive
    matcher: Matcher
    args: list[str]
    block: Block | None = None  # of handle, handle_path, route


@dataclass(slots=True)
class Block:
    """Rules in the order in which they act. ``within``: the path that all of it is for."""

    rules: list[_Rule]
    within: str = "/*"

    def shapes(self) -> Iterable[str]:
        for rule in self.rules:
            yield from rule.matcher.shapes()
            if rule.block is not None:
                yield from rule.block.shapes()


@dataclass(slots=True)
class _State:
    """What has been said of a shape so far."""

    route: Route
    root: tuple[str, Place] | None = None
    stripped: str = ""  # the prefix that handle_path took
    hidden: bool = False  # a rule before has answered everything
    conditions: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> _State:
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
    """``host``: the name for which it is read, where the block tells hosts apart; "" else."""
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
            guard = one.name in _GUARDS or (one.name in ("respond", "error", "abort"))
            site.leave(one.place, str(one), matcher.unknown, guard=guard)
            continue
        if matcher.partly:
            guard = one.name in _GUARDS or one.name in ("respond", "error", "abort")
            site.leave(one.place, str(one), matcher.partly, guard=guard)
        rule = _Rule(one, matcher, args)
        if one.name in ("handle", "handle_path", "route"):
            inside = matcher.paths[-1] if matcher.paths else within
            rule.block = read_block(
                one.block or [], site, host, named, inside, ordered=one.name != "route"
            )
        rules.append(rule)
    if ordered:
        rules.sort(key=_rank)
    return Block(rules, within)


def _rank(rule: _Rule) -> tuple[int, int, int]:
    name = rule.directive.name
    rank = _RANK.get("basic_auth" if name == "basicauth" else name, len(_RANK))
    if name == "handle_path":
        rank = _RANK["handle"]
    longest = max((len(path) for path in rule.matcher.paths or ("",)), default=0)
    last = rule.matcher.paths is None and not rule.matcher.conditional and not rule.matcher.endings
    return rank, int(last), -longest


def compile_site(block: Block, site: Site) -> None:
    """Add the site's routes."""
    told: set[tuple[Place, str]] = set()
    for shape in specific_first([*block.shapes(), "/*"]):
        state = _State(Route(site.place, path=shape))
        made: list[Route] = []
        _run(block, shape, state, made)
        if not state.hidden:
            route = state.route
            if route.action is None:
                route.put("respond", {"status": "200"}, site.place)
            made.append(route)
        for route in made:
            route.keys.pop("_whole", None)
            for left in route.left:
                if (left.place, left.text) not in told:
                    told.add((left.place, left.text))
                    site.left.append(left)
            route.left = []
            site.add(route)
    _drop_repetitions(site)


def _drop_repetitions(site: Site) -> None:
    """Take out routes that say what the route around them says; only their shape was asked for."""
    for route in list(site.routes):
        if {"match", "methods"} & route.keys.keys() or route.path == "/*":
            continue
        same_path = [one for one in site.routes if one.path == route.path]
        around = [
            one for one in site.routes
            if one is not route and one.path != route.path and covers(one.path, route.path)
        ]  # fmt: skip
        if len(same_path) > 1 or not around:
            continue
        longest = max(len(one.path) for one in around)
        nearest = [one for one in around if len(one.path) == longest]
        if len(nearest) == 1 and _alike(route, nearest[0]):
            site.routes.remove(route)


def _alike(inner: Route, outer: Route) -> bool:
    if inner.keys.keys() != outer.keys.keys():
        return False
    for key, entry in inner.keys.items():
        there = outer.keys[key].value
        if key == "root":
            if inner.path.endswith("/*"):
                below = inner.path[:-2].removeprefix(outer.path[:-2])
                if entry.value != f"{there.rstrip('/')}{below}":
                    return False
            elif outer.path != "/*" or entry.value != there:
                return False
        elif entry.value != there or key in ("strip_prefix", "rewrite"):
            return False
    return True


def _run(block: Block, shape: str, state: _State, made: list[Route]) -> None:
    """Let the rules act on a shape, until one answers it as a whole."""
    grouped = False  # handle blocks exclude each other
    for number, rule in enumerate(block.rules):
        if state.hidden:
            return
        name = rule.directive.name
        matcher = rule.matcher
        if matcher.endings:
            _of_endings(rule, state)
            continue
        if not matcher.takes(shape):
            continue
        if name in ("handle", "handle_path") and grouped:
            continue
        if matcher.negated:
            if not (_refuses(rule) and not matcher.conditions and not matcher.methods):
                why = "a condition that is turned round is known where others are refused"
                state.route.leave(rule.directive.place, str(rule.directive), why, guard=True)
                continue
            _only(rule, Block(block.rules[number + 1 :], block.within), shape, state, made)
            return
        if matcher.conditional:
            if name not in _TERMINAL:
                guard = name in _GUARDS
                if guard:
                    state.route.close(rule.directive.place, str(rule.directive), _CONDITION)
                else:
                    state.route.leave(rule.directive.place, str(rule.directive), _CONDITION)
                continue
            twin = state.copy()
            for key, value in matcher.keys().items():
                twin.route.put(key, value, rule.directive.place)
            inner: list[Route] = []
            _answer(rule, shape, twin, inner)
            for one in inner:
                for key, value in matcher.keys().items():
                    one.keys.setdefault(key, Entry(value, rule.directive.place))
            if twin.hidden:
                made += inner
            else:
                state.route.left += twin.route.left
            continue
        if name in _TERMINAL:
            _answer(rule, shape, state, made)
            grouped = grouped or name in ("handle", "handle_path")
        else:
            _modify(rule, state)


def _refuses(rule: _Rule) -> bool:
    if rule.directive.name in ("abort", "error"):
        return True
    status = rule.args[-1] if rule.args else ""
    return rule.directive.name == "respond" and bool(re.fullmatch(r"4\d\d|5\d\d", status))


def _only(rule: _Rule, rest: Block, shape: str, state: _State, made: list[Route]) -> None:
    """``respond @others 403`` with ``@others not …``: what follows is for the others of the others,
    and all else is refused."""
    place, asked = rule.directive.place, rule.matcher.negated
    inner: list[Route] = []
    twin = state.copy()
    _run(rest, shape, twin, inner)
    if not twin.hidden:
        if twin.route.action is None:
            twin.route.put("respond", {"status": "200"}, place)
        inner.append(twin.route)
    for one in inner:
        if "methods" in asked:
            one.put("methods", asked["methods"], place)
            continue
        there = one.value("match") or {}
        merged = {
            kind: {**there.get(kind, {}), **said} if isinstance(said, dict) else said
            for kind, said in asked.items()
        }
        one.put("match", {**there, **merged}, place)
    made += inner
    refused: list[Route] = []
    _answer(rule, shape, state, refused)
    made += refused


_CONDITION = "its condition asks for more than a path, which only routes do here"


def _of_endings(rule: _Rule, state: _State) -> None:
    """``header *.css Cache-Control …``; every other rule for endings of names is left."""
    one, args = rule.directive, rule.args
    if one.name == "header" and len(args) == 2 and args[0].lower() == "cache-control":
        key = ",".join(f"*.{name}" for name in rule.matcher.endings)
        entry = state.route.keys.get("cache_control")
        before = {} if entry is None else entry.value
        state.route.put("cache_control", {key: args[1], **before}, one.place)
        return
    guard = one.name in _GUARDS or one.name in ("respond", "error", "abort")
    why = "files are told apart by their endings for cache_control alone"
    state.route.leave(one.place, str(one), why, guard=guard)


# Answers


def _answer(rule: _Rule, shape: str, state: _State, made: list[Route]) -> None:
    one, args, route = rule.directive, rule.args, state.route
    before = len(made)
    match one.name:
        case "redir" if args:
            _redirect(rule, shape, state)
        case "respond":
            _respond(one, args, route)
        case "abort":
            route.put("respond", {"status": "403"}, one.place)
            route.note(one.place, "connections are not just closed here: it is 403")
        case "error" if args:
            status = next((word for word in args if re.fullmatch(r"\d{3}", word)), "500")
            route.put("respond", {"status": status}, one.place)
        case "reverse_proxy":
            proxying.reverse_proxy(one, args, route)
            if route.action == "backend" and state.stripped:
                route.put("strip_prefix", True, one.place)
        case "php_fastcgi":
            _php(one, args, state)
        case "file_server":
            _files(one, args, state)
        case "handle" | "handle_path" | "route" if rule.block is not None:
            if one.name == "handle_path" and shape.endswith("/*"):
                state.stripped = shape[:-2]
            _run(rule.block, shape, state, made)
            if one.name == "route" or state.hidden:
                return
            if route.action is None:
                route.put("respond", {"status": "200"}, one.place)
        case _:
            return
    if route.action is not None and not state.hidden:
        made.append(route)
        state.hidden = True
        _settle(route)
        route.pass_credentials(one.place)
    elif len(made) == before and route.left and not state.hidden:
        # What would have answered could not be taken over: nothing else may answer in its place.
        route.put("respond", {"status": "501"}, one.place)
        made.append(route)
        state.hidden = True


def _settle(route: Route) -> None:
    """Say what was said of files and of a backend alike in the way of the one that answers."""
    if "root" not in route.keys:
        for key in ("fallback", "extensions"):
            route.keys.pop(key, None)
    entry = route.keys.get("cache_control")
    if entry is None or "root" in route.keys:
        if entry is not None and "*" in entry.value:
            entry.value["*"] = entry.value.pop("*")
        return
    del route.keys["cache_control"]
    if "*" in entry.value:
        route.put_in(("headers", "set", "Cache-Control"), entry.value.pop("*"), entry.place)
    if entry.value and route.action == "backend":
        why = "of a backend's answers the path does not decide"
        route.leave(entry.place, f"header Cache-Control for {' '.join(entry.value)}", why)


def _redirect(rule: _Rule, shape: str, state: _State) -> None:
    one, args, route = rule.directive, rule.args, state.route
    target, code = args[0], args[1] if len(args) > 1 else "302"
    code = {"permanent": "301", "temporary": "302", "html": "302"}.get(code, code)
    made = in_target(target, rule.matcher.groups.get(shape))
    if made is None:
        route.leave(one.place, str(one), "it has a placeholder that is not known here")
        return
    route.put("redirect", made, one.place)
    route.put("status", code, one.place)


def _respond(one: Directive, args: list[str], route: Route) -> None:
    said: dict[str, Any] = {}
    words = list(args)
    if words and re.fullmatch(r"\d{3}", words[-1]):
        said["status"] = words.pop()
    inner = {each.name: each for each in one.block or ()}
    if "body" in inner and inner["body"].args:
        words = [inner["body"].args[0]]
    if words:
        if re.search(r"\{[a-z][\w.]*\}", words[0]):
            route.leave(one.place, str(one), "the text of a fixed answer has no variables")
            return
        said["body"] = words[0]
    said.setdefault("status", "200")
    kind = _taken_field(route, "content-type")
    if kind:
        said["content_type"] = kind
    again = _taken_field(route, "retry-after")
    if again:
        said["retry_after"] = f"{again}s" if again.isdigit() else again
    route.put("respond", said, one.place)


def _taken_field(route: Route, name: str) -> str:
    """Take a field out of ``headers.set`` that has a key of its own."""
    entry = route.keys.get("headers")
    fields = entry.value.get("set", {}) if entry is not None else {}
    for key in list(fields):
        if key.lower() == name:
            value: str = fields.pop(key)
            if entry is not None and not fields:
                del entry.value["set"]
                if not entry.value:
                    del route.keys["headers"]
            return value
    return ""


def _folder(state: _State, one: Directive) -> bool:
    """Say which folder the files of a shape lie in."""
    route = state.route
    for each in one.inner("root"):
        state.root = (each.args[0] if each.args else "", each.place)
    if state.root is None:
        route.leave(one.place, str(one), "no root says in which folder the files are")
        return False
    folder, place = state.root
    if "{" in folder:
        route.leave(place, f"root {folder}", "a folder has a name without placeholders")
        return False
    folder = folder.rstrip("/") or "/"
    if not folder.startswith("/"):
        route.leave(place, f"root {folder}", "the folder is named in full here")
        return False
    path = route.path
    if "rewrite" in route.keys:
        pass  # by its new path a file is looked for below the whole root
    elif path.endswith("/*") and path != "/*" and state.stripped != path[:-2]:
        below = path[:-2].removeprefix(state.stripped) if state.stripped else path[:-2]
        folder = f"{folder.rstrip('/')}{below}"
    route.put("root", folder, place)
    beneath = route.value("_whole")
    if beneath:
        del route.keys["_whole"]
        if folder.endswith(beneath) and not state.stripped:
            route.serve_whole(folder.removesuffix(beneath), place)
    return True


def _files(one: Directive, args: list[str], state: _State) -> None:
    if not _folder(state, one):
        return
    route = state.route
    if "browse" in args or one.inner("browse"):
        route.put("listing", True, one.place)
    for each in one.block or ():
        match each.name:
            case (
                "root"
                | "browse"
                | "precompressed"
                | "disable_canonical_uris"
                | "etag_file_extensions"
            ):
                pass
            case "index":
                route.put("index", each.args, each.place)
            case "hide":
                names = [name for name in each.args if not name.rpartition("/")[2].startswith(".")]
                if names:
                    said = f"hide {' '.join(names)}"
                    route.leave(each.place, said, "what lies in root is sent", guard=True)
            case _:
                route.leave(each.place, str(each), "it has no counterpart here")


def _php(one: Directive, args: list[str], state: _State) -> None:
    route = state.route
    if not args or not _folder(state, one):
        return
    address = args[0]
    where = (
        f"unix:{address.removeprefix('unix/')}"
        if address.startswith("unix/")
        else f"tcp://{address}"
    )
    if len(args) > 1:
        route.leave(one.place, str(one), "scripts are run in one place")
    controller = "/index.php" if route.path == "/*" or state.stripped else ""
    params: dict[str, str] = {}
    for each in one.block or ():
        if each.name == "index" and each.args[:1] == ["off"]:
            controller = ""
        elif each.name == "index" and each.args[:1] not in ([], ["index.php"]):
            controller = f"/{each.args[0]}"
        elif each.name == "env" and len(each.args) == 2 and "{" not in each.args[1]:
            params[each.args[0]] = each.args[1]
        elif each.name == "env":
            why = "what is told to scripts beside CGI's parameters has no placeholders"
            route.leave(each.place, str(each), why)
        elif each.name not in _PHP_NEEDLESS:
            route.leave(each.place, str(each), "it has no counterpart here")
    route.run_scripts(where, one.place, controller, params)


# What stands beside


def _modify(rule: _Rule, state: _State) -> None:
    one, args, route = rule.directive, rule.args, state.route
    match one.name:
        case "root" if args:
            state.root = (args[-1], one.place)
        case "header":
            _headers(one, args, route)
        case "request_header":
            proxying.header_up(args, one, route)
        case "request_body":
            for each in one.block or ():
                if each.name == "max_size" and each.args and size(each.args[0]):
                    route.put("body_size", size(each.args[0]), each.place)
                else:
                    route.leave(each.place, str(each), "it has no counterpart here")
        case "encode":
            _encode(one, args, route)
        case "basic_auth" | "basicauth":
            _passwords(one, args, route)
        case "forward_auth":
            _login(one, args, route)
        case "rewrite" if args:
            _rewrite(args[-1], rule, state)
        case "uri" if args[:1] == ["strip_prefix"] and len(args) == 2:
            prefix = f"/{args[1].strip('/')}"
            if route.path == f"{prefix}/*":
                state.stripped = prefix
            elif covers(f"{prefix}/*", route.path) or route.path == prefix:
                route.put("rewrite", route.path.removeprefix(prefix).rstrip("*") or "/", one.place)
        case "try_files":
            _tried(one, args, route)
        case name if name in _NEEDLESS:
            pass
        case name:
            why = _WHY.get(name, "it has no counterpart here")
            route.leave(one.place, str(one), why, guard=name in _GUARDS)


def _headers(one: Directive, args: list[str], route: Route) -> None:
    if args:
        if len(args) == 3:
            route.leave(one.place, str(one), "a value is replaced as a whole")
            return
        proxying.response_field(args, one, route)
    for each in one.block or ():
        if each.name in ("defer", "match"):
            continue
        proxying.response_field([each.name, *each.args], each, route)
    # Said before it is known whether files or a backend answer; `_settle` puts it right.
    entry = route.keys.get("headers")
    if entry is not None and "set" in entry.value:
        for name in list(entry.value["set"]):
            if name.lower() == "cache-control":
                value = entry.value["set"].pop(name)
                if not entry.value["set"]:
                    del entry.value["set"]
                if not entry.value:
                    del route.keys["headers"]
                there = route.value("cache_control") or {}
                route.put("cache_control", {**there, "*": value}, one.place)


def _encode(one: Directive, args: list[str], route: Route) -> None:
    said: dict[str, Any] = {}
    for each in one.block or ():
        if each.name == "minimum_length" and each.args:
            said["min_size"] = f"{each.args[0]}B"
        elif each.name not in ("gzip", "zstd", "br", "match"):
            route.leave(each.place, str(each), "it has no counterpart here")
    if said:
        route.put("compress", {"mode": "auto", **said}, one.place)


def _passwords(one: Directive, args: list[str], route: Route) -> None:
    words = [word for word in args if word not in ("bcrypt", "argon2id")]
    if len(words) < len(args) or not args or words == args:
        realm = words[-1] if words and words != args else ""
        if realm:
            route.put_in(("basic_auth", "realm"), realm, one.place)
    if args[:1] and args[0] not in ("bcrypt", "argon2id"):
        route.close(one.place, str(one), "of hashes argon2id, bcrypt and yescrypt are known")
        return
    for each in one.block or ():
        if each.args:
            route.put_in(("basic_auth", "users", each.name), each.args[0], each.place)
    if not one.block:
        route.close(one.place, str(one), "it names nobody")


def _login(one: Directive, args: list[str], route: Route) -> None:
    said: dict[str, Any] = {}
    address = proxying.backend(args[0]) if len(args) == 1 else None
    uri = next((each.args[0] for each in one.inner("uri") if each.args), "/")
    if address is None or address.startswith("unix:") or "{" in uri:
        route.close(one.place, str(one), "who is asked is not one address")
        return
    said["url"] = f"{address}{uri}"
    copied: list[str] = []
    for each in one.inner("copy_headers"):
        for word in [*each.args, *(inner.name for inner in each.block or ())]:
            if ">" in word:
                route.leave(each.place, str(each), "a field keeps its name")
            copied.append(word.partition(">")[0])
    if copied:
        said["copy"] = copied
    for each in one.block or ():
        if each.name not in ("uri", "copy_headers", "trusted_proxies"):
            route.leave(each.place, str(each), "it has no counterpart here")
    route.put("forward_auth", said, one.place)


def _rewrite(target: str, rule: _Rule, state: _State) -> None:
    route, place = state.route, rule.directive.place
    made = in_target(target, rule.matcher.groups.get(route.path))
    if made is None or (in_field(target) is None and "{" in target and "uri" not in target):
        route.leave(place, str(rule.directive), "it has a placeholder that is not known here")
        return
    route.put("rewrite", made, place)


def _tried(one: Directive, args: list[str], route: Route) -> None:
    *names, last = args or [""]
    ends = []
    if last in ("{path}", "{path}/", "{path}/index.html") or re.fullmatch(r"\{path\}(\.\w+)", last):
        names, last = args, ""
    for name in names:
        found = re.fullmatch(r"\{path\}(\.\w+)", name)
        if found:
            ends.append(found[1])
        elif name not in ("{path}", "{path}/", "{path}/index.html", "{http.request.uri.path}"):
            route.leave(one.place, f"try_files {name}", "it is looked for by its path alone")
    if ends:
        route.put("extensions", ends, one.place)
    if last.startswith("=") or not last:
        return
    path = last.partition("?")[0]
    if "{" in path:
        route.leave(one.place, str(one), "the last of them is a file with a name")
        return
    beneath = route.path[:-2] if route.path.endswith("/*") else ""
    if beneath:
        if not path.startswith(f"{beneath}/"):
            route.put("_whole", beneath, one.place)
        else:
            path = path.removeprefix(beneath)
    route.put("fallback", path if path.startswith("/") else f"/{path}", one.place)
