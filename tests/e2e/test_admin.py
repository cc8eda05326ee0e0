"""The admin listener: every metric with the right number, the status document, and who may ask.

Each figure is read after so many things of its kind were done, from a server with two workers whose
figures have to be added up.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.acme.ca_faults import Faults, Refuse
from support.acme.pebble import Pebble
from support.http.backend_app import Application, serving
from support.http.client import context, http, https
from support.program.ports import free_ports
from support.program.server import Server, treehouse


class Figures:
    """One scrape, by name and labels."""

    def __init__(self, port: int) -> None:
        answer = http(port).asks("/metrics", f"127.0.0.1:{port}")
        assert answer.status == 200
        self.kinds: dict[str, str] = {}
        self._samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(answer.body.decode()):
            self.kinds[family.name] = family.type
            for sample in family.samples:
                self._samples[sample.name, frozenset(sample.labels.items())] = sample.value

    def __call__(self, name: str, /, **labels: str) -> float:
        """The sum of all samples with these labels."""
        found = [
            value
            for (known, have), value in self._samples.items()
            if known == name and labels.items() <= dict(have).items()
        ]
        assert found, f"no {name} {labels} in {sorted(map(str, self._samples))}"
        return sum(found)

    def absent(self, name: str, /, **labels: str) -> bool:
        return not any(
            known == name and labels.items() <= dict(have).items() for known, have in self._samples
        )


class Backend(Application):
    def do_GET(self) -> None:  # the base class's name for it
        self.answers(b"ok", 500 if self.path.startswith("/app/fail") else 200)

    def do_POST(self) -> None:  # as above
        self.body()
        self.do_GET()


@pytest.fixture
def backend() -> Iterator[int]:
    with serving(Backend) as port:
        yield port


def test_every_figure(folder: Path, root: Path, backend: int) -> None:
    one, two, three, nobody = free_ports(4)
    path = folder / "config.yaml"
    text = f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{two}"]}}
admin: {{listen: "127.0.0.1:{three}"}}
workers: 2
state: {folder / "state"}
sites:
  - names: [a.test, www.a.test]
    routes:
      - {{path: /down/*, backend: "http://127.0.0.1:{nobody}"}}
      - {{path: /app/*, backend: "http://127.0.0.1:{backend}"}}
      - {{path: /*, root: {root}}}
"""
    path.write_text(text)
    ca = folder / "state/internal-ca/root.pem"
    begun = time.time()
    with Server(["--config", str(path)], folder) as server:
        server.await_log("certificate obtained")
        for _ in range(10):
            assert https(two, "a.test", ca).asks("/", "a.test").status == 200
        for _ in range(3):
            assert https(two, "www.a.test", ca).asks("/x", "www.a.test").status == 404
        for _ in range(2):
            assert https(two, "a.test", ca).asks("/down/x", "a.test").status == 502
        with https(two, "a.test", ca) as talk:
            assert talk.asks("/app/x", "a.test", "POST", body=b"x" * 1000).status == 200
            talk.says(
                b"POST /app/x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n"
            )
            assert talk.hears().status == 200
            assert talk.asks("/app/fail", "a.test").status == 500
            assert talk.asks("/", "a.test", "HEAD").status == 200
        for _ in range(4):
            assert http(one).asks("/", "a.test").status == 308
        assert http(one).asks("/", "stranger.test").status == 404
        older = context(ca)
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        assert https(two, "a.test", None, using=older).asks("/", "a.test").status == 200
        resuming = context(ca)
        with https(two, "a.test", None, using=resuming) as talk:
            assert talk.asks("/", "a.test").status == 200
            assert isinstance(talk.sock, ssl.SSLSocket)
            session = talk.sock.session
        with https(two, "a.test", None, using=resuming, session=session) as talk:
            assert talk.asks("/", "a.test").status == 200
        with pytest.raises(ssl.SSLError):
            https(two, "stranger.test", None)

        found = Figures(three)
        requests = "treehouse_requests_total"
        static = {"method": "GET", "site": "a.test", "status": "200", "handler": "static"}
        assert found(requests, **static) == 13
        assert found(requests, site="www.a.test", status="404", handler="error") == 3
        assert found(requests, site="a.test", status="502") == 2
        assert found(requests, site="a.test", method="POST", handler="upstream") == 2
        assert found(requests, site="a.test", status="500", handler="upstream") == 1
        assert found(requests, site="a.test", method="HEAD", handler="static") == 1
        assert found(requests, site="a.test", status="308", handler="redirect") == 4
        assert found(requests, site="", status="404", method="GET") == 1
        clients = found(requests) - found(requests, handler="admin") if not found.absent(
            requests, handler="admin"
        ) else found(requests)  # fmt: skip
        assert clients == 13 + 3 + 2 + 2 + 1 + 1 + 4 + 1
        # The histogram has each of them once, and its buckets add up.
        assert found("treehouse_request_seconds_count") == found(requests)
        assert found("treehouse_request_seconds_bucket", le="+Inf") == found(requests)
        assert found("treehouse_request_seconds_bucket", le="0.001") <= found(requests)
        assert found("treehouse_request_seconds_sum") > 0
        shakes = "treehouse_handshakes_total"
        assert found(shakes, version="TLSv1.3", resumed="false", result="ok") == 10 + 3 + 2 + 1 + 1
        assert found(shakes, version="TLSv1.3", resumed="true", result="ok") == 1
        assert found(shakes, version="TLSv1.2", resumed="false", result="ok") == 1
        assert found(shakes, result="failed") == 1
        assert found("treehouse_bytes_total", direction="in") == 1100
        page = (root / "index.html").stat().st_size
        out = found("treehouse_bytes_total", direction="out")
        assert out >= 13 * page + 3 * 2
        asked = "treehouse_upstream_requests_total"
        up, down = f"http://127.0.0.1:{backend}", f"http://127.0.0.1:{nobody}"
        assert found(asked, upstream=up, outcome="ok") == 2
        assert found(asked, upstream=up, outcome="error") == 1
        assert found(asked, upstream=down, outcome="refused") == 2
        document = server.status(folder / "state")
        assert {one["url"] for one in document["upstreams"]} == {up, down}
        for member in document["upstreams"]:
            assert found("treehouse_upstream_healthy", upstream=member["url"]) == (
                member["healthy"] == "yes"
            )
        assert found("treehouse_upstream_healthy", upstream=up) == 1
        (certificate,) = document["certificates"]
        assert found("treehouse_certificate_not_after_seconds", name="a.test") > time.time() + 86400
        assert certificate["served"]
        assert begun - 1 < found("treehouse_certifier_last_pass_seconds") < time.time() + 1
        # Kept connections, wherever they came in.
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(https(two, "a.test", ca)).asks("/", "a.test")
            stack.enter_context(http(one)).asks("/", "a.test")
            # Those of before end when their worker has seen it.
            server.await_status(
                folder / "state",
                lambda document: sum(each["connections"] for each in document["workers"]) == 4,
            )
            found = Figures(three)
            assert found("treehouse_connections", listener=f"127.0.0.1:{two}") == 3
            assert found("treehouse_connections", listener=f"127.0.0.1:{one}") == 1
            assert found("treehouse_connections", listener=f"127.0.0.1:{three}") >= 1
        _processes(found, server)
        # What an ended worker had counted still counts.
        before = found(requests, **static)
        workers = [each["pid"] for each in server.status(folder / "state")["workers"]]
        os.kill(workers[0], signal.SIGKILL)
        server.await_log("another starts")
        server.status(folder / "state")
        assert Figures(three)(requests, **static) == before
        # Reloads, and what a generation that is gone has counted.
        server.signal(signal.SIGHUP)
        server.await_log("generation 1 has finished")
        path.write_text(text + "nonsense: 1\n")
        assert treehouse("reload", "--state", str(folder / "state")).returncode == 2
        found = Figures(three)
        assert found("treehouse_reloads_total", outcome="ok") == 1
        assert found("treehouse_reloads_total", outcome="failed") == 1
        assert found(requests, **static) == before
        # Labels that sites share, and none at all.
        shared = "metrics_label: off\n" + text.replace(
            "    routes:", "    metrics_label: shop\n    routes:"
        )
        redirects = "redirect: https://a.test"
        shared += f"  - {{names: [b.test], {redirects}, metrics_label: shop}}\n"
        path.write_text(shared + f"  - {{names: [c.test], {redirects}}}\n")
        assert treehouse("reload", "--state", str(folder / "state")).returncode == 0
        server.await_log("b.test: certificate obtained")
        server.await_log("c.test: certificate obtained")
        assert found.absent(requests, site="", status="308")
        for host in ("a.test", "www.a.test", "b.test", "c.test", "c.test"):
            assert http(one).asks("/", host).status == 308
        now = Figures(three)
        assert now(requests, site="shop", status="308") == 3
        assert now("treehouse_request_seconds_count", site="shop") == 3
        assert now(requests, site="", status="308") == 2
        for name in ("b.test", "c.test"):
            assert now.absent(requests, site=name)
        ends = "treehouse_certificate_not_after_seconds"
        assert now(ends, name="shop") == found(ends, name="a.test")  # the first to end
        assert now.absent(ends, name="a.test")
        assert now("treehouse_certificate_renewals_total", name="shop", outcome="ok") >= 1
        assert found.kinds["treehouse_request_seconds"] == "histogram"
        assert found.kinds["treehouse_requests"] == "counter"
        assert found.kinds["treehouse_connections"] == "gauge"


