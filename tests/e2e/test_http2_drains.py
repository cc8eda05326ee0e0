"""Reloads and upgrades under HTTP/2: clients as h2load, a browser, Go's client, grpcio; POSTs, downloads,
event streams, gRPC streams. Nothing fails, no connection ends unannounced, nothing is processed twice.

    make drains      fifty reloads and ten upgrades

In the suite it is a few of each.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.h2_peer import frame, headers
from support.http.backend_app import serving
from support.http.chromium import Chromium
from support.http.clients.go import go_client
from support.http.grpc_load import GrpcLoad, channel, counting
from support.http.h2_load import LARGEST, Asked, H2Load
from support.http.h2_talk import H2Talk, h2_context, request
from support.http.streaming_app import Witness, application, content
from support.program.server import REPOSITORY, Server, packages, treehouse

RELOADS = int(os.environ.get("DRAIN_RELOADS", "6"))
UPGRADES = int(os.environ.get("DRAIN_UPGRADES", "1"))
IN_BROWSER = """{
    window.seen = {done: {}, failed: []};
    window.over = false;
    let number = 0;
    const body = 'x'.repeat(20_000);
    const kinds = {
        page: async () => {
            const target = `/app/page-${number++}`;
            if (await (await fetch(target)).text() !== target) throw new Error('another page');
        },
        post: async () => {
            const answer = await fetch('/app/digest', {
                method: 'POST', body, headers: {'X-Id': `browser-${number++}`}});
            if ((await answer.text()).length !== 64) throw new Error(`status ${answer.status}`);
        },
        download: async () => {
            const answer = await fetch('/app/bytes?size=3000000', {cache: 'no-store'});
            if ((await answer.arrayBuffer()).byteLength !== 3_000_000) throw new Error('short');
        },
        events: async () => {
            const answer = await fetch('/app/events?count=60&pause=0.03', {cache: 'no-store'});
            if (!(await answer.text()).endsWith('data: 59\\n\\n')) throw new Error('ended early');
        },
    };
    window.loops = Object.entries(kinds).map(async ([kind, once]) => {
        while (!window.over) {
            try { await once(); window.seen.done[kind] = (window.seen.done[kind] || 0) + 1; }
            catch (error) { window.seen.failed.push(`${kind}: ${error}`); }
        }
    });
}"""


def make(kind: str) -> Any:
    """Requests of a kind, with an id each."""

    def page(number: int) -> Asked:
        target = f"/app/page?id={kind}-{number}"
        return Asked(kind, request(target, "a.test"), None, target.encode())

    def post(number: int) -> Asked:
        target = f"/app/trailers?n={number}"
        own = (b"x-id", f"{kind}-{number}".encode())
        body = b"%d" % number * 100
        return Asked(kind, request(target, "a.test", own, method=b"POST"), body, body)

    def download(number: int) -> Asked:
        target = f"/app/bytes?size=300000&n={number}"
        return Asked(kind, request(target, "a.test"), None, content(300_000))

    def events(number: int) -> Asked:
        right = b"".join(b"id: %d\ndata: %d\n\n" % (n, n) for n in range(60))
        return Asked(
            kind, request(f"/app/events?count=60&pause=0.05&n={number}", "a.test"), None, right
        )

    return {"page": page, "post": post, "download": download, "events": events}[kind]


@contextlib.contextmanager
def in_browser(folder: Path, port: int, ca: Path) -> Iterator[dict[str, Any]]:
    """What the browser saw is there when it has ended."""
    seen: dict[str, Any] = {}
    if shutil.which("chromium") is None:
        yield seen
        return
    with Chromium(folder, port, [ca]) as browser:
        browser.visit("https://a.test/")
        browser.does(IN_BROWSER)
        yield seen
        seen |= browser.does(
            "{ window.over = true; await Promise.all(window.loops); return window.seen; }"
        )


@contextlib.contextmanager
def in_go(program: Path, port: int, ca: Path) -> Iterator[dict[str, Any]]:
    """Likewise, of Go's client."""
    seen: dict[str, Any] = {}
    client = subprocess.Popen(
        [str(program), "load", f"127.0.0.1:{port}", str(ca)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield seen
    finally:
        told, _ = client.communicate("", timeout=60)
    seen |= json.loads(told)


@pytest.mark.timeout(720 + 10 * RELOADS + 20 * UPGRADES)
def test_reloads_and_upgrades_under_load_lose_nothing(
    folder: Path, root: Path, ports: tuple[int, int], shared_python: str
) -> None:
    program = go_client()  # which is compiled before there is any load beside
    config = folder / "config.yaml"
    state = folder / "state"
    witness = Witness()
    environment = packages(REPOSITORY) | {"NOTIFY_SOCKET": ""}
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(serving(application(witness)))
        grpc_port, called = stack.enter_context(counting())
        text = f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {state}
log: {{access: off}}
sites:
  - names: [a.test]
    routes:
      - {{path: /app/*, backend: "http://127.0.0.1:{backend}"}}
      - {{path: /t.Load/*, backend: "h2c://127.0.0.1:{grpc_port}"}}
      - {{path: /*, root: {root}}}
"""
        config.write_text(text)
        server = stack.enter_context(
            contextlib.closing(
                Server(["--config", str(config)], folder, python=shared_python, environment=environment)
            )
        )  # fmt: skip
        server.await_log("a.test: certificate obtained")
        ca = state / "internal-ca/root.pem"
        using = h2_context(ca)

        def connect() -> H2Talk:
            return H2Talk(ports[1], "a.test", using, within=60)

        # One that is open all the while, on the first generation of the first program.
        lasting = stack.enter_context(connect())
        lasting.says(headers(1, request("/app/events?count=1000000&pause=0.2", "a.test")))
        with contextlib.ExitStack() as clients:
            loads = {
                kind: clients.enter_context(H2Load(connect, make(kind), streams))
                for kind, streams in {"page": 10, "post": 10, "download": 3, "events": 8}.items()
            }
            calls = clients.enter_context(channel(ports[1], ca.read_bytes(), "a.test"))
            grpc = clients.enter_context(GrpcLoad(calls))
            browser = clients.enter_context(in_browser(folder, ports[1], ca))
            go = clients.enter_context(in_go(program, ports[1], ca))
            every = max(1, RELOADS // max(1, UPGRADES))
            upgrades = 0
            for number in range(RELOADS):
                config.write_text(text.replace("workers: 2", f"workers: {1 + number % 3}"))
                command = ["reload"]
                if number % every == every - 1 and upgrades < UPGRADES:
                    command.append("upgrade")
                    upgrades += 1
                for word in command:
                    done = treehouse(word, "--state", str(state))
                    assert done.returncode == 0, done.stderr
        report(loads, grpc, browser, go)
        assert upgrades == UPGRADES
        for load in loads.values():
            assert load.failures == []
            assert load.done.total() > RELOADS
            assert load.connections > RELOADS // 4
        assert grpc.failures == []
        assert min(grpc.done.values()) > 0
        assert len(grpc.done) == 4
        assert browser.get("failed", []) == []
        assert go["failed"] is None
        assert sum(go["done"].values()) > RELOADS
        assert witness.twice() == []
        assert [name for name, count in called.items() if count > 1] == []
        lasting.frames.clear()
        lasting.hears(lambda one: type(one).__name__ == "DataFrame")
        lasting.close()
        assert server.stop() == 0
        assert "Traceback" not in server.text()
        assert not [one for one in server.log if one.get("level") == "error"]


def report(
    loads: dict[str, H2Load], grpc: GrpcLoad, browser: dict[str, Any], go: dict[str, Any]
) -> None:
    print(f"\n{RELOADS} reloads, {UPGRADES} upgrades")
    for kind, load in loads.items():
        print(
            f"  {kind:<10} {load.done.total():>8} done, {load.connections} connections, {load.again} repeated, {len(load.failures)} failed"
        )
    print(f"  grpcio     {dict(grpc.done)}, {len(grpc.failures)} failed")
    print(f"  browser    {browser.get('done')}, {len(browser.get('failed', []))} failed")
    print(
        f"  Go         {go['done']}, {go['connections']} connections, {len(go['failed'] or [])} failed"
    )


def test_a_drain_says_so_in_two_steps(folder: Path, root: Path, ports: tuple[int, int]) -> None:
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
sites:
  - {{names: [a.test], root: {root}}}
"""
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_log("a.test: certificate obtained")
        using = h2_context(folder / "state/internal-ca/root.pem")
        with H2Talk(ports[1], "a.test", using) as idle:
            idle.asks(request("/", "a.test"))
            since = len(server.log)
            server.signal(signal.SIGHUP)
            server.await_log("serving on", since=since)
            ping = idle.hears(lambda one: type(one).__name__ == "PingFrame")
            assert [one.last_stream_id for one in idle.of("GoAwayFrame")] == [LARGEST]
            # What was on its way when the client heard that is taken, and answered.
            assert idle.status(idle.asks(request("/", "a.test"))) == 200
            idle.says(frame(6, 1, 0, ping.opaque_data))
            idle.hears_the_end()
            assert [one.last_stream_id for one in idle.of("GoAwayFrame")] == [LARGEST, 3]


@pytest.mark.skipif(shutil.which("h2load") is None, reason="nghttp2-client is not installed")
def test_h2load_gets_an_answer_to_whatever_it_has_sent(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """It goes on submitting requests on a connection that takes no more, and calls those failed which it
    has never sent. So it is our log that says what was asked."""
    log = folder / "access.log"
    (folder / "config.yaml").write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
log: {{access: {log}}}
limits: {{requests_per_connection: 1000000}}
sites:
  - {{names: [a.test], root: {root}}}
"""
    )
    with Server(["--config", str(folder / "config.yaml")], folder) as server:
        server.await_log("a.test: certificate obtained")
        with subprocess.Popen(
            ["h2load", "-D8", "-c6", "-m10", f"--connect-to=127.0.0.1:{ports[1]}", f"https://a.test:{ports[1]}/"],
            stdout=subprocess.PIPE, text=True,
        ) as load:  # fmt: skip
            for _ in range(3):
                since = len(server.log)
                server.signal(signal.SIGHUP)
                server.await_log("serving on", since=since)
            said, _ = load.communicate(timeout=60)
        counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
        assert counts is not None, said
        succeeded, failed, errored = map(int, counts.groups())
        assert server.stop() == 0
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert {(line["status"], line["error"]) for line in lines} == {(200, None)}
        assert succeeded == len(lines) > 1000
        assert failed == errored <= 6 * 10 * 3
