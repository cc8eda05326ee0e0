"""``reverse_proxy``: backends, how one of them is chosen, health, TLS, fields."""

from __future__ import annotations

import re

from ..backends import Backend, shown, url_of
from ..draft import Route
from ..times import duration
from ..word_lists import words
from .placeholders import in_field
from .tokens import Directive

_POLICIES = {
    "round_robin": {"balance": "round_robin"},
    "least_conn": {"balance": "least_conn"},
    "random": {"balance": "random_two"},
    "random_choose": {"balance": "random_two"},
    "ip_hash": {"balance": "hash"},
    "client_ip_hash": {"balance": "hash"},
    "uri_hash": {"balance": "hash", "hash_by": "path"},
}
_NEEDLESS = frozenset(
    words(
        """
    flush_interval request_buffers response_buffers stream_timeout stream_close_delay
    stream_buffer_size lb_try_interval lb_retries lb_retry_match fail_duration max_fails
    unhealthy_status unhealthy_latency unhealthy_request_count trusted_proxies verbose_logs
    health_headers health_method health_request_body health_passes health_fails health_port
    health_body health_status health_follow_redirects
    """
    )
)
_TRANSPORT_NEEDLESS = frozenset(
    words(
        """
    keepalive keepalive_interval keepalive_idle_conns keepalive_idle_conns_per_host
    read_buffer write_buffer max_response_header compression max_conns_per_host
    write_timeout expect_continue_timeout resolvers dial_fallback_delay local_address
    tls_renegotiation tls_timeout tls_curves tls
    """
    )
)
_TOLD = words(
    """
    x-forwarded-for x-forwarded-proto x-forwarded-host x-real-ip x-forwarded-port upgrade
    connection via x-request-id
    """
)


def backend(text: str) -> str | None:
    """Return an upstream as we write it; None where it has no address of its own."""
    if "{" in text:
        return None
    if text.startswith(("unix//", "unix+h2c//")):
        return None if "h2c" in text[:9] else f"unix:{text.partition('/')[2]}"
    found = re.fullmatch(r"(?:(http|https|h2c)://)?([^/]*?)(?::(\d+))?/?", text)
    if not found or (not found[2] and not found[3]):
        return None
    scheme, host, port = found[1] or "http", found[2] or "localhost", found[3]
    if scheme == "http" and port == "443":
        return None
    return f"{scheme}://{host}:{port or {'http': 80, 'https': 443, 'h2c': 80}[scheme]}"


def reverse_proxy(one: Directive, upstreams: list[str], route: Route) -> None:
    place = one.place
    addresses = list(upstreams)
    for each in one.inner("to"):
        addresses += each.args
    secure = any(
        inner.name.startswith("tls")
        for each in one.inner("transport")
        for inner in each.block or ()
    )
    backends: list[Backend] = []
    for address in addresses:
        if secure and "://" not in address and not address.startswith("unix"):
            address = f"https://{address}"
        made = backend(address)
        if made is None:
            route.leave(place, f"reverse_proxy {address}", "a backend is an address of its own")
        elif made not in backends:
            backends.append(made)
    if not backends:
        if not addresses:
            route.leave(place, str(one), "no backend is named")
        return
    if len(backends) > 1:
        route.put("balance", "random_two", place)  # Caddy chooses at random unless told otherwise
    route.put("backend", shown(backends), place)
    for each in one.block or ():
        _option(each, route, one)
    if any(url_of(made).startswith("https://") for made in backends) and not one.inner("header_up"):
        route.put("preserve_host", False, place)


def _option(each: Directive, route: Route, whole: Directive) -> None:
    args, place = each.args, each.place
    match each.name:
        case "to":
            pass
        case "lb_policy" if args and args[0] in _POLICIES:
            for key, value in _POLICIES[args[0]].items():
                route.put(key, value, place)
        case "lb_policy" if args[:1] == ["header"] and len(args) > 1:
            route.put("balance", "hash", place)
            route.put("hash_by", f"header:{args[1]}", place)
        case "lb_policy" if args[:1] == ["cookie"]:
            route.put("sticky_cookie", args[1] if len(args) > 1 else "lb", place)
        case "lb_policy" if args[:1] == ["weighted_round_robin"]:
            weights, backends = args[1:], route.value("backend")
            if isinstance(backends, list) and len(weights) == len(backends):
                pairs = zip(backends, weights, strict=True)
                route.put("backend", [{"url": url, "weight": w} for url, w in pairs], place)
                route.put("balance", "round_robin", place)
        case "lb_try_duration" if args and duration(args[0]):
            route.put("wait_for_backend", duration(args[0]), place)
        case "health_uri" if args:
            route.put_in(("health", "path"), args[0], place)
        case "health_interval" | "health_timeout" if args and whole.inner("health_uri"):
            route.put_in(("health", each.name.removeprefix("health_")), duration(args[0]), place)
        case "header_up":
            header_up(args, each, route)
        case "header_down":
            response_field(args, each, route)
        case "transport" if args[:1] == ["http"]:
            for inner in each.block or ():
                _transport(inner, route)
        case name if name in _NEEDLESS or name.startswith("health_"):
            pass
        case "handle_response" | "@error" | "replace_status":
            route.leave(place, str(each), "answers of a backend are changed by a filter (use)")
        case name if name.startswith("@"):
            pass  # only handle_response uses it, which is told
        case _:
            route.leave(place, str(each), "it has no counterpart here")


