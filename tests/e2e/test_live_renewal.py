"""Certificates that live for seconds, renewed again and again under steady traffic.

    LIVE_SECONDS=300 LIVE_VALIDITY=90 pytest tests/e2e/test_live_renewal.py      (make live)

Each handshake is verified by the client, so that an expired certificate would be a failure.
"""

from __future__ import annotations

import collections
import os
import ssl
import threading
import time
from pathlib import Path

import pytest

from support.client import Talk, context, https
from support.pebble import Pebble
from support.server import Server

SECONDS = float(os.environ.get("LIVE_SECONDS", "40"))
VALIDITY = int(os.environ.get("LIVE_VALIDITY", "20"))


class Visitors:
    """New handshakes without end, and connections that are kept."""

    def __init__(self, port: int, trusted: bytes) -> None:
        self.port = port
        self.using = context(trusted)
        self.over = threading.Event()
        self.failures: list[str] = []
        self.serials: collections.Counter[str] = collections.Counter()
        self.requests = 0
        self.threads = [
            threading.Thread(target=self.come, args=(rounds,)) for rounds in (1, 1, 500, 500)
        ]

    def come(self, rounds: int) -> None:
        """Connect, ask so many times, and again; a connection that is said to end is left."""
        while not self.over.is_set():
            try:
                with https(self.port, "a.example", None, using=self.using) as talk:
                    self.note(talk)
                    for _ in range(rounds):
                        answer = talk.asks("/", "a.example")
                        assert (answer.status, answer.body) == (200, b"<p>hello\n")
                        self.requests += 1
                        if answer.get("connection") == "close" or self.over.is_set():
                            break
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))

    def note(self, talk: Talk) -> None:
        assert isinstance(talk.sock, ssl.SSLSocket)
        shown = talk.sock.getpeercert()
        assert shown is not None
        self.serials[str(shown["serialNumber"])] += 1


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
            visitors = Visitors(ports[1], ca.root())
            for thread in visitors.threads:
                thread.start()
            begun = time.monotonic()
            least = int(SECONDS / VALIDITY)
            while time.monotonic() < begun + SECONDS or len(visitors.serials) <= least:
                since = len(server.log)
                server.await_log("certificate obtained", within=VALIDITY + 30, since=since)
            visitors.over.set()
            for thread in visitors.threads:
                thread.join()
            assert visitors.failures == []
            assert len(visitors.serials) > least
            workers = server.status(folder / "state")["workers"]
            assert all(one["requests"] for one in workers)
            print(
                f"\n{time.monotonic() - begun:.0f} s, certificates of {VALIDITY} s: "
                f"{len(visitors.serials)} seen in {sum(visitors.serials.values())} handshakes, "
                f"{visitors.requests} requests, no failure"
            )
