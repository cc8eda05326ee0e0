"""Traces of the real program: the tree of one request, what backends and logs are told, and what a
collector that is not there costs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socketserver
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from support.http.backend_app import Application, running, serving
from support.http.client import context, http, https
from support.http.collector import BY_ROTEL, Collector, Span, has_rotel, rotel
from support.http.login_services import LoginServices
from support.program.ports import free_ports
from support.program.server import Server, treehouse

pytestmark = pytest.mark.program

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVER, CLIENT, INTERNAL = 2, 3, 1  # SpanKind in trace.proto


class Echo(Application):
    """Says what it was told of the trace."""

    def do_GET(self) -> None:  # the base class's name for it
        told = [f"{name}: {self.headers[name]}" for name in ("traceparent", "tracestate")]
        self.answers("\n".join(told).encode(), 503 if "ill" in self.path else 200)


class Dead(socketserver.BaseRequestHandler):
    """Takes the request, and leaves."""

    def handle(self) -> None:
        self.request.recv(65536)


@dataclass
class World:
    server: Server
    collector: Collector
    https: int
    http: int
    admin: int
    folder: Path
    echo: int
    dead: int

    @property
    def ca(self) -> Path:
        return self.folder / "state/internal-ca/root.pem"

    def told(self, path: str, fields: str = "", address: str = "127.0.0.1") -> str:
        answer = https(self.https, "a.test", self.ca, address).asks(path, "a.test", fields=fields)
        return answer.body.decode()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    os.chmod(folder, 0o755)
    one, two, admin, dead = free_ports(4)
    with (
        serving(Echo) as echo,
        running(socketserver.ThreadingTCPServer(("127.0.0.1", dead), Dead)),
        LoginServices() as services,
        Collector() as collector,
    ):
        (folder / "config.yaml").write_text(
            f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{two}"]}}
admin: {{listen: "127.0.0.1:{admin}"}}
tracing: {{otlp: "{collector.url}", sample: 100%, service: edge}}
trusted_proxies: [127.0.0.9]
workers: 1
state: {folder / "state"}
sites:
  - names: [a.test]
    routes:
      - {{path: /two/*, backend: ["http://127.0.0.1:{dead}", "http://127.0.0.1:{echo}"]}}
      - path: /own/*
        backend: "http://127.0.0.1:{echo}"
        request_headers: {{remove: [traceparent]}}
      - path: /login/*
        backend: "http://127.0.0.1:{echo}"
        forward_auth: {{url: "http://127.0.0.1:{services.port}/api/authz/forward-auth"}}
      - {{path: /*, backend: "http://127.0.0.1:{echo}"}}
"""
        )
        try:
            with Server(["--config", str(folder / "config.yaml")], folder) as server:
                server.await_log("certificate obtained")
                yield World(server, collector, two, one, admin, folder, echo, dead)
        finally:
            shutil.rmtree(folder)


def root_of(spans: list[Span]) -> Span:
    (root,) = [one for one in spans if one.kind == SERVER]
    return root


def test_two_backends_and_a_retry_make_a_tree(world: World) -> None:
    """Both orders of the two backends come up: the one that is left by its first backend counts."""
    for number in range(2):
        assert "traceparent: 00-" in world.told(f"/two/{number}")
    spans = world.collector.await_trace(
        lambda spans: len([one for one in spans if one.name == "backend attempt"]) == 2
    )
    root = root_of(spans)
    assert root.name == "GET a.test"
    assert root.service == "edge"
    assert root.error is None
    assert root.attributes["http.response.status_code"] == 200
    first, second = sorted(
        (one for one in spans if one.name == "backend attempt"), key=lambda one: one.start
    )
    assert first.parent == second.parent == root.id
    assert first.kind == second.kind == CLIENT
    assert first.attributes["treehouse.backend"] == f"http://127.0.0.1:{world.dead}"
    assert first.error == "backend_broke_off"
    assert second.attributes["treehouse.backend"] == f"http://127.0.0.1:{world.echo}"
    assert second.error is None
    assert second.attributes["http.response.status_code"] == 200
    assert root.start <= first.start <= first.end <= second.start <= second.end <= root.end
    (shake,) = [one for one in spans if one.name == "TLS handshake"]
    assert (shake.parent, shake.kind) == (root.id, INTERNAL)
    assert shake.attributes["tls.protocol.version"] == "1.3"
    assert shake.end <= first.start


