"""Processes that hang instead of ending: noticed, ended, replaced, and what they had begun is done.

The limit is that of `proxy.supervisor.liveness`, shortened in a copy of the program: a minute is nothing to
wait for here.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from support.acme.ca_faults import Exchange, Faults, Reply
from support.acme.pebble import Pebble
from support.http.client import Talk, context, http, https
from support.program.ports import free_ports
from support.program.server import Server, await_gone, packages, shorten, treehouse


class Held:
    """The CA takes longer than a hanging process may, and then does not answer until ``over``."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.over = threading.Event()

    def __call__(self, exchange: Exchange) -> Reply:
        reply = exchange.forward()
        time.sleep(7.0)  # its pace, and no wait for anything
        self.reached.set()
        assert self.over.wait(60)
        return reply


def test_a_certifier_that_hangs_in_an_order_is_replaced_and_the_order_made_again(
    folder: Path, root: Path, ports: tuple[int, int], program: Path
) -> None:
    shorten(program / "proxy/certifier/link.py", _BEAT_EVERY=0.3)
    shorten(program / "proxy/supervisor/roles.py", CERTIFIER_SILENT_FOR=6.0)
    held = Held()
    with Pebble(*ports) as ca, Faults(ca) as front:
        front.add("finalize", held)
        (folder / "front.pem").write_bytes(front.ca_pem)
        os.chmod(folder / "front.pem", 0o644)
        text = f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
acme: {{directory: "{front.directory}", ca_file: {folder / "front.pem"}}}
sites: [{{names: [a.example], root: {root}}}]
"""
        (folder / "config.yaml").write_text(text)
        options = ["--config", str(folder / "config.yaml")]
        with Server(options, folder, cwd=program, environment=packages(program)) as server:
            assert held.reached.wait(60), server.text()
            workers = [one["pid"] for one in server.status(folder / "state")["workers"]]
            (hangs,) = set(server.children()) - set(workers)
            # An order that takes long is no hanging.
            assert not [line for line in server.log if "does not answer" in line["message"]]
            os.kill(hangs, signal.SIGSTOP)
            held.over.set()
            server.await_log(rf"certifier \(pid {hangs}\) does not answer any more")
            server.await_log(rf"certifier \(pid {hangs}\) was ended by SIGKILL; another starts")
            await_gone([hangs])
            # What it held, its lease, keeps the next one from nothing.
            server.await_log("a.example: certificate obtained", within=60)
            with https(ports[1], "a.example", None, using=context(ca.root())) as talk:
                assert talk.asks("/", "a.example").status == 200
            status = server.status(folder / "state")
            assert [one["pid"] for one in status["workers"]] == workers
            assert status["certificates"][0]["state"] == "fresh"
            assert not [line for line in server.log if "somebody" in line["message"]]


def await_event(stream: Talk, kind: bytes) -> None:
    held = b""
    while b"event: " + kind not in held:
        piece = stream.sock.recv(65536)
        assert piece, held
        held += piece


def test_nobody_waits_for_ever_for_a_supervisor_that_hangs(
    folder: Path, root: Path, ports: tuple[int, int], program: Path
) -> None:
    """The command line, `doctor`, the admin page and its stream each say so; what is served goes
    on, and so does everything when the supervisor does."""
    shorten(program / "proxy/ipc/control_client.py", _ASK_AFTER=0.5, _ALIVE_WITHIN=1.5)
    shorten(program / "proxy/worker/admin/link.py", WITHIN=1.0, _PAUSE=0.2)
    (asked,) = free_ports(1)
    config, state = folder / "config.yaml", folder / "state"
    config.write_text(
        f"listen: {{http: ['127.0.0.1:{ports[0]}'], https: ['127.0.0.1:{ports[1]}']}}\n"
        f"workers: 1\nstate: {state}\nacme: {{directory: internal}}\n"
        f"admin: {{listen: '127.0.0.1:{asked}'}}\nsites: [{{names: [a.test], root: {root}}}]\n"
    )
    options = ["--config", str(config)]
    with Server(options, folder, cwd=program, environment=packages(program)) as server:
        server.await_log("a.test: certificate obtained")
        host = f"127.0.0.1:{asked}"
        with http(asked) as stream:
            stream.says(f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await_event(stream, b"board")
            os.kill(server.pid, signal.SIGSTOP)
            try:
                for words in (
                    ["status"],
                    ["plan"],
                    ["top", "--once"],
                    ["certs", "forget", "b.test"],
                ):
                    done = treehouse(*words, *options, cwd=program)
                    assert "is there and does not answer: it hangs, or is stopped" in done.stderr
                    assert done.returncode == (0 if words == ["status"] else 1), done.stderr
                done = treehouse("doctor", *options, cwd=program)
                assert "is there and does not answer" in done.stdout
                for path in ("/status", "/metrics", "/api/site?name=a.test"):
                    answer = http(asked).asks(path, host)
                    assert (answer.status, answer["content-type"]) == (
                        504,
                        "text/plain; charset=utf-8",
                    )
                    assert b"has not answered within 1 s" in answer.body
                await_event(stream, b"silence")
                assert http(asked).asks("/", host).status == 200
                with https(ports[1], "a.test", state / "internal-ca/root.pem") as talk:
                    assert talk.asks("/", "a.test").status == 200
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await_event(stream, b"board")
        deadline = time.monotonic() + 60  # a busy supervisor takes longer than it may here
        while (status := http(asked).asks("/status", host).status) != 200:
            assert time.monotonic() < deadline, status
        assert treehouse("status", *options, cwd=program).returncode == 0
        assert server.stop() == 0