def _processes(found: Figures, server: Server) -> None:
    """One label for each, and what the kernel says of it."""
    for title in (
        "supervisor",
        "certifier",
        "worker 1 of generation 1",
        "worker 2 of generation 1",
    ):
        assert found("process_cpu_seconds_total", process=title) > 0
        assert found("process_resident_memory_bytes", process=title) > 1e6
        assert found("process_virtual_memory_bytes", process=title) > 1e6
        assert found("process_max_fds", process=title) >= 256
        assert abs(found("process_start_time_seconds", process=title) - time.time()) < 3600
        if title != "certifier":
            assert found("process_open_fds", process=title) > 5
    status = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    seconds = (int(status[11]) + int(status[12])) / os.sysconf("SC_CLK_TCK")
    assert found("process_cpu_seconds_total", process="supervisor") <= seconds


def test_renewals_by_their_outcome(folder: Path, root: Path, ports: tuple[int, int]) -> None:
    (admin,) = free_ports(1)
    with Pebble(ports[0], ports[1], validity=3600) as ca, Faults(ca) as front:
        (folder / "front.pem").write_bytes(front.ca_pem)
        os.chmod(folder / "front.pem", 0o644)
        front.add("newOrder", Refuse(503, headers={"Retry-After": "1"}), times=2)
        path = folder / "config.yaml"
        path.write_text(
            f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
admin: {{listen: "127.0.0.1:{admin}"}}
state: {folder / "state"}
acme: {{directory: "{front.directory}", ca_file: front.pem, challenges: [http-01]}}
sites: [{{names: [one.example], root: {root}}}]
"""
        )
        with Server(["--config", str(path)], folder) as server:
            server.await_log("one.example: certificate obtained", within=60)
            assert (
                treehouse(
                    "certs", "renew", "one.example", "--state", str(folder / "state")
                ).returncode
                == 0
            )
            found = Figures(admin)
            renewals = "treehouse_certificate_renewals_total"
            assert found(renewals, name="one.example", outcome="failed") == 2
            assert found(renewals, name="one.example", outcome="ok") == 2
        # What lies on disk at the next start is no renewal.
        with Server(["--config", str(path)], folder):
            assert Figures(admin).absent("treehouse_certificate_renewals_total")


def test_the_status_the_page_and_who_may_ask(folder: Path, root: Path) -> None:
    one, two, three = free_ports(3)
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{two}"]}}
admin: {{listen: "127.0.0.1:{three}"}}
workers: 2
state: {folder / "state"}
sites: [{{names: [a.test], root: {root}}}]
"""
    )
    with Server(["--config", str(path)], folder) as server:
        server.await_log("certificate obtained")
        document = json.loads(http(three).asks("/status", "localhost").body)
        told = server.status(folder / "state")
        assert document["pid"] == server.pid
        assert document.keys() == told.keys()
        assert document["certificates"] == told["certificates"]
        assert [one["pid"] for one in document["workers"]] == [
            one["pid"] for one in told["workers"]
        ]
        page = http(three).asks("/", "127.0.0.1")
        assert page["content-type"] == "text/html; charset=utf-8"
        assert b"<title>" in page.body
        assert page["cache-control"] == "no-store"
        assert http(three).asks("/metrics", "evil.example").status == 421
        assert http(three).asks("/nothing", "localhost").status == 404
        assert http(three).asks("/status", "localhost", "POST", body=b"x").status == 405
        # The admin listener is only where it was asked for.
        with (
            pytest.raises(ConnectionRefusedError),
            socket.create_connection(("127.0.0.2", three), timeout=60),
        ):
            pass