def test_a_login_service_is_part_of_it(world: World) -> None:
    world.told("/login/x", "Cookie: session=alice\r\n")
    spans = world.collector.await_trace(
        lambda spans: any(one.name == "forward_auth" for one in spans)
    )
    root = root_of(spans)
    (asked,) = [one for one in spans if one.name == "forward_auth"]
    (attempt,) = [one for one in spans if one.name == "backend attempt"]
    assert asked.parent == attempt.parent == root.id
    assert asked.end <= attempt.start
    assert asked.attributes["url.path"] == "/api/authz/forward-auth"


def test_a_trace_that_somebody_has_begun(world: World) -> None:
    fields = f"traceparent: 00-{TRACE}-{SPAN}-00\r\ntracestate: vendor=x\r\n"
    told = world.told("/begun", fields)
    spans = world.collector.await_trace(lambda spans: spans[0].trace == TRACE)
    (attempt,) = [one for one in spans if one.name == "backend attempt"]
    # A stranger's word that nothing is recorded is no order, as little as its opposite.
    assert f"traceparent: 00-{TRACE}-{attempt.id}-01" in told
    assert "tracestate: vendor=x" in told
    assert root_of(spans).parent == SPAN
    assert root_of(spans).state == "vendor=x"
    # It is in the access log.
    line = world.server.await_access(target="/begun")
    assert line["trace_id"] == TRACE


