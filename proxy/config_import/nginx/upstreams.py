"""``upstream`` blocks and the targets of ``proxy_pass``: which backends, and how they are asked."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any

from acme_client.late_dataclass import dataclass

from ..backends import Backend, weighted
from ..draft import Level, Place
from ..times import duration
from .directives import Directive, Scope

_BALANCE = {"least_conn": "least_conn", "least_time": "least_conn", "random": "random_two"}
_HASHES = {
    "$remote_addr": "address",
    "$binary_remote_addr": "address",
    "$request_uri": "path",
    "$uri": "path",
}
# nginx's schemes, and ours.
_HTTP = {"http": "http", "https": "https"}
_GRPC = {"grpc": "h2c", "grpcs": "https", "http": "h2c", "https": "https"}
_USUAL = ("keepalive", "keepalive_requests", "keepalive_timeout", "keepalive_time", "zone")


@dataclass(slots=True)
class Upstream:
    place: Place
    servers: list[tuple[str, str]] = field(default_factory=list)  # address, weight
    keys: dict[str, tuple[Any, Place]] = field(default_factory=dict)
    left: list[tuple[Place, str, str]] = field(default_factory=list)
    told: bool = False


def read_upstream(block: Directive) -> Upstream:
    found = Upstream(block.place)
    backup: list[Directive] = []
    for one in block.block or ():
        one.used = True
        if one.name == "server":
            words = dict(word.partition("=")[::2] for word in one.args[1:])
            if "down" in words:
                continue
            if "backup" in words:
                backup.append(one)
                continue
            found.servers.append((one.arg, words.get("weight") or "1"))
            if "max_fails" in words and words["max_fails"] != "1":
                why = "a backend that refuses is passed over; breaker leaves it out for a while"
                if words["max_fails"] != "0":
                    found.left.append((one.place, str(one), why))
        elif one.name in _BALANCE:
            found.keys["balance"] = (_BALANCE[one.name], one.place)
        elif one.name == "ip_hash":
            found.keys["balance"] = ("hash", one.place)
        elif one.name == "hash":
            _hash(one, found)
        elif one.name == "sticky" and one.arg == "cookie" and len(one.args) > 1:
            found.keys["sticky_cookie"] = (one.args[1], one.place)
        elif one.name not in _USUAL:
            found.left.append((one.place, str(one), "it has no counterpart here"))
    for one in backup:
        if found.servers:
            why = "there are no backends that wait for others to fail"
            found.left.append((one.place, str(one), why))
        else:
            found.servers.append((one.arg, "1"))
    return found


def _hash(one: Directive, found: Upstream) -> None:
    by = _HASHES.get(one.arg)
    header = re.fullmatch(r"\$(http|cookie)_(\w+)", one.arg)
    if header:
        kind = "header" if header[1] == "http" else "cookie"
        name = header[2].replace("_", "-") if kind == "header" else header[2]
        by = f"{kind}:{name}"
    if by is None:
        found.left.append((one.place, str(one), "hash_by knows address, path, header and cookie"))
        return
    found.keys["balance"] = ("hash", one.place)
    if by != "address":
        found.keys["hash_by"] = (by, one.place)


@dataclass(frozen=True, slots=True)
class Target:
    """What a ``proxy_pass`` says. ``path`` is None where it has no URI part."""

    scheme: str
    host: str
    path: str | None
    backends: list[Backend]
    upstream: Upstream | None


def target(text: str, upstreams: dict[str, Upstream], *, grpc: bool = False) -> Target | None:
    """Read the target of a ``proxy_pass`` or ``grpc_pass``. None where the text has a variable, or
    is no address."""
    schemes = _GRPC if grpc else _HTTP
    found = re.fullmatch(r"([a-z]+)://(unix:[^:]+|[^/]+)(?::(?=/|$))?(/.*)?", text)
    if not found or found[1] not in schemes or "$" in text:
        return None
    scheme, host, path = schemes[found[1]], found[2], found[3]
    known = upstreams.get(host)
    servers = known.servers if known else [(host, "1")]
    backends = [weighted(_url(scheme, address), weight) for address, weight in servers]
    return Target(scheme, host, path, backends, known)


def _url(scheme: str, address: str) -> str:
    if address.startswith("unix:"):
        return address.rstrip(":")
    port = {"http": "80", "https": "443", "h2c": "80"}[scheme]
    has_port = re.search(r":\d+$", address) and not re.fullmatch(r"\[[^\]]*\]", address)
    return f"{scheme}://{address}" if has_port else f"{scheme}://{address}:{port}"


def timeouts(scope: Scope, level: Level, kind: str) -> None:
    """Take over timeouts. ``kind`` is proxy, grpc or fastcgi. nginx's read timeout is for the head
    and for each piece of the body."""
    connect = scope.one(f"{kind}_connect_timeout")
    if connect is not None and duration(connect.arg) and kind != "fastcgi":
        level.put("connect_timeout", duration(connect.arg), connect.place)
    read = scope.one(f"{kind}_read_timeout")
    if read is not None and duration(read.arg):
        level.put("response_timeout", duration(read.arg), read.place)
        level.put("idle_timeout", duration(read.arg), read.place)


def secure(scope: Scope, level: Level, place: Place, kind: str = "proxy") -> None:
    """Say how an https backend is verified. nginx verifies none unless it is told to."""
    verify = scope.one(f"{kind}_ssl_verify")
    trusted = scope.one(f"{kind}_ssl_trusted_certificate")
    scope.all(f"{kind}_ssl_server_name")
    name = scope.one(f"{kind}_ssl_name")
    if verify is not None and verify.arg == "on":
        if trusted is not None:
            level.put_in(("backend_tls", "ca_file"), trusted.arg, trusted.place)
    else:
        level.put_in(("backend_tls", "insecure"), True, verify.place if verify else place)
        level.note(
            place,
            "nginx verifies no backend's certificate unless told to; take insecure out where it "
            "can be verified",
        )
    if name is not None and "$" not in name.arg:
        level.put_in(("backend_tls", "server_name"), name.arg, name.place)