def _transport(one: Directive, route: Route) -> None:
    args, place = one.args, one.place
    match one.name:
        case "tls_insecure_skip_verify":
            route.put_in(("backend_tls", "insecure"), True, place)
        case "tls_server_name" if args:
            route.put_in(("backend_tls", "server_name"), args[0], place)
        case "tls_trusted_ca_certs" if args:
            route.put_in(("backend_tls", "ca_file"), args[0], place)
        case "tls_trust_pool" if args[:1] == ["file"] and len(args) == 2:
            route.put_in(("backend_tls", "ca_file"), args[1], place)
        case "dial_timeout" if args and duration(args[0]):
            route.put("connect_timeout", duration(args[0]), place)
        case "response_header_timeout" if args and duration(args[0]):
            route.put("response_timeout", duration(args[0]), place)
        case "read_timeout" if args and duration(args[0]):
            route.put("idle_timeout", duration(args[0]), place)
        case "versions":
            if "h2c" in args:
                backends = route.value("backend")
                several = backends if isinstance(backends, list) else [backends]
                made = [one.replace("http://", "h2c://") for one in several]
                route.put("backend", shown(made), place)
            elif args in (["2"], ["h2"]):
                route.put_in(("backend_tls", "http2"), True, place)
        case name if name in _TRANSPORT_NEEDLESS:
            pass
        case "proxy_protocol":
            route.leave(place, str(one), "backends are told the client in X-Forwarded-For")
        case _:
            route.leave(place, str(one), "it has no counterpart here")


def header_up(args: list[str], one: Directive, route: Route) -> None:
    name, *values = args or [""]
    low = name.lstrip("+-?>").lower()
    if low == "host":
        text = values[0] if values else ""
        if text in ("{upstream_hostport}", "{http.reverse_proxy.upstream.hostport}",
                    "{http.reverse_proxy.upstream.host}"):  # fmt: skip
            route.put("preserve_host", False, one.place)
        elif text not in ("{host}", "{hostport}", "{http.request.host}"):
            route.fix_host(one.place, str(one), text)
        else:
            route.put("preserve_host", True, one.place)
        return
    if name.startswith("-"):
        route.put_in(("request_headers", "remove"), [name[1:]], one.place)
        return
    if low in _TOLD:
        return
    value = _value(values, one, route)
    if value is None:
        return
    if name.startswith("+"):
        route.put_in(("request_headers", "add", name[1:]), value, one.place)
    else:
        route.put_in(("request_headers", "set", name.lstrip(">")), value, one.place)


def _value(values: list[str], one: Directive, route: Route) -> str | None:
    """Return the value that a field gets; None where it has none here, which is told."""
    if len(values) != 1:
        route.leave(one.place, str(one), "a value is replaced as a whole")
        return None
    value = in_field(values[0])
    if value is None:
        route.leave(one.place, str(one), "it has a placeholder that is not known here")
    return value


def response_field(args: list[str], one: Directive, route: Route) -> None:
    """Take over one field of ``header`` or ``header_down``."""
    name, *values = args or [""]
    if not name or name.startswith("@"):
        return
    if name.startswith("-"):
        if "*" in name:
            route.leave(one.place, str(one), "fields are left out by their whole names")
            return
        route.put_in(("headers", "remove"), [name[1:]], one.place)
        return
    value = _value(values, one, route)
    if value is None:
        return
    kind = {"+": "add", "?": "default"}.get(name[:1], "set")
    bare = name.lstrip("+?>")
    if bare.lower() == "cache-control" and kind == "set" and "root" in route.keys:
        route.put("cache_control", {"*": value}, one.place)
        return
    route.put_in(("headers", kind, bare), value, one.place)
