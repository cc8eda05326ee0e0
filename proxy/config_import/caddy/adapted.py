"""Caddy's JSON, as ``caddy adapt`` prints it, read back into directives of a Caddyfile.

A route of the JSON is a ``handle`` (where it ends the matter) or a ``route`` whose directives act
in their order, so that `directives` treats it as it treats a Caddyfile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...config.syntax.faults import Path as KeyPath
from ...config.syntax.yaml_reader import parse
from ..draft import CannotRead, Place
from ..source_text import read_text
from ..word_lists import words
from .tokens import Directive

_OF_PROXY = words(
    """
    handler upstreams transport load_balancing health_checks headers flush_interval
    request_buffers response_buffers
    """
)
_LARGEST = 16 << 20
At = Callable[[KeyPath], Place]


def read(path: str) -> tuple[list[tuple[list[str], Place, list[Directive]]], list[Directive]]:
    """Return the sites as `reader` takes them (addresses, place, block), and what could be said of
    the whole server as directives of the global options. Raises `CannotRead`."""
    document = parse(read_text(path, largest=_LARGEST), path, None)
    if document.faults:
        raise CannotRead(str(document.faults[0]))
    tree = document.value

    def at(way: KeyPath) -> Place:
        return Place(path, document.origins.at(way).line)

    servers = _in(tree, "apps", "http", "servers")
    if not isinstance(servers, dict):
        raise CannotRead(f"{path}: there is no apps.http.servers; give what caddy adapt prints")
    sites = []
    own = _certificates(tree, servers)
    for name, server in servers.items():
        way: KeyPath = ("apps", "http", "servers", name)
        ports = [str(one) for one in server.get("listen") or ()]
        for number, route in enumerate(server.get("routes") or ()):
            here = (*way, "routes", number)
            hosts = [one for match in route.get("match") or [{}] for one in match.get("host", [""])]
            block = list(_handlers(route, here, at))
            pair = next((own[host] for host in hosts if host in own), None)
            if pair is not None:
                block.append(Directive("tls", pair, at(here)))
            sites.append((_addresses(hosts, ports), at(here), block))
    return sites, list(_global(tree, at))


def _in(tree: Any, *steps: str) -> Any:
    for step in steps:
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _certificates(tree: Any, servers: dict[str, Any]) -> dict[str, list[str]]:
    """Return, by host, the files of its certificate and key, which a policy names by a tag."""
    tagged = {
        tag: [str(one.get("certificate")), str(one.get("key"))]
        for one in _in(tree, "apps", "tls", "certificates", "load_files") or ()
        for tag in one.get("tags") or ()
    }
    return {
        str(host): tagged[tag]
        for server in servers.values()
        for policy in server.get("tls_connection_policies") or ()
        for host in _in(policy, "match", "sni") or ()
        for tag in _in(policy, "certificate_selection", "any_tag") or ()
        if tag in tagged
    }


def _addresses(hosts: list[str], ports: list[str]) -> list[str]:
    port = ports[0].rpartition(":")[2] if ports else "443"
    shown = "" if port in ("443", "80") else f":{port}"
    scheme = "http://" if port == "80" else ""
    return [f"{scheme}{host}{shown}" or ":443" for host in hosts]


def _global(tree: Any, at: At) -> Iterator[Directive]:
    policies = _in(tree, "apps", "tls", "automation", "policies") or []
    for number, policy in enumerate(policies):
        for issuer in policy.get("issuers") or ():
            place = at(("apps", "tls", "automation", "policies", number))
            if issuer.get("module") == "internal":
                yield Directive("local_certs", [], place)
            if issuer.get("email"):
                yield Directive("email", [issuer["email"]], place)
            if issuer.get("ca"):
                yield Directive("acme_ca", [issuer["ca"]], place)


# Routes


def _handlers(route: dict[str, Any], way: KeyPath, at: At) -> Iterator[Directive]:
    for number, handler in enumerate(route.get("handle") or ()):
        yield from _handler(handler, (*way, "handle", number), at)


def _subroute(handler: dict[str, Any], way: KeyPath, at: At) -> Iterator[Directive]:
    scripts = any(map(_runs_scripts, handler.get("routes") or ()))
    for number, route in enumerate(handler.get("routes") or ()):
        here = (*way, "routes", number)
        matches = route.get("match") or [{}]
        if scripts and any(_looks_for_index(match) for match in matches):
            continue  # php_fastcgi does that by itself
        if scripts and _runs_scripts(route):
            matches = [{}]
        for choice, match in enumerate(matches):
            block = list(_handlers(route, here, at))
            tried = _in(match, "file", "try_files")
            if tried is not None and len(match) == 1:
                yield Directive("try_files", [_placeholders(one) for one in tried], at(here))
                continue
            if not match:
                name = "handle" if route.get("group") or route.get("terminal") else "route"
                if name == "route":
                    yield from block
                else:
                    yield Directive(name, [], at(here), block)
                continue
            named = f"@{'-'.join(map(str, here))}-{choice}"
            yield Directive(named, [], at(here), list(_matchers(match, at(here))))
            name = "handle" if route.get("group") or route.get("terminal") else "route"
            if name == "route":  # what stands in it acts for itself, when the matcher fits
                for one in block:
                    yield Directive(one.name, [named, *one.args], one.place, one.block)
            else:
                yield Directive(name, [named], at(here), block)


def _runs_scripts(route: dict[str, Any]) -> bool:
    handlers = route.get("handle") or ()
    return any(_in(one, "transport", "protocol") == "fastcgi" for one in handlers)


def _looks_for_index(match: dict[str, Any]) -> bool:
    return any(str(one).endswith("index.php") for one in _in(match, "file", "try_files") or ())


def _matchers(match: dict[str, Any], place: Place) -> Iterator[Directive]:
    for name, value in match.items():
        match name:
            case "path" | "host" | "method":
                yield Directive(name, [str(one) for one in value], place)
            case "path_regexp":
                yield Directive(name, [value.get("name", "_"), value.get("pattern", "")], place)
            case "header":
                for key, values in value.items():
                    yield Directive("header", [key, str(values[0]) if values else "*"], place)
            case "header_regexp":
                for key, said in value.items():
                    yield Directive(name, [key, said.get("pattern", "")], place)
            case "query":
                for key, values in value.items():
                    yield Directive("query", [f"{key}={values[0]}"], place)
            case "remote_ip" | "client_ip":
                yield Directive(name, [str(one) for one in value.get("ranges", ())], place)
            case "not":
                for inner in value:
                    yield Directive("not", [], place, list(_matchers(inner, place)))
            case _:
                yield Directive(name, [str(value)], place)


def _placeholders(text: str) -> str:
    for long, short in (
        ("{http.request.uri.path}", "{path}"),
        ("{http.request.uri}", "{uri}"),
        ("{http.request.host}", "{host}"),
        ("{http.error.status_code}", "{err.status_code}"),
    ):
        text = text.replace(long, short)
    return text


# Handlers


def _handler(one: dict[str, Any], way: KeyPath, at: At) -> Iterator[Directive]:
    place = at(way)
    match one.get("handler"):
        case "subroute":
            yield from _subroute(one, way, at)
        case "static_response":
            yield from _fixed(one, place)
        case "vars" if "root" in one:
            yield Directive("root", ["*", one["root"]], place)
        case "file_server":
            words = ["browse"] if "browse" in one else []
            block = [Directive("root", [one["root"]], place)] if "root" in one else []
            if one.get("index_names"):
                block.append(Directive("index", list(one["index_names"]), place))
            yield Directive("file_server", words, place, block)
        case "encode":
            block = []
            if one.get("minimum_length"):
                block.append(Directive("minimum_length", [str(one["minimum_length"])], place))
            yield Directive("encode", list(one.get("encodings") or ()), place, block)
        case "headers":
            yield from _fields(one, place)
        case "rewrite":
            if one.get("strip_path_prefix"):
                yield Directive("uri", ["strip_prefix", one["strip_path_prefix"]], place)
            elif one.get("uri") and "http.matchers.file" not in one["uri"]:
                yield Directive("rewrite", ["*", _placeholders(one["uri"])], place)
            elif not one.get("uri"):
                yield Directive("uri", [*one], place)
        case "authentication":
            accounts = _in(one, "providers", "http_basic", "accounts") or []
            block = [Directive(each["username"], [each["password"]], place) for each in accounts]
            yield Directive("basic_auth", [], place, block)
        case "request_body" if one.get("max_size"):
            block = [Directive("max_size", [str(one["max_size"])], place)]
            yield Directive("request_body", [], place, block)
        case "error":
            yield Directive("error", [str(one.get("status_code", 500))], place)
        case "reverse_proxy":
            yield from _proxy(one, place)
        case "vars":
            return
        case kind:
            yield Directive(str(kind), [], place)


def _fixed(one: dict[str, Any], place: Place) -> Iterator[Directive]:
    if str(one.get("abort", "")).lower() == "true":
        yield Directive("abort", [], place)
        return
    status = str(one.get("status_code", "200"))
    where = _in(one, "headers", "Location")
    if where:
        yield Directive("redir", [_placeholders(where[0]), status], place)
        return
    words = [_placeholders(one["body"])] if one.get("body") else []
    for name, values in (one.get("headers") or {}).items():
        yield Directive("header", [name, values[0]], place)
    yield Directive("respond", [*words, status], place)


def _fields(one: dict[str, Any], place: Place) -> Iterator[Directive]:
    for side, name in (("response", "header"), ("request", "request_header")):
        said = one.get(side) or {}
        for sign, key in (("", "set"), ("+", "add")):
            for field, values in (said.get(key) or {}).items():
                yield Directive(name, [f"{sign}{field}", _placeholders(str(values[0]))], place)
        for field in said.get("delete") or ():
            yield Directive(name, [f"-{field}"], place)


def _proxy(one: dict[str, Any], place: Place) -> Iterator[Directive]:
    transport = one.get("transport") or {}
    dials = [str(each.get("dial", "")) for each in one.get("upstreams") or ()]
    if transport.get("protocol") == "fastcgi":
        told = [
            Directive("env", [name, str(value)], place)
            for name, value in (transport.get("env") or {}).items()
        ]
        yield Directive("php_fastcgi", dials, place, told)
        return
    block = []
    tls = transport.get("tls")
    if tls is not None:
        inner = [Directive("tls", [], place)]
        if str(tls.get("insecure_skip_verify", "")).lower() == "true":
            inner.append(Directive("tls_insecure_skip_verify", [], place))
        if tls.get("server_name"):
            inner.append(Directive("tls_server_name", [tls["server_name"]], place))
        block.append(Directive("transport", ["http"], place, inner))
    elif transport.get("versions"):
        versions = [str(each) for each in transport["versions"]]
        block.append(
            Directive("transport", ["http"], place, [Directive("versions", versions, place)])
        )
    policy = _in(one, "load_balancing", "selection_policy", "policy")
    if policy:
        block.append(Directive("lb_policy", [policy], place))
    held = _in(one, "load_balancing", "try_duration")
    if held:
        block.append(Directive("lb_try_duration", [_span(held)], place))
    active = _in(one, "health_checks", "active") or {}
    if active.get("uri"):
        block.append(Directive("health_uri", [active["uri"]], place))
        block += [
            Directive(f"health_{key}", [_span(active[key])], place)
            for key in ("interval", "timeout")
            if active.get(key)
        ]
    for side, name in (("request", "header_up"), ("response", "header_down")):
        said = _fields({side: _in(one, "headers", side) or {}}, place)
        block += [Directive(name, each.args, place) for each in said]
    block += [Directive(key, [], place) for key in one if key not in _OF_PROXY]
    yield Directive("reverse_proxy", dials, place, block)


def _span(value: Any) -> str:
    """Spell a duration, which is a number of nanoseconds or a text of Go."""
    text = str(value)
    return f"{int(text) // 1_000_000}ms" if text.isdigit() else text
