"""``ProxyPass`` and balancers: which paths go to which backends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from acme_client.late_dataclass import dataclass

from ..backends import Backend, shown, url_of, weighted, with_path
from ..draft import Place, Route, Site
from ..path_patterns import NO_ROUTE
from ..shapes import beneath, covers
from ..times import duration
from .directives import Directive, here, last

_METHODS = {"byrequests": "round_robin", "bybusyness": "least_conn", "bytraffic": "least_conn"}


@dataclass(slots=True)
class Pass:
    """What one ``ProxyPass`` says. ``backends`` is None where files answer the path (``ProxyPass /x
    !``)."""

    path: str
    place: Place
    backends: list[Backend] | None
    target: str = ""  # the path behind the backend's address
    keys: dict[str, tuple[Any, Place]] = field(default_factory=dict)
    secure: bool = False


def passes(directives: Sequence[Directive], site: Site) -> list[Pass]:
    found = []
    for one in here(directives, "proxypass"):
        if len(one.args) >= 2:
            made = _pass(one, one.args[0], one.args[1], one.args[2:], directives, site)
            if made is not None:
                found.append(made)
    for one in here(directives, "proxypassmatch"):
        if one.args and ("fcgi:" in " ".join(one.args)):
            one.used = True  # `sections.interpreter` has read it
            continue
        simple = re.fullmatch(r"\^(/[\w./-]*)\(\.\*\)\$", one.arg)
        if simple and len(one.args) > 1:
            target = one.args[1].replace("$1", "")
            made = _pass(one, simple[1], target, one.args[2:], directives, site)
            if made is not None:
                found.append(made)
        else:
            site.leave(one.place, str(one), NO_ROUTE)
    return found


def inside(
    directives: Sequence[Directive], path: str, whole: Sequence[Directive], site: Site
) -> list[Pass]:
    """Return what ``ProxyPass URL`` says within ``<Location path>``."""
    found = []
    for one in here(directives, "proxypass"):
        if one.args:
            bare = path.removesuffix("*")
            made = _pass(one, bare, one.args[0], one.args[1:], [*whole, *directives], site)
            if made is not None:
                found.append(made)
    return found


def _pass(
    one: Directive,
    path: str,
    url: str,
    options: list[str],
    directives: Sequence[Directive],
    site: Site,
) -> Pass | None:
    if url == "!":
        return Pass(path, one.place, None)
    if url.startswith(("ws://", "wss://")):
        url = url.replace("ws", "http", 1)
    made = Pass(path, one.place, [])
    words = dict(word.partition("=")[::2] for word in options)
    wait = duration(words.get("timeout", "-"))
    if wait:
        made.keys["response_timeout"] = (wait, one.place)
        made.keys["idle_timeout"] = (wait, one.place)
    connect = duration(words.get("connectiontimeout", "-"))
    if connect:
        made.keys["connect_timeout"] = (connect, one.place)
    if url.startswith("balancer://"):
        return _balanced(made, url, directives, site, one)
    address = _address(url)
    if address is None:
        site.leave(one.place, str(one), "backends speak HTTP; see fastcgi for PHP")
        return None
    made.backends, made.target = [address[0]], address[1]
    made.secure = address[0].startswith("https://")
    _peculiar(made, directives)
    return made


def _address(url: str) -> tuple[str, str] | None:
    """Return the backend of a URL as we write it, and the path behind it; None where it has
    none."""
    socket = re.fullmatch(r"unix:([^|]+)\|http://[^/]*(/.*)?", url)
    if socket:
        return f"unix:{socket[1]}", socket[2] or ""
    found = re.fullmatch(r"(https?|h2c?)://([^/:]+|\[[^\]]+\])(?::(\d+))?(/.*)?", url)
    if not found:
        return None
    scheme = {"h2": "https"}.get(found[1], found[1])
    port = found[3] or ("443" if scheme == "https" else "80")
    return f"{scheme}://{found[2]}:{port}", found[4] or ""


def _balanced(
    made: Pass, url: str, directives: Sequence[Directive], site: Site, one: Directive
) -> Pass | None:
    name = re.match(r"balancer://([^/]+)(/.*)?", url)
    if not name:
        return None
    made.target = name[2] or ""
    blocks = [each for each in directives if each.name == "proxy"
              and each.arg.rstrip("/") == f"balancer://{name[1]}"]  # fmt: skip
    for block in blocks:
        block.used = True
        for member in here(block.block or [], "balancermember"):
            address = _address(member.arg)
            words = dict(word.partition("=")[::2] for word in member.args[1:])
            if address is None:
                site.leave(member.place, str(member), "backends speak HTTP")
            elif words.get("status", "").startswith(("+H", "H")):
                why = "there are no backends that wait for others to fail"
                site.leave(member.place, str(member), why)
            else:
                weight = words.get("loadfactor", "1")
                made.backends = made.backends or []
                made.backends.append(weighted(address[0] + address[1].rstrip("/"), weight))
        for each in here(block.block or [], "proxyset"):
            for word in each.args:
                key, _equals, value = word.partition("=")
                if key == "lbmethod" and value in _METHODS:
                    made.keys["balance"] = (_METHODS[value], each.place)
                elif key == "stickysession":
                    why = "sticky_cookie binds a client by a cookie of its own"
                    site.leave(each.place, word, why)
    if not made.backends:
        site.leave(one.place, str(one), "no member of the balancer is known")
        return None
    made.secure = url_of(made.backends[0]).startswith("https://")
    _peculiar(made, directives)
    return made


def _peculiar(made: Pass, directives: Sequence[Directive]) -> None:
    """Add what the directives around a ``ProxyPass`` say about its backends."""
    keep = last(directives, "proxypreservehost")
    if keep is None or keep.arg.lower() != "on":
        made.keys["preserve_host"] = (False, keep.place if keep else made.place)
    wait = last(directives, "proxytimeout")
    if wait is not None and duration(wait.arg) and "response_timeout" not in made.keys:
        made.keys["response_timeout"] = (duration(wait.arg), wait.place)
        made.keys["idle_timeout"] = (duration(wait.arg), wait.place)
    if made.secure:
        verify = last(directives, "sslproxyverify")
        ca = last(directives, "sslproxycacertificatefile")
        if verify is None or verify.arg.lower() != "require":
            made.keys["backend_tls"] = ({"insecure": True}, verify.place if verify else made.place)
        elif ca is not None:
            made.keys["backend_tls"] = ({"ca_file": ca.arg}, ca.place)


def answer(passed: Sequence[Pass], shape: str, route: Route) -> bool:
    """Let the first ``ProxyPass`` that takes a shape answer it. Return False where files do."""
    for one in passed:
        mine = next((path for path in beneath(one.path) if covers(path, shape)), None)
        if mine is None:
            continue
        if one.backends is None:
            return False
        base, target = one.path.rstrip("/"), one.target
        backends = one.backends
        if base == target.rstrip("/"):
            pass
        elif not base:
            backends = with_path(backends, target)
        elif shape.endswith("/*"):
            rest = shape[len(base) + 1 : -1]
            rewritten = f"{target.rstrip('/')}/{rest}{{rest}}"
            if shape == f"{base}/*" and not target.rstrip("/"):
                route.put("strip_prefix", True, one.place)
            else:
                route.put("rewrite", rewritten, one.place)
        else:
            route.put("rewrite", f"{target.rstrip('/')}{shape[len(base) :]}" or "/", one.place)
        route.put("backend", shown(backends), one.place)
        for key, (value, place) in one.keys.items():
            route.put(key, value, place)
        return True
    return False