def test_what_is_no_trace_begins_another(world: World) -> None:
    for number, bad in enumerate(
        (f"00-{TRACE}-{SPAN}", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-x", "nonsense")
    ):
        told = world.told(f"/bad/{number}", f"traceparent: {bad}\r\ntracestate: vendor=x\r\n")
        assert re.search(r"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-01\n", told)
        assert TRACE not in told
        assert "vendor" not in told
    twice = f"traceparent: 00-{TRACE}-{SPAN}-01\r\n" * 2
    assert TRACE not in world.told("/bad/twice", twice)


def test_streams_of_one_connection_have_traces_of_their_own(world: World) -> None:
    with httpx.Client(http2=True, verify=context(world.ca), timeout=60) as client:
        told = []
        for number in range(3):
            answer = client.get(
                f"https://127.0.0.1:{world.https}/h2/{number}",
                headers={"Host": "a.test"},
                extensions={"sni_hostname": "a.test"},
            )
            assert answer.http_version == "HTTP/2"
            told.append(answer.text.split("-")[1])
    assert len(set(told)) == 3
    for number, trace in enumerate(told):
        spans = world.collector.await_trace(lambda spans, trace=trace: spans[0].trace == trace)  # type: ignore[misc] # its default
        root = root_of(spans)
        assert root.attributes["url.path"] == f"/h2/{number}"
        assert root.attributes["network.protocol.version"] == "2"
        # The handshake belongs to the first request of the connection.
        assert [one.name for one in spans].count("TLS handshake") == (number == 0)


def test_a_field_that_the_operator_takes_away(world: World) -> None:
    fields = f"traceparent: 00-{TRACE}-{SPAN}-01\r\n"
    assert "traceparent: None" in world.told("/own/x", fields)


def test_what_goes_wrong(world: World) -> None:
    assert world.told("/ill/x")
    spans = world.collector.await_trace(
        lambda spans: any(one.attributes.get("url.path") == "/ill/x" for one in spans)
    )
    assert root_of(spans).error == "503"
    # A handshake that no request follows.
    with pytest.raises((ssl.SSLError, ConnectionError)):
        https(world.https, "stranger.test", None)
    spans = world.collector.await_trace(
        lambda spans: spans[0].name == "TLS handshake" and len(spans) == 1
    )
    assert spans[0].error
    assert spans[0].attributes["tls.server.name"] == ""


def test_an_exemplar_leads_to_a_trace(world: World) -> None:
    world.told("/example")
    accept = "Accept: application/openmetrics-text; version=1.0.0\r\n"
    world.server.status(world.folder / "state")
    text = http(world.admin).asks("/metrics", "127.0.0.1", fields=accept).body.decode()
    found = re.search(
        r'treehouse_request_seconds_bucket\{le="[^"]+",site="a.test"\} \S+ # \{trace_id="(\w+)"\}',
        text,
    )
    assert found, text[:3000]
    world.collector.await_trace(lambda spans: spans[0].trace == found[1])
    plain = http(world.admin).asks("/metrics", "127.0.0.1").body.decode()
    assert "trace_id" not in plain


def test_the_exporter_has_neither_keys_nor_clients(world: World) -> None:
    pid = exporter(world)
    fds = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it is at work, and may close one meanwhile
            fds.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    assert not [one for one in fds if "memfd:certificate" in one or "state" in one]
    # Its channel, the workers' packets, and a connection to the collector.
    assert len([one for one in fds if one.startswith("socket:")]) <= 3
    status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status


def exporter(world: World) -> int:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if name == "th-exporter" and int(parent) == world.server.pid:
            return int(pid)
    raise AssertionError("there is no exporter")


def test_a_collector_that_refuses_costs_traces_only(world: World) -> None:
    world.collector.refuses.set()
    try:
        for number in range(20):
            assert "traceparent" in world.told(f"/lost/{number}")
        world.server.await_log("the collector does not take traces")
    finally:
        world.collector.refuses.clear()
    # The next batch is tried after a pause.
    world.told("/found")
    world.collector.await_trace(
        lambda spans: any(one.attributes.get("url.path") == "/found" for one in spans)
    )
    text = http(world.admin).asks("/metrics", "127.0.0.1").body.decode()
    assert re.search(r'treehouse_trace_spans_total\{outcome="failed"\} [1-9]', text)


def test_another_exporter_follows_one_that_dies(world: World) -> None:
    os.kill(exporter(world), signal.SIGKILL)
    world.server.await_log("exporter .* another starts")
    world.told("/after")
    world.collector.await_trace(
        lambda spans: any(one.attributes.get("url.path") == "/after" for one in spans)
    )


def test_switched_off_by_a_reload(world: World) -> None:
    path = world.folder / "config.yaml"
    text = path.read_text()
    path.write_text(re.sub("(?m)^tracing:.*$", "", text))
    world.server.signal(signal.SIGHUP)
    world.server.await_log("generation 1 has finished")
    fields = f"traceparent: 00-{TRACE}-{SPAN}-01\r\n"
    # Then it is a field like any other.
    assert f"traceparent: 00-{TRACE}-{SPAN}-01" in world.told("/off", fields)
    path.write_text(text)
    world.server.signal(signal.SIGHUP)
    world.server.await_log("generation 2 has finished")
    world.told("/on-again")
    world.collector.await_trace(
        lambda spans: any(one.attributes.get("url.path") == "/on-again" for one in spans)
    )


@pytest.mark.skipif(not has_rotel(), reason="rotel has no build for this Python")
def test_a_collector_of_other_people_understands_them(world: World) -> None:
    """What comes out of Rotel is the tree of the first test, field by field."""
    path = world.folder / "config.yaml"
    text = path.read_text()
    state = ("--state", str(world.folder / "state"))

    def both(spans: list[Span]) -> bool:
        ways = [one for one in spans if BY_ROTEL in one.resource.items()]
        return len([one for one in ways if one.name == "backend attempt"]) == 2 and any(
            one.kind == SERVER for one in ways
        )

    with rotel(world.collector, world.folder) as url:
        try:
            path.write_text(text.replace(world.collector.url, url))
            assert treehouse("reload", *state).returncode == 0
            for number in range(2):
                assert "traceparent: 00-" in world.told(f"/two/{number}")
            spans = world.collector.await_trace(both)
        finally:
            path.write_text(text)
            assert treehouse("reload", *state).returncode == 0
    root = root_of(spans)
    assert (root.name, root.service, root.error) == ("GET a.test", "edge", None)
    assert root.attributes["http.response.status_code"] == 200
    first, second = sorted(
        (one for one in spans if one.name == "backend attempt"), key=lambda one: one.start
    )
    assert first.parent == second.parent == root.id
    assert (first.kind, second.kind) == (CLIENT, CLIENT)
    assert (first.error, second.error) == ("backend_broke_off", None)
    assert second.attributes["treehouse.backend"] == f"http://127.0.0.1:{world.echo}"
    assert root.start <= first.start <= first.end <= second.start <= second.end <= root.end
