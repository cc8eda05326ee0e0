"""Names that nobody has configured, certified when somebody comes for them: a real CA behind a proxy
that counts orders, a real app that is asked, the CA's own DNS."""

from __future__ import annotations

import os
import signal
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.acme.ca_faults import Exchange, Faults, Refuse, Reply
from support.acme.pebble import Pebble
from support.http.client import Talk, context, http, https
from support.http.name_app import NameApp
from support.program.ports import free_ports
from support.program.server import Server, packages, treehouse

SITE = "shops.example"


class Held:
    """A fault of the CA's: it answers when it is let."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, exchange: Exchange) -> Reply:
        self.go.wait(60)
        return exchange.forward()


class Place:
    """A CA, its proxy, an app, and a server between them; ``rule`` is the site's ``on_demand``."""

    def __init__(self, folder: Path, root: Path, ports: tuple[int, int], ca: Pebble) -> None:
        self.folder, self.root, self.ports, self.ca = folder, root, ports, ca
        self.state = folder / "state"
        self.more = self.acme = ""
        self.trusted = b""
        self._anybody = context(None)  # made once: it reads all the CAs of the machine

    def ca_file(self, front: Faults) -> Path:
        path = self.folder / "ca.pem"
        path.write_bytes(front.ca_pem)
        return path

    def config(self, front: Faults, rule: str, challenge: str = "http-01") -> Path:
        # Where a test says nothing of it, nobody is refused because the machine is busy.
        waits = rule if "wait:" in rule else rule.removesuffix("}") + ", wait: 60s}"
        path = self.folder / "config.yaml"
        path.write_text(
            f"""
listen: {{http: ["127.0.0.1:{self.ports[0]}"], https: ["127.0.0.1:{self.ports[1]}"]}}
workers: 2
state: {self.state}
acme: {{directory: "{front.directory}", ca_file: {self.ca_file(front)}, challenges: [{challenge}]{self.acme}}}
sites:
  - {{names: [{SITE}], root: {self.root}, on_demand: {waits}}}
{self.more}
"""
        )
        return path

    def server(
        self, front: Faults, rule: str, challenge: str = "http-01", **options: Any
    ) -> Server:
        path = self.config(front, rule, challenge)
        return Server(["--config", str(path)], self.folder, **options)

    def visit(self, name: str) -> Talk:
        if not self.trusted:
            self.trusted = self.ca.root()
        return https(self.ports[1], name, self.trusted)

    def page(self, name: str) -> bytes:
        with self.visit(name) as talk:
            return talk.asks("/", name).body

    def entry(self, server: Server, name: str, state: str) -> dict[str, Any]:
        """The status of a name, as soon as it is this: clients are answered first."""

        def found(document: dict[str, Any]) -> list[dict[str, Any]]:
            entries = document["certificates"]
            return [one for one in entries if (one["names"], one["state"]) == ([name], state)]

        return found(server.await_status(self.state, lambda document: bool(found(document))))[0]

    def refused(self, name: str) -> None:
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            https(self.ports[1], name, None, using=self._anybody)


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
def app() -> Iterator[NameApp]:
    with NameApp() as made:
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
        entry = place.entry(server, "www.else.example", "fresh")
        assert (entry["served"], entry["on_demand_for"]) == (True, SITE)
        told = treehouse("why", "www.else.example", "--state", str(place.state)).stdout
        assert f"on demand  for {SITE}" in told
        wide = {**os.environ, "COLUMNS": "200"}
        listed = treehouse("certs", "list", "--state", str(place.state), env=wide).stdout
        assert "www.else.example" in listed


def test_an_app_is_asked_and_its_no_is_remembered(
    place: Place, front: Faults, app: NameApp
) -> None:
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


def test_an_app_that_does_not_answer_is_no_yes(place: Place, front: Faults, app: NameApp) -> None:
    with place.server(front, "{ask: 'http://127.0.0.1:9/'}") as server:
        place.refused("good.example")
        server.await_log("good.example: .*the ask URL cannot be asked: connection refused")
        assert orders(front) == 0


