"""Wildcards end to end: a record at a real name server (Knot), looked up by a real CA (pebble), and the
certificate served to every name that it covers."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.client import https
from support.knot import Knot
from support.pebble import Pebble
from support.server import REPOSITORY, Server, treehouse


@pytest.fixture
def knot() -> Iterator[Knot]:
    with Knot({"example.test": ""}) as name_server:
        yield name_server


@pytest.fixture
def ca(ports: tuple[int, int], knot: Knot) -> Iterator[Pebble]:
    with Pebble(ports[0], ports[1], dns_server=f"{knot.address}:53") as pebble:
        yield pebble


def config(folder: Path, ports: tuple[int, int], ca: Pebble, dns: str, sites: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
sandbox: require
acme:
  directory: "{ca.directory}"
  ca_file: {ca.ca_file}
{dns}
sites:
{sites}
"""
    )
    return path


def test_a_wildcard_over_dns_updates(
    folder: Path, root: Path, ports: tuple[int, int], knot: Knot, ca: Pebble
) -> None:
    """With the wildcard beside the bare name, and a site of its own for one name below it."""
    dns = (
        f"  resolvers: {knot.address}\n  dns: {{server: {knot.address}, "
        f"tsig: {{name: acme, secret_file: {knot.key_file(folder)}}}, propagation: 20s}}\n"
    )
    special = folder / "special"
    special.mkdir()
    (special / "index.html").write_text("<p>special\n")
    sites = (
        f'  - {{names: ["*.example.test", example.test], root: {root}}}\n'
        f"  - {{names: [one.example.test], root: {special}}}\n"
    )
    path = config(folder, ports, ca, dns + "  challenges: dns-01\n", sites)
    with Server(["--config", str(path)], folder) as server:
        for name in (r"\*\.example\.test", "one.example.test"):
            server.await_log(f"{name}: certificate obtained", within=60)
        trusted = ca.root()
        pages = {
            "a.example.test": b"<p>hello\n",
            "b.example.test": b"<p>hello\n",
            "example.test": b"<p>hello\n",
            "one.example.test": b"<p>special\n",
        }
        for name, page in pages.items():
            with https(ports[1], name, trusted) as talk:
                assert talk.asks("/", name).body == page
        for name in ("a.b.example.test", "other.test"):  # an asterisk is one label
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
                https(ports[1], name, None)
        with https(ports[1], "a.example.test", trusted) as talk:
            assert talk.asks("/", "one.example.test").body == b"<p>special\n"
        kept = folder / "state/certificates/_wildcard.example.test"
        assert (kept / "fullchain.pem").exists()
        assert list((folder / "state/dns-records").glob("[!.]*")) == []
        assert knot.texts("_acme-challenge.example.test") == []
        assert knot.key not in server.text()
        for name in ("*.example.test", "example.test"):
            shown = subprocess.run(
                [sys.executable, "-m", "proxy", "why", name, "--state", str(folder / "state")],
                cwd=REPOSITORY, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert "dns-01" in shown.stdout
        assert server.stop() == 0


def test_without_anybody_to_set_records_it_is_said_before_any_order(
    folder: Path, root: Path, ports: tuple[int, int], ca: Pebble
) -> None:
    path = config(folder, ports, ca, "", f'  - {{names: ["*.example.test"], root: {root}}}\n')
    done = treehouse("check", "--config", str(path))
    assert done.returncode == 2
    assert "over the DNS only (add acme.dns" in done.stderr
