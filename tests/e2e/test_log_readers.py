"""The access log as the tools read it that people have: GoAccess, fail2ban and logrotate, each with
what the cookbook says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import cookbook
from support.http.client import https
from support.program.server import Server


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def served(folder: Path, root: Path, ports: tuple[int, int]) -> Iterator[tuple[Server, Path]]:
    """A server with its log in a folder of its own, and ten pages that are there, three that are
    not, and a request with quotes in it."""
    logs = folder / "log"
    logs.mkdir()
    os.chown(logs, 65534, 65534)
    config = folder / "config.yaml"
    config.write_text(
        f"listen: {{http: ['127.0.0.1:{ports[0]}'], https: ['127.0.0.1:{ports[1]}']}}\n"
        f"state: {folder / 'state'}\n"
        f"log: {{access: {logs / 'access.log'}, format: vhost_combined}}\n"
        f"sites: [{{names: [a.test], root: {root}}}]\n"
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_log("a.test: certificate obtained")
        with https(ports[1], "a.test", folder / "state/internal-ca/root.pem") as talk:
            for _ in range(10):
                assert talk.asks("/", "a.test").status == 200
            for _ in range(3):
                assert (
                    talk.asks(
                        "/nothing", "a.test", fields='User-Agent: a "quoted" agent\r\n'
                    ).status
                    == 404
                )
        server.status(folder / "state")  # answered by workers that have written their lines
        yield server, logs / "access.log"


def test_goaccess_counts_every_line(served: tuple[Server, Path], folder: Path) -> None:
    _, path = served
    report = folder / "report.json"
    run("goaccess", path, "--log-format=VCOMBINED", "--no-global-config", "-o", report)
    general = json.loads(report.read_text())["general"]
    assert general["valid_requests"] == 13
    assert general["failed_requests"] == 0


def test_fail2ban_finds_the_addresses_of_the_cookbooks_filter(
    served: tuple[Server, Path], folder: Path
) -> None:
    _, path = served
    (wanted,) = re.findall(
        r"^    failregex = (.*)$",
        cookbook.PAGES["Access lines, for people and for tools"],
        re.MULTILINE,
    )
    rules = folder / "treehouse-proxy.conf"
    rules.write_text(f"[Definition]\nfailregex = {wanted}\n")
    said = run("fail2ban-regex", "--print-all-matched", path, rules)
    assert re.search(r"Lines: 13 lines, 0 ignored, 3 matched, 10 missed", said), said


def test_logrotate_with_the_cookbooks_file(
    served: tuple[Server, Path], folder: Path, ports: tuple[int, int]
) -> None:
    server, path = served
    (rules,) = re.findall(
        r"^    (/var/log/treehouse-proxy/access.log \{.*?^    \})",
        cookbook.PAGES["Access lines, for people and for tools"],
        re.MULTILINE | re.DOTALL,
    )
    text = rules.replace("/var/log/treehouse-proxy/access.log", str(path))
    text = re.sub(r"systemctl kill .*", f"kill -USR1 {server.pid}", text)
    config = folder / "rotate.conf"
    config.write_text(re.sub(r"^    ", "", text, flags=re.MULTILINE))
    os.chmod(config, 0o644)
    run("logrotate", "--force", "--state", folder / "rotate.state", config)
    server.await_log("logs reopened")
    assert len((path.parent / "access.log.1").read_bytes().splitlines()) == 13
    server.status(folder / "state")
    with https(ports[1], "a.test", folder / "state/internal-ca/root.pem") as talk:
        assert talk.asks("/", "a.test").status == 200
    assert server.stop() == 0
    assert len(path.read_bytes().splitlines()) == 1
