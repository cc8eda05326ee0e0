"""The admin listener: metrics of all workers added up, the status document, and who may ask."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from support.client import http, https
from support.pebble import free_ports
from support.server import Server


def test_metrics_and_status(folder: Path, root: Path) -> None:
    one, two, three = free_ports(3)
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{two}"]}}
admin: {{listen: "127.0.0.1:{three}"}}
workers: 2
state: {folder / "state"}
sites:
  - names: [a.test]
    routes:
      - {{path: /down/*, backend: "http://127.0.0.1:1"}}
      - {{path: /*, root: {root}}}
"""
    )
    ca = folder / "state/internal-ca/root.pem"

    def figures() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        answer = http(three).asks("/metrics", f"127.0.0.1:{three}")
        assert answer.status == 200
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
        }

    with Server(["--config", str(path)], folder) as server:
        server.await_log("certificate obtained")
        for _ in range(10):
            assert https(two, "a.test", ca).asks("/", "a.test").status == 200
        assert https(two, "a.test", ca).asks("/down/x", "a.test").status == 502
        got = (
            ("handler", "static"), ("method", "GET"), ("site", "a.test"), ("status", "200"),
        )  # fmt: skip
        found = figures()
        assert found["treehouse_requests_total", got] == 10
        assert found["treehouse_request_seconds_count", ()] >= 11
        handshakes = sum(
            v for (name, _), v in found.items() if name == "treehouse_handshakes_total"
        )
        assert handshakes == 11
        assert found["treehouse_upstream_healthy", (("upstream", "http://127.0.0.1:1"),)] in (0, 1)
        assert found["treehouse_certificate_not_after_seconds", (("name", "a.test"),)] > 1e9
        assert found["treehouse_bytes_total", (("direction", "out"),)] >= 90
        # What an ended worker had counted still counts.
        workers = [each["pid"] for each in server.status(folder / "state")["workers"]]
        os.kill(workers[0], signal.SIGKILL)
        server.await_log("another starts")
        server.status(folder / "state")
        assert figures()["treehouse_requests_total", got] == 10
        document = json.loads(http(three).asks("/status", "localhost").body)
        assert document["pid"] == server.pid
        assert b"<title>" in http(three).asks("/", "127.0.0.1").body
        assert http(three).asks("/metrics", "evil.example").status == 421
        assert http(three).asks("/nothing", "localhost").status == 404
