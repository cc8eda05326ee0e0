"""Who is let in: ``allow`` and ``deny``, passwords, subrequests, client certificates, rates.

nginx goes through allow and deny in their order; here deny wins. Where that would let somebody in
who was kept out, or the other way round, the stricter reading is written and the difference told.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence

from ..draft import EVERYBODY, Level, Place, Route, Site
from ..word_lists import words
from . import fields
from .directives import Directive, Scope

# Directives that keep people out: left out, they are told first.
NAMES = frozenset(
    words(
        """
    allow deny auth_basic auth_basic_user_file auth_request auth_jwt satisfy
    ssl_verify_client ssl_client_certificate secure_link secure_link_md5 limit_except
    internal valid_referers auth_digest auth_pam limit_req limit_conn
    """
    )
)
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Zone = tuple[str, str, Place]  # by what it counts, the rate, and where that is said


def access(scope: Scope, route: Route) -> None:
    rules = scope.all("allow", "deny")
    if rules:
        _addresses(rules, route)
    _passwords(scope, route)
    satisfy = scope.one("satisfy")
    if satisfy is not None and satisfy.arg == "any" and rules and "basic_auth" in route.keys:
        why = "an address or a password was enough; here both are asked for"
        route.leave(satisfy.place, str(satisfy), why, guard=True)
    for one in scope.here("limit_except"):
        one.use()
        if any(inner.name == "deny" and inner.arg == "all" for inner in one.block or ()):
            methods = ["GET", "HEAD"] if one.args == ("GET",) else list(one.args)
            if "GET" in methods and "HEAD" not in methods:
                methods.append("HEAD")
            route.put("methods", methods, one.place)
            route.put("_refuse", "403", one.place)
        else:
            route.close(one.place, str(one), "who may do what is not told apart by method here")


def _addresses(rules: Sequence[Directive], route: Level) -> None:
    allowed: list[str] = []
    denied: list[str] = []
    for one in rules:
        network = one.arg
        if network in ("all", *EVERYBODY):
            if one.name == "allow":
                allowed = []
                break
            if not allowed:
                route.keys.pop("allow", None)
                route.put("deny", list(EVERYBODY), one.place)
                return
            break
        if network == "unix:":
            continue
        if not _network(network):
            route.close(one.place, str(one), "it is no network")
            return
        if one.name == "allow":
            allowed.append(network)
            continue
        before = [each for each in allowed if _overlap(each, network)]
        if before:
            why = f"here deny wins, also over {', '.join(before)}"
            route.leave(one.place, str(one), why, guard=True)
        denied.append(network)
    else:
        allowed = []  # nothing denies the rest
        if not denied:
            return
    if allowed:
        route.put("allow", allowed, rules[0].place)
    if denied:
        route.put("deny", denied, rules[0].place)


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _overlap(one: str, other: str) -> bool:
    a, b = _network(one), _network(other)
    return a is not None and b is not None and a.version == b.version and a.overlaps(b)


def _passwords(scope: Scope, route: Route) -> None:
    realm, file = scope.one("auth_basic"), scope.one("auth_basic_user_file")
    if realm is None or realm.arg == "off":
        return
    if file is None or "$" in file.arg:
        route.close(realm.place, str(realm), "whose passwords are asked for is not said")
        return
    path = fields.absolute(file.arg, scope.folder)
    route.put_in(("basic_auth", "users_file"), path, file.place)
    if "$" not in realm.arg and realm.arg:
        route.put_in(("basic_auth", "realm"), realm.arg, realm.place)


def client_certificates(scope: Scope, site: Site, *, all_of_them: bool) -> None:
    """Take over ``ssl_verify_client``. ``all_of_them``: a condition refuses clients that show no
    certificate."""
    verify, ca = scope.one("ssl_verify_client"), scope.one("ssl_client_certificate")
    if verify is None or verify.arg == "off":
        return
    if ca is None:
        site.close(verify.place, str(verify), "whose certificates are asked for is not said")
        return
    mode = "require" if verify.arg == "on" or all_of_them else "request"
    path = fields.absolute(ca.arg, scope.folder)
    site.put_in(("tls", "client_auth"), {"ca_file": path, "mode": mode}, verify.place)
    if mode == "request":
        site.note(verify.place, "the backend decides: it is told in Client-Cert")


def subrequest(scope: Scope, route: Route, asked: Mapping[str, str]) -> None:
    """Take over ``auth_request``. ``asked`` has the backend's URL of each internal location."""
    found = scope.one("auth_request")
    if found is None or found.arg == "off":
        scope.all("auth_request_set")
        return
    url = asked.get(found.arg)
    copied = []
    taken = {}
    for one in scope.all("auth_request_set"):
        header = re.fullmatch(r"\$upstream_http_(\w+)", one.args[1] if len(one.args) > 1 else "")
        if header:
            taken[one.arg] = header[1].replace("_", "-").title()
    for one in scope.all("proxy_set_header"):
        if len(one.args) > 1 and one.args[1] in taken:
            one.used = True
            copied.append(taken[one.args[1]])
            if taken[one.args[1]].lower() != one.arg.lower():
                why = f"the backend gets it as {taken[one.args[1]]}"
                route.leave(one.place, str(one), why)
    if not url:
        route.close(found.place, str(found), "who is asked is not said by one proxy_pass")
        return
    route.put("forward_auth", {"url": url, **({"copy": copied} if copied else {})}, found.place)
    for code in scope.all("error_page"):
        if code.args[:1] == ("401",):
            route.note(code.place, "where to log in says the answer of the one who is asked")


def rates(scope: Scope, route: Route, zones: Mapping[str, Zone]) -> None:
    """Take over ``limit_req``. Requests that nginx lets wait are refused here."""
    said = []
    place = route.place
    for one in scope.all("limit_req"):
        words = dict(word.partition("=")[::2] for word in one.args)
        zone = zones.get(words.get("zone", ""))
        if zone is None:
            route.leave(one.place, str(one), "its zone is not known, or not by address or server")
            continue
        by, rate, place = zone[0], zone[1], one.place
        burst = int(words["burst"]) + 1 if words.get("burst", "").isdigit() else 1
        said.append({"rate": rate, "burst": str(burst), "by": by})
    scope.all("limit_req_status")
    if said:
        route.put("rate_limit", said if len(said) > 1 else said[0], place)


def zone(directive: Directive) -> tuple[str, Zone] | None:
    """Read the name of a ``limit_req_zone`` and what it limits. None where no rate here says so."""
    by = {
        "$binary_remote_addr": "address",
        "$remote_addr": "address",
        "$server_name": "site",
        "$host": "site",
    }.get(directive.arg)
    words = dict(word.partition("=")[::2] for word in directive.args[1:])
    rate = re.fullmatch(r"(\d+)r/([sm])", words.get("rate", ""))
    name = words.get("zone", "").partition(":")[0]
    if by is None or rate is None or not name:
        return None
    return name, (by, f"{rate[1]}/{rate[2]}", directive.place)
