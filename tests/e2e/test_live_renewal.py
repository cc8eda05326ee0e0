"""Certificates that live for seconds, renewed again and again under steady traffic.

    LIVE_SECONDS=300 LIVE_VALIDITY=90 pytest tests/e2e/test_live_renewal.py      (make live)

Each handshake is verified by the client, so that an expired certificate would be a failure.
"""

from __future__ import annotations

import collections
import os
import ssl
import time
from pathlib import Path

import pytest

from support.acme.pebble import Pebble
from support.http.client import Talk, context, https
from support.http.load_clients import Visitors, page
from support.program.server import Server

SECONDS = float(os.environ.get("LIVE_SECONDS", "25"))
VALIDITY = int(os.environ.get("LIVE_VALIDITY", "40"))


@pytest.mark.timeout(SECONDS + 120)
def test_renewed_again_and_again_and_nobody_notices(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    with Pebble(ports[0], ports[1], validity=VALIDITY) as ca:
        config = folder / "config.yaml"
        config.write_text(
            f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
log: {{access: off}}
acme: {{directory: "{ca.directory}", ca_file: {ca.ca_file}}}
sites: [{{names: [a.example], root: {root}}}]
"""
        )
        with Server(["--config", str(config)], folder) as server:
            server.await_log("a.example: certificate obtained", within=60)
            using, serials = context(ca.root()), collections.Counter[str]()

            def connect() -> Talk:
                talk = https(ports[1], "a.example", None, using=using)
                assert isinstance(talk.sock, ssl.SSLSocket)
                serials[str((talk.sock.getpeercert() or {})["serialNumber"])] += 1
                return talk

            begun = time.monotonic()
            least = max(1, int(SECONDS / VALIDITY))
            step = page("/", "a.example", b"<p>hello\n")
            with (
                Visitors(connect, step, step, rounds=1, pause=0.02) as hurried,
                Visitors(connect, step, step, pause=0.02) as staying,
            ):
                while time.monotonic() < begun + SECONDS or len(serials) <= least:
                    since = len(server.log)
                    server.await_log("certificate obtained", within=VALIDITY + 60, since=since)
                    hurried.await_rounds(10)  # who see it
            assert hurried.failures == staying.failures == []
            assert len(serials) > least
            workers = server.status(folder / "state")["workers"]
            assert all(one["requests"] for one in workers)
            print(
                f"\n{time.monotonic() - begun:.0f} s, certificates of {VALIDITY} s: "
                f"{len(serials)} seen in {sum(serials.values())} handshakes, "
                f"{(hurried.done + staying.done).total()} requests, no failure"
            )
