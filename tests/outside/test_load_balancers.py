"""A real HAProxy in front: whom it names in its PROXY headers is whom limits and logs know."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.http.client import Talk, context
from support.program.ports import free_ports
from support.program.server import Server

pytestmark = pytest.mark.program


class Balanced:
    def __init__(self, server: Server, ports: dict[str, int], ca: Path) -> None:
        self.server, self.ports, self.ca = server, ports, ca

    def talk(self, version: str, source: str) -> Talk:
        """Over HAProxy, from ``source``, an address of the loopback interface."""
        to = "::1" if ":" in source else "127.0.0.1"
        raw = socket.create_connection((to, self.ports[version]), 60, source_address=(source, 0))
        return Talk(context(self.ca).wrap_socket(raw, server_hostname="a.test"))


def await_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=60).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


@pytest.fixture(scope="module")
def balanced() -> Iterator[Balanced]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("index\n")
    plain, secure, first, second = free_ports(4)
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{plain}"], https: ["127.0.0.1:{secure}"]}}
workers: 1
state: {folder / "state"}
proxy_protocol: [127.0.0.0/8]
limits: {{connections_per_address: 2}}
sites: [{{names: [a.test], root: {folder / "www"}}}]
"""
    )
    balancer = folder / "haproxy.cfg"
    balancer.write_text(
        f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen v1
    bind :::{first} v4v6
    server one 127.0.0.1:{secure} send-proxy
listen v2
    bind :::{second} v4v6
    server one 127.0.0.1:{secure} send-proxy-v2
"""
    )
    haproxy = subprocess.Popen(["haproxy", "-db", "-f", str(balancer)])
    try:
        with Server(["--config", str(config)], folder) as server:
            server.await_log("a.test: certificate obtained")
            await_port(first)
            await_port(second)
            ports = {"v1": first, "v2": second}
            yield Balanced(server, ports, folder / "state/internal-ca/root.pem")
    finally:
        haproxy.terminate()
        haproxy.wait()
        shutil.rmtree(folder)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_clients_over_ipv4_at_a_socket_for_both_families(balanced: Balanced, version: str) -> None:
    sources = [f"127.7.{version[1]}.{number}" for number in range(1, 7)]
    with contextlib.ExitStack() as held:
        for source in sources:  # all at once: each is a client of its own
            talk = held.enter_context(balanced.talk(version, source))
            assert talk.asks(f"/?{version}-{source}", "a.test").status == 200
        for source in sources:
            line = balanced.server.await_access(target=f"/?{version}-{source}")
            assert line["peer"] == source


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_clients_over_ipv6(balanced: Balanced, version: str) -> None:
    with balanced.talk(version, "::1") as talk:
        assert talk.asks(f"/?{version}-six", "a.test").status == 200
    assert balanced.server.await_access(target=f"/?{version}-six")["peer"] == "::1"
