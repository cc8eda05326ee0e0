"""Names that nobody has configured, certified when somebody comes for them: a real CA behind a proxy
that counts orders, a real app that is asked, the CA's own DNS."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from support.ca_faults import Faults
from support.client import Talk, https
from support.pebble import Pebble
from support.server import Server, treehouse

SITE = "shops.example"


class App:
    """Says which names are wanted: those in ``allowed``; ``asked`` has every question."""

    def __init__(self) -> None:
        self.allowed: set[str] = set()
        self.asked: list[str] = []
        self.status = 200
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                (name,) = parse_qs(urlsplit(self.path).query)["domain"]
                app.asked.append(name)
                self.send_response(app.status if name in app.allowed else 403)
                self.send_header("Location", "/allowed?domain=" + name)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/allowed"

    def __enter__(self) -> App:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class Place:
    """A CA, its proxy, an app, and a server between them; ``rule`` is the site's ``on_demand``."""

    def __init__(self, folder: Path, root: Path, ports: tuple[int, int], ca: Pebble) -> None:
        self.folder, self.root, self.ports, self.ca = folder, root, ports, ca
        self.state = folder / "state"
        self.more = ""

    def ca_file(self, front: Faults) -> Path:
        path = self.folder / "ca.pem"
        path.write_bytes(front.ca_pem)
        return path

    def config(self, front: Faults, rule: str, challenge: str = "http-01") -> Path:
        path = self.folder / "config.yaml"
        path.write_text(
            f"""
listen: {{http: ["127.0.0.1:{self.ports[0]}"], https: ["127.0.0.1:{self.ports[1]}"]}}
workers: 2
state: {self.state}
acme: {{directory: "{front.directory}", ca_file: {self.ca_file(front)}, challenges: [{challenge}]}}
sites:
  - {{names: [{SITE}], root: {self.root}, on_demand: {rule}}}
{self.more}
"""
        )
        return path

    def server(self, front: Faults, rule: str, challenge: str = "http-01") -> Server:
        path = self.config(front, rule, challenge)
        return Server(["--config", str(path)], self.folder)

    def visit(self, name: str) -> Talk:
        return https(self.ports[1], name, self.ca.root())

    def page(self, name: str) -> bytes:
        with self.visit(name) as talk:
            return talk.asks("/", name).body

    def entry(self, server: Server, name: str) -> dict[str, Any]:
        entries = server.status(self.state)["certificates"]
        (found,) = [one for one in entries if one["names"] == [name]]
        return found

    def refused(self, name: str) -> None:
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            https(self.ports[1], name, None)


@pytest.fixture
def place(folder: Path, root: Path, ports: tuple[int, int]) -> Iterator[Place]:
    with Pebble(ports[0], ports[1], nonce_reject=0) as ca:
        yield Place(folder, root, ports, ca)


@pytest.fixture
def front(place: Place) -> Iterator[Faults]:
    with Faults(place.ca) as made:
        yield made


def orders(front: Faults, name: str | None = None) -> int:
    """For this name, or for any but the site's own."""
    found = [
        one["value"]
        for seen in front.of("newOrder")
        if seen.payload
        for one in seen.payload["identifiers"]
    ]
    return sum(one == name if name else one != SITE for one in found)


@pytest.fixture
def app() -> Iterator[App]:
    with App() as made:
        yield made


def test_a_pattern_allows_and_everything_else_is_refused(place: Place, front: Faults) -> None:
    with place.server(front, '{patterns: ["*.customers.example", www.else.example]}') as server:
        server.await_log(f"{SITE}: certificate obtained", within=60)
        assert place.page("one.customers.example") == b"<p>hello\n"
        assert place.page("www.else.example") == b"<p>hello\n"
        for name in (
            "two.one.customers.example",
            "customers.example",
            "else.example",
            "a_b.customers.example",
        ):
            place.refused(name)
        assert orders(front) == 2
        # Another host's connection is no way in, and neither is a name without a certificate.
        with place.visit("one.customers.example") as talk:
            assert talk.asks("/", "www.else.example").status == 421
            assert talk.asks("/", "three.customers.example").status == 421
        entry = place.entry(server, "www.else.example")
        assert (entry["state"], entry["served"], entry["on_demand_for"]) == ("fresh", True, SITE)
        told = treehouse("why", "www.else.example", "--state", str(place.state)).stdout
        assert f"on demand  for {SITE}" in told
        wide = {**os.environ, "COLUMNS": "200"}
        listed = treehouse("certs", "list", "--state", str(place.state), env=wide).stdout
        assert "www.else.example" in listed


def test_an_app_is_asked_and_its_no_is_remembered(place: Place, front: Faults, app: App) -> None:
    app.allowed = {"good.example", "moved.example"}
    with place.server(front, f"{{ask: '{app.url}?kind=shop'}}") as server:
        assert place.page("good.example") == b"<p>hello\n"
        for _ in range(3):
            place.refused("bad.example")
        assert app.asked == ["good.example", "bad.example"]
        server.await_log("bad.example: no certificate on demand: the ask URL says 403")
        told = treehouse("why", "bad.example", "--state", str(place.state)).stdout
        assert "bad.example was refused on demand: the ask URL says 403" in told
        # A redirect is no yes, and is not followed.
        app.status = 302
        place.refused("moved.example")
        assert app.asked.count("moved.example") == 1
        # What no CA certifies is nobody's question.
        for name in ("single", "under_score.example", "xn--zzzz--.example"):
            place.refused(name)
        assert app.asked == ["good.example", "bad.example", "moved.example"]
        assert orders(front) == 1


def test_an_app_that_does_not_answer_is_no_yes(place: Place, front: Faults, app: App) -> None:
    with place.server(front, "{ask: 'http://127.0.0.1:9/'}") as server:
        place.refused("good.example")
        server.await_log("good.example: .*the ask URL cannot be asked: connection refused")
        assert orders(front) == 0


def test_a_name_whose_dns_leads_here(place: Place, front: Faults) -> None:
    place.ca.resolve("away.example", "192.0.2.99")
    rule = f"{{dns: true, addresses: [127.0.0.1], resolver: '127.0.0.1:{place.ca.dns_port}'}}"
    with place.server(front, rule) as server:
        assert place.page("here.example") == b"<p>hello\n"
        place.refused("away.example")
        server.await_log("away.example: .*its DNS leads to 192.0.2.99")
        assert orders(front) == 1


def test_every_condition_that_is_given_must_allow(place: Place, front: Faults, app: App) -> None:
    app.allowed = {"a.customers.example", "b.other.example"}
    with place.server(front, f"{{ask: '{app.url}', patterns: ['*.customers.example']}}"):
        assert place.page("a.customers.example") == b"<p>hello\n"
        place.refused("b.other.example")
        place.refused("c.customers.example")
        assert app.asked == ["a.customers.example", "c.customers.example"]


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_fifty_handshakes_at_two_workers_are_one_order(
    place: Place, front: Faults, app: App, challenge: str
) -> None:
    app.allowed = {"busy.example"}
    with place.server(front, f"{{ask: '{app.url}'}}", challenge) as server:
        server.await_log(f"{SITE}: certificate obtained", within=60)
        with ThreadPoolExecutor(50) as crowd:
            pages = list(crowd.map(lambda _: place.page("busy.example"), range(50)))
        assert pages == [b"<p>hello\n"] * 50
        assert orders(front, "busy.example") == 1
        assert app.asked == ["busy.example"]
        served = server.status(place.state)["workers"]
        assert all(one["requests"] for one in served), served