def test_a_name_whose_dns_leads_here(place: Place, front: Faults) -> None:
    place.ca.resolve("away.example", "192.0.2.99")
    place.acme = f", resolvers: '127.0.0.1:{place.ca.dns_port}'"
    with place.server(front, "{dns: true, addresses: [127.0.0.1]}") as server:
        assert place.page("here.example") == b"<p>hello\n"
        place.refused("away.example")
        server.await_log("away.example: .*its DNS leads to 192.0.2.99")
        assert orders(front) == 1


def test_every_condition_that_is_given_must_allow(
    place: Place, front: Faults, app: NameApp
) -> None:
    app.allowed = {"a.customers.example", "b.other.example"}
    with place.server(front, f"{{ask: '{app.url}', patterns: ['*.customers.example']}}"):
        assert place.page("a.customers.example") == b"<p>hello\n"
        place.refused("b.other.example")
        place.refused("c.customers.example")
        assert app.asked == ["a.customers.example", "c.customers.example"]


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_fifty_handshakes_at_two_workers_are_one_order(
    place: Place, front: Faults, app: NameApp, challenge: str
) -> None:
    with place.server(front, f"{{ask: '{app.url}'}}", challenge) as server:
        server.await_log(f"{SITE}: certificate obtained", within=60)
        for number in range(20):  # a worker that a busy machine does not let run misses a crowd
            name = f"busy{number}.example"
            app.allowed = {name}
            before = requests(server, place)
            with ThreadPoolExecutor(50) as crowd:
                pages = list(crowd.map(lambda _, name=name: place.page(name), range(50)))
            assert pages == [b"<p>hello\n"] * 50
            assert orders(front, name) == 1
            assert app.asked.pop() == name
            assert app.asked == []
            served = requests(server, place)
            if all(count > before[pid] for pid, count in served.items()):
                return
        raise AssertionError(f"never both workers: {served}")


def requests(server: Server, place: Place) -> dict[int, int]:
    """How many each worker has answered."""
    return {one["pid"]: one["requests"] for one in server.status(place.state)["workers"]}


def test_time_is_up_and_who_comes_later_is_served(
    place: Place, front: Faults, app: NameApp
) -> None:
    app.allowed = {"slow.example"}
    with place.server(front, f"{{ask: '{app.url}', wait: 1s}}") as server:
        server.await_log(f"{SITE}: certificate obtained", within=60)
        held = Held()
        front.add("newOrder", held)
        place.refused("slow.example")
        server.await_log("slow.example: its certificate did not come in 1 s")
        # In the clear it is "not yet", for others "never heard of it".
        answer = http(place.ports[0]).asks("/", "slow.example")
        assert (answer.status, answer["retry-after"]) == (503, "30")
        assert http(place.ports[0]).asks("/", "other.example").status == 404
        # Names that are configured do not wait for it.
        assert place.page(SITE) == b"<p>hello\n"
        held.go.set()
        server.await_log("slow.example: certificate obtained")
        assert place.page("slow.example") == b"<p>hello\n"
        assert orders(front, "slow.example") == 1


def test_who_comes_in_the_clear_waits_too_and_is_sent_to_https(
    place: Place, front: Faults, app: NameApp
) -> None:
    app.allowed = {"typed.example"}
    with place.server(front, f"{{ask: '{app.url}'}}"):
        answer = http(place.ports[0]).asks("/x?y", "typed.example")
        assert answer.status == 308
        assert answer["location"] == f"https://typed.example:{place.ports[1]}/x?y"
        assert place.page("typed.example") == b"<p>hello\n"
        assert http(place.ports[0]).asks("/", "bad.example").status == 404
        token = http(place.ports[0]).asks("/.well-known/acme-challenge/x", "typed.example")
        assert token.status == 404


def test_a_ca_that_is_down_is_not_asked_again_at_once(
    place: Place, front: Faults, app: NameApp
) -> None:
    app.allowed = {"a.example"}
    with place.server(front, f"{{ask: '{app.url}'}}") as server:
        server.await_log(f"{SITE}: certificate obtained", within=60)
        front.add("newOrder", Refuse(503))
        place.refused("a.example")
        entry = place.entry(server, "a.example", "waiting")
        assert (entry["attempts"], entry["served"]) == (1, False)
        for _ in range(3):
            place.refused("a.example")
        assert app.asked == ["a.example"]
        assert orders(front) == 1
        # By hand it may be tried at any time, as any other.
        done = treehouse("certs", "renew", "a.example", "--state", str(place.state))
        assert done.returncode == 0, done.stderr
        assert place.page("a.example") == b"<p>hello\n"
        # So may a name that nobody has come for yet.
        app.allowed.add("b.example")
        done = treehouse("certs", "renew", "b.example", "--state", str(place.state))
        assert done.returncode == 0, done.stderr
        done = treehouse("certs", "renew", "c.example", "--state", str(place.state))
        assert (done.returncode, done.stderr) == (1, "the ask URL says 403\n")


