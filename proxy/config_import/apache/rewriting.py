"""Rules for rewriting of the common kinds: redirects, https, www, front controllers, refusals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from acme_client.late_dataclass import dataclass

from ..draft import Level, Place, Route
from ..path_patterns import NO_ROUTE, PathForm, filled, forms
from ..substitution import substituted
from .directives import Directive

_HOST = re.compile(r"%\{(?:HTTP_HOST|SERVER_NAME|HTTP:Host)\}")
_FILE = (
    "%{REQUEST_FILENAME}",
    "%{DOCUMENT_ROOT}%{REQUEST_URI}",
    "%{DOCUMENT_ROOT}/%{REQUEST_URI}",
)
_VARIABLE = re.compile(r"%\{([^}]+)\}")
_VARIABLES = {
    "HTTP_HOST": "{host}",
    "SERVER_NAME": "{host}",
    "HTTP:Host": "{host}",
    "REQUEST_URI": "{path}",
    "QUERY_STRING": "{query}",
    "REQUEST_SCHEME": "https",
}


@dataclass(slots=True)
class Rewrites:
    """What a section's rules say. ``elsewhere``: names that are sent to other hosts. ``spared``:
    paths that the rule of a place does not take."""

    routes: list[Route] = field(default_factory=list)
    front: tuple[str, Place] | None = None  # what is asked for where there is no file
    elsewhere: list[tuple[list[str], str, str, Place]] = field(default_factory=list)
    to_https: bool = False
    extensions: tuple[list[str], Place] | None = None  # endings that are tried behind a path
    spared: dict[Place, set[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Flags:
    status: str = ""
    refuse: str = ""
    proxy: bool = False
    words: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> _Flags:
        words = [word.strip() for word in text.strip("[]").split(",") if word.strip()]
        status, refuse, proxy = "", "", False
        for word in words:
            name, _equals, value = word.partition("=")
            if name.upper() in ("R", "REDIRECT"):
                status = {"": "302", "permanent": "301", "temp": "302", "seeother": "303"}.get(
                    value, value
                )
            elif name.upper() in ("F", "FORBIDDEN"):
                refuse = "403"
            elif name.upper() in ("G", "GONE"):
                refuse = "410"
            elif name.upper() in ("P", "PROXY"):
                proxy = True
        return cls(status, refuse, proxy, frozenset(word.upper() for word in words))


def read(
    directives: Sequence[Directive], names: list[str], level: Level, base: str | None
) -> Rewrites:
    """Read the rewriting rules of a section. ``base`` is the path of the folder for which they
    stand, like "/" in a .htaccess file, or None beside the folders, where a pattern begins with the
    slash."""
    found = Rewrites()
    conditions: list[Directive] = []
    on = False
    for one in directives:
        if one.name == "rewriteengine":
            one.used = True
            on = one.arg.lower() == "on"
        elif one.name in ("rewritebase", "rewriteoptions"):
            one.used = True
            if one.name == "rewritebase" and base is not None and one.arg.startswith("/"):
                base = one.arg
        elif one.name == "rewritecond":
            one.used = True
            conditions.append(one)
        elif one.name == "rewriterule":
            one.used = True
            if on and len(one.args) >= 2:
                asked = []
                for each in conditions:
                    path = _spared(each)
                    if path:
                        found.spared.setdefault(one.place, set()).add(path)
                    else:
                        asked.append(each)
                _rule(one, asked, names, level, base, found)
            conditions = []
        elif one.name == "rewritemap":
            one.used = True
            level.leave(one.place, str(one), "routes are written out")
    return found


def _rule(
    one: Directive,
    conditions: Sequence[Directive],
    names: list[str],
    level: Level,
    base: str | None,
    found: Rewrites,
) -> None:
    pattern, target = one.args[0], one.args[1]
    flags = _Flags.parse(one.args[2] if len(one.args) > 2 else "")
    tests = [
        (each.arg, _cased(each.args[1] if len(each.args) > 1 else "", each.args[2:]))
        for each in conditions
    ]
    text = str(one)
    if flags.proxy:
        if any("upgrade" in test.lower() for test, _ in tests) or target.startswith("ws"):
            return  # WebSockets pass by themselves
        level.leave(one.place, text, "a backend is named by a route: backend")
        return
    if _asks_https(tests):
        if target.startswith("https://"):
            tests = [test for test in tests if not _is_https(test)]
            if not tests:
                found.to_https = True
                return
        elif target == "-":
            return
    if target.startswith("https://%{HTTP_HOST}") and not tests and flags.status and names == []:
        found.to_https = True
        return
    hosts = [test for test in tests if _HOST.fullmatch(test[0])]
    files = [test for test in tests if test[0] in _FILE]
    others = [test for test in tests if test not in hosts and test not in files]
    if target == "-" and not flags.refuse and not flags.status:
        return  # stops here; what comes after it is asked only of what it does not take
    if hosts and not files and not others and flags.status:
        _by_host(hosts, target, flags.status, names, one, level, found)
        return
    ending = "" if flags.status else _ending(target, tests)
    if ending:
        found.extensions = ([*(found.extensions or ([],))[0], ending], one.place)
        return
    if files and all(test[1] in ("!-f", "!-d", "!-l") for test in files) and not flags.status:
        path = target.partition("?")[0]
        if path.startswith("/") or re.fullmatch(r"[\w./-]+", path):
            path = path if path.startswith("/") else f"{(base or '/').rstrip('/')}/{path}"
            if "$" not in path and "%" not in path:
                found.front = (path, one.place)
                if others or hosts:
                    level.leave(one.place, text, "its conditions have no counterpart")
                return
    asked = _match(others)
    if hosts or files or asked is None:
        guard = bool(flags.refuse)
        level.leave(one.place, text, "its conditions have no counterpart", guard=guard)
        return
    _by_path(one, pattern, target, flags, asked, level, base, found)


def _spared(condition: Directive) -> str:
    """Return the path that a condition like ``%{REQUEST_URI} !=/sorry.html`` keeps from its rule;
    "" for any other condition."""
    wanted = condition.args[1] if len(condition.args) > 1 else ""
    path = re.fullmatch(r"!(?:=|\^)(/[\w./\\-]*?)\$?", wanted)
    if condition.arg != "%{REQUEST_URI}" or path is None or path[1].endswith("/"):
        return ""
    return path[1].replace("\\", "")


def _ending(target: str, tests: Sequence[tuple[str, str]]) -> str:
    """Return the ending that a rule like ``RewriteRule ^(.*)$ $1.html`` tries behind a path, where
    there is such a file or where the path alone is none; "" for any other rule."""
    asked = re.fullmatch(r"/?(?:\$1|%\{REQUEST_(?:URI|FILENAME)\})(\.\w+)", target)
    if asked is None or not tests:
        return ""
    whole = {f"{name}{asked[1]}" for name in (*_FILE, "%{DOCUMENT_ROOT}/$1", "%{DOCUMENT_ROOT}$1")}
    fits = all(
        (name in whole and test == "-f") or (name in _FILE and test in ("!-f", "!-d"))
        for name, test in tests
    )
    return asked[1] if fits else ""


def _cased(wanted: str, flags: list[str]) -> str:
    """Return the expression of a condition with its [NC] in it; names of hosts have no case."""
    if not any("NC" in word.upper() for word in flags) or not re.search("[A-Za-z]", wanted):
        return wanted
    negated = wanted.startswith("!")
    return f"{'!' if negated else ''}(?i){wanted.removeprefix('!')}"


def _is_https(test: tuple[str, str]) -> bool:
    name, wanted = test[0].upper(), test[1].lower().replace("(?i)", "")
    if name in ("%{HTTPS}", "%{HTTPS:ON}"):
        return wanted in ("off", "!=on", "!on", "!^on$", "^off$", "=off")
    if name == "%{SERVER_PORT}":
        return "80" in wanted or wanted in ("!443", "!^443$")
    return name in ("%{HTTP:X-FORWARDED-PROTO}", "%{REQUEST_SCHEME}") and (
        "http" in wanted and ("!" in wanted or "https" not in wanted)
    )


def _asks_https(tests: Sequence[tuple[str, str]]) -> bool:
    return any(_is_https(test) for test in tests)


def _by_host(
    hosts: Sequence[tuple[str, str]],
    target: str,
    status: str,
    names: list[str],
    one: Directive,
    level: Level,
    found: Rewrites,
) -> None:
    meant = list(names)
    group = ""
    for _test, wanted in hosts:
        negated = wanted.startswith("!")
        expression = wanted.lstrip("!").removeprefix("(?i)")
        if expression in ("", "^$"):
            continue
        try:
            compiled = re.compile(expression, re.IGNORECASE)
        except re.error:
            level.leave(one.place, str(one), "its conditions have no counterpart")
            return
        matching = [name for name in meant if bool(compiled.search(name)) is not negated]
        for name in matching:
            taken = compiled.search(name)
            if taken and taken.groups():
                group = taken.groups()[0] or ""
        meant = matching
    made = target.replace("%1", group) if group else target
    made = re.sub(r"/?(?:%\{REQUEST_URI\}|\$1|\$0)$", "{path}", made)
    filled_in = _target(made)
    if filled_in is None or "$" in filled_in:
        level.leave(one.place, str(one), "it has a variable that is not known here")
        return
    if "{host}" in filled_in:
        found.to_https = True
        return
    if meant:
        found.elsewhere.append((meant, filled_in, status, one.place))


def _target(text: str) -> str | None:
    made = substituted(_VARIABLE, text, lambda found: _VARIABLES.get(found[1]))
    if made is None or re.search(r"%\d", made):
        return None
    return re.sub(r"\?\{query\}$", "", made.removesuffix("?")).replace("http://", "https://", 1)


def _match(tests: Sequence[tuple[str, str]]) -> dict[str, Any] | None:
    """Return conditions as ``match`` has them; None where ``match`` knows none for them."""
    said: dict[str, Any] = {}
    for variable, wanted in tests:
        name = re.fullmatch(
            r"%\{(?:HTTP:([\w-]+)|HTTP_(USER_AGENT|REFERER|COOKIE|ACCEPT))\}", variable
        )
        query = re.fullmatch(r"\^?(?:\(\^\|&\)|\(\?:\^\|&\))?(\w+)=([\w-]+)\$?", wanted)
        methods = re.fullmatch(r"\^?\(?([A-Z|]+)\)?\$?", wanted)
        if variable == "%{REQUEST_METHOD}" and methods:
            said["methods"] = methods[1].split("|")
        elif variable == "%{QUERY_STRING}" and query:
            said.setdefault("query", {})[query[1]] = query[2]
        elif variable == "%{REMOTE_ADDR}" and re.fullmatch(r"\^?[\d\\.]+\$?", wanted):
            said["from"] = [wanted.strip("^$").replace("\\", "")]
        elif name and not wanted.startswith("!"):
            field_name = name[1] or name[2].replace("_", "-").title()
            said.setdefault("header", {})[field_name] = f"re:{wanted}"
        else:
            return None
    return said


def _by_path(
    one: Directive,
    pattern: str,
    target: str,
    flags: _Flags,
    asked: dict[str, Any],
    level: Level,
    base: str | None,
    found: Rewrites,
) -> None:
    expression = pattern
    if base is not None and expression.startswith("^"):
        expression = f"^{base.rstrip('/')}/{expression[1:].removeprefix('/?').removeprefix('/')}"
    elif base is not None and expression in ("(.*)", ".*", "."):
        expression = "^/(.*)$"
    else:
        expression = expression.replace("^/?", "^/", 1)
    if expression in ("^", ".*", "(.*)", "^/", "^/.*$", "^.*$", "^/.*"):
        shapes: list[PathForm] | None = [PathForm("/*", 1 if "(" in expression else 0)]
    else:
        shapes = forms(expression)
    if shapes is None:
        guard = bool(flags.refuse)
        level.leave(one.place, str(one), NO_ROUTE, guard=guard)
        return
    if base is not None and not target.startswith(("/", "http", "-")):
        target = f"{base.rstrip('/')}/{target}"
    for form in shapes:
        route = Route(one.place, path=form.path)
        match = {key: value for key, value in asked.items() if key != "methods"}
        if match:
            route.put("match", match, one.place)
        if "methods" in asked:
            route.put("methods", asked["methods"], one.place)
        if flags.refuse or (flags.status and not flags.status.startswith("3")):
            route.put("respond", {"status": flags.refuse or flags.status}, one.place)
            found.routes.append(route)
            continue
        made = filled(target, form, _target)
        if made is None:
            level.leave(one.place, str(one), "it has a variable that is not known here")
            return
        if flags.status or target.startswith("http"):
            route.redirect(made, flags.status or "302", one.place)
        else:
            route.put("rewrite", made.partition("?")[0], one.place)
            if "?" in made:
                level.leave(one.place, str(one), "a rewrite changes the path alone")
                return
        found.routes.append(route)
