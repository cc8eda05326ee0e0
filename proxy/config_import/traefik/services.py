"""Services become backends: which these are, how one of them is chosen, how they are asked."""

from __future__ import annotations

from ..backends import Backend, shown, url_of
from ..draft import Route
from ..times import duration
from .documents import Node, Source


class Services:
    """The services of a configuration. Those of containers have the port that Docker knows."""

    def __init__(self, source: Source) -> None:
        self.tree = source.tree
        self.ports = source.ports

    def answer(self, router: Node, route: Route) -> None:
        """Let the service of a router answer a route; why it cannot is told there."""
        name = router.word("service") or router.word("container")
        bare, _at, provider = name.partition("@")
        if provider == "internal":
            why = "the dashboard is here: admin: {listen: 127.0.0.1:2020}"
            route.leave(router.place, f"service {name}", why)
            return
        services = self.tree.get("http", "services")
        one = services.get(bare) if services is not None else None
        if one is None and services is not None and not router.word("service"):
            container = router.word("container")
            mine = [each for _name, each in services.items() if each.word("container") == container]
            one = mine[0] if mine else None
        if one is None:
            route.leave(router.place, f"service {name or '(none)'}", "there is no such service")
            return
        self._backends(bare, one, route, 0)

    def _backends(self, name: str, one: Node, route: Route, depth: int) -> None:
        one.used = True
        balancer = one.get("loadBalancer")
        weighted = one.get("weighted", "services")
        if weighted is not None and depth == 0:
            backends: list[Backend] = []
            for each in weighted.members():
                inner = self.tree.get("http", "services", each.word("name").partition("@")[0])
                each.use()
                if inner is None:
                    continue
                part = Route(inner.place)
                self._backends(each.word("name"), inner, part, depth + 1)
                said = part.value("backend")
                for url in said if isinstance(said, list) else [said]:
                    if url is not None:
                        weight = each.word("weight") or "1"
                        backends.append({"url": url_of(url), "weight": weight})
            if backends:
                route.put("backend", backends, weighted.place)
            return
        if balancer is None and not one.word("container"):
            kinds = ", ".join(key for key, _node in one.items())
            one.use()
            route.leave(one.place, f"the service {name} ({kinds})", "it has no counterpart here")
            return
        self._balancer(one, balancer or Node({}, one.place), route)

    def _balancer(self, one: Node, balancer: Node, route: Route) -> None:
        place = balancer.place
        backends: list[Backend] = []
        servers = balancer.get("servers")
        for each in servers.members() if servers is not None else ():
            url = each.word("url").rstrip("/")
            weight = each.word("weight")
            each.use()
            if url:
                backends.append({"url": url, "weight": weight} if weight else url)
        container = one.word("container")
        if not backends and container:
            scheme = balancer.word("server", "scheme") or "http"
            url = balancer.word("server", "url")
            port = balancer.word("server", "port") or self.ports.get(container, "")
            if not url and not port:
                route.leave(place, f"the service of {container}", "its port is not named")
                return
            backends = [url or f"{scheme}://{container}:{port}"]
            if not url:
                route.note(place, f"{container} is a name within Docker; outside it is an address")
        if not backends:
            return
        backends = [one for one in backends if _is_http(one)] or backends
        route.put("backend", shown(backends), place)
        if balancer.word("passHostHeader") == "false":
            route.put("preserve_host", False, place)
        cookie = balancer.get("sticky", "cookie")
        if cookie is not None:
            route.put("sticky_cookie", cookie.word("name") or "treehouse", cookie.place)
            cookie.use()
        health = balancer.get("healthCheck")
        if health is not None and health.word("path"):
            said = {"path": health.word("path")}
            for key in ("interval", "timeout"):
                if duration(health.word(key) or "-"):
                    said[key] = str(duration(health.word(key)))
            if health.word("hostname"):
                said["host"] = health.word("hostname")
            route.put("health", said, health.place)
            health.use()
        self._transport(balancer, route)
        balancer.use()

    def _transport(self, balancer: Node, route: Route) -> None:
        name = balancer.word("serversTransport").partition("@")[0]
        one = self.tree.get("http", "serversTransports", name) if name else None
        if one is None:
            return
        one.use()
        if one.on("insecureSkipVerify"):
            route.put_in(("backend_tls", "insecure"), True, one.place)
        if one.word("serverName"):
            route.put_in(("backend_tls", "server_name"), one.word("serverName"), one.place)
        files = one.words("rootCAs")
        if len(files) == 1 and not one.on("insecureSkipVerify"):
            route.put_in(("backend_tls", "ca_file"), files[0], one.place)
        dial = one.word("forwardingTimeouts", "dialTimeout")
        if dial and duration(dial):
            route.put("connect_timeout", duration(dial), one.place)
        head = one.word("forwardingTimeouts", "responseHeaderTimeout")
        if head and duration(head) and head not in ("0", "0s"):
            route.put("response_timeout", duration(head), one.place)


def _is_http(one: Backend) -> bool:
    return url_of(one).startswith(("http://", "https://", "h2c://"))