def test_a_flood_of_random_names_costs_no_order_and_keeps_nobody_waiting(
    place: Place, front: Faults, app: NameApp
) -> None:
    with place.server(front, f"{{ask: '{app.url}'}}") as server:
        server.await_log(f"{SITE}: certificate obtained", within=60)
        before = [memory(pid) for pid in server.tree()]
        over = threading.Event()

        def others() -> int:
            served = 0
            while not over.is_set():
                assert place.page(SITE) == b"<p>hello\n"
                served += 1
            return served

        with ThreadPoolExecutor(17) as crowd:
            served = crowd.submit(others)
            list(crowd.map(place.refused, (f"{n:x}.flood.example" for n in range(1000))))
            over.set()
            assert served.result() > 0
        assert orders(front) == 0
        assert len(app.asked) <= 1000
        assert not [one for one in app.asked if not one.endswith(".flood.example")]
        grown = [memory(pid) - was for pid, was in zip(server.tree(), before, strict=True)]
        assert max(grown) < 16 * 2**20, grown
        # One line for a few of them, and not a thousand.
        lines = [one for one in server.log if "flood.example" in one["message"]]
        assert 0 < len(lines) < 100
        assert [one["names"] for one in server.status(place.state)["certificates"]] == [[SITE]]


def memory(pid: int) -> int:
    """Bytes that the process has to itself."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(pid)


def test_names_outlast_restarts_reloads_upgrades_and_their_rule_is_the_last_word(
    place: Place, front: Faults, app: NameApp, program: Path, shared_python: str
) -> None:
    app.allowed = {"a.example"}
    rule = f"{{ask: '{app.url}'}}"
    with place.server(front, rule) as server:
        assert place.page("a.example") == b"<p>hello\n"
        server.signal(signal.SIGKILL)
        server.ended()
    place.ca.stop()
    with place.server(
        front, rule, python=shared_python, cwd=program, environment=packages(program)
    ) as server:
        assert place.page("a.example") == b"<p>hello\n"
        assert orders(front) == 1
        # A reload that changes something else, and one that changes the rule.
        for number, text in enumerate(
            (f"{{ask: '{app.url}', wait: 50s}}", f"{{ask: '{app.url}', dns: false}}")
        ):
            place.config(front, text)
            server.signal(signal.SIGHUP)
            await_generation(server, place.state, number + 2)
            assert place.page("a.example") == b"<p>hello\n"
        place.config(front, "{patterns: ['*.other.example']}")
        server.signal(signal.SIGHUP)
        await_generation(server, place.state, 4)
        # Until the new certifier has said what it has, everything is as it was.
        server.await_certificates(place.state, {SITE})
        place.refused("a.example")
        assert (place.state / "certificates/a.example/privkey.pem").exists()
        place.config(front, rule)
        server.signal(signal.SIGHUP)
        await_generation(server, place.state, 5)
        assert place.page("a.example") == b"<p>hello\n"
        done = treehouse("upgrade", "--state", str(place.state))
        assert done.returncode == 0, done.stderr
        assert place.page("a.example") == b"<p>hello\n"
        server.await_certificates(place.state, {"a.example", SITE})
        assert orders(front) == 1
    assert app.asked == ["a.example"]


def await_generation(server: Server, state: Path, number: int) -> None:
    """It serves, the one before it has ended, and its certifier has said what it has."""
    server.await_status(
        state,
        lambda document: (
            {one["generation"] for one in document["workers"]} == {number}
            and len(server.tree()) == 4
        ),
    )


def test_a_certifier_that_dies_in_between_is_followed_by_one_that_goes_on(
    place: Place, front: Faults, app: NameApp
) -> None:
    app.allowed = {"a.example"}
    with place.server(front, f"{{ask: '{app.url}', wait: 60s}}") as server:
        server.await_log(f"{SITE}: certificate obtained", within=60)
        held = Held()
        front.add("newOrder", held)
        with ThreadPoolExecutor(1) as visitor:
            page = visitor.submit(place.page, "a.example")
            server.await_log("a.example: somebody came for it; allowed by the ask URL")
            (certifier,) = {one["pid"] for one in server.log if one.get("process") == "certifier"}
            os.kill(certifier, signal.SIGKILL)
            held.go.set()
            assert page.result(60) == b"<p>hello\n"


def test_the_default_site_is_for_those_who_are_refused(
    place: Place, front: Faults, app: NameApp
) -> None:
    app.allowed = {"a.example"}
    other = place.folder / "other"
    other.mkdir()
    (other / "index.html").write_text("<p>default\n")
    place.more = f"  - {{names: [default.example], root: {other}, default: true}}\n"
    with place.server(front, f"{{ask: '{app.url}'}}") as server:
        server.await_log("default.example: certificate obtained", within=60)
        assert place.page("a.example") == b"<p>hello\n"
        with https(place.ports[1], "bad.example", None) as talk:
            assert talk.asks("/", "bad.example").body == b"<p>default\n"
            # Neither site is reached by the other's connection.
            assert talk.asks("/", "a.example").status == 421
            assert talk.asks("/", SITE).status == 421
        with place.visit("a.example") as talk:
            assert talk.asks("/", "default.example").status == 421
            assert talk.asks("/", "a.example").body == b"<p>hello\n"


def test_the_sandbox_lets_the_certifier_ask_and_nobody_else(
    place: Place, front: Faults, app: NameApp
) -> None:
    place.acme = ", resolvers: '127.0.0.1:5353'"
    place.config(front, f"{{ask: '{app.url}', dns: true}}")
    told = treehouse("sandbox", "--config", str(place.folder / "config.yaml")).stdout
    worker, certifier = told.split("worker", 1)[1].split("certifier", 1)
    port = app.url.split(":")[2].split("/")[0]
    assert f"{port} " in certifier
    assert "5353" in certifier
    assert f"{port} " not in worker


def test_figures(place: Place, front: Faults, app: NameApp) -> None:
    app.allowed = {"a.example"}
    (admin,) = free_ports(1)
    path = place.config(front, f"{{ask: '{app.url}'}}")
    path.write_text(f"admin: {{listen: '127.0.0.1:{admin}'}}\n" + path.read_text())
    with Server(["--config", str(path)], place.folder):
        assert place.page("a.example") == b"<p>hello\n"
        place.refused("b.example")
        text = http(admin).asks("/metrics", "localhost").body.decode()
        assert 'treehouse_on_demand_total{outcome="obtained"} 1.0' in text
        assert 'treehouse_on_demand_total{outcome="refused"} 1.0' in text
        assert (
            f'treehouse_requests_total{{handler="static",method="GET",site="{SITE}",status="200"}}'
            in text
        )
        assert 'site="a.example"' not in text


def test_it_is_renewed_while_the_app_allows_it_and_no_longer(
    folder: Path, root: Path, ports: tuple[int, int], app: NameApp
) -> None:
    app.allowed = {"a.example"}
    with Pebble(*ports, nonce_reject=0, validity=16) as ca, Faults(ca) as front:
        place = Place(folder, root, ports, ca)
        with place.server(front, f"{{ask: '{app.url}'}}") as server:
            assert place.page("a.example") == b"<p>hello\n"
            server.await_log("a.example: certificate obtained")
            since = len(server.log)
            server.await_log("a.example: certificate obtained", within=60, since=since)
            assert app.asked.count("a.example") >= 2
            assert place.page("a.example") == b"<p>hello\n"
            app.allowed = set()
            server.await_log("a.example: not renewed: the ask URL says 403", within=60)
            ordered = orders(front, "a.example")
            # It is served while it lasts.
            assert place.page("a.example") == b"<p>hello\n"
            told = treehouse("why", "a.example", "--state", str(place.state)).stdout
            assert "it is not renewed" in told
            assert orders(front, "a.example") == ordered
